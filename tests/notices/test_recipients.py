"""Who is told: subscribers of what they see, owners of theirs, and nobody else."""

import re
from email.headerregistry import Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from tests.conftest import PASSWORD
from tests.notices.scene import Scene
from vmtrak.access import SYSTEM
from vmtrak.accounts import NewUser, users
from vmtrak.notices import planning, recipients
from vmtrak.notices.recipients import owner_address

GWEN = "gwen@elsewhere.example"
RITA = "rita@vmtrak.example"
OTTO = "otto@vmtrak.example"

BARE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9.-]{1,253}")


def test_subscribers_are_told_of_what_they_see(scene: Scene) -> None:
    scene.add("theirs", 7, department="Finance")
    scene.add("another's", 1, department="Logistics")
    scene.add("nobody's", 0)
    scene.user("rita", notify_expiry=True)
    scene.user("otto", notify_expiry=True)
    assert dict(scene.tell()) == {
        OTTO: {"theirs": 7, "another's": 1, "nobody's": 0},
        RITA: {"theirs": 7},
    }


@pytest.mark.parametrize("owner", ["rita", "RITA", "rita@vmtrak.example", "Rita@VMtrak.example"])
def test_an_owner_who_has_an_account_is_told_at_its_address(scene: Scene, owner: str) -> None:
    scene.add("one", 7, owner=owner)
    scene.add("two", 7, owner="somebody else", department="Finance")
    assert scene.tell() == [(RITA, {"one": 7})]


def test_an_owner_who_subscribed_is_told_once(scene: Scene) -> None:
    scene.user("rita", notify_expiry=True)
    scene.add("one", 7, owner="rita")
    scene.add("two", 7, owner=RITA, department="Finance")
    with scene.database.read() as session:
        assert len(list(planning.preview(session, scene.rules, scene.today))) == 1
    assert scene.tell() == [(RITA, {"one": 7, "two": 7})]


def test_an_owner_without_an_account_is_told_at_the_address_that_the_name_is(scene: Scene) -> None:
    scene.add("one", 7, owner=GWEN)
    scene.add("two", 1, owner="Gwen@Elsewhere.Example")
    scene.add("three", 1, owner="Gwen of operations")
    (told,) = scene.tell()
    assert str(told[0]).lower() == GWEN
    assert told[1] == {"two": 1, "one": 7}


def test_each_gets_a_digest_of_their_own(scene: Scene) -> None:
    scene.add("one", 7, owner=GWEN)
    scene.add("two", 7, owner="hugh@elsewhere.example")
    assert scene.tell() == [
        (GWEN, {"one": 7}),
        ("hugh@elsewhere.example", {"two": 7}),
    ]


def test_addresses_can_be_limited_to_domains(scene: Scene) -> None:
    scene.set(domains=frozenset({"vmtrak.example"}))
    scene.add("one", 7, owner=GWEN)
    scene.add("two", 7, owner="ext@VMTRAK.example")
    scene.add("three", 7, owner="ext@sub.vmtrak.example")
    scene.add("four", 7, owner="rita")
    assert sorted(str(to) for to, _ in scene.tell()) == ["ext@vmtrak.example", RITA]


def test_a_closed_account_is_told_nothing_by_no_name(scene: Scene) -> None:
    scene.user("rita", notify_expiry=True, is_active=False)
    for number, owner in enumerate(["rita", RITA, "RITA@VMTRAK.EXAMPLE"]):
        scene.add(f"vm{number}", 7, owner=owner, department="Finance")
    assert scene.tell() == []
    assert scene.messages() == []


def newcomer(scene: Scene, username: str, email: str, **fields: Any) -> None:
    with scene.database.work(SYSTEM) as work:
        new = {"username": username, "email": email, "role": "admin", "password": PASSWORD}
        users.add(work, NewUser.model_validate(new))
    if fields:
        scene.user(username, **fields)


def test_an_address_in_another_spelling_is_still_the_closed_account_s(scene: Scene) -> None:
    newcomer(scene, "ursula", "ursula@münchen.example", is_active=False)
    scene.add("one", 7, owner="ursula@xn--mnchen-3ya.example")
    scene.add("two", 7, owner="ursula@münchen.example")
    assert scene.tell() == []


def test_who_gets_an_account_is_not_told_the_same_again(scene: Scene) -> None:
    scene.add("one", 7, owner=GWEN)
    assert scene.tell() == [(GWEN, {"one": 7})]
    newcomer(scene, "gwen", GWEN, notify_expiry=True)
    scene.add("two", 7)
    assert scene.tell() == []
    assert scene.next_day() == [(GWEN, {"two": 6})]
    assert scene.next_day(5) == [(GWEN, {"one": 1, "two": 1})]


