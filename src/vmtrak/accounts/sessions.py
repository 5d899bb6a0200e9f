"""Sessions: from proof of identity to a cookie or tokens, and to their end."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from vmtrak import audit
from vmtrak.access import Actor, Permission
from vmtrak.accounts import access_tokens, links, user_agents
from vmtrak.accounts.access_tokens import SessionRules
from vmtrak.accounts.actors import PANEL_IDLE, actor_of
from vmtrak.accounts.models import RefreshToken, SignedIn, User, digest
from vmtrak.audit import Action
from vmtrak.db import AnySelect, Database, Work, now
from vmtrak.errors import NotAuthenticated, NotFound
from vmtrak.fields import fold

PANEL_LIFETIME = timedelta(days=7)
REUSE_GRACE = timedelta(seconds=10)
"""Several tabs may present one refresh token at the same moment; later it is theft."""

REFRESH_LIFETIMES = 4
"""A session of the REST interface ends after so many lifetimes of a refresh token, used or not."""

MOST = 100
"""Sessions of one user; with one more the one that was not seen for longest ends."""

WRONG = "The user name or the password is wrong."


@dataclass(frozen=True, slots=True)
class Proof:
    """How a person showed who they are: `method` is "password", "link" or "microsoft".

    `at` is when they did, None if the provider did not say.
    """

    method: str
    at: datetime | None
    provider_sid: str | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """When and from where a session or an API token was used last."""

    at: datetime
    ip_address: str | None


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a client of the REST interface gets: both are shown this once."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    refresh_seconds: int


def candidate(database: Database, username: str) -> tuple[int, str | None] | None:
    """The number and the password hash of an active user of that name."""
    if not username.isprintable():  # nobody is called so, and PostgreSQL refuses to compare it
        return None
    with database.read() as session:
        found = session.execute(
            select(User.id, User.password_hash).where(
                User.username_key == fold(username.strip()), User.is_active
            )
        ).one_or_none()
    return None if found is None else (found.id, found.password_hash)


def sign_in_failed(work: Work, username: str, detail: Mapping[str, Any] | None = None) -> None:
    """Record a failed sign-in, under the name that was tried if it is anybody's.

    Passwords get typed into the name field; what is no name does not reach the trail.
    """
    name = None
    if username.isprintable():
        tried = select(User.username).where(User.username_key == fold(username.strip()))
        name = work.session.scalar(tried)
    audit.record(work, Action.LOGIN_FAILED, entity_type="auth", entity_name=name, detail=detail)


def _shortened(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:128]


def sign_in_panel(
    work: Work, user_id: int, user_agent: str | None, proof: Proof | None = None
) -> str:
    """Start a panel session; returns the token for its cookie.

    The browser's session of before ends: nobody goes on in one that somebody else gave them.
    """
    hold(work, user_id)
    if work.actor.session_id is not None:
        sign_out(work)
    token = secrets.token_urlsafe(32)
    session = _started(work, "panel", user_agent, proof)
    session.token_hash, session.expires_at = digest(token), work.moment + PANEL_LIFETIME
    _admit(work, user_id, session)
    return token


def sign_in_api(  # noqa: PLR0913, PLR0917 - what a session is made of
    work: Work,
    user_id: int,
    rules: SessionRules,
    user_agent: str | None,
    proof: Proof | None = None,
    before: str | None = None,
) -> Tokens:
    """Start a session of the REST interface; returns its first tokens.

    `before` is the refresh token that the client still holds: its session ends.
    """
    if before is not None:
        _leave(work, before)
    session = _started(work, "api", user_agent, proof)
    session.token_hash = digest(secrets.token_urlsafe(32))
    session.expires_at = _end_of(session, rules, work.moment)
    _admit(work, user_id, session)
    return _tokens(work, session, rules)


def refresh(work: Work, token: str, rules: SessionRules) -> Tokens | None:
    """Exchange a refresh token for new tokens.

    Returns None after theft was noticed and the session ended, which the caller commits.
    Raises `NotAuthenticated` for an unknown or expired token.
    """
    found = work.session.execute(
        select(RefreshToken, SignedIn, User)
        .join(SignedIn, SignedIn.id == RefreshToken.session_id)
        .join(User, User.id == SignedIn.user_id)
        .where(RefreshToken.token_hash == digest(token))
        .with_for_update(of=[RefreshToken, SignedIn])
    ).one_or_none()
    if found is None:
        raise NotAuthenticated
    link, session, user = found
    expires = _end_of(session, rules, work.moment)
    alive = session.ended_at is None and user.is_active
    if not alive or min(session.expires_at, link.expires_at, expires) <= work.moment:
        raise NotAuthenticated
    work.actor = actor_of(user, work.actor, session.id)
    if link.used_at is not None and work.moment - link.used_at > REUSE_GRACE:
        session.ended_at = work.moment
        audit.record(work, Action.REFRESH_REUSE, entity_type="auth", entity_id=user.id)
        return None
    link.used_at = link.used_at or work.moment
    session.expires_at = expires
    session.last_seen_at, session.last_ip_address = work.moment, work.actor.ip_address
    return _tokens(work, session, rules)


def proved(work: Work) -> None:
    """The actor has shown again who they are, with all that is asked of them."""
    work.actor = replace(work.actor, proved_at=work.moment)


def renew_panel(work: Work) -> str:
    """Go on in a new panel session; returns the token for its cookie.

    Whoever held the old cookie is out. What the actor has `proved` goes on to count.
    """
    token = secrets.token_urlsafe(32)
    _successor(work, token)
    return token


def renew_api(work: Work, rules: SessionRules) -> Tokens:
    """Go on in a new session of the REST interface, as `renew_panel` does at the panel."""
    return _tokens(work, _successor(work, secrets.token_urlsafe(32)), rules)


def sign_out(work: Work) -> None:
    """End the actor's session."""
    session = work.session.get(SignedIn, work.actor.session_id, with_for_update=True)
    if session is not None and session.ended_at is None:
        session.ended_at = work.moment
        audit.record(work, Action.LOGOUT, entity_type="auth", entity_id=work.actor.user_id)


