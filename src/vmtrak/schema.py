"""The database's schema: migrated at start, once, whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from loguru import logger
from sqlalchemy import Connection, MetaData, NullPool, create_engine, inspect, text

from vmtrak import (  # noqa: F401 - each brings its tables
    accounts,
    alerts,
    audit,
    credentials,
    inventory,
    jobs,
    keys,
    notices,
)
from vmtrak.db import BUSY_TIMEOUT, Base, Database

PATIENCE = 600_000
"""Milliseconds to wait for another process that is migrating."""

_ADVISORY_KEY = 0x564D5472
"""Names the lock under which PostgreSQL lets one process migrate ("VMTr")."""


class SchemaError(Exception):
    """The database cannot be used by this version; it was not touched."""


def metadata() -> MetaData:
    """The tables of all models."""
    return Base.metadata


def belongs_to_models(_item: Any, name: str | None, kind: str, *_: Any) -> bool:  # noqa: ANN401 - Alembic's hook
    """Leave out what triggers and the search index keep beside the models' tables."""
    if kind == "table":
        return not (name or "").startswith(("vm_search", "vm_tally"))
    return name not in {"ix_vms_search", "ix_vm_tally"}


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration: the scripts ship in the package, or stand beside its source."""
    shipped = Path(__file__).parent / "migrations"
    beside = Path(__file__).parents[2] / "alembic"
    made = Config()
    made.set_main_option("script_location", str(shipped if shipped.is_dir() else beside))
    made.attributes["connection"] = connection
    return made


def head() -> str:
    """The newest revision that this version knows."""
    return str(ScriptDirectory.from_config(config()).get_current_head())


def known() -> set[str]:
    """Every revision that this version knows."""
    return {script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()}


def current(database: Database) -> str | None:
    """The revision that the database is at; None if it is empty."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def obstacle(database: Database) -> str | None:
    """Why VMTrak cannot work on this database, if so; looks without changing anything."""
    if database.sqlite:
        closed = closed_to_us(Path(str(database.url.database)))
        if closed is not None:
            return f"{closed} cannot be written to by this user."
    if _foreign(database):
        return "The database holds tables of another program; give VMTrak an empty one."
    return None


def closed_to_us(file: Path) -> Path | None:
    """What SQLite has to write to and cannot, such as files of a start by another account."""
    parts = (
        file.parent,
        file,
        file.with_name(f"{file.name}-wal"),
        file.with_name(f"{file.name}-shm"),
    )
    return next((part for part in parts if part.exists() and not os.access(part, os.W_OK)), None)


def _foreign(database: Database) -> bool:
    """Whether the tables are another program's.

    A SQLite file is looked at through a plain connection: ours would change its journal mode.
    """
    plain = create_engine(database.url, poolclass=NullPool) if database.sqlite else database.engine
    tables = inspect(plain).get_table_names()
    return bool(tables) and "alembic_version" not in tables


def migrate(database: Database) -> bool:
    """Bring the database to this version's schema; True if anything had to be done.

    All steps are one transaction, under a lock that other processes wait for: killed at any
    point it leaves the schema as it was. Raises `SchemaError` for a database from a newer version,
    of another program, or that cannot be written to.
    """
    found_obstacle = obstacle(database)
    if found_obstacle:
        raise SchemaError(f"{found_obstacle} Nothing was changed.")
    with _locked(database) as connection:
        found = MigrationContext.configure(connection).get_current_revision()
        newest = head()
        if found == newest:
            return False
        _refuse_newer(found, newest)
        command.upgrade(config(connection), "head")
    logger.info("migrated the database from revision {} to {}", found, newest)
    return True


def _refuse_newer(found: str | None, newest: str) -> None:
    if found is not None and found not in known():
        message = (
            f"The database is at revision {found}, which a newer VMTrak made; "
            f"this one knows up to {newest}. Nothing was changed."
        )
        raise SchemaError(message)


@contextmanager
def _locked(database: Database) -> Iterator[Connection]:
    engine = database.engine.execution_options(vmtrak_writes=True)
    with engine.connect() as connection:
        if database.sqlite:
            driver = connection.connection.dbapi_connection
            assert driver is not None  # noqa: S101 - an open connection has one
            _pragma(driver, f"busy_timeout={PATIENCE}")
            # Rebuilding a table would otherwise delete the rows that refer to it.
            _pragma(driver, "foreign_keys=OFF")
            try:
                with connection.begin():
                    yield connection
                    _refuse_broken_references(connection)
            finally:
                _pragma(driver, "foreign_keys=ON")
                _pragma(driver, f"busy_timeout={BUSY_TIMEOUT}")
        else:
            with connection.begin():
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_KEY}
                )
                yield connection


def _pragma(driver: Any, pragma: str) -> None:  # noqa: ANN401 - the driver's own connection
    driver.execute(f"PRAGMA {pragma}")


def _refuse_broken_references(connection: Connection) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        message = f"The migration would leave {len(broken)} broken references; nothing was changed."
        raise SchemaError(message)
