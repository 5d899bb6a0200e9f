"""Who can write to the queue cannot have anything run."""

import json
import os
import pickle
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from huey.registry import Message
from huey.serializer import SignedSerializer
from redis import ConnectionPool, Redis
from sqlalchemy import make_url

from tests.conftest import SECRET_KEY
from tests.worker.peers import done_at, until, working
from vmtrak import worker
from vmtrak.db import Database, Work
from vmtrak.worker import Job

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@dataclass
class Bomb:
    """Makes a file when it is unpickled."""

    mark: str

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (self.mark,))


def task(name: str) -> Message:
    fields: dict[str, Any] = {"id": "1", "name": f"vmtrak.worker.{name}"}
    return Message(**fields)


def put(queue_url: str, data: bytes | str) -> None:
    """Write past VMTrak to where its tasks wait."""
    name = worker._queue(queue_url, SECRET_KEY.encode()).name
    if queue_url.startswith("sqlite"):
        with closing(sqlite3.connect(str(make_url(queue_url).database))) as file:
            file.execute("INSERT INTO task (queue, data) VALUES (?, ?)", (name, data))
            file.commit()
    else:
        client = Redis(connection_pool=ConnectionPool.from_url(queue_url))
        client.lpush(f"huey.redis.{name}", data)
        client.close()


def waiting(queue_url: str) -> int:
    queue = worker._queue(queue_url, SECRET_KEY.encode())
    number = queue.pending_count()
    queue.storage.close()
    return int(number)


def test_a_pickle_in_the_queue_is_not_opened(
    database: Database,
    database_url: str,
    queue_url: str,
    tmp_path: Path,
    told: list[str],
) -> None:
    mark = tmp_path / "ran"
    bomb = Bomb(str(mark))
    pickle.loads(pickle.dumps(Bomb(str(tmp_path / "works"))))  # noqa: S301 - our own
    assert (tmp_path / "works").exists()
    assert waiting(queue_url) == 0
    for data in (
        pickle.dumps(bomb),
        SignedSerializer(secret=SECRET_KEY).serialize(bomb),
        worker._Signed(SECRET_KEY.encode())._signature(pickle.dumps(bomb)) + pickle.dumps(bomb),
        b"",
        b"\x00" * 100,
        "text",
    ):
        put(queue_url, data)
    with working(database_url, queue_url):
        until(lambda: done_at(database))
        until(lambda: not waiting(queue_url))
    assert not mark.exists()
    assert sum("this installation did not put there" in line for line in told) == 6


def test_only_what_this_installation_signed_is_run(
    database: Database, database_url: str, queue_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []

    def bell(work: Work) -> bool:
        runs.append(work)
        return False

    # Not at its own time: only who puts it into the queue has it run.
    monkeypatch.setattr(worker, "_at_every_tick", lambda _moment: False)
    monkeypatch.setattr(worker, "JOBS", (Job("bell", worker.JOBS[0].every, bell),))
    ours = worker._queue(queue_url, SECRET_KEY.encode()).serializer.serialize(task("bell"))
    theirs = worker._queue(queue_url, b"x" * 32).serializer.serialize(task("bell"))
    assert waiting(queue_url) == 0
    unsigned = json.dumps(task("bell")._asdict()).encode()
    for data in (theirs, unsigned, ours.replace(b'"1"', b'"2"'), ours[:-1], ours + b" "):
        put(queue_url, data)
    with working(database_url, queue_url):
        until(lambda: not waiting(queue_url))
        assert runs == []
        put(queue_url, ours)
        until(lambda: done_at(database, "bell"))
    assert len(runs) == 1


def test_two_installations_on_one_redis_leave_each_others_jobs_alone(
    database: Database, database_url: str, queue_url: str, told: list[str]
) -> None:
    with (
        working(database_url, queue_url),
        working(database_url, queue_url, key="another installation's key, as long as that"),
    ):
        until(lambda: done_at(database))
    assert [line for line in told if line.startswith(("WARNING", "ERROR"))] == []
