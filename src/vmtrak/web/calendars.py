"""The calendar feed, the one address that has a secret in it.

Programs that subscribe to a calendar know an address and nothing else. `hide` takes the token out
of it before anything looks at the request, so that no log, event or error page can show it.
"""

import re
from collections import OrderedDict
from typing import NamedTuple

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
from vmtrak.web.turns import Turns

HIDDEN = "/calendar/-.ics"
"""The address as everything behind `hide` sees it, whatever stood behind /calendar/."""

_PREFIX, _SUFFIX = "/calendar/", ".ics"
_TOKEN = "vmtrak.calendar"  # noqa: S105 - the name under which the request keeps it

_NONE = "There is no such calendar.\n"


def address(base_url: str, token: str) -> str:
    return f"{base_url}{_PREFIX}{token}{_SUFFIX}"


def _either(character: str) -> str:
    """The character as it is, or escaped for an address, however often."""
    return f"(?:{character}|%(?:25)*{ord(character):02x})"


_TRACE = re.compile(
    "".join(map(_either, calendar_feeds.PREFIX)) + "(?:[0-9a-z_-]|%(?:25)*[2-7][0-9a-f]){32,}",
    re.IGNORECASE,
)
"""A token, or so much of one that the rest could be guessed: 11 letters of 43 are 66 bits."""


def hide(scope: Scope) -> None:
    """Take the token out of the request's address, also where it stands in a wrong one."""
    path = scope["path"]
    if path.startswith(_PREFIX):
        token = path.removeprefix(_PREFIX)
        scope[_TOKEN] = token.removesuffix(_SUFFIX) if token.endswith(_SUFFIX) else ""
        scope["path"], scope["raw_path"] = HIDDEN, HIDDEN.encode()
    scope["path"] = _TRACE.sub("-", scope["path"])
    for part in ("raw_path", "query_string"):
        scope[part] = _TRACE.sub("-", scope[part].decode("latin-1")).encode("latin-1")


class _Opened(NamedTuple):
    calendar: Calendar
    tag: str


def route(state: State) -> Route:
    texts = Texts()

    async def feed(request: Request) -> Response:
        token = request.scope[_TOKEN]
        async with state.feeds.turn(token):
            opened = await state.database.reading(_opened, state, actor_of(request), token)
            return await _answer(request, opened, texts)

    return Route(f"{_PREFIX}{{token}}{_SUFFIX}", feed)


async def _answer(request: Request, opened: _Opened | None, texts: "Texts") -> Response:
    if opened is None:
        return Response(_NONE, 404, media_type="text/plain")
    headers = {"ETag": f'"{opened.tag}"', "Cache-Control": "private, no-cache"}
    if _has(request, opened.tag):
        return Response(status_code=304, headers=headers)
    headers["Content-Disposition"] = 'inline; filename="vmtrak.ics"'
    head = request.method == "HEAD"
    text = b"" if head else await texts.of(opened.calendar, opened.tag)
    response = Response(text, headers=headers, media_type="text/calendar")
    if head:  # RFC 9110, 9.3.2: the length may be left out if only the text would tell it
        del response.headers["Content-Length"]
    return response


class Texts:
    """The last calendars' texts by their tags, `most` bytes of them; one is written at a time.

    People who see the same VMs have the same text, though each has an address of their own.
    """

    def __init__(self, most: int = 4 * 1024 * 1024) -> None:
        self._most = most
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._writing = Turns(at_once=1, waiting=80)

    async def of(self, calendar: Calendar, tag: str) -> bytes:
        async with self._writing.turn("text"):
            text = self._kept.pop(tag, None)
            if text is None:
                text = await to_thread.run_sync(calendar.text)
            self._kept[tag] = text
            while sum(map(len, self._kept.values())) > self._most:
                self._kept.popitem(last=False)
            return text


def _opened(state: State, asking: Actor, token: str) -> _Opened | None:
    """The calendar of the token's person, whoever else has signed in where it is asked for."""
    visitor = actors.visitor(asking.ip_address, asking.request_id)
    with state.database.read() as session:
        opened = calendar_feeds.by_token(session, state.rules, token, visitor)
        if opened is None:
            return None
        if opened.is_news:
            state.presence.note_feed(opened.feed_id)
        calendar = notices.calendars.of(
            session, opened.actor, state.base_url, state.today(), owned_only=opened.owned_only
        )
    return _Opened(calendar, calendar.tag)


def _has(request: Request, tag: str) -> bool:
    """Whether who asks has this very text; proxies that compress it make the tag a weak one."""
    given = request.headers.get("if-none-match", "").split(",")
    return any(one.strip().removeprefix("W/") in {f'"{tag}"', "*"} for one in given)
