"""API tokens: made and revoked by people, used by scripts, never more than their user."""

import re
import secrets
import string
import zlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    ColumnElement,
    String,
    bindparam,
    case,
    func,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.orm import Session

from vmtrak import audit
from vmtrak.access import Actor, Permission, Role, Scope, permissions
from vmtrak.accounts import calendar_feeds
from vmtrak.accounts.access_tokens import SessionRules
from vmtrak.accounts.actors import STANDING, standing
from vmtrak.accounts.inputs import NewToken, TokenQuery, TokenState
from vmtrak.accounts.models import ApiToken, User, digest
from vmtrak.accounts.sessions import Sighting
from vmtrak.audit import Action, AuditEvent
from vmtrak.db import AnySelect, Database, Page, Prepared, Work, iso, now
from vmtrak.errors import Conflict, Invalid, NotFound

PREFIX = "vmt_"

_LETTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM = 43
"""Characters of 62 kinds: 256 bits of chance, as much as in every other token here."""

_CHECK = 6
"""Characters of 62 kinds that hold 32 bits."""

FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_RANDOM + _CHECK}}}")
"""What a scanner for leaked secrets looks for; the checksum then tells tokens from chance."""

MOST = 50
"""Tokens of one user that work at the same time."""

NOTICE_EVERY = timedelta(hours=1)
"""How often the trail tells of a token that somebody tries from outside its networks."""

NEEDS: Mapping[Scope, Permission] = MappingProxyType(
    {
        Scope.INVENTORY_READ: Permission.VM_READ,
        Scope.INVENTORY_WRITE: Permission.VM_WRITE,
        Scope.CREDENTIALS_REVEAL: Permission.CREDENTIAL_REVEAL,
        Scope.RDP: Permission.RDP,
        Scope.AUDIT_READ: Permission.AUDIT_READ,
    }
)
"""What a role must allow for a scope to be of any use."""


class ForeignNetworkError(Exception):
    """A token that works was used from outside its networks; `is_news` if that is to be told."""

    words = "This token does not work from this address."

    def __init__(self, token_id: int, *, is_news: bool) -> None:
        super().__init__(self.words)
        self.token_id = token_id
        self.is_news = is_news


def add(work: Work, new: NewToken) -> tuple[ApiToken, str]:
    """Make a token for oneself; returns its row and the token, which nobody can show again."""
    work.actor.require(Permission.ACCOUNT)
    return _made(work, work.actor.user_id, new, work.actor.permissions)


def add_for(work: Work, user_id: int, new: NewToken) -> tuple[ApiToken, str]:
    """As `add`, for somebody else: what the person at the server's own terminal may do."""
    work.actor.require(Permission.USERS)
    return _made(work, user_id, new, None)


def revoke(work: Work, token_id: int) -> ApiToken:
    """End a token for good: one's own, or for an administrator anybody's."""
    work.actor.require(Permission.ACCOUNT)
    found = select(ApiToken).where(ApiToken.id == token_id, _visible(work.actor))
    token = work.session.scalar(found.with_for_update())
    if token is None:
        raise NotFound
    if token.revoked_at is None:
        _revoke(work, token)
    return token


def revoke_all(work: Work, user_id: int) -> int:
    """End every token of a user, and the calendar address; returns how many these were."""
    work.actor.require(Permission.USERS)
    if work.session.get(User, user_id) is None:
        raise NotFound
    return end_all(work, user_id)


def end_all(work: Work, user_id: int) -> int:
    """As `revoke_all`, where an operation of its own means that nothing opens the account."""
    mine = select(ApiToken).where(ApiToken.user_id == user_id, *_living(work))
    tokens = work.session.scalars(mine.order_by(ApiToken.id).with_for_update()).all()
    for token in tokens:
        _revoke(work, token)
    work.flush()
    return len(tokens) + calendar_feeds.end(work, user_id)


FIELDS = (
    ApiToken.id,
    ApiToken.user_id,
    User.username,
    ApiToken.name,
    ApiToken.hint,
    ApiToken.scopes,
    ApiToken.allowed_networks,
    ApiToken.created_at,
    ApiToken.expires_at,
    ApiToken.revoked_at,
    ApiToken.last_used_at,
    ApiToken.last_used_ip_address,
)


def listed(actor: Actor, query: TokenQuery) -> AnySelect:
    """Tokens as Core columns: one's own, or for an administrator those that the query names."""
    actor.require(Permission.ACCOUNT)
    if query.everyone or query.user_id not in {None, actor.user_id}:
        actor.require(Permission.USERS)
    chosen: AnySelect = select(*FIELDS).join_from(ApiToken, User, User.id == ApiToken.user_id)
    return chosen.where(_visible(actor), *_terms(actor, query))


