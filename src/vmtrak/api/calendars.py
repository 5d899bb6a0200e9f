"""REST for one's own calendar address. The calendar itself has no bearer token: see web/."""

from starlette.responses import Response

from vmtrak import audit
from vmtrak.access import Permission
from vmtrak.accounts import NewCalendar, actors, calendar_feeds
from vmtrak.api.answers import CalendarAnswer, NewCalendarAnswer, Ok
from vmtrak.api.base import Call, Endpoint, answer
from vmtrak.errors import NotFound
from vmtrak.web import calendars


def get(call: Call) -> Response:
    with call.state.database.read() as session:
        standing = calendar_feeds.standing(session, call.actor)
    if standing is None:
        raise NotFound
    return answer(standing)


def make(call: Call) -> Response:
    """As an API token, it takes a fresh proof of identity."""
    actors.require_proof(call.actor)
    new = call.json(NewCalendar)
    with call.state.database.work(call.actor) as work:
        feed, token = calendar_feeds.make(work, owned_only=new.owned_only)
    row = {
        "address": calendars.address(call.state.base_url, token),
        "owned_only": feed.owned_only,
        "created_at": audit.plain(feed.created_at),
    }
    return answer(row, 201, {"Cache-Control": "no-store"})


def revoke(call: Call) -> Response:
    with call.state.database.work(call.actor) as work:
        calendar_feeds.revoke(work)
    return answer({"ok": True})


_OWN = Permission.ACCOUNT

ENDPOINTS = (
    Endpoint(
        "GET",
        "/auth/calendar",
        "Your calendar address, without its secret",
        CalendarAnswer,
        get,
        permission=_OWN,
        errors=(404,),
    ),
    Endpoint(
        "POST",
        "/auth/calendar",
        "Make a calendar address, which is shown this once; the one before ends",
        NewCalendarAnswer,
        make,
        body=NewCalendar,
        status=201,
        permission=_OWN,
        errors=(409,),
    ),
    Endpoint("DELETE", "/auth/calendar", "End your calendar address", Ok, revoke, permission=_OWN),
)
