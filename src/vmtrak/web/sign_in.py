"""Signing in with name and password, for both doors; the cookies; where to go next."""

from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from vmtrak.access import Actor
from vmtrak.accounts import SignIn, passwords, sessions
from vmtrak.errors import NotAuthenticated
from vmtrak.web.guard import PANEL_COOKIE, REFRESH_COOKIE
from vmtrak.web.state import State, actor_of

AFTER_SIGN_IN = "/admin/"

_AROUND = frozenset({"/admin/login", "/admin/logout", "/admin/setup", "/admin/link"})
"""The panel's pages that nobody wants to come to after a sign-in."""


async def prove(state: State, request: Request, attempt: SignIn) -> int:
    """The number of the user whose password this is.

    Raises `NotAuthenticated`, after the same work and in the same words, for an unknown name, a
    wrong password and a closed account; the failure is on record before the answer.
    """
    database, visitor = state.database, actor_of(request)
    found = await database.reading(sessions.candidate, database, attempt.username)
    user_id, password_hash = found or (0, None)
    right = await passwords.matches_in_thread(attempt.password.get_secret_value(), password_hash)
    if not right:
        await database.writing(_failed, state, attempt.username, visitor)
        raise NotAuthenticated(sessions.WRONG)
    return user_id


def _failed(state: State, username: str, visitor: Actor) -> None:
    with state.database.work(visitor) as work:
        sessions.sign_in_failed(work, username)


def own_path(target: str | None) -> str:
    """The address to go on to: one of the panel's own pages, or the first of them."""
    target = target or ""
    path = unquote(target.partition("?")[0])
    own = (
        target.startswith("/admin/")
        and path not in _AROUND
        and target.isprintable()
        # What a browser would shorten or turn round may lead out of the panel.
        and not any(part in path for part in ("//", "\\", "/.", "#"))
    )
    return target if own else AFTER_SIGN_IN


def set_panel_cookie(response: Response, state: State, token: str) -> None:
    response.set_cookie(
        PANEL_COOKIE,
        token,
        max_age=int(sessions.PANEL_LIFETIME.total_seconds()),
        path="/admin",
        secure=state.secure_cookies,
        httponly=True,
        samesite="lax",
    )


def clear_panel_cookie(response: Response, state: State) -> None:
    response.delete_cookie(
        PANEL_COOKIE, path="/admin", secure=state.secure_cookies, httponly=True, samesite="lax"
    )


def set_refresh_cookie(response: Response, state: State, tokens: sessions.Tokens) -> None:
    response.set_cookie(
        REFRESH_COOKIE,
        tokens.refresh,
        max_age=tokens.refresh_seconds,
        path="/api/auth",
        secure=state.secure_cookies,
        httponly=True,
        samesite="strict",
    )


def clear_refresh_cookie(response: Response, state: State) -> None:
    response.delete_cookie(
        REFRESH_COOKIE,
        path="/api/auth",
        secure=state.secure_cookies,
        httponly=True,
        samesite="strict",
    )
