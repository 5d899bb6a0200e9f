"""REST for who knows which passwords."""

from starlette.responses import Response

from vmtrak import credentials
from vmtrak.access import Permission
from vmtrak.api.answers import Marked, SeenAnswer, ViewerAnswer
from vmtrak.api.base import Call, Endpoint, answer
from vmtrak.credentials import Which
from vmtrak.web import reports, spreadsheets


def viewers(call: Call) -> Response:
    with call.state.database.read() as session:
        return answer(credentials.viewers(session, call.actor, _which(call)))


def viewers_file(call: Call) -> Response:
    return reports.viewers_file(call.state, call.actor, _which(call), for_people=False)


def seen(call: Call) -> Response:
    rules = call.state.vault.rules
    with call.state.database.read() as session:
        return answer(credentials.seen_by(session, call.actor, rules, call.number()))


def seen_file(call: Call) -> Response:
    return reports.seen_file(call.state, call.actor, call.number(), for_people=False)


def mark(call: Call) -> Response:
    with call.state.database.work(call.actor) as work:
        marked = credentials.mark_seen(work, call.number())
    return answer({"ok": True, "marked": marked})


def _which(call: Call) -> Which:
    return Which(call.number("cid"), call.number())


_READ = Permission.CREDENTIAL_READ
_VIEWERS = "/vms/{id}/credentials/{cid}/viewers"
_SEEN = "/users/{id}/seen-credentials"

ENDPOINTS = (
    Endpoint(
        "GET",
        _VIEWERS,
        "Everybody who knows the present password",
        list[ViewerAnswer],
        viewers,
        permission=_READ,
        errors=(404, 422),
    ),
    Endpoint(
        "GET",
        f"{_VIEWERS}.csv",
        "The same as a file",
        str,
        viewers_file,
        permission=_READ,
        errors=(404, 422),
        media=spreadsheets.MEDIA_TYPE,
    ),
    Endpoint(
        "GET",
        _SEEN,
        "Every credential whose present password a user knows",
        list[SeenAnswer],
        seen,
        permission=Permission.USERS,
        also=(_READ,),
        errors=(404, 422),
    ),
    Endpoint(
        "GET",
        f"{_SEEN}.csv",
        "The same as a file",
        str,
        seen_file,
        permission=Permission.USERS,
        also=(_READ,),
        errors=(404, 422),
        media=spreadsheets.MEDIA_TYPE,
    ),
    Endpoint(
        "POST",
        f"{_SEEN}/mark-rotation",
        "Mark for rotation all that a user knows",
        Marked,
        mark,
        permission=Permission.USERS,
        also=(_READ, Permission.VM_WRITE),
        errors=(404, 422),
    ),
)
