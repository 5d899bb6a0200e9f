"""What can be done with a credential, at each door."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from tests.access.test_lock_order import until_somebody_waits
from tests.conftest import CANARY, Later, Person
from tests.credentials.conftest import Events, Kept, added, row_of, vm_named
from tests.doors import Door, Outcome, PanelDoor, RestDoor
from vmtrak import credentials
from vmtrak.access import Role, permissions
from vmtrak.audit import SEALED, AuditEvent
from vmtrak.credentials import (
    MASK,
    Credential,
    CredentialPassword,
    CredentialPatch,
    NewCredential,
    Vault,
    Which,
)
from vmtrak.db import Database
from vmtrak.sealing import Sealed

FIRST, SECOND, THIRD = (f"{CANARY}{word}" for word in ("first", "second", "third"))

ROOT = {"username": "root", "password": FIRST}

TAKEN = {"username": ["This VM has an account of this name already."]}
SECOND_PRIMARY = {
    "account_type": ["This VM has a primary account already; make that one another account first."]
}

AWKWARD = (
    " blanks around it ",
    '"quotes" \\ and {braces} <tags> &amp; %s',
    "żółć Ünïcødé 😀 \u0627\u0644 \u4e2d\u6587",
    "e\u0301 is not \u00e9",
    "\u202eright to left\u202c, zero\u200bwidth",
    "tab\there",
    "=cmd|' /C calc'!A0",
    "😀" * 512,
)
ONLY_BY_SCRIPTS = ("line\nbreak\r\nand\rothers", "\x00\x01\x7f\x85\u2028", "\ufeff\ufffe\uffff")
"""No browser sends these from a password field."""


def shown(outcome: Outcome) -> str:
    """The password of a reveal."""
    assert outcome.ok, outcome
    found: str = json.loads(outcome.text)["password"]
    return found


def test_adding_keeps_what_was_given_and_says_who_did_it(
    door: Door, admin: Person, vm: int, kept: Kept, events: Events
) -> None:
    given = {**ROOT, "username": "  root ", "notes": "Ask first.\r\nThen sign in."}
    number = door.add_credential(vm, given).made
    row = row_of(admin, number)
    assert (row["vm_id"], row["vm_name"], row["username"]) == (vm, "web-01", "root")
    assert (row["password"], row["notes"]) == (MASK, "Ask first.\nThen sign in.")
    assert (row["created_by"], row["updated_by"], row["password_changed_by"]) == ("ada",) * 3
    assert row["created_at"] == row["updated_at"] == row["password_changed_at"]
    assert (row["rotation_due"], row["rotation_marked"]) == (False, False)
    assert kept(number) == {1: FIRST}
    assert events(number) == [("credential.create", {"vm_id": vm, "account_type": "primary"})]


def test_the_first_account_of_a_vm_is_its_primary_one_unless_said_otherwise(
    door: Door, admin: Person, vm: int
) -> None:
    root = door.add_credential(vm, ROOT).made
    backup = door.add_credential(vm, {**ROOT, "username": "backup"}).made
    elsewhere = vm_named(admin, "web-02")
    other = door.add_credential(elsewhere, {**ROOT, "account_type": "others"}).made
    types = [row_of(admin, number)["account_type"] for number in (root, backup, other)]
    assert types == ["primary", "others", "others"]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # SQLite has one writer
def test_of_two_first_accounts_at_once_the_later_one_is_another(
    admin: Person, vault: Vault, vm: int
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with admin.database.work(admin.actor) as work:
            root = credentials.add(work, vault, vm, NewCredential.model_validate(ROOT))
            other = pool.submit(added, admin, vm, "backup", SECOND)
            until_somebody_waits(admin.database)
        assert row_of(admin, other.result(10))["account_type"] == "others"
    assert row_of(admin, root.id)["account_type"] == "primary"


def test_a_user_name_is_taken_on_its_vm_without_regard_to_case_or_accent_coding(
    door: Door, admin: Person, vm: int
) -> None:
    for name in ("root", "É"):
        assert door.add_credential(vm, {**ROOT, "username": name}).ok
    for name in ("ROOT", " Root ", "E\u0301", "e\u0301"):
        outcome = door.add_credential(vm, {**ROOT, "username": name})
        assert (outcome.status, outcome.errors) == (409, TAKEN), name
    assert door.add_credential(vm_named(admin, "web-02"), ROOT).ok


def test_a_change_to_a_taken_user_name_is_a_conflict_and_changes_nothing(
    door: Door, admin: Person, vm: int
) -> None:
    door.add_credential(vm, ROOT)
    number = door.add_credential(vm, {**ROOT, "username": "backup"}).made
    outcome = door.change_credential(vm, number, {"username": "Root", "notes": "new"})
    assert (outcome.status, outcome.errors) == (409, TAKEN)
    assert (row_of(admin, number)["username"], row_of(admin, number)["notes"]) == ("backup", None)
    assert door.change_credential(vm, number, {"username": "BACKUP"}).ok
    assert row_of(admin, number)["username"] == "BACKUP"


def test_a_vm_has_one_primary_account_at_most(door: Door, admin: Person, vm: int) -> None:
    root = door.add_credential(vm, ROOT).made
    second = {**ROOT, "username": "admin"}
    refused = door.add_credential(vm, {**second, "account_type": "primary"})
    assert (refused.status, refused.errors) == (409, SECOND_PRIMARY)
    number = door.add_credential(vm, second).made
    refused = door.change_credential(vm, number, {"account_type": "primary"})
    assert (refused.status, refused.errors) == (409, SECOND_PRIMARY)
    assert door.change_credential(vm, root, {"account_type": "others"}).ok
    assert door.change_credential(vm, number, {"account_type": "primary"}).ok
    assert row_of(admin, number)["account_type"] == "primary"


@pytest.mark.parametrize("settings", [{"credential_versions": 2}], indirect=True)
def test_earlier_passwords_are_kept_up_to_the_setting(
    door: Door, vm: int, kept: Kept, events: Events
) -> None:
    number = door.add_credential(vm, ROOT).made
    for word in ("2", "3", "4"):
        assert door.change_credential(vm, number, {"password": CANARY + word}).ok
    assert kept(number) == {2: f"{CANARY}2", 3: f"{CANARY}3", 4: f"{CANARY}4"}
    change = ("credential.update", {"password": {"from": SEALED, "to": SEALED}})
    assert events(number)[1:] == [change] * 3
    assert shown(door.reveal(vm, number)) == f"{CANARY}4"
    assert shown(door.reveal(vm, number, 2)) == f"{CANARY}2"
    assert door.reveal(vm, number, 1).status == 404


@pytest.mark.parametrize("settings", [{"credential_versions": 0}], indirect=True)
def test_no_earlier_password_is_kept_if_the_setting_says_none(
    door: Door, vm: int, kept: Kept
) -> None:
    number = door.add_credential(vm, ROOT).made
    assert door.change_credential(vm, number, {"password": SECOND}).ok
    assert kept(number) == {2: SECOND}


def test_a_new_password_says_when_it_was_set_and_another_field_does_not(
    door: Door, admin: Person, operator: Person, vm: int, later: Later
) -> None:
    number = added(operator, vm, "root", FIRST)
    before = row_of(admin, number)
    later(60)
    assert door.change_credential(vm, number, {"notes": "new"}).ok
    noted = row_of(admin, number)
    assert noted["password_changed_at"] == before["password_changed_at"]
    assert (noted["password_changed_by"], noted["updated_by"]) == ("otto", "ada")
    assert noted["updated_at"] > before["updated_at"]
    assert door.change_credential(vm, number, {"password": SECOND}).ok
    changed = row_of(admin, number)
    assert changed["password_changed_at"] > before["password_changed_at"]
    assert changed["password_changed_by"] == "ada"


@pytest.mark.parametrize("password", [MASK, FIRST])
def test_the_mask_and_the_present_password_change_nothing(
    door: Door, admin: Person, vm: int, kept: Kept, events: Events, password: str
) -> None:
    number = door.add_credential(vm, ROOT).made
    before = row_of(admin, number)
    assert door.change_credential(vm, number, {"password": password}).ok
    assert row_of(admin, number) == before
    assert kept(number) == {1: FIRST}
    assert [action for action, _ in events(number)] == ["credential.create"]


def test_the_mask_is_no_password_to_begin_with(door: Door, vm: int) -> None:
    outcome = door.add_credential(vm, {**ROOT, "password": MASK})
    assert (outcome.status, list(outcome.errors)) == (422, ["password"])


def test_a_blank_password_never_wipes_one(door: Door, admin: Person, vm: int, kept: Kept) -> None:
    assert door.add_credential(vm, {**ROOT, "password": ""}).errors == {"password": ["is required"]}
    number = door.add_credential(vm, ROOT).made
    outcome = door.change_credential(vm, number, {"password": "", "notes": "new"})
    assert kept(number) == {1: FIRST}
    # A form sends the field that nobody filled; a script that names it means something by it.
    if isinstance(door, PanelDoor):
        assert outcome.ok
        assert row_of(admin, number)["notes"] == "new"
    else:
        assert (outcome.status, outcome.errors) == (422, {"password": ["is required"]})
        assert row_of(admin, number)["notes"] is None


@pytest.mark.parametrize("letter", ["x", "😀", "e\u0301"])
def test_a_password_has_at_most_512_characters(
    door: Door, vm: int, kept: Kept, letter: str
) -> None:
    longest = (letter * 512)[:512]
    number = door.add_credential(vm, {**ROOT, "password": longest}).made
    assert kept(number) == {1: longest}
    for refused in (
        door.add_credential(vm, {"username": "other", "password": longest + "y"}),
        door.change_credential(vm, number, {"password": longest + "y"}),
    ):
        assert refused.status == 422
        assert refused.errors == {"password": ["must be at most 512 characters"]}


@pytest.mark.parametrize("password", AWKWARD, ids=range(len(AWKWARD)))
def test_a_password_comes_back_to_the_letter(door: Door, vm: int, password: str) -> None:
    number = door.add_credential(vm, {**ROOT, "password": password}).made
    assert shown(door.reveal(vm, number)) == password


@pytest.mark.parametrize("password", ONLY_BY_SCRIPTS, ids=range(len(ONLY_BY_SCRIPTS)))
def test_a_script_may_set_what_cannot_be_typed(admin: Person, vm: int, password: str) -> None:
    door = RestDoor(admin)
    number = door.add_credential(vm, {**ROOT, "password": password}).made
    assert shown(door.reveal(vm, number)) == password


def test_any_password_comes_back_to_the_letter(
    admin: Person, vm: int, vault: Vault, kept: Kept
) -> None:
    number = added(admin, vm, "root", FIRST)
    passwords = st.text(st.characters(codec="utf-8"), min_size=1, max_size=512)

    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(passwords.filter(lambda password: password != MASK))
    def check(password: str) -> None:
        patch = CredentialPatch.model_validate({"password": password})
        with admin.database.work(admin.actor) as work:
            changed = credentials.change(work, vault, Which(number), patch)
        assert kept(number)[changed.version] == password

    check()


@pytest.mark.parametrize(
    "fields",
    [
        {"username": ""},
        {"username": "   "},
        {"username": "u" * 257},
        {"username": "ro\not"},
        {"username": "ro\u200bot"},
        {"username": "ro\u202eot"},
        {"account_type": "admin"},
        {"notes": "n" * 4097},
        {"notes": "bell\x07"},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    door: Door, admin: Person, vm: int, fields: dict[str, Any]
) -> None:
    number = door.add_credential(vm, ROOT).made
    before = row_of(admin, number)
    for refused in (
        door.add_credential(vm, {**ROOT, "username": "other", **fields}),
        door.change_credential(vm, number, fields),
    ):
        assert (refused.status, refused.errors.keys()) == (422, fields.keys())
    assert row_of(admin, number) == before
    assert rows_of(admin.database, Credential) == 1


def rows_of(database: Database, model: type[Credential] | type[CredentialPassword]) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def test_a_change_that_others_overtook_is_refused(door: Door, admin: Person, vm: int) -> None:
    number = door.add_credential(vm, ROOT).made
    assert door.change_credential(vm, number, {"notes": "first"}, revision=1).ok
    late = door.change_credential(vm, number, {"password": SECOND}, revision=1)
    assert late.status == 412
    assert row_of(admin, number)["notes"] == "first"
    assert row_of(admin, number)["revision"] == 2


def test_marking_for_rotation_lasts_until_the_next_password(
    door: Door, admin: Person, vm: int, events: Events
) -> None:
    number = door.add_credential(vm, ROOT).made
    assert door.change_credential(vm, number, {"rotation_marked": True}).ok
    marked = row_of(admin, number)
    assert (marked["rotation_marked"], marked["rotation_due"]) == (True, True)
    assert events(number)[-1] == (
        "credential.update",
        {"rotation_marked": {"from": False, "to": True}},
    )
    assert door.change_credential(vm, number, {"password": SECOND}).ok
    changed = row_of(admin, number)
    assert (changed["rotation_marked"], changed["rotation_due"]) == (False, False)
    assert events(number)[-1][1] == {
        "password": {"from": SEALED, "to": SEALED},
        "rotation_marked": {"from": True, "to": False},
    }


def test_a_mark_can_be_taken_back(door: Door, admin: Person, vm: int) -> None:
    number = door.add_credential(vm, ROOT).made
    assert door.change_credential(vm, number, {"rotation_marked": True}).ok
    assert door.change_credential(vm, number, {"rotation_marked": False}).ok
    assert not row_of(admin, number)["rotation_marked"]


def test_a_password_set_for_the_moment_can_be_marked_at_once(
    door: Door, admin: Person, vm: int
) -> None:
    number = door.add_credential(vm, ROOT).made
    change = {"password": SECOND, "rotation_marked": True}
    assert door.change_credential(vm, number, change).ok
    assert row_of(admin, number)["rotation_marked"]


def test_removing_destroys_every_password(
    door: Door, database: Database, vm: int, events: Events
) -> None:
    number = door.add_credential(vm, ROOT).made
    door.change_credential(vm, number, {"password": SECOND})
    assert door.remove_credential(vm, number).ok
    assert rows_of(database, CredentialPassword) == 0
    assert events(number)[-1] == ("credential.delete", {"vm_id": vm, "account_type": "primary"})
    for gone in (
        door.remove_credential(vm, number),
        door.change_credential(vm, number, {"notes": "new"}),
        door.reveal(vm, number),
    ):
        assert gone.status == 404
    assert door.add_credential(vm, ROOT).made > number


def test_in_the_trash_credentials_are_hidden_and_come_back_with_the_vm(
    door: Door, admin: Person, vm: int, kept: Kept
) -> None:
    number = door.add_credential(vm, ROOT).made
    assert door.remove_vm(vm).ok
    for hidden in (
        door.add_credential(vm, {**ROOT, "username": "other"}),
        door.change_credential(vm, number, {"notes": "new"}),
        door.remove_credential(vm, number),
        door.reveal(vm, number),
    ):
        assert hidden.status == 404
    api = admin.api
    assert api.get("/api/credentials").json()["data"] == []
    assert api.get("/api/credentials?search=root").json()["total"] == 0
    assert b"root" not in api.get("/api/vms/trash").content
    for address in ("", f"/{number}", f"/{number}/versions"):
        assert api.get(f"/api/vms/{vm}/credentials{address}").status_code == 404
    assert kept(number) == {1: FIRST}
    assert door.restore_vm(vm).ok
    assert shown(door.reveal(vm, number)) == FIRST


def test_purging_a_vm_destroys_its_credentials_and_says_so(
    door: Door, database: Database, admin: Person, vm: int, events: Events
) -> None:
    numbers = [door.add_credential(vm, {**ROOT, "username": name}).made for name in ("a", "b")]
    other = added(admin, vm_named(admin, "web-02"), "root", FIRST)
    door.change_credential(vm, numbers[0], {"password": SECOND})
    assert door.remove_vm(vm).ok
    assert door.purge_vm(vm).ok
    assert rows_of(database, Credential) == rows_of(database, CredentialPassword) == 1
    assert row_of(admin, other)["username"] == "root"
    assert [events(number)[-1][0] for number in numbers] == ["credential.delete"] * 2


def test_a_password_that_does_not_open_is_not_shown_and_can_be_replaced(
    door: Door, database: Database, vm: int, vault: Vault
) -> None:
    number = door.add_credential(vm, ROOT).made
    lost = Sealed("v1.lost-key." + _sealed(database, number).text.split(".", 2)[2])
    _put(database, number, lost)
    assert door.reveal(vm, number).status == 503
    assert door.change_credential(vm, number, {"password": SECOND}).ok
    assert shown(door.reveal(vm, number)) == SECOND


def _sealed(database: Database, number: int) -> Sealed:
    with database.read() as session:
        found = select(CredentialPassword.sealed)
        return session.scalars(found.where(CredentialPassword.credential_id == number)).one()


def _put(database: Database, number: int, sealed: Sealed) -> None:
    change = update(CredentialPassword).where(CredentialPassword.credential_id == number)
    with database.engine.begin() as connection:
        connection.execute(change.values(sealed=sealed))


def test_no_event_tells_a_user_name_a_note_or_a_password(
    door: Door, database: Database, vm: int
) -> None:
    secret = {"username": "secret-user", "password": FIRST, "notes": "secret-note"}
    number = door.add_credential(vm, secret).made
    change = {"username": "secret-other", "password": SECOND, "notes": "secret-more"}
    assert door.change_credential(vm, number, change).ok
    assert door.reveal(vm, number).ok
    assert door.remove_credential(vm, number).ok
    with database.read() as session:
        rows = session.scalars(select(AuditEvent)).all()
    told = [row for row in rows if row.entity_type == "credential"]
    assert len(told) == 4
    assert {row.entity_name for row in told} == {"web-01"}
    text = json.dumps([[row.entity_name, row.detail] for row in rows])
    assert not any(word in text for word in ("secret", CANARY))
    assert told[1].detail == {
        name: {"from": SEALED, "to": SEALED} for name in ("username", "notes", "password")
    }


def test_a_password_that_was_used_before_is_marked_for_rotation(
    door: Door, admin: Person, vm: int, events: Events
) -> None:
    """Others may know it from then."""
    number = door.add_credential(vm, ROOT).made
    for password in (SECOND, FIRST):
        assert door.change_credential(vm, number, {"password": password}).ok
    assert row_of(admin, number)["rotation_marked"]
    assert events(number)[-1][1] == {
        "password": {"from": SEALED, "to": SEALED},
        "rotation_marked": {"from": False, "to": True},
    }
    assert door.change_credential(vm, number, {"password": THIRD}).ok
    assert not row_of(admin, number)["rotation_marked"]


def test_who_may_not_reveal_finds_no_password_out_by_setting_it(
    admin: Person, vault: Vault, vm: int, events: Events
) -> None:
    """A right guess looks like a wrong one: another version, on record, and no mark."""
    number = added(admin, vm, "root", FIRST)
    guest = replace(admin.actor, permissions=permissions(Role.ADMIN, may_reveal=False))
    for version, guess in enumerate((FIRST, SECOND, FIRST), start=2):
        patch = CredentialPatch.model_validate({"password": guess})
        with admin.database.work(guest) as work:
            assert credentials.change(work, vault, Which(number), patch).version == version
    changed = {"password": {"from": SEALED, "to": SEALED}}
    assert [detail for _, detail in events(number)[1:]] == [changed] * 3
