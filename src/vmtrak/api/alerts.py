"""REST for alerts to administrators."""

from starlette.responses import Response

from vmtrak import alerts
from vmtrak.access import Permission
from vmtrak.alerts import AlertQuery
from vmtrak.api.answers import AlertAnswer, ListAnswer, Marked, Ok
from vmtrak.api.base import Call, Endpoint, answer, page_answer


def list_(call: Call) -> Response:
    query = call.query(AlertQuery)
    with call.state.database.read() as session:
        page = alerts.page(session, call.actor, query)
    return answer(page_answer(page))


def read(call: Call) -> Response:
    with call.state.database.work(call.actor) as work:
        alerts.read(work, call.number())
    return answer({"ok": True})


def read_all(call: Call) -> Response:
    with call.state.database.work(call.actor) as work:
        marked = alerts.read_all(work)
    return answer({"ok": True, "marked": marked})


_ADMIN = Permission.USERS

ENDPOINTS = (
    Endpoint(
        "GET",
        "/alerts",
        "Alerts to administrators, unread ones first",
        ListAnswer[AlertAnswer],
        list_,
        query=AlertQuery,
        permission=_ADMIN,
        errors=(422,),
    ),
    Endpoint(
        "POST",
        "/alerts/{id}/read",
        "Mark an alert as read",
        Ok,
        read,
        permission=_ADMIN,
        errors=(404, 422),
    ),
    Endpoint(
        "POST",
        "/alerts/read-all",
        "Mark all alerts as read",
        Marked,
        read_all,
        permission=_ADMIN,
    ),
)
