"""The day's run: who is to be told of what goes into the outbox and the log in one commit."""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from vmtrak import db
from vmtrak.access import SYSTEM, Actor, Permission
from vmtrak.db import Database, Work
from vmtrak.errors import Conflict
from vmtrak.notices import recipients
from vmtrak.notices.models import Kind, Message, NoticeRun, NotificationLog, State, Trigger
from vmtrak.notices.recipients import Due, Recipient
from vmtrak.notices.rules import Rules

PATIENCE = timedelta(days=3)
"""For so long a message is tried, then it has failed."""

WRONG_CLOCK = timedelta(hours=1)
"""A run that ended so far in the future ended by a clock that has been put right since."""

ABANDONED = timedelta(minutes=2)
"""A run that has not ended so long after its start may be taken up by another worker."""

_TRIES = 3
"""Plannings for one recipient, should another process tell them of the same at the same time."""

_TOLD = "uq_notification_log_vm_id_notice_type_expiry_date_recipient"
_TAKEN = {
    "uq_messages_digest_key": Conflict("They have a digest of this day."),
    _TOLD: Conflict("They have been told of one of these."),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run made: its number and how many messages, about how many VMs."""

    run_id: int
    day: date
    messages: int
    vms: int


def due_day(session: Session, rules: Rules, moment: datetime) -> date | None:
    """The day whose run is due and not done, for a look that costs no lock."""
    day = rules.schedule.due(moment)
    if day is None:
        return None
    chosen = select(NoticeRun.finished_at).where(NoticeRun.scheduled_for == day)
    finished_at = session.scalar(chosen)
    return None if _is_done(finished_at, moment) else day


def _is_done(finished_at: datetime | None, moment: datetime) -> bool:
    return finished_at is not None and finished_at <= moment + WRONG_CLOCK


def run_daily(database: Database, rules: Rules) -> Plan | None:
    """Do today's run if it is due; None if there is nothing to do or another worker does it.

    A run that was killed is taken up again by whoever looks next. Two that overlap do no harm:
    the constraints let each recipient have one digest a day and be told of each stage once.
    """
    moment = db.now()
    with database.read() as session:
        day = due_day(session, rules, moment)
    if day is None:
        return None
    try:
        with database.work(SYSTEM) as work:
            run_id = _claimed(work, day)
    except Conflict:  # another worker was faster
        return None
    return None if run_id is None else _planned(database, rules, run_id, day)


def _claimed(work: Work, day: date) -> int | None:
    """The number of the day's run, made or taken up again; None if it is done or being done."""
    chosen = select(NoticeRun).where(NoticeRun.scheduled_for == day).with_for_update()
    run = work.session.scalar(chosen)
    if run is None:
        run = _run(work, day, Trigger.SCHEDULE)
        run.scheduled_for = day
        work.flush({"uq_notice_runs_scheduled_for": Conflict("Another worker does this day.")})
        return run.id
    age = work.moment - run.started_at
    if _is_done(run.finished_at, work.moment) or timedelta(0) <= age < ABANDONED:
        return None
    run.started_at, run.finished_at = work.moment, None
    return run.id


def run_now(database: Database, rules: Rules, actor: Actor, day: date, trigger: Trigger) -> Plan:
    """Plan the notices of a day at somebody's wish. Raises `Forbidden`."""
    actor.require(Permission.USERS)
    with database.work(actor) as work:
        run = _run(work, day, trigger)
        work.flush()
    return _planned(database, rules, run.id, day)


def _run(work: Work, day: date, trigger: Trigger) -> NoticeRun:
    run = NoticeRun(
        day=day, trigger=trigger, started_by=work.actor.username, started_at=work.moment
    )
    work.session.add(run)
    return run


def preview(session: Session, rules: Rules, day: date) -> Iterator[tuple[Recipient, list[Due]]]:
    """Whom a run of this day would tell of what, and of nothing else. It changes nothing."""
    found = recipients.due(session, rules, day)
    for recipient, vms in recipients.told_of(session, rules, day, found):
        news = _news(session, rules, day, recipient, vms)
        if news and not _has_digest(session, recipient, day):
            yield recipient, news


def _planned(database: Database, rules: Rules, run_id: int, day: date) -> Plan:
    told: set[int] = set()
    messages = 0
    with database.read() as session:
        for recipient, news in preview(session, rules, day):
            planned = _told(database, rules, run_id, day, recipient, news)
            told.update(planned)
            messages += bool(planned)
    with database.work(SYSTEM) as work:
        run = work.session.get_one(NoticeRun, run_id, with_for_update=True)
        run.messages += messages
        run.vms += len(told)
        run.finished_at = work.moment
    return Plan(run_id, day, messages, len(told))


def _told(  # noqa: PLR0913, PLR0917 - what a digest is made of
    database: Database, rules: Rules, run_id: int, day: date, recipient: Recipient, vms: list[Due]
) -> list[int]:
    """Put one recipient's digest into the outbox; the numbers of its VMs."""
    for _ in range(_TRIES):
        try:
            with database.work(SYSTEM) as work:
                return _digest(work, rules, run_id, day, recipient, vms)
        except Conflict:
            continue
    return []


def _digest(  # noqa: PLR0913, PLR0917 - the same
    work: Work, rules: Rules, run_id: int, day: date, recipient: Recipient, vms: list[Due]
) -> list[int]:
    if _has_digest(work.session, recipient, day):
        return []
    news = _news(work.session, rules, day, recipient, vms)
    if not news:
        return []
    message = new_message(work, rules, recipient, day, Kind.EXPIRY)
    message.digest_key = _digest_key(recipient, day)
    message.run_id, message.vms = run_id, len(news)
    work.flush(_TAKEN)
    try:
        work.session.execute(insert(NotificationLog), list(_log(news, recipient, message.id)))
    except IntegrityError as error:
        raise db.conflict(error, _TAKEN) from error
    return [one.vm_id for one in news]


def _log(news: Iterable[Due], recipient: Recipient, message_id: int) -> Iterator[dict[str, object]]:
    for one in news:
        yield {
            "vm_id": one.vm_id,
            "notice_type": one.stage,
            "expiry_date": one.expiry_date,
            "recipient": recipient.key,
            "message_id": message_id,
        }


def new_message(work: Work, rules: Rules, recipient: Recipient, day: date, kind: Kind) -> Message:
    """A message for the outbox, to be sent at once; kept while its channel is off."""
    message = Message(
        uid=secrets.token_hex(16),
        kind=kind,
        channel=recipient.channel,
        recipient=recipient.key,
        user_id=recipient.user_id,
        address=None if recipient.user_id else recipient.address,
        day=day,
        state=State.WAITING if recipient.channel in rules.senders else State.KEPT,
        created_at=work.moment,
        next_attempt_at=work.moment,
        give_up_at=work.moment + PATIENCE,
    )
    work.session.add(message)
    return message


def _digest_key(recipient: Recipient, day: date) -> str:
    return f"{day.isoformat()}:{recipient.key}"


def _has_digest(session: Session, recipient: Recipient, day: date) -> bool:
    keys = [f"{day.isoformat()}:{key}" for key in recipient.keys]
    return (
        session.scalar(select(Message.id).where(Message.digest_key.in_(keys)).limit(1)) is not None
    )


def _news(
    session: Session, rules: Rules, day: date, recipient: Recipient, vms: list[Due]
) -> list[Due]:
    """Those of the VMs of whose stage the recipient has not been told."""
    if not vms:
        return []
    first, last = rules.schedule.window(day)
    log = NotificationLog
    chosen = select(log.vm_id, log.notice_type, log.expiry_date).where(
        log.recipient.in_(recipient.keys), log.expiry_date.between(first, last)
    )
    told = {tuple(row) for row in session.execute(chosen)}
    return [one for one in vms if (one.vm_id, one.stage, one.expiry_date) not in told]
