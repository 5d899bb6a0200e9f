"""From what a request brings with it to the Actor on whose behalf it runs."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, String, bindparam, select

from vmtrak.access import Actor, Role, Scope, permissions
from vmtrak.accounts import access_tokens
from vmtrak.accounts.access_tokens import SessionRules
from vmtrak.accounts.models import SignedIn, User, digest
from vmtrak.db import AnySelect, Database, Prepared, iso, now
from vmtrak.errors import StepUpRequired

PANEL_IDLE = timedelta(hours=8)

PROOF_COUNTS = timedelta(minutes=10)
"""For how long a proof of identity counts; a sign-in is one, too."""

STANDING = (
    User.id,
    User.username,
    User.email,
    User.role,
    User.department,
    User.must_change_password,
    User.is_guest,
    User.sign_in_method,
    User.second_factor_required,
    User.has_second_factor,
)
"""What an actor is made of, as the user stands right now."""


def _alive(*terms: Any) -> Prepared:  # noqa: ANN401 - any condition
    statement: AnySelect = select(
        *STANDING, SignedIn.id.label("session_id"), SignedIn.proved_at
    ).join_from(SignedIn, User, User.id == SignedIn.user_id)
    return Prepared(
        statement.where(
            *terms,
            SignedIn.ended_at.is_(None),
            SignedIn.expires_at > bindparam("at", type_=SignedIn.expires_at.type),
            User.is_active,
        )
    )


_BY_COOKIE = _alive(
    SignedIn.token_hash == bindparam("token_hash", type_=String),
    SignedIn.kind == "panel",
    SignedIn.last_seen_at > bindparam("idle_since", type_=SignedIn.last_seen_at.type),
)
_BY_ACCESS_TOKEN = _alive(
    SignedIn.id == bindparam("session_id", type_=BigInteger),
    SignedIn.user_id == bindparam("user_id", type_=BigInteger),
    SignedIn.kind == "api",
)


def require_proof(actor: Actor, within: timedelta = PROOF_COUNTS) -> None:
    """Raise `StepUpRequired` unless the actor has proved who they are so recently."""
    if actor.proved_at is None or now() - actor.proved_at > within:
        raise StepUpRequired


def visitor(ip_address: str | None, request_id: str | None, username: str = "") -> Actor:
    """Somebody who has not proved who they are: no permission at all."""
    return Actor(username, frozenset(), ip_address=ip_address, request_id=request_id)


def actor_of(user: User, like: Actor, session_id: int | None = None) -> Actor:
    """The actor for a loaded user, with the address and request of `like`."""
    return standing(
        tuple(getattr(user, column.key) for column in STANDING),
        replace(like, session_id=session_id),
        SessionRules(b"", timedelta(0), timedelta(0)),
    )


def by_cookie(database: Database, rules: SessionRules, token: str, like: Actor) -> Actor | None:
    """The actor of a panel session, as the user stands right now; None if it has ended."""
    idle_since = iso(now() - PANEL_IDLE)
    return _actor(
        database, rules, _BY_COOKIE, {"token_hash": digest(token), "idle_since": idle_since}, like
    )


def by_access_token(
    database: Database, rules: SessionRules, token: str, like: Actor
) -> Actor | None:
    """The actor of an access token: its signature and time are right, its session still lives."""
    claims = access_tokens.claims_of(rules, token)
    return _actor(database, rules, _BY_ACCESS_TOKEN, claims, like) if claims else None


def _actor(
    database: Database,
    rules: SessionRules,
    statement: Prepared,
    values: dict[str, Any],
    like: Actor,
) -> Actor | None:
    rows = database.rows(statement, {**values, "at": iso(now())})
    if not rows:
        return None
    *columns, session_id, proved_at = rows[0]
    if isinstance(proved_at, str):
        proved_at = datetime.fromisoformat(proved_at)
    return standing(columns, replace(like, session_id=session_id, proved_at=proved_at), rules)


def standing(
    columns: Sequence[Any],
    like: Actor,
    rules: SessionRules,
    scopes: Iterable[Scope] | None = None,
) -> Actor:
    """The actor that the columns of `STANDING` make, with the request and session of `like`."""
    user_id, username, email, role, department, must_change, guest, method, due, enrolled = columns
    may_reveal = rules.guests_reveal or not guest
    required = method == "local" and (bool(due) or role in rules.factor_of)
    return replace(
        like,
        username=username,
        permissions=permissions(role, may_reveal=may_reveal, scopes=scopes),
        user_id=user_id,
        email=email,
        role=Role(role),
        department=department,
        must_change_password=bool(must_change),
        factor_required=required,
        must_enrol=required and not enrolled,
        is_guest=bool(guest),
        sign_in_method=method,
    )
