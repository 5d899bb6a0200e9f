"""Whether an ID token is what the provider gave to this flow, and nothing else."""

import math
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import ClaimError, InvalidKeyIdError, JoseError
from joserfc.jwk import JWKRegistry, Key, KeySet
from joserfc.jws import JWSRegistry

from vmtrak.db import now
from vmtrak.errors import Refusal, SignInRefused
from vmtrak.web.oidc.flows import Flow
from vmtrak.web.oidc.registration import Registration

LEEWAY = 60
"""Seconds by which clocks may differ. Two minutes would let TOTP and signatures go wrong, too."""

BACKDATED = 300
"""Seconds by which Entra's `iat` and `nbf` lie before the moment that it issues a token."""

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Signatures by a key that the provider alone has: nothing symmetric, and never `none`."""

_PUBLIC = frozenset({"RSA", "EC"})

_REASONS: Mapping[str, Refusal] = MappingProxyType(
    {
        "iss": Refusal.ISSUER,
        "aud": Refusal.AUDIENCE,
        "azp": Refusal.AUDIENCE,
        "nonce": Refusal.NONCE,
    }
)
_TIMES = frozenset({"exp", "iat", "nbf"})


class UnknownKeyError(Exception):
    """None of the keys has the name that the token gives: the provider may have a new one."""


def keys_of(found: Mapping[str, Any]) -> KeySet:
    """The keys that can check a signature; one that cannot be read does not spoil the others.

    Raises `ValueError` if there are none.
    """
    keys: list[Key] = []
    for one in found.get("keys"):  # type: ignore[union-attr]
        if one.get("kty") in _PUBLIC and one.get("use", "sig") == "sig":
            try:
                keys.append(JWKRegistry.import_key(one))
            except (JoseError, ValueError, TypeError, KeyError):
                continue
    if not keys:
        message = "no key that could check a signature"
        raise ValueError(message)
    return KeySet(keys)


def signed_claims(token: str, keys: KeySet, algorithms: tuple[str, ...]) -> jwt.Token:
    """The token, if one of the keys signed it. Raises `UnknownKeyError` where a newer may have."""
    registry = JWSRegistry(algorithms=algorithms, strict_check_header=False)
    try:
        return jwt.decode(token, keys, registry=registry)
    except InvalidKeyIdError:
        raise UnknownKeyError from None
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        cause = f"the ID token: {type(error).__name__}"
        raise SignInRefused(Refusal.SIGNATURE, cause) from error


def checked(
    registration: Registration, flow: Flow, token: jwt.Token, access_token: object
) -> dict[str, Any]:
    """The claims, if they are the provider's answer to this flow. Raises `SignInRefused`.

    Authlib's options replace its own check of the issuer, do not ask for the audience unless
    told, and lose their validators after the first use: they are complete, and made each time.
    """
    expected = {"iss": registration.issuer, "aud": registration.client_id}
    options: dict[str, Any] = {
        **{name: {"essential": True, "value": value} for name, value in expected.items()},
        "sub": {"essential": True},
    }
    parameters = {"nonce": flow.nonce, "client_id": registration.client_id}
    if isinstance(access_token, str):
        parameters["access_token"] = access_token
    claims = CodeIDToken(token.claims, token.header, options, parameters)
    try:
        claims.validate(now=int(now().timestamp()), leeway=LEEWAY)
    except ClaimError as error:
        reason = _reason(error, claims.get(error.claim))
        raise SignInRefused(reason, f"the ID token: {error}") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise SignInRefused(Refusal.TOKEN, "the ID token: a claim of a wrong kind") from error
    _check_age(registration, claims)
    _check_tenant(registration, claims)
    return dict(claims)


def _reason(error: ClaimError, value: object) -> Refusal:
    if error.claim in _TIMES and isinstance(value, int | float):
        return Refusal.CLOCKS
    return _REASONS.get(error.claim, Refusal.TOKEN)


def _check_age(registration: Registration, claims: Mapping[str, Any]) -> None:
    """A token that has just been asked for is not old, unless the clocks differ."""
    oldest = now().timestamp() - LEEWAY - (BACKDATED if registration.tenant else 0)
    if not math.isfinite(claims["iat"]) or claims["iat"] < oldest:
        raise SignInRefused(Refusal.CLOCKS, "the ID token is older than the request for it")


def _check_tenant(registration: Registration, claims: Mapping[str, Any]) -> None:
    if registration.tenant and str(claims.get("tid")).lower() != registration.tenant:
        raise SignInRefused(Refusal.TENANT, "the ID token is another tenant's")


def check_clock(theirs: datetime | None) -> None:
    """Refuse where the provider's clock and this server's are too far apart."""
    if theirs is not None and abs((theirs - now()).total_seconds()) > LEEWAY:
        raise SignInRefused(Refusal.CLOCKS, "the token response's Date")


def check_fresh(flow: Flow, proved_at: datetime | None) -> None:
    """Refuse where the person did not sign in again for this flow, or nobody says so."""
    if proved_at is None or proved_at.timestamp() < flow.began - LEEWAY:
        raise SignInRefused(Refusal.NOT_FRESH, "auth_time is missing or too old")
