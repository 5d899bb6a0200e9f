"""REST for signing in and out."""

from starlette.responses import Response

from vmtrak import accounts, audit
from vmtrak.access import Actor, Permission
from vmtrak.accounts import (
    PasswordChange,
    Setup,
    SignIn,
    Subscription,
    User,
    actors,
    sessions,
    users,
)
from vmtrak.api.answers import LoginAnswer, Ok, RefreshAnswer, SessionAnswer, UserAnswer
from vmtrak.api.base import Call, Endpoint, answer
from vmtrak.errors import NotAuthenticated, NotFound
from vmtrak.web import cookies, own_password, sign_in
from vmtrak.web.guard import REFRESH_COOKIE
from vmtrak.web.sign_in import Proven


async def login(call: Call) -> Response:
    attempt = call.json(SignIn)
    proven = await sign_in.prove(call.state, call.request, attempt)
    tokens, user = await call.state.database.writing(_start, call, proven)
    response = answer({"accessToken": tokens.access, "user": user})
    cookies.set_refresh(response, call.state, tokens)
    cookies.set_device(response, call.state, sign_in.device(call.state, proven))
    return response


def _start(call: Call, proven: Proven) -> tuple[sessions.Tokens, dict[str, object]]:
    with call.state.database.work(call.actor) as work:
        sign_in.accepted(work, proven)
        agent = call.request.headers.get("user-agent")
        before = call.request.cookies.get(REFRESH_COOKIE)
        tokens = sessions.sign_in_api(work, proven.user_id, call.state.rules, agent, before=before)
        user = work.session.get_one(User, proven.user_id)
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
    cookies.set_refresh(response, call.state, tokens)
    return response


def logout(call: Call) -> Response:
    """End the session of the bearer token, or that of the refresh cookie."""
    actor = call.actor if call.actor.session_id else _by_refresh_cookie(call)
    if actor is None:
        raise NotAuthenticated
    with call.state.database.work(actor) as work:
        sessions.sign_out(work)
    response = answer({"ok": True})
    cookies.clear_refresh(response, call.state)
    return response


def _by_refresh_cookie(call: Call) -> Actor | None:
    token = call.request.cookies.get(REFRESH_COOKIE)
    found = sessions.session_of_refresh_token(call.state.database, token) if token else None
    return actors.actor_of(found[0], call.actor, found[1]) if found else None


def me(call: Call) -> Response:
    with call.state.database.read() as session:
        user = session.get(User, call.actor.user_id)
    if user is None:
        raise NotFound
    return answer(users.shown(user))


def change_me(call: Call) -> Response:
    on = call.json(Subscription).notify_expiry
    with call.state.database.work(call.actor) as work:
        user = users.subscribe(work, on=on)
    return answer(users.shown(user))


def complete_setup(call: Call) -> Response:
    setup = call.json(Setup)
    with call.state.database.work(call.actor) as work:
        accounts.users.complete_setup(work, setup)
    return answer({"ok": True})


def list_sessions(call: Call) -> Response:
    with call.state.database.read() as session:
        return answer(sessions.of(session, call.actor, call.actor.user_id or 0))


def end_session(call: Call) -> Response:
    with call.state.database.work(call.actor) as work:
        sessions.end(work, call.number())
    return answer({"ok": True})


def end_other_sessions(call: Call) -> Response:
    with call.state.database.work(call.actor) as work:
        sessions.end_others(work)
    return answer({"ok": True})


async def change_password(call: Call) -> Response:
    """Who has shown the present password goes on in a new session, with new tokens."""
    wanted, rules = call.json(PasswordChange), call.state.rules
    tokens = await own_password.change(
        call.state, call.actor, wanted, lambda work: sessions.renew_api(work, rules)
    )
    response = answer({"accessToken": tokens.access})
    cookies.set_refresh(response, call.state, tokens)
    return response


_OWN = Permission.ACCOUNT

ENDPOINTS = (
    Endpoint(
        "POST",
        "/auth/login",
        "Sign in with name and password",
        LoginAnswer,
        login,
        body=SignIn,
        errors=(401, 429),
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
        "PUT",
        "/auth/me",
        "Turn your own expiry notices on or off",
        UserAnswer,
        change_me,
        body=Subscription,
        permission=_OWN,
    ),
    Endpoint(
        "POST",
        "/auth/complete-setup",
        "Set e-mail address and password at the first sign-in",
        Ok,
        complete_setup,
        body=Setup,
        permission=_OWN,
        errors=(409,),
    ),
    Endpoint(
        "POST",
        "/auth/password",
        "Change one's own password; the session goes on with new tokens, the others end",
        RefreshAnswer,
        change_password,
        body=PasswordChange,
        permission=_OWN,
        errors=(429,),
    ),
    Endpoint(
        "GET",
        "/auth/sessions",
        "One's own sessions that work",
        list[SessionAnswer],
        list_sessions,
        permission=_OWN,
    ),
    Endpoint(
        "DELETE",
        "/auth/sessions",
        "End one's own sessions but the present one",
        Ok,
        end_other_sessions,
        permission=_OWN,
    ),
    Endpoint(
        "DELETE",
        "/auth/sessions/{id}",
        "End one of one's own sessions",
        Ok,
        end_session,
        permission=_OWN,
        errors=(404, 422),
    ),
)
