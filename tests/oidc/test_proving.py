"""Showing again who is there, for what a session of yesterday is not enough."""

from datetime import timedelta

import pytest
from httpx2 import Response

from tests.conftest import Later
from tests.oidc.conftest import SQLITE, Visit, sessions_in, trail
from tests.oidc.provider import Mischief, Provider
from tests.oidc.visitor import query_of
from vmtrak.audit import Action
from vmtrak.db import Database
from vmtrak.web.guard import PANEL_COOKIE

PROVE = "/admin/microsoft?purpose=prove&next=/admin/account/"
HOUR = 3600


@pytest.fixture
def hour_later(visit: Visit, provider: Provider, later: Later) -> None:
    """Otto signed in an hour ago, and has used the panel since."""
    assert visit.sign_in("otto").status_code == 303
    later(HOUR)
    provider.mischief.skew = HOUR


def prove(visit: Visit, person: str = "otto") -> Response:
    begun = visit.vmtrak.get(PROVE)
    assert begun.status_code == 303, begun.text
    asked = query_of(begun.headers["location"])
    assert (asked["prompt"], asked["max_age"]) == ("login", "0")
    return visit.come_back(visit.surfer.sign_in(begun.headers["location"], person))


def test_signing_in_again_renews_the_session_and_its_cookie(
    visit: Visit, database: Database, hour_later: None
) -> None:
    (before,) = sessions_in(database)
    cookie = visit.vmtrak.cookies[PANEL_COOKIE]
    response = prove(visit)
    assert (response.status_code, response.headers["location"]) == (303, "/admin/account/")
    living = [session for session in sessions_in(database) if session.ended_at is None]
    (after,) = living
    assert before.proved_at is not None
    assert after.proved_at is not None
    assert after.proved_at - before.proved_at >= timedelta(seconds=HOUR)
    assert visit.vmtrak.cookies[PANEL_COOKIE] != cookie
    assert visit.signed_in
    (event,) = trail(database, Action.PROVED)
    assert event.user_id == after.user_id
    visit.vmtrak.cookies.set(PANEL_COOKIE, cookie, domain="127.0.0.1", path="/admin")
    assert not visit.signed_in


def refused(visit: Visit, database: Database, response: Response, reason: str) -> None:
    """The session goes on as it was, and is not proved."""
    assert response.status_code == 403, response.text
    assert visit.signed_in
    (session,) = sessions_in(database)
    assert session.proved_at is not None
    assert session.proved_at - session.created_at < timedelta(seconds=60)
    (event,) = trail(database, Action.PROOF_FAILED)
    assert (event.user_id, (event.detail or {})["reason"]) == (session.user_id, reason)
    assert trail(database, Action.PROVED) == []


def test_somebody_else_proves_nothing(visit: Visit, database: Database, hour_later: None) -> None:
    refused(visit, database, prove(visit, "ada"), "somebody_else")


@pytest.mark.parametrize("auth_time", [None, 1_600_000_000, True])
@SQLITE
def test_a_provider_that_does_not_say_when_proves_nothing(
    visit: Visit, database: Database, provider: Provider, hour_later: None, auth_time: object
) -> None:
    provider.mischief = Mischief(claims={"auth_time": auth_time}, skew=HOUR)
    refused(visit, database, prove(visit), "not_proved_again")


def test_a_proof_of_an_hour_ago_proves_nothing(
    visit: Visit, database: Database, provider: Provider, hour_later: None
) -> None:
    """A provider that passes over prompt and max_age shows it by auth_time."""
    (seat,) = provider.seats.values()
    provider.mischief = Mischief(claims={"auth_time": int(seat.since)}, skew=HOUR)
    refused(visit, database, prove(visit), "not_proved_again")


def test_who_cancels_keeps_the_session(visit: Visit, database: Database, hour_later: None) -> None:
    begun = visit.vmtrak.get(PROVE).headers["location"] + "&prompt=consent"
    begun = begun.replace("prompt=login&", "")
    address = visit.surfer.sign_in(begun, "otto", consent="cancel")
    refused(visit, database, visit.come_back(address), "cancelled")


def test_a_session_that_has_ended_meanwhile_is_not_revived(
    visit: Visit, database: Database, hour_later: None
) -> None:
    begun = visit.vmtrak.get(PROVE).headers["location"]
    visit.vmtrak.post("/admin/logout", headers={"Origin": "http://127.0.0.1:3000"})
    response = visit.come_back(visit.surfer.sign_in(begun, "otto"))
    assert response.status_code == 401
    assert not visit.signed_in
    assert len(sessions_in(database)) == 1
    assert trail(database, Action.PROVED) == []


@SQLITE
def test_without_a_session_there_is_nothing_to_prove(visit: Visit) -> None:
    response = visit.vmtrak.get(PROVE)
    assert response.status_code in {303, 401}
    assert "localhost" not in response.headers.get("location", "")


def test_the_flow_of_a_sign_in_proves_nothing(
    visit: Visit, database: Database, hour_later: None
) -> None:
    """Who takes `prompt` out of the way to the provider still has to say when."""
    visit.come_back(visit.surfer.sign_in(visit.vmtrak.get("/admin/microsoft").headers["location"]))
    living = [session for session in sessions_in(database) if session.ended_at is None]
    (session,) = living
    assert session.proved_at is not None
    assert session.created_at - session.proved_at >= timedelta(seconds=HOUR - 60)
    assert trail(database, Action.PROVED) == []
