"""Real peers for the tests: PostgreSQL, Chromium, and a network that ends at this machine."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from unittest.mock import patch

import psycopg
from playwright.sync_api import Browser, sync_playwright
from psycopg import sql

START_SECONDS = 30
STOP_SECONDS = 10

UNSAFE_BUT_QUICK = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "log_min_messages": "fatal",
}

CHROMIUM_FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--no-first-run",
    "--no-sandbox",  # it refuses to start as root otherwise
]


class MissingProgramError(Exception):
    """A program the tests stand on is not installed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not installed; `nox -s services` installs it")


class NotLoopbackError(Exception):
    """A test tried to reach another machine."""


def postgres_programs() -> Path:
    """Folder of the newest PostgreSQL that Debian's packages have installed."""
    versions = [file.parent for file in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not versions:
        name = "PostgreSQL"
        raise MissingProgramError(name)
    return max(versions, key=lambda folder: float(folder.parent.name))


def unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root; anybody else keeps their own account."""
    return "nobody" if os.geteuid() == 0 else None


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def initialise(programs: Path, folder: Path, user: str | None) -> None:
    # C.UTF-8 sorts by code point and still knows the case of every letter.
    options = ["--auth=trust", "--username=vmtrak", "--encoding=UTF8", "--locale=C.UTF-8"]
    command = [str(programs / "initdb"), "--no-sync", "--pgdata", str(folder / "data"), *options]
    result = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=folder, user=user
    )
    assert result.returncode == 0, result.stderr


def start(programs: Path, folder: Path, port: int, user: str | None) -> "subprocess.Popen[bytes]":
    options = [f"--{name.replace('_', '-')}={value}" for name, value in UNSAFE_BUT_QUICK.items()]
    where = ["-D", str(folder / "data"), "-k", str(folder), "-h", "127.0.0.1", "-p", str(port)]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [programs / "postgres", *where, *options], stdout=log, stderr=log, cwd=folder, user=user
        )


def wait_until_ready(server: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(conninfo(f"{url}/postgres")).close()
        except psycopg.OperationalError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return


def stop(server: "subprocess.Popen[bytes]") -> None:
    # SIGINT ends the sessions that are still open; SIGTERM would wait for them.
    server.send_signal(signal.SIGINT)
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _quickest() -> str | None:
    """A folder in memory where there is one: every test makes a database of its own."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder with a random name is made in it
    return str(memory) if os.access(memory, os.W_OK) else None


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a throw-away PostgreSQL and give its URL without a database's name."""
    programs, user, port = postgres_programs(), unprivileged_user(), free_port()
    with tempfile.TemporaryDirectory(prefix="vmtrak-pg-", dir=_quickest()) as name:
        folder = Path(name)
        if user:
            shutil.chown(folder, user)
        initialise(programs, folder, user)
        url = f"postgresql+psycopg://vmtrak@127.0.0.1:{port}"
        server = start(programs, folder, port, user)
        try:
            wait_until_ready(server, url, folder / "log")
            yield url
        finally:
            stop(server)


def conninfo(url: str) -> str:
    """SQLAlchemy's address of a database as psycopg itself takes it."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def administer(server_url: str, statement: sql.Composed) -> None:
    with psycopg.connect(conninfo(f"{server_url}/postgres"), autocommit=True) as connection:
        connection.execute(statement)


@contextmanager
def fresh_database(server_url: str, template: str = "template1") -> Iterator[str]:
    """Create a database, give its URL, and drop it.

    `template` names a database to copy (one with the schema, say); nobody may be connected to it.
    """
    name = f"test_{secrets.token_hex(8)}"
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
    administer(server_url, create.format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield f"{server_url}/{name}"
    finally:
        drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
        administer(server_url, drop.format(sql.Identifier(name)))


@contextmanager
def chromium_browser() -> Iterator[Browser]:
    """Run Chromium, which finds no host but this one.

    While it runs, its thread has a running event loop: keep fixtures of it narrower than the
    session, or tests that start a loop of their own fail.
    """
    program = shutil.which("chromium")
    if program is None:
        name = "Chromium"
        raise MissingProgramError(name)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def is_loopback(address: object) -> bool:
    """Whether a socket's address stays here: a path, localhost, or a loopback number."""
    if not isinstance(address, tuple):
        return True
    host = str(address[0])
    try:
        number = ip_address(host)
    except ValueError:
        return host == "localhost"
    if isinstance(number, IPv6Address):
        # The loopback interface has link-local addresses too; its number is the scope.
        here = number.is_link_local and address[3:] == (socket.if_nametoindex("lo"),)
        return here or (number.ipv4_mapped or number).is_loopback
    return number.is_loopback


def loopback_only() -> Iterator[None]:
    """Refuse connections to other machines; to be registered as an automatic fixture.

    The refusal is no OSError on purpose: VMTrak would take one for a host that is down.
    """
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded(self: socket.socket, address: object) -> None:
        refuse_strangers(address)
        connect(self, address)  # type: ignore[arg-type]  # typeshed's alias is private

    def guarded_ex(self: socket.socket, address: object) -> int:
        refuse_strangers(address)
        return connect_ex(self, address)  # type: ignore[arg-type]  # the same

    with (
        patch.object(socket.socket, "connect", guarded),
        patch.object(socket.socket, "connect_ex", guarded_ex),
    ):
        yield


def refuse_strangers(address: object) -> None:
    if not is_loopback(address):
        message = f"a test tried to reach {address!r}"
        raise NotLoopbackError(message)
