"""The guard before both doors: who asks, from where, and the headers of every answer."""

import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from loguru import logger
from starlette.exceptions import HTTPException
from starlette.requests import Request, cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vmtrak.access import Actor
from vmtrak.accounts import actors, api_tokens
from vmtrak.errors import Forbidden, NotAuthenticated, SecondFactorRequired, SetupRequired
from vmtrak.logs import bound
from vmtrak.web import calendars
from vmtrak.web.errors import for_scripts, status_of
from vmtrak.web.proxies import client_address
from vmtrak.web.state import ACTOR, State

PANEL_COOKIE = "vmtrak_session"
REFRESH_COOKIE = "refreshToken"

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

OPEN = frozenset(
    {
        "/",
        "/favicon.ico",
        "/admin/login",
        "/admin/logout",
        "/admin/setup",
        "/admin/link",
        "/api/health",
        "/api/openapi.json",
        "/api/docs",
        "/api/auth/login",
        "/api/auth/refresh",
        "/api/auth/logout",
        "/admin/microsoft",
        "/admin/microsoft/signed-out",
        "/api/auth/microsoft",
        "/api/auth/microsoft/callback",
        "/api/auth/microsoft/logout",
        calendars.HIDDEN,
    }
)
"""Addresses that need no actor."""

UNFINISHED = frozenset(
    {"/admin/complete-setup", "/admin/logout", "/api/auth/complete-setup", "/api/auth/logout"}
)
"""What works for an account that must finish its set-up first."""

UNENROLLED = frozenset(
    {
        "/admin/account/prove",
        "/admin/account/second-factor",
        "/admin/account/second-factor/confirm",
        "/admin/account/second-factor/start",
        "/admin/logout",
        "/api/auth/logout",
        "/api/auth/me",
        "/api/auth/prove",
        "/api/auth/second-factor",
        "/api/auth/second-factor/confirm",
    }
)
"""What works for an account that must set up its second factor first."""

