"""Takes out what no longer opens anything: sessions, refresh tokens, links, counts of failures.

API tokens stay: their owners see there what was in use. What happened stays in the audit trail.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, delete, exists, or_, select

from vmtrak.access import Permission
from vmtrak.accounts import limits
from vmtrak.accounts.models import OneTimeLink, RefreshToken, SignedIn, SignInLimit
from vmtrak.db import Work

KEPT = timedelta(days=1)
"""For which what is over stays, so that somebody who looks into a case still finds it."""

BATCH = 500
"""Rows of a kind in one unit of work: others wait for the database no longer than it takes."""


def purge(work: Work, most: int = BATCH) -> Mapping[str, int]:
    """Delete what has been over for a day, at most so many rows of each table.

    Returns the numbers by table. To be called again, in another unit of work, until all are 0.
    Refresh tokens stay as long as they could still be presented, the used ones too: by these
    theft is noticed.
    """
    work.actor.require(Permission.USERS)
    past = work.moment - KEPT
    over = or_(SignedIn.expires_at < past, SignedIn.ended_at < past)
    of_over = RefreshToken.session_id.in_(select(SignedIn.id).where(over))
    # Tokens before their sessions, as a refresh locks them.
    conditions: tuple[tuple[type[Any], ColumnElement[bool]], ...] = (
        (RefreshToken, or_(RefreshToken.expires_at < past, of_over)),
        (SignedIn, and_(over, ~exists().where(RefreshToken.session_id == SignedIn.id))),
        (OneTimeLink, or_(OneTimeLink.expires_at < past, OneTimeLink.used_at < past)),
        (SignInLimit, limits.expired(work.moment)),
    )
    return {
        model.__tablename__: _delete(work, model.__table__, condition, most)
        for model, condition in conditions
    }


def _delete(work: Work, table: Table, condition: ColumnElement[bool], most: int) -> int:
    """What somebody works on at this moment is left for the next time."""
    (key,) = table.primary_key.columns
    chosen = select(key).where(condition).limit(most).with_for_update(of=table, skip_locked=True)
    connection = work.session.connection()
    numbers = connection.scalars(chosen).all()
    connection.execute(delete(table).where(key.in_(numbers)))
    return len(numbers)
