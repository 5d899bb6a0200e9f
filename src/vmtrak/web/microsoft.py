"""A sign-in over the provider from its first step to its last, for both doors.

`web.oidc` tells how it goes, and speaks to the provider; `accounts.identities` knows the people.
"""

import hmac
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from urllib.parse import unquote, urlencode

from loguru import logger
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from vmtrak.access import Actor
from vmtrak.accounts import identities, limits, sessions
from vmtrak.accounts.identities import Person
from vmtrak.db import Work, now
from vmtrak.errors import Conflict, Refusal, SignInRefused
from vmtrak.web import cookies, sign_in
from vmtrak.web.oidc import Flow, Provider, person_of
from vmtrak.web.oidc.flows import LIFETIME, PREFIX, cookie_name, opened, sealed
from vmtrak.web.oidc.tokens import check_fresh
from vmtrak.web.state import State, actor_of

PATH = "/api/auth/microsoft"
CALLBACK = f"{PATH}/callback"
FRONT_CHANNEL = f"{PATH}/logout"

_MOST = 8
"""Flows under way in one browser: each takes 500 bytes of every request to `PATH`, and proxies
refuse headers of more than 8 kB."""

_LONGEST_TARGET = 1024
"""Characters of the address to go on to: a cookie holds 4 kB."""


def provider_of(state: State) -> Provider:
    if state.oidc is None:
        raise HTTPException(503, "Sign-in with Microsoft is not set up here.")
    return state.oidc


def own_place(target: str | None) -> str:
    """The address that a client of the REST interface goes on to: any on this server."""
    target = target or "/"
    path = unquote(target.partition("?")[0])
    own = target.startswith("/") and target.isprintable() and len(target) <= _LONGEST_TARGET
    return target if own and not any(part in path for part in ("//", "\\", "/.", "#")) else "/"


def panel_flow(request: Request, *, prove: bool) -> Flow:
    """A flow for the panel session of this browser, if it has one."""
    target = sign_in.own_path(request.query_params.get("next"))
    if len(target) > _LONGEST_TARGET:
        target = sign_in.AFTER_SIGN_IN
    return Flow("panel", target, prove=prove, session_id=actor_of(request).session_id)


async def begin(state: State, request: Request, flow: Flow) -> Response:
    """Lead to the provider, with the flow in a cookie of its own.

    Another site's link gets no further than the page with the button: a provider that knows the
    browser asks nothing, and nobody is to be signed in without having wanted it.
    """
    if request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
        return RedirectResponse(f"/admin/login?{urlencode({'next': flow.target})}", 303)
    async with noted(state, request, flow.proves_session):
        address = await provider_of(state).address(flow)
    response = RedirectResponse(address, 303)
    for name in _surplus(state, request):
        _drop(response, state, name)
    response.set_cookie(
        flow.cookie,
        sealed(flow, state.rules.secret),
        max_age=LIFETIME,
        path=PATH,
        secure=state.secure_cookies,
        httponly=True,
        samesite="lax",
    )
    return response


def _surplus(state: State, request: Request) -> list[str]:
    """Of too many flows under way the oldest, and what cannot be opened."""
    given = {name: text for name, text in request.cookies.items() if name.startswith(PREFIX)}
    flows = {name: opened(text, state.rules.secret) for name, text in given.items()}
    began = {name: flow.began if flow else 0 for name, flow in flows.items()}
    return sorted(began, key=lambda name: -began[name])[_MOST - 1 :]


async def finish(state: State, request: Request) -> Response:
    """Take the provider's answer: start a session, or renew the one that was to be proved."""
    provider = provider_of(state)
    async with _paced(state, request) as weight, noted(state, request, paced=True) as noting:
        answer = _answer(request)
        flow = _flow(state, request, answer.get("state"))
        noting.session_id = flow.proves_session
        person = person_of(provider.registration, await provider.claims(flow, answer))
        if flow.prove:
            check_fresh(flow, person.proof.at)
        response = await _enter(state, request, flow, person, weight)
    forget(response, state, request)
    return response


class _Noted:
    """Which session was to be proved, once that is known."""

    def __init__(self, session_id: int | None) -> None:
        self.session_id = session_id


