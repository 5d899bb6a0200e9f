"""OAuth 2 tokens that a program gets for itself (RFC 6749, 4.4: client credentials)."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

import anyio
import httpx2

from vmtrak.channels.answers import shown
from vmtrak.channels.messages import Unreachable

PATIENCE = 20
"""Seconds for one exchange as a whole, however slowly its bytes come in."""

LARGEST = 64 * 1024
"""Bytes of an answer; a token of Entra takes 2 kB."""

MARGIN = 120
"""Seconds before its end from which on a token counts as over: longer than a sign-in takes."""

_USUAL_LIFE = 300
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Grant:
    """From where a program gets its OAuth 2 token (RFC 6749, 4.4: client credentials)."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str


class Tokens:
    """The tokens of one grant; each is used until shortly before it ends."""

    def __init__(self, grant: Grant, clock: Callable[[], float] = time.monotonic) -> None:
        self._grant = grant
        self._clock = clock
        self._token: str | None = None
        self._ends = 0.0

    @property
    def kept(self) -> bool:
        """Whether `get` would give a token that has been used before."""
        return self._token is not None and self._clock() < self._ends

    def get(self) -> str:
        """A token that is good for now. Raises `Unreachable`."""
        if not self.kept or self._token is None:
            self._token, life = _issued(self._grant)
            self._ends = self._clock() + life - MARGIN
        return self._token

    def forget(self) -> None:
        """Ask for another one next time: this one was refused."""
        self._token = None


def _issued(grant: Grant) -> tuple[str, float]:
    """A new token and for how many seconds it is good."""
    try:
        status, body = anyio.run(_asked, grant)
    except TimeoutError:
        raise _trouble(grant, f"no whole answer within {PATIENCE} seconds") from None
    except (httpx2.TransportError, OSError) as error:  # such as certificates that cannot be read
        raise _trouble(grant, str(error) or type(error).__name__) from error
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise _trouble(grant, "the answer cannot be read") from error
    found = _object(body)
    if status != httpx2.codes.OK:
        raise _trouble(grant, _complaint(found) or f"HTTP status {status}")
    token, life = found.get("access_token"), found.get("expires_in", _USUAL_LIFE)
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise _trouble(grant, "the answer holds no token")
    return token, _seconds(life)


async def _asked(grant: Grant) -> tuple[int, bytes]:
    """The answer's status and body. The secret goes into the body, as Entra documents it."""
    form = {
        "grant_type": "client_credentials",
        "client_id": grant.client_id,
        "client_secret": grant.client_secret,
        "scope": grant.scope,
    }
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    with anyio.fail_after(PATIENCE):
        async with (
            httpx2.AsyncClient(
                timeout=PATIENCE, verify=httpx2.create_ssl_context(), follow_redirects=False
            ) as client,
            client.stream("POST", grant.token_url, data=form, headers=headers) as response,
        ):
            return response.status_code, await _bounded(response)


async def _bounded(response: httpx2.Response) -> bytes:
    """The body as it came over the wire: nobody asked for a compressed one, which may explode."""
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > LARGEST:
            message = "the answer is too long"
            raise ValueError(message)
    return bytes(body)


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _complaint(found: dict[str, Any]) -> str:
    """What the provider says is wrong (RFC 6749, 5.2)."""
    words = (found.get("error"), found.get("error_description"))
    return ": ".join(word for word in words if isinstance(word, str) and word)


def _seconds(life: object) -> float:
    """Some providers write the number as a text."""
    try:
        return float(str(life))
    except ValueError:
        return _USUAL_LIFE


def _trouble(grant: Grant, words: str) -> Unreachable:
    secret = grant.client_secret
    secrets = (secret, quote(secret, safe=""), quote_plus(secret))
    said = shown(words.encode(errors="replace"), secrets)
    return Unreachable(f"No token for mail from {grant.token_url}: {said}")