def _leave(work: Work, token: str) -> None:
    """End the session of a refresh token in the name of whoever it belongs to."""
    found = work.session.execute(_of_refresh_token(token)).one_or_none()
    if found is not None:
        visitor_again = work.actor
        work.actor = actor_of(found[0], visitor_again, found[1])
        sign_out(work)
        work.actor = visitor_again


def session_of_refresh_token(database: Database, token: str) -> tuple[User, int] | None:
    """The user and session that a refresh token belongs to, for a sign-out by cookie alone."""
    with database.read() as session:
        found = session.execute(_of_refresh_token(token)).one_or_none()
    return None if found is None else (found[0], found[1])


def _of_refresh_token(token: str) -> AnySelect:
    return (
        select(User, SignedIn.id)
        .join(SignedIn, SignedIn.user_id == User.id)
        .join(RefreshToken, RefreshToken.session_id == SignedIn.id)
        .where(RefreshToken.token_hash == digest(token), SignedIn.ended_at.is_(None))
    )


def end_all(work: Work, user_id: int, keep: int | None = None) -> None:
    """End every session of a user, but the one to keep."""
    living = update(SignedIn).where(SignedIn.user_id == user_id, SignedIn.ended_at.is_(None))
    if keep is not None:
        living = living.where(SignedIn.id != keep)
    work.session.execute(
        living.values(ended_at=work.moment), execution_options={"synchronize_session": False}
    )


