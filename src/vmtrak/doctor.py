"""What `vmtrak doctor` looks at: each finding is well, or says what to mend."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from vmtrak import schema
from vmtrak.accounts import users
from vmtrak.db import Database
from vmtrak.settings import Settings, SettingsError


@dataclass(frozen=True, slots=True)
class Finding:
    subject: str
    well: bool
    words: str


def examine(settings: Settings) -> list[Finding]:
    """Look at everything that exists so far. Nothing is made or changed but what a start would make."""
    return [
        Finding("settings", True, "read and understood"),
        *_unused(settings),
        _folder("data folder", settings.data_dir),
        _folder("log folder", settings.log_dir),
        _key(settings),
        _cookies(settings),
        *_database(settings),
    ]


def _unused(settings: Settings) -> Iterator[Finding]:
    for name in settings.unused():
        yield Finding("settings", True, f"{name} is set, but this version does nothing with it yet")


def _folder(subject: str, path: Path) -> Finding:
    if not path.exists():
        return _missing(subject, path)
    if not path.is_dir():
        return Finding(subject, False, f"{path} is not a folder")
    if not os.access(path, os.W_OK | os.X_OK):
        return Finding(subject, False, f"{path} cannot be written to by this user")
    return Finding(subject, True, str(path))


def _missing(subject: str, path: Path) -> Finding:
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        return Finding(subject, True, f"{path} will be made at the first start")
    return Finding(subject, False, f"{path} cannot be made: {above} is no folder to write to")


def _key(settings: Settings) -> Finding:
    if settings.secret_key is not None:
        return Finding("secret key", True, "given by the settings")
    path = settings.data_dir / "secret-key"
    if not path.exists():
        return Finding("secret key", True, "will be made at the first start")
    try:
        settings.signing_key()
    except SettingsError as error:
        return Finding("secret key", False, str(error))
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        return Finding("secret key", False, f"others can read {path}; chmod 600 mends that")
    return Finding("secret key", True, str(path))


def _cookies(settings: Settings) -> Finding:
    local = "//127.0.0.1" in settings.base_url or "//localhost" in settings.base_url
    if settings.secure_cookies or local or "//[::1]" in settings.base_url:
        return Finding("address", True, settings.base_url)
    words = f"{settings.base_url} is not https: passwords and cookies travel in the open"
    return Finding("address", False, words)


def _database(settings: Settings) -> Iterator[Finding]:
    shown = "SQLite" if settings.database_url.startswith("sqlite") else "PostgreSQL"
    file = settings.data_dir / "inventory.db"
    if shown == "SQLite" and not settings.data_dir.exists():
        yield Finding("database", True, f"{file} will be made at the first start")
        return
    database = Database(settings.database_url)
    try:
        if schema.foreign(database):
            yield Finding("database", False, f"{shown}: {schema.FOREIGN}")
            return
        found, newest = schema.current(database), schema.head()
        if found is None:
            yield Finding("database", True, f"{shown}, empty; the first start makes the tables")
            return
        yield _revision(shown, found, newest)
        if found == newest:
            yield _people(database)
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        yield Finding("database", False, f"{shown} does not answer: {reason}")
    finally:
        database.engine.dispose()


def _revision(shown: str, found: str, newest: str) -> Finding:
    if found == newest:
        return Finding("database", True, f"{shown} at revision {found}")
    if found in schema.known():
        return Finding("database", True, f"{shown} at revision {found}; a start brings it to {newest}")
    words = f"{shown} at revision {found}, which a newer VMTrak made; this one knows up to {newest}"
    return Finding("database", False, words)


def _people(database: Database) -> Finding:
    with database.read() as session:
        if users.has_any(session):
            return Finding("people", True, "there are users")
    return Finding("people", True, "no user yet; `vmtrak serve` prints a link for the first one")
