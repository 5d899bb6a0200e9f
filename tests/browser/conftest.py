"""A browser before a running VMTrak with the sample inventory; its console stays empty."""

import base64
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from tests import services
from vmtrak import app as application
from vmtrak import demo, inventory, schema
from vmtrak.access import SYSTEM
from vmtrak.accounts import actors, sessions, users
from vmtrak.db import Database
from vmtrak.sealing import KeyRing
from vmtrak.settings import load
from vmtrak.web.guard import PANEL_COOKIE
from vmtrak.web.state import State

ZONE = "Europe/Amsterdam"
FILE = "inventory.db"
KEY = bytes(range(32))
CREDENTIAL_KEYS = f"browser:{base64.b64encode(KEY).decode()}"
START_SECONDS = 20

PAGES = (
    "/admin/",
    "/admin/vm/list",
    "/admin/vm/create",
    "/admin/vm/details/1",
    "/admin/vm/edit/1",
    "/admin/hypervisor/list",
    "/admin/hypervisor/details/1",
    "/admin/hypervisor/edit/1",
    "/admin/credential/list",
    "/admin/credential/details/1",
    "/admin/credential/create",
    "/admin/credential/edit/1",
    "/admin/user/list",
    "/admin/user/details/1",
    "/admin/user/create",
    "/admin/user/seen/1",
    "/admin/notice/list",
    "/admin/notice/due",
    "/admin/notice/details/1",
    "/admin/alert/list",
    "/admin/account/",
    "/admin/token/list",
    "/admin/token/create",
    "/admin/audit/list",
    "/admin/audit/details/1",
    "/admin/trash/list",
    "/admin/rdp-help",
    "/admin/vm/details/999999",
    "/admin/vm/list?sort=nothing",
)
"""Every kind of page that an administrator meets, two refusals among them."""

PEOPLE = {
    "admin": "annelies.devries",
    "operator": "femke.bakker",
    "auditor": "ingrid.solheim",
    "reader": "sneha.kulkarni",
}


@dataclass(frozen=True)
class Site:
    """A running VMTrak."""

    base_url: str
    state: State
    password: str

    @property
    def database(self) -> Database:
        return self.state.database

    def session(self, person: str) -> str:
        """The value of a cookie with which the person is signed in."""
        with self.database.work(actors.visitor("127.0.0.1", None)) as work:
            user = users.named(work.session, PEOPLE[person])
            assert user is not None
            return sessions.sign_in_panel(work, user.id, "tests")

    def number(self, name: str) -> int:
        """The id of the VM of that name."""
        with self.database.work(SYSTEM) as work:
            number: int = inventory.named(work, name).id
            return number


@dataclass
class Watch:
    """What browsers said in their consoles and asked of other hosts."""

    base_url: str
    said: list[str] = field(default_factory=list)

    def over(self, context: BrowserContext) -> None:
        context.on("console", self._console)
        context.on("weberror", lambda error: self.said.append(str(error.error)))
        context.on("request", lambda request: self._request(request.url))

    def _console(self, message: ConsoleMessage) -> None:
        # A page that comes with a 4xx is what some tests ask for; Chromium remarks on each.
        if "the server responded with a status of 4" not in message.text:
            self.said.append(message.text)

    def _request(self, url: str) -> None:
        if not url.startswith((self.base_url, "data:", "about:")):
            self.said.append(f"asked {url}")


@contextmanager
def running(folder: Path, password: str = "") -> Iterator[Site]:
    """Serve the database in the folder until the block ends."""
    port = services.free_port()
    settings = load(
        {
            "VMTRAK_DATA_DIR": str(folder),
            "VMTRAK_BASE_URL": f"http://127.0.0.1:{port}",
            "VMTRAK_DATABASE_URL": f"sqlite:///{folder / FILE}",
            "VMTRAK_CREDENTIAL_KEYS": CREDENTIAL_KEYS,
            "TZ": ZONE,
        },
        None,
    )
    app = application.build(settings, probing=False)
    config = uvicorn.Config(app, port=port, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until_started(server, thread)
        yield Site(settings.base_url, app.state.vmtrak, password)
    finally:
        server.should_exit = True
        thread.join()


def wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A database file with the sample inventory, and everybody's password."""
    path = tmp_path_factory.mktemp("sample") / FILE
    with closing(Database(f"sqlite:///{path}")) as database:
        today = datetime.now(ZoneInfo(ZONE)).date()
        return path, demo.fill(database, today, KeyRing([("browser", KEY)]))


@pytest.fixture(scope="module")
def site(sample: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    path, password = sample
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(path, folder / FILE)
    with running(folder, password) as site:
        yield site


@pytest.fixture
def new_site(tmp_path: Path) -> Iterator[Site]:
    """A VMTrak that nobody has set up."""
    with closing(Database(f"sqlite:///{tmp_path / FILE}")) as database:
        schema.migrate(database)
    with running(tmp_path) as site:
        yield site


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with services.chromium_browser() as browser:
        yield browser


@pytest.fixture
def at(browser: Browser, site: Site) -> Iterator[Callable[..., Page]]:
    """Open a browser for a person, or for nobody; at the end no console has said anything."""
    watch, contexts = Watch(site.base_url), []

    def open_for(person: str | None, **options: Any) -> Page:
        context = browser.new_context(base_url=site.base_url, **options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        watch.over(context)
        if person:
            token, domain = site.session(person), "127.0.0.1"
            context.add_cookies(
                [{"name": PANEL_COOKIE, "value": token, "domain": domain, "path": "/admin"}]
            )
        return context.new_page()

    yield open_for
    for context in contexts:
        context.close()
    assert watch.said == []


@pytest.fixture
def admin(at: Callable[..., Page]) -> Page:
    """The administrator at a desk, 1440 wide."""
    return at("admin", viewport={"width": 1440, "height": 900})


@pytest.fixture
def phone(at: Callable[..., Page]) -> Page:
    """The administrator with a telephone."""
    return at("admin", viewport={"width": 390, "height": 844}, has_touch=True)
