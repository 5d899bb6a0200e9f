"""REST for notices to administrators."""

from starlette.responses import Response

from vmtrak import notices
from vmtrak.access import Permission
from vmtrak.api.answers import ListAnswer, Marked, NoticeAnswer, Ok
from vmtrak.api.base import Call, Endpoint, answer, page_answer
from vmtrak.notices import NoticeQuery


def list_(call: Call) -> Response:
    query = call.query(NoticeQuery)
    with call.state.database.read() as session:
        page = notices.page(session, call.actor, query)
    return answer(page_answer(page))


def read(call: Call) -> Response:
    with call.state.database.work(call.actor) as work:
        notices.read(work, call.number())
    return answer({"ok": True})


def read_all(call: Call) -> Response:
    with call.state.database.work(call.actor) as work:
        marked = notices.read_all(work)
    return answer({"ok": True, "marked": marked})


_ADMIN = Permission.USERS

ENDPOINTS = (
    Endpoint(
        "GET",
        "/notices",
        "Notices to administrators, unread ones first",
        ListAnswer[NoticeAnswer],
        list_,
        query=NoticeQuery,
        permission=_ADMIN,
        errors=(422,),
    ),
    Endpoint(
        "POST",
        "/notices/{id}/read",
        "Mark a notice as read",
        Ok,
        read,
        permission=_ADMIN,
        errors=(404, 422),
    ),
    Endpoint(
        "POST",
        "/notices/read-all",
        "Mark all notices as read",
        Marked,
        read_all,
        permission=_ADMIN,
    ),
)
