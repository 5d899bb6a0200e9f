"""The server, the worker, the schema, and the examination of all of them."""

import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import click
import uvicorn
from starlette.applications import Starlette

from vmtrak import app, doctor, logs, schema, settings
from vmtrak.access import SYSTEM
from vmtrak.accounts import users
from vmtrak.cli.base import explained, fail, load, main, opened, reachable, ring_of, told_to_stop
from vmtrak.db import Database
from vmtrak.notices import Delivery, planning
from vmtrak.settings import Settings
from vmtrak.worker import Task, Worker

GRACE_SECONDS = 7
"""How long requests in flight and running jobs may take after a signal to stop."""


@main.command()
@click.option("--host", help="Address to listen on instead of VMTRAK_HOST.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port instead of VMTRAK_PORT.")
@click.option("--no-worker", is_flag=True, help="Leave the jobs to `vmtrak worker`.")
@explained
def serve(host: str | None, port: int | None, *, no_worker: bool) -> None:
    """Migrate the database, then serve the panel and the REST interface and run the jobs."""
    loaded = load()
    app.rdp_rules(loaded)  # what cannot sign stops the start before it has made anything
    logs.configure(loaded.log_dir)
    # First, so that a second start by mistake ends here and leaves the first one's link alone.
    listener = bound(loaded.host if host is None else host, loaded.port if port is None else port)
    loaded = _addressed(loaded, listener)
    with opened(loaded) as database:
        schema.migrate(database)
        ring_of(loaded, database)
        with database.work(SYSTEM) as work:
            token = users.first_link(work)
    if token:
        click.echo(
            "There is no administrator yet. Set up the first administrator here, within 24 hours:"
        )
        click.echo(f"  {users.link_address(loaded.base_url, token)}")
    with opened(loaded) as database:
        worker = None if no_worker else _worker(loaded, database)
        run_server(app.build(loaded), listener, worker=worker)


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
    return reachable(loaded.model_copy(update={"host": host, "port": port}))


def run_server(
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
    server = _Server(config, worker, application.state.vmtrak.delivery)
    if started is not None:
        threading.Thread(target=_when_started, args=(server, started), daemon=True).start()
    # uvicorn stops in order and then raises the signal again; being told to stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    server.should_exit = stop is not None and stop.is_set()
    with _working(worker):
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Tells whoever works of a signal at once, so that all use the same seconds to end."""

    def __init__(self, config: uvicorn.Config, worker: Worker | None, delivery: Delivery) -> None:
        super().__init__(config)
        self._worker = worker
        self._delivery = delivery

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._delivery.ending.set()
        if self._worker is not None:
            self._worker.finish(GRACE_SECONDS)
        super().handle_exit(sig, frame)


def _when_started(server: uvicorn.Server, started: Callable[[], None]) -> None:
    while not server.started:
        time.sleep(0.02)
    started()


def bound(host: str, port: int) -> socket.socket:
    """A socket that has its address; uvicorn makes it listen once all is ready."""
    try:
        family, *_, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
    except OSError as error:
        fail(f"cannot listen on {host} port {port}: {error.strerror}")
    return listener


@main.command(name="worker")
@explained
def worker_command() -> None:
    """Migrate the database, then run only the jobs, beside `vmtrak serve --no-worker`."""
    stop = told_to_stop()
    loaded = load()
    logs.configure(loaded.log_dir)
    with opened(loaded) as database:
        schema.migrate(database)
        ring_of(loaded, database)
        with _working(_worker(loaded, database)):
            # Not `stop.wait()`: a signal that came within it would wait for itself.
            while not stop.is_set():
                time.sleep(0.1)


@main.command()
@explained
def migrate() -> None:
    """Bring the database to this version's schema."""
    with opened(load()) as database:
        changed = schema.migrate(database)
    state = "is now at" if changed else "was already at"
    click.echo(f"The database {state} revision {schema.head()}.")


@main.command(name="doctor")
@explained
def doctor_command() -> None:
    """Check settings, folders, keys and database, and say what to mend."""
    findings = doctor.examine(reachable(settings.load()))
    for finding in findings:
        click.echo(f"{'ok  ' if finding.well else 'MEND'}  {finding.subject}: {finding.words}")
    if not all(finding.well for finding in findings):
        sys.exit(1)
