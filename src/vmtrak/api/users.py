"""REST for users."""

from starlette.responses import Response

from vmtrak.access import Permission
from vmtrak.accounts import (
    NewUser,
    PasswordReset,
    UserPatch,
    api_tokens,
    limits,
    sessions,
    users,
)
from vmtrak.api.answers import Ok, SessionAnswer, UserAnswer
from vmtrak.api.base import Call, Endpoint, answer, etag
from vmtrak.errors import Invalid


def list_(call: Call) -> Response:
    with call.state.database.read() as session:
        return answer(users.every(session, call.actor))


def get(call: Call) -> Response:
    with call.state.database.read() as session:
        row = users.get(session, call.actor, call.number())
    return answer(row, headers={"ETag": etag(row.pop("revision"))})


def add(call: Call) -> Response:
    """Who has no password needs a link, which only the panel shows, or awaits the provider."""
    new = call.json(NewUser)
    if not (new.password or new.awaits_subject or new.awaits_email):
        raise Invalid({"password": ["is required"]})
    with call.state.database.work(call.actor) as work:
        user = users.add(work, new)
    headers = {"ETag": etag(user.revision), "Location": f"/api/users/{user.id}"}
    return answer(users.shown(user), 201, headers)


def change(call: Call) -> Response:
    number, patch = call.number(), call.json(UserPatch)
    with call.state.database.work(call.actor) as work:
        user = users.change(work, number, patch, call.seen())
    return answer(users.shown(user), headers={"ETag": etag(user.revision)})


def deactivate(call: Call) -> Response:
    with call.state.database.work(call.actor) as work:
        users.deactivate(work, call.number(), call.seen())
    return answer({"ok": True})


def reset_password(call: Call) -> Response:
    number, reset = call.number(), call.json(PasswordReset)
    with call.state.database.work(call.actor) as work:
        users.reset_password(work, number, reset.new_password.get_secret_value())
    return answer({"ok": True})


def list_sessions(call: Call) -> Response:
    number = call.number()
    with call.state.database.read() as session:
        users.get(session, call.actor, number)
        return answer(sessions.of(session, call.actor, number))


def end_sessions(call: Call) -> Response:
    number = call.number()
    with call.state.database.work(call.actor) as work:
        users.end_sessions(work, number)
    return answer({"ok": True})


def revoke_tokens(call: Call) -> Response:
    with call.state.database.work(call.actor) as work:
        api_tokens.revoke_all(work, call.number())
    return answer({"ok": True})


def unlock(call: Call) -> Response:
    with call.state.database.work(call.actor) as work:
        limits.unlock(work, call.number())
    return answer({"ok": True})


_ADMIN = Permission.USERS

ENDPOINTS = (
    Endpoint("GET", "/users", "All users, by name", list[UserAnswer], list_, permission=_ADMIN),
    Endpoint(
        "POST",
        "/users",
        "Add a user",
        UserAnswer,
        add,
        body=NewUser,
        status=201,
        permission=_ADMIN,
        errors=(409,),
        etag=True,
    ),
    Endpoint(
        "GET",
        "/users/{id}",
        "One user",
        UserAnswer,
        get,
        permission=_ADMIN,
        errors=(404, 422),
        etag=True,
    ),
    Endpoint(
        "PUT",
        "/users/{id}",
        "Change the fields sent",
        UserAnswer,
        change,
        body=UserPatch,
        permission=_ADMIN,
        errors=(404, 409, 412),
        etag=True,
    ),
    Endpoint(
        "DELETE",
        "/users/{id}",
        "Close an account",
        Ok,
        deactivate,
        permission=_ADMIN,
        errors=(404, 409, 412, 422),
    ),
    Endpoint(
        "POST",
        "/users/{id}/reset-password",
        "Give a password to be changed at the next sign-in",
        Ok,
        reset_password,
        body=PasswordReset,
        permission=_ADMIN,
        errors=(404, 409),
    ),
    Endpoint(
        "POST",
        "/users/{id}/unlock",
        "Open an account that failed sign-ins have locked",
        Ok,
        unlock,
        permission=_ADMIN,
        errors=(404, 422),
    ),
    Endpoint(
        "GET",
        "/users/{id}/sessions",
        "A user's sessions that work",
        list[SessionAnswer],
        list_sessions,
        permission=_ADMIN,
        errors=(404, 422),
    ),
    Endpoint(
        "POST",
        "/users/{id}/end-sessions",
        "End all sessions of a user",
        Ok,
        end_sessions,
        permission=_ADMIN,
        errors=(404, 422),
    ),
    Endpoint(
        "POST",
        "/users/{id}/revoke-tokens",
        "End all API tokens of a user",
        Ok,
        revoke_tokens,
        permission=_ADMIN,
        errors=(404, 422),
    ),
)
