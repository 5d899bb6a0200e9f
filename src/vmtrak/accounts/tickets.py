"""Tickets between the two pages of a sign-in: the password was right, the code is still owed.

A ticket opens nothing. It stands for the password on the page for the code, so that the password
need not be kept anywhere in between.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from sqlalchemy import select

from vmtrak.accounts import passwords
from vmtrak.accounts.access_tokens import SessionRules
from vmtrak.accounts.models import User
from vmtrak.db import Database, now
from vmtrak.fields import LARGEST_ID

LIFETIME = timedelta(minutes=5)
"""Long enough to find the telephone, too short for whoever finds the browser left alone."""

_AUDIENCE = "vmtrak-code"
"""What is signed for one purpose is no good for another: access tokens have another audience."""


def issue(rules: SessionRules, user_id: int, password_hash: str) -> str:
    """A ticket for a user. It ends with the password, which it holds a fingerprint of."""
    claims = {
        "aud": _AUDIENCE,
        "sub": str(user_id),
        "pwd": passwords.fingerprint(password_hash),
        "exp": int((now() + LIFETIME).timestamp()),
    }
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(rules.secret))


@dataclass(frozen=True, slots=True)
class Holder:
    """The user whose password was right."""

    user_id: int
    username: str
    password_hash: str = field(repr=False)


def holder(database: Database, rules: SessionRules, ticket: str) -> Holder | None:
    """Whose ticket it is, if it is genuine and in time and the password is still the same."""
    try:
        claims = jwt.decode(ticket, OctKey.import_key(rules.secret), algorithms=["HS256"]).claims
        right = claims["aud"] == _AUDIENCE
        right = right and now() < datetime.fromtimestamp(claims["exp"], now().tzinfo)
        number, fingerprint = int(claims["sub"]), claims["pwd"]
    except (JoseError, ValueError, TypeError, KeyError, OverflowError):
        return None
    if not right or not 0 < number <= LARGEST_ID:
        return None
    chosen = select(User.id, User.username, User.password_hash)
    with database.read() as session:
        found = session.execute(chosen.where(User.id == number, User.is_active)).one_or_none()
    if found is None or passwords.fingerprint(found.password_hash or "") != fingerprint:
        return None
    return Holder(found.id, found.username, found.password_hash)
