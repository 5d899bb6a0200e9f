"""The day's run: who is to be told of what goes into the outbox and the log in one commit."""

import secrets
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TypeAlias

from loguru import logger
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from vmtrak import db
from vmtrak.access import SYSTEM, Actor, Permission
from vmtrak.db import Database, Work
from vmtrak.errors import Conflict, Unavailable
from vmtrak.inventory import VM, Status
from vmtrak.notices import recipients
from vmtrak.notices.models import Kind, Message, NoticeRun, NotificationLog, State, Trigger
from vmtrak.notices.recipients import Due, Pick, Recipient
from vmtrak.notices.rules import Rules

PATIENCE = timedelta(days=3)
"""For so long a message is tried, then it has failed."""

WRONG_CLOCK = timedelta(hours=1)
"""A run that ended so far in the future ended by a clock that has been put right since."""

ABANDONED = timedelta(minutes=2)
"""A run that has not ended so long after its start may be taken up by another worker."""

ASLEEP = timedelta(hours=12)
"""A run that is not through so long after its start, or whose clock was moved so far, is over."""

_RETRIES = 4
"""Further tries for one recipient, should another process be at the same thing."""

_AT_ONCE = 500
"""Numbers in one IN list."""

_TOGETHER = 25
"""Recipients whose log is looked at in one go: each may have been told of thousands of VMs."""

Stage: TypeAlias = tuple[int, str, date]
"""A VM by its number, a stage, and the expiry date that it belongs to."""

_INSERT = insert(NotificationLog.metadata.tables[NotificationLog.__tablename__])

_TOLD = "uq_notification_log_recipient_expiry_date_vm_id_notice_type"
_TAKEN = {
    "uq_messages_digest_key": Conflict("They have a digest of this day."),
    _TOLD: Conflict("They have been told of one of these."),
}


@dataclass(frozen=True, slots=True)
class Round:
    """A run that goes on: whose, of which day, and by which name its digests know that day."""

    run_id: int
    day: date
    label: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run has made: how many messages, about how many VMs.

    `failed` counts the recipients whose notices could not be planned; until `finished` there may
    be more to come.
    """

    run_id: int
    day: date
    messages: int
    vms: int
    failed: int = 0
    finished: bool = True


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
    if run_id is None:
        return None
    return go_on(database, rules, Round(run_id, day, day.isoformat()))


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
    with database.work(actor) as work:
        found = begin(work, rules, day, trigger)
    return go_on(database, rules, found)


def begin(work: Work, rules: Rules, day: date, trigger: Trigger) -> Round:
    """Make a run at somebody's wish. Raises `Forbidden`."""
    work.actor.require(Permission.USERS)
    run = _run(work, day, trigger)
    work.flush()
    return Round(run.id, day, _label(rules, day))


def _run(work: Work, day: date, trigger: Trigger) -> NoticeRun:
    run = NoticeRun(
        day=day, trigger=trigger, started_by=work.actor.username, started_at=work.moment
    )
    work.session.add(run)
    return run


def preview(session: Session, rules: Rules, day: date) -> Iterator[tuple[Recipient, list[Due]]]:
    """Whom a run of this day would tell of what, and of nothing else. It changes nothing."""
    run = Round(0, day, _label(rules, day))
    audience = recipients.audience(session, rules, day, recipients.due(session, rules, day))
    for start in range(0, len(audience), _TOGETHER):
        yield from _news_of_each(session, rules, run, audience[start : start + _TOGETHER])


def _news_of_each(
    session: Session, rules: Rules, run: Round, audience: list[tuple[Recipient, Pick]]
) -> Iterator[tuple[Recipient, list[Due]]]:
    """What `_news` finds for one, by as few queries for all of these."""
    keys = {key for recipient, _ in audience for key in recipient.keys}
    had = _digested(session, run.label, keys)
    told = _told(session, rules, run.day, keys - had)
    for recipient, pick in audience:
        if had.isdisjoint(recipient.keys):
            news = _untold(pick(session), [told[key] for key in recipient.keys])
            if news:
                yield recipient, news


def _label(rules: Rules, day: date) -> str:
    """What a run at somebody's wish calls its day: another day's digest is no digest of that day.

    Else people who were told ahead would hear nothing when the day comes.
    """
    wanted = day.isoformat()
    return wanted if day == rules.schedule.today(db.now()) else f"ahead:{wanted}"


def go_on(database: Database, rules: Rules, run: Round) -> Plan:
    """Plan for each recipient in a unit of work of its own.

    What fails for one is logged, and leaves the run unfinished, to be taken up again; the others
    get theirs. A run that the machine has slept through stops: the next one makes good for it.
    """
    with database.read() as session:
        found = recipients.due(session, rules, run.day)
        audience = recipients.audience(session, rules, run.day, found)
    began, failed = db.now(), 0
    for recipient, pick in audience:
        if abs(db.now() - began) > ASLEEP:
            return so_far(database, run)
        try:
            _tell(database, rules, run, recipient, pick)
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - what is wrong with one must not keep all others waiting
            logger.exception("the notices of {} could not be planned", recipient.key)
            failed += 1
    plan = so_far(database, run)
    if failed:
        return replace(plan, failed=failed)
    _finish(database, plan)
    return replace(plan, finished=True)


