"""A running VMTrak that was given canary passwords: they are nowhere but in the reveals' answers.

One run for each database: everything is done with the passwords over both doors, tables break,
one of two processes is killed in the middle, the other crashes. Then all that is left is searched.
"""

import resource
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psycopg
import pytest

from tests import services
from tests.canaries import DISTINCT
from tests.canary import traffic
from tests.canary.search import SHAPES, content, holds_canary, leaks
from tests.canary.traffic import ACCOUNT, Answer, Visitor
from tests.conftest import CANARY, SECRET_KEY
from tests.faults.running import Server, serving
from tests.worker.peers import RedisServer

ROTATED_AT = 10_000_000
"""Bytes at which a log is put away and compressed."""

ENOUGH = 20
"""Passwords set by several at once before the process is killed."""

BROKEN = ("audit_events", "credential_passwords", "credential_reveals")


@dataclass
class Run:
    """What is left of it, all in one folder, and what was answered."""

    folder: Path
    url: str
    answers: list[Answer] = field(default_factory=list)
    told: list[dict[str, list[str]]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    processes: list[bytes] = field(default_factory=list)

    def settings(self, queue: str | None) -> dict[str, str]:
        chosen = {
            "VMTRAK_DATABASE_URL": self.url,
            "VMTRAK_SECRET_KEY": SECRET_KEY,
            "VMTRAK_ACCESS_TOKEN_MINUTES": "60",
            "VMTRAK_REVEALS_PER_HOUR": "120",
            "PYTHONFAULTHANDLER": "1",
        }
        return chosen | ({"VMTRAK_QUEUE_URL": queue} if queue else {})

    @contextmanager
    def visit(self, server: Server, person: str = "admin") -> Iterator[Visitor]:
        with closing(Visitor(server, self.url, person, self.answers)) as visitor:
            yield visitor

    def look_into(self, server: Server) -> None:
        """What any process of the same account can read of that one."""
        where = Path(f"/proc/{server.process.pid}")
        self.processes += [(where / name).read_bytes() for name in ("cmdline", "environ")]


def lived_through(run: Run, queue: str | None = None) -> Run:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))  # what crashes leaves no file behind
    try:
        _live(run, queue)
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    return run


def _live(run: Run, queue: str | None) -> None:
    _fill_logs(run.folder / "logs")
    strict = {"VMTRAK_REVEAL_REASON": "required", "VMTRAK_REVEAL_STEP_UP": "all"}
    settings = run.settings(queue)
    with serving(run.folder, "--no-worker", **settings, **strict) as other:
        with serving(run.folder, **settings) as server:
            vm, made = _work(run, server)
            with run.visit(other, "operator") as visitor:
                visitor.ask("POST", f"/api/vms/{vm}/credentials/{made['plain']}/reveal")
                traffic.change_all(visitor, vm, made)
                traffic.err_over_rest(visitor, vm, made["plain"])
            _break(run, server, vm, made["plain"])
            run.look_into(server)
            run.look_into(other)
            _kill(run, server, vm, made["lines"])
        with serving(run.folder, **settings) as server, run.visit(server) as visitor:
            traffic.remove_some(visitor, vm, made)
            vm = traffic.add_vm(visitor, "canary-3")
            run.told.append(traffic.reveal_all(visitor, vm, traffic.add_all(visitor, vm)))
            _purge(visitor)
            _copy(run)
            assert server.stop() == 0
        other.stop(signal.SIGABRT)


def _fill_logs(folder: Path) -> None:
    """Nearly full logs: what is written first ends up in a compressed file."""
    folder.mkdir(mode=0o700)
    for name in ("vmtrak.log", "audit.log"):
        (folder / name).write_bytes(b"{}\n" * (ROTATED_AT // 3 - 5_000))


def _work(run: Run, server: Server) -> tuple[int, dict[str, int]]:
    with run.visit(server) as admin:
        vm = traffic.add_vm(admin, "canary-1")
        made = traffic.add_all(admin, vm)
        run.told.append(traffic.reveal_all(admin, vm, made))
        traffic.change_all(admin, vm, made)
        traffic.err_over_rest(admin, vm, made["plain"])
        traffic.err_over_forms(admin, vm, made["plain"])
        traffic.read_all(admin, vm, made)
    for person in ("operator", "auditor", "reader"):
        with run.visit(server, person) as visitor:
            traffic.read_all(visitor, vm, made)
            traffic.fail(visitor, vm, made["plain"])
            _reveal_too_often(visitor, vm, made["plain"])
    return vm, made


def _reveal_too_often(visitor: Visitor, vm: int, number: int) -> None:
    """Until it is refused, be it at once."""
    address = f"/api/vms/{vm}/credentials/{number}/reveal"
    while visitor.ask("POST", address).status_code == 200:
        pass


def _break(run: Run, server: Server, vm: int, number: int) -> None:
    """Take away one table after the other below the running server."""
    with run.visit(server) as visitor:
        for table in BROKEN:
            _rename(run.url, table, "gone")
            run.statuses += traffic.fail(visitor, vm, number)
            _rename(run.url, "gone", table)


def _rename(url: str, name: str, new_name: str) -> None:
    statement = f"ALTER TABLE {name} RENAME TO {new_name}"
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30)) as connection:
            connection.execute("PRAGMA legacy_alter_table=ON")  # triggers and keys keep the name
            connection.execute(statement)
            connection.commit()
    else:
        with psycopg.connect(services.conninfo(url), autocommit=True) as connection:
            connection.execute(statement.encode())


