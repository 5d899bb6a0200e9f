"""The outbox: which message is next, what became of it, and another try."""

import secrets
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, delete, func, or_, select
from sqlalchemy.orm import Session

from vmtrak import audit
from vmtrak.access import Permission
from vmtrak.audit import Action
from vmtrak.channels import Channel
from vmtrak.db import Work
from vmtrak.errors import Conflict, NotFound
from vmtrak.notices.models import Kind, Message, NotificationLog, State
from vmtrak.notices.planning import PATIENCE
from vmtrak.notices.rules import Rules

LEASE = timedelta(minutes=15)
"""For which a message belongs to the attempt that has begun: longer than every time limit of one
attempt together, so that only a killed one is repeated by another."""

PAUSES = tuple(timedelta(seconds=n) for n in (20, 120, 300, 900, 1800, 3600, 7200, 14400))
"""Between the attempts: the first within a minute, then growing (RFC 5321, 4.5.4.1); the last one
is repeated until the message is given up."""

SKEW = timedelta(hours=1)
"""By how much the clocks of two machines may differ, and one may be put back. A lease of the
future counts as one up to here, and as left over from a wrong clock beyond."""

MOST_ATTEMPTS = 60
"""More than fit into three days. Only a message that takes its worker down with it gets there."""

MOST_AGAIN = 1000
"""Messages that are sent again at once."""

_LONGEST_ANSWER = 1024
_SECOND = timedelta(seconds=1)


def due_channels(session: Session, moment: datetime) -> set[str]:
    """The channels over which there is something to send, for a look that locks nothing."""
    chosen = select(Message.channel).where(*_is_due(moment)).distinct()
    return set(session.scalars(chosen))


def claim(work: Work, channel: Channel) -> Message | None:
    """The next message whose time has come, which is this attempt's until its lease ends."""
    due = _due(channel, work.moment).order_by(Message.next_attempt_at, Message.id).limit(1)
    while (message := work.session.scalar(due.with_for_update(skip_locked=True))) is not None:
        if message.attempts < MOST_ATTEMPTS:
            break
        _fail(work, message, "Given up: nothing is known of what became of so many attempts.")
        work.flush()
    if message is not None:
        message.lease = secrets.token_hex(16)
        message.leased_until = work.moment + LEASE
        message.attempts += 1
        message.give_up_at = min(message.give_up_at, work.moment + PATIENCE)
    return message


def shelve(work: Work, channel: str) -> int:
    """Keep what waits for a channel that is off, as what is planned then; how much that was.

    So nothing of it goes out by itself, long untrue, once the channel is on again.
    """
    found = work.session.scalars(_due(channel, work.moment).with_for_update(skip_locked=True)).all()
    for message in found:
        _end(work, message, State.KEPT, "The channel was turned off before it was sent.")
    return len(found)


def _due(channel: str, moment: datetime) -> Select[Message]:
    return select(Message).where(Message.channel == channel, *_is_due(moment))


def _is_due(moment: datetime) -> tuple[ColumnElement[bool], ...]:
    """It may be tried now, and nobody is trying it.

    Times further in the future than any pause come from a clock that has been put right since.
    """
    return (
        Message.state == State.WAITING,
        ~Message.next_attempt_at.between(moment + _SECOND, moment + PAUSES[-1] + SKEW),
        or_(
            Message.leased_until.is_(None),
            ~Message.leased_until.between(moment + _SECOND, moment + LEASE + SKEW),
        ),
    )


def sent(work: Work, message: Message, answer: str, untold: tuple[int, ...] = ()) -> State:
    """Note that it is out, to whom and with which subject, and forget what it did not tell."""
    held = _held(work, message)
    if held is None:
        return State.SENT
    held.vms = message.vms
    _forget(work, untold)
    _end(work, held, State.SENT, answer)
    _record(work, Action.NOTIFICATION_SENT, held, {"subject": held.subject})
    return State.SENT


def dropped(work: Work, message: Message, untold: tuple[int, ...]) -> State:
    """Note that nothing in it was true any more, so that it was not sent."""
    held = _held(work, message)
    if held is not None:
        held.vms, held.digest_key = 0, None  # a day without a digest, then
        _forget(work, untold)
        _end(work, held, State.DROPPED, "Nothing is left to tell: it changed, or was told since.")
    return State.DROPPED


def refused(work: Work, message: Message, answer: str) -> State:
    """Note that it will never be taken."""
    held = _held(work, message)
    if held is not None:
        _fail(work, held, answer)
    return State.FAILED