def so_far(database: Database, run: Round) -> Plan:
    """What an unfinished run has made by now, by whichever worker."""
    log = NotificationLog
    told = select(func.count(log.vm_id.distinct())).join(Message, Message.id == log.message_id)
    made = select(func.count()).select_from(Message)
    with database.read() as session:
        messages = session.scalar(made.where(Message.run_id == run.run_id)) or 0
        vms = session.scalar(told.where(Message.run_id == run.run_id)) or 0
    return Plan(run.run_id, run.day, messages, vms, finished=False)


def _finish(database: Database, plan: Plan) -> None:
    with database.work(SYSTEM) as work:
        run = work.session.get_one(NoticeRun, plan.run_id, with_for_update=True)
        run.messages, run.vms, run.finished_at = plan.messages, plan.vms, work.moment


def _tell(database: Database, rules: Rules, run: Round, recipient: Recipient, pick: Pick) -> None:
    """Put one recipient's digest into the outbox, if there is news for them."""
    for last in (*[False] * _RETRIES, True):
        # A look first, which locks nothing, in a session of its own: one for the whole run would
        # keep SQLite from ever shortening its log.
        with database.read() as session:
            vms = _news(session, rules, run, recipient, pick(session))
        if not vms:
            return
        try:
            with database.work(SYSTEM) as work:
                _digest(work, rules, run, recipient, vms)
        except (Conflict, Unavailable):  # another process was faster, or held the VMs
            if last:
                raise
        else:
            return


def _digest(work: Work, rules: Rules, run: Round, recipient: Recipient, vms: list[Due]) -> None:
    news = _present(work, _news(work.session, rules, run, recipient, vms))
    if not news:
        return
    message = new_message(work, rules, recipient, run.day, Kind.EXPIRY)
    message.digest_key = _digest_key(run.label, recipient.key)
    message.run_id, message.vms = run.run_id, len(news)
    work.flush(_TAKEN)
    try:
        work.session.connection().execute(_INSERT, list(_rows(news, recipient, message.id)))
    except IntegrityError as error:
        raise db.conflict(error, _TAKEN) from error


def _present(work: Work, vms: list[Due]) -> list[Due]:
    """Those that are there, active and due on that day; nobody destroys them before the commit."""
    alive: set[tuple[int, date]] = set()
    numbers = sorted(one.vm_id for one in vms)
    for start in range(0, len(numbers), _AT_ONCE):
        chosen = select(VM.id, VM.expiry_key, VM.status, VM.deleted_at).order_by(VM.id)
        some = chosen.where(VM.id.in_(numbers[start : start + _AT_ONCE]))
        rows = work.session.execute(some.with_for_update(read=True, key_share=True))
        alive.update(
            (vm_id, expiry)
            for vm_id, expiry, status, deleted_at in rows
            if deleted_at is None and status == Status.ACTIVE
        )
    return [one for one in vms if (one.vm_id, one.expiry_date) in alive]


def _rows(
    news: Iterable[Due], recipient: Recipient, message_id: int
) -> Iterator[dict[str, object]]:
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


def _digest_key(label: str, key: str) -> str:
    return f"{label}:{key}"


def _news(
    session: Session, rules: Rules, run: Round, recipient: Recipient, vms: list[Due]
) -> list[Due]:
    """Those of the VMs of whose stage the recipient has not been told; none on a day with one."""
    if not vms or _digested(session, run.label, recipient.keys):
        return []
    return _untold(vms, _told(session, rules, run.day, recipient.keys).values())


def _digested(session: Session, label: str, keys: Collection[str]) -> set[str]:
    """Those of the keys that have a digest of the day."""
    named = {_digest_key(label, key): key for key in keys}
    chosen = select(Message.digest_key).where(Message.digest_key.in_(list(named)))
    return {named[found] for found in session.scalars(chosen) if found is not None}


def _told(
    session: Session, rules: Rules, day: date, keys: Collection[str]
) -> Mapping[str, set[Stage]]:
    """What has been told under each of the keys, of what the day's notices can be about."""
    first, last = rules.schedule.window(day)
    log = NotificationLog
    chosen = select(log.recipient, log.vm_id, log.notice_type, log.expiry_date).where(
        log.recipient.in_(list(keys)), log.expiry_date.between(first, last)
    )
    told: dict[str, set[Stage]] = defaultdict(set)
    for key, vm_id, stage, expiry in session.execute(chosen):
        told[key].add((vm_id, stage, expiry))
    return told


def _untold(vms: list[Due], told: Iterable[set[Stage]]) -> list[Due]:
    known = set().union(*told)
    if not known:
        return vms
    return [one for one in vms if (one.vm_id, one.stage, one.expiry_date) not in known]
