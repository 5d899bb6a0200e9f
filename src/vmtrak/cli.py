"""The `vmtrak` command."""

import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, datetime
from functools import wraps
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, ParamSpec

import click
import uvicorn
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette

import vmtrak
from vmtrak import app, demo, doctor, keys, logs, schema, settings
from vmtrak.access import SYSTEM, Role, Scope
from vmtrak.accounts import NewToken, NewUser, User, api_tokens, links, second_factor, users
from vmtrak.channels import Channel
from vmtrak.db import Database, Work, now
from vmtrak.errors import NotFound, VmtrakError
from vmtrak.fields import parse
from vmtrak.keys import GivingUp, Rekeying, RingError, Use
from vmtrak.notices import Delivery, Rules, State, Trigger, lists, outcomes, planning
from vmtrak.notices.outcomes import Unsent
from vmtrak.notices.planning import Plan
from vmtrak.schema import SchemaError
from vmtrak.sealing import KeyRing
from vmtrak.settings import Settings, SettingsError
from vmtrak.worker import Task, Worker

P = ParamSpec("P")

_IPV6 = 6

GRACE_SECONDS = 7
"""How long requests in flight and running jobs may take after a signal to stop."""


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


def _ring(loaded: Settings, database: Database) -> KeyRing:
    """The key ring, once it is known to fit; only where nothing is sealed a new one is made."""
    try:
        with database.work(SYSTEM) as work:
            if not loaded.has_ring:
                keys.refuse_loss(work.session)
            ring = KeyRing(loaded.sealing_keys())
            keys.check(work, ring)
    except RingError as error:
        _fail(f"{loaded.ring_name} {error}")
    return ring


@main.command()
@click.option("--host", help="Address to listen on instead of VMTRAK_HOST.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port instead of VMTRAK_PORT.")
@click.option("--no-worker", is_flag=True, help="Leave the jobs to `vmtrak worker`.")
@_explained
def serve(host: str | None, port: int | None, *, no_worker: bool) -> None:
    """Migrate the database, then serve the panel and the REST interface and run the jobs."""
    loaded = _load()
    app.rdp_rules(loaded)  # what cannot sign stops the start before it has made anything
    logs.configure(loaded.log_dir)
    # First, so that a second start by mistake ends here and leaves the first one's link alone.
    listener = _bound(loaded.host if host is None else host, loaded.port if port is None else port)
    loaded = _addressed(loaded, listener)
    with _database(loaded) as database:
        schema.migrate(database)
        _ring(loaded, database)
        with database.work(SYSTEM) as work:
            token = users.first_link(work)
    if token:
        click.echo(
            "There is no administrator yet. Set up the first administrator here, within 24 hours:"
        )
        click.echo(f"  {users.link_address(loaded.base_url, token)}")
    with _database(loaded) as database:
        worker = None if no_worker else _worker(loaded, database)
        _run(app.build(loaded), listener, worker=worker)


def _worker(loaded: Settings, database: Database) -> Worker:
    delivery = Delivery(database, app.notice_rules(loaded))

    def plan(_stopping: threading.Event) -> None:
        planning.run_daily(database, delivery.rules)

    tasks: dict[str, Task] = {"notices": plan, "delivery": delivery.run}
    return Worker(database, loaded.queue_url, loaded.signing_key(), tasks)


@contextmanager
def _working(worker: Worker | None) -> Iterator[None]:
    if worker is None:
        yield
        return
    worker.start()
    try:
        yield
    finally:
        worker.finish(GRACE_SECONDS)
        worker.wait()


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
    application: Starlette,
    listener: socket.socket,
    started: Callable[[], None] | None = None,
    *,
    stop: threading.Event | None = None,
    worker: Worker | None = None,
) -> None:
    """Serve until a signal comes; answers what is in flight, then closes the database."""
    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the guard reads them
        timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=64 * 1024,
    )
    server = _Server(config, worker)
    if started is not None:
        threading.Thread(target=_when_started, args=(server, started), daemon=True).start()
    # uvicorn stops in order and then raises the signal again; being told to stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    server.should_exit = stop is not None and stop.is_set()
    with _working(worker):
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Tells the worker of a signal at once, so that both use the same seconds to end."""

    def __init__(self, config: uvicorn.Config, worker: Worker | None) -> None:
        super().__init__(config)
        self._worker = worker

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._worker is not None:
            self._worker.finish(GRACE_SECONDS)
        super().handle_exit(sig, frame)


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


@main.command(name="worker")
@_explained
def worker_command() -> None:
    """Migrate the database, then run only the jobs, beside `vmtrak serve --no-worker`."""
    stop = _told_to_stop()
    loaded = _load()
    logs.configure(loaded.log_dir)
    with _database(loaded) as database:
        schema.migrate(database)
        _ring(loaded, database)
        with _working(_worker(loaded, database)):
            # Not `stop.wait()`: a signal that came within it would wait for itself.
            while not stop.is_set():
                time.sleep(0.1)


@main.command()
@_explained
def migrate() -> None:
    """Bring the database to this version's schema."""
    with _database(_load()) as database:
        changed = schema.migrate(database)
    state = "is now at" if changed else "was already at"
    click.echo(f"The database {state} revision {schema.head()}.")


