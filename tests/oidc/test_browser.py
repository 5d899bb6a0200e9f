"""Chromium from the sign-in button to the panel and out again.

The provider is localhost and VMTrak 127.0.0.1: two sites, so that the cookies have to stand what
they meet between a company's provider and its VMTrak.
"""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from playwright.sync_api import Browser, Page, Route, expect

from tests import services
from tests.browser.conftest import Watch, wait_until_started
from tests.oidc.conftest import CLIENT_ID, SITE_ADMIN, oidc_settings, registered
from tests.oidc.people import PEOPLE
from tests.oidc.provider import Provider
from vmtrak import app as application
from vmtrak.audit import Action
from vmtrak.db import Database
from vmtrak.settings import load

START_SECONDS = 20
BUTTON = "Sign in with single sign-on"

Open = Callable[..., Page]


@dataclass(frozen=True)
class Site:
    base_url: str
    database: Database


@contextmanager
def running(folder: Path, issuer: str, port: int) -> Iterator[Site]:
    """Serve the database in the folder, for the people of that issuer."""
    own = {
        "VMTRAK_DATA_DIR": str(folder),
        "VMTRAK_BASE_URL": f"http://127.0.0.1:{port}",
        "VMTRAK_DATABASE_URL": f"sqlite:///{folder / 'inventory.db'}",
        "TZ": "Europe/Amsterdam",
    }
    settings = load(own | oidc_settings(issuer), None)
    app = application.build(settings, probing=False)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until_started(server, thread)
        yield Site(settings.base_url, app.state.vmtrak.database)
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def foreign(claims: dict[str, Any]) -> Iterator[str]:
    """The issuer of a provider that others wrote, in a process of its own."""
    port = services.free_port()
    arguments = ["-p", str(port), "--require-nonce", "--user-claims", json.dumps(claims)]
    command = [sys.executable, "-m", "oidc_provider_mock", *arguments]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    issuer = f"http://localhost:{port}"
    try:
        _wait_until_it_answers(process, issuer)
        yield issuer
    finally:
        process.terminate()
        process.wait()


