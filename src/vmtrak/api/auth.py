"""REST for signing in and out."""

from starlette.responses import Response

from vmtrak import accounts, audit
from vmtrak.access import Actor
from vmtrak.accounts import Setup, SignIn, User, sessions, users
from vmtrak.api.answers import LoginAnswer, Ok, RefreshAnswer, UserAnswer
from vmtrak.api.base import Call, Endpoint, answer
from vmtrak.errors import NotAuthenticated, NotFound
from vmtrak.web import sign_in
from vmtrak.web.guard import REFRESH_COOKIE


async def login(call: Call) -> Response:
    attempt = call.json(SignIn)
    user_id = await sign_in.prove(call.state, call.request, attempt)
    tokens, user = await call.state.database.writing(_start, call, user_id)
    response = answer({"accessToken": tokens.access, "user": user})
    sign_in.set_refresh_cookie(response, call.state, tokens)
    return response


def _start(call: Call, user_id: int) -> tuple[sessions.Tokens, dict[str, object]]:
    with call.state.database.work(call.actor) as work:
        agent = call.request.headers.get("user-agent")
        tokens = sessions.sign_in_api(work, user_id, call.state.rules, agent)
        user = work.session.get_one(User, user_id)
    names = ("id", "username", "email", "role", "must_change_password")
    return tokens, {name: audit.plain(getattr(user, name)) for name in names}


def refresh(call: Call) -> Response:
    token = call.request.cookies.get(REFRESH_COOKIE)
    if not token:
        raise NotAuthenticated
    with call.state.database.work(call.actor) as work:
        tokens = sessions.refresh(work, token, call.state.rules)
    if tokens is None:
        message = "This refresh token was used before. Its session has been ended."
        raise NotAuthenticated(message)
    response = answer({"accessToken": tokens.access})
    sign_in.set_refresh_cookie(response, call.state, tokens)
    return response


def logout(call: Call) -> Response:
    """End the session of the bearer token, or that of the refresh cookie."""
    actor = call.actor if call.actor.session_id else _by_refresh_cookie(call)
    if actor is None:
        raise NotAuthenticated
    with call.state.database.work(actor) as work:
        sessions.sign_out(work)
    response = answer({"ok": True})
    sign_in.clear_refresh_cookie(response, call.state)
    return response


def _by_refresh_cookie(call: Call) -> Actor | None:
    token = call.request.cookies.get(REFRESH_COOKIE)
    found = sessions.session_of_refresh_token(call.state.database, token) if token else None
    return sessions.actor_of(found[0], call.actor, found[1]) if found else None


def me(call: Call) -> Response:
    with call.state.database.read() as session:
        user = session.get(User, call.actor.user_id)
    if user is None:
        raise NotFound
    return answer(users.shown(user))


def complete_setup(call: Call) -> Response:
    setup = call.json(Setup)
    with call.state.database.work(call.actor) as work:
        accounts.users.complete_setup(work, setup)
    return answer({"ok": True})


ENDPOINTS = (
    Endpoint(
        "POST",
        "/auth/login",
        "Sign in with name and password",
        LoginAnswer,
        login,
        body=SignIn,
        errors=(401,),
        open=True,
    ),
    Endpoint(
        "POST",
        "/auth/refresh",
        "Exchange the refresh cookie for a new access token",
        RefreshAnswer,
        refresh,
        errors=(401,),
        open=True,
    ),
    Endpoint("POST", "/auth/logout", "End the session", Ok, logout, errors=(401,), open=True),
    Endpoint("GET", "/auth/me", "Who you are", UserAnswer, me),
    Endpoint(
        "POST",
        "/auth/complete-setup",
        "Set e-mail address and password at the first sign-in",
        Ok,
        complete_setup,
        body=Setup,
        errors=(409,),
    ),
)
