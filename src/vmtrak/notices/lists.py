"""The pages that show notices: what is due, what became of messages, how the channels stand."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from itertools import chain, islice
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from sqlalchemy import ColumnElement, RowMapping, func, or_, select
from sqlalchemy.orm import Session

from vmtrak import audit
from vmtrak.access import Actor, Permission
from vmtrak.accounts import User
from vmtrak.channels import GROUPS, Channel, Group, group_of
from vmtrak.db import AnySelect, Page
from vmtrak.errors import Forbidden, NotFound
from vmtrak.fields import LARGEST_ID, Day, Input, blank_to_none
from vmtrak.inventory import VM, visible
from vmtrak.notices import planning
from vmtrak.notices.models import Message, NoticeRun, NotificationLog, State
from vmtrak.notices.recipients import Due, Recipient
from vmtrak.notices.rules import Rules

MOST_DUE = 500
"""Recipients whose notices are shown before they are sent."""

MOST_TOLD = 200
"""VMs that are named for one message."""

MOST_OF_VM = 50

LATE = timedelta(minutes=15)
"""So long after its hour the day's run is missed: a worker looks every minute."""

NAMES: Mapping[str, str] = {
    Channel.MAIL: "Mail",
    Channel.WEBHOOK: "Webhook",
    Channel.TEAMS: "Teams",
    Channel.SLACK: "Slack",
}
"""The channels as people call them."""

NAMED = 5
"""VMs that are named for each of them."""

_AT_ONCE = 500


class MessageQuery(Input):
    """What the list of messages can be asked for."""

    state: Annotated[State | None, BeforeValidator(blank_to_none)] = None
    channel: Annotated[Channel | None, BeforeValidator(blank_to_none)] = None
    day: Day = None
    page: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[int | None, Field(gt=0, le=LARGEST_ID)] = None


_FIELDS = (
    Message.id,
    Message.kind,
    Message.channel,
    Message.address,
    Message.user_id,
    Message.day,
    Message.state,
    Message.subject,
    Message.vms,
    Message.attempts,
    Message.next_attempt_at,
    Message.leased_until,
    Message.created_at,
    Message.ended_at,
    Message.sent_to,
    Message.answer,
    Message.run_id,
    User.username,
)


def page(session: Session, actor: Actor, query: MessageQuery) -> Page:
    """The messages that fit the query, newest first."""
    actor.require(Permission.USERS)
    terms = _terms(query)
    total = session.scalar(select(func.count()).select_from(Message).where(*terms)) or 0
    chosen = _messages().where(*terms).order_by(Message.id.desc())
    if query.cursor is not None:
        chosen = chosen.where(Message.id < query.cursor)
    else:
        chosen = chosen.offset((query.page - 1) * query.limit)
    found = session.execute(chosen.limit(query.limit + 1)).all()
    rows = [_shown(row._mapping) for row in found[: query.limit]]
    following = str(rows[-1]["id"]) if len(found) > query.limit else None
    return Page(rows, total, query.page, query.limit, following)


def _terms(query: MessageQuery) -> list[ColumnElement[bool]]:
    asked = (
        (Message.state, query.state),
        (Message.channel, query.channel),
        (Message.day, query.day),
    )
    return [field == value for field, value in asked if value is not None]


def _messages() -> AnySelect:
    return select(*_FIELDS).outerjoin(User, User.id == Message.user_id)


def _shown(row: RowMapping) -> dict[str, Any]:
    """The message with the time of the next attempt, if there will be one.

    While it is being sent, that is when another process would take the attempt for dead.
    """
    values = _with_recipient(_plain(row))
    times = [values["next_attempt_at"], values.pop("leased_until")]
    waits = values["state"] == State.WAITING
    values["next_attempt_at"] = max(filter(None, times)) if waits else None
    return values


def _with_recipient(values: dict[str, Any]) -> dict[str, Any]:
    username, address = values.pop("username"), values.pop("address")
    return {**values, "recipient": username or address or NAMES[values["channel"]]}


def _plain(row: RowMapping) -> dict[str, Any]:
    return {name: audit.plain(value) for name, value in row.items()}


_IN_TRASH = VM.deleted_at.is_not(None).label("in_trash")


def get(session: Session, actor: Actor, message_id: int) -> dict[str, Any]:
    """One message with the VMs that it tells of, or `NotFound`."""
    actor.require(Permission.USERS)
    found = session.execute(_messages().where(Message.id == message_id)).first()
    if found is None:
        raise NotFound
    return {**_shown(found._mapping), "vms_told": _told(session, message_id)}


def _told(session: Session, message_id: int) -> list[dict[str, Any]]:
    log = NotificationLog
    chosen = (
        select(log.vm_id, VM.vm_name, log.expiry_date, log.notice_type, _IN_TRASH)
        .join(VM, VM.id == log.vm_id)
        .where(log.message_id == message_id)
        .order_by(log.expiry_date, VM.name_key)
        .limit(MOST_TOLD)
    )
    return [_plain(row._mapping) for row in session.execute(chosen)]


