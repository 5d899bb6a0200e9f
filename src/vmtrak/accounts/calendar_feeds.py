"""Calendar addresses: with one, a calendar reads its person's expiry dates, and nothing else."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from vmtrak import audit
from vmtrak.access import Actor, Permission, Scope
from vmtrak.accounts.access_tokens import SessionRules
from vmtrak.accounts.actors import STANDING
from vmtrak.accounts.actors import standing as actor_standing
from vmtrak.accounts.models import CalendarFeed, User, digest
from vmtrak.audit import Action
from vmtrak.db import AnySelect, Work, now
from vmtrak.errors import Conflict

PREFIX = "vmc_"

FORM = re.compile(rf"{PREFIX}[0-9A-Za-z_-]{{43}}")
"""256 bits of chance in base 64, in the letters that need no escape in an address."""

NOTED_EVERY = timedelta(hours=1)
"""How often it is written down that an address is in use."""

NAME = "calendar feed"
"""What the trail calls it. It has no number there: these are the numbers of API tokens."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What an address opens: its person's inventory, to be read.

    `is_news` if it is to be written down that the address is in use.
    """

    feed_id: int
    actor: Actor
    owned_only: bool
    is_news: bool


def make(work: Work, *, owned_only: bool) -> tuple[CalendarFeed, str]:
    """Make oneself an address; returns its row and the token, which nobody can show again.

    It takes the place of the one before, which works no more.
    """
    work.actor.require(Permission.ACCOUNT)
    number = work.actor.user_id
    # The user is locked, so that two requests at once take turns.
    user = work.session.get(User, number, with_for_update=True) if number else None
    if user is None or not user.is_active:
        message = "A calendar address needs a user whose account is open."
        raise Conflict(message)
    end(work, user.id)
    secret = PREFIX + secrets.token_urlsafe(32)
    feed = CalendarFeed(
        user_id=user.id,
        token_hash=digest(secret),
        owned_only=owned_only,
        created_at=work.moment,
    )
    work.session.add(feed)
    work.flush()
    _record(work, Action.TOKEN_CREATE, feed, user.username)
    return feed, secret


def revoke(work: Work) -> None:
    """End one's own address, if there is one."""
    work.actor.require(Permission.ACCOUNT)
    end(work, work.actor.user_id or 0)


def end(work: Work, user_id: int) -> bool:
    """End the address of a user; whether there was one. The caller has asked who may."""
    mine = select(CalendarFeed).where(CalendarFeed.user_id == user_id)
    feed = work.session.scalar(mine.with_for_update())
    if feed is None:
        return False
    _record(work, Action.TOKEN_REVOKE, feed, work.session.get_one(User, user_id).username)
    work.session.delete(feed)
    work.flush()
    return True


FIELDS = (CalendarFeed.owned_only, CalendarFeed.created_at, CalendarFeed.last_used_at)


def standing(session: Session, actor: Actor, user_id: int | None = None) -> dict[str, Any] | None:
    """One's own address, or for an administrator a user's; None if there is none."""
    actor.require(Permission.ACCOUNT)
    if user_id not in {None, actor.user_id}:
        actor.require(Permission.USERS)
    mine = select(*FIELDS).where(CalendarFeed.user_id == (user_id or actor.user_id))
    row = session.execute(mine).one_or_none()
    return {k: audit.plain(v) for k, v in row._mapping.items()} if row else None


def belongs(session: Session, actor: Actor, token: str) -> bool:
    """Whether this is the token of the actor's own address."""
    owned = select(CalendarFeed.id).where(
        CalendarFeed.user_id == actor.user_id, CalendarFeed.token_hash == digest(token)
    )
    return session.scalar(owned) is not None


def by_token(session: Session, rules: SessionRules, token: str, like: Actor) -> Opened | None:
    """What the token opens as its user stands right now; None if nothing.

    Nothing is open to a closed account, nor while there is a set-up to finish or a second factor
    to be set up first.
    """
    if not FORM.fullmatch(token):
        return None
    row = session.execute(_LIVING.where(CalendarFeed.token_hash == digest(token))).one_or_none()
    if row is None:
        return None
    *columns, feed_id, owned_only, used = row
    actor = actor_standing(columns, like, rules, [Scope.INVENTORY_READ])
    if actor.must_change_password or actor.must_enrol:
        return None
    is_news = used is None or used <= now() - NOTED_EVERY
    return Opened(feed_id, actor, owned_only, is_news)


_LIVING: AnySelect = (
    select(
        *STANDING,
        CalendarFeed.id.label("feed_id"),
        CalendarFeed.owned_only,
        CalendarFeed.last_used_at,
    )
    .join_from(CalendarFeed, User, User.id == CalendarFeed.user_id)
    .where(User.is_active)
)


def note_used(work: Work, used: Mapping[int, datetime]) -> None:
    """Write down when addresses were used last, by number; not more than once an hour each."""
    for number, moment in sorted(used.items()):
        before = CalendarFeed.last_used_at
        work.session.execute(
            update(CalendarFeed)
            .where(CalendarFeed.id == number)
            .where(or_(before.is_(None), before <= moment - NOTED_EVERY))
            .values(last_used_at=moment),
            execution_options={"audited": True, "synchronize_session": False},
        )


def _record(work: Work, action: Action, feed: CalendarFeed, username: str) -> None:
    detail = {"username": username, "owned_only": feed.owned_only}
    audit.record(work, action, entity_type="token", entity=feed, entity_name=NAME, detail=detail)
