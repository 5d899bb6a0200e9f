"""The audit trail: what was done, by whom, committed together with what it tells of."""

import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field
from sqlalchemy import (
    JSON,
    ColumnElement,
    Index,
    String,
    Subquery,
    bindparam,
    event,
    func,
    insert,
    inspect,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, ORMExecuteState, Session, mapped_column

from vmtrak import logs
from vmtrak.access import Actor, Permission
from vmtrak.db import Base, Identifier, Moment, Page, Prepared, Work, WorkSession, iso
from vmtrak.errors import NotFound
from vmtrak.fields import LARGEST_ID, Input, Instant, LastInstant, Reference, Text, whole

SEALED = "•••"
"""Printed for values that nobody may read in the trail."""


class Action(StrEnum):
    LOGIN = "auth.login"
    LOGIN_FAILED = "auth.login_failed"
    LOGOUT = "auth.logout"
    REFRESH_REUSE = "auth.refresh_reuse"
    SETUP_COMPLETED = "auth.setup_completed"
    PASSWORD_CHANGED = "auth.password_changed"  # noqa: S105 - the name of an action
    SESSIONS_ENDED = "auth.sessions_ended"
    LOCKED = "auth.locked"
    PROVED = "auth.proved"
    PROOF_FAILED = "auth.proof_failed"
    FACTOR_ADDED = "auth.second_factor_added"
    FACTOR_REMOVED = "auth.second_factor_removed"
    RECOVERY_CODES = "auth.recovery_codes_made"
    RECOVERY_CODE_USED = "auth.recovery_code_used"
    TOKEN_CREATE = "token.create"  # noqa: S105 - the name of an action
    TOKEN_REVOKE = "token.revoke"  # noqa: S105 - the name of an action
    VM_CREATE = "vm.create"
    VM_UPDATE = "vm.update"
    VM_DELETE = "vm.delete"
    VM_RESTORE = "vm.restore"
    VM_PURGE = "vm.purge"
    CREDENTIAL_CREATE = "credential.create"
    CREDENTIAL_UPDATE = "credential.update"
    CREDENTIAL_DELETE = "credential.delete"
    CREDENTIAL_REKEY = "credential.rekey"
    KEY_GIVEN_UP = "credential.key_given_up"
    REVEAL = "credential.reveal"
    REVEAL_EARLIER = "credential.reveal_earlier"
    REVEAL_REFUSED = "credential.reveal_refused"
    RDP_DOWNLOAD = "rdp.download"
    HYPERVISOR_CREATE = "hypervisor.create"
    HYPERVISOR_UPDATE = "hypervisor.update"
    HYPERVISOR_DELETE = "hypervisor.delete"
    USER_CREATE = "user.create"
    USER_UPDATE = "user.update"
    USER_DEACTIVATE = "user.deactivate"
    USER_UNLOCK = "user.unlock"
    USER_LINKED = "user.linked"
    NOTIFICATION_SENT = "notification.sent"
    NOTIFICATION_FAILED = "notification.failed"
    PASSWORD_RESET = "user.password_reset"  # noqa: S105 - the name of an action


class AuditEvent(Base):
    """One line of the trail. Rows are only ever added: the database itself refuses the rest."""

    __tablename__ = "audit_events"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    user_id: Mapped[int | None] = mapped_column(Identifier)
    username: Mapped[str] = mapped_column(String(256))
    action: Mapped[str] = mapped_column(String(64))
    entity_type: Mapped[str] = mapped_column(String(32))
    entity_id: Mapped[int | None] = mapped_column(Identifier)
    entity_name: Mapped[str | None] = mapped_column(String(256))
    detail: Mapped[dict[str, Any] | None] = mapped_column(
        JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
    )
    ip_address: Mapped[str | None] = mapped_column(String(64))
    request_id: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(Moment)

    __table_args__ = (
        Index(None, "entity_type", "entity_id", "id"),
        Index(None, "user_id", "id"),
        Index(None, "action", "id"),
        Index(None, "created_at", "id"),
        {"sqlite_autoincrement": True},
    )


FIELDS = (
    AuditEvent.id,
    AuditEvent.user_id,
    AuditEvent.username,
    AuditEvent.action,
    AuditEvent.entity_type,
    AuditEvent.entity_id,
    AuditEvent.entity_name,
    AuditEvent.detail,
    AuditEvent.ip_address,
    AuditEvent.request_id,
    AuditEvent.created_at,
)


class Audited:
    """Mixed into models whose every change must come with an event.

    `__audit_silent__` names columns that follow from others and tell nobody anything.
    `__audit_sealed__` names those whose values nobody may read there.
    """

    __audit_silent__: ClassVar[frozenset[str]] = frozenset()
    __audit_sealed__: ClassVar[frozenset[str]] = frozenset()


def record(  # noqa: PLR0913 - one keyword per column of the trail
    work: Work,
    action: Action,
    *,
    entity_type: str,
    entity: Base | None = None,
    entity_id: int | None = None,
    entity_name: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write the event in this unit of work; the audit file gets its line after the commit."""
    line = _line(work, action, entity_type, entity_id, entity_name, detail)
    kept = line | {"detail": json.dumps(detail) if detail else None}
    [(number,)] = work.rows(_ADDED, kept)
    if entity is not None:
        work.session.info.setdefault("accounted", set()).add(entity)
    work.after_commit(lambda: logs.audit_line({"id": number, **line}))


_ADDED = Prepared(
    insert(AuditEvent)
    .values({column.key: bindparam(column.key) for column in FIELDS if column.key != "id"})
    .returning(AuditEvent.id)
)


def record_each(
    work: Work,
    action: Action,
    entity_type: str,
    entities: Iterable[tuple[int, str]],
    detail: Mapping[str, Any],
) -> None:
    """Write an event for each of these rows, given once by number and name, with one detail."""
    lines = [_line(work, action, entity_type, *entity, detail) for entity in entities]
    if lines:
        kept = [{**line, "created_at": work.moment} for line in lines]
        added = work.session.execute(_ADDED_EACH, kept)
        numbers: dict[int, int] = {row.entity_id: row.id for row in added}
        numbered = [{"id": numbers[line["entity_id"]], **line} for line in lines]
        work.after_commit(lambda: _write(numbered))


def _line(  # noqa: PLR0913, PLR0917 - what the trail keeps
    work: Work,
    action: Action,
    entity_type: str,
    entity_id: int | None,
    entity_name: str | None,
    detail: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The event as the contract shows it, but for its number."""
    actor = work.actor
    return {
        "user_id": actor.user_id,
        "username": actor.username,
        "action": action.value,
        "entity_type": entity_type,
        "entity_id": entity_id,
        "entity_name": entity_name,
        "detail": dict(detail) if detail else None,
        "ip_address": actor.ip_address,
        "request_id": actor.request_id,
        "created_at": iso(work.moment),
    }


def _write(lines: Iterable[Mapping[str, Any]]) -> None:
    for line in lines:
        logs.audit_line(line)


_ADDED_EACH = insert(AuditEvent.metadata.tables[AuditEvent.__tablename__]).returning(
    AuditEvent.id, AuditEvent.entity_id
)


def difference(entity: Audited) -> dict[str, dict[str, Any]]:
    """What this unit of work has changed on a loaded row: `{field: {"from": …, "to": …}}`."""
    changes = {}
    for attribute in inspect(entity).attrs:
        history = attribute.history
        if attribute.key in entity.__audit_silent__ or not history.has_changes():
            continue
        before = plain(history.deleted[0]) if history.deleted else None
        after = plain(history.added[0]) if history.added else None
        if before != after:
            sealed = attribute.key in entity.__audit_sealed__
            changes[attribute.key] = (
                {"from": SEALED, "to": SEALED} if sealed else {"from": before, "to": after}
            )
    return changes


def snapshot(entity: Audited) -> dict[str, Any]:
    """The fields of a row that hold something, for the event of its making or its end."""
    hidden = entity.__audit_silent__ | entity.__audit_sealed__
    values = {a.key: plain(a.value) for a in inspect(entity).attrs if a.key not in hidden}
    return {key: value for key, value in values.items() if value is not None}


def plain(value: Any) -> Any:  # noqa: ANN401 - any column's value
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, StrEnum):
        return value.value
    return whole(value) if isinstance(value, float) else value


def shown(event_: AuditEvent) -> dict[str, Any]:
    """The event as the contract shows it."""
    return {column.key: plain(getattr(event_, column.key)) for column in FIELDS}


class AuditQuery(Input):
    """What the trail can be asked for; `from` and `to` are dates or times in UTC, `to` included."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    user_id: Reference = None
    username: Annotated[str | None, Text(256)] = None
    action: Annotated[str | None, Text(64)] = None
    entity_type: Annotated[str | None, Text(32)] = None
    entity_id: Reference = None
    since: Annotated[Instant, Field(alias="from")] = None
    until: Annotated[LastInstant, Field(alias="to")] = None
    page: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[int | None, Field(gt=0, le=LARGEST_ID)] = None


def page(session: Session, actor: Actor, query: AuditQuery) -> Page:
    """The events that fit the query, newest first."""
    actor.require(Permission.AUDIT_READ)
    terms = _terms(query)
    total = session.scalar(select(func.count()).select_from(AuditEvent).where(*terms)) or 0
    chosen = select(*FIELDS).where(*terms).order_by(AuditEvent.id.desc())
    if query.cursor is not None:
        chosen = chosen.where(AuditEvent.id < query.cursor)
    else:
        chosen = chosen.offset((query.page - 1) * query.limit)
    found = session.execute(chosen.limit(query.limit + 1)).all()
    rows = [{k: plain(v) for k, v in row._mapping.items()} for row in found[: query.limit]]
    following = str(rows[-1]["id"]) if len(found) > query.limit else None
    return Page(rows, total, query.page, query.limit, following)


def _terms(query: AuditQuery) -> list[ColumnElement[bool]]:
    named = {name: getattr(query, name) for name in _EXACT}
    terms = [
        getattr(AuditEvent, name) == value for name, value in named.items() if value is not None
    ]
    if query.since is not None:
        terms.append(AuditEvent.created_at >= query.since)
    if query.until is not None:
        terms.append(AuditEvent.created_at <= query.until)
    return terms


_EXACT = ("user_id", "username", "action", "entity_type", "entity_id")


def history(
    session: Session,
    entity_type: str,
    entity_id: int,
    most: int = 50,
    action: Action | None = None,
) -> list[dict[str, Any]]:
    """What happened to one row, newest first. The caller knows that the person may see it."""
    chosen = select(*FIELDS).where(
        AuditEvent.entity_type == entity_type, AuditEvent.entity_id == entity_id
    )
    if action is not None:
        chosen = chosen.where(AuditEvent.action == action)
    found = session.execute(chosen.order_by(AuditEvent.id.desc()).limit(most))
    return [{k: plain(v) for k, v in row._mapping.items()} for row in found]


UNCHANGING = frozenset(
    {
        Action.LOGIN,
        Action.LOGIN_FAILED,
        Action.LOGOUT,
        Action.REFRESH_REUSE,
        Action.PROVED,
        Action.PROOF_FAILED,
        Action.NOTIFICATION_SENT,
        Action.NOTIFICATION_FAILED,
    }
)
"""Of these there may be any number, and they change nothing."""


def latest(session: Session, actor: Actor, most: int = 10) -> list[dict[str, Any]]:
    """The newest events that changed something, however many sign-ins and notices came after."""
    actor.require(Permission.AUDIT_READ)
    # A look at the end of each action's index: what came after is not walked through.
    each = [_newest(action, most) for action in Action if action not in UNCHANGING]
    newest = union_all(*(select(one.c.id) for one in each))
    chosen = select(*FIELDS).where(AuditEvent.id.in_(newest))
    found = session.execute(chosen.order_by(AuditEvent.id.desc()).limit(most))
    return [{k: plain(v) for k, v in row._mapping.items()} for row in found]


def _newest(action: Action, most: int) -> Subquery:
    chosen = select(AuditEvent.id).where(AuditEvent.action == action.value)
    # What is about signing in and nobody's account is left out: no name but a guessed one.
    named = chosen.where(AuditEvent.entity_type != "auth")
    return named.order_by(AuditEvent.id.desc()).limit(most).subquery()


def get(session: Session, actor: Actor, event_id: int) -> dict[str, Any]:
    """One event, or `NotFound`."""
    actor.require(Permission.AUDIT_READ)
    found = session.get(AuditEvent, event_id)
    if found is None:
        raise NotFound
    return shown(found)


@event.listens_for(WorkSession, "before_flush")
def _notice_changes(session: WorkSession, *_: object) -> None:
    changed = [
        row
        for row in (*session.new, *session.dirty, *session.deleted)
        if isinstance(row, Audited) and (row in session.deleted or session.is_modified(row))
    ]
    session.info.setdefault("changed", set()).update(changed)


@event.listens_for(WorkSession, "before_commit")
def _refuse_unaudited(session: WorkSession) -> None:
    """A change of an audited row without its event is a bug, and stops here."""
    if session.new or session.dirty or session.deleted:
        session.flush()
    missing = session.info.get("changed", set()) - session.info.get("accounted", set())
    if missing:
        kinds = ", ".join(sorted({type(row).__name__ for row in missing}))
        message = f"changed without an audit event: {kinds}"
        raise AssertionError(message)


@event.listens_for(WorkSession, "do_orm_execute")
def _refuse_bulk(state: ORMExecuteState) -> None:
    """Statements that change many rows at once leave no trace in the session: say so on purpose."""
    mapper = state.bind_mapper
    if (
        (state.is_update or state.is_delete or state.is_insert)
        and mapper is not None
        and issubclass(mapper.class_, Audited)
        and not state.execution_options.get("audited")
    ):
        message = f"bulk change of {mapper.class_.__name__} without an audit event"
        raise AssertionError(message)