def test_who_gets_an_account_has_had_the_digest_of_the_day(scene: Scene) -> None:
    scene.add("one", 8, owner=GWEN)
    scene.add("two", 7, owner=GWEN)
    scene.tell()
    newcomer(scene, "gwen", GWEN)
    with scene.database.read() as session:
        day = scene.today
        found = recipients.due(session, scene.rules, day)
        ((recipient, pick),) = recipients.audience(session, scene.rules, day, found)
        assert recipient.user_id
        assert [one.stage for one in pick(session)] == ["7d"]
    assert scene.tell() == []


def test_a_name_that_two_accounts_have_means_those_of_them_that_are_open(scene: Scene) -> None:
    newcomer(scene, "old@vmtrak.example", "old@vmtrak.example")
    scene.user("old@vmtrak.example", email="new@vmtrak.example")
    newcomer(scene, "successor", "old@vmtrak.example")
    scene.add("one", 7, owner="old@vmtrak.example")
    told = {to for to, _ in scene.tell()}
    assert told == {"new@vmtrak.example", "old@vmtrak.example"}
    scene.user("old@vmtrak.example", is_active=False)
    assert {to for to, _ in scene.next_day(6)} == {"old@vmtrak.example"}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("owner", ["a\0b@c.example", "\U0010ffff", "x" * 100_000, "@" * 100_000])
def test_what_no_form_lets_in_does_no_harm(scene: Scene, owner: str) -> None:
    vm = scene.add("one", 7)
    with scene.database.engine.begin() as connection:
        given = {"owner": owner, "id": vm}
        connection.execute(
            text("UPDATE vms SET owner = :owner, owner_key = :owner WHERE id = :id"), given
        )
    scene.add("two", 7, owner=GWEN)
    assert scene.tell() == [(GWEN, {"two": 7})]


SMUGGLED = [
    "gwen@elsewhere.example, eve@evil.example",
    "gwen@elsewhere.example;eve@evil.example",
    "gwen@elsewhere.example eve@evil.example",
    "gwen@elsewhere.example\neve@evil.example",
    "gwen@elsewhere.example\r\nBcc: eve@evil.example",
    "gwen@elsewhere.example\r\nRCPT TO:<eve@evil.example>",
    "gwen@elsewhere.example\n",
    " gwen@elsewhere.example",
    "Gwen <gwen@elsewhere.example>",
    "<gwen@elsewhere.example>",
    '"eve@evil.example,"@elsewhere.example',
    "@evil.example:gwen@elsewhere.example",
    "gwen%evil.example@elsewhere.example\0",
    "gwen@[192.0.2.1]",
    "gwen@elsewhere.example (eve@evil.example)",
    "=?utf-8?q?gwen=40elsewhere.example?= <eve@evil.example>",
    "gwen@elsewhere..example",
    "gwen@evil.example@elsewhere.example",
    "gwén@elsewhere.example",
    "ﬁn@elsewhere.example",
    "Kgwen@elsewhere.example",
    "groß@elsewhere.example",
    "gwen\u202e@elsewhere.example",
    "gwen@elsewhere.example>",
    "mailto:gwen@elsewhere.example?bcc=eve@evil.example",
]


@pytest.mark.parametrize("owner", SMUGGLED)
def test_no_address_is_smuggled_in(owner: str) -> None:
    found = owner_address(owner)
    assert found is None or (BARE.fullmatch(found) and found in owner)


@pytest.mark.parametrize(
    "owner",
    ["|cat@evil.example", "-oQ/tmp@evil.example", "/etc/x@evil.example", "a!b@evil.example"],
)
def test_what_some_mail_servers_would_run_or_write_is_nobody_s_address(owner: str) -> None:
    assert owner_address(owner) is None


def test_a_name_that_only_looks_like_an_address_is_nobody(scene: Scene) -> None:
    for number, owner in enumerate(["ﬁn@elsewhere.example", "groß@elsewhere.example"]):
        scene.add(f"vm{number}", 7, owner=owner)
    assert scene.tell() == []


PIECES = [GWEN, "eve@evil.example", *'@,;<>"()[]:%.éß\\\r\n\t\0\u2028\ud800 ', "Bcc: ", "RCPT TO:"]


@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join) | st.text() | st.emails()
)
def test_nothing_but_one_bare_address_ever_comes_out(owner: str) -> None:
    found = owner_address(owner)
    assert owner_address(owner, {"nowhere.example"}) is None
    if found is None:
        return
    assert BARE.fullmatch(found)
    local, _, domain = found.rpartition("@")
    assert owner.startswith(f"{local}@")
    assert "@" not in owner.removeprefix(f"{local}@")
    assert Address(addr_spec=found).addr_spec == found
    assert owner_address(found) == found
    assert owner_address(owner, {domain.lower()}) == found


@given(st.text())
def test_whether_mail_can_go_there_is_said_of_any_text(address: str) -> None:
    assert recipients.is_address(address) in {True, False}
    assert not recipients.is_address(address + "\n")