_PANEL_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_COMMON = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]
_PANEL_HEADERS = [*_COMMON, (b"content-security-policy", _PANEL_POLICY.encode())]
_API_HEADERS = [
    *_COMMON,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
_FEED_HEADERS = [
    *(each for each in _API_HEADERS if each[0] != b"referrer-policy"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-robots-tag", b"noindex"),
]
_PAGES = frozenset({"/api/docs", "/api/auth/microsoft", "/api/auth/microsoft/callback"})
"""Addresses under /api that may answer with a page of the panel's kind."""

_FRONT_CHANNEL = "/api/auth/microsoft/logout"
_HSTS = (b"strict-transport-security", b"max-age=31536000")

LARGEST_BODY = 1024 * 1024
"""Bytes; the largest form, notes and description in four-byte characters, takes 60 kB."""

Refuse = Callable[[Request, Exception], Awaitable[Response]]


class Guard:
    """ASGI middleware. `refuse` renders an error for the door that the request knocked at."""

    def __init__(self, app: ASGIApp, state: State, refuse: Refuse) -> None:
        self._app = app
        self._state = state
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        calendars.hide(scope)
        scope["scheme"] = "https" if self._state.secure_cookies else "http"
        address = client_address(scope, self._state.trusted_proxies)
        visitor = actors.visitor(address, secrets.token_hex(8))
        scope[ACTOR] = visitor
        answer = _Answer(send, scope["path"], self._state)
        with bound(request_id=visitor.request_id):
            try:
                refused = await self._admit(scope, visitor)
                if refused is not None:
                    await refused(scope, receive, answer)
                    return
                await self._app(scope, _limited(scope, receive), answer)
            except Exception as error:  # noqa: BLE001 - the last stop: logged whole, told by its id
                await self._fail(scope, receive, answer, error)

    async def _fail(
        self, scope: Scope, receive: Receive, answer: "_Answer", error: Exception
    ) -> None:
        request = Request(scope)
        response = await self._refuse(request, error)
        if status_of(error) == 500:  # noqa: PLR2004 - a bug; what is foreseen `refuse` logs itself
            logger.opt(exception=error).error("{} {} failed", scope["method"], scope["path"])
        if not answer.started:
            await response(scope, receive, answer)

    async def _admit(self, scope: Scope, visitor: Actor) -> Response | None:
        """Find the actor; the response to give instead of what was asked for, if there is one."""
        path, method = scope["path"], scope["method"]
        headers = {name: value for name, value in scope["headers"] if name in _READ}
        api = path.startswith("/api/")
        if method not in SAFE:
            _require_same_origin(headers, lenient=api)
        if path.startswith("/static/"):
            return None
        actor = await self._actor(headers, visitor, api=api)
        if actor is None:
            return None if path in OPEN else _to_sign_in(scope, api=api)
        scope[ACTOR] = actor
        self._state.presence.note(actor)
        accept = headers.get(b"accept", b"").decode("latin-1")
        return _unfinished(actor, path, scripts=for_scripts(path, accept))

    async def _actor(
        self, headers: dict[bytes, bytes], visitor: Actor, *, api: bool
    ) -> Actor | None:
        """The session cookie counts at the panel, the bearer token at the API, never crosswise."""
        database = self._state.database
        if api:
            kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
            token = token.strip() if kind.lower() == "bearer" else ""
            scripts = token.startswith(api_tokens.PREFIX)
            look_up = api_tokens.by_token if scripts else actors.by_access_token
        else:
            token = cookie(headers.get(b"cookie", b"").decode("latin-1"), PANEL_COOKIE) or ""
            look_up = actors.by_cookie
        if not token:
            return None
        try:
            if database.sqlite:
                # A look-up by key in a local file is cheaper than handing it to a thread.
                return look_up(database, self._state.rules, token, visitor)
            return await database.reading(look_up, database, self._state.rules, token, visitor)
        except api_tokens.ForeignNetworkError as error:
            if error.is_news:
                await database.writing(self._note_foreign, visitor, error.token_id)
            raise Forbidden(str(error)) from None

    def _note_foreign(self, visitor: Actor, token_id: int) -> None:
        with self._state.database.work(visitor) as work:
            api_tokens.note_foreign(work, token_id)


def _unfinished(actor: Actor, path: str, *, scripts: bool) -> Response | None:
    """Where an account goes that has something to finish before anything else works."""
    if actor.must_change_password and path not in UNFINISHED | OPEN:
        if scripts:
            raise SetupRequired
        return RedirectResponse("/admin/complete-setup", 303)
    if actor.must_enrol and path not in UNENROLLED | UNFINISHED | OPEN:
        if scripts:
            raise SecondFactorRequired
        return RedirectResponse("/admin/account/second-factor", 303)
    return None


_READ = frozenset({b"accept", b"authorization", b"cookie", b"origin", b"sec-fetch-site", b"host"})


def _framed_by(origin: str) -> list[tuple[bytes, bytes]]:
    """The headers of the one page that another site shows in a frame."""
    common = [(name, value) for name, value in _COMMON if name != b"x-frame-options"]
    policy = f"default-src 'none'; frame-ancestors {origin}"
    return [*common, (b"content-security-policy", policy.encode())]


class _Answer:
    """Adds the security headers on the way out and remembers whether the answer has begun."""

    def __init__(self, send: Send, path: str, state: State) -> None:
        self._send = send
        self.started = False
        scripts = path.startswith("/api/") and path not in _PAGES
        self._headers = _API_HEADERS if scripts else _PANEL_HEADERS
        if path == calendars.HIDDEN:
            self._headers = _FEED_HEADERS
        if path == _FRONT_CHANNEL and state.oidc is not None:
            self._headers = _framed_by(state.oidc.registration.origin)
        if state.secure_cookies:
            self._headers = [*self._headers, _HSTS]
        self._storable = path.startswith("/static/")

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            given = message.setdefault("headers", [])
            message["headers"] = [*given, *self._headers]
            if not self._storable and not any(name == b"cache-control" for name, _ in given):
                message["headers"].append((b"cache-control", b"no-store"))
        await self._send(message)


def _limited(scope: Scope, receive: Receive) -> Receive:
    """The body as it comes in, up to `LARGEST_BODY`; 413 at once if it announces more.

    Starlette's own limit answers past the exception handlers, in plain text without headers.
    """
    announced = Request(scope).headers.get("content-length", "0")
    if not announced.isdigit() or int(announced[:20]) > LARGEST_BODY:
        raise HTTPException(413)
    read = 0

    async def limited() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > LARGEST_BODY:
            raise HTTPException(413)
        return message

    return limited


def _require_same_origin(headers: dict[bytes, bytes], *, lenient: bool) -> None:
    """Refuse an unsafe request that another site's page started.

    Browsers say so in Sec-Fetch-Site, or at least in Origin. A script that says neither may use
    the API, where no cookie gives it anything it does not hold itself.
    """
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site is not None:
        same = site == b"same-origin"
    elif origin is not None:
        _, _, place = origin.partition(b"://")
        same = bool(place) and place == headers.get(b"host")
    else:
        same = lenient
    if not same:
        message = "This request came from another site."
        raise Forbidden(message)


def _to_sign_in(scope: Scope, *, api: bool) -> Response:
    if api or scope["method"] not in SAFE or not scope["path"].startswith("/admin"):
        raise NotAuthenticated
    wants = Request(scope).headers.get("accept", "")
    if "text/html" not in wants and "*/*" not in wants:
        raise NotAuthenticated
    query = scope["query_string"].decode("latin-1")
    target = scope["path"] + (f"?{query}" if query else "")
    return RedirectResponse(f"/admin/login?next={quote(target, safe='')}", 303)


def cookie(header: str, name: str) -> str | None:
    """One cookie of the Cookie header, whatever other programs on this host put beside it."""
    return cookie_parser(header).get(name)
