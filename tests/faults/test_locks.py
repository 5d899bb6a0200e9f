"""Somebody else holds SQLite's write lock, or the disk is full: reads go on, writes say so."""

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.conftest import SECRET_KEY, Person, anonymous_client
from tests.faults.running import access_token, serving
from vmtrak import db
from vmtrak.db import Database

WRITERS = 4
HELD_SECONDS = 3
READS = ("/api/health", "/api/vms", "/api/vms/1", "/api/dashboard/stats", "/api/hypervisors")

sqlite_only = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
postgresql_only = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@contextmanager
def write_lock(file: Path) -> Iterator[None]:
    """Hold the lock as a backup or a person with the sqlite3 shell would."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


@sqlite_only
def test_a_foreign_lock_delays_writes_but_no_reads_and_loses_nothing(
    database_url: str, tmp_path: Path
) -> None:
    token = access_token(database_url)
    with (
        serving(tmp_path, VMTRAK_SECRET_KEY=SECRET_KEY) as server,
        server.client(token) as client,
        ThreadPoolExecutor(WRITERS) as threads,
    ):
        assert client.post("/api/vms", json={"vm_name": "before"}).status_code == 201
        with write_lock(tmp_path / "inventory.db"):
            released = time.monotonic() + HELD_SECONDS
            writes = [
                threads.submit(client.post, "/api/vms", json={"vm_name": f"during-{index}"})
                for index in range(WRITERS)
            ]
            rounds = 0
            while time.monotonic() < released:
                codes = {path: client.get(path).status_code for path in READS}
                assert set(codes.values()) == {200}, codes
                rounds += 1
                time.sleep(0.1)
            assert [write.done() for write in writes] == [False] * WRITERS
        assert rounds > 0
        assert [write.result().status_code for write in writes] == [201] * WRITERS
        assert client.get("/api/vms").json()["total"] == WRITERS + 1


def events(database: Database) -> list[tuple[str, str | None]]:
    with database.engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT action, entity_name FROM audit_events")
        return [(row.action, row.entity_name) for row in found]


def assert_unavailable(client: TestClient, **fields: str) -> None:
    refused = client.post("/api/vms", json=fields)
    assert refused.status_code == 503, refused.text
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert set(refused.json()) == {"type", "title", "status", "detail", "error", "request_id"}
    for inner in ("sqlite", "locked", "full", "INSERT", "/"):
        assert inner not in refused.json()["detail"]


@sqlite_only
def test_a_lock_held_too_long_is_answered_with_try_again_and_nothing_half_written(
    monkeypatch: pytest.MonkeyPatch, operator: Person, database: Database, tmp_path: Path
) -> None:
    client = operator.api
    before = events(database)
    database.engine.dispose()
    monkeypatch.setattr(db, "BUSY_TIMEOUT", 50)
    with write_lock(tmp_path / "inventory.db"):
        assert_unavailable(client, vm_name="too-late")
        assert client.get("/api/vms").json()["total"] == 0
    assert events(database) == before
    assert client.post("/api/vms", json={"vm_name": "too-late"}).status_code == 201


@sqlite_only
def test_a_panel_form_met_by_a_lock_says_so_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, operator: Person, database: Database, tmp_path: Path
) -> None:
    panel = operator.panel
    before = events(database)
    database.engine.dispose()
    monkeypatch.setattr(db, "BUSY_TIMEOUT", 50)
    form = {"vm_name": "web-01", "status": "active", "power_state": "on"}
    with write_lock(tmp_path / "inventory.db"):
        refused = panel.post("/admin/vm/create", data=form)
    assert refused.status_code == 503
    assert refused.headers["Retry-After"]
    assert "busy" in refused.text
    assert events(database) == before


@sqlite_only
def test_a_full_disk_is_answered_with_unavailable_and_reads_go_on(
    operator: Person, database: Database
) -> None:
    client = operator.api
    assert client.post("/api/vms", json={"vm_name": "fits"}).status_code == 201
    before = events(database)
    with database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    database.engine.dispose()

    with full_at(database, pages):
        assert_unavailable(client, vm_name="does not", notes="x" * 4096)
        assert client.get("/api/vms").json()["total"] == 1
        assert events(database) == before
    assert client.post("/api/vms", json={"vm_name": "fits now"}).status_code == 201


@contextmanager
def full_at(database: Database, pages: int) -> Iterator[None]:
    """Let SQLite meet a full disk: no page more than there are."""

    def limit(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    event.listen(database.engine, "connect", limit)
    try:
        yield
    finally:
        event.remove(database.engine, "connect", limit)
        database.engine.dispose()


@postgresql_only
def test_a_server_that_dropped_its_connections_is_found_again(
    operator: Person, database: Database
) -> None:
    client = operator.api
    assert client.get("/api/vms").status_code == 200
    with database.engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert client.get("/api/vms").status_code == 200
    assert client.post("/api/vms", json={"vm_name": "after"}).status_code == 201


@postgresql_only
def test_a_server_that_is_gone_is_unavailable_at_every_door(
    app: Starlette, operator: Person, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, panel, anybody = operator.api, operator.panel, anonymous_client(app)
    database.engine.dispose()
    gone = database.engine.dialect.create_connect_args(database.url.set(port=1))
    monkeypatch.setattr(database.engine.dialect, "connect", refusing(database, dict(gone[1])))
    for path in READS:
        answer = (anybody if path.endswith("health") else client).get(path)
        assert answer.status_code == 503, (path, answer.text)
        assert "127.0.0.1" not in answer.text
    assert_unavailable(client, vm_name="nowhere")
    assert panel.get("/admin/vm/list").status_code == 503
    monkeypatch.undo()
    assert client.get("/api/vms").status_code == 200


def refusing(database: Database, arguments: dict[str, object]) -> object:
    connect = type(database.engine.dialect).connect.__get__(database.engine.dialect)
    return lambda *_args, **_options: connect(**arguments)
