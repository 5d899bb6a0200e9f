"""What a message says at the moment when it is sent: nothing that is no longer true."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from sqlalchemy import ColumnElement, and_, case, exists, false, func, or_, select, true
from sqlalchemy.orm import Session, aliased

from vmtrak.accounts import User
from vmtrak.channels import Content, Digest, Group, Line, Trial
from vmtrak.db import AnySelect
from vmtrak.inventory import VM, Status
from vmtrak.notices import recipients
from vmtrak.notices.models import Kind, Message, NotificationLog
from vmtrak.notices.recipients import Recipient
from vmtrak.notices.rules import Rules

MOST_LINES = 200
"""VMs that a digest names; the others it counts."""

_LOG = NotificationLog
_NEWER = aliased(NotificationLog)


@dataclass(frozen=True, slots=True)
class Letter:
    """What a message says and where it goes; no content: nothing in it is true any more.

    `untold` are the rows of the log of which it tells no more: their stages may become due again.
    """

    content: Content | None
    address: str | None
    untold: tuple[int, ...] = ()


def letter(session: Session, rules: Rules, message: Message, today: date) -> Letter:
    """The message as it is to be sent today. The session sees one snapshot, on PostgreSQL too.

    A VM is left out that has been extended, retired or deleted since, that the person does not
    see or own any more, or of which a newer message tells. A closed account is told nothing.
    """
    user = session.get(User, message.user_id) if message.user_id is not None else None
    address = user.email if user is not None else message.address
    if user is not None and not user.is_active:
        return Letter(None, address, _untold(session, message, true()))
    if message.kind == Kind.TEST:
        return Letter(Trial(today, user.username if user is not None else ""), address)
    known = _known(session, message, user)
    holds = and_(_is_as_told(known), _audience(session, rules, message, user))
    untold = _untold(session, message, ~holds)
    counts = _counts(session, message, holds, today)
    if not counts:
        return Letter(None, address, untold)
    lines, outsider = _lines(session, message, holds, today), message.address is not None
    return Letter(Digest(today, lines, counts, outsider), address, untold)


def _known(session: Session, message: Message, user: User | None) -> frozenset[str]:
    """By which keys the log knows the recipient, who may have had no account before."""
    if user is not None:
        return Recipient.user(user).keys
    accounts = recipients.accounts_of(session, message.address) if message.address else []
    return frozenset({message.recipient}).union(*(whose.keys for _, whose in accounts))


def _is_as_told(known: frozenset[str]) -> ColumnElement[bool]:
    """The VM is active, expires on the day that was told, and no newer message tells of that."""
    newer = exists().where(
        _NEWER.vm_id == _LOG.vm_id,
        _NEWER.expiry_date == _LOG.expiry_date,
        _NEWER.recipient.in_(known),
        # Written so that SQLite looks by recipient, day and VM: a comparison of the two numbers
        # would have it walk all rows of the day behind each row.
        _NEWER.id - _LOG.id > 0,
    )
    alive = and_(VM.deleted_at.is_(None), VM.status == Status.ACTIVE)
    return and_(alive, VM.expiry_key == _LOG.expiry_date, ~newer)


def _audience(
    session: Session, rules: Rules, message: Message, user: User | None
) -> ColumnElement[bool]:
    """The VM is still one of those of which this recipient is told."""
    if user is not None:
        if user.notify_expiry and recipients.sees_all(user):
            return true()
        theirs = {user.username_key, user.email_key}
        owned = _owned(session, message, lambda owner: bool(theirs & recipients.names(owner)))
        return or_(owned, recipients.sees(user)) if user.notify_expiry else owned
    if message.address is None:
        return true()
    if not recipients.may_be_told(session, message.address):
        return false()
    return _owned(session, message, lambda owner: _means(owner, rules, message))


def _owned(session: Session, message: Message, means: Callable[[str], bool]) -> ColumnElement[bool]:
    """The VM has an owner whose name means the recipient."""
    owners = session.scalars(_rows(select(VM.owner).distinct(), message))
    meant = [owner for owner in owners if owner is not None and means(owner)]
    # What is no owner's compares to nothing, not even to "not that one".
    return and_(VM.owner.is_not(None), VM.owner.in_(meant))


def _means(owner: str, rules: Rules, message: Message) -> bool:
    address = recipients.owner_address(owner, rules.domains)
    return address is not None and recipients.address_key(address) == message.recipient


def _counts(
    session: Session, message: Message, holds: ColumnElement[bool], today: date
) -> Mapping[Group, int]:
    group = case(
        (VM.expiry_key < today, Group.OVERDUE.value),
        (VM.expiry_key == today, Group.TODAY.value),
        (VM.expiry_key == today + timedelta(days=1), Group.TOMORROW.value),
        else_=Group.SOON.value,
    ).label("at")
    counted = _rows(select(group, func.count()), message).where(holds).group_by(group)
    return {Group(name): count for name, count in session.execute(counted)}


def _lines(
    session: Session, message: Message, holds: ColumnElement[bool], today: date
) -> tuple[Line, ...]:
    columns = (VM.id, VM.vm_name, VM.ip_address, VM.environment, VM.owner, VM.expiry_key)
    # Those that are past come last, as the groups do.
    order = (VM.expiry_key < today, VM.expiry_key, VM.name_key)
    found = session.execute(
        _rows(select(*columns), message).where(holds).order_by(*order).limit(MOST_LINES)
    )
    return tuple(
        Line(
            vm_id=row.id,
            vm_name=row.vm_name,
            ip_address=row.ip_address,
            environment=row.environment,
            owner=row.owner,
            expiry_date=row.expiry_key,
            days=(row.expiry_key - today).days,
        )
        for row in found
    )


def _untold(session: Session, message: Message, gone: ColumnElement[bool]) -> tuple[int, ...]:
    return tuple(session.scalars(_rows(select(_LOG.id), message).where(gone)))


def _rows(chosen: AnySelect, message: Message) -> AnySelect:
    """The statement over the message's rows of the log and their VMs."""
    joined = chosen.select_from(_LOG).join(VM, VM.id == _LOG.vm_id)
    return joined.where(_LOG.message_id == message.id)
