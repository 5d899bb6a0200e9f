"""VMTrak as a program: started, asked over HTTP, stopped or killed, always by its own number."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import TypeVar

import httpx2
from click.testing import CliRunner, Result

from tests import services
from tests.conftest import PEOPLE, SECRET_KEY
from vmtrak import logs
from vmtrak.accounts import actors, sessions, users
from vmtrak.accounts.access_tokens import SessionRules
from vmtrak.cli import main
from vmtrak.db import Database

R = TypeVar("R")

PROGRAM = str(Path(sys.executable).with_name("vmtrak"))
START_SECONDS = 60
STOP_SECONDS = 10


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """The test's environment with all of VMTrak's settings pointing into the folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VMTRAK_")}
    own = {"VMTRAK_DATA_DIR": str(folder), "VMTRAK_LOG_DIR": str(folder / "logs"), **settings}
    return {**kept, **own}


def run(
    folder: Path, *arguments: str, given: str = "", **settings: str
) -> "subprocess.CompletedProcess[str]":
    """Run one command to its end, in the folder."""
    return subprocess.run(
        [PROGRAM, *arguments],
        env=environment(folder, **settings),
        cwd=folder,
        input=given,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


def ask(folder: Path, *arguments: str, given: str = "", **settings: str) -> Result:
    """The same in the tests' own process, which is quicker, for what neither serves nor dies."""
    umask = os.umask(0)
    os.umask(umask)
    own = {"VMTRAK_DATA_DIR": str(folder), "VMTRAK_LOG_DIR": str(folder / "logs"), **settings}
    try:
        return CliRunner().invoke(main, arguments, env=own, input=given)
    finally:
        logs.configure(None)
        os.umask(umask)


class Server:
    """A running `vmtrak serve`; `output` and `errors` are what it has printed so far."""

    def __init__(
        self,
        folder: Path,
        port: int,
        *options: str,
        program: Sequence[str] = (PROGRAM,),
        **settings: str,
    ) -> None:
        self.port = port
        self.address = f"http://127.0.0.1:{port}"
        self._output = folder / f"output-{port}"
        with self._output.open("ab") as output, self._errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [*program, "serve", "--port", str(port), *options],
                env=environment(folder, **settings),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )

    @property
    def _errors(self) -> Path:
        return self._output.with_name(f"errors-{self.port}")

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def client(self, token: str | None = None) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        limits = httpx2.Limits(max_connections=64)
        return httpx2.Client(
            base_url=self.address, headers=headers, timeout=START_SECONDS, limits=limits
        )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self.process.poll() is None, self.errors
            assert time.monotonic() < deadline, self.errors
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return httpx2.get(f"{self.address}/api/health", timeout=5).status_code == 200
        except httpx2.TransportError:
            return False

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and give the exit status, which must come in time."""
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextmanager
def serving(
    folder: Path, *options: str, program: Sequence[str] = (PROGRAM,), **settings: str
) -> Iterator[Server]:
    """A server that answers; it is killed at the end unless it was stopped before."""
    server = Server(folder, services.free_port(), *options, program=program, **settings)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.end()


def access_token(url: str, person: str = "operator") -> str:
    """An access token of one of the named people, for servers that know the tests' secret key."""
    database = Database(url)
    rules = SessionRules.of(SECRET_KEY.encode(), 15, 7)
    with database.work(actors.visitor("127.0.0.1", None)) as work:
        user = users.named(work.session, str(PEOPLE[person]["username"]))
        assert user is not None
        tokens = sessions.sign_in_api(work, user.id, rules, "tests")
    database.close()
    return tokens.access


def at_once(number: int, call: Callable[[int], R]) -> list[R]:
    """Call with 0, 1, … in as many threads, which all start at the same moment."""
    barrier = Barrier(number)

    def waiting(index: int) -> R:
        barrier.wait(START_SECONDS)
        return call(index)

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(waiting, range(number)))
