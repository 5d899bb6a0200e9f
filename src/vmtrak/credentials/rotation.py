"""Which passwords are due for rotation: those that are marked, and those that are too old."""

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from vmtrak.access import Actor, Permission
from vmtrak.credentials.models import Credential
from vmtrak.credentials.rules import Rules
from vmtrak.db import now
from vmtrak.inventory import VM


def is_due(rules: Rules) -> ColumnElement[bool]:
    """The condition under which a credential's present password is due."""
    marked = Credential.rotation_marked_at.is_not(None)
    before = rules.too_old(now())
    return marked if before is None else or_(marked, Credential.password_changed_at <= before)


def due(session: Session, actor: Actor, rules: Rules) -> int:
    """How many passwords are due, those of VMs in the trash left out."""
    actor.require(Permission.CREDENTIAL_READ)
    counted = select(func.count()).select_from(Credential).join(VM, VM.id == Credential.vm_id)
    return session.scalar(counted.where(is_due(rules), VM.deleted_at.is_(None))) or 0