def every(session: Session, actor: Actor, query: TokenQuery) -> list[dict[str, Any]]:
    """All of these tokens as the contract shows them, the newest first."""
    chosen = listed(actor, query).order_by(ApiToken.id.desc())
    return [_shown(row._asdict()) for row in session.execute(chosen)]


def page(session: Session, actor: Actor, query: TokenQuery) -> Page:
    """One page of these tokens, those that work before the others, the newest first."""
    chosen = listed(actor, query)
    total = session.scalar(select(func.count()).select_from(chosen.subquery())) or 0
    ended = case((_is(TokenState.WORKING), 0), else_=1)
    start = (query.page - 1) * query.limit
    found = session.execute(
        chosen.order_by(ended, ApiToken.id.desc()).offset(start).limit(query.limit)
    )
    return Page([_shown(row._asdict()) for row in found], total, query.page, query.limit)


def get(session: Session, actor: Actor, token_id: int) -> dict[str, Any]:
    """One token that the actor may see, or `NotFound`."""
    everyone = TokenQuery(everyone=actor.may(Permission.USERS))
    row = session.execute(listed(actor, everyone).where(ApiToken.id == token_id)).one_or_none()
    if row is None:
        raise NotFound
    return _shown(row._asdict())


def owners(session: Session, actor: Actor) -> list[str]:
    """The names of those who have tokens, or had."""
    actor.require(Permission.USERS)
    named = select(User.username).where(User.id.in_(select(ApiToken.user_id)))
    return list(session.scalars(named.order_by(User.username_key)))


def shown(token: ApiToken, username: str) -> dict[str, Any]:
    """A loaded token as the contract shows it."""
    return _shown({column.key: getattr(token, column.key, username) for column in FIELDS})


def belongs(session: Session, actor: Actor, token_id: int, token: str) -> bool:
    """Whether this is that token, and the actor's own."""
    owned = select(ApiToken.id).where(
        ApiToken.id == token_id,
        ApiToken.user_id == actor.user_id,
        ApiToken.token_hash == digest(token),
    )
    return session.scalar(owned) is not None


_LIVING: AnySelect = (
    select(*STANDING, ApiToken.id.label("token_id"), ApiToken.scopes, ApiToken.allowed_networks)
    .join_from(ApiToken, User, User.id == ApiToken.user_id)
    .where(
        ApiToken.token_hash == bindparam("token_hash", type_=String),
        ApiToken.revoked_at.is_(None),
        ApiToken.expires_at > bindparam("at", type_=ApiToken.expires_at.type),
        User.is_active,
    )
)
_BY_TOKEN = Prepared(_LIVING)


def by_token(database: Database, rules: SessionRules, token: str, like: Actor) -> Actor | None:
    """The actor of an API token, as its user stands right now; None if it does not work.

    Raises `ForeignNetworkError` where it is used from an address outside its networks.
    """
    if not is_genuine(token):
        return None
    rows = database.rows(_BY_TOKEN, {"token_hash": digest(token), "at": iso(now())})
    if not rows:
        return None
    *columns, token_id, scopes, networks = rows[0]
    if networks and not _within(like.ip_address, networks):
        with database.read() as session:
            raise ForeignNetworkError(token_id, is_news=_is_news(session, token_id))
    return standing(
        columns, replace(like, token_id=token_id), rules, [Scope(each) for each in scopes.split()]
    )


def note_foreign(work: Work, token_id: int) -> None:
    """Put on record that a token which works was tried from outside its networks.

    Not more than once in `NOTICE_EVERY`: whoever has it must not be able to flood the trail.
    """
    token = work.session.get(ApiToken, token_id, with_for_update=True)
    if token is not None and _is_news(work.session, token_id):
        owner = work.session.get_one(User, token.user_id).username
        detail = {"username": owner, "reason": ForeignNetworkError.words}
        _record(work, Action.LOGIN_FAILED, token, detail)


def note_used(work: Work, sightings: Mapping[int, Sighting]) -> None:
    """Write down when and from where tokens were used last, by token number."""
    for number, seen in sorted(sightings.items()):
        earlier = or_(ApiToken.last_used_at.is_(None), ApiToken.last_used_at <= seen.at)
        work.session.execute(
            update(ApiToken)
            .where(ApiToken.id == number, earlier)
            .values(last_used_at=seen.at, last_used_ip_address=seen.ip_address),
            execution_options={"audited": True, "synchronize_session": False},
        )


def is_genuine(token: str) -> bool:
    """Whether VMTrak can have made this token: its form and its checksum say so, no database."""
    if not FORM.fullmatch(token):
        return False
    body = token.removeprefix(PREFIX)
    return body[_RANDOM:] == _checksum(body[:_RANDOM])


def _new_token() -> str:
    body = "".join(secrets.choice(_LETTERS) for _ in range(_RANDOM))
    return PREFIX + body + _checksum(body)


