"""Asking the provider over HTTP: little patience, small answers, no redirects."""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2

from vmtrak.errors import Refusal, SignInRefused

PATIENCE = 5
"""Seconds for one exchange as a whole, however slowly its bytes come in."""

LARGEST = 512 * 1024
"""Bytes; Entra's metadata and keys take 20 kB, its tokens 5 kB."""


class _Bounded(httpx2.AsyncByteStream):
    """A response's body that ends with an error where it becomes too long."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        async for part in self._stream:
            read += len(part)
            if read > LARGEST:
                message = "the answer is too long"
                raise ValueError(message)
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _bound(response: httpx2.Response) -> None:
    """Bound the body before it is read. A compressed one, which nobody asked for, may explode."""
    if response.headers.get("content-encoding", "identity") != "identity":
        message = "the answer is compressed"
        raise ValueError(message)
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Bounded(response.stream)


@cache
def _certificates() -> ssl.SSLContext:
    """Read once: it takes longer than a request. `SSL_CERT_FILE` names a private authority."""
    return httpx2.create_ssl_context()


def manners() -> dict[str, Any]:
    """The arguments for every HTTP client that speaks to the provider."""
    return {
        "timeout": PATIENCE,
        "verify": _certificates(),
        "follow_redirects": False,
        "headers": {"Accept-Encoding": "identity", "Accept": "application/json"},
        "event_hooks": {"response": [_bound]},
    }


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Refuse the sign-in where the provider does not answer in time, or not as it should."""
    try:
        with anyio.fail_after(PATIENCE):
            yield
    except (TimeoutError, httpx2.TransportError) as error:
        cause = f"{what}: {type(error).__name__}"
        raise SignInRefused(Refusal.UNREACHABLE, cause) from error
    except httpx2.HTTPStatusError as error:
        cause = f"{what}: HTTP status {error.response.status_code}"
        raise SignInRefused(Refusal.UNREADABLE, cause) from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise SignInRefused(Refusal.UNREADABLE, f"{what}: {type(error).__name__}") from error
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise SignInRefused(Refusal.UNREADABLE, f"{what}: not what it should be") from error


async def fetch(address: str) -> tuple[dict[str, Any], httpx2.Headers]:
    """The JSON object at an address, with the headers it came with. To be used in `asking`."""
    async with httpx2.AsyncClient(**manners()) as client:
        response = await client.get(address)
    if response.status_code != httpx2.codes.OK:
        message, request = "not a plain answer", response.request
        raise httpx2.HTTPStatusError(message, request=request, response=response)
    found = response.json()
    if not isinstance(found, dict):
        message = "not an object"
        raise TypeError(message)
    return found, response.headers


def clock_of(headers: httpx2.Headers) -> datetime | None:
    """What the provider's clock said when it answered, to the second."""
    try:
        return parsedate_to_datetime(headers.get("date", "")).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def is_safe(address: str) -> bool:
    """Whether nobody on the way can read or change what is sent there."""
    if not address.isprintable() or " " in address:
        return False
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.username is not None or parts.fragment:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_local(host)))


def is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