def of(session: Session, actor: Actor, user_id: int) -> list[dict[str, Any]]:
    """A user's sessions that work right now, the one last seen first."""
    actor.require(Permission.ACCOUNT if user_id == actor.user_id else Permission.USERS)
    found = session.scalars(
        select(SignedIn)
        .where(*_working(user_id, now()))
        .order_by(SignedIn.last_seen_at.desc(), SignedIn.id.desc())
    )
    return [_shown(each, actor) for each in found]


def count(work: Work, user_id: int) -> int:
    """How many of a user's sessions work right now."""
    return len(
        work.session.scalars(select(SignedIn.id).where(*_working(user_id, work.moment))).all()
    )


def end(work: Work, session_id: int) -> None:
    """End one of one's own sessions; raises `NotFound` for one that does not work (any more)."""
    work.actor.require(Permission.ACCOUNT)
    found = work.session.scalar(
        select(SignedIn)
        .where(SignedIn.id == session_id, *_working(work.actor.user_id, work.moment))
        .with_for_update()
    )
    if found is None:
        raise NotFound
    found.ended_at = work.moment
    _record_end(work, {"device": user_agents.told(found.user_agent), "sessions": 1})


def end_others(work: Work) -> int:
    """End one's own sessions but the present one; returns how many these were."""
    work.actor.require(Permission.ACCOUNT)
    user_id, present = work.actor.user_id, work.actor.session_id
    found = select(SignedIn.id).where(*_working(user_id, work.moment), SignedIn.id != present)
    number = len(work.session.scalars(found).all())
    if user_id is not None and number:
        end_all(work, user_id, keep=present)
        _record_end(work, {"sessions": number})
    return number


def _record_end(work: Work, detail: Mapping[str, Any]) -> None:
    actor = work.actor
    audit.record(
        work,
        Action.SESSIONS_ENDED,
        entity_type="auth",
        entity_id=actor.user_id,
        entity_name=actor.username,
        detail=detail,
    )


def _working(user_id: int | None, moment: datetime) -> tuple[ColumnElement[bool], ...]:
    """The condition under which a user's session still opens its door."""
    return (
        SignedIn.user_id == user_id,
        SignedIn.ended_at.is_(None),
        SignedIn.expires_at > moment,
        or_(SignedIn.kind != "panel", SignedIn.last_seen_at > moment - PANEL_IDLE),
    )


def _shown(session: SignedIn, actor: Actor) -> dict[str, Any]:
    columns = ("id", "kind", "method", "ip_address", "last_ip_address")
    times = ("created_at", "last_seen_at", "expires_at")
    return {
        **{name: audit.plain(getattr(session, name)) for name in (*columns, *times)},
        "device": user_agents.told(session.user_agent),
        "current": session.id == actor.session_id,
    }


def sign_in_by_link(work: Work, token: str, user_agent: str | None) -> str:
    """Start a panel session over a one-time link of the purpose "sign-in"."""
    link = links.use(work, token, "sign-in")
    link.used_at = work.moment
    if link.user_id is None:
        raise NotFound(links.SPENT)
    return sign_in_panel(work, link.user_id, user_agent, Proof("link", work.moment))


def note_seen(work: Work, sightings: Mapping[int, Sighting]) -> None:
    """Write down when and from where sessions were used last, by session number.

    What somebody works on at this moment is passed over: so many rows of so many people cannot be
    locked in an order that suits everybody, and who is there is noted again soon.
    """
    for number, seen in sorted(sightings.items()):
        mine = (SignedIn.id == number, SignedIn.last_seen_at <= seen.at)
        work.session.execute(
            update(SignedIn)
            .where(SignedIn.id.in_(_free(SignedIn.id, *mine)))
            .values(last_seen_at=seen.at, last_ip_address=seen.ip_address),
            execution_options={"synchronize_session": False},
        )
        owner = select(SignedIn.user_id).where(SignedIn.id == number).scalar_subquery()
        # No change that anybody made: it stands in no trail, and the revision stays.
        work.session.execute(
            update(User)
            .where(User.id.in_(_free(User.id, User.id == owner)))
            .values(last_seen_at=seen.at),
            execution_options={"audited": True, "synchronize_session": False},
        )


