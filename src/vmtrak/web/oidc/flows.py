"""A sign-in under way, sealed in a cookie of its own until the provider leads back.

Cookies that keep one session for all flows lose a flow's state when a page fetches something
meanwhile, and tabs get in each other's way.
"""

import hashlib
import hmac
import json
import secrets
from dataclasses import asdict, dataclass, field
from functools import lru_cache

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from vmtrak.db import now

LIFETIME = 600
"""Seconds for a person to sign in at the provider, which may ask for a second factor."""

PREFIX = "vmtrak_oidc_"
_HEADER = {"alg": "dir", "enc": "A256GCM"}


@dataclass(frozen=True, slots=True)
class Flow:
    """What has to be the same at both ends of a sign-in.

    `client` is "panel" or "rest". `session_id` is the panel session that the browser had. With
    `prove` the person is to show again who they are: at the panel for that session.
    """

    client: str
    target: str
    prove: bool = False
    session_id: int | None = None
    state: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    began: int = field(default_factory=lambda: int(now().timestamp()))

    @property
    def cookie(self) -> str:
        return cookie_name(self.state)

    @property
    def proves_session(self) -> int | None:
        return self.session_id if self.prove and self.client == "panel" else None


@lru_cache(maxsize=4)
def _key(secret: bytes) -> OctKey:
    """One key for this purpose alone: HMAC-SHA256 is a PRF (RFC 5869 expands in the same way)."""
    return OctKey.import_key(hmac.digest(secret, b"vmtrak oidc flow 1", "sha256"))


def cookie_name(state: str) -> str:
    return PREFIX + hashlib.sha256(state.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def sealed(flow: Flow, secret: bytes) -> str:
    return jwe.encrypt_compact(_HEADER, json.dumps(asdict(flow)), _key(secret))


def opened(text: str, secret: bytes) -> Flow | None:
    """The flow of a cookie; None for one that was not made with this key."""
    try:
        found = jwe.decrypt_compact(text, _key(secret), algorithms=["dir", "A256GCM"])
        return Flow(**json.loads(found.plaintext or b""))
    except (JoseError, ValueError, TypeError):
        return None
