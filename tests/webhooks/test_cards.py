"""Messages for Teams and Slack: shaped as documented, never too long, and never anybody's tool.

The shapes are those of the Adaptive Cards schema explorer (AdaptiveCard 1.4, RichTextBlock,
TextRun, Container, Action.OpenUrl) and of Slack's reference for Block Kit (header, section,
context, text object), as far as they are used here.
"""

import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings

from tests.webhooks.parcels import BASE_URL, PARCELS, line, parcel, trial
from vmtrak.channels import Digest, Parcel, cards, subject

VM_PAGE = re.compile(rf"{BASE_URL}/admin/vm/details/\d+")
LIST = re.compile(rf"{BASE_URL}/admin/(vm/list\?[a-z0-9=&_-]+)?")
JOINER = "\u2060"

patient = settings(deadline=None, max_examples=60)


def counted(message: str, told: Parcel) -> tuple[int, int]:
    """How many VMs a message speaks of, and how many there are."""
    assert isinstance(told.content, Digest)
    left = re.findall(r'"(?:[^"]*\\n)?(?:and )?([\d,]+) (?:more|on the list)', message)
    named = len(VM_PAGE.findall(message))
    return named + sum(int(one.replace(",", "")) for one in left), told.content.total


# Teams


def card(told: Parcel) -> dict[str, Any]:
    message = cards.teams(told)
    [attachment] = message.pop("attachments")
    assert message == {"type": "message"}
    content: dict[str, Any] = attachment.pop("content")
    kind = "application/vnd.microsoft.card.adaptive"
    assert attachment == {"contentType": kind, "contentUrl": None}
    return content


