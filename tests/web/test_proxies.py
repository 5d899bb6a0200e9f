"""Whose word counts about where a request came from: a real server behind a real socket."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import select

from tests import services
from tests.conftest import SECRET_KEY
from vmtrak.audit import AuditEvent
from vmtrak.db import Database

SERVE = "from vmtrak.cli import main; main()"

Recorded = Callable[[str | None], str | None]


def wait(server: "subprocess.Popen[bytes]", address: str) -> None:
    deadline = time.monotonic() + services.START_SECONDS
    while True:
        try:
            httpx2.get(f"{address}/api/health").raise_for_status()
        except httpx2.TransportError:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


@contextmanager
def served(folder: Path, trusted: str) -> Iterator[str]:
    """`vmtrak serve` that believes those proxies."""
    port = services.free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("VMTRAK_")},
        "VMTRAK_DATA_DIR": str(folder),
        "VMTRAK_LOG_DIR": str(folder / "logs"),
        "VMTRAK_SECRET_KEY": SECRET_KEY,
        "VMTRAK_TRUSTED_PROXIES": trusted,
    }
    command = [sys.executable, "-c", SERVE, "serve", "--port", str(port)]
    with (folder / "output").open("wb") as output:
        server = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=output, stderr=output
        )
    try:
        wait(server, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(services.STOP_SECONDS)


def recorder(folder: Path, address: str) -> Recorded:
    """Sends a sign-in that fails and tells which address the trail has for it."""

    def record(forwarded: str | None) -> str | None:
        headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
        body = {"username": "nobody", "password": "x"}
        answer = httpx2.post(f"{address}/api/auth/login", json=body, headers=headers)
        assert answer.status_code == 401
        assert "server" not in answer.headers
        database = Database(f"sqlite:///{folder / 'inventory.db'}")
        newest = select(AuditEvent.ip_address).order_by(AuditEvent.id.desc()).limit(1)
        with database.read() as session:
            found = session.scalar(newest)
        database.engine.dispose()
        return found

    return record


@pytest.fixture
def folder(sqlite_template: Path, tmp_path: Path) -> Path:
    shutil.copy(sqlite_template, tmp_path / "inventory.db")
    return tmp_path


def test_a_trusted_proxy_says_where_a_request_came_from(folder: Path) -> None:
    with served(folder, "127.0.0.1") as address:
        recorded = recorder(folder, address)
        assert recorded(None) == "127.0.0.1"
        assert recorded("203.0.113.9") == "203.0.113.9"
        assert recorded("198.51.100.1, 203.0.113.9") == "203.0.113.9"
        assert recorded("203.0.113.9, 127.0.0.1") == "203.0.113.9"
        assert recorded("2001:db8::7") == "2001:db8::7"
        assert recorded("x" * 5_000) is None
        assert recorded("<script>x") is None


def test_nobody_else_says_where_a_request_came_from(folder: Path) -> None:
    with served(folder, "10.0.0.0/8") as address:
        recorded = recorder(folder, address)
        assert recorded("203.0.113.9") == "127.0.0.1"
        assert recorded("10.0.0.1, 203.0.113.9") == "127.0.0.1"
