"""Notices at somebody's wish, within the time that a request may take."""

import threading
from contextlib import suppress
from contextvars import copy_context
from functools import partial

import anyio
import anyio.to_thread
from loguru import logger

from vmtrak.access import Actor
from vmtrak.errors import TooMany
from vmtrak.notices import Delivery, Trigger, outcomes, planning
from vmtrak.notices.outcomes import Outcome
from vmtrak.notices.planning import Plan, Round
from vmtrak.web.state import State

SECONDS = 25
"""For which a request may wait for mail servers: less than proxies wait for an answer."""

_LOOK = 0.05
"""Seconds between two looks whether a delivery has ended."""


async def run_now(state: State, actor: Actor) -> Outcome:
    """Plan today's notices, deliver what is due by now, and tell what became of the new ones.

    Either goes on without the request when its time is over. Raises `Forbidden`, and `TooMany` if
    very many others wait for the same.
    """
    async with state.deliveries.turn("plan"):
        plan = await _planned(state, actor)
    if plan.finished or plan.failed:
        await deliver(state)

    def outcome() -> Outcome:
        with state.database.read() as session:
            return outcomes.of(session, actor, plan)

    return await state.database.reading(outcome)


async def _planned(state: State, actor: Actor) -> Plan:
    """Not among the writers: it is many short units of work, which let others in between."""
    database, rules, day = state.database, state.delivery.rules, state.today()

    def begin() -> Round:
        with database.work(actor) as work:
            return planning.begin(work, rules, day, Trigger.PERSON)

    run = await database.writing(begin)
    with anyio.move_on_after(SECONDS):
        go_on = partial(planning.go_on, database, rules, run)
        return await anyio.to_thread.run_sync(go_on, abandon_on_cancel=True)
    return await database.reading(planning.so_far, database, run)


async def deliver(state: State, seconds: float = SECONDS) -> None:
    """Try what is due in the outbox; returns when that is done or the time is over.

    What is left then, the worker does. What became of a message stands in its row; a failure
    of the delivery itself is logged and raises nothing, as nothing is lost by it.
    """
    with suppress(TooMany):  # so many others wait that there is no time left for this one
        with anyio.move_on_after(seconds):
            async with state.deliveries.turn("deliver"):
                await _run(state.delivery)


async def _run(delivery: Delivery) -> None:
    """Deliver in a thread of its own, which is told to stop when nobody waits for it any more.

    No thread of a pool, since a mail server may keep it: it neither takes one from the database
    nor holds up the end of the program, at which the request does not wait for it either.
    """
    stopping, ended = threading.Event(), threading.Event()

    def run() -> None:
        try:
            delivery.run(stopping, wait=True)
        except Exception:  # noqa: BLE001 - nobody else would hear of it
            logger.exception("delivering failed; the worker tries it again")
        finally:
            ended.set()

    context = copy_context()
    threading.Thread(target=context.run, args=(run,), name="delivery", daemon=True).start()
    try:
        while not ended.is_set() and not delivery.ending.is_set():  # noqa: ASYNC110 - threads set them
            await anyio.sleep(_LOOK)
    finally:
        stopping.set()
