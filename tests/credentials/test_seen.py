"""Who knows which present passwords, and marking for rotation what somebody who leaves knows."""

import csv
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from loguru import logger
from sqlalchemy import Connection, event, select

from tests.access.test_lock_order import until_somebody_waits
from tests.conftest import CANARY, Later, Person
from tests.credentials.conftest import Events, added, vm_named
from tests.tokens.conftest import client_at, made
from vmtrak import audit, credentials, inventory
from vmtrak.access import SYSTEM, Scope
from vmtrak.admin import reports
from vmtrak.audit import AuditEvent
from vmtrak.credentials import Credential, CredentialPatch, RevealRequest, Rules, Vault, Which
from vmtrak.db import Database, Work
from vmtrak.errors import Forbidden, NotFound, TooMany
from vmtrak.web.revealing import reveal

SECRET = f"{CANARY}first"
OTHER = f"{CANARY}second"
MARKED = ("credential.update", {"rotation_marked": {"from": False, "to": True}})


@pytest.fixture
def number(admin: Person, vm: int) -> int:
    """A credential that an admin has added."""
    return added(admin, vm, "root", SECRET)


def shows(person: Person, number: int, version: int | None = None) -> None:
    """The person reveals a password."""
    state = person.app.state.vmtrak
    reveal(state, person.actor, Which(number, version=version), RevealRequest())


def changes(person: Person, number: int, password: str = OTHER) -> None:
    patch = CredentialPatch.model_validate({"password": password})
    with person.database.work(person.actor) as work:
        credentials.change(work, person.app.state.vmtrak.vault, Which(number), patch)


def viewers(person: Person, number: int) -> dict[str, tuple[str, int]]:
    """How each of those who know it came to, and how often they were shown it."""
    with person.database.read() as session:
        rows = credentials.viewers(session, person.actor, Which(number))
    return {row["username"]: (row["how"], row["times"]) for row in rows}


def seen(admin: Person, person: Person) -> list[dict[str, Any]]:
    rules = admin.app.state.vmtrak.vault.rules
    with admin.database.read() as session:
        rows = credentials.seen_by(session, admin.actor, rules, person.user_id)
        count = credentials.seen_count(session, admin.actor, person.user_id)
    assert count == len(rows)
    return rows


def names(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["vm_name"], row["username"]) for row in rows]


def marks(admin: Person, person: Person) -> int:
    with admin.database.work(admin.actor) as work:
        return credentials.mark_seen(work, person.user_id)


def stored(database: Database, number: int) -> Credential:
    with database.read() as session:
        return session.get_one(Credential, number)


# --- Who knows it


def test_who_set_it_and_who_was_shown_it_know_a_password(
    admin: Person, operator: Person, number: int, later: Later
) -> None:
    assert viewers(admin, number) == {"ada": ("set", 0)}
    shows(operator, number)
    later(90)
    shows(operator, number)
    shows(admin, number)
    with admin.database.read() as session:
        rows = credentials.viewers(session, operator.actor, Which(number))
    known = {row["username"]: row for row in rows}
    assert {name: (row["how"], row["times"]) for name, row in known.items()} == {
        "ada": ("set", 1),
        "otto": ("revealed", 2),
    }
    assert known["otto"]["first_at"] < known["otto"]["last_at"]
    assert known["otto"]["user_id"] == operator.user_id
    assert known["otto"]["is_active"] is True


def test_an_earlier_password_counts_for_nobody(
    admin: Person, operator: Person, number: int
) -> None:
    shows(operator, number)
    changes(admin, number)
    assert viewers(admin, number) == {"ada": ("set", 0)}
    shows(operator, number, version=1)
    assert viewers(admin, number) == {"ada": ("set", 0)}
    assert seen(admin, operator) == []
    shows(operator, number)
    assert viewers(admin, number) == {"ada": ("set", 0), "otto": ("revealed", 1)}
    changes(operator, number, SECRET)
    assert viewers(admin, number) == {"otto": ("set", 0)}
    assert seen(admin, admin) == []


