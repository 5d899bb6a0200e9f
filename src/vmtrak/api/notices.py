"""REST for expiry notices: what is due, what became of messages, and sending them."""

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from vmtrak.access import Permission
from vmtrak.api.answers import (
    Again,
    DueAnswer,
    ListAnswer,
    MessageAnswer,
    MessageWithVMs,
    StandingAnswer,
    VMNotice,
)
from vmtrak.api.base import Call, Endpoint, answer, page_answer
from vmtrak.db import Work, now
from vmtrak.fields import Day, Input
from vmtrak.notices import lists, outbox, trials
from vmtrak.notices.lists import MessageQuery
from vmtrak.notices.models import Message
from vmtrak.notices.trials import TrialRequest
from vmtrak.web.delivering import deliver


class DueQuery(Input):
    """The day to look at; today if none is given."""

    day: Day = None


def list_(call: Call) -> Response:
    query = call.query(MessageQuery)
    with call.state.database.read() as session:
        page = lists.page(session, call.actor, query)
    return answer(page_answer(page))


def get(call: Call) -> Response:
    return answer(_found(call, call.number()))


def _found(call: Call, number: int) -> dict[str, Any]:
    with call.state.database.read() as session:
        return lists.get(session, call.actor, number)


def due(call: Call) -> Response:
    day = call.query(DueQuery).day or call.state.today()
    with call.state.database.read() as session:
        rows = lists.due(session, call.actor, call.state.delivery.rules, day)
    return answer({"day": day.isoformat(), "data": rows})


def standing(call: Call) -> Response:
    with call.state.database.read() as session:
        return answer(lists.standing(session, call.actor, call.state.delivery.rules, now()))


def of_vm(call: Call) -> Response:
    with call.state.database.read() as session:
        return answer(lists.of_vm(session, call.actor, call.number()))


async def send_again(call: Call) -> Response:
    number, rules = call.number(), call.state.delivery.rules
    return await _delivered(call, lambda work: outbox.send_again(work, rules, number))


def send_all_again(call: Call) -> Response:
    """Let what failed lately be tried again; there may be many, so that the worker does it."""
    with call.state.database.work(call.actor) as work:
        again = outbox.send_all_again(work, call.state.delivery.rules)
    return answer({"ok": True, "again": again})


async def test(call: Call) -> Response:
    asked = call.json(TrialRequest) if call.body else TrialRequest()
    rules = call.state.delivery.rules
    return await _delivered(call, lambda work: trials.send(work, rules, asked.channel))


async def _delivered(call: Call, queue: Callable[[Work], Message]) -> Response:
    """Put a message into the outbox, try it at once, and answer how it stands then."""

    def queued() -> int:
        with call.state.database.work(call.actor) as work:
            return queue(work).id

    number = await call.state.database.writing(queued)
    await deliver(call.state)
    return answer(await call.state.database.reading(_found, call, number))


_ADMIN = Permission.USERS

ENDPOINTS = (
    Endpoint(
        "GET",
        "/notices",
        "Messages about VMs that expire, newest first",
        ListAnswer[MessageAnswer],
        list_,
        query=MessageQuery,
        permission=_ADMIN,
        errors=(422,),
    ),
    Endpoint(
        "GET",
        "/notices/due",
        "Whom a run of the day would tell of what now",
        DueAnswer,
        due,
        query=DueQuery,
        permission=_ADMIN,
        errors=(422,),
    ),
    Endpoint(
        "GET",
        "/notices/standing",
        "The last run, the next one, and what is not sent",
        StandingAnswer,
        standing,
        permission=Permission.STATISTICS,
    ),
    Endpoint(
        "POST",
        "/notices/test",
        "Send a test message, and tell what became of it",
        MessageWithVMs,
        test,
        body=TrialRequest,
        body_optional=True,
        permission=_ADMIN,
        errors=(409,),
    ),
    Endpoint(
        "POST",
        "/notices/send-again",
        "Try the notices again that failed within the last three days",
        Again,
        send_all_again,
        permission=_ADMIN,
    ),
    Endpoint(
        "GET",
        "/notices/{id}",
        "One message, with the VMs that it tells of",
        MessageWithVMs,
        get,
        permission=_ADMIN,
        errors=(404, 422),
    ),
    Endpoint(
        "POST",
        "/notices/{id}/send-again",
        "Try a message again that failed or was kept, and tell what became of it",
        MessageWithVMs,
        send_again,
        permission=_ADMIN,
        errors=(404, 409, 422),
    ),
    Endpoint(
        "GET",
        "/vms/{id}/notices",
        "Who was told of the VM, newest first",
        list[VMNotice],
        of_vm,
        permission=Permission.VM_READ_ALL,
        errors=(404, 422),
    ),
)
