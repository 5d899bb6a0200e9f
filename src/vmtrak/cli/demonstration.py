"""`vmtrak demo`: a throw-away instance."""

import os
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import click

import vmtrak
from vmtrak import app, demo, logs, settings
from vmtrak.cli.base import address_of, explained, main, opened, told_to_stop
from vmtrak.cli.serving import bound, run_server
from vmtrak.sealing import KeyRing
from vmtrak.settings import Settings


@main.command(name="demo")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=3000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--check", is_flag=True, help="Start, ask for the dashboard, stop.")
@explained
def demo_command(host: str, port: int, *, check: bool) -> None:
    """Serve a throw-away instance with a realistic sample inventory."""
    stop = told_to_stop()
    with demo.folder() as folder:
        try:
            _demonstrate(folder, bound(host, port), host, stop, check=check)
        finally:
            logs.configure(None, level="WARNING")  # closing a log later would make it anew
    if check and not stop.is_set():
        click.echo("The demonstration works.")


def _demonstrate(
    folder: Path, listener: socket.socket, host: str, stop: threading.Event, *, check: bool
) -> None:
    loaded = _demo_settings(folder, host, listener.getsockname()[1])
    logs.configure(loaded.log_dir, level="WARNING")
    with opened(loaded) as database:
        keys = KeyRing(loaded.sealing_keys())
        password = demo.fill(database, datetime.now(loaded.timezone).date(), keys)
        token = demo.sign_in_link(database)
    if stop.is_set():
        return
    started = _checker(loaded.base_url, token) if check else _greeter(loaded, token, password)
    run_server(app.build(loaded, probing=False), listener, started, stop=stop)


def _demo_settings(folder: Path, host: str, port: int) -> Settings:
    given = {
        "VMTRAK_DATA_DIR": str(folder / "data"),
        "VMTRAK_LOG_DIR": str(folder / "logs"),
        "VMTRAK_BASE_URL": address_of(host, port),
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
