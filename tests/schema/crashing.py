"""A program that migrates again and again, killed each time some statements later.

`python -m tests.schema.crashing sqlite FOLDER` or `... postgresql URL` (the server's). After each
kill a second start must complete the work, and the outcome must be that of a start that nobody
disturbed. It prints how many kills that were. Each start is a fork, since importing is slow.
"""

import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event, text

from tests import services
from vmtrak import schema
from vmtrak.db import Database

STEP = 4

Fresh = Callable[[], AbstractContextManager[str]]

_PG_SHAPE = """
SELECT 'column', table_name || '.' || column_name, data_type || is_nullable
  FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint
  WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'trigger', tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'function', proname, prosrc FROM pg_proc
  WHERE pronamespace = 'public'::regnamespace AND prolang <> 13
UNION ALL SELECT 'extension', extname, extversion FROM pg_extension
"""
_SQLITE_SHAPE = "SELECT type, name, sql FROM sqlite_master"


def shape(url: str) -> list[tuple[Any, ...]]:
    """Everything that the schema of a database consists of, and its revision."""
    engine = create_engine(url)
    query = _SQLITE_SHAPE if engine.dialect.name == "sqlite" else _PG_SHAPE
    with engine.connect() as connection:
        found = sorted(tuple(map(str, row)) for row in connection.execute(text(query)))
        versions = connection.execute(text("SELECT version_num FROM alembic_version"))
        found += [tuple(row) for row in versions]
    engine.dispose()
    return found


class Countdown:
    """Kills this process when it is asked for the n-th time."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self, *_: object, **__: object) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def migrate_until(url: str, kill_at: int) -> None:
    """Migrate, to be killed before the statement of that number; after the last one if it is 0."""
    database, countdown = Database(url), Countdown(kill_at)

    def watch(connection: sqlite3.Connection, _record: object) -> None:
        connection.set_trace_callback(countdown)

    if database.sqlite:  # its trace shows the settings and COMMIT as well
        event.listen(database.engine, "connect", watch, insert=True)
    else:
        event.listen(database.engine, "before_cursor_execute", countdown)
        event.listen(database.engine, "commit", countdown)
    schema.migrate(database)
    countdown()
    database.close()


def migrate(url: str) -> None:
    database = Database(url)
    schema.migrate(database)
    database.close()


def in_child(call: Callable[..., None], *arguments: object) -> int:
    """Run in a process of its own; gives its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            call(*arguments)
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_and_complete(fresh: Fresh, number: int, undisturbed: list[tuple[Any, ...]]) -> bool:
    """Whether there was a statement of that number to be killed at."""
    with fresh() as url:
        if in_child(migrate_until, url, number) == 0:
            return False
        assert in_child(migrate, url) == 0, f"no start after a kill at statement {number}"
        assert shape(url) == undisturbed, f"killed at statement {number}"
    return True


def kill_everywhere(fresh: Fresh) -> int:
    """Kill at every fourth statement and at each of the last; returns the number of kills."""
    with fresh() as url:
        assert in_child(migrate, url) == 0
        undisturbed = shape(url)
    assert len(undisturbed) > 50
    number = kills = 1
    while kill_and_complete(fresh, number, undisturbed):
        number, kills = number + STEP, kills + 1
    return kills + sum(
        kill_and_complete(fresh, last, undisturbed) for last in range(number - STEP + 1, number)
    )


def files(folder: Path) -> Fresh:
    @contextmanager
    def fresh() -> Iterator[str]:
        file = folder / "inventory.db"
        try:
            yield f"sqlite:///{file}"
        finally:
            for part in folder.glob("inventory.db*"):
                part.unlink()

    return fresh


if __name__ == "__main__":
    kind, where = sys.argv[1:]
    sources: dict[str, Fresh] = {
        "sqlite": files(Path(where)),
        "postgresql": lambda: services.fresh_database(where),
    }
    sys.stdout.write(f"{kill_everywhere(sources[kind])}\n")
