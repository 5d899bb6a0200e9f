"""The provider: what it announces, where it is asked, and what it says of a person."""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oauth2.client import OAuth2Client
from joserfc import jwt
from joserfc.jwk import KeySet

from vmtrak.db import now
from vmtrak.errors import Refusal, SignInRefused
from vmtrak.web.oidc import tokens
from vmtrak.web.oidc.flows import Flow
from vmtrak.web.oidc.registration import Registration
from vmtrak.web.oidc.tokens import LEEWAY
from vmtrak.web.oidc.wire import asking, clock_of, fetch, is_safe, manners

__all__ = ["LEEWAY", "Metadata", "Provider", "Registration"]

SCOPE = "openid profile email"
KEPT = 3600
"""Seconds for which metadata and keys are not asked for again."""

AGAIN = 60
"""Seconds between two requests for the keys on account of one that is unknown."""

_CODE = re.compile(r"[a-z_]{1,64}")

_AT_REDIRECT: Mapping[str, Refusal] = {
    "access_denied": Refusal.CANCELLED,
    "consent_required": Refusal.CANCELLED,
    "temporarily_unavailable": Refusal.UNREACHABLE,
    "unauthorized_client": Refusal.CLIENT,
}
_AT_TOKEN: Mapping[str, Refusal] = {
    "invalid_grant": Refusal.CODE,
    "invalid_client": Refusal.CLIENT,
    "unauthorized_client": Refusal.CLIENT,
}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the provider announces, as far as it is used and safe to use."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    end_session_endpoint: str | None
    algorithms: tuple[str, ...]
    secret_by_post: bool
    names_itself: bool

    @classmethod
    def of(cls, issuer: str, given: Mapping[str, Any]) -> "Metadata":
        """Raises `SignInRefused` if they are another issuer's, or lead to where anybody listens."""
        if given.get("issuer") != issuer:
            raise _unreadable(f"its issuer is {given.get('issuer')!r:.200}, not {issuer!r}")
        end_session = given.get("end_session_endpoint")
        announced = given.get("id_token_signing_alg_values_supported") or ["RS256"]
        algorithms = tuple(name for name in tokens.ALGORITHMS if name in announced)
        if not algorithms:
            raise _unreadable("it signs with no algorithm that can be trusted")
        ways = given.get("token_endpoint_auth_methods_supported") or ()
        return cls(
            authorization_endpoint=_place(given.get("authorization_endpoint")),
            token_endpoint=_place(given.get("token_endpoint")),
            jwks_uri=_place(given.get("jwks_uri")),
            end_session_endpoint=_place(end_session) if end_session else None,
            algorithms=algorithms,
            secret_by_post="client_secret_post" in ways,
            names_itself=given.get("authorization_response_iss_parameter_supported") is True,
        )


def _place(address: object) -> str:
    if not isinstance(address, str) or not is_safe(address):
        raise _unreadable("an endpoint is missing, or is not https")
    return address


def _unreadable(why: str) -> SignInRefused:
    return SignInRefused(Refusal.UNREADABLE, f"metadata: {why}")


def metadata_address(issuer: str) -> str:
    return issuer.rstrip("/") + "/.well-known/openid-configuration"


