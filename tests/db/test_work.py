"""Units of work, read sessions, conflicts, connections and prepared statements."""

import shutil
import sqlite3
import threading
import traceback
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Integer, bindparam, func, select, text
from sqlalchemy.exc import IntegrityError

from tests.conftest import Person
from vmtrak import inventory
from vmtrak.access import SYSTEM
from vmtrak.db import BUSY_TIMEOUT, Database, Prepared, Work, conflict, iso, now
from vmtrak.errors import Conflict, Unavailable
from vmtrak.inventory import VM, Hypervisor, NewHypervisor, NewVM, VMQuery, hypervisors, lists


class CrashError(Exception):
    """Something unforeseen."""


def add(database: Database, *vms: str, crash: bool = False) -> None:
    """Add VMs in one unit of work."""
    with database.work(SYSTEM) as work:
        for name in vms:
            inventory.add(work, NewVM(vm_name=name))
        if crash:
            raise CrashError


def names(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.scalars(select(VM.vm_name).order_by(VM.id)))


def test_leaving_the_block_commits_and_an_exception_rolls_back(database: Database) -> None:
    add(database, "kept")
    with pytest.raises(CrashError):
        add(database, "lost", crash=True)
    assert names(database) == ["kept"]
    add(database, "after")
    assert names(database) == ["kept", "after"]


def test_a_conflict_rolls_back_all_that_came_before_it(database: Database) -> None:
    add(database, "taken")
    with pytest.raises(Conflict):
        add(database, "lost", "TAKEN")
    assert names(database) == ["taken"]


def test_what_follows_the_commit_does_not_happen_without_it(database: Database) -> None:
    done: list[str] = []

    def crash() -> None:
        with database.work(SYSTEM) as work:
            work.after_commit(lambda: done.append("lost"))
            raise CrashError

    with database.work(SYSTEM) as work:
        work.after_commit(lambda: done.append("kept"))
        assert done == []
    with pytest.raises(CrashError):
        crash()
    assert done == ["kept"]


def test_nobody_sees_a_work_before_its_commit(database: Database) -> None:
    with database.work(SYSTEM) as work:
        inventory.add(work, NewVM(vm_name="web-01"))
        assert names(database) == []
    assert names(database) == ["web-01"]


def test_a_violated_constraint_is_told_by_its_name(database: Database) -> None:
    foreseen = {"uq_hypervisors_name_key": Conflict("Mine.", field="name")}
    with database.work(SYSTEM) as work:
        hypervisors.add(work, NewHypervisor(name="esx"))

    def again(conflicts: dict[str, Conflict]) -> None:
        with database.work(SYSTEM) as work:
            row = Hypervisor(name="ESX", status="active", created_at=now(), updated_at=now())
            row.derive()
            work.session.add(row)
            work.flush(conflicts)

    with pytest.raises(Conflict, match="Mine") as told:
        again(foreseen)
    assert told.value.field == "name"
    with pytest.raises(IntegrityError):
        again({"uq_vms_name_key": Conflict("Another.")})


def test_each_conflict_is_an_exception_of_its_own(database: Database) -> None:
    """One that is raised again and again would keep all the frames of the times before."""
    seen: list[Conflict] = []
    for _ in range(4):
        try:
            add(database, "a", "A")
        except Conflict as error:
            seen.append(error)
    assert len({id(error) for error in seen}) == 4
    assert len({len(traceback.extract_tb(error.__traceback__)) for error in seen}) == 1


def test_a_foreign_key_is_no_foreseen_conflict(database: Database) -> None:
    add(database, "web-01")
    with pytest.raises(IntegrityError) as told, database.work(SYSTEM) as work:
        work.session.execute(text("UPDATE vms SET hypervisor_id = 4711"))
    assert conflict(told.value, {"uq_vms_name_key": Conflict()}) is told.value


def test_an_error_does_not_show_the_values(database: Database) -> None:
    statement = text("INSERT INTO hypervisors (name, status) VALUES (:name, 'active')")
    with pytest.raises(IntegrityError) as told, database.work(SYSTEM) as work:
        work.session.execute(statement, {"name": "very-secret"})
    assert "[SQL parameters hidden" in str(told.value)


def test_times_are_kept_in_utc_to_the_second(database: Database) -> None:
    elsewhere = timezone(timedelta(hours=5, minutes=30))
    given = datetime(2026, 11, 22, 1, 30, 15, 999_999, tzinfo=elsewhere)
    with database.work(SYSTEM) as work:
        vm = inventory.add(work, NewVM(vm_name="web-01"))
        vm.created_at = given
    with database.read() as session:
        kept = session.scalar(select(VM.created_at))
        assert kept == datetime(2026, 11, 21, 20, 0, 15, tzinfo=UTC)
        assert session.scalar(select(func.count()).where(VM.created_at == given)) == 1
    assert iso(given) == "2026-11-21T20:00:15Z"


# SQLite


def pragmas(connection: Any) -> dict[str, Any]:
    wanted = ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
    return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in wanted}


RIGHT = {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "busy_timeout": BUSY_TIMEOUT}


