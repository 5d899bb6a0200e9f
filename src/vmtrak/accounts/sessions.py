"""From proof of identity to an Actor: sign-in, panel sessions, access and refresh tokens, links."""

import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from sqlalchemy import BigInteger, String, bindparam, select, update

from vmtrak import audit
from vmtrak.access import ROLES, Actor, Role
from vmtrak.accounts.models import OneTimeLink, RefreshToken, SignedIn, User
from vmtrak.audit import Action
from vmtrak.db import AnySelect, Database, Prepared, Work, iso, now
from vmtrak.errors import NotAuthenticated, NotFound
from vmtrak.fields import LARGEST_ID, fold

PANEL_LIFETIME = timedelta(days=7)
LINK_LIFETIME = timedelta(hours=24)
REUSE_GRACE = timedelta(seconds=10)
"""Several tabs may present one refresh token at the same moment; later it is theft."""

WRONG = "The user name or the password is wrong."
SPENT_LINK = "This link has been used, has expired, or was never valid."

_ISSUER = "vmtrak"


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a client of the REST interface gets: both are shown this once."""

    access: str
    refresh: str
    refresh_seconds: int


@dataclass(frozen=True, slots=True)
class TokenRules:
    """The key that signs access tokens (HS256, at least 32 bytes) and both lifetimes."""

    secret: bytes = field(repr=False)
    access: timedelta
    refresh: timedelta

    @classmethod
    def of(cls, key: bytes, minutes: int, days: int) -> "TokenRules":
        return cls(key, timedelta(minutes=minutes), timedelta(days=days))


_STANDING = (
    User.id,
    User.username,
    User.email,
    User.role,
    User.department,
    User.must_change_password,
    SignedIn.id.label("session_id"),
)


def _alive(*terms: Any) -> Prepared:  # noqa: ANN401 - any condition
    statement: AnySelect = select(*_STANDING).join_from(SignedIn, User, User.id == SignedIn.user_id)
    return Prepared(
        statement.where(
            *terms,
            SignedIn.ended_at.is_(None),
            SignedIn.expires_at > bindparam("at", type_=SignedIn.expires_at.type),
            User.is_active,
        )
    )


_BY_COOKIE = _alive(
    SignedIn.token_hash == bindparam("token_hash", type_=String), SignedIn.kind == "panel"
)
_BY_ACCESS_TOKEN = _alive(
    SignedIn.id == bindparam("session_id", type_=BigInteger),
    SignedIn.user_id == bindparam("user_id", type_=BigInteger),
    SignedIn.kind == "api",
)


def visitor(ip_address: str | None, request_id: str | None, username: str = "") -> Actor:
    """Somebody who has not proved who they are: no permission at all."""
    return Actor(username, frozenset(), ip_address=ip_address, request_id=request_id)


def actor_of(user: User, like: Actor, session_id: int | None = None) -> Actor:
    """The actor for a loaded user, with the address and request of `like`."""
    return replace(
        like,
        username=user.username,
        permissions=ROLES[Role(user.role)],
        user_id=user.id,
        email=user.email,
        role=Role(user.role),
        department=user.department,
        session_id=session_id,
        must_change_password=user.must_change_password,
    )


def by_cookie(database: Database, token: str, like: Actor) -> Actor | None:
    """The actor of a panel session, as the user stands right now; None if it has ended."""
    return _standing(database, _BY_COOKIE, {"token_hash": digest(token)}, like)


def by_access_token(database: Database, rules: TokenRules, token: str, like: Actor) -> Actor | None:
    """The actor of an access token: its signature and time are right, its session still lives."""
    claims = _claims(rules, token)
    if claims is None:
        return None
    return _standing(database, _BY_ACCESS_TOKEN, claims, like)


def _standing(
    database: Database, statement: Prepared, values: dict[str, Any], like: Actor
) -> Actor | None:
    rows = database.rows(statement, {**values, "at": iso(now())})
    if not rows:
        return None
    user_id, username, email, role, department, must_change, session_id = rows[0]
    return Actor(
        username=username,
        permissions=ROLES[role],
        user_id=user_id,
        email=email,
        role=Role(role),
        department=department,
        session_id=session_id,
        must_change_password=bool(must_change),
        ip_address=like.ip_address,
        request_id=like.request_id,
    )


@lru_cache(maxsize=1_024)
def _verified(secret: bytes, token: str) -> Mapping[str, Any]:
    """The claims of a token whose signature fits; raises `JoseError`, which is not remembered.

    A script sends one token a thousand times, and its signature cannot change. Its times and its
    session are looked at anew each time.
    """
    claims = jwt.decode(token, OctKey.import_key(secret), algorithms=["HS256"]).claims
    return MappingProxyType(claims)


def _claims(rules: TokenRules, token: str) -> dict[str, int] | None:
    try:
        claims = _verified(rules.secret, token)
        right = claims["iss"] == _ISSUER and claims["aud"] == _ISSUER
        if not right or not claims["iat"] - 60 <= time.time() < claims["exp"]:
            return None
        found = {"user_id": int(claims["sub"]), "session_id": int(claims["sid"])}
        return found if all(0 < number <= LARGEST_ID for number in found.values()) else None
    except (JoseError, ValueError, TypeError, KeyError):
        return None


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


def sign_in_failed(work: Work, username: str) -> None:
    """Record a failed sign-in, under the name that was tried if it is anybody's.

    Passwords get typed into the name field; what is no name does not reach the trail.
    """
    name = None
    if username.isprintable():
        tried = select(User.username).where(User.username_key == fold(username.strip()))
        name = work.session.scalar(tried)
    audit.record(work, Action.LOGIN_FAILED, entity_type="auth", entity_name=name)


def _shortened(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:128]


def sign_in_panel(work: Work, user_id: int, user_agent: str | None) -> str:
    """Start a panel session; returns the token for its cookie."""
    token = secrets.token_urlsafe(32)
    _start(work, user_id, "panel", token, PANEL_LIFETIME, user_agent)
    return token


def sign_in_api(work: Work, user_id: int, rules: TokenRules, user_agent: str | None) -> Tokens:
    """Start a session of the REST interface; returns its first tokens."""
    started = _start(work, user_id, "api", secrets.token_urlsafe(32), rules.refresh, user_agent)
    return _tokens(work, started, rules)


def refresh(work: Work, token: str, rules: TokenRules) -> Tokens | None:
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
    alive = session.ended_at is None and session.expires_at > work.moment and user.is_active
    if not alive or link.expires_at <= work.moment:
        raise NotAuthenticated
    work.actor = actor_of(user, work.actor, session.id)
    if link.used_at is not None and work.moment - link.used_at > REUSE_GRACE:
        session.ended_at = work.moment
        audit.record(work, Action.REFRESH_REUSE, entity_type="auth", entity_id=user.id)
        return None
    link.used_at = link.used_at or work.moment
    session.expires_at = work.moment + rules.refresh
    return _tokens(work, session, rules)


def sign_out(work: Work) -> None:
    """End the actor's session."""
    session = work.session.get(SignedIn, work.actor.session_id, with_for_update=True)
    if session is not None and session.ended_at is None:
        session.ended_at = work.moment
        audit.record(work, Action.LOGOUT, entity_type="auth", entity_id=work.actor.user_id)


