"""Eight clients that sign in in a loop: how many get in, and what everybody else notices."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vmtrak.access import SYSTEM, Role
from vmtrak.accounts import NewUser, passwords, users
from vmtrak.db import Database

CLIENTS = 8
THREADS = 2
"""Passwords that the product checks at once."""

PASSWORD = "measure twice cut once"  # noqa: S105 - of clients that exist only here


@dataclass
class Door:
    """Where a sign-in goes, as wrk's script sends it."""

    name: str
    path: str
    kind: str
    body: str

    def script(self, folder: Path) -> Path:
        path = folder / f"{self.name}.lua"
        path.write_text(
            "counter = 0\n"
            "request = function()\n"
            f"  counter = counter % {CLIENTS} + 1\n"
            "  local headers = wrk.headers\n"
            f'  headers["Content-Type"] = "{self.kind}"\n'
            '  headers["Sec-Fetch-Site"] = "same-origin"\n'
            f"  return wrk.format(\"POST\", nil, headers, string.format('{self.body}', counter))\n"
            "end\n"
        )
        return path


DOORS = (
    Door(
        "REST",
        "/api/auth/login",
        "application/json",
        f'{{"username":"client-%d","password":"{PASSWORD}"}}',
    ),
    Door(
        "panel",
        "/admin/login",
        "application/x-www-form-urlencoded",
        f"username=client-%d&password={PASSWORD.replace(' ', '%%20')}",
    ),
)


def add_clients(database: Database) -> None:
    with database.work(SYSTEM) as work:
        for number in range(1, CLIENTS + 1):
            given = {
                "username": f"client-{number}",
                "email": f"client-{number}@vmtrak.example",
                "role": Role.READ,
                "password": PASSWORD,
            }
            if users.named(work.session, given["username"]) is None:
                users.add(work, NewUser.model_validate(given)).must_change_password = False


def checks_per_second(seconds: float) -> float:
    """Right passwords checked in as many threads as the product has for it, and nothing else."""
    password_hash = passwords.hashed(PASSWORD)
    end = time.monotonic() + seconds

    def check(_thread: int) -> int:
        done = 0
        while time.monotonic() < end:
            passwords.matches(PASSWORD, password_hash)
            done += 1
        return done

    with ThreadPoolExecutor(THREADS) as threads:
        return sum(threads.map(check, range(THREADS))) / seconds


@contextmanager
def timed(gets: dict[str, Callable[[], object]]) -> Iterator[dict[str, list[float]]]:
    """The milliseconds that these take meanwhile, each again and again."""
    found: dict[str, list[float]] = {name: [] for name in gets}
    stop = threading.Event()

    def repeat(name: str) -> None:
        while not stop.is_set():
            started = time.perf_counter()
            gets[name]()
            found[name].append((time.perf_counter() - started) * 1_000)
            time.sleep(0.02)

    threads = [threading.Thread(target=repeat, args=(name,)) for name in gets]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def described(milliseconds: list[float]) -> str:
    found = sorted(milliseconds)
    middle, high = statistics.median(found), found[int(len(found) * 0.99)]
    return f"{middle:.1f}, {high:.1f}, {found[-1]:.1f}"
