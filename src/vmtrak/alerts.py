"""Alerts: what administrators are to know. An alert is a row of the same commit as its cause."""

import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from sqlalchemy import ColumnElement, String, func, insert, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from vmtrak import audit
from vmtrak.access import Actor, Permission
from vmtrak.db import AnySelect, Base, Identifier, Moment, Page, Work
from vmtrak.errors import Invalid, NotFound
from vmtrak.fields import Input, Text, blank_to_none

_CURSOR = re.compile(r"(new|read)-([1-9][0-9]{0,17})", re.ASCII)


class Alert(Base):
    """`key` says what the alert is about, so that nobody is told the same twice."""

    __tablename__ = "alerts"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    key: Mapped[str] = mapped_column(String(128), unique=True)
    kind: Mapped[str] = mapped_column(String(32))
    text: Mapped[str] = mapped_column(String(512))
    address: Mapped[str | None] = mapped_column(String(256))
    created_at: Mapped[datetime] = mapped_column(Moment)
    read_at: Mapped[datetime | None] = mapped_column(Moment, index=True)
    read_by: Mapped[str | None] = mapped_column(String(256))

    __table_args__ = ({"sqlite_autoincrement": True},)


def post(work: Work, *, kind: str, key: str, text: str, address: str | None = None) -> None:
    """Tell the administrators, unless an alert with this key has done so.

    The caller holds a lock under which no other unit of work posts the same key.
    """
    if work.session.scalar(select(Alert.id).where(Alert.key == key)) is None:
        values = {"kind": kind, "key": key, "text": text, "address": address}
        work.session.execute(insert(Alert).values(**values, created_at=work.moment))


FIELDS = (
    Alert.id,
    Alert.kind,
    Alert.text,
    Alert.address,
    Alert.created_at,
    Alert.read_at,
    Alert.read_by,
)
_NEW = Alert.read_at.is_(None)
_READ = Alert.read_at.is_not(None)


class AlertQuery(Input):
    """What the list can be asked for; `unread` false asks for those that were read."""

    unread: Annotated[bool | None, BeforeValidator(blank_to_none)] = None
    page: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Text(32)] = None


def page(session: Session, actor: Actor, query: AlertQuery) -> Page:
    """One page of alerts: unread ones first, of either kind the newest first."""
    new, known = query.unread is not False, query.unread is not True
    waiting = unread(session, actor) if new else 0
    total = waiting + (_count(session, _READ) if known else 0)
    rows: list[dict[str, Any]] = []
    place, behind = _place(query.cursor)
    skipped = 0 if place else (query.page - 1) * query.limit
    wanted = query.limit + 1
    if new and place != "read":
        chosen = _some(_NEW, behind if place else None).offset(skipped)
        rows += _found(session, chosen.limit(wanted))
    if known and len(rows) < wanted:
        chosen = _some(_READ, behind if place == "read" else None)
        chosen = chosen.offset(max(skipped - waiting, 0))
        rows += _found(session, chosen.limit(wanted - len(rows)))
    following = _cursor(rows[query.limit - 1]) if len(rows) == wanted else None
    return Page(rows[: query.limit], total, query.page, query.limit, following)


def unread(session: Session, actor: Actor) -> int:
    """How many alerts no administrator has read."""
    actor.require(Permission.USERS)
    return _count(session, _NEW)


def newest(session: Session, actor: Actor) -> dict[str, Any] | None:
    """The newest of the alerts that nobody has read."""
    actor.require(Permission.USERS)
    return next(iter(_found(session, _some(_NEW, None).limit(1))), None)


def read(work: Work, alert_id: int) -> None:
    """Note who has read it; who was first stays. Raises `NotFound`."""
    work.actor.require(Permission.USERS)
    alert = work.session.get(Alert, alert_id, with_for_update=True)
    if alert is None:
        raise NotFound
    if alert.read_at is None:
        alert.read_at, alert.read_by = work.moment, work.actor.username


def read_all(work: Work) -> int:
    """The same for all that are unread; how many those were."""
    work.actor.require(Permission.USERS)
    changed = update(Alert).where(_NEW).returning(Alert.id)
    values = {"read_at": work.moment, "read_by": work.actor.username}
    done = work.session.scalars(
        changed.values(values), execution_options={"synchronize_session": False}
    )
    return len(done.all())


def _count(session: Session, term: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).select_from(Alert).where(term)) or 0


def _some(term: ColumnElement[bool], below: int | None) -> AnySelect:
    chosen: AnySelect = select(*FIELDS).where(term).order_by(Alert.id.desc())
    return chosen if below is None else chosen.where(Alert.id < below)


def _found(session: Session, chosen: AnySelect) -> list[dict[str, Any]]:
    rows = session.execute(chosen)
    return [{name: audit.plain(value) for name, value in row._mapping.items()} for row in rows]


def _cursor(last: dict[str, Any]) -> str:
    return f"{'read' if last['read_at'] else 'new'}-{last['id']}"


def _place(cursor: str | None) -> tuple[str | None, int]:
    """In which part of the list the next page begins, and below which number."""
    if cursor is None:
        return None, 0
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise Invalid({"cursor": ["is not one that this list gave"]})
    return found[1], int(found[2])
