"""REST for the dashboard's figures, and the health of the program."""

import time

from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

import vmtrak
from vmtrak.access import Permission
from vmtrak.api.answers import Health, Statistics
from vmtrak.api.base import Call, Endpoint, always, answer
from vmtrak.errors import Unavailable
from vmtrak.inventory import statistics

_STARTED = time.monotonic()


def stats(call: Call) -> Response:
    with call.state.database.read() as session:
        return answer(statistics.summary(session, call.actor, call.state.today()))


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
