"""From the claims of an ID token that was checked to a person, as far as the claims can be trusted.

decisions/0013 says what is taken from them and why.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from vmtrak.access import Role
from vmtrak.accounts.identities import Person
from vmtrak.accounts.sessions import Proof
from vmtrak.db import now
from vmtrak.errors import Invalid, Refusal, SignInRefused
from vmtrak.fields import Input, RequiredEmail, fold, parse
from vmtrak.web.oidc.registration import Registration

Claims = Mapping[str, Any]

_POWER = (Role.ADMIN, Role.READWRITE, Role.AUDITOR, Role.READ)
"""Of several roles the first: each may do more than those behind it, or at least change more."""

_LONGEST = 256
_LONGEST_NAME = 128


class _Addressed(Input):
    email: RequiredEmail


def person_of(registration: Registration, claims: Claims) -> Person:
    """The person whom the claims tell of. Raises `SignInRefused` if they do not say who it is."""
    issuer, subject = _key(registration, claims)
    guest, emails = _is_guest(registration, claims), _vouched(registration, claims)
    mark = hashlib.sha256(f"{issuer} {subject}".encode()).hexdigest()[:8]
    handle = f"{_handle(claims)}-{mark}"
    named = emails[0] if emails and len(emails[0]) <= _LONGEST_NAME else handle
    return Person(
        issuer=issuer,
        subject=subject,
        username=named,
        email=emails[0] if emails else f"{handle}@unverified.example",
        vouched=emails,
        role=_role(registration, claims),
        is_guest=guest,
        proof=Proof("microsoft", _signed_in_at(claims), _text(claims.get("sid"))),
    )


def _key(registration: Registration, claims: Claims) -> tuple[str, str]:
    name = "oid" if registration.tenant else "sub"
    subject = _text(claims.get(name))
    if subject is None:
        raise SignInRefused(Refusal.TOKEN, f"the ID token has no {name}")
    return registration.tenant or registration.issuer, subject


def _text(value: object) -> str | None:
    """A claim as text that a column holds; None for anything else."""
    if isinstance(value, str) and value.isprintable() and 0 < len(value) <= _LONGEST:
        return value
    return None


def _role(registration: Registration, claims: Claims) -> Role | None:
    given = claims.get(registration.role_claim)
    values = given if isinstance(given, list) else [given]
    known = dict(registration.role_map)
    roles = {known[value] for value in values if isinstance(value, str) and value in known}
    return next((role for role in _POWER if role in roles), None)


def _is_guest(registration: Registration, claims: Claims) -> bool:
    """`acct` says so; where it was not asked for, who was signed in elsewhere is one."""
    if not registration.tenant:
        return False
    account = claims.get("acct")
    if account is None:
        return not _is_at_home(registration, claims)
    return str(account) != "0"


def _is_at_home(registration: Registration, claims: Claims) -> bool:
    """Whether the tenant itself signed the person in: `idp` names another one for guests."""
    idp = claims.get("idp")
    own = {registration.issuer, f"https://sts.windows.net/{registration.tenant}/"}
    return idp is None or idp in own


def _vouched(registration: Registration, claims: Claims) -> tuple[str, ...]:
    """The e-mail addresses that somebody besides the person vouches for, the best one first."""
    if not registration.tenant:
        verified = claims.get("email_verified")
        return _addresses(claims.get("email")) if verified is True or verified == "true" else ()
    if _is_guest(registration, claims) or not _is_at_home(registration, claims):
        return ()
    both = _addresses(claims.get("email"), claims.get("preferred_username"))
    return tuple(dict.fromkeys(both))


def _addresses(*given: object) -> tuple[str, ...]:
    """The addresses among these, but none that `fold` makes equal to somebody else's.

    bob@straße.example and bob@strasse.example are two people's, and one to us.
    """
    found = []
    for value in given:
        try:
            address = parse(_Addressed, {"email": value}).email
        except Invalid:  # no address: the next claim may hold one
            continue
        if fold(address) == address.lower():
            found.append(address)
    return tuple(found)


def _handle(claims: Claims) -> str:
    """A name by which people recognise each other, out of what the person calls themselves."""
    for name in ("email", "preferred_username", "name"):
        value = claims.get(name)
        local = value.partition("@")[0] if isinstance(value, str) else ""
        kept = re.sub(r"[^a-z0-9]+", ".", local.lower()[:_LONGEST_NAME]).strip(".")[:40]
        if kept:
            return kept
    return "user"


def _signed_in_at(claims: Claims) -> datetime | None:
    """When the person signed in at the provider; None if it does not say."""
    given = claims.get("auth_time")
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    try:
        return min(datetime.fromtimestamp(given, UTC).replace(microsecond=0), now())
    except (ValueError, OverflowError, OSError):
        return None
