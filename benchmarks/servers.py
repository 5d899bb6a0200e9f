"""The servers that are measured: VMTrak itself, and the bare answer beside it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import inventory
from vmtrak.accounts.access_tokens import SessionRules
from vmtrak.db import Database

KEY = "benchmarks sign with this key, nobody else does"
HOST = "127.0.0.1"


def bearer(database: Database) -> str:
    """An access token that outlives the benchmark."""
    return inventory.token(database, SessionRules.of(KEY.encode(), 600, 7))


def environment(url: str, folder: Path) -> dict[str, str]:
    return {
        "VMTRAK_DATABASE_URL": url,
        "VMTRAK_DATA_DIR": str(folder),
        "VMTRAK_LOG_DIR": str(folder / "logs"),
        "VMTRAK_SECRET_KEY": KEY,
        "VMTRAK_ACCESS_TOKEN_MINUTES": "600",
    }


def bare(port: int) -> list[str]:
    log = ["--no-access-log", "--log-level", "error"]
    return [sys.executable, "-m", "uvicorn", "benchmarks.bare:app", "--port", str(port), *log]


def vmtrak(port: int) -> list[str]:
    return [sys.executable, "-m", "vmtrak", "serve", "--port", str(port)]


@contextlib.contextmanager
def running(
    command: Callable[[int], list[str]], settings: dict[str, str]
) -> Iterator[tuple[int, int]]:
    """Its port and the number of its process."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        command(port),
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await(port, server)
        yield port, server.pid
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def _await(port: int, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        if server.poll() is not None:
            sys.exit(f"benchmarks: a server ended at once with {server.returncode}")
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        time.sleep(0.05)
    sys.exit("benchmarks: a server did not start")
