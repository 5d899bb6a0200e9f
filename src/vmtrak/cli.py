"""The `vmtrak` command."""

import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn, ParamSpec

import click
import uvicorn
from sqlalchemy.exc import SQLAlchemyError

import vmtrak
from vmtrak import app, demo, doctor, logs, schema, settings
from vmtrak.access import SYSTEM, Role
from vmtrak.accounts import NewUser, links, users
from vmtrak.db import Database
from vmtrak.errors import NotFound, VmtrakError
from vmtrak.fields import parse
from vmtrak.schema import SchemaError
from vmtrak.settings import Settings, SettingsError

P = ParamSpec("P")

_IPV6 = 6

GRACE_SECONDS = 7
"""How long requests in flight may take after a signal to stop."""


def _fail(words: str) -> NoReturn:
    click.echo(f"vmtrak: {' '.join(words.split())}", err=True)
    sys.exit(1)


def _explained(command: Callable[P, None]) -> Callable[P, None]:
    """Failures that a person can mend become one line and exit status 1."""

    @wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            command(*arguments, **options)
        except (SettingsError, SchemaError, VmtrakError) as error:
            _fail(str(error))
        except SQLAlchemyError as error:
            _fail(f"the database does not work: {getattr(error, 'orig', None) or error}")
        except OSError as error:
            _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))

    return run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(vmtrak.__version__, message="%(version)s")
def main() -> None:
    """VMTrak: an inventory of virtual machines. Settings come from VMTRAK_* variables."""


def _load() -> Settings:
    loaded = settings.load()
    os.umask(0o077)  # what is in the database and its log is for this account alone
    loaded.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return loaded


@contextmanager
def _database(loaded: Settings) -> Iterator[Database]:
    database = Database(loaded.database_url)
    try:
        yield database
    finally:
        database.close()


@main.command()
@click.option("--host", help="Address to listen on instead of VMTRAK_HOST.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port instead of VMTRAK_PORT.")
@_explained
def serve(host: str | None, port: int | None) -> None:
    """Migrate the database, then serve the panel and the REST interface."""
    loaded = _load()
    logs.configure(loaded.log_dir)
    # First, so that a second start by mistake ends here and leaves the first one's link alone.
    listener = _bound(loaded.host if host is None else host, loaded.port if port is None else port)
    loaded = _addressed(loaded, listener)
    with _database(loaded) as database:
        schema.migrate(database)
        with database.work(SYSTEM) as work:
            token = users.first_link(work)
    if token:
        click.echo(
            "There is no administrator yet. Set up the first administrator here, within 24 hours:"
        )
        click.echo(f"  {users.link_address(loaded.base_url, token)}")
    for name in loaded.unused():
        click.echo(f"vmtrak: {name} is set, but this version does nothing with it yet", err=True)
    _run(loaded, listener)


def _addressed(loaded: Settings, listener: socket.socket) -> Settings:
    """The settings with the address on which the server really listens."""
    host, port = listener.getsockname()[:2]
    return _reachable(loaded.model_copy(update={"host": host, "port": port}))


def _reachable(loaded: Settings) -> Settings:
    """Without VMTRAK_BASE_URL people use the address on which the server listens."""
    if "base_url" in loaded.model_fields_set:
        return loaded
    return loaded.model_copy(update={"base_url": _address(loaded.host, loaded.port)})


def _address(host: str, port: int) -> str:
    try:
        ip = ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if ip.is_unspecified:
        return f"http://127.0.0.1:{port}"
    return f"http://[{ip}]:{port}" if ip.version == _IPV6 else f"http://{ip}:{port}"


def _run(
    loaded: Settings,
    listener: socket.socket,
    started: Callable[[], None] | None = None,
    *,
    probing: bool = True,
    stop: threading.Event | None = None,
) -> None:
    """Serve until a signal comes; answers what is in flight, then closes the database."""
    trusted = [str(network) for network in loaded.trusted_proxies]
    config = uvicorn.Config(
        app.build(loaded, probing=probing),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(trusted),
        forwarded_allow_ips=trusted,
        timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=64 * 1024,
    )
    server = uvicorn.Server(config)
    if started is not None:
        threading.Thread(target=_when_started, args=(server, started), daemon=True).start()
    # uvicorn stops in order and then raises the signal again; being told to stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    server.should_exit = stop is not None and stop.is_set()
    server.run(sockets=[listener])


def _when_started(server: uvicorn.Server, started: Callable[[], None]) -> None:
    while not server.started:
        time.sleep(0.02)
    started()


def _bound(host: str, port: int) -> socket.socket:
    """A socket that has its address; uvicorn makes it listen once all is ready."""
    try:
        family, *_, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
    except OSError as error:
        _fail(f"cannot listen on {host} port {port}: {error.strerror}")
    return listener


@main.command()
@_explained
def migrate() -> None:
    """Bring the database to this version's schema."""
    with _database(_load()) as database:
        changed = schema.migrate(database)
    state = "is now at" if changed else "was already at"
    click.echo(f"The database {state} revision {schema.head()}.")