def session_of_refresh_token(database: Database, token: str) -> tuple[User, int] | None:
    """The user and session that a refresh token belongs to, for a sign-out by cookie alone."""
    with database.read() as session:
        found = session.execute(
            select(User, SignedIn.id)
            .join(SignedIn, SignedIn.user_id == User.id)
            .join(RefreshToken, RefreshToken.session_id == SignedIn.id)
            .where(RefreshToken.token_hash == digest(token), SignedIn.ended_at.is_(None))
        ).one_or_none()
    return None if found is None else (found[0], found[1])


def end_all(work: Work, user_id: int, keep: int | None = None) -> None:
    """End every session of a user, but the one to keep."""
    living = update(SignedIn).where(SignedIn.user_id == user_id, SignedIn.ended_at.is_(None))
    if keep is not None:
        living = living.where(SignedIn.id != keep)
    work.session.execute(
        living.values(ended_at=work.moment), execution_options={"synchronize_session": False}
    )


def end_links(work: Work, user_id: int) -> None:
    """Make a user's one-time links useless: who gives a password means no other way in."""
    work.session.execute(
        update(OneTimeLink)
        .where(OneTimeLink.user_id == user_id, OneTimeLink.used_at.is_(None))
        .values(used_at=work.moment),
        execution_options={"synchronize_session": False},
    )


def make_link(work: Work, purpose: str, user_id: int | None) -> str:
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
            expires_at=work.moment + LINK_LIFETIME,
        )
    )
    return token


def use_link(work: Work, token: str, purpose: str) -> OneTimeLink:
    """The link of that token, locked; raises `NotFound` if it is spent, expired or unknown."""
    link = work.session.scalar(
        select(OneTimeLink)
        .where(OneTimeLink.token_hash == digest(token), OneTimeLink.purpose == purpose)
        .with_for_update()
    )
    if link is None or link.used_at is not None or link.expires_at <= work.moment:
        raise NotFound(SPENT_LINK)
    return link


def link_of(database: Database, token: str) -> tuple[str | None, str | None]:
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


def sign_in_by_link(work: Work, token: str, user_agent: str | None) -> str:
    """Start a panel session over a one-time link of the purpose "sign-in"."""
    link = use_link(work, token, "sign-in")
    link.used_at = work.moment
    if link.user_id is None:
        raise NotFound(SPENT_LINK)
    return sign_in_panel(work, link.user_id, user_agent)


def digest(token: str) -> str:
    """Tokens are random, so that a plain SHA-256 keeps them safe at rest."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _start(  # noqa: PLR0913, PLR0917 - the columns of a session
    work: Work, user_id: int, kind: str, token: str, lifetime: timedelta, user_agent: str | None
) -> SignedIn:
    user = work.session.get(User, user_id, with_for_update={"read": True})
    if user is None or not user.is_active:
        raise NotAuthenticated(WRONG)
    session = SignedIn(
        user_id=user_id,
        kind=kind,
        token_hash=digest(token),
        created_at=work.moment,
        expires_at=work.moment + lifetime,
        ip_address=work.actor.ip_address,
        user_agent=_shortened(user_agent or "") or None,
    )
    work.session.add(session)
    work.flush()
    work.actor = actor_of(user, work.actor, session.id)
    audit.record(
        work, Action.LOGIN, entity_type="auth", entity_id=user.id, entity_name=user.username
    )
    return session


def _tokens(work: Work, session: SignedIn, rules: TokenRules) -> Tokens:
    token = secrets.token_urlsafe(32)
    expires = work.moment + rules.refresh
    work.session.add(
        RefreshToken(
            session_id=session.id,
            token_hash=digest(token),
            created_at=work.moment,
            expires_at=expires,
        )
    )
    access = _access_token(session, rules, work.moment)
    return Tokens(access, token, int(rules.refresh.total_seconds()))


def _access_token(session: SignedIn, rules: TokenRules, moment: datetime) -> str:
    claims = {
        "iss": _ISSUER,
        "aud": _ISSUER,
        "sub": str(session.user_id),
        "sid": str(session.id),
        "iat": int(moment.timestamp()),
        "exp": int((moment + rules.access).timestamp()),
        "jti": secrets.token_urlsafe(12),
    }
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(rules.secret))
