"""Who knows which passwords: whoever was shown the present one, and whoever set it.

An earlier password counts for nobody, and a destroyed credential has none to be known; nor has
one whose present password is not kept.
"""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Subquery,
    and_,
    func,
    literal,
    select,
    union_all,
    update,
)
from sqlalchemy.orm import Session

from vmtrak import audit
from vmtrak.access import Actor, Permission
from vmtrak.accounts import User
from vmtrak.audit import Action
from vmtrak.credentials.changes import require_write
from vmtrak.credentials.lists import present
from vmtrak.credentials.models import (
    Credential,
    CredentialPassword,
    CredentialReveal,
    has_password,
)
from vmtrak.credentials.rotation import is_due
from vmtrak.credentials.rules import Rules, Which
from vmtrak.db import AnySelect, Work
from vmtrak.errors import NotFound
from vmtrak.inventory import VM

_AT_ONCE = 500
"""Rows that one UPDATE names."""


def viewers(session: Session, actor: Actor, which: Which) -> list[dict[str, Any]]:
    """Everybody who knows the present password, who came last first; raises `NotFound`.

    `how` is "set" for who set it, else "revealed"; `times` is how often it was revealed to them.
    """
    actor.require(Permission.CREDENTIAL_READ)
    version = present(session, which)
    if version is None:
        return []
    revealed = (
        CredentialReveal.credential_id == which.number,
        CredentialReveal.version == version,
    )
    given = (
        CredentialPassword.credential_id == which.number,
        CredentialPassword.version == version,
    )
    known = _known(and_(*revealed), and_(*given))
    chosen = select(User.id.label("user_id"), User.username, User.is_active, *_knowledge(known))
    chosen = chosen.join(known, known.c.user_id == User.id)
    found = session.execute(chosen.order_by(known.c.last_at.desc(), User.username_key))
    return [_shown(row) for row in found]


def seen_by(session: Session, actor: Actor, rules: Rules, user_id: int) -> list[dict[str, Any]]:
    """Every credential whose present password a person knows, by VM and user name.

    `trashed` are those of VMs in the trash, which can come back. Raises `NotFound`.
    """
    _require_report(actor)
    if session.scalar(select(User.id).where(User.id == user_id)) is None:
        raise NotFound
    known = _known_by(user_id)
    chosen: AnySelect = select(
        Credential.id.label("credential_id"),
        Credential.vm_id,
        VM.vm_name,
        VM.deleted_at.is_not(None).label("trashed"),
        Credential.username,
        Credential.account_type,
        *_knowledge(known),
        Credential.password_changed_at,
        is_due(rules).label("rotation_due"),
        Credential.rotation_marked_at.is_not(None).label("rotation_marked"),
    )
    found = session.execute(
        _joined(chosen, known).order_by(VM.name_key, VM.id, Credential.username_key)
    )
    return [_shown(row) for row in found]


def seen_count(session: Session, actor: Actor, user_id: int) -> int:
    """How many rows `seen_by` has."""
    _require_report(actor)
    counted = _joined(select(func.count()).select_from(Credential), _known_by(user_id))
    return session.scalar(counted) or 0


def mark_seen(work: Work, user_id: int) -> int:
    """Mark for rotation what the person knows and nobody has marked; how many passwords that is.

    The user is locked first, as by a reveal, so that one on its way is counted. A password that
    changes meanwhile is waited for, and then is none that the person knows.
    """
    _require_report(work.actor)
    require_write(work.actor)
    holding = select(User.id).where(User.id == user_id).with_for_update(key_share=True)
    if work.session.scalar(holding) is None:
        raise NotFound
    chosen = _joined(select(Credential.id, VM.vm_name), _known_by(user_id))
    chosen = chosen.where(Credential.rotation_marked_at.is_(None)).order_by(Credential.id)
    found = work.session.execute(chosen.with_for_update(of=Credential)).all()
    for start in range(0, len(found), _AT_ONCE):
        _mark(work, [row.id for row in found[start : start + _AT_ONCE]])
    marked = {"rotation_marked": {"from": False, "to": True}}
    rows = [(row.id, row.vm_name) for row in found]
    audit.record_each(work, Action.CREDENTIAL_UPDATE, "credential", rows, marked)
    return len(rows)


def _mark(work: Work, numbers: list[int]) -> None:
    name = work.actor.username
    changed = update(Credential).where(Credential.id.in_(numbers))
    work.session.execute(
        changed.values(
            rotation_marked_at=work.moment,
            rotation_marked_by=name,
            updated_at=work.moment,
            updated_by=name,
            revision=Credential.revision + 1,
        ),
        execution_options={"audited": True, "synchronize_session": False},
    )


def _require_report(actor: Actor) -> None:
    actor.require(Permission.USERS)
    actor.require(Permission.CREDENTIAL_READ)


def _known_by(user_id: int) -> Subquery:
    return _known(CredentialReveal.user_id == user_id, CredentialPassword.set_by_id == user_id)


def _known(revealed: ColumnElement[bool], given: ColumnElement[bool]) -> Subquery:
    """Who knows which version of which credential, by the reveals and the passwords that fit."""
    shown = select(
        CredentialReveal.credential_id,
        CredentialReveal.version,
        CredentialReveal.user_id,
        CredentialReveal.revealed_at.label("at"),
        literal(0).label("own"),
    ).where(revealed)
    made = select(
        CredentialPassword.credential_id,
        CredentialPassword.version,
        CredentialPassword.set_by_id,
        CredentialPassword.set_at,
        literal(1),
    ).where(given)
    each = union_all(shown, made).subquery().c
    named = (each.credential_id, each.version, each.user_id)
    return (
        select(
            *named,
            func.max(each.own).label("own"),
            func.min(each.at).label("first_at"),
            func.max(each.at).label("last_at"),
            (func.count() - func.sum(each.own)).label("times"),
        )
        .group_by(*named)
        .subquery("known")
    )


def _joined(chosen: AnySelect, known: Subquery) -> AnySelect:
    """Of what is known, the present passwords."""
    newest = and_(known.c.credential_id == Credential.id, known.c.version == Credential.version)
    joined = chosen.join(known, newest).join(VM, VM.id == Credential.vm_id)
    return joined.where(has_password())


def _knowledge(known: Subquery) -> tuple[ColumnElement[Any], ...]:
    return known.c.own, known.c.first_at, known.c.last_at, known.c.times


def _shown(row: Row[Any]) -> dict[str, Any]:
    plain = {name: audit.plain(value) for name, value in row._mapping.items()}
    how = "set" if plain.pop("own") else "revealed"
    return {**plain, "how": how, "times": int(plain["times"])}