def of_vm(session: Session, actor: Actor, vm_id: int) -> list[dict[str, Any]]:
    """Who was, or is to be, told of this VM, newest first. Raises `Forbidden`, `NotFound`."""
    actor.require(Permission.VM_READ_ALL)
    seen = visible(actor).with_only_columns(VM.id).where(VM.id == vm_id)
    if session.scalar(seen) is None:
        raise NotFound
    log = NotificationLog
    chosen = (
        select(
            log.message_id,
            log.notice_type,
            log.expiry_date,
            Message.channel,
            Message.state,
            func.coalesce(Message.ended_at, Message.created_at).label("at"),
            Message.answer,
            Message.address,
            User.username,
        )
        .join(Message, Message.id == log.message_id)
        .outerjoin(User, User.id == Message.user_id)
        .where(log.vm_id == vm_id)
        .order_by(log.id.desc())
        .limit(MOST_OF_VM)
    )
    return [_with_recipient(_plain(row._mapping)) for row in session.execute(chosen)]


def due(  # noqa: PLR0913 - whom of what, and how much of it
    session: Session,
    actor: Actor,
    rules: Rules,
    day: date,
    most: int | None = MOST_DUE,
    *,
    named: int = NAMED,
) -> list[dict[str, Any]]:
    """What a run of this day would send now, to at most so many recipients.

    `first` names so many of the VMs of each, those that come first in the digest.
    """
    actor.require(Permission.USERS)
    rows = [
        {**_whom(recipient), **_counted(vms, day), "first": _first(vms, day, named)}
        for recipient, vms in islice(planning.preview(session, rules, day), most)
    ]
    names = _names(session, {number for row in rows for number in row["first"]})
    return [{**row, "first": [names[number] for number in row["first"]]} for row in rows]


def _first(vms: list[Due], day: date, named: int) -> list[int]:
    """The VMs that a digest names first: those that are past come last. They come by date."""
    coming = (one.vm_id for one in vms if one.expiry_date >= day)
    past = (one.vm_id for one in vms if one.expiry_date < day)
    return list(islice(chain(coming, past), named))


def _whom(recipient: Recipient) -> dict[str, Any]:
    alone = recipient.user_id is None and recipient.address is None
    return {
        "recipient": NAMES[recipient.channel] if alone else recipient.name,
        "channel": recipient.channel.value,
        "user_id": recipient.user_id,
        "address": recipient.address,
    }


def _counted(vms: list[Due], day: date) -> dict[str, Any]:
    """How many VMs in all and in each group. Of thousands of VMs, the dates are few."""
    counts: Counter[Group] = Counter()
    for expiry, number in Counter(one.expiry_date for one in vms).items():
        counts[group_of((expiry - day).days)] += number
    groups = {group.value: counts[group] for group in GROUPS}
    return {"vms": len(vms), "groups": groups}


def _names(session: Session, numbers: Iterable[int]) -> dict[int, str]:
    names: dict[int, str] = {}
    for some in _batches(sorted(numbers)):
        chosen = select(VM.id, VM.vm_name).where(VM.id.in_(some))
        names |= {row.id: row.vm_name for row in session.execute(chosen)}
    return names


def _batches(numbers: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(numbers), _AT_ONCE):
        yield numbers[start : start + _AT_ONCE]


def standing(session: Session, actor: Actor, rules: Rules, moment: datetime) -> dict[str, Any]:
    """How notices stand: the channels, the last run and the next, and what is left to send.

    `late`: the hour of today's run passed a while ago and the run is not done. Raises `Forbidden`.
    """
    if not any(actor.may(one) for one in (Permission.USERS, Permission.STATISTICS)):
        raise Forbidden
    hour = rules.schedule.instant(rules.schedule.today(moment))
    undone = planning.due_day(session, rules, max(moment, hour)) is not None
    states = _states(session)
    return {
        "mail": rules.mail_is_on,
        "channels": [channel.value for channel in Channel if channel in rules.senders],
        "last_run": _last_run(session),
        "next_run_at": audit.plain(hour if undone else _tomorrow(rules, moment)),
        "late": undone and moment - hour >= LATE,
        **{state.value: states[state] for state in (State.WAITING, State.FAILED, State.KEPT)},
    }


def _tomorrow(rules: Rules, moment: datetime) -> datetime:
    return rules.schedule.instant(rules.schedule.today(moment) + timedelta(days=1))


def _last_run(session: Session) -> dict[str, Any] | None:
    chosen = select(
        NoticeRun.day,
        NoticeRun.trigger,
        NoticeRun.started_by,
        NoticeRun.started_at,
        NoticeRun.finished_at,
        NoticeRun.vms,
        NoticeRun.messages,
    )
    # One by hand that had nothing to tell does not hide the one before.
    worth = or_(
        NoticeRun.scheduled_for.is_not(None),
        NoticeRun.messages > 0,
        NoticeRun.finished_at.is_(None),
    )
    found = session.execute(chosen.where(worth).order_by(NoticeRun.id.desc()).limit(1)).first()
    return found and _plain(found._mapping)


def _states(session: Session) -> Counter[str]:
    """How many messages are in each of the states that want a look."""
    wanted = (State.WAITING, State.FAILED, State.KEPT)
    chosen = select(Message.state, func.count().label("n")).where(Message.state.in_(wanted))
    found = session.execute(chosen.group_by(Message.state))
    return Counter({row.state: row.n for row in found})
