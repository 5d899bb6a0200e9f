"""REST for the audit trail."""

from starlette.responses import Response

from vmtrak import audit
from vmtrak.access import Permission
from vmtrak.api.answers import AuditAnswer, ListAnswer
from vmtrak.api.base import Call, Endpoint, answer, page_answer


def list_(call: Call) -> Response:
    query = call.query(audit.AuditQuery)
    with call.state.database.read() as session:
        page = audit.page(session, call.actor, query)
    return answer(page_answer(page))


ENDPOINTS = (
    Endpoint(
        "GET",
        "/audit",
        "The audit trail, newest first",
        ListAnswer[AuditAnswer],
        list_,
        query=audit.AuditQuery,
        permission=Permission.AUDIT_READ,
        errors=(422,),
    ),
)