@main.command()
@click.option(
    "--date",
    "when",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="Tell what is due on that day; without it, today.",
)
@click.option("--dry-run", is_flag=True, help="Only say who would be told of what.")
@_explained
def notify(when: datetime | None, *, dry_run: bool) -> None:
    """Plan the notices of VMs that expire and deliver them before it returns."""
    stop = _told_to_stop()
    loaded = _reachable(_load())
    rules = app.notice_rules(loaded)
    logs.configure(loaded.log_dir, level="WARNING")
    day = when.date() if when else rules.schedule.today(now())
    with _database(loaded) as database:
        if dry_run:
            _foretell(database, rules, day)
            return
        schema.migrate(database)
        plan = planning.run_now(database, rules, SYSTEM, day, Trigger.COMMAND)
        ended = _delivered(database, rules, plan, stop)
        unsent = _tell_outcome(database, rules, plan, ended)
    if unsent:
        words = "interrupted; " if stop.is_set() else ""
        _fail(f"{words}not everything is sent")


NAMED = 20
"""VMs that a dry run names for each recipient."""


def _foretell(database: Database, rules: Rules, day: date) -> None:
    """Print what a run of the day would send; nothing is written, not even a schema."""
    if schema.current(database) != schema.head():
        _fail("the database is not at this version's schema; run vmtrak migrate first")
    with database.read() as session:
        rows = lists.due(session, SYSTEM, rules, day, None, named=NAMED)
    for row in rows:
        click.echo("\n    ".join([_heading(row), *row["first"], *_rest(row)]))
    if not rules.mail_is_on and any(row["channel"] == Channel.MAIL for row in rows):
        click.echo("Mail is off: what is for mail would be kept in the panel.")
    number = f"{len(rows):,}" if rows else "No"
    people = "recipient" if len(rows) == 1 else "recipients"
    click.echo(f"{number} {people} would be told what is due on {day}.")


