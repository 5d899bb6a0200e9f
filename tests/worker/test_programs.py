"""`vmtrak serve`, with and without jobs, and `vmtrak worker`: started, stopped, killed."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.conftest import SECRET_KEY, Person
from tests.faults.running import PROGRAM, STOP_SECONDS, environment, serving
from tests.worker.peers import RedisServer, done_at, until
from vmtrak.db import Database

ROOT = Path(__file__).parents[2]

both_ways = pytest.mark.parametrize(
    ("database_url", "command"),
    [("sqlite", ("serve", "--port", "0")), ("postgresql", ("worker",))],
    indirect=["database_url"],
)


@contextmanager
def started(folder: Path, *command: str, **settings: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A program that runs until the end of the block; its log is in the folder."""
    process = subprocess.Popen(
        command,
        env=environment(folder, VMTRAK_SECRET_KEY=SECRET_KEY, **settings),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def log(folder: Path) -> str:
    return (folder / "logs" / "vmtrak.log").read_text()


def rows(database: Database, table: str) -> int:
    with database.read() as session:
        return int(session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)  # noqa: S608 - ours


def busy(*words: object) -> list[str]:
    return [sys.executable, "-m", "tests.worker.busy", *map(str, words)]


def test_the_worker_alone_does_the_jobs_and_stops_in_order(
    database: Database,
    database_url: str,
    queue_url: str,
    tmp_path: Path,
) -> None:
    where = {"VMTRAK_DATABASE_URL": database_url, "VMTRAK_QUEUE_URL": queue_url}
    with started(tmp_path, PROGRAM, "worker", **where) as process:
        until(lambda: done_at(database))
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0
    assert "the worker has stopped" in log(tmp_path)
    assert "Traceback" not in log(tmp_path)


def test_the_worker_makes_the_tables_where_there_are_none(tmp_path: Path) -> None:
    with started(tmp_path, PROGRAM, "worker") as process:
        until((tmp_path / "logs" / "vmtrak.log").exists)
        until(lambda: "the worker has started" in log(tmp_path))
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_SECONDS) == 0
    assert "migrated the database" in log(tmp_path)


def test_serving_does_the_jobs_too(database: Database, database_url: str, tmp_path: Path) -> None:
    with serving(tmp_path, VMTRAK_DATABASE_URL=database_url) as server:
        until(lambda: done_at(database))
        assert server.stop() == 0
    assert (tmp_path / "queue.db").stat().st_mode & 0o077 == 0
    assert "Traceback" not in server.errors


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_serving_without_the_worker_leaves_them(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    with serving(tmp_path, "--no-worker", VMTRAK_DATABASE_URL=database_url) as server:
        time.sleep(2)
        assert server.stop() == 0
    assert done_at(database) is None
    assert not (tmp_path / "queue.db").exists()


@both_ways
def test_stopped_it_lets_a_job_finish_within_the_grace(
    operator: Person,
    database: Database,
    database_url: str,
    tmp_path: Path,
    command: tuple[str, ...],
) -> None:
    assert operator.panel.get("/admin/").status_code == 200
    where = {"VMTRAK_DATABASE_URL": database_url}
    with started(tmp_path, *busy(tmp_path, 2, 7, *command), **where) as process:
        until((tmp_path / "begun").exists)
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0
    assert done_at(database)
    assert rows(database, "sessions") == 0


@both_ways
def test_a_job_that_takes_longer_is_cut_off_and_done_by_the_next_worker(
    operator: Person,
    database: Database,
    database_url: str,
    tmp_path: Path,
    command: tuple[str, ...],
) -> None:
    assert operator.panel.get("/admin/").status_code == 200
    where = {"VMTRAK_DATABASE_URL": database_url}
    with started(tmp_path, *busy(tmp_path, 60, 1, *command), **where) as process:
        until((tmp_path / "begun").exists)
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0
    assert done_at(database) is None
    assert rows(database, "sessions") == 1
    with started(tmp_path, PROGRAM, "worker", **where):
        until(lambda: done_at(database))


@pytest.mark.parametrize(
    ("database_url", "queue_url"), [("sqlite", "file"), ("postgresql", "redis")], indirect=True
)
def test_killed_in_the_middle_of_a_job_the_next_worker_does_it(
    operator: Person, database: Database, database_url: str, queue_url: str, tmp_path: Path
) -> None:
    assert operator.panel.get("/admin/").status_code == 200
    where = {"VMTRAK_DATABASE_URL": database_url, "VMTRAK_QUEUE_URL": queue_url}
    with started(tmp_path, *busy(tmp_path, 60, 7, "worker"), **where) as process:
        until((tmp_path / "begun").exists)
        process.kill()
        process.wait()
    assert done_at(database) is None
    assert rows(database, "sessions") == 1
    with started(tmp_path, PROGRAM, "worker", **where):
        until(lambda: done_at(database))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_without_redis_it_serves_and_does_the_jobs_once_redis_is_there(
    database: Database, database_url: str, tmp_path: Path, redis_server: RedisServer
) -> None:
    where = {"VMTRAK_DATABASE_URL": database_url, "VMTRAK_QUEUE_URL": redis_server.url}
    with serving(tmp_path, **where) as server, server.client() as client:
        until(lambda: "cannot put jobs into the queue" in server.errors)
        until(lambda: "cannot take jobs from the queue" in server.errors)
        assert done_at(database) is None
        redis_server.start()
        until(lambda: done_at(database))
        redis_server.kill()
        until(lambda: server.errors.count("cannot take jobs from the queue") == 2)
        assert client.get("/api/health").status_code == 200
        redis_server.start()
        until(lambda: server.errors.count("can take jobs from the queue again") == 2)
        redis_server.kill()
        assert server.stop() == 0
    assert "Traceback" not in server.errors
    assert len(server.errors.splitlines()) < 25