def _free(number: InstrumentedAttribute[int], *terms: ColumnElement[bool]) -> AnySelect:
    """The numbers of the rows that nobody has locked."""
    return select(number).where(*terms).with_for_update(skip_locked=True, key_share=True)


def _started(work: Work, kind: str, user_agent: str | None, proof: Proof | None) -> SignedIn:
    proof = proof or Proof("password", work.moment)
    return SignedIn(
        kind=kind,
        created_at=work.moment,
        last_seen_at=work.moment,
        ip_address=work.actor.ip_address,
        last_ip_address=work.actor.ip_address,
        user_agent=_shortened(user_agent or "") or None,
        method=proof.method,
        proved_at=proof.at,
        provider_sid=proof.provider_sid,
    )


def _admit(work: Work, user_id: int, session: SignedIn) -> None:
    user = work.session.get(User, user_id, with_for_update={"read": True})
    if user is None or not user.is_active:
        raise NotAuthenticated(WRONG)
    session.user_id = user.id
    _end_oldest(work, user.id)
    work.session.add(session)
    work.flush()
    work.actor = actor_of(user, work.actor, session.id)
    audit.record(
        work, Action.LOGIN, entity_type="auth", entity_id=user.id, entity_name=user.username
    )


def _end_oldest(work: Work, user_id: int) -> None:
    """Leave room for one more: a script that signs in every minute would fill the list."""
    chosen = select(SignedIn.id).where(*_working(user_id, work.moment))
    surplus = chosen.order_by(SignedIn.last_seen_at.desc(), SignedIn.id.desc()).offset(MOST - 1)
    numbers = work.session.scalars(surplus).all()
    if numbers:
        work.session.execute(
            update(SignedIn).where(SignedIn.id.in_(numbers)).values(ended_at=work.moment),
            execution_options={"synchronize_session": False},
        )


def _end_of(session: SignedIn, rules: SessionRules, moment: datetime) -> datetime:
    """When a session of the REST interface ends that is used now and not again."""
    return min(moment + rules.refresh, session.created_at + REFRESH_LIFETIMES * rules.refresh)


def _successor(work: Work, token: str) -> SignedIn:
    """The session that takes the place of the actor's, with its sign-in and its last moment."""
    hold(work, work.actor.user_id)
    old = work.session.get_one(SignedIn, work.actor.session_id, with_for_update=True)
    if old.ended_at is not None:
        raise NotAuthenticated
    old.ended_at = work.moment
    new = SignedIn(
        **{name: getattr(old, name) for name in _INHERITED},
        token_hash=digest(token),
        last_seen_at=work.moment,
        last_ip_address=work.actor.ip_address,
        proved_at=work.actor.proved_at,
    )
    work.session.add(new)
    work.flush()
    work.actor = replace(work.actor, session_id=new.id)
    return new


def hold(work: Work, user_id: int | None) -> None:
    """Lock a user before what is theirs, as whoever ends all of it does.

    The other way round two units of work would wait for each other.
    """
    held = select(User.id).where(User.id == user_id).with_for_update(read=True)
    work.session.execute(held)


_INHERITED = (
    "user_id",
    "kind",
    "created_at",
    "expires_at",
    "ip_address",
    "user_agent",
    "method",
    "provider_sid",
)


def _tokens(work: Work, session: SignedIn, rules: SessionRules) -> Tokens:
    token = secrets.token_urlsafe(32)
    work.session.add(
        RefreshToken(
            session_id=session.id,
            token_hash=digest(token),
            created_at=work.moment,
            expires_at=session.expires_at,
        )
    )
    access = access_tokens.issue(session, rules, work.moment)
    return Tokens(access, token, int((session.expires_at - work.moment).total_seconds()))
