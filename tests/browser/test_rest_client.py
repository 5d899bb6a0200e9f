"""A browser client of the REST interface, end to end: 401, refresh, the request again; or sign-in.

The page is the test's own, answered by Chromium in the place of the server for one address of the
same origin. All that it asks goes to the running VMTrak.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, Route
from sqlalchemy import select

from tests.browser.conftest import Site
from tests.conftest import Later
from vmtrak.access import SYSTEM
from vmtrak.accounts import NewUser, sessions, users
from vmtrak.audit import AuditEvent

CLIENT = """<!doctype html><html lang="en"><title>A client</title><h1>A client</h1>
<script src="/client/client.js"></script></html>"""

SCRIPT = """
const client = { token: null, log: [] };

client.login = async (username, password) => {
  const answer = await fetch("/api/auth/login", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ username, password }),
  });
  client.token = (await answer.json()).accessToken;
  return answer.status;
};

client.refresh = async () => {
  const answer = await fetch("/api/auth/refresh", { method: "POST" });
  client.log.push(`refresh ${answer.status}`);
  if (!answer.ok) {
    location.href = "/admin/login";
    return false;
  }
  client.token = (await answer.json()).accessToken;
  return true;
};

client.ask = async (address, again = true) => {
  const answer = await fetch(address, { headers: { Authorization: `Bearer ${client.token}` } });
  client.log.push(`${address} ${answer.status}`);
  if (answer.status === 401 && again) {
    return (await client.refresh()) ? client.ask(address, false) : null;
  }
  return answer.json();
};
"""


@pytest.fixture
def person(site: Site) -> Iterator[dict[str, str]]:
    """Somebody of whom no other test knows."""
    name, password = f"client-{secrets.token_hex(4)}", secrets.token_urlsafe(12)
    given = {"username": name, "email": f"{name}@vmtrak.example", "role": "readwrite"}
    with site.database.work(SYSTEM) as work:
        user = users.add(work, NewUser.model_validate({**given, "password": password}))
        user.must_change_password = False
    yield {"username": name, "password": password}
    with site.database.work(SYSTEM) as work:
        users.deactivate(work, user.id)


def serve_page(route: Route) -> None:
    script = route.request.url.endswith(".js")
    kind = "text/javascript" if script else "text/html"
    route.fulfill(status=200, content_type=kind, body=SCRIPT if script else CLIENT)


def opened(page: Page) -> Page:
    page.context.route("**/client/**", serve_page)
    page.goto("/client/")
    return page


def signed_in(page: Page, person: dict[str, str]) -> Page:
    opened(page)
    assert page.evaluate("p => client.login(p.username, p.password)", person) == 200
    return page


def end_sessions(site: Site, person: dict[str, str]) -> None:
    with site.database.work(SYSTEM) as work:
        user = users.named(work.session, person["username"])
        assert user is not None
        sessions.end_all(work, user.id)


def log_of(page: Page) -> list[str]:
    found: list[str] = page.evaluate("client.log.splice(0)")
    return found


ASKED_TWICE = ["/api/auth/me 401", "refresh 200", "/api/auth/me 200"]


def test_a_client_whose_token_has_run_out_refreshes_and_asks_again(
    at: Callable[..., Page], person: dict[str, str], later: Later
) -> None:
    page = signed_in(at(None), person)
    assert page.evaluate("client.ask('/api/auth/me')")["username"] == person["username"]
    assert log_of(page) == ["/api/auth/me 200"]
    for _ in range(2):
        before = page.evaluate("client.token")
        later(15 * 60)
        assert page.evaluate("client.ask('/api/auth/me')")["username"] == person["username"]
        assert log_of(page) == ASKED_TWICE
        assert page.evaluate("client.token") != before


def test_a_page_that_is_opened_anew_goes_on_with_the_cookie(
    at: Callable[..., Page], person: dict[str, str]
) -> None:
    page = signed_in(at(None), person)
    page.reload()
    assert page.evaluate("client.ask('/api/auth/me')")["username"] == person["username"]
    assert log_of(page) == ASKED_TWICE


def test_no_script_can_read_the_cookie(at: Callable[..., Page], person: dict[str, str]) -> None:
    page = signed_in(at(None), person)
    assert page.evaluate("document.cookie") == ""
    cookies: list[Any] = page.context.cookies()
    (cookie,) = [each for each in cookies if each["name"] == "refreshToken"]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/api/auth")
    assert 0 < cookie["expires"] - time.time() <= 7 * 24 * 3600


def test_five_tabs_that_refresh_at_once_all_go_on(
    at: Callable[..., Page], person: dict[str, str], later: Later
) -> None:
    page = signed_in(at(None), person)
    tabs = [page, *(opened(page.context.new_page()) for _ in range(4))]
    for _ in range(2):
        later(15 * 60)
        for tab in tabs:
            tab.evaluate("() => { window.found = client.ask('/api/auth/me'); }")
        for tab in tabs:
            assert tab.evaluate("found")["username"] == person["username"]
            assert log_of(tab) == ASKED_TWICE


def test_a_client_whose_session_has_ended_goes_to_the_sign_in_page(
    at: Callable[..., Page], site: Site, person: dict[str, str]
) -> None:
    page = signed_in(at(None), person)
    end_sessions(site, person)
    page.evaluate("() => { client.ask('/api/auth/me'); }")
    page.wait_for_url("**/admin/login")
    page.get_by_label("User name").fill(person["username"])
    page.get_by_label("Password").fill(person["password"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/admin/")


def test_a_client_that_was_away_too_long_goes_to_the_sign_in_page(
    at: Callable[..., Page], person: dict[str, str], later: Later
) -> None:
    page = signed_in(at(None), person)
    later(7 * 24 * 3600)
    page.evaluate("() => { client.ask('/api/auth/me'); }")
    page.wait_for_url("**/admin/login")


def test_a_stolen_token_ends_the_session_of_thief_and_owner(
    at: Callable[..., Page], site: Site, person: dict[str, str], later: Later
) -> None:
    owner, thief = signed_in(at(None), person), at(None)
    stolen: list[Any] = [c for c in owner.context.cookies() if c["name"] == "refreshToken"]
    later(15 * 60)
    owner.evaluate("client.ask('/api/auth/me')")
    assert log_of(owner) == ASKED_TWICE
    later(11)
    thief.context.add_cookies(stolen)
    opened(thief).evaluate("() => { client.ask('/api/auth/me'); }")
    thief.wait_for_url("**/admin/login")
    owner.evaluate("() => { client.ask('/api/auth/me'); }")
    owner.wait_for_url("**/admin/login")
    reuse = select(AuditEvent.id).where(
        AuditEvent.action == "auth.refresh_reuse", AuditEvent.username == person["username"]
    )
    with site.database.read() as session:
        assert len(session.scalars(reuse).all()) == 1
