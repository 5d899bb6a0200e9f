"""The calendar feed, the one address that has a secret in it.

Programs that subscribe to a calendar know an address and nothing else. `hide` takes the token out
of it before anything looks at the request, so that no log, event or error page can show it.
"""

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from vmtrak import notices
from vmtrak.access import Actor
from vmtrak.accounts import actors, calendar_feeds
from vmtrak.channels.calendars import Calendar
from vmtrak.web.state import State, actor_of

HIDDEN = "/calendar/-.ics"
"""The address as everything behind `hide` sees it, whatever stood behind /calendar/."""

_PREFIX, _SUFFIX = "/calendar/", ".ics"
_TOKEN = "vmtrak.calendar"  # noqa: S105 - the name under which the request keeps it

_NONE = "There is no such calendar.\n"


def address(base_url: str, token: str) -> str:
    return f"{base_url}{_PREFIX}{token}{_SUFFIX}"


def hide(scope: Scope) -> None:
    """Take the token out of the request's address."""
    path = scope["path"]
    if path.startswith(_PREFIX):
        token = path.removeprefix(_PREFIX)
        scope[_TOKEN] = token.removesuffix(_SUFFIX) if token.endswith(_SUFFIX) else ""
        scope["path"], scope["raw_path"] = HIDDEN, HIDDEN.encode()


def route(state: State) -> Route:
    async def feed(request: Request) -> Response:
        token = request.scope[_TOKEN]
        calendar = await state.database.reading(_opened, state, actor_of(request), token)
        if calendar is None:
            return Response(_NONE, 404, media_type="text/plain")
        headers = {"ETag": f'"{calendar.tag}"', "Cache-Control": "private, no-cache"}
        if _has(request, calendar.tag):
            return Response(status_code=304, headers=headers)
        headers["Content-Disposition"] = 'inline; filename="vmtrak.ics"'
        text = await to_thread.run_sync(calendar.text)
        return Response(text, headers=headers, media_type="text/calendar")

    return Route(f"{_PREFIX}{{token}}{_SUFFIX}", feed)


def _opened(state: State, asking: Actor, token: str) -> Calendar | None:
    """The calendar of the token's person, whoever else has signed in where it is asked for."""
    visitor = actors.visitor(asking.ip_address, asking.request_id)
    with state.database.read() as session:
        opened = calendar_feeds.by_token(session, state.rules, token, visitor)
        if opened is None:
            return None
        if opened.is_news:
            state.presence.note_feed(opened.feed_id)
        return notices.calendars.of(
            session, opened.actor, state.base_url, state.today(), owned_only=opened.owned_only
        )


def _has(request: Request, tag: str) -> bool:
    """Whether who asks has this very text; proxies that compress it make the tag a weak one."""
    given = request.headers.get("if-none-match", "").split(",")
    return any(one.strip().removeprefix("W/") in {f'"{tag}"', "*"} for one in given)
