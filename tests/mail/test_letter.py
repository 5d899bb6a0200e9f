"""What a notice looks like: everything it says is text, whatever a VM is called."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mail.letters import ANN, BASE_URL, DAY, SENDER, digest, line, made, parcel, part
from vmtrak.channels import Digest, Group, Parcel, Trial
from vmtrak.channels.mail import LARGEST_PART, letter

GMAIL_CLIPS_AT = 102 * 1024
NASTY = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}",
    "خادم-قاعدة-البيانات",
    "🚀 rocket 👩‍🚀",
    "n" * 128,
    "名" * 128,
    "a & b <c@d>",
]


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def links(self) -> list[str]:
        return [value for name, value in self.attributes if name == "href"]


def sent(message: EmailMessage) -> EmailMessage:
    """The message as whoever gets it reads it."""
    parsed = message_from_bytes(message.as_bytes(policy=SMTP.clone(cte_type="7bit")), policy=SMTP)
    assert isinstance(parsed, EmailMessage)
    return parsed


FULL = digest(
    line(1, 0, "web-01"),
    line(2, 1, "web-02"),
    line(3, 7, "db-01", owner=None, ip_address=None),
    line(4, -3, "old-01"),
    soon=1200,
    overdue=4,
)


def test_the_headers_say_what_it_is() -> None:
    message = sent(made(FULL))
    assert {name: str(message[name]) for name in ("From", "To", "Subject", "Message-ID")} == {
        "From": SENDER,
        "To": ANN,
        "Subject": "1 VM expires today, 1 tomorrow, 1,201 soon, 5 overdue",
        "Message-ID": f"<{1:032x}@vm.example.org>",
    }
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "All"
    assert abs((datetime.now(UTC) - message["Date"].datetime).total_seconds()) < 60
    assert message.get_content_type() == "multipart/alternative"
    kinds = [one.get_content_type() for one in message.iter_parts()]
    assert kinds == ["text/plain", "text/html"]


def test_the_text_names_every_vm_with_its_page_and_counts_the_others() -> None:
    text = part(sent(made(FULL)), "plain")
    assert text == (
        "1 VM expires today, 1 tomorrow, 1,201 soon, 5 overdue\n"
        "\nTODAY (1)\n"
        "\nweb-01\n  2026-11-23, today\n"
        f"  192.0.2.17 · Production · {ANN}\n  {BASE_URL}/admin/vm/details/1\n"
        "\nTOMORROW (1)\n"
        "\nweb-02\n  2026-11-24, tomorrow\n"
        f"  192.0.2.17 · Production · {ANN}\n  {BASE_URL}/admin/vm/details/2\n"
        "\nSOON (1,201)\n"
        f"\ndb-01\n  2026-11-30, in 7 days\n  Production\n  {BASE_URL}/admin/vm/details/3\n"
        "\nand 1,200 more:\n"
        f"{BASE_URL}/admin/vm/list?status=active&expires_from=2026-11-25&sort=expiry_date\n"
        "\nOVERDUE (5)\n"
        "\nold-01\n  2026-11-20, 3 days ago\n"
        f"  192.0.2.17 · Production · {ANN}\n  {BASE_URL}/admin/vm/details/4\n"
        "\nand 4 more:\n"
        f"{BASE_URL}/admin/vm/list?status=active&expires_to=2026-11-22&sort=expiry_date\n"
        f"\n--\nVMTrak, {BASE_URL}/admin/\n"
        "You get this because you own these VMs, or because you asked to be told of the VMs "
        f"that you see.\nTo change that: {BASE_URL}/admin/account/\n"
    )


def test_the_page_says_the_same_and_loads_nothing() -> None:
    message = sent(made(FULL))
    page = Page(part(message, "html"))
    assert set(page.links) == set(re.findall(r"https?://\S+", part(message, "plain"))) - {
        f"{BASE_URL}/admin/"
    }
    words = " ".join(" ".join(page.words).split())
    for said in ("web-01", "in 7 days", "2026-11-30", "Soon (1,201)", "and 1,200 more", ANN):
        assert said in words
    assert not {"img", "script", "link", "iframe", "form"} & set(page.tags)
    assert "url(" not in part(message, "html")
    assert all(href.startswith(BASE_URL) for href in page.links)


def test_a_group_of_which_none_is_named_leads_to_the_list() -> None:
    message = made(Digest(DAY, (), {Group.TODAY: 3, Group.TOMORROW: 2}))
    text = part(message, "plain")
    assert "3 on the list:" in text
    assert f"{BASE_URL}/admin/vm/list?status=active&expires_from=2026-11-23&expires_to=2026" in text
    assert "expires_from=2026-11-24&expires_to=2026-11-24" in text
    assert "3 on the list" in part(message, "html")


def test_a_test_says_who_asked_for_it() -> None:
    message = sent(letter(Parcel("0" * 32, ANN, Trial(DAY, "ada <b>"), BASE_URL), SENDER))
    assert str(message["Subject"]) == "VMTrak: a test message"
    assert "because ada <b> asked for it" in part(message, "plain")
    assert "because <bdi>ada &lt;b&gt;</bdi> asked for it" in part(message, "html")
    assert Page(part(message, "html")).links == [f"{BASE_URL}/admin/"]


@pytest.mark.parametrize("name", NASTY)
def test_a_name_is_text_wherever_it_stands(name: str) -> None:
    message = sent(made(digest(line(1, 5, name, owner=name))))
    assert str(message["Subject"]) == f"1 VM expires in 5 days: {name}"
    assert f"\n{name}\n" in part(message, "plain")
    page = Page(part(message, "html"))
    assert [word for word in page.words if word == name] == [name] * 2
    assert "script" not in page.tags
    assert message.as_bytes().isascii()


def test_a_name_that_headers_would_decode_stays_what_it_is() -> None:
    name = "=?utf-8?q?x=0D=0ABcc:_eve@evil.example?="
    message = sent(made(digest(line(1, 5, name))))
    assert "Bcc" not in message
    assert str(message["Subject"]).endswith(": = ?utf-8?q?x=0D=0ABcc:_eve@evil.example?=")
    assert f"\n{name}\n" in part(message, "plain")


# What fields let through, and more: controls too, which headers must not carry.
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)
lines_of_text = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=128
)


@given(names, names)
def test_no_text_adds_a_header_a_tag_or_a_link(name: str, owner: str) -> None:
    usual = sent(made(digest(line(1, 5, "web-01", owner="ada"))))
    message = sent(made(digest(line(1, 5, name, owner=owner))))
    assert message.keys() == usual.keys()
    assert not message.defects
    assert [one.keys() for one in message.iter_parts()] == [
        one.keys() for one in usual.iter_parts()
    ]
    page, plain = Page(part(message, "html")), Page(part(usual, "html"))
    assert page.tags == plain.tags
    assert page.attributes == plain.attributes


@given(lines_of_text, lines_of_text)
def test_any_text_arrives_as_it_is(name: str, owner: str) -> None:
    message = sent(made(digest(line(1, 5, name, owner=owner))))
    assert f"\n{name}\n" in part(message, "plain")
    assert f"Production · {owner}\n" in part(message, "plain")
    words = Page(part(message, "html")).words
    assert name in words
    assert owner in words


@given(names)
def test_the_subject_is_one_line(name: str) -> None:
    subject = str(sent(made(digest(line(1, 5, name))))["Subject"])
    assert subject.replace("\u200c", "").replace("\u200d", "").isprintable()
    assert subject.startswith("1 VM expires in 5 days")


@pytest.mark.parametrize(
    ("sender", "name", "address"),
    [
        ("vmtrak@example.org", "", "vmtrak@example.org"),
        ("IT, Berlin <vmtrak@example.org>", "IT, Berlin", "vmtrak@example.org"),
        ('The "VM" people <vmtrak@example.org>', 'The "VM" people', "vmtrak@example.org"),
        ("Bücher <vmtrak@bücher.example>", "Bücher", "vmtrak@xn--bcher-kva.example"),
    ],
)
def test_the_sender_is_as_the_settings_say(sender: str, name: str, address: str) -> None:
    message = sent(letter(parcel(), sender))
    [mailbox] = message["From"].addresses
    assert (mailbox.display_name, mailbox.addr_spec) == (name, address)
    # Of VMTrak's own address, whoever the sender is: it must be the same at the next attempt.
    assert message["Message-ID"] == f"<{1:032x}@vm.example.org>"


# Size


def of_size(count: int, **about: Any) -> EmailMessage:
    return made(digest(*(line(100_000 + n, 5, **about) for n in range(count)), soon=5000))


def test_two_hundred_vms_fit_into_what_gmail_shows() -> None:
    message = of_size(200, name="app-prod-database-0042.berlin", owner="ada.lovelace@example.org")
    page = part(message, "html")
    assert page.count("/admin/vm/details/") == 200
    assert len(page.encode()) < GMAIL_CLIPS_AT


@pytest.mark.parametrize("name", ["n" * 128, "名" * 128, "<" * 128, "&" * 128])
def test_where_names_are_long_fewer_are_named_and_the_others_counted(name: str) -> None:
    message = of_size(200, name=name, owner=name)
    page, text = part(message, "html"), part(message, "plain")
    named = page.count("/admin/vm/details/")
    assert 20 < named < 200
    assert len(page.encode()) <= LARGEST_PART < GMAIL_CLIPS_AT
    assert text.count("/admin/vm/details/") == named
    assert f"and {5200 - named:,} more" in text
    assert f"and {5200 - named:,} more" in page


def test_an_outsider_is_told_without_ways_that_need_an_account() -> None:
    content = replace(digest(line(1, 0, "log in at https://evil.example")), outsider=True)
    message = sent(made(content))
    assert message["Subject"] == "1 VM expires today"
    for text in (part(message, "plain"), part(message, "html")):
        assert "evil.example" in text
        assert "/admin/account/" not in text
        assert "your address stands in VMTrak" in text
