"""There is always somebody who can administer VMTrak."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from vmtrak.access import Role
from vmtrak.accounts.models import User
from vmtrak.db import Work

_CAN_ADMINISTER = (
    User.role == Role.ADMIN,
    User.is_active,
    User.password_hash.is_not(None) | (User.sign_in_method != "local"),
)
"""Who can sign in neither with a password nor over the provider cannot help anybody."""


def any_can(session: Session) -> bool:
    """Whether there is an administrator who can sign in."""
    return session.scalar(select(User.id).where(*_CAN_ADMINISTER).limit(1)) is not None


def lock(work: Work) -> None:
    """Make two administrators who demote each other at once do it one after the other."""
    admins = select(User.id).where(User.role == Role.ADMIN, User.is_active)
    work.session.execute(admins.order_by(User.id).with_for_update())


def others(work: Work, user_id: int) -> bool:
    """Whether somebody beside this user can administer VMTrak. Call `lock` before."""
    found = select(func.count()).where(*_CAN_ADMINISTER, User.id != user_id)
    return bool(work.session.scalar(found))