def _kill(run: Run, server: Server, vm: int, number: int) -> None:
    """Kill the process while several set passwords, and keep its files as they are then."""
    done = threading.Semaphore(0)

    def set_passwords(offset: int) -> None:
        with run.visit(server) as visitor, suppress(httpx2.TransportError):
            for turn in range(10_000):
                secret = [*SHAPES.values()][(turn + offset) % len(SHAPES)]
                path = f"/api/vms/{vm}/credentials/{number}"
                visitor.ask("PUT", path, json={"password": secret})
                done.release()

    threads = [threading.Thread(target=set_passwords, args=(turn,)) for turn in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(ENOUGH):
        assert done.acquire(timeout=60)
    server.end()
    for thread in threads:
        thread.join()
    killed = run.folder / "killed"
    killed.mkdir()
    for path in run.folder.glob("*.db*"):
        shutil.copy(path, killed)


def _purge(visitor: Visitor) -> None:
    """A VM with credentials of its own goes for good."""
    vm = traffic.add_vm(visitor, "canary-2")
    fields = {"username": ACCOUNT, "password": SHAPES["plain"]}
    assert visitor.ask("POST", f"/api/vms/{vm}/credentials", json=fields).status_code == 201
    assert visitor.ask("DELETE", f"/api/vms/{vm}").status_code == 200
    assert visitor.ask("POST", f"/api/vms/{vm}/purge").status_code == 200


def _copy(run: Run) -> None:
    """Copies as people make them while the server runs."""
    if run.url.startswith("sqlite"):
        source = run.url.removeprefix("sqlite:///")
        with (
            closing(sqlite3.connect(source)) as database,
            closing(sqlite3.connect(run.folder / "backup.db")) as copy,
        ):
            database.backup(copy)
            (run.folder / "dump.sql").write_text("\n".join(database.iterdump()))
    else:
        program = str(services.postgres_programs() / "pg_dump")
        command = [program, "--inserts", "--dbname", services.conninfo(run.url)]
        with (run.folder / "dump.sql").open("wb") as file:
            subprocess.run(command, stdout=file, check=True)


@pytest.fixture(scope="module")
def on_sqlite(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("canary")
    shutil.copy(sqlite_template, folder / "inventory.db")
    return lived_through(Run(folder, f"sqlite:///{folder / 'inventory.db'}"))


@pytest.fixture(scope="module")
def on_postgresql(
    postgres: str, postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """With Redis for its queue."""
    folder = tmp_path_factory.mktemp("canary")
    redis = RedisServer(folder)
    redis.start()
    redis.client.config_set("appendonly", "yes")  # it writes down each command in the folder
    with services.fresh_database(postgres, postgres_template) as url:
        yield lived_through(Run(folder, url), redis.url)
    redis.kill()


@pytest.fixture(params=["sqlite", "postgresql"])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.getfixturevalue(f"on_{request.param}")
    return found


def test_no_file_holds_a_password(run: Run) -> None:
    assert leaks(run.folder) == []


def test_no_answer_but_a_reveals_holds_a_password(run: Run) -> None:
    assert [answer.asked for answer in run.answers if answer.leaks] == []


def test_no_process_shows_a_password_from_outside(run: Run) -> None:
    assert len(run.processes) == 4
    assert not holds_canary(b"".join(run.processes))
    assert b"serve" in run.processes[0]


def test_the_server_of_the_database_has_none(on_postgresql: Run, postgres: str) -> None:
    """Neither its tables nor its write-ahead log nor its own log."""
    with psycopg.connect(services.conninfo(f"{postgres}/postgres"), autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    folder = Path(row[0])
    files = [*folder.glob("base/*/*"), *folder.glob("pg_wal/*"), folder.parent / "log"]
    data = {path: path.read_bytes() for path in files if path.is_file()}
    assert on_postgresql.answers
    assert any(ACCOUNT.encode() in read for read in data.values())
    assert [path.name for path, read in data.items() if CANARY.encode() in read] == []


def test_everything_came_about_that_the_search_is_for(run: Run) -> None:
    counted = Counter(answer.status for answer in run.answers)
    wanted = {200, 201, 303, 400, 401, 403, 404, 405, 409, 412, 413, 415, 422, 429, 500}
    assert wanted - counted.keys() == set()
    assert Counter(run.statuses)[500] > 3 * len(SHAPES)
    for told in run.told:
        assert told == {shape: [SHAPES[shape]] * 5 for shape in told}
    assert all(len(set(secret)) >= DISTINCT for secret in SHAPES.values())
    assert all(path.stat().st_size for path in run.folder.glob("*.sql"))


def test_the_search_has_read_what_was_kept(run: Run) -> None:
    kept = {path.name: content(path) for path in run.folder.rglob("*") if path.is_file()}
    assert ACCOUNT.encode() in kept["dump.sql"]
    assert b"v1." in kept["dump.sql"]
    crashed = [data for name, data in kept.items() if name.startswith("errors-")]
    assert any(b"Fatal Python error: Aborted" in data for data in crashed)
    packed = {name.partition(".")[0]: data for name, data in kept.items() if name.endswith(".gz")}
    assert b"credential.create" in packed["audit"]
    assert b"Traceback" in packed["vmtrak"]
    if run.url.startswith("sqlite"):
        assert {"inventory.db", "inventory.db-wal", "backup.db", "queue.db"} <= kept.keys()
        assert ACCOUNT.encode() in kept["backup.db"]
    else:
        assert any(b"huey" in data for name, data in kept.items() if name.endswith(".aof"))
