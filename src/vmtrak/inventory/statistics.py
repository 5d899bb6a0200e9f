"""Counts for the dashboard and values to suggest, within what the person sees."""

from datetime import date, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, String, cast, func, select
from sqlalchemy.orm import Session

from vmtrak import audit
from vmtrak.access import Actor, Permission
from vmtrak.db import AnySelect
from vmtrak.errors import Invalid
from vmtrak.fields import LAST, fold
from vmtrak.inventory.lists import FIELDS, TALLY, scope, scope_values, sees_all
from vmtrak.inventory.models import NEVER, VM, Hypervisor

SOON = 30
"""Days within which a VM counts as expiring soon."""

MOST_SUGGESTIONS = 500


class Suggested(StrEnum):
    OS_VERSION = "os_version"
    OWNER = "owner"
    DEPARTMENT = "department"
    APPLICATION = "application"


def _seen(actor: Actor, statement: AnySelect) -> AnySelect:
    actor.require(Permission.VM_READ)
    limited = statement.where(VM.deleted_at.is_(None), *scope(actor))
    return limited if sees_all(actor) else limited.params(scope_values(actor))


def suggestions(session: Session, actor: Actor, field: str, term: str = "") -> list[str]:
    """Values that the field has among the VMs the person sees, in alphabetical order.

    Raises `Invalid` for a field that has no suggestions.
    """
    if field not in set(Suggested):
        raise Invalid({"field": [f"must be one of {', '.join(Suggested)}"]})
    subject = getattr(VM, field)
    statement = select(subject).where(subject.is_not(None)).distinct()
    rows = session.scalars(_seen(actor, statement).order_by(subject))
    wanted = fold(term)
    found = (value for value in rows if wanted in fold(value))
    return [value for value, _ in zip(found, range(MOST_SUGGESTIONS), strict=False)]


def by(session: Session, actor: Actor, name: str) -> dict[str, int]:
    """How many VMs have each environment, status or power state, keys as in the model."""
    columns: dict[str, Any] = {
        "environment": (TALLY.c.environment_key, VM.environment_key),
        "status": (TALLY.c.status, VM.status),
        "power_state": (TALLY.c.power_state, VM.power_state),
    }
    tallied, live = columns[name]
    if sees_all(actor):
        actor.require(Permission.VM_READ)
        statement = (
            select(tallied, func.sum(TALLY.c.n)).where(TALLY.c.dimension == "all").group_by(tallied)
        )
    else:
        statement = _seen(actor, select(live, func.count())).group_by(live)
    return {_word(key): int(n) for key, n in session.execute(statement) if n}


def by_hypervisor(session: Session, actor: Actor, most: int = 10) -> list[tuple[int, str, int]]:
    """The hypervisors with most VMs: number, name, count."""
    if sees_all(actor):
        n: ColumnElement[Any] = func.sum(TALLY.c.n)
        statement: AnySelect = (
            select(Hypervisor.id, Hypervisor.name, n)
            .join(TALLY, TALLY.c.value == cast(Hypervisor.id, String))
            .where(TALLY.c.dimension == "hypervisor_id")
            .group_by(Hypervisor.id, Hypervisor.name)
            .having(n > 0)
        )
    else:
        n = func.count()
        live: AnySelect = select(Hypervisor.id, Hypervisor.name, n)
        statement = _seen(actor, live.join_from(VM, Hypervisor))
        statement = statement.group_by(Hypervisor.id, Hypervisor.name)
    rows = session.execute(statement.order_by(n.desc(), Hypervisor.name).limit(most))
    return [(number, name, int(count)) for number, name, count in rows]


def by_month(
    session: Session, actor: Actor, first: date, months: int = 12
) -> list[tuple[date, int]]:
    """How many VMs expire in each of the months from the one of `first` on."""
    starts = _months(first, months + 1)
    return [
        (start, _count(session, actor, VM.expiry_key >= start, VM.expiry_key < end))
        for start, end in pairwise(starts)
    ]


def expired(session: Session, actor: Actor, today: date) -> int:
    return _count(session, actor, VM.expiry_key < today)


def expiring_count(session: Session, actor: Actor, today: date, days: int = SOON) -> int:
    until = today + timedelta(days=days)
    return _count(session, actor, VM.expiry_key >= today, VM.expiry_key <= until)


def without_owner(session: Session, actor: Actor) -> int:
    return _count(session, actor, VM.owner_key == LAST)


def without_expiry(session: Session, actor: Actor) -> int:
    return _count(session, actor, VM.expiry_key == NEVER)


def expiring(
    session: Session, actor: Actor, today: date, days: int = SOON, most: int = 10
) -> list[dict[str, Any]]:
    """The next VMs to expire, today included, those that are overdue not."""
    statement = select(*FIELDS, Hypervisor.name.label("hypervisor_name")).outerjoin_from(
        VM, Hypervisor, VM.hypervisor_id == Hypervisor.id
    )
    until = today + timedelta(days=days)
    within = _seen(actor, statement).where(VM.expiry_key >= today, VM.expiry_key <= until)
    rows = session.execute(within.order_by(VM.expiry_key, VM.id).limit(most))
    return [dict(row._mapping) for row in rows]


def summary(session: Session, actor: Actor, today: date) -> dict[str, Any]:
    """The figures of the contract's `dashboard/stats`."""
    actor.require(Permission.STATISTICS)
    by_status = by(session, actor, "status")
    names = ("id", "vm_name", "ip_address", "environment", "owner", "expiry_date")
    return {
        "total": sum(by_status.values()),
        "by_status": by_status,
        "by_environment": by(session, actor, "environment"),
        "by_power_state": by(session, actor, "power_state"),
        "expiring_soon": [
            {
                **{name: audit.plain(row[name]) for name in names},
                "days_until_expiry": (row["expiry_date"] - today).days,
            }
            for row in expiring(session, actor, today)
        ],
        "expired_count": expired(session, actor, today),
    }


def _count(session: Session, actor: Actor, *terms: ColumnElement[bool]) -> int:
    return session.scalar(_seen(actor, select(func.count()).select_from(VM)).where(*terms)) or 0


def _word(key: str) -> str:
    return "none" if key == LAST else key


def _months(first: date, count: int) -> list[date]:
    number = first.year * 12 + first.month - 1
    return [date(at // 12, at % 12 + 1, 1) for at in range(number, number + count)]
