"""API tokens: made and revoked by people, used by scripts, never more than their user."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network

from sqlalchemy import String, Table, bindparam, select, update

from vmtrak.access import Actor, Scope
from vmtrak.accounts.access_tokens import SessionRules
from vmtrak.accounts.models import ApiToken, User, digest
from vmtrak.accounts.sessions import STANDING, Sighting, standing
from vmtrak.db import AnySelect, Database, Prepared, Work, iso, now
from vmtrak.errors import Forbidden

PREFIX = "vmt_"

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

    Raises `Forbidden` where it is used from an address outside its networks.
    """
    rows = database.rows(_BY_TOKEN, {"token_hash": digest(token), "at": iso(now())})
    if not rows:
        return None
    *columns, token_id, scopes, networks = rows[0]
    if networks and not _within(like.ip_address, networks):
        message = "This token does not work from this address."
        raise Forbidden(message)
    return standing(
        columns, replace(like, token_id=token_id), rules, [Scope(each) for each in scopes.split()]
    )


def _within(address: str | None, networks: str) -> bool:
    if address is None:
        return False
    place = ip_address(address)
    return any(place in ip_network(network) for network in networks.split())


def note_used(work: Work, sightings: Mapping[int, Sighting]) -> None:
    """Write down when and from where tokens were used last, by token number."""
    table = ApiToken.__table__
    assert isinstance(table, Table)  # noqa: S101 - a mapped class has a table
    connection = work.session.connection()
    for number, seen in sorted(sightings.items()):
        connection.execute(
            update(table)
            .where(table.c.id == number)
            .values(last_used_at=seen.at, last_used_ip_address=seen.ip_address)
        )
