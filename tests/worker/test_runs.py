"""A job is done once, however many workers there are, and whatever went wrong the time before."""

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.conftest import Later
from tests.faults.running import at_once
from tests.worker.peers import done_at, until, working
from vmtrak import db, jobs, worker
from vmtrak.access import SYSTEM
from vmtrak.db import Database, Work
from vmtrak.worker import Job, perform

HOUR = timedelta(hours=1)

Arrange = Callable[..., None]


@pytest.fixture
def arrange(monkeypatch: pytest.MonkeyPatch) -> Arrange:
    """Has workers do these steps, under the names of their functions, instead of the real jobs."""

    def arranged(*steps: Callable[[Work], bool]) -> None:
        made = tuple(Job(step.__name__, HOUR, step) for step in steps)
        monkeypatch.setattr(worker, "JOBS", made)

    return arranged


@pytest.mark.usefixtures("quick")
def test_two_workers_at_once_do_it_once(
    database: Database, database_url: str, queue_url: str, arrange: Arrange
) -> None:
    runs = []

    def step(work: Work) -> bool:
        runs.append(threading.get_ident())
        time.sleep(0.5)
        return False

    arrange(step)
    with working(database_url, queue_url), working(database_url, queue_url):
        until(lambda: done_at(database, "step"))
        time.sleep(2.5)  # ticks that find nothing to do
    assert len(runs) == 1


def test_of_many_that_claim_it_at_the_same_moment_one_gets_it(database_url: str) -> None:
    runs = []

    def step(work: Work) -> bool:
        runs.append(work)
        return False

    job = Job("step", HOUR, step)
    with ExitStack() as stack:
        many = [stack.enter_context(closing(Database(database_url))) for _ in range(8)]
        at_once(8, lambda index: perform(many[index], job, threading.Event()))
    assert len(runs) == 1


@pytest.mark.usefixtures("quick")
def test_a_run_that_fails_is_undone_and_logged_whole_and_the_others_go_on(
    database: Database, database_url: str, queue_url: str, arrange: Arrange, told: list[str]
) -> None:
    attempts = []

    def stumbling(work: Work) -> bool:
        attempts.append(work)
        work.session.execute(text("DELETE FROM users"))
        raise RuntimeError(f"attempt {len(attempts)}")

    def steady(work: Work) -> bool:
        return False

    arrange(stumbling, steady)
    with working(database_url, queue_url):
        until(lambda: len(attempts) >= 2)
        until(lambda: done_at(database, "steady"))
    whole = "".join(told)
    assert "the job stumbling failed" in whole
    assert "Traceback" in whole
    assert "RuntimeError: attempt 1" in whole
    assert "RuntimeError: attempt 2" in whole
    assert done_at(database, "stumbling") is None
    with database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM users"))


@pytest.mark.usefixtures("quick")
def test_a_thread_that_a_job_brings_down_is_replaced(
    database: Database,
    database_url: str,
    queue_url: str,
    arrange: Arrange,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts = []

    def step(work: Work) -> bool:
        attempts.append(work)
        if len(attempts) == 1:
            raise SystemExit
        return False

    monkeypatch.setattr(worker, "HEALTH", 0.2)
    arrange(step)
    with working(database_url, queue_url):
        until(lambda: done_at(database, "step"))
    assert len(attempts) == 2


@pytest.mark.usefixtures("quick")
def test_a_job_that_failed_is_done_at_a_later_tick(
    database: Database, database_url: str, queue_url: str, arrange: Arrange
) -> None:
    attempts = []

    def step(work: Work) -> bool:
        attempts.append(work)
        if len(attempts) == 1:
            raise RuntimeError("not today")
        return False

    arrange(step)
    with working(database_url, queue_url):
        until(lambda: done_at(database, "step"))
    assert len(attempts) == 2


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_busy_database_is_tried_again(
    database_url: str,
    tmp_path: Path,
    arrange: Arrange,
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(db, "BUSY_TIMEOUT", 100)
    arrange(_nothing)
    database = Database(database_url)
    queue_url = f"sqlite:///{tmp_path / 'queue.db'}"
    with closing(sqlite3.connect(tmp_path / "inventory.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with working(database_url, queue_url):
            until(lambda: any("failed" in line and "Unavailable" in line for line in told))
            assert done_at(database, "_nothing") is None
            other.execute("ROLLBACK")
            until(lambda: done_at(database, "_nothing"))
    database.close()


def _nothing(_work: Work) -> bool:
    return False


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_connection_that_breaks_off_is_tried_again(
    database: Database, database_url: str, tmp_path: Path, arrange: Arrange, told: list[str]
) -> None:
    attempts = []

    def step(work: Work) -> bool:
        attempts.append(work)
        if len(attempts) == 1:
            work.session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return False

    arrange(step)
    with working(database_url, f"sqlite:///{tmp_path / 'queue.db'}"):
        until(lambda: done_at(database, "step"))
    assert len(attempts) == 2
    assert any("the job step failed" in line for line in told)


def test_a_clock_that_was_years_ahead_does_not_stop_a_job(database: Database, later: Later) -> None:
    runs: list[Work] = []

    def step(work: Work) -> bool:
        runs.append(work)
        return False

    job, going_on = Job("step", HOUR, step), threading.Event()
    later(10 * 365 * 86_400)
    perform(database, job, going_on)
    later(-10 * 365 * 86_400)
    perform(database, job, going_on)
    assert len(runs) == 2
    later(-60)  # another machine's clock, a little behind
    perform(database, job, going_on)
    assert len(runs) == 2


def test_told_to_stop_it_leaves_the_rest_for_the_next_run(database: Database) -> None:
    runs: list[Work] = []
    stopping = threading.Event()

    def step(work: Work) -> bool:
        runs.append(work)
        stopping.set()
        return True

    perform(database, Job("step", HOUR, step), stopping)
    assert len(runs) == 1
    with database.work(SYSTEM) as work:
        assert jobs.claim(work, "step", HOUR) is not None
