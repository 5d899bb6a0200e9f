"""Measure the expiry notices: `python -m benchmarks.notices`.

5,000 VMs are due in tables of growing size. Once each has one of 300 owners, once 300 people have
subscribed to all of them. A process of its own plans the run and delivers it to an SMTP server on
this machine. The reference is what SQLite takes to write as many rows in as many commits.
"""

import argparse
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from loguru import logger
from sqlalchemy import bindparam, delete, update

from benchmarks import inventory
from tests.mail.server import PostOffice
from tests.services import fresh_database, postgres_server
from vmtrak.access import SYSTEM, Role
from vmtrak.accounts import NewUser, User, users
from vmtrak.channels import Channel
from vmtrak.channels.smtp import Mailer, MailServer
from vmtrak.db import Database
from vmtrak.inventory import VM, Status
from vmtrak.notices import (
    Delivery,
    Message,
    NoticeRun,
    NotificationLog,
    Rules,
    Schedule,
    Trigger,
    planning,
)

DUE = 5_000
PEOPLE = 300
ZONE = ZoneInfo("UTC")
FAR = date(2099, 1, 1)


_VMS = VM.metadata.tables[VM.__tablename__]
_MADE_DUE = update(_VMS).where(_VMS.c.id == bindparam("number"))


def main() -> None:
    options = _options()
    logger.remove()
    if options.run:
        _run(options.run, options.smtp)
        return
    heads = ("VMs", "told", "planning", "of bare rows", "delivery", "connections", "peak MB")
    print(f"\n| {' | '.join(heads)} |")
    print("|---|---|---|---|---|---|---|")
    for size in options.sizes:
        with _database(options, size) as url:
            for case in ("owners", "subscribers"):
                _measure(url, size, case)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.notices", description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--postgresql", action="store_true", help="on a throw-away PostgreSQL")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--smtp", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


@contextmanager
def _database(options: argparse.Namespace, size: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        if options.postgresql:
            with postgres_server() as server, fresh_database(server) as url:
                _fill(url, size)
                yield url
        else:
            url = f"sqlite:///{folder}/inventory.db"
            _fill(url, size)
            yield url


def _fill(url: str, size: int) -> None:
    """All VMs expire far away, but for those that are due today, tomorrow and in a week."""
    database = Database(url)
    inventory.make(database, size)
    chance, today = random.Random(7), datetime.now(UTC).date()
    far = update(VM).values(expiry_date=FAR, expiry_key=FAR)
    changes = []
    for number in chance.sample(range(1, size + 1), DUE):
        day = today + timedelta(days=chance.choice((0, 1, 7)))
        owner = f"person{number % PEOPLE:03}@vmtrak.example"
        owned = {"owner": owner, "owner_key": owner, "status": Status.ACTIVE.value}
        changes.append({"number": number, "expiry_date": day, "expiry_key": day, **owned})
    with database.work(SYSTEM) as work:
        work.session.execute(far, execution_options={"audited": True})
        work.session.connection().execute(_MADE_DUE, changes)
        for person in range(PEOPLE):
            name = f"person{person:03}"
            given = {"username": name, "email": f"{name}@vmtrak.example", "role": Role.AUDITOR}
            users.add(work, NewUser.model_validate(given))
    database.close()


def _measure(url: str, size: int, case: str) -> None:
    database = Database(url)
    people = update(User).where(User.username != "bench")
    subscribed = people.values(notify_expiry=case == "subscribers")
    with database.work(SYSTEM) as work:
        work.session.execute(subscribed, execution_options={"audited": True})
        for model in (NotificationLog, Message, NoticeRun):
            work.session.execute(delete(model))
    database.close()
    with PostOffice() as office:
        command = [sys.executable, "-m", "benchmarks.notices", "--run", url]
        done = subprocess.run(
            [*command, "--smtp", str(office.port)], check=True, stdout=subprocess.PIPE, text=True
        )
        told: dict[str, Any] = json.loads(done.stdout)
        assert len(office.received) == told["messages"] == PEOPLE
        connections = office.connections
    rows = DUE if case == "owners" else DUE * PEOPLE
    bare = _bare(rows)
    print(
        f"| {size:,} | {case} | {told['planning']:.1f} s | {told['planning'] / bare:.1f} "
        f"| {told['delivery']:.1f} s | {connections} | {told['peak']:.0f} |",
        flush=True,
    )


def _run(url: str, port: int) -> None:
    """Plan today's run and deliver it, in a process of its own; tells of it as JSON."""
    database = Database(url)
    server = MailServer("127.0.0.1", port, "VMTrak <vmtrak@vmtrak.example>", security="none")
    schedule = Schedule((7, 1, 0), clock_time(0), ZONE)
    mailer = partial(Mailer, server)
    rules = Rules(schedule, "https://vmtrak.example", senders={Channel.MAIL: mailer})
    memory = _Memory()
    start = time.perf_counter()
    today = datetime.now(ZONE).date()
    plan = planning.run_now(database, rules, SYSTEM, today, Trigger.COMMAND)
    planned = time.perf_counter()
    Delivery(database, rules).run(threading.Event(), wait=True)
    told = {
        "messages": plan.messages,
        "planning": planned - start,
        "delivery": time.perf_counter() - planned,
        "peak": memory.peak() / 1024,
    }
    database.close()
    print(json.dumps(told))


class _Memory:
    """Watches the process's own memory; SQLite's mapped file is not part of it."""

    def __init__(self) -> None:
        self._most = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self._look()

    def _look(self) -> None:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        (line,) = (line for line in status.splitlines() if line.startswith("RssAnon:"))
        self._most = max(self._most, int(line.split()[1]))

    def peak(self) -> int:
        """The most so far, in kB."""
        self._ended.set()
        self._thread.join()
        self._look()
        return self._most


def _bare(rows: int) -> float:
    """Seconds in which SQLite writes so many rows of the log in a commit for each person."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)) as bare,
    ):
        for statement in _BARE:
            bare.execute(statement)
        start = time.perf_counter()
        for person in range(PEOPLE):
            bare.execute("BEGIN IMMEDIATE")
            whom = (f"user:{person}", person)
            values = ((n, "7d", "2026-11-30", *whom) for n in range(rows // PEOPLE))
            bare.executemany("INSERT INTO log (a, b, c, d, e) VALUES (?, ?, ?, ?, ?)", values)
            bare.execute("COMMIT")
        return time.perf_counter() - start


_BARE = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "CREATE TABLE log (id INTEGER PRIMARY KEY, a, b, c, d, e)",
    "CREATE UNIQUE INDEX one ON log (d, c, a, b)",
    "CREATE INDEX two ON log (a)",
    "CREATE INDEX three ON log (e)",
    "CREATE INDEX four ON log (c)",
)
"""A table with the indexes of `notification_log`."""


if __name__ == "__main__":
    main()