def test_a_credential_that_is_not_there_has_no_viewers(admin: Person, number: int, vm: int) -> None:
    elsewhere = vm_named(admin, "db-01")
    for which in (Which(number + 1), Which(number, elsewhere)):
        with admin.database.read() as session, pytest.raises(NotFound):
            credentials.viewers(session, admin.actor, which)
    with admin.database.work(admin.actor) as work:
        inventory.remove(work, vm)
    with admin.database.read() as session, pytest.raises(NotFound):
        credentials.viewers(session, admin.actor, Which(number))


@pytest.mark.parametrize("settings", [{"rotation_days": 30}], indirect=True)
def test_the_report_tells_how_and_since_when_each_is_known(
    admin: Person, operator: Person, number: int, vm: int, later: Later
) -> None:
    later(31 * 86_400)
    shows(operator, number)
    young = added(operator, vm, "backup", OTHER)
    rows = {row["credential_id"]: row for row in seen(admin, operator)}
    assert rows.keys() == {number, young}
    old = rows[number]
    assert (old["vm_id"], old["vm_name"], old["username"]) == (vm, "web-01", "root")
    assert (old["how"], old["times"], old["trashed"]) == ("revealed", 1, False)
    assert old["password_changed_at"] < old["first_at"] == old["last_at"]
    assert (old["rotation_due"], old["rotation_marked"]) == (True, False)
    assert (rows[young]["how"], rows[young]["times"]) == ("set", 0)
    assert (rows[young]["rotation_due"], rows[young]["rotation_marked"]) == (False, False)
    assert all("password" not in row for row in rows.values())


@pytest.mark.parametrize("settings", [{"reveals_per_hour": 1}], indirect=True)
def test_the_trash_is_told_of_a_destroyed_one_is_gone_and_still_counts_for_the_hour(
    admin: Person, operator: Person, number: int, vm: int
) -> None:
    kept = added(admin, vm_named(admin, "db-01"), "root", OTHER)
    shows(operator, number)
    with admin.database.work(admin.actor) as work:
        inventory.remove(work, vm)
    assert [(row["credential_id"], row["trashed"]) for row in seen(admin, operator)] == [
        (number, True)
    ]
    with admin.database.work(admin.actor) as work:
        credentials.purge_vm(work, vm)
    assert seen(admin, operator) == []
    with pytest.raises(TooMany):
        shows(operator, kept)


def test_who_revealed_through_a_token_has_seen_it(
    admin: Person, operator: Person, number: int, vm: int
) -> None:
    _, secret = made(operator, Scope.CREDENTIALS_REVEAL)
    script = client_at(operator.app, secret)
    assert script.get(f"/api/vms/{vm}/credentials/{number}/reveal").status_code == 200
    assert viewers(admin, number)["otto"] == ("revealed", 1)
    assert names(seen(admin, operator)) == [("web-01", "root")]


def test_a_refused_reveal_shows_nothing(admin: Person, operator: Person, number: int) -> None:
    with pytest.raises(NotFound):
        shows(operator, number, version=7)
    assert seen(admin, operator) == []


def test_only_administrators_get_the_report_also_their_own(
    admin: Person, operator: Person, auditor: Person, number: int
) -> None:
    assert names(seen(admin, admin)) == [("web-01", "root")]
    with admin.database.read() as session:
        for person in (operator, auditor):
            with pytest.raises(Forbidden):
                credentials.seen_by(session, person.actor, Rules(), admin.user_id)
            with pytest.raises(Forbidden):
                credentials.seen_count(session, person.actor, admin.user_id)
        with pytest.raises(NotFound):
            credentials.seen_by(session, admin.actor, Rules(), 999_999)
    with admin.database.work(operator.actor) as work, pytest.raises(Forbidden):
        credentials.mark_seen(work, admin.user_id)
    with admin.database.work(admin.actor) as work, pytest.raises(NotFound):
        credentials.mark_seen(work, 999_999)


