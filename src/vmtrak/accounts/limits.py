"""Limits against guessing, in the database and so shared by all processes.

Each try at a secret is counted before it is looked at, and given back when it was right, so that
many tries at once are no way past the count. Three things count:

- an account (also one that does not exist), for whoever knows no more than its name;
- a browser in which the person has signed in before, and a session: each for itself, so that
  who guesses at a name cannot lock its owner out of them;
- an address, which is only ever slowed down: many people may share it.

A door calls `web.sign_in.guess`, which waits where waiting is due; then one of `failed`,
`succeeded` and `withdrawn` in the unit of work that acts on the outcome.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from vmtrak import audit
from vmtrak.access import Actor, Permission
from vmtrak.accounts.models import SignInLimit, User
from vmtrak.audit import Action
from vmtrak.db import Work
from vmtrak.errors import NotFound, TooMany
from vmtrak.fields import fold

LOCKS_AT = 5
"""Failures in a row. People mistype two or three times; who needs a fifth may as well wait."""

FIRST_LOCK, LONGEST_LOCK = timedelta(seconds=30), timedelta(minutes=15)
"""Each further failure doubles the lock. At its longest that leaves 96 guesses a day, which no
password finds that the list of common ones has let through; NIST SP 800-63B-4, 3.2.2 names 100
failures in a row as the most. An account is not closed for good: anybody could do that to it."""

FORGOTTEN = timedelta(hours=24)
"""Failures without another for this long no longer count."""

STALE = timedelta(minutes=1)
"""No check takes as long: its process has died, and what it was checking counts as failed."""

SLOWED_FROM = 20
PACE = timedelta(seconds=45)
"""More than 20 failures within 15 minutes slow an address down: each weighs 45 seconds, and the
weight runs off with time. Thirty people behind one address who all come in the morning and fail
once in ten times stay far below it; a program that guesses reaches it in its first seconds."""

HEAVIEST = 2 * SLOWED_FROM * PACE
"""However long somebody guessed, the address is as quick as ever 15 minutes after the end."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a secret, a failure until it is known to be right.

    `weight` is the number of seconds that it weighs at the address.
    """

    counter: str
    address: str | None = None
    weight: int = 0


def of_account(user_id: int | None, name: str, secret: bytes) -> str:
    """The counter of an account by its user's number, or by a name that nobody has.

    People type passwords into the name field, so that such a name is kept as an HMAC only.
    """
    if user_id is not None:
        return f"user:{user_id}"
    told = fold(name.strip()).encode("utf-8", "surrogatepass")
    return f"nobody:{hmac.digest(secret, b'limits ' + told, 'sha256').hex()}"


def of_browser(user_id: int, browser: str) -> str:
    return f"user:{user_id}:browser:{browser}"


def of_session(actor: Actor) -> str:
    """The counter for somebody who has signed in and is asked again who they are."""
    return f"user:{actor.user_id}:session:{actor.session_id}"


def of_address(address: str | None) -> str:
    """IPv6 hands out networks of 64 bits, in which one machine has any address it likes."""
    if address is None:
        return "address:"
    place = ip_address(address)
    if isinstance(place, IPv6Address):
        if place.ipv4_mapped is None:
            return f"address:{ip_network((int(place), 64), strict=False)}"
        place = place.ipv4_mapped
    return f"address:{place}"


def arrived(work: Work, counter: str | None, address: str) -> tuple[int, bool]:
    """Count an attempt at its address: what it weighs there, and whether it has to go slowly.

    Raises `TooMany` while the counter is locked, for whatever the attempt may be. An attempt over
    the provider has no counter.
    """
    found = work.session.get(SignInLimit, counter) if counter else None
    if found is not None:
        _refuse_while_locked(found, work.moment)
    row = _locked(work, address)
    before = max(row.blocked_until or work.moment, work.moment)
    row.blocked_until = min(before + PACE, work.moment + HEAVIEST)
    row.last_failed_at = work.moment
    weight = int((row.blocked_until - before).total_seconds())
    return weight, before - work.moment > SLOWED_FROM * PACE


def admit(work: Work, counter: str) -> bool:
    """Count an attempt before it is looked at.

    False while others are being looked at, which will lock the counter if they are wrong; then
    ask again. Raises `TooMany` while it is locked.
    """
    row = _locked(work, counter)
    _forget_old(row, work.moment)
    _refuse_while_locked(row, work.moment)
    if row.pending and row.failures + row.pending >= LOCKS_AT:
        return False
    row.pending += 1
    row.last_failed_at = work.moment
    return True


def failed(work: Work, attempt: Attempt) -> None:
    """The attempt was wrong: from the fifth in a row on the counter is locked, and that audited."""
    row = _locked(work, attempt.counter)
    row.pending = max(row.pending - 1, 0)
    row.failures += 1
    row.last_failed_at = work.moment
    if row.failures < LOCKS_AT:
        return
    row.blocked_until = work.moment + _lock(row.failures)
    owner = _owner(attempt.counter)
    name = work.session.scalar(select(User.username).where(User.id == owner)) if owner else None
    audit.record(
        work,
        Action.LOCKED,
        entity_type="user" if owner else "auth",
        entity_id=owner,
        entity_name=name,
        detail={"failures": row.failures, "until": audit.plain(row.blocked_until)},
    )


def succeeded(work: Work, attempt: Attempt) -> None:
    """The attempt was right: the failures before it are forgotten."""
    give_back(work, attempt.address, attempt.weight)
    row = _locked(work, attempt.counter)
    row.pending, row.failures = max(row.pending - 1, 0), 0
    row.blocked_until = None


def withdrawn(work: Work, attempt: Attempt) -> None:
    """The attempt was neither: something is still missing, and failures before it count on."""
    give_back(work, attempt.address, attempt.weight)
    row = _locked(work, attempt.counter)
    row.pending = max(row.pending - 1, 0)


def forget(work: Work, user_id: int) -> bool:
    """Open the account and all its browsers and sessions again; whether there was anything."""
    counted = or_(SignInLimit.failures > 0, SignInLimit.blocked_until.is_not(None))
    found = work.session.execute(
        update(SignInLimit)
        .where(_of_user(user_id), counted)
        .values(failures=0, blocked_until=None)
        .returning(SignInLimit.key),
        execution_options={"synchronize_session": False},
    )
    return bool(found.all())


def unlock(work: Work, user_id: int) -> None:
    """Open an account that guesses have locked. It is nothing new if none had."""
    work.actor.require(Permission.USERS)
    user = work.session.get(User, user_id)
    if user is None:
        raise NotFound
    if forget(work, user_id):
        audit.record(
            work,
            Action.USER_UNLOCK,
            entity_type="user",
            entity_id=user.id,
            entity_name=user.username,
        )


def locked(session: Session, actor: Actor, at: datetime) -> Mapping[int, datetime]:
    """Until when the accounts are locked that are locked now, in one of their browsers or all."""
    actor.require(Permission.USERS)
    rows = session.execute(
        select(SignInLimit.key, SignInLimit.blocked_until)
        .where(
            SignInLimit.key.startswith("user:"),
            SignInLimit.last_failed_at >= at - LONGEST_LOCK,
            SignInLimit.blocked_until > at,
        )
        .order_by(SignInLimit.blocked_until)
    )
    return {owner: until for key, until in rows if until and (owner := _owner(key))}


def expired(at: datetime) -> ColumnElement[bool]:
    """The rows that say nothing any more."""
    over = or_(SignInLimit.blocked_until.is_(None), SignInLimit.blocked_until <= at)
    return over & (SignInLimit.last_failed_at <= at - FORGOTTEN)


def wait(seconds: int) -> str:
    """How long to wait, for people."""
    if seconds < 2 * 60:
        return f"{seconds} second{'s' if seconds > 1 else ''}"
    return f"{-(-seconds // 60)} minutes"


def _lock(failures: int) -> timedelta:
    doublings = min(failures - LOCKS_AT, 10)
    return min(FIRST_LOCK * (1 << doublings), LONGEST_LOCK)


def _refuse_while_locked(row: SignInLimit, at: datetime) -> None:
    if row.blocked_until is not None and row.blocked_until > at:
        seconds = int((row.blocked_until - at).total_seconds())
        raise TooMany(seconds, f"Too many failed attempts. Try again in {wait(seconds)}.")


def _forget_old(row: SignInLimit, at: datetime) -> None:
    if row.last_failed_at <= at - FORGOTTEN:
        row.failures = row.pending = 0
    elif row.last_failed_at <= at - STALE:
        row.failures, row.pending = row.failures + row.pending, 0


def give_back(work: Work, address: str | None, weight: int) -> None:
    """Take from the address what an attempt weighed there that was no failure."""
    if address is None:
        return
    row = _locked(work, address)
    if row.blocked_until is not None:
        row.blocked_until -= timedelta(seconds=weight)


def _locked(work: Work, key: str) -> SignInLimit:
    """The row of a counter, made where there is none, for this unit of work alone.

    Rows are locked in one order everywhere, or two units of work would wait for each other: the
    user, then the address, then the counter.
    """
    values = {"key": key, "failures": 0, "pending": 0, "last_failed_at": work.moment}
    at_sqlite = work.session.connection().dialect.name == "sqlite"
    make = (sqlite if at_sqlite else postgresql).insert(SignInLimit).values(values)
    # The update locks, and begins anew where the row is being purged, which a SELECT would miss.
    locking = make.on_conflict_do_update(index_elements=["key"], set_={"key": key})
    row: SignInLimit = work.session.scalars(
        locking.returning(SignInLimit), execution_options={"populate_existing": True}
    ).one()
    return row


def _of_user(user_id: int) -> ColumnElement[bool]:
    key = of_account(user_id, "", b"")
    return or_(SignInLimit.key == key, SignInLimit.key.startswith(f"{key}:"))


def _owner(counter: str) -> int | None:
    """The number of the user whose counter it is, None where it is nobody's."""
    kind, _, rest = counter.partition(":")
    return int(rest.partition(":")[0]) if kind == "user" else None
