"""Door: the job queue. Each task is one unit of work, or several where there is much to do.

The queue only says "now"; what is due, and that it is done once however many workers there are,
the database knows (`jobs.py`). So nothing is lost when the queue is away, a task is killed, or no
worker runs for a while: the next tick does it. Tasks carry ids, never secrets.
"""

import hashlib
import hmac
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

from huey.api import Huey
from huey.api import Task as Queued
from huey.consumer import Consumer, Scheduler
from huey.registry import Message
from huey.serializer import Serializer
from huey.storage import RedisStorage, SqliteStorage
from loguru import logger
from redis.exceptions import RedisError
from sqlalchemy import make_url

from vmtrak import jobs
from vmtrak.access import SYSTEM
from vmtrak.accounts import purge
from vmtrak.db import Database, Work, now
from vmtrak.notices import retention

TICK = 30
"""Seconds between two looks at what is due."""

THREADS = 2
"""Jobs at the same time: a mail server that answers slowly must not hold up the others."""

PAUSE = 0.1
"""Seconds between the units of work of one job, in which others get SQLite's write lock."""

LATENCY = 0.5
"""Seconds after which an idle worker asks the queue again, at most."""

HEALTH = 10
"""Seconds between two looks whether the worker's threads live."""

_TROUBLE = (RedisError, sqlite3.Error)
_SIGNATURE = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class Job:
    """`step` is one unit of work; it returns True if it left something for another one."""

    name: str
    every: timedelta
    step: Callable[[Work], bool]


def _purge(work: Work) -> bool:
    gone = {**purge.purge(work), **retention.purge(work)}
    if not any(gone.values()):
        return False
    work.after_commit(lambda: logger.bind(**gone).info("purged what had expired"))
    return True


JOBS = (Job("purge", timedelta(hours=1), _purge),)


Task: TypeAlias = Callable[[threading.Event], object]
"""Work that knows by itself what is due; it ends soon once the event is set."""


def attempt(name: str, task: Task, stopping: threading.Event) -> None:
    """Do the task. A failure is logged whole and left to the next tick."""
    try:
        task(stopping)
    except Exception:  # noqa: BLE001 - one job's bug must stop neither the others nor its next run
        logger.exception("the job {} failed; it is tried again within {} seconds", name, TICK)


def perform(database: Database, job: Job, stopping: threading.Event) -> None:
    """Do the job if it is due, step by step."""
    while _step(database, job) and not stopping.wait(PAUSE):
        pass


def _step(database: Database, job: Job) -> bool:
    with database.read() as session:
        if not jobs.is_due(session, job.name, job.every, now()):
            return False
    with database.work(SYSTEM) as work:
        run = jobs.claim(work, job.name, job.every)
        if run is None:
            return False
        more = job.step(work)
        if not more:
            run.done_at = work.moment
    return more


class Worker:
    """One consumer with its threads, beside the web server or alone."""

    def __init__(
        self,
        database: Database,
        queue_url: str,
        secret_key: bytes,
        tasks: Mapping[str, Task] = MappingProxyType({}),
    ) -> None:
        self._queue = _queue(queue_url, secret_key)
        self._consumer = _Consumer(self._queue, workers=THREADS, max_delay=LATENCY)
        self._stopping: threading.Event = self._consumer.stop_flag
        self._deadline = 0.0
        for job in JOBS:
            self._add(job.name, partial(perform, database, job))
        for name, task in tasks.items():
            self._add(name, task)
        self._watch = threading.Thread(target=self._replace_dead, name="worker", daemon=True)

    def _add(self, name: str, task: Task) -> None:
        def job() -> None:
            attempt(name, task, self._stopping)

        self._queue.periodic_task(_at_every_tick, name=name)(job)

    def start(self) -> None:
        self._consumer.start()
        self._watch.start()
        logger.info("the worker has started")

    def _replace_dead(self) -> None:
        """Start a thread again that a job has brought down."""
        while not self._stopping.wait(HEALTH):
            self._consumer.check_worker_health()

    def finish(self, patience: float) -> None:
        """Begin nothing new; what runs has `patience` seconds to end. Returns at once."""
        if not self._stopping.is_set():
            self._deadline = time.monotonic() + patience
            self._stopping.set()

    def wait(self) -> None:
        """Wait for the end of what runs, no longer than `finish` allowed."""
        self._watch.join()
        self._consumer.shutdown_timeout = max(self._deadline - time.monotonic(), 0)
        self._consumer.stop(graceful=True)
        self._queue.storage.close()
        logger.info("the worker has stopped")