def _wait_until_it_answers(process: "subprocess.Popen[bytes]", issuer: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None
        assert time.monotonic() < deadline
        try:
            httpx2.get(f"{issuer}/.well-known/openid-configuration").raise_for_status()
        except httpx2.TransportError:
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with services.chromium_browser() as browser:
        yield browser


@pytest.fixture
def site(sqlite_template: Path, tmp_path: Path, served: Provider) -> Iterator[Site]:
    shutil.copy(sqlite_template, tmp_path / "inventory.db")
    port = services.free_port()
    served.reset()
    served.clients[CLIENT_ID] = registered(f"http://127.0.0.1:{port}")
    with running(tmp_path, served.issuer, port) as site:
        yield site


def _local_only(route: Route) -> None:
    """Pages of the foreign provider ask for a style sheet from far away."""
    host = route.request.url.partition("://")[2]
    if host.startswith(("127.0.0.1:", "localhost:")):
        route.continue_()
    else:
        route.abort()


class OwnConsole(Watch):
    """What VMTrak's own pages said; the providers' may say what they like."""

    def _console(self, message: Any) -> None:
        if message.page and message.page.url.startswith(self.base_url):
            super()._console(message)

    def _request(self, url: str) -> None:
        """People leave for the provider and come back."""


@contextmanager
def opening(browser: Browser, site: Site) -> Iterator[Open]:
    """Open tabs: of one browser, unless a new one is asked for."""
    watch, contexts = OwnConsole(site.base_url), []

    def open_tab(beside: Page | None = None, **options: Any) -> Page:
        if beside is not None:
            return beside.context.new_page()
        context = browser.new_context(base_url=site.base_url, **options)
        context.set_default_timeout(10_000)
        context.route("**/*", _local_only)
        watch.over(context)
        contexts.append(context)
        return context.new_page()

    yield open_tab
    for context in contexts:
        context.close()
    assert watch.said == []


@pytest.fixture
def tab(browser: Browser, site: Site) -> Iterator[Open]:
    with opening(browser, site) as open_tab:
        yield open_tab


def go_to_provider(page: Page, address: str = "/admin/") -> None:
    page.goto(address)
    page.wait_for_url("**/admin/login**")
    page.get_by_role("link", name=BUTTON).click()
    page.wait_for_url("http://localhost:*/**")


def pass_the_provider(page: Page, person: str = "ada", consent: str = "Allow") -> None:
    page.get_by_role("button", name=f"Continue as {person}").click()
    page.get_by_role("button", name=consent).click()


def sign_in(page: Page, person: str = "ada", address: str = "/admin/") -> None:
    go_to_provider(page, address)
    pass_the_provider(page, person)
    page.wait_for_url(f"**{address}")


def actions(site: Site) -> list[str]:
    with site.database.read() as session:
        rows = session.connection().exec_driver_sql(
            "SELECT action FROM audit_events WHERE action LIKE 'auth.%' ORDER BY id"
        )
        return [row[0] for row in rows]


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_from_the_button_to_the_panel_and_out_again(
    tab: Open, site: Site, served: Provider, *, scripts: bool
) -> None:
    page = tab(java_script_enabled=scripts)
    sign_in(page, address="/admin/vm/list?status=inactive")
    expect(page.locator(".person")).to_contain_text("ada.lovelace@corp.example")
    expect(page.get_by_role("link", name="Users")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/admin/microsoft/signed-out**")
    page.locator(f"a[href^='{served.issuer}/logout']").click()
    page.get_by_role("button", name="Sign out everywhere").click()
    if not scripts:
        page.get_by_role("link", name="Back to VMTrak").click()
    page.wait_for_url("**/admin/login**")
    assert served.seats == {}
    page.goto("/admin/vm/list")
    page.wait_for_url("**/admin/login?next=*")
    page.get_by_role("link", name=BUTTON).click()
    expect(page.get_by_role("heading", name="Sign in at the provider")).to_be_visible()
    assert actions(site) == [Action.LOGIN, Action.LOGOUT]


def test_two_tabs_sign_in_at_the_same_time(tab: Open, site: Site) -> None:
    first = tab()
    second = tab(first)
    go_to_provider(first, "/admin/vm/list")
    go_to_provider(second, "/admin/hypervisor/list")
    pass_the_provider(first)
    first.wait_for_url("**/admin/vm/list")
    second.get_by_role("button", name="Continue as ada").click()
    second.wait_for_url("**/admin/hypervisor/list")
    for page in (first, second):
        page.reload()
        expect(page.get_by_role("navigation", name="Main")).to_be_visible()
    assert Action.LOGIN_FAILED not in actions(site)


def test_who_cancels_reads_so_and_can_try_again(tab: Open, site: Site) -> None:
    page = tab()
    go_to_provider(page)
    pass_the_provider(page, consent="Cancel")
    page.wait_for_url("**/api/auth/microsoft/callback?*")
    expect(page.get_by_role("main")).to_contain_text("You cancelled the sign-in")
    page.get_by_role("link", name="sign-in page").click()
    page.get_by_role("link", name=BUTTON).click()
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url("**/admin/")
    assert actions(site) == [Action.LOGIN_FAILED, Action.LOGIN]


def test_who_has_no_role_reads_whom_to_ask(tab: Open, site: Site) -> None:
    page = tab()
    go_to_provider(page)
    pass_the_provider(page, "nobody")
    expect(page.get_by_role("main")).to_contain_text("nobody has given you a role")
    expect(page.get_by_role("link", name=SITE_ADMIN)).to_have_attribute(
        "href", f"mailto:{SITE_ADMIN}"
    )
    page.goto("/admin/")
    page.wait_for_url("**/admin/login**")
    assert actions(site) == [Action.LOGIN_FAILED]


def test_going_back_to_the_provider_s_answer_harms_nothing(tab: Open) -> None:
    page = tab()
    answers: list[str] = []
    page.on("request", lambda request: answers.append(request.url))
    sign_in(page)
    (callback,) = (url for url in answers if "/callback?" in url)
    page.goto(callback)
    expect(page.get_by_role("main")).to_contain_text("is over already")
    page.goto("/admin/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Dashboard")


def test_signing_out_at_the_provider_signs_out_here_over_its_frame(
    tab: Open, site: Site, served: Provider
) -> None:
    page = tab()
    sign_in(page)
    other = tab(page)
    other.goto(f"{served.issuer}/logout")
    other.get_by_role("button", name="Sign out everywhere").click()
    heading = "You have signed out at the provider"
    expect(other.get_by_role("heading", name=heading)).to_be_visible()
    expect(other.frame_locator("iframe").locator("html")).to_be_attached()
    page.reload()
    page.wait_for_url("**/admin/login**")
    assert actions(site) == [Action.LOGIN, Action.LOGOUT]


def test_a_page_of_the_rest_interface_refreshes_its_token_after_the_sign_in(tab: Open) -> None:
    page = tab()
    page.goto("/api/auth/microsoft?client=rest&next=/api/docs")
    pass_the_provider(page)
    page.wait_for_url("**/api/docs")
    me = page.evaluate(
        """async () => {
          const answer = await fetch("/api/auth/refresh", {method: "POST"});
          const {accessToken} = await answer.json();
          const bearer = {Authorization: `Bearer ${accessToken}`};
          return (await fetch("/api/auth/me", {headers: bearer})).json();
        }"""
    )
    assert (me["email"], me["role"]) == (PEOPLE["ada"]["email"], "admin")


def test_another_provider_that_others_wrote_works_as_well(
    browser: Browser, sqlite_template: Path, tmp_path: Path
) -> None:
    shutil.copy(sqlite_template, tmp_path / "inventory.db")
    claims = {**PEOPLE["ada"], "sub": "ada"}
    with (
        foreign(claims) as issuer,
        running(tmp_path, issuer, services.free_port()) as site,
        opening(browser, site) as open_tab,
    ):
        page = open_tab()
        go_to_provider(page, "/admin/vm/list")
        page.get_by_role("button", name="ada", exact=True).click()
        page.wait_for_url("**/admin/vm/list")
        expect(page.locator(".person")).to_contain_text("ada.lovelace@corp.example")
        page.get_by_role("button", name="Sign out").click()
        page.locator(f"a[href^='{issuer}/']").click()
        page.get_by_role("button", name="End session").click()
        page.wait_for_url("**/admin/login**")
        assert actions(site) == [Action.LOGIN, Action.LOGOUT]
