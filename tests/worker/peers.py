"""A real Redis, workers within the tests' own process, and waiting for what they do."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import ConnectionPool, Redis
from redis.exceptions import RedisError
from sqlalchemy import text

from tests import services
from tests.conftest import SECRET_KEY
from vmtrak.db import Database
from vmtrak.worker import Worker

PATIENCE = 60


class RedisServer:
    """A Redis of the test's own, without a disk; it can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = services.free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.client = Redis(connection_pool=ConnectionPool.from_url(self.url))

    def start(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            name = "Redis"
            raise services.MissingProgramError(name)
        where = ["--bind", "127.0.0.1", "--port", str(self._port), "--dir", str(self._folder)]
        self._process = subprocess.Popen(
            [program, *where, "--save", "", "--appendonly", "no"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        until(self._answers)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self.client.close()


def until(fulfilled: Callable[[], object]) -> None:
    """Wait until it is so, and fail if that takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not fulfilled():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def working(database_url: str, queue_url: str, key: str = SECRET_KEY) -> Iterator[Worker]:
    """A worker with a database connection of its own, stopped in order at the end."""
    database = Database(database_url)
    worker = Worker(database, queue_url, key.encode())
    worker.start()
    try:
        yield worker
    finally:
        worker.finish(PATIENCE)
        worker.wait()
        database.close()


def done_at(database: Database, name: str = "purge") -> str | None:
    """When the job was done to its end last, as the database says it; None for never."""
    with database.read() as session:
        found = session.scalar(text("SELECT done_at FROM job_runs WHERE name = :n"), {"n": name})
    return None if found is None or str(found).startswith("1970") else str(found)