def _checksum(body: str) -> str:
    """CRC-32 of the random characters, in base 62 with zeros before it.

    As GitHub does: github.blog/2021-04-05-behind-githubs-new-authentication-token-formats
    """
    rest, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECK):
        rest, digit = divmod(rest, len(_LETTERS))
        digits = _LETTERS[digit] + digits
    return digits


def _made(
    work: Work, user_id: int | None, new: NewToken, allowed: Collection[Permission] | None
) -> tuple[ApiToken, str]:
    # The user is locked, so that two requests at once do not both make the last token.
    user = work.session.get(User, user_id, with_for_update=True) if user_id else None
    if user is None or not user.is_active:
        message = "A token needs a user whose account is open."
        raise Conflict(message)
    _refuse_useless(user, new, permissions(Role(user.role)) if allowed is None else allowed)
    _refuse_too_many(work, user)
    secret = _new_token()
    token = ApiToken(
        user_id=user.id,
        name=new.name,
        hint=secret[-4:],
        token_hash=digest(secret),
        scopes=" ".join(new.scopes),
        allowed_networks=" ".join(new.allowed_networks),
        created_at=work.moment,
        expires_at=work.moment + timedelta(days=new.expires_in_days),
    )
    work.session.add(token)
    work.flush()
    _record(work, Action.TOKEN_CREATE, token, _told(token, user.username))
    return token, secret


def _refuse_useless(user: User, new: NewToken, allowed: Collection[Permission]) -> None:
    """A scope that the role does not cover would do nothing, and nobody would say so."""
    useless = [scope.value for scope in new.scopes if NEEDS[scope] not in allowed]
    if useless:
        why = f"the role {user.role} does not cover {', '.join(useless)}"
        raise Invalid({"scopes": [why]})


def _refuse_too_many(work: Work, user: User) -> None:
    mine = select(func.count()).where(ApiToken.user_id == user.id, *_living(work))
    if (work.session.scalar(mine) or 0) >= MOST:
        message = f"This user has {MOST} tokens that work; revoke one of them first."
        raise Conflict(message)


def _living(work: Work) -> tuple[ColumnElement[bool], ...]:
    return ApiToken.revoked_at.is_(None), ApiToken.expires_at > work.moment


def _is(state: TokenState) -> ColumnElement[bool]:
    if state is TokenState.REVOKED:
        return ApiToken.revoked_at.is_not(None)
    over = ApiToken.expires_at <= now()
    return ApiToken.revoked_at.is_(None) & (over if state is TokenState.EXPIRED else ~over)


def _visible(actor: Actor) -> ColumnElement[bool]:
    """The condition under which the actor sees a token."""
    return true() if actor.may(Permission.USERS) else ApiToken.user_id == actor.user_id


def _terms(actor: Actor, query: TokenQuery) -> list[ColumnElement[bool]]:
    terms = []
    if not query.everyone:
        terms.append(ApiToken.user_id == (query.user_id or actor.user_id))
    elif query.user_id is not None:
        terms.append(ApiToken.user_id == query.user_id)
    if query.username is not None:
        terms.append(User.username == query.username)
    if query.state is not None:
        terms.append(_is(query.state))
    return terms


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    values = {column.key: audit.plain(row[column.key]) for column in FIELDS}
    lists = {name: values[name].split() for name in ("scopes", "allowed_networks")}
    return {**values, **lists}


def _revoke(work: Work, token: ApiToken) -> None:
    token.revoked_at = work.moment
    owner = work.session.get_one(User, token.user_id)
    _record(work, Action.TOKEN_REVOKE, token, _told(token, owner.username))


def _told(token: ApiToken, username: str) -> dict[str, Any]:
    """What the trail tells of a token: whose it is and what it may, nothing of the token itself."""
    return {
        "username": username,
        "scopes": token.scopes.replace(" ", ", "),
        "allowed_networks": token.allowed_networks.replace(" ", ", ") or None,
        "expires_at": iso(token.expires_at),
    }


def _record(work: Work, action: Action, token: ApiToken, detail: Mapping[str, Any]) -> None:
    audit.record(
        work,
        action,
        entity_type="token",
        entity=token,
        entity_id=token.id,
        entity_name=token.name,
        detail=detail,
    )


def _is_news(session: Session, token_id: int) -> bool:
    told = select(AuditEvent.id).where(
        AuditEvent.entity_type == "token",
        AuditEvent.entity_id == token_id,
        AuditEvent.action == Action.LOGIN_FAILED,
        AuditEvent.created_at > now() - NOTICE_EVERY,
    )
    return session.scalar(told.limit(1)) is None


def _within(address: str | None, networks: str) -> bool:
    if address is None:
        return False
    place = ip_address(address)
    # A server that listens on IPv6 sees IPv4 clients as ::ffff:192.0.2.1.
    place = getattr(place, "ipv4_mapped", None) or place
    return any(place in network for network in _parsed(networks))


@lru_cache(maxsize=1_024)
def _parsed(networks: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(network) for network in networks.split())
