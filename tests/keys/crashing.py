"""A program that seals anew again and again, killed each time some statements later.

`python -m tests.keys.crashing sqlite FOLDER` or `... postgresql URL` (the server's). After each
kill everything must open with the ring, and a second run must leave nothing to the old key. It
prints how many rows each killed run had left to the old key. Each run is a fork of this program,
which does what `vmtrak rekey` does; only its batches are smaller and it makes no pauses.
"""

import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from sqlalchemy import Engine, event

from tests import services
from tests.keys.stock import Stock, lay_in, left, opened, ring, setting
from tests.schema.crashing import Countdown, files, in_child, migrate
from vmtrak import cli, keys
from vmtrak.access import SYSTEM
from vmtrak.accounts import NewUser, users
from vmtrak.db import Database
from vmtrak.keys import rekeying

KILLS = 20

Fresh = Callable[[], AbstractContextManager[str]]


def rekey(url: str, folder: Path, kill_at: int) -> None:
    """Seal anew, to be killed before the statement of that number; never if it is 0.

    The statements of the batches count, and their number is written down at the end.
    """
    os.environ |= {
        "VMTRAK_DATABASE_URL": url,
        "VMTRAK_CREDENTIAL_KEYS": setting("new", "old"),
        "VMTRAK_DATA_DIR": str(folder),
        "VMTRAK_LOG_DIR": str(folder / "logs"),
    }
    rekeying.BATCH, rekeying.PAUSE = 8, 0
    countdown, real = Countdown(0), cli.keys._worked_off

    def counted(run: keys.Rekeying | keys.GivingUp, stop: threading.Event, label: str) -> int:
        countdown.left = kill_at
        done = real(run, stop, label)
        (folder / "statements").write_text(str(-countdown.left))
        return done

    def watch(connection: object, _record: object) -> None:
        if isinstance(connection, sqlite3.Connection):  # its trace shows COMMIT, too
            connection.set_trace_callback(countdown)

    cli.keys._worked_off = counted
    event.listen(Engine, "connect", watch, insert=True)
    if not url.startswith("sqlite"):
        event.listen(Engine, "before_cursor_execute", countdown)
        event.listen(Engine, "commit", countdown)
    cli.main(["rekey"], standalone_mode=False)


def prepare(url: str) -> Stock:
    migrate(url)
    database = Database(url)
    with database.work(SYSTEM) as work:
        for name in ("ada", "otto"):
            email = f"{name}@vmtrak.example"
            users.add(
                work, NewUser.model_validate({"username": name, "email": email, "role": "admin"})
            )
    database.close()
    return lay_in(url, 24)


def kill_and_complete(fresh: Fresh, folder: Path, number: int) -> int:
    """How many rows the killed run left to the old key."""
    with fresh() as url:
        stock = prepare(url)
        status = in_child(rekey, url, folder, number)
        assert status == -9 or number == 0, f"not killed at statement {number}"
        database = Database(url)
        rest = left(database)
        assert opened(database, ring("new", "old")) == stock, f"killed at {number}"
        assert in_child(rekey, url, folder, 0) == 0, f"no second run after {number}"
        assert left(database) == 0, f"not finished after {number}"
        assert opened(database, ring("new")) == stock, f"lost after {number}"
        database.close()
    return rest


def kill_everywhere(fresh: Fresh, folder: Path) -> list[int]:
    """Kill at points that are spread evenly over all statements of a run."""
    with fresh() as url:
        prepare(url)
        assert in_child(rekey, url, folder, 0) == 0
    statements = int((folder / "statements").read_text())
    assert statements > KILLS
    points = [1 + n * (statements - 1) // (KILLS - 1) for n in range(KILLS)]
    return [kill_and_complete(fresh, folder, point) for point in points]


if __name__ == "__main__":
    kind, where, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    sources: dict[str, Fresh] = {
        "sqlite": files(folder),
        "postgresql": partial(services.fresh_database, where),
    }
    rest = kill_everywhere(sources[kind], folder)
    sys.stdout.write(f"{' '.join(map(str, rest))}\n")
