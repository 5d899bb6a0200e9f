"""Signing out here, at the provider, and at the provider alone."""

import html
import re

import pytest

from tests.conftest import BASE_URL
from tests.oidc import troubles
from tests.oidc.conftest import SQLITE, Visit, registered, sessions_in, trail
from tests.oidc.provider import Mischief, Provider
from tests.oidc.visitor import query_of
from vmtrak.audit import Action
from vmtrak.db import Database
from vmtrak.web.guard import PANEL_COOKIE

FRONT_CHANNEL = "/api/auth/microsoft/logout"


def sid_of(provider: Provider) -> str:
    (seat,) = provider.seats.values()
    return seat.sid


def sign_out(visit: Visit) -> str:
    """Sign out of the panel; the page on which the browser ends up."""
    response = visit.vmtrak.post("/admin/logout", headers={"Origin": BASE_URL})
    assert response.status_code == 303
    return visit.vmtrak.get(response.headers["location"]).text


def test_after_the_sign_out_the_provider_s_own_is_offered(
    visit: Visit, provider: Provider, database: Database
) -> None:
    visit.sign_in()
    page = sign_out(visit)
    assert not visit.signed_in
    assert len(trail(database, Action.LOGOUT)) == 1
    found = re.search(rf'href="({re.escape(provider.issuer)}/logout[^"]*)"', page)
    assert found, page
    address = html.unescape(found[1])
    assert query_of(address)["post_logout_redirect_uri"] == registered(BASE_URL).after_sign_out
    visit.surfer.client.get(address, params={"sure": "yes"} | query_of(address))
    assert provider.seats == {}


def test_who_signed_in_with_a_password_is_not_sent_to_the_provider(
    visit: Visit, admin: object
) -> None:
    response = visit.vmtrak.post("/admin/logout", headers={"Origin": BASE_URL})
    assert response.headers["location"] == "/admin/login"


@SQLITE
def test_signing_out_works_where_the_provider_has_no_sign_out(
    visit: Visit, provider: Provider
) -> None:
    provider.mischief = Mischief(metadata={"end_session_endpoint": None})
    visit.sign_in()
    page = sign_out(visit)
    assert not visit.signed_in
    assert provider.issuer not in page
    assert "/admin/login" in page


@SQLITE
def test_signing_out_works_while_the_provider_is_in_trouble(
    visit: Visit, provider: Provider, later: object
) -> None:
    visit.sign_in()
    later(3700)  # type: ignore[operator]
    provider.mischief.answers["metadata"] = troubles.status(500)
    page = sign_out(visit)
    assert not visit.signed_in
    assert "You have signed out" in page


@pytest.mark.parametrize("client", ["panel", "rest"])
def test_who_signs_out_at_the_provider_is_signed_out_here(
    visit: Visit, second_visit: Visit, database: Database, provider: Provider, client: str
) -> None:
    """A frame without cookies says so; every session that began there ends, and no other."""
    visit.sign_in("ada", f"?client={client}")
    sid = sid_of(provider)
    second_visit.sign_in("otto")
    visit.vmtrak.cookies.clear()
    response = visit.vmtrak.get(FRONT_CHANNEL, params={"iss": provider.issuer, "sid": sid})
    assert response.status_code == 200
    assert "no-store" in response.headers["cache-control"]
    ended = [session.ended_at is not None for session in sessions_in(database)]
    assert ended == [True, False]
    assert second_visit.signed_in
    (event,) = trail(database, Action.LOGOUT)
    assert event.user_id == sessions_in(database)[0].user_id


@SQLITE
def test_the_page_for_the_frame_may_be_framed_by_the_provider_alone(
    visit: Visit, provider: Provider
) -> None:
    response = visit.vmtrak.get(FRONT_CHANNEL, params={"iss": provider.issuer, "sid": "unknown"})
    origin = "/".join(provider.issuer.split("/")[:3])
    assert f"frame-ancestors {origin}" in response.headers["content-security-policy"]
    assert "x-frame-options" not in response.headers
    other = visit.vmtrak.get("/admin/login")
    assert "frame-ancestors 'none'" in other.headers["content-security-policy"]
    assert other.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"sid": "unknown"}, 200),
        ({"iss": "https://login.evil.example"}, 400),
        ({"sid": ""}, 400),
        ({"sid": "%"}, 200),
        ({"sid": "\x00"}, 400),
        ({"sid": "s" * 5000}, 422),
    ],
    ids=str,
)
def test_nobody_else_can_sign_people_out(
    visit: Visit, database: Database, provider: Provider, given: dict[str, str], status: int
) -> None:
    visit.sign_in()
    told = {"iss": provider.issuer, "sid": sid_of(provider)} | given
    assert visit.vmtrak.get(FRONT_CHANNEL, params=told).status_code == status
    assert visit.signed_in
    assert trail(database, Action.LOGOUT) == []


def test_a_session_without_the_provider_s_number_is_ended_by_no_number(
    visit: Visit, provider: Provider
) -> None:
    provider.mischief = Mischief(claims={"sid": None})
    visit.sign_in()
    for sid in ("", "None", "null"):
        visit.vmtrak.get(FRONT_CHANNEL, params={"iss": provider.issuer, "sid": sid})
    assert visit.signed_in


def test_a_session_that_was_ended_at_the_provider_does_not_come_back_with_its_cookie(
    visit: Visit, provider: Provider
) -> None:
    visit.sign_in()
    cookie = visit.vmtrak.cookies[PANEL_COOKIE]
    visit.vmtrak.get(FRONT_CHANNEL, params={"iss": provider.issuer, "sid": sid_of(provider)})
    visit.vmtrak.cookies.set(PANEL_COOKIE, cookie, domain="127.0.0.1", path="/admin")
    assert not visit.signed_in