class Provider:
    """Asks the provider at the first use, not at the start: VMTrak runs while it is down."""

    def __init__(self, registration: Registration) -> None:
        self.registration = registration
        self._metadata: tuple[Metadata, datetime] | None = None
        self._keys: tuple[KeySet, datetime] | None = None
        self._asked_again: datetime | None = None

    async def metadata(self) -> Metadata:
        if self._metadata is None or _age(self._metadata[1]) > KEPT:
            with asking("metadata"):
                given, _ = await fetch(metadata_address(self.registration.issuer))
                self._metadata = Metadata.of(self.registration.issuer, given), now()
        return self._metadata[0]

    async def address(self, flow: Flow) -> str:
        """Where the person signs in."""
        metadata, registration = await self.metadata(), self.registration
        client = OAuth2Client(
            None,
            registration.client_id,
            scope=SCOPE,
            redirect_uri=registration.redirect_uri,
            code_challenge_method="S256",
        )
        fresh = {"prompt": "login", "max_age": "0"} if flow.prove else {}
        address, _ = client.create_authorization_url(
            metadata.authorization_endpoint,
            state=flow.state,
            code_verifier=flow.verifier,
            nonce=flow.nonce,
            **fresh,
        )
        return str(address)

    async def claims(self, flow: Flow, answer: Mapping[str, str]) -> dict[str, Any]:
        """What the provider says of the person who comes back with this answer.

        Raises `SignInRefused` where it says nothing, or what it says cannot be trusted.
        """
        metadata = await self.metadata()
        self._check_sender(metadata, answer)
        if "error" in answer:
            raise _refused("authorization", answer["error"], _AT_REDIRECT)
        if not answer.get("code"):
            raise SignInRefused(Refusal.MALFORMED, "neither a code nor an error")
        given, clock = await self._exchange(metadata, answer["code"], flow.verifier)
        tokens.check_clock(clock)
        token = await self._verified(metadata, given.get("id_token"))
        return tokens.checked(self.registration, flow, token, given.get("access_token"))

    def _check_sender(self, metadata: Metadata, answer: Mapping[str, str]) -> None:
        """Before the code goes anywhere: it may be another provider's (RFC 9207)."""
        expected = metadata.names_itself or "iss" in answer
        if expected and answer.get("iss") != self.registration.issuer:
            raise SignInRefused(Refusal.OTHER_PROVIDER, "iss in the redirect")

    async def _exchange(
        self, metadata: Metadata, code: str, verifier: str
    ) -> tuple[Mapping[str, Any], datetime | None]:
        answers: list[httpx2.Response] = []
        with asking("token"):
            async with self._client(metadata) as client:
                client.register_compliance_hook("access_token_response", _collect(answers))
                try:
                    given = await client.fetch_token(
                        metadata.token_endpoint,
                        grant_type="authorization_code",
                        code=code,
                        code_verifier=verifier,
                    )
                except OAuthError as error:
                    raise _refused("token", error.error, _AT_TOKEN) from None
        return given, clock_of(answers[0].headers)

    def _client(self, metadata: Metadata) -> AsyncOAuth2Client:
        secret = self.registration.client_secret
        by_secret = "client_secret_post" if metadata.secret_by_post else "client_secret_basic"
        client = AsyncOAuth2Client(
            self.registration.client_id,
            secret,
            token_endpoint_auth_method=by_secret if secret else "none",
            redirect_uri=self.registration.redirect_uri,
            **manners(),
        )
        client.register_client_auth_method(("client_secret_basic", _basic))
        return client

    async def _verified(self, metadata: Metadata, token: object) -> jwt.Token:
        """The ID token, if the provider signed it; new keys are asked for, but not all the time."""
        if not isinstance(token, str):
            raise SignInRefused(Refusal.UNREADABLE, "token: no ID token")
        try:
            return tokens.signed_claims(token, await self._key_set(metadata), metadata.algorithms)
        except tokens.UnknownKeyError:
            keys = await self._newer_keys(metadata)
        try:
            return tokens.signed_claims(token, keys, metadata.algorithms)
        except tokens.UnknownKeyError:
            cause = "the ID token: signed with an unknown key"
            raise SignInRefused(Refusal.SIGNATURE, cause) from None

    async def _newer_keys(self, metadata: Metadata) -> KeySet:
        if self._asked_again is None or _age(self._asked_again) > AGAIN:
            self._keys, self._asked_again = None, now()
        return await self._key_set(metadata)

    async def _key_set(self, metadata: Metadata) -> KeySet:
        if self._keys is None or _age(self._keys[1]) > KEPT:
            with asking("keys"):
                given, _ = await fetch(metadata.jwks_uri)
                self._keys = tokens.keys_of(given), now()
        return self._keys[0]

    async def end_session_address(self) -> str | None:
        """Where the person signs out at the provider, too; None if it has no such place."""
        place = (await self.metadata()).end_session_endpoint
        if place is None:
            return None
        given = {
            "client_id": self.registration.client_id,
            "post_logout_redirect_uri": self.registration.after_sign_out,
        }
        return f"{place}{'&' if '?' in place else '?'}{urlencode(given)}"


def _collect(answers: list[httpx2.Response]) -> Callable[[httpx2.Response], httpx2.Response]:
    """Authlib gives the token alone; the headers that came with it pass here."""

    def collect(answer: httpx2.Response) -> httpx2.Response:
        answers.append(answer)
        return answer

    return collect


def _age(since: datetime) -> float:
    """Seconds since then; for ever if the clock was set back."""
    age = (now() - since).total_seconds()
    return age if age >= 0 else float("inf")


def _refused(what: str, error: object, known: Mapping[str, Refusal]) -> SignInRefused:
    """By the provider's own code. What it writes besides is neither shown nor kept."""
    code = error if isinstance(error, str) and _CODE.fullmatch(error) else "unknown error"
    return SignInRefused(known.get(code, Refusal.PROVIDER_ERROR), f"{what}: {code}")


def _basic(client: Any, _method: str, uri: str, headers: Any, body: Any) -> tuple[Any, Any, Any]:  # noqa: ANN401 - Authlib's signature
    """As RFC 6749, 2.3.1 has it, both parts encoded; Authlib's own sends them as they are."""
    pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
    headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    return uri, headers, body
