"""REST for users."""

from starlette.responses import Response

from vmtrak.access import Permission
from vmtrak.accounts import NewUser, PasswordReset, UserPatch, users
from vmtrak.accounts.inputs import Password
from vmtrak.api.answers import Ok, UserAnswer
from vmtrak.api.base import Call, Endpoint, answer, etag


class NewUserWithPassword(NewUser):
    """A user to be added, who changes the password at the first sign-in."""

    password: Password


def list_(call: Call) -> Response:
    with call.state.database.read() as session:
        return answer(users.every(session, call.actor))


def get(call: Call) -> Response:
    with call.state.database.read() as session:
        row = users.get(session, call.actor, call.number())
    return answer(row, headers={"ETag": etag(row.pop("revision"))})


def add(call: Call) -> Response:
    new = call.json(NewUserWithPassword)
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


_ADMIN = Permission.USERS

ENDPOINTS = (
    Endpoint("GET", "/users", "All users, by name", list[UserAnswer], list_, permission=_ADMIN),
    Endpoint(
        "POST",
        "/users",
        "Add a user",
        UserAnswer,
        add,
        body=NewUserWithPassword,
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
        errors=(404,),
    ),
)