def elements(made: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each element and action of a card, with its properties checked against those there are."""
    text = {"color", "weight", "size", "isSubtle"}
    known = {
        "TextBlock": {"text", "wrap", "separator", "spacing", *text},
        "RichTextBlock": {"inlines"},
        "TextRun": {"text", *text},
        "Container": {"items", "selectAction", "spacing"},
        "Action.OpenUrl": {"url", "title"},
    }
    for one in [*made.get("body", ()), *made.get("actions", ())]:
        yield from _within(one, known)


def _within(one: dict[str, Any], known: dict[str, set[str]]) -> Iterator[dict[str, Any]]:
    assert one.keys() - {"type"} <= known[one["type"]], one
    yield one
    inner = [*one.get("items", ()), *one.get("inlines", ())]
    for each in [*inner, *([one["selectAction"]] if "selectAction" in one else [])]:
        yield from _within(each, known)


def test_a_card_has_a_title_its_groups_and_a_way_to_the_list() -> None:
    lines = (line(0, "a", 1, "ada"), line(1, "b", 2), line(5, "c", 3), line(-3, "d", 4))
    made = card(parcel(*lines, more=2))
    body = made.pop("body")
    assert made == {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "actions": [
            {
                "type": "Action.OpenUrl",
                "url": f"{BASE_URL}/admin/vm/list?status=active&sort=expiry_date",
                "title": "Open in VMTrak",
            }
        ],
    }
    title = "1 VM expires today, 1 tomorrow, 1 soon, 3 overdue"
    assert body[0]["inlines"][0]["text"] == title
    assert body[1] == {
        "type": "TextBlock",
        "text": "Today (1)",
        "weight": "Bolder",
        "separator": True,
    }
    assert body[2] == {
        "type": "Container",
        "spacing": "Small",
        "items": [
            {
                "type": "RichTextBlock",
                "inlines": [
                    {"type": "TextRun", "text": "a", "color": "Accent"},
                    {"type": "TextRun", "text": " · 2026-11-22 · today · ada"},
                ],
            }
        ],
        "selectAction": {"type": "Action.OpenUrl", "url": f"{BASE_URL}/admin/vm/details/1"},
    }
    blocks = [one["text"] for one in body if one["type"] == "TextBlock"]
    assert blocks == ["Today (1)", "Tomorrow (1)", "Soon (1)", "Overdue (3)", "and 2 more"]


def test_a_test_is_a_card_too() -> None:
    made = card(trial())
    texts = [one["text"] for one in elements(made) if "text" in one]
    assert texts == ["VMTrak: a test message", cards._TEST]


@patient
@given(PARCELS)
def test_a_card_is_never_longer_than_teams_takes(told: Parcel) -> None:
    made = orjson.dumps(cards.teams(told))
    assert len(made) <= cards.LARGEST_CARD < 28_000
    assert len(made.decode().encode("utf-16-le")) <= 2 * 28_000


@patient
@given(PARCELS)
def test_a_card_counts_what_it_does_not_name(told: Parcel) -> None:
    spoken, there = counted(orjson.dumps(cards.teams(told)).decode(), told)
    assert spoken == there


@patient
@given(PARCELS)
def test_nothing_from_outside_stands_where_a_card_reads_markdown(told: Parcel) -> None:
    ours = re.compile(
        r"(Today|Tomorrow|Soon|Overdue) \([\d,]+\)|and [\d,]+ more|[\d,]+ on the list"
    )
    for one in elements(card(told)):
        if one["type"] == "TextBlock":
            assert ours.fullmatch(one["text"])


@patient
@given(PARCELS)
def test_no_text_of_a_card_holds_a_mention_a_function_or_an_entity(told: Parcel) -> None:
    for one in elements(card(told)):
        if one["type"] == "TextRun":
            text = one["text"]
            assert "<" not in text
            assert not re.search(r"[{$]\{|&#?\w+;", text)
            assert text.strip()
            assert all(c.isprintable() or c in "\u200c\u200d\u2060" for c in text)


@patient
@given(PARCELS)
def test_a_card_opens_pages_of_vmtrak_and_no_others(told: Parcel) -> None:
    links = [one["url"] for one in elements(card(told)) if one["type"] == "Action.OpenUrl"]
    assert all(VM_PAGE.fullmatch(url) or LIST.fullmatch(url) for url in links)
    entities = card(told)["msteams"]
    assert entities == {"width": "Full"}, "a mention needs an entity here"


@pytest.mark.parametrize("name", ["db_prod_01", "*.example.org", "a [b](c) **d**", "R&D", "स्‍त"])
def test_usual_names_stand_in_a_card_to_the_letter(name: str) -> None:
    runs = [
        one["text"] for one in elements(card(parcel(line(0, name)))) if one["type"] == "TextRun"
    ]
    assert runs == [f"1 VM expires today: {name}", name, " · 2026-11-22 · today"]


# Slack


def texts(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The text objects of the blocks, which are checked against those there are."""
    for block in message["blocks"]:
        if block["type"] == "context":
            assert block.keys() == {"type", "elements"}
            yield from block["elements"]
        else:
            assert block["type"] in {"header", "section"}
            assert block.keys() == {"type", "text"}
            yield block["text"]


def test_a_message_for_slack_has_the_groups_and_a_way_to_the_list() -> None:
    lines = (line(0, "a", 1, "ada@example.org"), line(-3, "d", 4))
    message = cards.slack(parcel(*lines, more=2))
    title = "1 VM expires today, 3 overdue"
    today = (
        f"*Today (1)*\n• <{BASE_URL}/admin/vm/details/1|a> · 2026-11-22 · today · ada@example.org"
    )
    overdue = (
        f"*Overdue (3)*\n• <{BASE_URL}/admin/vm/details/4|d> · 2026-11-19 · 3 days ago\nand 2 more"
    )
    way = f"<{BASE_URL}/admin/vm/list?status=active&amp;sort=expiry_date|Open in VMTrak>"
    header = {"type": "plain_text", "text": title, "emoji": False}
    assert message == {
        "text": title,
        "blocks": [
            {"type": "header", "text": header},
            {"type": "section", "text": {"type": "mrkdwn", "text": today, "verbatim": True}},
            {"type": "section", "text": {"type": "mrkdwn", "text": overdue, "verbatim": True}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": way, "verbatim": True}]},
        ],
    }


def test_slack_is_sent_a_test_too() -> None:
    message = cards.slack(trial())
    assert message["text"] == "VMTrak: a test message"
    assert [one["text"] for one in texts(message)] == [
        "VMTrak: a test message",
        cards._TEST,
        f"<{BASE_URL}/admin/|Open in VMTrak>",
    ]


@patient
@given(PARCELS)
def test_a_message_is_never_longer_than_slack_takes(told: Parcel) -> None:
    message = cards.slack(told)
    blocks = message["blocks"]
    assert len(blocks) <= 50
    assert len(orjson.dumps(blocks).decode().encode("utf-16-le")) <= 2 * cards.LARGEST_BLOCKS
    for one in texts(message):
        most = 150 if one["type"] == "plain_text" else 3_000
        assert 0 < len(one["text"].encode("utf-16-le")) <= 2 * most


@patient
@given(PARCELS)
def test_a_message_for_slack_counts_what_it_does_not_name(told: Parcel) -> None:
    message = orjson.dumps(cards.slack(told)["blocks"]).decode()
    spoken, there = counted(message, told)
    assert spoken == there


MARKUP = re.compile(r"<([^<>|]*)\|([^<>]*)>")


@patient
@given(PARCELS)
def test_slack_finds_links_to_vmtrak_and_no_other_markup(told: Parcel) -> None:
    message = cards.slack(told)
    for one in texts(message):
        if one["type"] == "plain_text":
            assert "<" not in one["text"]
            continue
        assert one["verbatim"] is True
        for address, label in MARKUP.findall(one["text"]):
            url = address.replace("&amp;", "&")
            assert VM_PAGE.fullmatch(url) or LIST.fullmatch(url)
            assert "|" not in label
        _calm(MARKUP.sub(" ", one["text"]))
        _calm(MARKUP.sub(r"\2", one["text"]))
    _calm(message["text"])


def _calm(text: str) -> None:
    """Nothing in it is formatted, but for headings, nobody is called, and & < > are escaped."""
    plain = re.sub(r"(?m)^\*(Today|Tomorrow|Soon|Overdue) \([\d,]+\)\*$", "", text)
    assert "<" not in plain
    assert ">" not in plain
    assert not re.search(r"&(?!amp;|lt;|gt;)", plain)
    assert not re.search(r"(?i)(?<!\w)@(here|channel|everyone)\b", plain)
    assert "`" not in plain
    assert not re.search(r"(?<![^\W_])[*_~]|[*_~](?![^\W_])", plain)
    assert all(c.isprintable() or c in "\n\u200c\u200d\u2060" for c in plain)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("db_prod_01", "db_prod_01"),
        ("R&D <old>", "R&amp;D &lt;old&gt;"),
        ("<!channel>", "&lt;!channel&gt;"),
        ("@here", f"@{JOINER}here"),
        ("ada@here.example", "ada@here.example"),
        ("*bold* _it_ ~no~", "\u2217bold\u2217 \uff3fit\uff3f \u223cno\u223c"),
        ("a|b", "a¦b"),
        ("a\nb", "a b"),
        ("\x00", "VM 17"),
        ("x" * 200, f"{'x' * 79}…"),
    ],
)
def test_a_name_is_shown_in_slack(name: str, shown: str) -> None:
    [section] = [one for one in texts(cards.slack(parcel(line(0, name)))) if "•" in one["text"]]
    assert MARKUP.findall(section["text"]) == [(f"{BASE_URL}/admin/vm/details/17", shown)]


@pytest.mark.parametrize("made", [cards.teams, cards.slack])
def test_200_vms_are_cut_to_what_fits_and_today_comes_first(made: Any) -> None:
    lines = [line(0, f"host-{n:03}", n + 1, "ada@example.org") for n in range(200)]
    message = orjson.dumps(made(parcel(*lines, more=4_000))).decode()
    named = VM_PAGE.findall(message)
    assert 30 < len(named) < 200
    assert named[0].endswith("/1")
    assert f"and {4_200 - len(named):,} more" in message
    assert subject(parcel(*lines, more=4_000).content) == "4,200 VMs expire today"


@pytest.mark.parametrize("made", [cards.teams, cards.slack])
def test_groups_that_did_not_fit_are_still_counted(made: Any) -> None:
    lines = [line(0, f"host-{n:03}", n + 1, "x" * 60) for n in range(199)]
    message = orjson.dumps(made(parcel(*lines, line(-3, "late"), more=6))).decode()
    assert "Overdue (7)" in message
    assert "7 on the list" in message
