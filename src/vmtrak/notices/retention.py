"""Takes out messages and rows of the log that tell nobody anything any more."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, exists, func, select

from vmtrak.access import Permission
from vmtrak.db import Work
from vmtrak.notices.models import Message, NoticeRun, NotificationLog, State

KEPT = timedelta(days=400)
"""For which messages and runs stay: somebody may ask what was told a year ago."""

TOLD = timedelta(days=90)
"""For which it stays on record that somebody was told, from the expiry date on. VMs are told of
for 28 days after it; the rest is for clocks that were wrong."""

BATCH = 500
"""Rows of a kind in one unit of work: others wait for the database no longer than it takes."""


def purge(work: Work, most: int = BATCH) -> Mapping[str, int]:
    """Delete what is that old, at most so many rows of each table; the numbers by table.

    To be called again, in another unit of work, until all are 0. A message stays while it has
    rows in the log, which keep a second notice from being sent, and a run while it has messages.
    """
    work.actor.require(Permission.USERS)
    past, today = work.moment - KEPT, work.moment.date()
    ended = func.coalesce(Message.ended_at, Message.created_at) < past
    conditions: tuple[tuple[type[Any], tuple[ColumnElement[bool], ...]], ...] = (
        (NotificationLog, (NotificationLog.expiry_date < today - TOLD,)),
        (
            Message,
            (
                Message.state.in_(set(State) - {State.WAITING}),
                ended,
                Message.day < today - KEPT,
                ~exists().where(NotificationLog.message_id == Message.id),
            ),
        ),
        (
            NoticeRun,
            (
                NoticeRun.started_at < past,
                NoticeRun.day < today - KEPT,
                ~exists().where(Message.run_id == NoticeRun.id),
            ),
        ),
    )
    return {
        model.__tablename__: _delete(work, model.__table__, terms, most)
        for model, terms in conditions
    }


def _delete(work: Work, table: Table, terms: tuple[ColumnElement[bool], ...], most: int) -> int:
    """What somebody works on at this moment is left for the next time."""
    (key,) = table.primary_key.columns
    chosen = select(key).where(*terms).limit(most).with_for_update(of=table, skip_locked=True)
    connection = work.session.connection()
    numbers = connection.scalars(chosen).all()
    connection.execute(delete(table).where(key.in_(numbers)))
    return len(numbers)
