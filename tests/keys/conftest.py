"""A database full of what an old key has sealed."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.keys.stock import Stock, lay_in
from vmtrak.db import Database
from vmtrak.keys import rekeying


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """`vmtrak rekey` listens for them, and these tests run it in their own process."""
    numbers = [signal.SIGTERM, signal.SIGINT] + ([signal.SIGHUP] if os.name == "posix" else [])
    kept = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, listener in kept.items():
        signal.signal(number, listener)


@pytest.fixture
def kept(database_url: str) -> Iterator[Database]:
    """The database that `database_url` names, as somebody from outside sees it."""
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def stock(database_url: str) -> Stock:
    """Sixty passwords and five second factors under the key "old"."""
    return lay_in(database_url, 30)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches and no pauses between them."""
    monkeypatch.setattr(rekeying, "BATCH", 7)
    monkeypatch.setattr(rekeying, "PEOPLE", 2)
    monkeypatch.setattr(rekeying, "PAUSE", 0)
