"""What `vmtrak doctor` looks at: each finding is well, or says what to mend."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from vmtrak import app, keys, schema, worker
from vmtrak.accounts import users
from vmtrak.channels import smtp, webhooks
from vmtrak.db import Database, now
from vmtrak.sealing import KeyRing
from vmtrak.settings import Settings, SettingsError
from vmtrak.web import oidc


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
        _data_folder(settings.data_dir),
        _folder("log folder", settings.log_dir),
        _key(settings),
        _key_ring(settings),
        _cookies(settings),
        *_database(settings),
        _queue(settings),
        *_files(settings),
        *_sign_in(settings),
        *_rdp_files(settings),
        *_mail(settings),
        *_webhooks(settings),
    ]


def _folder(subject: str, path: Path) -> Finding:
    if not path.exists():
        return _missing(subject, path)
    if not path.is_dir():
        return mend(subject, f"{path} is not a folder")
    if not os.access(path, os.W_OK | os.X_OK):
        return mend(subject, f"{path} cannot be written to by this user")
    return well(subject, str(path))


def _data_folder(path: Path) -> Finding:
    found = _folder("data folder", path)
    if found.well and path.exists() and _open_to_others(path):
        return mend("data folder", f"others can look into {path}; chmod 700 mends that")
    return found


def _open_to_others(path: Path) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def _missing(subject: str, path: Path) -> Finding:
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        return well(subject, f"{path} will be made at the first start")
    return mend(subject, f"{path} cannot be made: {above} is no folder to write to")


def _key(settings: Settings) -> Finding:
    given = settings.secret_key is not None
    return _kept("secret key", settings, "secret-key", settings.signing_key, given=given)


def _key_ring(settings: Settings) -> Finding:
    given = settings.credential_keys is not None
    return _kept("key ring", settings, "credential-keys", settings.sealing_keys, given=given)


def _kept(
    subject: str, settings: Settings, name: str, read: Callable[[], object], *, given: bool
) -> Finding:
    """What there is to say of a secret that stands in the settings or is kept in a file."""
    if given:
        return well(subject, "given by the settings")
    path = settings.data_dir / name
    if not path.exists():
        return well(subject, "will be made at the first start")
    try:
        read()
    except SettingsError as error:
        return mend(subject, str(error))
    if _open_to_others(path):
        return mend(subject, f"others can read {path}; chmod 600 mends that")
    return well(subject, str(path))


def _files(settings: Settings) -> Iterator[Finding]:
    """A copy that was put back by hand is often readable by everybody."""
    for url in map(make_url, (settings.database_url, settings.queue_url)):
        file = Path(str(url.database))
        if url.drivername == "sqlite" and file.exists() and _open_to_others(file):
            yield mend("database files", f"others can read {file}; chmod 600 mends that")


def _sign_in(settings: Settings) -> Iterator[Finding]:
    provider = app.provider(settings)
    if provider is None and settings.issuer:
        words = f"{settings.issuer} is not asked: VMTRAK_OIDC_CLIENT_ID is not set"
        yield mend("sign-in", words)
        return
    if provider is None:
        yield well("sign-in", "with passwords; no OpenID provider is set")
        return
    for look in oidc.examine(provider):
        yield Finding("sign-in", look.well, look.words)


SOON = timedelta(days=30)


def _rdp_files(settings: Settings) -> Iterator[Finding]:
    """What signs RDP files; without it Windows knows no publisher of them."""
    try:
        signer = app.rdp_rules(settings).signer
    except SettingsError as error:
        yield mend("RDP files", str(error))
        return
    if signer is None or settings.rdp_key is None:
        yield well("RDP files", "not signed; VMTRAK_RDP_CERT is not set")
        return
    if _open_to_others(settings.rdp_key):
        yield mend("RDP files", f"others can read {settings.rdp_key}; chmod 600 mends that")
    moment = now()
    if fault := signer.fault(moment):
        yield mend("RDP files", f"nobody gets one: the certificate {fault}")
    elif signer.ends - moment < SOON:
        yield mend("RDP files", f"the certificate ends on {signer.ends:%Y-%m-%d}; renew it")
    else:
        yield well("RDP files", f"signed until {signer.ends:%Y-%m-%d} by {signer.subject}")


def _mail(settings: Settings) -> Iterator[Finding]:
    """Whether the mail server lets VMTrak in; nothing is sent."""
    server = app.mail_server(settings)
    if server is None:
        yield well("mail", "off; notices are kept in the panel. VMTRAK_SMTP_HOST is not set")
        return
    by_default = "" if settings.smtp_from else " (VMTRAK_SMTP_FROM is not set)"
    fault = smtp.fault(server)
    words = f"{server} lets VMTrak in; mail comes from {server.sender}{by_default}"
    yield mend("mail", fault) if fault else well("mail", words)


def _webhooks(settings: Settings) -> Iterator[Finding]:
    """Nothing is posted: whoever reads the channel would see it."""
    addresses = {
        "webhook": settings.webhook_url,
        "Teams": settings.teams_url,
        "Slack": settings.slack_url,
    }
    for subject, url in addresses.items():
        if url is not None:
            yield well(subject, f"posts to {webhooks.site(url.get_secret_value())}")


def _cookies(settings: Settings) -> Finding:
    local = "//127.0.0.1" in settings.base_url or "//localhost" in settings.base_url
    if settings.secure_cookies or local or "//[::1]" in settings.base_url:
        return well("address", settings.base_url)
    words = f"{settings.base_url} is not https: passwords and cookies travel in the open"
    return mend("address", words)


def _database(settings: Settings) -> Iterator[Finding]:
    url = make_url(settings.database_url)
    shown = "SQLite" if url.drivername == "sqlite" else "PostgreSQL"
    file = Path(str(url.database))
    ready = file.parent.exists() or file.parent == settings.data_dir
    if shown == "SQLite" and ready and not file.exists():  # to open it would make it
        yield _missing("database", file)
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
            yield from _sealed(settings, database)
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        yield mend("database", f"{shown} does not answer: {reason}")
    finally:
        database.engine.dispose()


def _queue(settings: Settings) -> Finding:
    if not settings.queue_url.startswith("sqlite"):
        fault = worker.fault(settings.queue_url)
        return mend("queue", f"Redis: {fault}") if fault else well("queue", "Redis answers")
    file = Path(str(make_url(settings.queue_url).database))
    if file.exists():
        return _queue_file(settings, file)
    if file.parent.exists() or file.parent == settings.data_dir:
        return _missing("queue", file)
    return mend("queue", f"there is no folder {file.parent}")


def _queue_file(settings: Settings, file: Path) -> Finding:
    closed = schema.closed_to_us(file)
    if closed:
        return mend("queue", f"{closed} cannot be written to by this user")
    fault = worker.fault(settings.queue_url)
    return mend("queue", f"{file}: {fault}") if fault else well("queue", str(file))


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


def _sealed(settings: Settings, database: Database) -> Iterator[Finding]:
    """Whether the ring fits what is sealed. A file that holds no ring is told elsewhere."""
    with database.read() as session:
        if not settings.has_ring:
            if lost := keys.lacking(keys.in_use(session), ()):
                yield mend("key ring", f"it {lost}")
            return
        with suppress(SettingsError):
            ring = KeyRing(settings.sealing_keys())
            yield from (mend("key ring", f"it {words}") for words in keys.faults(session, ring))
            yield from (Finding("key ring", *found) for found in keys.standing(session, ring))


def _people(database: Database) -> Finding:
    with database.read() as session:
        if users.can_administer(session):
            return well("people", "there is an administrator who can sign in")
        if users.has_admin(session):
            words = "no administrator has a password yet; `vmtrak user reset NAME` makes a link"
            return mend("people", words)
    return well("people", "no administrator yet; `vmtrak serve` prints a link for the first one")
