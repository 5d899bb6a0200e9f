"""What the trail promises: in the same commit, only ever added to, the file like the rows."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from tests.conftest import PASSWORD, Person
from tests.doors import DOORS, RestDoor
from vmtrak import audit, inventory, logs
from vmtrak.access import SYSTEM
from vmtrak.accounts import NewUser, User, users
from vmtrak.audit import AuditEvent
from vmtrak.db import Database, now
from vmtrak.inventory import VM, Hypervisor, NewHypervisor, NewVM, VMPatch, hypervisors


class CrashError(Exception):
    """The process is gone in the middle of the work."""


def count(database: Database, model: type[VM] | type[AuditEvent]) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def newest(database: Database, most: int = 1) -> list[AuditEvent]:
    with database.read() as session:
        chosen = select(AuditEvent).order_by(AuditEvent.id.desc()).limit(most)
        return list(session.scalars(chosen))


def crash_after(database: Database, *, flush: bool) -> None:
    with database.work(SYSTEM) as work:
        inventory.add(work, NewVM(vm_name="crashed"))
        if flush:
            work.flush()
        raise CrashError


@pytest.mark.parametrize("flush", [False, True])
def test_a_crash_leaves_neither_the_row_nor_its_event(database: Database, flush: bool) -> None:  # noqa: FBT001 - a parameter
    before = count(database, AuditEvent)
    with pytest.raises(CrashError):
        crash_after(database, flush=flush)
    assert (count(database, VM), count(database, AuditEvent)) == (0, before)


def test_if_the_event_cannot_be_written_the_row_is_not_either(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE audit_events RENAME TO elsewhere"))
    with pytest.raises(Exception, match="audit_events"), database.work(SYSTEM) as work:
        inventory.add(work, NewVM(vm_name="web-01"))
    assert count(database, VM) == 0


def test_nothing_changes_an_event_not_even_sql(database: Database) -> None:
    before = count(database, AuditEvent)
    assert before
    for statement in (
        "UPDATE audit_events SET username = 'nobody'",
        "UPDATE audit_events SET detail = NULL WHERE id = 1",
        "DELETE FROM audit_events",
        "DELETE FROM audit_events WHERE id = 1",
        *(() if database.sqlite else ("TRUNCATE audit_events",)),
    ):
        with pytest.raises(DBAPIError, match="never changed"), database.work(SYSTEM) as work:
            work.session.execute(text(statement))
    assert count(database, AuditEvent) == before


def test_replacing_an_event_is_refused_too(database: Database) -> None:
    before = newest(database)[0]
    verb = "INSERT OR REPLACE" if database.sqlite else "INSERT"
    also = "" if database.sqlite else " ON CONFLICT (id) DO UPDATE SET username = 'nobody'"
    statement = text(
        f"{verb} INTO audit_events (id, username, action, entity_type, created_at) "
        f"VALUES (:id, 'x', 'x', 'x', '2026-01-01T00:00:00Z'){also}"
    )
    with pytest.raises(DBAPIError), database.work(SYSTEM) as work:
        work.session.execute(statement, {"id": before.id})
    assert newest(database)[0].username == before.username


def test_a_change_without_an_event_does_not_commit(database: Database) -> None:
    with database.work(SYSTEM) as work:
        number = inventory.add(work, NewVM(vm_name="web-01")).id
    with pytest.raises(AssertionError, match="VM"), database.work(SYSTEM) as work:
        work.session.get_one(VM, number).owner = "nobody"
    with pytest.raises(AssertionError, match="VM"), database.work(SYSTEM) as work:
        work.session.delete(work.session.get_one(VM, number))
    row = Hypervisor(name="esx", status="active", created_at=now(), updated_at=now())
    row.derive()
    with pytest.raises(AssertionError, match="Hypervisor"), database.work(SYSTEM) as work:
        work.session.add(row)
    with database.read() as session:
        assert session.get_one(VM, number).owner is None
        assert session.scalar(select(func.count()).select_from(Hypervisor)) == 0


def test_an_event_for_one_row_does_not_cover_another(database: Database) -> None:
    with database.work(SYSTEM) as work:
        one, other = (inventory.add(work, NewVM(vm_name=name)).id for name in ("one", "other"))

    def change_both() -> None:
        with database.work(SYSTEM) as work:
            inventory.change(work, one, VMPatch(owner="rita"))
            work.session.get_one(VM, other).owner = "nobody"

    with pytest.raises(AssertionError):
        change_both()
    with database.read() as session:
        assert session.get_one(VM, one).owner is None


def test_a_bulk_change_is_refused(database: Database) -> None:
    with database.work(SYSTEM) as work:
        inventory.add(work, NewVM(vm_name="web-01"))
    for statement in (
        update(VM).values(owner="nobody"),
        delete(VM),
        update(User).values(role="admin"),
        insert(Hypervisor).values(name="esx"),
    ):
        with pytest.raises(AssertionError, match="bulk"), database.work(SYSTEM) as work:
            work.session.execute(statement)
    assert count(database, VM) == 1


def test_a_reading_session_refuses_to_write(database: Database) -> None:
    with database.work(SYSTEM) as work:
        number = inventory.add(work, NewVM(vm_name="web-01")).id
    for change in (
        lambda session: setattr(session.get_one(VM, number), "owner", "nobody"),
        lambda session: session.delete(session.get_one(VM, number)),
        lambda session: session.add(Hypervisor(name="esx")),
    ):
        with database.read() as session:
            change(session)
            with pytest.raises(AssertionError, match="read session"):
                session.commit()
            session.rollback()
    with database.read() as session:
        assert session.get_one(VM, number).owner is None


@pytest.fixture
def audit_file(tmp_path: Path) -> Iterator[Path]:
    """The audit file of a server that writes its logs here."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    logs.configure(tmp_path / "logs", json=True)
    yield tmp_path / "logs" / "audit.log"
    logger.remove()
    root.handlers[:] = handlers
    root.setLevel(level)


