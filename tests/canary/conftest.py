"""The program's own logs during a test, and a credential to go wrong with."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger
from starlette.applications import Starlette

from tests.canary.search import SHAPES
from tests.conftest import Person
from vmtrak import credentials, inventory, logs
from vmtrak.credentials import NewCredential
from vmtrak.db import Database
from vmtrak.fields import parse
from vmtrak.inventory import NewVM


@pytest.fixture
def log_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[Path]:
    """Where they are written to; what is for a terminal is in `capfd`."""
    caplog.set_level(logging.WARNING, "httpx2")  # it is the tests that ask
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure(tmp_path / "logs", json=False)
    yield tmp_path / "logs"
    logger.remove()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def kept(app: Starlette, database: Database, admin: Person) -> tuple[int, int]:
    """The numbers of a VM and of its credential, whose password is the plain canary."""
    with database.work(admin.actor) as work:
        vm = inventory.add(work, NewVM(vm_name="db1"))
        new = parse(NewCredential, {"username": "root", "password": SHAPES["plain"]})
        made = credentials.add(work, app.state.vmtrak.vault, vm.id, new)
    return vm.id, made.id
