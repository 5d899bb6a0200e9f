"""Real workers with real mail: what they are told, and waiting until they are through."""

import sys
from collections import Counter
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import Popen

from sqlalchemy import select

from tests.mail.server import PostOffice
from tests.worker.peers import until
from tests.worker.test_programs import started
from vmtrak import inventory
from vmtrak.access import SYSTEM
from vmtrak.db import Database
from vmtrak.inventory import NewVM
from vmtrak.notices import Message, NoticeRun

PEOPLE = [f"person{number}@elsewhere.example" for number in range(4)]


def fill(database: Database) -> None:
    """Two VMs for each of the people, which expire within a week."""
    expiry = datetime.now(UTC).date() + timedelta(days=4)
    with database.work(SYSTEM) as work:
        for number, owner in enumerate(PEOPLE * 2):
            new = {"vm_name": f"vm{number}", "owner": owner, "expiry_date": expiry}
            inventory.add(work, NewVM.model_validate(new))


def worker(
    folder: Path, office: PostOffice, database_url: str, queue_url: str, point: str = "never"
) -> AbstractContextManager["Popen[bytes]"]:
    """A worker whose run of the day is due as soon as it looks."""
    settings = {
        "VMTRAK_DATABASE_URL": database_url,
        "VMTRAK_QUEUE_URL": queue_url,
        "VMTRAK_NOTICE_TIME": "00:00",
        "TZ": "UTC",
        "VMTRAK_SMTP_HOST": "127.0.0.1",
        "VMTRAK_SMTP_PORT": str(office.port),
        "VMTRAK_SMTP_FROM": "vmtrak@vmtrak.example",
        "VMTRAK_SMTP_HELO": "vmtrak.example",
    }
    command = [sys.executable, "-m", "tests.notices.hasty", point, "worker"]
    return started(folder, *command, **settings)


def until_all_is_out(database: Database) -> None:
    """Wait until the run of the day is finished and nothing waits to be sent."""
    until(lambda: _through(database))


def _through(database: Database) -> bool:
    with database.read() as session:
        daily = session.scalar(select(NoticeRun).where(NoticeRun.scheduled_for.is_not(None)))
        states = set(session.scalars(select(Message.state)))
    return daily is not None and daily.finished_at is not None and states == {"sent"}


def copies(office: PostOffice) -> Counter[tuple[str, ...]]:
    """How often each was mailed to."""
    return Counter(mail.recipients for mail in office.received)


def once_each() -> Counter[tuple[str, ...]]:
    return Counter({(address,): 1 for address in PEOPLE})
