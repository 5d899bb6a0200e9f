"""Showing a password: to whom it belongs, with a reason, so many times an hour, and on record."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from loguru import logger
from sqlalchemy import BigInteger, bindparam, func, insert, select

from vmtrak import alerts, audit
from vmtrak.access import Permission
from vmtrak.accounts import User
from vmtrak.accounts.actors import require_proof
from vmtrak.audit import Action
from vmtrak.credentials.inputs import RevealRequest
from vmtrak.credentials.lists import present
from vmtrak.credentials.models import (
    Credential,
    CredentialPassword,
    CredentialReveal,
    place_of,
)
from vmtrak.credentials.rules import Vault, Which, is_production
from vmtrak.db import Prepared, Work, iso
from vmtrak.errors import Forbidden, Invalid, NotFound, TooMany, Unavailable
from vmtrak.inventory import VM
from vmtrak.sealing import Sealed, SealingError, UnknownKey

WINDOW = timedelta(hours=1)


class _Chosen(NamedTuple):
    """A password to be shown; `present` is the version of its credential's present one."""

    id: int
    row_key: str
    present: int
    version: int
    sealed: str
    vm_name: str
    environment: str | None
    left_production_at: datetime | str | None

    def is_production(self, moment: datetime) -> bool:
        left_at = self.left_production_at
        at = datetime.fromisoformat(left_at) if isinstance(left_at, str) else left_at
        return is_production(self.environment, at, moment)


_CHOSEN = Prepared(
    select(
        Credential.id,
        Credential.row_key,
        Credential.version.label("present"),
        CredentialPassword.version,
        CredentialPassword.sealed,
        VM.vm_name,
        VM.environment,
        VM.left_production_at,
    )
    .join(VM, VM.id == Credential.vm_id)
    .join(CredentialPassword, CredentialPassword.credential_id == Credential.id)
    .where(
        Credential.id == bindparam("number"),
        VM.id == func.coalesce(bindparam("vm_id", type_=BigInteger), VM.id),
        VM.deleted_at.is_(None),
        CredentialPassword.version
        == func.coalesce(bindparam("version", type_=BigInteger), Credential.version),
    )
)
_MYSELF = Prepared(
    select(User.id)
    .where(User.id == bindparam("me"), User.is_active)
    .with_for_update(key_share=True)
)
_NEWEST_FIRST = Prepared(
    select(CredentialReveal.revealed_at)
    .where(
        CredentialReveal.user_id == bindparam("me"),
        CredentialReveal.revealed_at > bindparam("since"),
    )
    .order_by(CredentialReveal.revealed_at.desc())
    .offset(bindparam("newer", type_=BigInteger))
    .limit(1)
)
_COUNTED = Prepared(
    insert(CredentialReveal).values(
        {name: bindparam(name) for name in ("credential_id", "version", "user_id", "revealed_at")}
    )
)


def reveal(
    work: Work,
    vault: Vault,
    which: Which,
    asked: RevealRequest,
) -> str | TooMany:
    """The password, to be given once this unit of work is committed, or the refusal to raise then.

    Raises `NotFound`, `StepUpRequired`, `Invalid` without a reason that is required, `Unavailable`
    for a password that does not open.
    """
    work.actor.require(Permission.CREDENTIAL_REVEAL)
    _hold(work)
    row = _found(work, which)
    production = row.is_production(work.moment)
    if vault.rules.wants_proof(production=production):
        require_proof(work.actor)
    if asked.reason is None and vault.rules.wants_reason(production=production):
        raise Invalid({"reason": ["is required"]})
    refused = _too_many(work, vault)
    if refused is not None:
        _record(work, Action.REVEAL_REFUSED, row, {"limit": vault.rules.per_hour})
        _tell_admins(work, vault)
        return refused
    password = _opened(vault, row)
    earlier = row.version != row.present
    detail = {"version": row.version, "reason": asked.reason}
    _record(
        work,
        Action.REVEAL_EARLIER if earlier else Action.REVEAL,
        row,
        {name: value for name, value in detail.items() if value is not None},
    )
    _count(work, row)
    return password


def _hold(work: Work) -> None:
    """Lock the person's own row before anything is read.

    So of many requests at once each counts those before it, and whoever closes the account and
    then marks what the person knows misses nothing.
    """
    if not work.rows(_MYSELF, {"me": work.actor.user_id}):
        raise Forbidden


def _found(work: Work, which: Which) -> _Chosen:
    rows = work.rows(_CHOSEN, asdict(which))
    if rows:
        return _Chosen(*rows[0])
    if which.version is None and present(work.session, which) is None:
        message = "No password is kept for this account; set a new one."
        raise NotFound(message)
    raise NotFound


def _too_many(work: Work, vault: Vault) -> TooMany | None:
    """The refusal of who has been shown enough within the hour."""
    me, most = work.actor.user_id, vault.rules.per_hour
    since = iso(work.moment - WINDOW)
    rows = work.rows(_NEWEST_FIRST, {"me": me, "since": since, "newer": most - 1})
    if not rows:
        return None
    first_to_leave = datetime.fromisoformat(str(rows[0][0]))
    wait = first_to_leave + WINDOW - work.moment
    words = f"You have revealed {most} passwords within the hour; that is the limit."
    return TooMany(int(wait.total_seconds()), words)


def _count(work: Work, row: _Chosen) -> None:
    values = {"credential_id": row.id, "version": row.version, "user_id": work.actor.user_id}
    work.rows(_COUNTED, {**values, "revealed_at": iso(work.moment)})


def _opened(vault: Vault, row: _Chosen) -> str:
    try:
        return vault.keys.open(Sealed(row.sealed), place_of(row.row_key, row.version))
    except UnknownKey as error:
        message = "The key that sealed this password is not in the key ring."
        raise Unavailable(message) from error
    except SealingError as error:
        logger.error("the sealed password {} of credential {} is damaged", row.version, row.id)
        message = "This password was damaged where it is kept, and does not open."
        raise Unavailable(message) from error


def _tell_admins(work: Work, vault: Vault) -> None:
    """Once for each person and hour."""
    actor = work.actor
    alerts.post(
        work,
        kind="reveal_limit",
        key=f"reveal_limit:{actor.user_id}:{work.moment:%Y-%m-%dT%H}",
        text=f"{actor.username} has reached the limit of {vault.rules.per_hour} revealed "
        "passwords within an hour, and asked for more.",
        address=f"/admin/user/seen/{actor.user_id}",
    )


def _record(work: Work, action: Action, row: _Chosen, detail: dict[str, Any]) -> None:
    audit.record(
        work,
        action,
        entity_type="credential",
        entity_id=row.id,
        entity_name=row.vm_name,
        detail=detail,
    )
