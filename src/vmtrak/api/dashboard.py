"""REST for the dashboard's figures, and the health of the program."""

import time

from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

import vmtrak
from vmtrak.access import Permission
from vmtrak.api.answers import Health, RunNow, Statistics
from vmtrak.api.base import Call, Endpoint, always, answer
from vmtrak.errors import Unavailable
from vmtrak.inventory import statistics
from vmtrak.web import delivering

_STARTED = time.monotonic()


def stats(call: Call) -> Response:
    with call.state.database.read() as session:
        return answer(statistics.summary(session, call.actor, call.state.today()))


async def test_notifications(call: Call) -> Response:
    """Send what is due now. The name is that of VMTrak 1.x; what it sends is no test."""
    done = await delivering.run_now(call.state, call.actor)
    found = {"message": done.words, "sent": done.sent, "failed": done.failed}
    return answer({"ok": done.is_well, **found})


def health(call: Call) -> Response:
    try:
        call.state.database.check()
    except SQLAlchemyError as error:
        message = "The database does not answer."
        raise Unavailable(message) from error
    uptime = int(time.monotonic() - _STARTED)
    return answer({"status": "ok", "version": vmtrak.__version__, "uptime": uptime})


ENDPOINTS = (
    Endpoint(
        "GET",
        "/dashboard/stats",
        "Figures for the dashboard",
        Statistics,
        stats,
        permission=Permission.STATISTICS,
    ),
    Endpoint(
        "POST",
        "/dashboard/test-notifications",
        "Send the notices that are due now",
        RunNow,
        test_notifications,
        permission=Permission.USERS,
        errors=(429,),
    ),
    Endpoint(
        "GET",
        "/health",
        "Whether the program works",
        Health,
        health,
        open=True,
        errors=(503,),
        quick=always,
    ),
)