# --- Marking


@pytest.mark.parametrize("door", ["panel", "rest"])
def test_all_that_somebody_knows_is_marked_once_with_an_event_each(
    door: str, admin: Person, operator: Person, vm: int, number: int, events: Events
) -> None:
    marked_before = added(operator, vm, "backup", OTHER)
    with admin.database.work(admin.actor) as work:
        patch = CredentialPatch(rotation_marked=True)
        credentials.change(work, admin.app.state.vmtrak.vault, Which(marked_before), patch)
    trashed_vm = vm_named(admin, "old-01")
    trashed = added(operator, trashed_vm, "root", OTHER)
    with admin.database.work(admin.actor) as work:
        inventory.remove(work, trashed_vm)
    unknown = added(admin, vm, "nobody", OTHER)
    shows(operator, number)
    before = stored(admin.database, number).revision
    if door == "panel":
        page = admin.panel.get(f"/admin/user/seen/{operator.user_id}").text
        assert "Mark 2 passwords for rotation?" in page
        answer = admin.panel.post(f"/admin/user/seen/{operator.user_id}/mark")
        assert answer.headers["Location"] == f"/admin/user/seen/{operator.user_id}"
    else:
        address = f"/api/users/{operator.user_id}/seen-credentials/mark-rotation"
        assert admin.api.post(address).json() == {"ok": True, "marked": 2}
    row = stored(admin.database, number)
    assert (row.rotation_marked_by, row.updated_by, row.revision) == ("ada", "ada", before + 1)
    assert row.rotation_marked_at == row.updated_at
    assert events(number)[-1] == MARKED
    assert events(trashed)[-1] == MARKED
    assert [one for one in events(marked_before) if one == MARKED] == [MARKED]
    assert MARKED not in events(unknown)
    assert marks(admin, operator) == 0
    assert all(row["rotation_marked"] and row["rotation_due"] for row in seen(admin, operator))


def test_the_events_name_the_vm_and_never_the_account(
    admin: Person, operator: Person, number: int
) -> None:
    shows(operator, number)
    marks(admin, operator)
    with admin.database.read() as session:
        newest = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1)).one()
    assert (newest.entity_id, newest.entity_name) == (number, "web-01")
    assert newest.username == "ada"
    assert newest.created_at == stored(admin.database, number).rotation_marked_at


def test_the_log_tells_the_same_events_as_the_trail(
    admin: Person, operator: Person, vm: int
) -> None:
    for n in range(3):
        shows(operator, added(admin, vm, f"admin-{n}", SECRET))
    lines: list[dict[str, Any]] = []
    sink = logger.add(
        lambda message: lines.append(message.record["extra"]["_event"]),
        filter=lambda record: "audit" in record["extra"],
    )
    marks(admin, operator)
    logger.remove(sink)
    with admin.database.read() as session:
        newest = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(3)).all()
        assert sorted(lines, key=lambda line: -line["id"]) == [audit.shown(one) for one in newest]


def test_a_new_password_ends_the_mark_and_the_knowledge(
    admin: Person, operator: Person, number: int
) -> None:
    shows(operator, number)
    assert marks(admin, operator) == 1
    changes(admin, number)
    assert stored(admin.database, number).rotation_marked_at is None
    assert seen(admin, operator) == []
    assert marks(admin, operator) == 0


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made_:
        yield made_


def test_what_changes_while_it_is_being_marked_does_not_stay_marked(
    admin: Person, operator: Person, number: int, vault: Vault, pool: ThreadPoolExecutor
) -> None:
    shows(operator, number)
    patch = CredentialPatch.model_validate({"password": OTHER})
    with admin.database.work(admin.actor) as work:
        credentials.change(work, vault, Which(number), patch)
        other = pool.submit(marks, admin, operator)
        until_somebody_waits(admin.database)
    assert other.result(10) == 0
    row = stored(admin.database, number)
    assert (row.version, row.rotation_marked_at) == (2, None)