@main.command(name="demo")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=3000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--check", is_flag=True, help="Start, ask for the dashboard, stop.")
@_explained
def demo_command(host: str, port: int, *, check: bool) -> None:
    """Serve a throw-away instance with a realistic sample inventory."""
    stop = _told_to_stop()
    with demo.folder() as folder:
        try:
            _demonstrate(folder, _bound(host, port), host, stop, check=check)
        finally:
            logs.configure(None, level="WARNING")  # closing a log later would make it anew
    if check and not stop.is_set():
        click.echo("The demonstration works.")


def _demonstrate(
    folder: Path, listener: socket.socket, host: str, stop: threading.Event, *, check: bool
) -> None:
    loaded = _demo_settings(folder, host, listener.getsockname()[1])
    logs.configure(loaded.log_dir, level="WARNING")
    with _database(loaded) as database:
        password = demo.fill(database, datetime.now(loaded.timezone).date())
        token = demo.sign_in_link(database)
    if stop.is_set():
        return
    started = _checker(loaded.base_url, token) if check else _greeter(loaded, token, password)
    _run(loaded, listener, started, probing=False, stop=stop)


def _told_to_stop() -> threading.Event:
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


def _demo_settings(folder: Path, host: str, port: int) -> Settings:
    given = {
        "VMTRAK_DATA_DIR": str(folder / "data"),
        "VMTRAK_LOG_DIR": str(folder / "logs"),
        "VMTRAK_BASE_URL": _address(host, port),
        "TZ": os.environ.get("TZ", ""),
    }
    (folder / "data").mkdir(mode=0o700)
    return settings.load({name: value for name, value in given.items() if value}, None)


def _greeter(loaded: Settings, token: str, password: str) -> Callable[[], None]:
    def greet() -> None:
        click.echo(
            f"VMTrak {vmtrak.__version__}, a demonstration. Open this link, it signs you in:"
        )
        click.echo(f"\n  {loaded.base_url}/admin/link#{token}\n")
        click.echo(f"It works once; after that sign in as {demo.administrator()} with {password}")
        click.echo("Ctrl+C stops it and leaves nothing behind.")

    return greet


def _checker(base_url: str, token: str) -> Callable[[], None]:
    """Sign in over the link, ask for the dashboard, and stop the process."""

    def check() -> None:
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        form = urllib.request.Request(  # noqa: S310 - our own address
            f"{base_url}/admin/link", f"token={token}".encode(), {"Origin": base_url}
        )
        try:
            with opener.open(form, timeout=30) as answer:
                page = answer.read().decode()
            works = "Dashboard" in page and answer.url.endswith("/admin/")
        except (OSError, urllib.error.URLError) as error:
            click.echo(f"vmtrak: {error}", err=True)
            works = False
        if not works:
            click.echo("vmtrak: the demonstration does not show its dashboard", err=True)
            os._exit(1)
        os.kill(os.getpid(), signal.SIGTERM)

    return check


@main.group()
def user() -> None:
    """Add people and reset their access."""


@user.command(name="add")
@click.argument("name")
@click.option("--email", required=True)
@click.option("--role", required=True, type=click.Choice([role.value for role in Role]))
@click.option("--department")
@click.option("--password-stdin", is_flag=True, help="Take the password from standard input.")
@_explained
def user_add(
    name: str, email: str, role: str, department: str | None, *, password_stdin: bool
) -> None:
    """Add a user and print a one-time set-up link, unless the password is given."""
    given: dict[str, Any] = {
        "username": name,
        "email": email,
        "role": role,
        "department": department,
    }
    if password_stdin:
        given["password"] = sys.stdin.readline().removesuffix("\n")
    new = parse(NewUser, given)
    loaded = _reachable(_load())
    logs.configure(loaded.log_dir, level="WARNING")
    with _database(loaded) as database:
        schema.migrate(database)
        with database.work(SYSTEM) as work:
            made = users.add(work, new)
            if password_stdin:
                made.must_change_password = False
                link = None
            else:
                work.flush()
                link = users.link_address(loaded.base_url, links.make(work, "setup", made.id))
    click.echo(link or f"{name} can sign in.")


@user.command(name="reset")
@click.argument("name")
@_explained
def user_reset(name: str) -> None:
    """End a user's sessions, take the password away and print a new set-up link."""
    loaded = _reachable(_load())
    logs.configure(loaded.log_dir, level="WARNING")
    with _database(loaded) as database:
        schema.migrate(database)
        with database.work(SYSTEM) as work:
            found = users.named(work.session, name)
            if found is None:
                message = f"There is no user {name!r}."
                raise NotFound(message)
            _, token = users.reset_link(work, found.id)
    click.echo(users.link_address(loaded.base_url, token))


@main.command(name="doctor")
@_explained
def doctor_command() -> None:
    """Check settings, folders, keys and database, and say what to mend."""
    findings = doctor.examine(_reachable(settings.load()))
    for finding in findings:
        click.echo(f"{'ok  ' if finding.well else 'MEND'}  {finding.subject}: {finding.words}")
    if not all(finding.well for finding in findings):
        sys.exit(1)
