"""Three workers and somebody who is impatient, all at the same moment: one message each."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from tests.conftest import Person
from tests.mail.server import PostOffice
from tests.notices.programs import copies, fill, once_each, until_all_is_out, worker
from tests.worker.peers import RedisServer, until
from vmtrak.channels import Channel
from vmtrak.channels.smtp import Mailer, MailServer
from vmtrak.db import Database
from vmtrak.notices import Delivery, NoticeRun, Rules, Schedule, Trigger, planning


@pytest.fixture
def queue_url(database_url: str, tmp_path: Path) -> Iterator[str]:
    """A file beside SQLite, Redis beside PostgreSQL."""
    if database_url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'queue.db'}"
        return
    server = RedisServer(tmp_path)
    server.start()
    yield server.url
    server.kill()


def test_three_workers_and_a_run_by_hand_tell_everybody_once(
    database: Database, database_url: str, queue_url: str, tmp_path: Path, admin: Person
) -> None:
    fill(database)
    with PostOffice() as office, ExitStack() as stack:
        server = MailServer("127.0.0.1", office.port, "vmtrak@vmtrak.example", helo="here.example")
        schedule = Schedule((7, 1, 0), time(0), ZoneInfo("UTC"))
        rules = Rules(schedule, "https://x.example", senders={Channel.MAIL: lambda: Mailer(server)})
        for number in range(3):
            folder = tmp_path / str(number)
            folder.mkdir()
            stack.enter_context(worker(folder, office, database_url, queue_url))
        until(lambda: begun(database))
        for _ in range(3):
            today = datetime.now(UTC).date()
            planning.run_now(database, rules, admin.actor, today, Trigger.PERSON)
            Delivery(database, rules).run(threading.Event())
        until_all_is_out(database)
        assert copies(office) == once_each()


def begun(database: Database) -> bool:
    with database.read() as session:
        return session.scalar(select(NoticeRun.id)) is not None