def test_a_change_that_waits_for_the_marking_ends_the_mark(
    admin: Person, operator: Person, number: int, pool: ThreadPoolExecutor
) -> None:
    shows(operator, number)
    with admin.database.work(admin.actor) as work:
        assert credentials.mark_seen(work, operator.user_id) == 1
        other = pool.submit(changes, admin, number)
        until_somebody_waits(admin.database)
    other.result(10)
    row = stored(admin.database, number)
    assert (row.version, row.rotation_marked_at) == (2, None)


def test_a_reveal_on_its_way_is_marked_as_well(
    admin: Person, operator: Person, number: int, vault: Vault, pool: ThreadPoolExecutor
) -> None:
    with admin.database.work(operator.actor) as work:
        credentials.reveal(work, vault, Which(number), RevealRequest())
        other = pool.submit(marks, admin, operator)
        until_somebody_waits(admin.database)
    assert other.result(10) == 1
    assert stored(admin.database, number).rotation_marked_at is not None


# --- However much it is


@contextmanager
def counting(database: Database) -> Iterator[list[str]]:
    """The statements that are run within."""
    found: list[str] = []

    def note(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        found.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield found
    event.remove(database.engine, "before_cursor_execute", note)


def test_the_number_of_statements_does_not_grow_with_what_is_known(
    admin: Person, operator: Person, auditor: Person, vm: int
) -> None:
    added(operator, vm, "only one", SECRET)
    with admin.database.work(SYSTEM) as work:
        for n in range(40):
            _known_to(work, admin, vm, f"admin-{n}")
    found = []
    for person in (operator, admin):
        with counting(admin.database) as reading:
            rows = seen(admin, person)
        with counting(admin.database) as marking:
            assert marks(admin, person) == len(rows)
        found.append((len(reading), len(marking)))
    assert found[0] == found[1]


def _known_to(work: Work, person: Person, vm: int, username: str) -> None:
    new = credentials.NewCredential.model_validate({"username": username, "password": SECRET})
    work.actor = person.actor
    credentials.add(work, person.app.state.vmtrak.vault, vm, new)


# --- At the doors


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.fixture
def odd(admin: Person) -> int:
    """A credential whose names a spreadsheet would work out."""
    vm = vm_named(admin, "=HYPERLINK(1)")
    return added(admin, vm, "@SUM(A1)", SECRET)


@pytest.mark.parametrize("door", ["panel", "rest"])
def test_the_report_is_a_file_that_does_no_harm(
    door: str, admin: Person, odd: int, number: int
) -> None:
    address = f"/admin/user/seen/{admin.user_id}/csv"
    if door == "rest":
        address = f"/api/users/{admin.user_id}/seen-credentials.csv"
    answer = (admin.panel if door == "panel" else admin.api).get(address)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert 'filename="passwords-known-by-ada.csv"' in answer.headers["Content-Disposition"]
    assert answer.content.startswith(b"\xef\xbb\xbf") == (door == "panel")
    rows = read(answer.content.decode("utf-8-sig"))
    told = [(row["credential_id"], row["vm_name"], row["username"], row["how"]) for row in rows]
    assert told == [
        (str(odd), "'=HYPERLINK(1)", "'@SUM(A1)", "set"),
        (str(number), "web-01", "root", "set"),
    ]
    assert rows[0]["rotation_marked"] == "false"


@pytest.mark.parametrize("door", ["panel", "rest"])
def test_the_viewers_are_a_file_too(door: str, operator: Person, odd: int) -> None:
    with operator.database.read() as session:
        vm = session.get_one(Credential, odd).vm_id
    address = f"/admin/credential/viewers/{odd}/csv"
    if door == "rest":
        address = f"/api/vms/{vm}/credentials/{odd}/viewers.csv"
    answer = (operator.panel if door == "panel" else operator.api).get(address)
    assert f'filename="who-knows-=HYPERLINK(1)-{odd}.csv"' in answer.headers["Content-Disposition"]
    rows = read(answer.content.decode("utf-8-sig"))
    assert [(row["username"], row["how"], row["is_active"]) for row in rows] == [
        ("ada", "set", "true")
    ]


def test_rest_tells_both_reports(admin: Person, operator: Person, vm: int, number: int) -> None:
    shows(operator, number)
    known = admin.api.get(f"/api/users/{operator.user_id}/seen-credentials").json()
    assert names(known) == [("web-01", "root")]
    people = operator.api.get(f"/api/vms/{vm}/credentials/{number}/viewers").json()
    assert {row["username"]: row["how"] for row in people} == {"ada": "set", "otto": "revealed"}
    for address in (
        f"/api/vms/{vm + 1}/credentials/{number}/viewers",
        "/api/users/99999/seen-credentials",
    ):
        assert admin.api.get(address).status_code == 404
    assert admin.api.get("/api/users/99999/seen-credentials.csv").status_code == 404
    assert admin.api.post("/api/users/99999/seen-credentials/mark-rotation").status_code == 404


def test_a_closed_account_says_what_it_knows(admin: Person, operator: Person, number: int) -> None:
    address = f"/admin/user/details/{operator.user_id}"
    assert "knows none" in admin.panel.get(address).text
    shows(operator, number)
    page = admin.panel.get(address).text
    assert "1 present password is known to this account" in page
    assert "See which passwords they know" not in page
    admin.panel.post(f"/admin/user/deactivate/{operator.user_id}")
    page = admin.panel.get(address).text
    assert "See which passwords they know" in page
    assert f'href="/admin/user/seen/{operator.user_id}"' in page
    report = admin.panel.get(f"/admin/user/seen/{operator.user_id}").text
    assert "web-01" in report
    assert "This account is open" not in report
    changes(admin, number)
    assert "See which passwords they know" not in admin.panel.get(address).text


def test_a_long_report_shows_its_beginning_and_the_file_all(
    admin: Person, number: int, odd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "MOST", 1)
    page = admin.panel.get(f"/admin/user/seen/{admin.user_id}").text
    assert "The first 1 of 2 are shown" in page
    assert "Mark 2 passwords for rotation?" in page
    assert f"/admin/credential/details/{odd}" in page
    assert f"/admin/credential/details/{number}" not in page


# --- Rotation


@pytest.mark.parametrize("settings", [{"rotation_days": 30}], indirect=True)
def test_the_dashboard_counts_what_is_due_for_who_may_see_credentials(
    admin: Person, operator: Person, auditor: Person, reader: Person, vm: int, later: Later
) -> None:
    marked, old = added(admin, vm, "root", SECRET), added(admin, vm, "backup", OTHER)

    def due() -> int:
        with admin.database.read() as session:
            return credentials.due(session, operator.actor, admin.app.state.vmtrak.vault.rules)

    assert due() == 0
    patch = CredentialPatch(rotation_marked=True)
    with admin.database.work(admin.actor) as work:
        credentials.change(work, admin.app.state.vmtrak.vault, Which(marked), patch)
    assert due() == 1
    later(30 * 86_400 + 60)
    assert due() == 2
    added(admin, vm, "new", SECRET)
    changes(admin, old, f"{CANARY}third")
    assert due() == 1
    page = operator.panel.get("/admin/").text
    assert "<b>1</b> <span>Passwords due for rotation</span>" in page
    assert 'href="/admin/credential/list?rotation_due=true"' in page
    for person in (auditor, reader):
        assert "Passwords due" not in person.panel.get("/admin/").text
        with admin.database.read() as session, pytest.raises(Forbidden):
            credentials.due(session, person.actor, Rules())
    with admin.database.work(admin.actor) as work:
        inventory.remove(work, vm)
    assert due() == 0