def file_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kind", list(DOORS))
def test_the_files_lines_are_the_rows(
    database: Database, admin: Person, audit_file: Path, kind: str
) -> None:
    door = DOORS[kind](admin)
    number = door.add_vm({"vm_name": "wéb-01 <b>", "ram_gb": 0.5}).made
    assert door.change_vm(number, {"owner": "rita", "expiry_date": "2027-01-31", "ram_gb": 16}).ok
    assert door.change_vm(number, {"owner": "rita"}).ok
    assert door.add_vm({"vm_name": "wéb-01 <b>"}).status == 409
    assert door.remove_vm(number).ok
    assert door.restore_vm(number).ok
    assert door.remove_vm(number).ok
    assert door.purge_vm(number).ok
    rows = [audit.shown(event) for event in reversed(newest(database, 7))]
    assert file_lines(audit_file) == rows
    assert [row["action"] for row in rows] == [
        "auth.login",
        *(f"vm.{verb}" for verb in ("create", "update", "delete", "restore", "delete", "purge")),
    ]


def test_the_file_gets_its_line_only_after_the_commit(database: Database, audit_file: Path) -> None:
    with database.work(SYSTEM) as work:
        inventory.add(work, NewVM(vm_name="web-01"))
        work.flush()
        assert file_lines(audit_file) == []
    assert [line["action"] for line in file_lines(audit_file)] == ["vm.create"]
    with pytest.raises(CrashError):
        crash_after(database, flush=True)
    assert len(file_lines(audit_file)) == 1


def test_an_event_says_who_did_what_from_where_in_which_request(
    database: Database, operator: Person
) -> None:
    number = RestDoor(operator).add_vm({"vm_name": "web-01", "vcpu": 2}).made
    event = audit.shown(newest(database)[0])
    request_id = event.pop("request_id")
    assert len(request_id) == 16
    event.pop("id")
    assert event.pop("created_at").endswith("Z")
    assert event == {
        "user_id": operator.user_id,
        "username": "otto",
        "action": "vm.create",
        "entity_type": "vm",
        "entity_id": number,
        "entity_name": "web-01",
        "detail": {"vm_name": "web-01", "vcpu": 2, "status": "active", "power_state": "unknown"},
        "ip_address": "127.0.0.1",
    }


def test_a_password_is_nowhere_in_the_trail(
    database: Database, admin: Person, audit_file: Path
) -> None:
    door = RestDoor(admin)
    secret = "an unmistakable secret"
    number = door.add_user(
        {"username": "n", "email": "n@vmtrak.example", "role": "read", "password": secret}
    ).made
    api = door.client
    assert api.post(
        f"/api/users/{number}/reset-password", json={"new_password": secret + "2"}
    ).is_success
    assert (
        api.post("/api/auth/login", json={"username": "n", "password": secret}).status_code == 401
    )
    login = api.post("/api/auth/login", json={"username": "n", "password": secret + "2"})
    headers = {"Authorization": f"Bearer {login.json()['accessToken']}"}
    setup = {"email": "n@vmtrak.example", "password": secret + "3"}
    assert api.post("/api/auth/complete-setup", json=setup, headers=headers).is_success
    with database.work(SYSTEM) as work:
        users.reset_link(work, number)
    rows = json.dumps([audit.shown(event) for event in newest(database, 500)])
    for words in (rows, audit_file.read_text()):
        assert "user.password_reset" in words
        for hidden in ("unmistakable", "argon2", "password_hash", PASSWORD):
            assert hidden not in words


def test_a_sealed_column_shows_only_that_it_changed(database: Database, admin: Person) -> None:
    with database.work(SYSTEM) as work:
        user = work.session.get_one(User, admin.user_id)
        user.password_hash = "another"
        user.role = "auditor"
        assert audit.difference(user) == {
            "password_hash": {"from": audit.SEALED, "to": audit.SEALED},
            "role": {"from": "admin", "to": "auditor"},
        }
        assert "password_hash" not in audit.snapshot(user)
        work.session.expire(user)


def test_every_operation_leaves_exactly_one_event(database: Database) -> None:
    def events() -> list[tuple[str, str | None]]:
        with database.read() as session:
            rows = session.execute(
                select(AuditEvent.action, AuditEvent.entity_name).order_by(AuditEvent.id)
            )
            return [(action, name) for action, name in rows]

    before = len(events())
    with database.work(SYSTEM) as work:
        hypervisor = hypervisors.add(work, NewHypervisor(name="esx"))
        vm = inventory.add(work, NewVM(vm_name="vm", hypervisor_id=hypervisor.id))
        inventory.change(work, vm.id, VMPatch(vm_name="renamed", hypervisor_id=None))
        inventory.remove(work, vm.id)
        inventory.restore(work, vm.id)
        inventory.remove(work, vm.id)
        inventory.purge(work, vm.id)
        hypervisors.remove(work, hypervisor.id)
        users.add(work, NewUser(username="n", email="n@vmtrak.example", role="read"))
    assert events()[before:] == [
        ("hypervisor.create", "esx"),
        ("vm.create", "vm"),
        ("vm.update", "renamed"),
        ("vm.delete", "renamed"),
        ("vm.restore", "renamed"),
        ("vm.delete", "renamed"),
        ("vm.purge", "renamed"),
        ("hypervisor.delete", "esx"),
        ("user.create", "n"),
    ]
