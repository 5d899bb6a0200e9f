"""Known browsers: a cookie that says which one it is, so that nobody else can lock it out.

OWASP calls them device cookies. The cookie signs nobody in; whoever brings it is counted by
itself when passwords are wrong.
"""

import secrets
from datetime import datetime, timedelta

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from vmtrak.accounts import passwords
from vmtrak.accounts.access_tokens import SessionRules
from vmtrak.db import now

LIFETIME = timedelta(days=90)

_AUDIENCE = "vmtrak-browser"


def named() -> str:
    """A name for a browser that has none yet: 16 random bytes, so that none can be guessed."""
    return secrets.token_urlsafe(16)


def issue(rules: SessionRules, user_id: int, password_hash: str, browser: str) -> str:
    """The cookie of a browser in which this user has signed in.

    It holds a fingerprint of the password hash, so that a changed password ends it everywhere.
    """
    claims = {
        "aud": _AUDIENCE,
        "sub": str(user_id),
        "jti": browser,
        "pwd": passwords.fingerprint(password_hash),
        "exp": int((now() + LIFETIME).timestamp()),
    }
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(rules.secret))


def recognised(
    rules: SessionRules, token: str, user_id: int | None, password_hash: str | None
) -> str | None:
    """The name of the browser, if its cookie is genuine, in time and for this very user."""
    try:
        claims = jwt.decode(token, OctKey.import_key(rules.secret), algorithms=["HS256"]).claims
        right = claims["aud"] == _AUDIENCE and claims["sub"] == str(user_id)
        right = right and claims["pwd"] == passwords.fingerprint(password_hash or "")
        right = right and now() < datetime.fromtimestamp(claims["exp"], now().tzinfo)
        return str(claims["jti"]) if right else None
    except (JoseError, ValueError, TypeError, KeyError, OverflowError):
        return None