def _heading(row: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{count:,} {group}" for group, count in row["groups"].items() if count)
    known = row["user_id"] is not None
    address = f" <{row['address']}>" if known else ""
    return f"{row['channel']}  {row['recipient']}{address}: {counts}"


def _rest(row: Mapping[str, Any]) -> list[str]:
    more = row["vms"] - len(row["first"])
    return [f"and {more:,} more"] if more else []


def _delivered(
    database: Database, rules: Rules, plan: Plan, stop: threading.Event
) -> Counter[State]:
    """Deliver in another thread, so that this one shows how far it is and hears signals."""
    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(_deliver, database, rules, plan, stop)
        _show_progress(database, plan, ended)
        return ended.result()


OTHERS = 60
"""Seconds to wait for another process that is sending one of the messages."""


def _deliver(database: Database, rules: Rules, plan: Plan, stop: threading.Event) -> Counter[State]:
    """Deliver what is in the outbox, until nobody has one of the plan's messages in hand."""
    delivery, ended = Delivery(database, rules), Counter[State]()
    patience = time.monotonic() + OTHERS
    while not stop.is_set():
        ended += delivery.run(stop, wait=True)
        with database.read() as session:
            busy = outcomes.in_hand(session, plan, now())
        if not busy or time.monotonic() > patience:
            break
        time.sleep(0.2)
    return ended


def _show_progress(database: Database, plan: Plan, ended: "Future[Counter[State]]") -> None:
    terminal = sys.stderr.isatty() and plan.messages > 0
    with click.progressbar(
        length=plan.messages, label="Sending", file=sys.stderr, hidden=not terminal
    ) as bar:
        while not ended.done():
            time.sleep(0.1)
            if terminal:
                with database.read() as session:
                    outcome = outcomes.of(session, SYSTEM, plan)
                bar.update(plan.messages - outcome.waiting - bar.pos)


def _tell_outcome(
    database: Database, rules: Rules, plan: Plan, ended: Counter[State]
) -> list[Unsent]:
    """Print what became of the run's messages; those that were to be sent and are not."""
    with database.read() as session:
        outcome = outcomes.of(session, SYSTEM, plan)
        unsent = outcomes.unsent(session, SYSTEM, plan)
    for one in unsent:
        click.echo(f"{one.state:<7}  {one.channel}  {one.recipient}: {_why(one, rules)}")
    click.echo(outcome.words)
    earlier = ended[State.SENT] - outcome.sent
    if earlier > 0:
        click.echo(f"Of earlier messages, {earlier:,} {'was' if earlier == 1 else 'were'} sent.")
    return unsent


def _why(one: Unsent, rules: Rules) -> str:
    """The server's answer on one line, and when the message is tried again."""
    words = " ".join((one.answer or "not tried yet").split())
    answer = "".join(each if each.isprintable() else "?" for each in words)
    if one.state is State.FAILED or one.answer is None:
        return answer
    again = one.next_attempt_at.astimezone(rules.schedule.zone)
    return f"{answer}; tried again from {again:%Y-%m-%d %H:%M:%S %Z} on"


@main.command()
@click.option(
    "--give-up",
    "lost",
    multiple=True,
    metavar="KEY_ID",
    help="Instead, destroy what this key sealed, which is lost; can be given more than once.",
)
@click.option("--yes", is_flag=True, help="Give up without asking.")
@_explained
def rekey(lost: tuple[str, ...], *, yes: bool) -> None:
    """Seal all passwords and second factors with the key ring's first key, beside a live server."""
    if lost:
        _give_up(lost, yes=yes)
    elif yes:
        message = "--yes goes with --give-up."
        raise click.UsageError(message)
    else:
        _rekey()


def _rekey() -> None:
    stop = _told_to_stop()
    loaded = _load()
    logs.configure(loaded.log_dir, level="WARNING")
    with _database(loaded) as database:
        schema.migrate(database)
        ring = _ring(loaded, database)
        run = Rekeying(database, ring)
        done = _worked_off(run, stop, "Sealing anew")
        finished = _tell_standing(loaded, database, ring)
    if stop.is_set() and not finished:
        _fail(f"interrupted after {done:,} of {run.rows:,} rows; run it again for the rest")
    if run.damaged:
        _fail(f"altered or moved, so that they do not open: {', '.join(run.damaged)}")
    if not finished:
        _fail("others hold some rows, or go on sealing with an earlier key; run it again")


def _worked_off(run: Rekeying | GivingUp, stop: threading.Event, label: str) -> int:
    """Do batches to the end or until a signal; how many rows that were."""
    done, terminal = 0, sys.stderr.isatty()
    with click.progressbar(
        length=run.rows, label=label, file=sys.stderr, hidden=not terminal
    ) as bar:
        for rows in run.batches():
            done += rows
            bar.update(rows)
            if stop.is_set():
                break
    return done


def _tell_standing(loaded: Settings, database: Database, ring: KeyRing) -> bool:
    """Print what each key seals; whether only the first one seals anything."""
    with database.read() as session:
        standing, unfit = keys.standing(session, ring), keys.faults(session, ring)
    for _, words in standing:
        click.echo(words)
    for words in unfit:  # another process came with another ring meanwhile
        click.echo(f"{loaded.ring_name} {words}")
    return not unfit and all(well for well, _ in standing)


def _give_up(lost: Iterable[str], *, yes: bool) -> None:
    """Destroy what the lost keys sealed. It takes no key, so it works without any ring."""
    loaded = _load()
    logs.configure(loaded.log_dir, level="WARNING")
    with _database(loaded) as database:
        schema.migrate(database)
        held = [key_id for key_id, _ in loaded.sealing_keys()] if loaded.has_ring else []
        sealed = _sealed_with(database, held, lost)
        _ask(sealed, yes=yes)
        stop = _told_to_stop()  # from here on: who is asked may end it with Ctrl-C
        run = GivingUp(database, sealed)
        done = _worked_off(run, stop, "Destroying")
    if done < run.rows and stop.is_set():
        _fail(f"interrupted after {done:,} of {run.rows:,} rows; run it again for the rest")
    for key_id, use in sealed.items():
        click.echo(f"{key_id} is given up: {use} destroyed")


def _sealed_with(database: Database, held: Iterable[str], lost: Iterable[str]) -> dict[str, Use]:
    """What each of the lost keys seals; refuses those that are in the ring or seal nothing."""
    with database.read() as session:
        used = keys.in_use(session)
    for key_id in lost:
        if key_id in held:
            message = f"The key {key_id!r} is in the key ring; run vmtrak rekey without --give-up."
            raise click.UsageError(message)
        if key_id not in used:
            message = f"The key {key_id!r} seals nothing; there is nothing to give up."
            raise click.UsageError(message)
    return {key_id: used[key_id] for key_id in lost}


def _ask(sealed: Mapping[str, Use], *, yes: bool) -> None:
    if yes:
        return
    much = ", and ".join(f"{use} that the key {key_id!r} sealed" for key_id, use in sealed.items())
    question = f"Destroy {much}? They cannot be read again."
    if not sys.stdin.isatty():
        message = f"{question} Without a terminal, --yes says so."
        raise click.UsageError(message)
    if not click.confirm(question, err=True):
        _fail("nothing was destroyed")


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
        keys = KeyRing(loaded.sealing_keys())
        password = demo.fill(database, datetime.now(loaded.timezone).date(), keys)
        token = demo.sign_in_link(database)
    if stop.is_set():
        return
    started = _checker(loaded.base_url, token) if check else _greeter(loaded, token, password)
    _run(app.build(loaded, probing=False), listener, started, stop=stop)


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
        "VMTRAK_ROTATION_DAYS": "180",
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


def _named(work: Work, name: str) -> User:
    found = users.named(work.session, name)
    if found is None:
        message = f"There is no user {name!r}."
        raise NotFound(message)
    return found


@user.command(name="reset")
@click.argument("name")
@click.option("--second-factor", "factor", is_flag=True, help="Take that away, too.")
@_explained
def user_reset(name: str, *, factor: bool) -> None:
    """End a user's sessions, take the password away and print a new set-up link."""
    loaded = _reachable(_load())
    logs.configure(loaded.log_dir, level="WARNING")
    with _database(loaded) as database:
        schema.migrate(database)
        with database.work(SYSTEM) as work:
            found, token = users.reset_link(work, _named(work, name).id)
            if factor:
                second_factor.reset(work, found.id)
    click.echo(users.link_address(loaded.base_url, token))


@main.group(name="token")
def token_group() -> None:
    """Make API tokens for scripts."""


@token_group.command(name="add")
@click.argument("name")
@click.option("--user", "username", required=True, help="Whose token it is.")
@click.option(
    "--scope",
    "scopes",
    required=True,
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What it may do; can be given more than once.",
)
@click.option("--days", default=90, show_default=True, type=click.IntRange(1, 365))
@click.option(
    "--network",
    "networks",
    multiple=True,
    help="From where it works (192.0.2.0/24); can be given more than once. Without: from anywhere.",
)
@_explained
def token_add(
    name: str, username: str, scopes: tuple[str, ...], days: int, networks: tuple[str, ...]
) -> None:
    """Make an API token and print it, this once."""
    given = {"name": name, "scopes": scopes, "expires_in_days": days, "allowed_networks": networks}
    new = parse(NewToken, given)
    loaded = _load()
    logs.configure(loaded.log_dir, level="WARNING")
    with _database(loaded) as database:
        schema.migrate(database)
        with database.work(SYSTEM) as work:
            _, secret = api_tokens.add_for(work, _named(work, username).id, new)
    click.echo(secret)


@main.command(name="doctor")
@_explained
def doctor_command() -> None:
    """Check settings, folders, keys and database, and say what to mend."""
    findings = doctor.examine(_reachable(settings.load()))
    for finding in findings:
        click.echo(f"{'ok  ' if finding.well else 'MEND'}  {finding.subject}: {finding.words}")
    if not all(finding.well for finding in findings):
        sys.exit(1)