def _paced(state: State, request: Request) -> AbstractAsyncContextManager[int]:
    """Slow an address down from which too many fail: the trail and the provider are spared."""
    visitor = actor_of(request)
    return sign_in.paced(state, visitor, None, limits.of_address(visitor.ip_address))


@asynccontextmanager
async def noted(
    state: State, request: Request, session_id: int | None = None, *, paced: bool = False
) -> AsyncIterator[_Noted]:
    """Record a refusal in the trail and in the log before it is answered.

    It counts at its address, unless it is `paced` and was counted before.
    """
    found = _Noted(session_id)
    try:
        yield found
    except SignInRefused as refused:
        logger.warning("sign-in over the provider: {} ({})", refused.reason.value, refused.cause)
        async with nullcontext() if paced else _paced(state, request):
            await state.database.writing(_note, state, actor_of(request), refused, found.session_id)
        raise


def _note(state: State, visitor: Actor, refused: SignInRefused, session_id: int | None) -> None:
    with state.database.work(visitor) as work:
        identities.note_refusal(work, refused, session_id)


def _answer(request: Request) -> dict[str, str]:
    """What the provider says; nothing may be said twice (RFC 6749, 3.1)."""
    given = request.query_params.multi_items()
    answer = dict(given)
    if len(answer) < len(given):
        raise SignInRefused(Refusal.MALFORMED, "a parameter is there twice")
    return answer


def _flow(state: State, request: Request, given: str | None) -> Flow:
    """The flow that the provider's `state` names, if this browser began it and it still runs."""
    text = request.cookies.get(cookie_name(given)) if given else None
    flow = opened(text, state.rules.secret) if text else None
    if flow is None or not given or not hmac.compare_digest(flow.state.encode(), given.encode()):
        raise SignInRefused(Refusal.NO_FLOW)
    if not 0 <= now().timestamp() - flow.began <= LIFETIME:
        raise SignInRefused(Refusal.FLOW_EXPIRED)
    return flow


def forget(response: Response, state: State, request: Request) -> None:
    """Take the flow's cookie away: whatever came of it, it is over."""
    name = cookie_name(request.query_params.get("state", ""))
    if name in request.cookies:
        _drop(response, state, name)


def _drop(response: Response, state: State, name: str) -> None:
    response.delete_cookie(
        name, path=PATH, secure=state.secure_cookies, httponly=True, samesite="lax"
    )


async def _enter(
    state: State, request: Request, flow: Flow, person: Person, weight: int
) -> Response:
    agent = request.headers.get("user-agent")
    arguments = (state, actor_of(request), flow, person, agent, weight)
    try:
        entered = await state.database.writing(_entered, *arguments)
    except Conflict:  # another sign-in of the same new person: now there is an account
        entered = await state.database.writing(_entered, *arguments)
    response = RedirectResponse(flow.target, 303)
    if isinstance(entered, sessions.Tokens):
        cookies.set_refresh(response, state, entered)
    else:
        cookies.set_panel(response, state, entered)
    return response


def _entered(  # noqa: PLR0913, PLR0917 - what one unit of work needs
    state: State, visitor: Actor, flow: Flow, person: Person, agent: str | None, weight: int
) -> str | sessions.Tokens:
    with state.database.work(visitor) as work:
        entered = _admitted(work, state, flow, person, agent)
        limits.give_back(work, limits.of_address(visitor.ip_address), weight)
        return entered


def _admitted(
    work: Work, state: State, flow: Flow, person: Person, agent: str | None
) -> str | sessions.Tokens:
    if flow.client == "rest":
        user = identities.admit(work, person)
        return sessions.sign_in_api(work, user.id, state.rules, agent, person.proof)
    if flow.proves_session is not None:
        return identities.prove(work, person, flow.proves_session)
    return identities.start_panel(work, person, agent, flow.session_id)


def sign_out(state: State, visitor: Actor, provider_sid: str) -> int:
    """End the sessions that began with this session at the provider."""
    with state.database.work(visitor) as work:
        return identities.sign_out(work, provider_sid)
