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


def well(subject: str, words: str) -> Finding:
    return Finding(subject, well=True, words=words)


def mend(subject: str, words: str) -> Finding:
    return Finding(subject, well=False, words=words)


def examine(settings: Settings) -> list[Finding]:
    """Look at everything that exists so far; make nothing but what a start would make."""
    return [
        well("settings", "read and understood"),
        *_unused(settings),
        _folder("data folder", settings.data_dir),
        _folder("log folder", settings.log_dir),
        _key(settings),
        _cookies(settings),
        *_database(settings),
    ]


def _unused(settings: Settings) -> Iterator[Finding]:
    for name in settings.unused():
        yield well("settings", f"{name} is set, but this version does nothing with it yet")


def _folder(subject: str, path: Path) -> Finding:
    if not path.exists():
        return _missing(subject, path)
    if not path.is_dir():
        return mend(subject, f"{path} is not a folder")
    if not os.access(path, os.W_OK | os.X_OK):
        return mend(subject, f"{path} cannot be written to by this user")
    return well(subject, str(path))


def _missing(subject: str, path: Path) -> Finding:
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        return well(subject, f"{path} will be made at the first start")
    return mend(subject, f"{path} cannot be made: {above} is no folder to write to")


def _key(settings: Settings) -> Finding:
    if settings.secret_key is not None:
        return well("secret key", "given by the settings")
    path = settings.data_dir / "secret-key"
    if not path.exists():
        return well("secret key", "will be made at the first start")
    try:
        settings.signing_key()
    except SettingsError as error:
        return mend("secret key", str(error))
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        return mend("secret key", f"others can read {path}; chmod 600 mends that")
    return well("secret key", str(path))


def _cookies(settings: Settings) -> Finding:
    local = "//127.0.0.1" in settings.base_url or "//localhost" in settings.base_url
    if settings.secure_cookies or local or "//[::1]" in settings.base_url:
        return well("address", settings.base_url)
    words = f"{settings.base_url} is not https: passwords and cookies travel in the open"
    return mend("address", words)


def _database(settings: Settings) -> Iterator[Finding]:
    shown = "SQLite" if settings.database_url.startswith("sqlite") else "PostgreSQL"
    file = settings.data_dir / "inventory.db"
    if shown == "SQLite" and not settings.data_dir.exists():
        yield well("database", f"{file} will be made at the first start")
        return
    database = Database(settings.database_url)
    try:
        obstacle = schema.obstacle(database)
        if obstacle:
            yield mend("database", f"{shown}: {obstacle}")
            return
        found, newest = schema.current(database), schema.head()
        if found is None:
            yield well("database", f"{shown}, empty; the first start makes the tables")
            return
        yield _revision(shown, found, newest)
        if database.sqlite:
            yield _sound(database)
        if found == newest:
            yield _people(database)
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        yield mend("database", f"{shown} does not answer: {reason}")
    finally:
        database.engine.dispose()


def _revision(shown: str, found: str, newest: str) -> Finding:
    if found == newest:
        return well("database", f"{shown} at revision {found}")
    if found in schema.known():
        return well("database", f"{shown} at revision {found}; a start brings it to {newest}")
    words = f"{shown} at revision {found}, which a newer VMTrak made; this one knows up to {newest}"
    return mend("database", words)


def _sound(database: Database) -> Finding:
    with database.engine.connect() as connection:
        first = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    if first == "ok":
        return well("database", "the file is sound")
    return mend("database", "the file is damaged; bring back the latest backup")


def _people(database: Database) -> Finding:
    with database.read() as session:
        if users.can_administer(session):
            return well("people", "there is an administrator who can sign in")
        if users.has_admin(session):
            words = "no administrator has a password yet; `vmtrak user reset NAME` makes a link"
            return mend("people", words)
    return well("people", "no administrator yet; `vmtrak serve` prints a link for the first one")