@pytest.fixture
def sqlite(sqlite_template: Path, tmp_path: Path) -> Iterator[Database]:
    """A migrated database in SQLite, for what only SQLite has."""
    path = shutil.copy(sqlite_template, tmp_path / "own.db")
    database = Database(f"sqlite:///{path}")
    yield database
    database.close()


def test_every_connection_keeps_the_promises_of_sqlite(sqlite: Database) -> None:
    assert BUSY_TIMEOUT == 5_000
    with closing_all(sqlite, 6) as connections:
        assert [pragmas(one) for one in connections] == [RIGHT] * 6
    with sqlite.work(SYSTEM) as work:
        raw = work.session.connection().connection.dbapi_connection
        assert pragmas(raw) == RIGHT
    assert pragmas(sqlite._reading_connection()) == RIGHT
    found: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: found.append(pragmas(sqlite._reading_connection())))
    thread.start()
    thread.join()
    assert found == [RIGHT]


class closing_all:  # noqa: N801 - a context manager
    """Several connections of the pool at once, so that none is used twice."""

    def __init__(self, database: Database, count: int) -> None:
        self.connections = [database.engine.raw_connection() for _ in range(count)]

    def __enter__(self) -> list[Any]:
        return [one.dbapi_connection for one in self.connections]

    def __exit__(self, *_: object) -> None:
        for one in self.connections:
            one.close()


def test_the_reading_connection_cannot_write(sqlite: Database) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        sqlite._reading_connection().execute("DELETE FROM vms")


def test_a_work_takes_the_write_lock_before_it_reads(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(str(sqlite.url.database), isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        with sqlite.engine.connect() as connection:
            assert connection.execute(select(func.count()).select_from(VM)).scalar() == 0
        monkeypatch.setattr("vmtrak.db.BUSY_TIMEOUT", 20)
        impatient = Database(str(sqlite.url))
        with pytest.raises(Unavailable), impatient.work(SYSTEM):
            pass
        stranger.execute("ROLLBACK")
        with impatient.work(SYSTEM) as work:
            assert isinstance(work, Work)
            stranger.execute("PRAGMA busy_timeout=0")
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                stranger.execute("BEGIN IMMEDIATE")
        impatient.close()


def test_closing_writes_the_log_into_the_file(sqlite: Database) -> None:
    other = Database(str(sqlite.url))
    add(other, "web-01")
    other.close()
    with closing(sqlite3.connect(f"file:{sqlite.url.database}?immutable=1", uri=True)) as file:
        assert file.execute("SELECT vm_name FROM vms").fetchall() == [("web-01",)]


# Prepared statements


def test_prepared_statements_give_the_rows_that_the_orm_gives(
    database: Database, admin: Person
) -> None:
    with database.work(SYSTEM) as work:
        host = hypervisors.add(work, NewHypervisor(name="esx"))
        for at in range(5):
            inventory.add(
                work,
                NewVM.model_validate(
                    {
                        "vm_name": f"vm-{at} 50%",
                        "ram_gb": 0.5 + at,
                        "disk_gb": 16,
                        "expiry_date": f"2027-01-0{at + 1}" if at % 2 else None,
                        "hypervisor_id": host.id if at % 2 else None,
                        "notes": "é\n\U0001f5a5",
                    }
                ),
            )
    with database.read() as session:
        vms = session.scalars(select(VM).order_by(VM.name_key)).all()
        wanted = [inventory.shown(vm, "esx" if vm.hypervisor_id else None) for vm in vms]
    api = admin.api
    page = api.get("/api/vms").json()["data"]
    assert [{k: v for k, v in row.items() if k != "primary_username"} for row in page] == wanted
    assert [api.get(f"/api/vms/{row['id']}").json() for row in page] == wanted
    found = lists.page(database, admin.actor, VMQuery(search="50%"), now().date())
    assert len(found.rows) == 5


def test_a_prepared_statement_takes_parameters_by_name_in_any_order(database: Database) -> None:
    with database.work(SYSTEM) as work:
        numbers = [inventory.add(work, NewVM(vm_name=f"100% vm-{at}")).id for at in range(4)]
    prepared = Prepared(
        select(VM.id, VM.vm_name)
        .where(
            VM.id >= bindparam("first", type_=Integer),
            VM.id <= bindparam("last", type_=Integer),
            VM.vm_name.like("100\\%%", escape="\\"),
            VM.id != bindparam("first", type_=Integer),
            VM.status == "active",
        )
        .order_by(VM.id)
    )
    asked = {"last": numbers[2], "first": numbers[0]}
    wanted = [{"id": numbers[at], "vm_name": f"100% vm-{at}"} for at in (1, 2)]
    for _ in range(2):
        assert database.dicts(prepared, asked) == wanted
    assert database.rows(prepared, {"first": 0, "last": 0}) == []


def test_prepared_reads_see_what_was_committed_just_before(database: Database) -> None:
    prepared = Prepared(select(func.count()).select_from(VM))
    for at in range(3):
        assert database.rows(prepared, {}) == [(at,)]
        with database.work(SYSTEM) as work:
            inventory.add(work, NewVM(vm_name=f"vm-{at}"))
            assert database.rows(prepared, {}) == [(at,)]
