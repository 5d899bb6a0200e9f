"""One-time links: to set up an account, or to sign in at the demonstration."""

import secrets
from datetime import timedelta

from sqlalchemy import select, update

from vmtrak.accounts.models import OneTimeLink, User, digest
from vmtrak.db import Database, Work, now
from vmtrak.errors import NotFound

LIFETIME = timedelta(hours=24)

SPENT = "This link has been used, has expired, or was never valid."


def end_all(work: Work, user_id: int) -> None:
    """Make a user's one-time links useless: who gives a password means no other way in."""
    work.session.execute(
        update(OneTimeLink)
        .where(OneTimeLink.user_id == user_id, OneTimeLink.used_at.is_(None))
        .values(used_at=work.moment),
        execution_options={"synchronize_session": False},
    )


def make(work: Work, purpose: str, user_id: int | None) -> str:
    """Make a one-time link and return its token; earlier ones for the same purpose end."""
    same = (OneTimeLink.purpose == purpose, OneTimeLink.user_id.is_not_distinct_from(user_id))
    work.session.execute(
        update(OneTimeLink).where(*same, OneTimeLink.used_at.is_(None)).values(used_at=work.moment),
        execution_options={"synchronize_session": False},
    )
    token = secrets.token_urlsafe(32)
    work.session.add(
        OneTimeLink(
            user_id=user_id,
            purpose=purpose,
            token_hash=digest(token),
            created_at=work.moment,
            expires_at=work.moment + LIFETIME,
        )
    )
    return token


def use(work: Work, token: str, purpose: str) -> OneTimeLink:
    """The link of that token, locked; raises `NotFound` if it is spent, expired or unknown.

    Its user is locked before it, as whoever ends all of their links does.
    """
    owner = select(OneTimeLink.user_id).where(OneTimeLink.token_hash == digest(token))
    held = select(User.id).where(User.id == owner.scalar_subquery()).with_for_update()
    work.session.execute(held)
    link = work.session.scalar(
        select(OneTimeLink)
        .where(OneTimeLink.token_hash == digest(token), OneTimeLink.purpose == purpose)
        .with_for_update()
    )
    if link is None or link.used_at is not None or link.expires_at <= work.moment:
        raise NotFound(SPENT)
    return link


def find(database: Database, token: str) -> tuple[str | None, str | None]:
    """What a token's link is for, None if it does not work (any more), and for whom, if it says."""
    with database.read() as session:
        found = session.execute(
            select(OneTimeLink.purpose, User.username)
            .outerjoin(User, User.id == OneTimeLink.user_id)
            .where(
                OneTimeLink.token_hash == digest(token),
                OneTimeLink.used_at.is_(None),
                OneTimeLink.expires_at > now(),
            )
        ).one_or_none()
    return (found.purpose, found.username) if found else (None, None)
