"""Finding credentials: of one VM, over all of them, one by its number; never a password.

Whoever may see credentials sees every VM, but for those in the trash.
"""

import base64
import binascii
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from pydantic import BeforeValidator, Field
from sqlalchemy import ColumnElement, case, func, literal, or_, select
from sqlalchemy.orm import Session

from vmtrak import audit
from vmtrak.access import Actor, Permission
from vmtrak.credentials.inputs import MASK
from vmtrak.credentials.models import (
    AccountType,
    Credential,
    CredentialPassword,
    has_password,
)
from vmtrak.credentials.rotation import is_due
from vmtrak.credentials.rules import Rules, Which, is_production
from vmtrak.db import AnySelect, Page, now
from vmtrak.errors import Invalid, NotFound
from vmtrak.fields import LARGEST_ID, Input, Reference, Text, blank_to_none, fold
from vmtrak.inventory import VM

_Optional = BeforeValidator(blank_to_none)


class CredentialQuery(Input):
    """What a list of credentials can be asked for; `search` looks into VM names and user names."""

    search: Annotated[str | None, Text(200)] = None
    vm_id: Reference = None
    account_type: Annotated[AccountType | None, _Optional] = None
    rotation_due: Annotated[bool | None, _Optional] = None
    page: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Text(4_000)] = None


@dataclass(frozen=True, slots=True)
class _Cursor:
    """Behind which row the list goes on: its VM's name and its number.

    Cursors stand in addresses, and those in logs: so the user name is not in it.
    """

    vm_key: str
    id: int
    page: int

    def encode(self) -> str:
        values = [self.vm_key, self.id, self.page]
        return base64.urlsafe_b64encode(orjson.dumps(values)).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> "_Cursor":
        try:
            padded = text + "=" * (-len(text) % 4)
            vm_key, number, page = orjson.loads(base64.urlsafe_b64decode(padded))
        except (ValueError, TypeError, binascii.Error):
            raise _bad_cursor() from None
        right = (
            isinstance(vm_key, str)
            and "\0" not in vm_key
            and type(number) is int
            and type(page) is int
            and 0 < number <= LARGEST_ID
            and 0 < page <= LARGEST_ID
        )
        if not right:
            raise _bad_cursor()
        return cls(vm_key, number, page)


def _bad_cursor() -> Invalid:
    return Invalid({"cursor": ["is not one that this list gave"]})


def of_vm(session: Session, actor: Actor, rules: Rules, vm_id: int) -> list[dict[str, Any]]:
    """The credentials of a VM, the primary one first; `NotFound` without such a VM."""
    actor.require(Permission.CREDENTIAL_READ)
    live = select(VM.id).where(VM.id == vm_id, VM.deleted_at.is_(None))
    if session.scalar(live) is None:
        raise NotFound
    chosen = _rows(rules).where(Credential.vm_id == vm_id)
    primary_first = (Credential.account_type == AccountType.PRIMARY).desc()
    found = session.execute(chosen.order_by(primary_first, Credential.username_key))
    return [_plain(row._asdict()) for row in found]


def find(session: Session, actor: Actor, rules: Rules, which: Which) -> dict[str, Any]:
    """One credential as the contract shows it, with its `revision`; raises `NotFound`."""
    actor.require(Permission.CREDENTIAL_READ)
    chosen = _rows(rules, Credential.revision).where(*_named(which))
    row = session.execute(chosen).one_or_none()
    if row is None:
        raise NotFound
    return _plain(row._asdict())


def present(session: Session, which: Which) -> int | None:
    """The number of the present password, None if none is kept; raises `NotFound`.

    The caller knows that the person may see credentials.
    """
    version = case((has_password(), Credential.version))
    chosen = select(version).join_from(VM, Credential).where(*_named(which))
    row = session.execute(chosen).one_or_none()
    if row is None:
        raise NotFound
    number: int | None = row[0]
    return number


def versions(session: Session, actor: Actor, which: Which) -> list[dict[str, Any]]:
    """When each password that is kept was set, and by whom, newest first; raises `NotFound`."""
    actor.require(Permission.CREDENTIAL_READ)
    newest = present(session, which)
    chosen = select(
        CredentialPassword.version,
        CredentialPassword.set_at,
        CredentialPassword.set_by,
        (CredentialPassword.version == (newest or 0)).label("present"),
        literal(MASK).label("password"),
    )
    chosen = chosen.where(CredentialPassword.credential_id == which.number)
    rows = session.execute(chosen.order_by(CredentialPassword.version.desc()))
    return [_plain(row._asdict()) for row in rows]