def delayed(work: Work, message: Message, answer: str) -> State:
    """Note that it was not taken now; the next try, or the end of all tries."""
    held = _held(work, message)
    if held is None:
        return State.WAITING
    _postpone(work, held, answer)
    return State(held.state)


def unreachable(work: Work, message: Message, answer: str) -> State:
    """The same for every message of the channel whose time has come: none would get through."""
    state = delayed(work, message, answer)
    others = _due(message.channel, work.moment).where(Message.id != message.id)
    for other in work.session.scalars(others.with_for_update(skip_locked=True)):
        other.attempts += 1
        _postpone(work, other, answer)
    return state


def send_again(work: Work, rules: Rules, message_id: int) -> Message:
    """Try a message once more that failed or was kept. Raises `NotFound`, `Conflict`."""
    work.actor.require(Permission.USERS)
    message = work.session.get(Message, message_id, with_for_update=True)
    if message is None:
        raise NotFound
    if message.state not in {State.FAILED, State.KEPT}:
        reason = "Only what failed or was kept can be sent again."
        raise Conflict(reason)
    rules.require(message.channel)
    _revive(message, work.moment)
    return message


def send_all_again(work: Work, rules: Rules) -> int:
    """The same for all notices that failed lately, the newest if they are many; how many."""
    work.actor.require(Permission.USERS)
    chosen = select(Message).where(*_failed_lately(rules, work.moment))
    newest = chosen.order_by(Message.id.desc()).limit(MOST_AGAIN)
    found = work.session.scalars(newest.with_for_update(skip_locked=True)).all()
    for message in found:
        _revive(message, work.moment)
    return len(found)


def may_be_sent_again(session: Session, rules: Rules, moment: datetime) -> int:
    """How many `send_all_again` would take now."""
    chosen = select(Message.id).where(*_failed_lately(rules, moment)).limit(MOST_AGAIN)
    return session.scalar(select(func.count()).select_from(chosen.subquery())) or 0


def _failed_lately(rules: Rules, moment: datetime) -> tuple[ColumnElement[bool], ...]:
    """Notices, not tests, that failed within the time in which a message is tried."""
    return (
        Message.state == State.FAILED,
        Message.kind == Kind.EXPIRY,
        Message.ended_at >= moment - PATIENCE,
        Message.channel.in_(list(rules.senders)),
    )


def _revive(message: Message, moment: datetime) -> None:
    message.state, message.attempts, message.ended_at = State.WAITING, 0, None
    message.next_attempt_at, message.give_up_at = moment, moment + PATIENCE


def _held(work: Work, message: Message) -> Message | None:
    """The message, locked, if the attempt is still its own; it says where it was to go."""
    held = work.session.get(Message, message.id, with_for_update=True)
    if held is None or held.lease != message.lease:
        return None
    held.subject, held.sent_to = message.subject, message.sent_to
    return held


def _postpone(work: Work, held: Message, answer: str) -> None:
    pause = PAUSES[min(held.attempts, len(PAUSES)) - 1]
    if work.moment + pause > held.give_up_at:
        _fail(work, held, answer)
        return
    held.next_attempt_at = work.moment + pause
    held.answer, held.lease, held.leased_until = _plain(answer), None, None


def _fail(work: Work, held: Message, answer: str) -> None:
    _end(work, held, State.FAILED, answer)
    _record(work, Action.NOTIFICATION_FAILED, held, {"answer": held.answer})


def _end(work: Work, held: Message, state: State, answer: str) -> None:
    held.state, held.ended_at = state, work.moment
    held.answer, held.lease, held.leased_until = _plain(answer), None, None


def _plain(answer: str) -> str:
    """What the other side said, as text that every database keeps."""
    shown = "".join(letter if letter.isprintable() else " " for letter in answer)
    return shown[:_LONGEST_ANSWER]


def _forget(work: Work, untold: tuple[int, ...]) -> None:
    """Take rows out of the log that were not told of after all."""
    for start in range(0, len(untold), 500):
        some = untold[start : start + 500]
        work.session.execute(delete(NotificationLog).where(NotificationLog.id.in_(some)))


def _record(work: Work, action: Action, held: Message, detail: dict[str, object]) -> None:
    audit.record(
        work,
        action,
        entity_type="notice",
        entity_id=held.id,
        entity_name=(held.sent_to or held.address or held.recipient)[:256],
        detail={"channel": held.channel, "vms": held.vms, **detail},
    )
