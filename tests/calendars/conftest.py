"""Calendar addresses of the named people, programs that subscribe to them, and VMs that expire."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import icalendar
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.conftest import Person, anonymous_client
from vmtrak import inventory
from vmtrak.accounts import calendar_feeds
from vmtrak.inventory import NewVM

AddVM = Callable[..., int]


def path(token: str) -> str:
    return f"/calendar/{token}.ics"


def made(person: Person, *, owned_only: bool = False) -> str:
    """Where the person's new calendar is."""
    with person.database.work(person.actor) as work:
        return path(calendar_feeds.make(work, owned_only=owned_only)[1])


def read(content: bytes) -> Any:
    """The calendar as the library reads it; what it holds has more types than a test can name."""
    return icalendar.Calendar.from_ical(content)


def names(client: TestClient, where: str) -> list[str]:
    """The VMs in the calendar, in its order."""
    answer = client.get(where)
    assert answer.status_code == 200, answer.text
    summaries = [str(e["summary"]) for e in read(answer.content).events]
    return [summary.removesuffix(" expires") for summary in summaries]


@pytest.fixture
def program(app: Starlette) -> TestClient:
    """A program that has subscribed: it knows addresses, and nothing of sessions."""
    return anonymous_client(app)


@pytest.fixture
def add_vm(admin: Person, today: date) -> AddVM:
    """Adds a VM that expires in so many days."""

    def add(name: str, days: int | None = 7, **fields: Any) -> int:
        expiry = None if days is None else today + timedelta(days=days)
        with admin.database.work(admin.actor) as work:
            vm = inventory.add(work, NewVM(vm_name=name, expiry_date=expiry, **fields))
        return vm.id

    return add
