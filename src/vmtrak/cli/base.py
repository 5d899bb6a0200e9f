"""What every command starts with: settings, the database, words for what went wrong."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from ipaddress import ip_address
from typing import NoReturn, ParamSpec

import click
from sqlalchemy.exc import SQLAlchemyError

import vmtrak
from vmtrak import keys, settings
from vmtrak.access import SYSTEM
from vmtrak.db import Database
from vmtrak.errors import VmtrakError
from vmtrak.keys import RingError
from vmtrak.schema import SchemaError
from vmtrak.sealing import KeyRing
from vmtrak.settings import Settings, SettingsError

P = ParamSpec("P")


_IPV6 = 6


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(vmtrak.__version__, message="%(version)s")
def main() -> None:
    """VMTrak: an inventory of virtual machines. Settings come from VMTRAK_* variables."""


def fail(words: str) -> NoReturn:
    click.echo(f"vmtrak: {' '.join(words.split())}", err=True)
    sys.exit(1)


def explained(command: Callable[P, None]) -> Callable[P, None]:
    """Failures that a person can mend become one line and exit status 1."""

    @wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            command(*arguments, **options)
        except (SettingsError, SchemaError, VmtrakError) as error:
            fail(str(error))
        except SQLAlchemyError as error:
            fail(f"the database does not work: {getattr(error, 'orig', None) or error}")
        except OSError as error:
            fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))

    return run


def load() -> Settings:
    loaded = settings.load()
    os.umask(0o077)  # what is in the database and its log is for this account alone
    loaded.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return loaded


@contextmanager
def opened(loaded: Settings) -> Iterator[Database]:
    database = Database(loaded.database_url)
    try:
        yield database
    finally:
        database.close()


def ring_of(loaded: Settings, database: Database) -> KeyRing:
    """The key ring, once it is known to fit; only where nothing is sealed a new one is made."""
    try:
        with database.work(SYSTEM) as work:
            if not loaded.has_ring:
                keys.refuse_loss(work.session)
            ring = KeyRing(loaded.sealing_keys())
            keys.check(work, ring)
    except RingError as error:
        fail(f"{loaded.ring_name} {error}")
    return ring


def reachable(loaded: Settings) -> Settings:
    """Without VMTRAK_BASE_URL people use the address on which the server listens."""
    if "base_url" in loaded.model_fields_set:
        return loaded
    return loaded.model_copy(update={"base_url": address_of(loaded.host, loaded.port)})


def address_of(host: str, port: int) -> str:
    try:
        ip = ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if ip.is_unspecified:
        return f"http://127.0.0.1:{port}"
    return f"http://[{ip}]:{port}" if ip.version == _IPV6 else f"http://{ip}:{port}"


def told_to_stop() -> threading.Event:
    """Set by every wish to stop, a closed terminal too.

    The second or two of filling are waited for: an exception out of a signal handler gets lost
    where a library swallows it.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    return stop
