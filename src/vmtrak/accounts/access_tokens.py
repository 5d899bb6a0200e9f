"""Access tokens of the REST interface: JWTs that name a session, signed with HS256."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from time import time as unix_time
from types import MappingProxyType
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from vmtrak.access import Role
from vmtrak.accounts.models import SignedIn
from vmtrak.fields import LARGEST_ID

_ISSUER = "vmtrak"


@dataclass(frozen=True, slots=True)
class SessionRules:
    """What sessions go by.

    The key that signs access tokens (HS256, at least 32 bytes), the lifetimes of access and refresh
    tokens, whether guests of the provider's tenant may reveal credentials, and the roles of which a
    second factor is required beside the accounts of which an administrator requires it.
    """

    secret: bytes = field(repr=False)
    access: timedelta
    refresh: timedelta
    guests_reveal: bool = False
    factor_of: frozenset[Role] = frozenset()

    @classmethod
    def of(cls, key: bytes, minutes: int, days: int) -> "SessionRules":
        return cls(key, timedelta(minutes=minutes), timedelta(days=days))


@lru_cache(maxsize=1_024)
def _verified(secret: bytes, token: str) -> Mapping[str, Any]:
    """The claims of a token whose signature fits; raises `JoseError`, which is not remembered.

    A script sends one token a thousand times, and its signature cannot change. Its times and its
    session are looked at anew each time.
    """
    claims = jwt.decode(token, OctKey.import_key(secret), algorithms=["HS256"]).claims
    return MappingProxyType(claims)


def claims_of(rules: SessionRules, token: str) -> dict[str, int] | None:
    """The `user_id` and `session_id` that a token names; None if it is no good (any more)."""
    try:
        claims = _verified(rules.secret, token)
        right = claims["iss"] == _ISSUER and claims["aud"] == _ISSUER
        if not right or not claims["iat"] - 60 <= unix_time() < claims["exp"]:
            return None
        found = {"user_id": int(claims["sub"]), "session_id": int(claims["sid"])}
        return found if all(0 < number <= LARGEST_ID for number in found.values()) else None
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def issue(session: SignedIn, rules: SessionRules, moment: datetime) -> str:
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