def in_production(session: Session, actor: Actor, vm_id: int) -> bool:
    """Whether the VM counts as production for who wants to reveal."""
    actor.require(Permission.CREDENTIAL_READ)
    chosen = select(VM.environment, VM.left_production_at).where(VM.id == vm_id)
    row = session.execute(chosen).one_or_none()
    return row is not None and is_production(row.environment, row.left_production_at, now())


def usernames(session: Session, actor: Actor, numbers: Collection[int]) -> dict[int, str]:
    """The user names of these credentials, those of VMs in the trash left out."""
    actor.require(Permission.CREDENTIAL_READ)
    chosen = select(Credential.id, Credential.username).join(VM, VM.id == Credential.vm_id)
    found = session.execute(chosen.where(Credential.id.in_(numbers), VM.deleted_at.is_(None)))
    return {row.id: row.username for row in found}


def counted(session: Session, actor: Actor, vm_ids: Collection[int]) -> dict[int, int]:
    """How many credentials each of these VMs has, in the trash or not; without those of none."""
    actor.require(Permission.CREDENTIAL_READ)
    chosen = select(Credential.vm_id, func.count().label("n")).group_by(Credential.vm_id)
    found = session.execute(chosen.where(Credential.vm_id.in_(vm_ids)))
    return {row.vm_id: row.n for row in found}


def page(session: Session, actor: Actor, rules: Rules, query: CredentialQuery) -> Page:
    """One page of the credentials of all VMs, by VM name and user name."""
    actor.require(Permission.CREDENTIAL_READ)
    cursor = _Cursor.decode(query.cursor) if query.cursor else None
    terms = _terms(rules, query)
    every = select(func.count()).select_from(Credential).join(VM, VM.id == Credential.vm_id)
    total = session.scalar(every.where(*terms)) or 0
    chosen = _rows(rules).where(*terms)
    if cursor:
        chosen = chosen.where(*_behind(cursor))
    else:
        chosen = chosen.offset((query.page - 1) * query.limit)
    ordered = chosen.order_by(VM.name_key, Credential.username_key)
    found = session.execute(ordered.limit(query.limit + 1)).all()
    rows = [_plain(row._asdict()) for row in found[: query.limit]]
    number = cursor.page if cursor else query.page
    following = None
    if len(found) > query.limit:
        following = _Cursor(fold(rows[-1]["vm_name"]), rows[-1]["id"], number + 1).encode()
    return Page(rows, total, number, query.limit, following)


def _rows(rules: Rules, *more: Any) -> AnySelect:  # noqa: ANN401 - any columns
    statement: AnySelect = select(
        Credential.id,
        Credential.vm_id,
        VM.vm_name,
        Credential.username,
        case((has_password(), MASK)).label("password"),
        Credential.account_type,
        Credential.notes,
        Credential.password_changed_at,
        Credential.password_changed_by,
        is_due(rules).label("rotation_due"),
        Credential.rotation_marked_at.is_not(None).label("rotation_marked"),
        Credential.created_at,
        Credential.updated_at,
        Credential.created_by,
        Credential.updated_by,
        *more,
    )
    return statement.join_from(VM, Credential, Credential.vm_id == VM.id).where(
        VM.deleted_at.is_(None)
    )


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: audit.plain(value) for name, value in row.items()}


def _named(which: Which) -> list[ColumnElement[bool]]:
    terms = [Credential.id == which.number, VM.deleted_at.is_(None)]
    if which.vm_id is not None:
        terms.append(Credential.vm_id == which.vm_id)
    return terms


def _terms(rules: Rules, query: CredentialQuery) -> list[ColumnElement[bool]]:
    terms: list[ColumnElement[bool]] = [VM.deleted_at.is_(None)]
    if query.vm_id is not None:
        terms.append(Credential.vm_id == query.vm_id)
    if query.account_type is not None:
        terms.append(Credential.account_type == query.account_type)
    if query.rotation_due is not None:
        due = is_due(rules)
        terms.append(due if query.rotation_due else ~due)
    for word in fold(query.search or "").split():
        has = Credential.username_key.contains(word, autoescape=True)
        terms.append(or_(has, VM.name_key.contains(word, autoescape=True)))
    return terms


def _behind(cursor: _Cursor) -> tuple[ColumnElement[bool], ...]:
    """What follows the cursor's row: more of its VM, all of the VMs behind it.

    Of a VM whose row is gone meanwhile everything comes again: that is no loss.
    """
    here = select(Credential.username_key).where(Credential.id == cursor.id).scalar_subquery()
    later = Credential.username_key > func.coalesce(here, "")
    return VM.name_key >= cursor.vm_key, or_(VM.name_key > cursor.vm_key, later)
