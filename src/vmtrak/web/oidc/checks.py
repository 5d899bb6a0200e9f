"""What `vmtrak doctor` asks the provider: whether a sign-in could work."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx2

from vmtrak.db import now
from vmtrak.errors import SignInRefused
from vmtrak.web.oidc.flows import Flow
from vmtrak.web.oidc.provider import Metadata, Provider, Registration, metadata_address
from vmtrak.web.oidc.tokens import LEEWAY
from vmtrak.web.oidc.wire import asking, clock_of, fetch, is_local, manners


@dataclass(frozen=True, slots=True)
class Look:
    """One thing that was looked at; `words` say what is well, or what to mend."""

    well: bool
    words: str


def examine(provider: Provider) -> list[Look]:
    """Discovery, clock and redirect URI. Signs nobody in and changes nothing anywhere."""
    return anyio.run(_examine, provider)


async def _examine(provider: Provider) -> list[Look]:
    registration = provider.registration
    address = metadata_address(registration.issuer)
    try:
        with asking("metadata"):
            given, headers = await fetch(address)
            Metadata.of(registration.issuer, given)
    except SignInRefused as refused:
        return [Look(well=False, words=f"{address} is no use: {refused.cause}")]
    return [
        Look(well=True, words=f"{registration.issuer} tells how to sign in"),
        _clock(headers),
        *_own_address(registration),
        await _redirect(provider),
    ]


def _clock(headers: httpx2.Headers) -> Look:
    theirs = clock_of(headers)
    if theirs is None:
        return Look(well=True, words="the provider does not say what its clock shows")
    ahead = round((now() - theirs).total_seconds())
    if abs(ahead) <= LEEWAY:
        return Look(well=True, words=f"its clock and this one differ by {abs(ahead)} s")
    side = "ahead of" if ahead > 0 else "behind"
    words = f"this clock is {abs(ahead)} s {side} the provider's; nobody gets in beyond {LEEWAY} s"
    return Look(well=False, words=words)


def _own_address(registration: Registration) -> Iterator[Look]:
    parts = urlsplit(registration.redirect_uri)
    if parts.scheme != "https" and not is_local(parts.hostname or ""):
        words = f"{registration.redirect_uri} is not https; providers refuse that"
        yield Look(well=False, words=words)


async def _redirect(provider: Provider) -> Look:
    """Ask without a person: a provider leads back with an error only to what it knows."""
    registered = provider.registration.redirect_uri
    flow = Flow("panel", "/", state=secrets.token_urlsafe(16))
    try:
        address = await provider.address(flow) + "&prompt=none"
        with asking("authorization"):
            async with httpx2.AsyncClient(**manners()) as client:
                response = await client.get(address)
    except SignInRefused as refused:
        return Look(well=False, words=f"the sign-in page does not answer: {refused.cause}")
    place = response.headers.get("location", "")
    if place.partition("?")[0] == registered and "error" in parse_qs(urlsplit(place).query):
        return Look(well=True, words=f"the redirect URI {registered} is registered")
    words = (
        f"register {registered} as a redirect URI for this client: the provider does not know it"
    )
    return Look(well=False, words=words)
