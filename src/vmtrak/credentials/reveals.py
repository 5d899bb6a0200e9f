"""Showing a password: to whom it belongs, with a reason, so many times an hour, and on record."""

from datetime import timedelta
from typing import Any

from loguru import logger
from sqlalchemy import func, select

from vmtrak import audit, notices
from vmtrak.access import Permission
from vmtrak.accounts import User
from vmtrak.accounts.actors import require_proof
from vmtrak.audit import Action
from vmtrak.credentials.inputs import RevealRequest
from vmtrak.credentials.models import Credential, CredentialPassword, CredentialReveal
from vmtrak.credentials.rules import Vault, Which
from vmtrak.db import Work
from vmtrak.errors import Invalid, NotFound, TooMany, Unavailable
from vmtrak.inventory import VM
from vmtrak.sealing import Place, Sealed, SealingError, UnknownKey

WINDOW = timedelta(hours=1)


def reveal(
    work: Work,
    vault: Vault,
    which: Which,
    asked: RevealRequest,
) -> str | TooMany:
    """The password, to be given once this unit of work is committed, or the refusal to raise then.

    Raises `NotFound`, `StepUpRequired`, `Invalid` without
    a reason that is required, `Unavailable` for a password that does not open.
    """
    work.actor.require(Permission.CREDENTIAL_REVEAL)
    row = _found(work, which)
    if vault.rules.wants_proof(row.environment):
        require_proof(work.actor)
    if asked.reason is None and vault.rules.wants_reason(row.environment):
        raise Invalid({"reason": ["is required"]})
    refused = _too_many(work, vault)
    if refused is not None:
        _record(work, Action.REVEAL_REFUSED, row, {"limit": vault.rules.per_hour})
        _tell_admins(work, vault)
        return refused
    password = _opened(vault, row)
    earlier = row.version != row.present
    action = Action.REVEAL_EARLIER if earlier else Action.REVEAL
    detail = {"version": row.version, "reason": asked.reason}
    _record(work, action, row, {k: v for k, v in detail.items() if v is not None})
    work.session.add(
        CredentialReveal(
            credential_id=row.id,
            version=row.version,
            user_id=work.actor.user_id,
            revealed_at=work.moment,
        )
    )
    return password


def _found(work: Work, which: Which) -> Any:  # noqa: ANN401 - a row of columns
    chosen = (
        select(
            Credential.id,
            Credential.row_key,
            Credential.account_type,
            Credential.version.label("present"),
            CredentialPassword.version,
            CredentialPassword.sealed,
            VM.vm_name,
            VM.environment,
        )
        .join(VM, VM.id == Credential.vm_id)
        .join(CredentialPassword, CredentialPassword.credential_id == Credential.id)
        .where(
            Credential.id == which.number,
            VM.deleted_at.is_(None),
            CredentialPassword.version
            == (Credential.version if which.version is None else which.version),
        )
    )
    if which.vm_id is not None:
        chosen = chosen.where(VM.id == which.vm_id)
    row = work.session.execute(chosen).one_or_none()
    if row is None:
        raise NotFound
    return row


def _too_many(work: Work, vault: Vault) -> TooMany | None:
    """The refusal of who has been shown enough within the hour.

    The user's row is locked, so that of many requests at once each counts those before it.
    """
    me = work.actor.user_id
    holding = select(User.id).where(User.id == me).with_for_update(key_share=True)
    work.session.execute(holding)
    since = work.moment - WINDOW
    recent = (CredentialReveal.user_id == me, CredentialReveal.revealed_at > since)
    shown = work.session.scalar(select(func.count()).where(*recent)) or 0
    most = vault.rules.per_hour
    if shown < most:
        return None
    newest_first = select(CredentialReveal.revealed_at).where(*recent)
    newest_first = newest_first.order_by(CredentialReveal.revealed_at.desc())
    ends_with = work.session.scalars(newest_first.offset(most - 1).limit(1)).one()
    seconds = max(int((ends_with + WINDOW - work.moment).total_seconds()), 1)
    words = f"You have revealed {most} passwords within the hour; that is the limit."
    return TooMany(seconds, words)


def _opened(vault: Vault, row: Any) -> str:  # noqa: ANN401 - a row of columns
    sealed: Sealed = row.sealed
    place = Place(CredentialPassword.__tablename__, "sealed", f"{row.row_key}/{row.version}")
    try:
        return vault.keys.open(sealed, place)
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
    notices.post(
        work,
        kind="reveal_limit",
        key=f"reveal_limit:{actor.user_id}:{work.moment:%Y-%m-%dT%H}",
        text=f"{actor.username} has reached the limit of {vault.rules.per_hour} revealed "
        "passwords within an hour, and asked for more.",
        address=f"/admin/user/seen/{actor.user_id}",
    )


def _record(work: Work, action: Action, row: Any, detail: dict[str, Any]) -> None:  # noqa: ANN401 - a row of columns
    audit.record(
        work,
        action,
        entity_type="credential",
        entity_id=row.id,
        entity_name=row.vm_name,
        detail=detail,
    )