def _at_every_tick(_moment: datetime) -> bool:
    return True


def fault(queue_url: str) -> str | None:
    """Why the queue cannot be used, if so; makes the file of one that is not there."""
    queue = _queue(queue_url, b"")
    try:
        queue.pending_count()
    except _TROUBLE as error:
        return str(error)
    finally:
        queue.storage.close()
    return None


# What Huey does not do by itself


class _Contact:
    """Says once that the queue does not work, and once that it does again."""

    def __init__(self, purpose: str) -> None:
        self._purpose = purpose
        self._lock = threading.Lock()
        self.lost = False

    @contextmanager
    def tried(self) -> Iterator[None]:
        try:
            yield
        except _TROUBLE as error:
            with self._lock:
                first, self.lost = not self.lost, True
            if first:
                logger.warning("cannot {}, trying again and again: {}", self._purpose, error)
        else:
            with self._lock:
                again, self.lost = self.lost, False
            if again:
                logger.info("can {} again", self._purpose)


class _Queue(Huey):
    """A queue that may be away: whoever asks it in vain asks again."""

    def __init__(self, name: str, **options: Any) -> None:  # noqa: ANN401 - as Huey's
        super().__init__(name, **options)
        self._taking = _Contact("take jobs from the queue")

    def dequeue(self) -> Queued | None:
        data = None
        with self._taking.tried():
            data = self.storage.dequeue()
        if data is None:
            return None
        try:
            task: Queued = self.deserialize_task(data)
        except _ForeignError:
            logger.warning("dropped from the queue what this installation did not put there")
            return None
        return task

    def read_schedule(self, _moment: datetime | None = None) -> list[Queued]:
        """Nothing waits for its time in the queue: the database knows what is due when."""
        return []


class _Clock(Scheduler):
    """Puts every job into the queue at each tick, and a second later where that failed."""

    periodic_task_seconds = TICK

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - as Huey's
        super().__init__(**options)
        self._putting = _Contact("put jobs into the queue")

    def enqueue_periodic_tasks(self, now: datetime | None) -> None:
        with self._putting.tried():
            for task in self.huey.read_periodic(now):
                self.huey.enqueue(task)
        if self._putting.lost:
            self._next_periodic = time.monotonic()


class _Consumer(Consumer):
    scheduler_class: type[Scheduler] = _Clock

    def _set_signal_handlers(self) -> None:
        """Leave signals to the command: only its main thread may listen for them."""


class _ForeignError(Exception):
    """Somebody else put this into the queue."""


class _Signed(Serializer):
    """JSON under a signature: no pickle, so who writes to the queue cannot have code run here."""

    def __init__(self, key: bytes) -> None:
        super().__init__()
        self._key = key

    def _serialize(self, message: Message) -> bytes:
        body = json.dumps(message._asdict()).encode()
        return self._signature(body) + body

    def _deserialize(self, data: object) -> Message:
        if not isinstance(data, bytes):  # a SQLite column holds what was put there
            raise _ForeignError
        signature, body = data[:_SIGNATURE], data[_SIGNATURE:]
        if not hmac.compare_digest(signature, self._signature(body)):
            raise _ForeignError
        return Message(**json.loads(body))

    def _signature(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")


class _Redis(RedisStorage):
    def close(self) -> None:
        self.pool.disconnect()


class _File(SqliteStorage):
    """Makes its tables on connecting, so that a file that cannot be opened now may be later."""

    def _create_connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = super()._create_connection()
        for statement in self.ddl:
            connection.execute(statement)
        return connection


def _queue(url: str, secret_key: bytes) -> _Queue:
    # A key for this alone: what it signs is good nowhere else, and the other way round.
    key = hmac.digest(secret_key, b"vmtrak: signs what is in the queue", "sha256")
    storage: dict[str, Any]
    if url.startswith("sqlite"):
        file = make_url(url).database
        storage = {"storage_class": _File, "filename": file, "create_tables": False}
    else:  # not blocking: a wait within Redis would hold up the end
        storage = {"storage_class": _Redis, "url": url, "blocking": False}
    # Installations with other keys that share a Redis leave each other's jobs alone.
    name = "vmtrak" + hmac.digest(key, b"name", "sha256").hex()[:8]
    return _Queue(name, serializer=_Signed(key), results=False, **storage)
