"""Posts digests to webhooks: signed JSON, Adaptive Cards for Teams, blocks for Slack.

The addresses come from the settings and from nowhere else, so nobody who merely uses VMTrak can
make it connect to a place of their choice. They are secrets: whoever knows one can post there. No
answer, error or line of a log tells more of one than its scheme and host.
"""

import base64
import hashlib
import hmac
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx2
import orjson

import vmtrak
from vmtrak.channels import cards
from vmtrak.channels.messages import (
    GROUPS,
    Channel,
    Delayed,
    Digest,
    Line,
    Parcel,
    Refused,
    Unreachable,
    group_of,
)

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0
WHOLE_SECONDS = 90.0
"""For one exchange as a whole: each byte of an answer may come just in time, for hours."""

LARGEST_ANSWER = 64 * 1024
"""Bytes that are read of an answer; no more than its first words are kept."""

_LONGEST_PRAISE = 100
_LONGEST_REFUSAL = 300
_SHORTEST_SECRET = 4
_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_BASE64 = "whsec_"


@dataclass(frozen=True, slots=True)
class Hook:
    """Where to post in which format. `secret` signs the channel `webhook`, the others have none."""

    channel: Channel
    url: str = field(repr=False)
    secret: str | None = field(default=None, repr=False)


def site(url: str) -> str:
    """What may be shown of an address: scheme, host and port."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


class Poster:
    """The sender for one webhook. Not safe to share between threads.

    What environment variables say of proxies and certificates (`HTTPS_PROXY`, `NO_PROXY`,
    `SSL_CERT_FILE`) holds for https, where a proxy sees the host alone. Over http, which the
    settings allow on this machine only, no proxy gets to see the address.
    """

    def __init__(self, hook: Hook) -> None:
        self._hook = hook
        self._hidden = _hidden(hook.url)
        self._watch = _Watch()
        self._client: httpx2.Client | None = None

    def send(self, parcel: Parcel) -> str:
        """Post it and return the answer's status and first words.

        `Delayed` where it may be taken later. A `Retry-After` is not looked at: the pauses
        between attempts grow beyond what anybody asks for.
        """
        body = orjson.dumps(_BODIES[self._hook.channel](parcel))
        headers = self._headers(parcel.uid, body)
        try:
            status, words = self._exchange(body, headers)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError) as error:
            fault = self._fault(error)
        else:
            return self._judged(status, words)
        # Raised out here the error has no context: the one above carries the request's address.
        raise Unreachable(fault)

    def close(self) -> None:
        if self._client is not None:
            with suppress(httpx2.HTTPError, OSError):
                self._client.close()
            self._client = None

    def _headers(self, uid: str, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self._hook.secret is not None:
            headers |= signed(self._hook.secret, uid, int(time.time()), body)
        return headers

    def _exchange(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        extensions = {"trace": self._watch.note}
        post = self._open().stream(
            "POST", self._hook.url, content=body, headers=headers, extensions=extensions
        )
        with self._watch.limited(), post as response:
            return response.status_code, _beginning(response)

    def _open(self) -> httpx2.Client:
        if self._client is None:
            self._client = httpx2.Client(
                timeout=httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
                follow_redirects=False,
                trust_env=self._hook.url.startswith("https:"),
                headers={
                    "User-Agent": f"VMTrak/{vmtrak.__version__}",
                    "Accept-Encoding": "identity",
                },
            )
        return self._client

    def _judged(self, status: int, words: bytes) -> str:
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return f"HTTP {status} {self._shown(words, _LONGEST_PRAISE)}".rstrip()
        said = self._shown(words, _LONGEST_REFUSAL)
        line = f"HTTP {status} {_reason(status)}".rstrip() + (f": {said}" if said else "")
        if status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Delayed(line)
        raise Refused(line)

    def _fault(self, error: Exception) -> str:
        """Why nothing came of it, in words that do not name the address."""
        return f"{site(self._hook.url)}: {self._why(error)}"

    def _why(self, error: Exception) -> str:
        if self._watch.over:
            return f"it took longer than {WHOLE_SECONDS:g} seconds"
        if isinstance(error, httpx2.ConnectTimeout):
            return f"no connection within {CONNECT_SECONDS:g} seconds"
        if isinstance(error, httpx2.TimeoutException):
            return f"no answer within {READ_SECONDS:g} seconds"
        if isinstance(error, httpx2.InvalidURL | UnicodeError):
            return "the address cannot be used"
        return self._shown(str(error).encode(), _LONGEST_REFUSAL) or type(error).__name__

    def _shown(self, words: bytes, most: int) -> str:
        """The first words, in one line, without what they repeat of the address."""
        text = self._hidden.sub("•••", words.decode("utf-8", "replace"))
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line[:most]


def signed(secret: str, uid: str, moment: int, body: bytes) -> dict[str, str]:
    """The headers by which a receiver sees who sent this and when.

    Standard Webhooks 1.0.0, "Signature scheme" and "Webhook headers"
    (github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md): HMAC-SHA256 over
    `id.timestamp.body`, the id being the same at each attempt and the time that of the attempt.
    """
    content = f"{uid}.{moment}.".encode() + body
    digest = hmac.new(_key(secret), content, hashlib.sha256).digest()
    return {
        "webhook-id": uid,
        "webhook-timestamp": str(moment),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode('ascii')}",
    }


def _key(secret: str) -> bytes:
    if secret.startswith(_BASE64):
        return base64.b64decode(secret.removeprefix(_BASE64), validate=True)
    return secret.encode()


# Bodies


def _event(parcel: Parcel) -> dict[str, Any]:
    """The digest, or the test, for programs. `more` VMs are counted but not listed."""
    content = parcel.content
    told = content if isinstance(content, Digest) else Digest(content.day, (), {})
    return {
        "type": "expiry.digest" if content is told else "test",
        "id": parcel.uid,
        "day": told.day.isoformat(),
        "total": told.total,
        "counts": {group.value: told.counts.get(group, 0) for group in GROUPS},
        "vms": [_vm(parcel, line) for line in told.lines],
        "more": told.total - len(told.lines),
        "url": cards.list_address(parcel),
    }


def _vm(parcel: Parcel, line: Line) -> dict[str, Any]:
    return {
        "id": line.vm_id,
        "vm_name": line.vm_name,
        "ip_address": line.ip_address,
        "environment": line.environment,
        "owner": line.owner,
        "expiry_date": line.expiry_date.isoformat(),
        "days_left": line.days,
        "group": group_of(line.days).value,
        "url": cards.vm_address(parcel, line),
    }


_BODIES: Mapping[Channel, Callable[[Parcel], dict[str, Any]]] = {
    Channel.WEBHOOK: _event,
    Channel.TEAMS: cards.teams,
    Channel.SLACK: cards.slack,
}


# Answers


def _beginning(response: httpx2.Response) -> bytes:
    """The first bytes of the body; none of a compressed one, for which nobody asked."""
    body = bytearray()
    if response.headers.get("content-encoding", "identity") != "identity":
        return b""
    # The status has come and decides; where the body breaks off is of no importance.
    with suppress(httpx2.TransportError):
        for part in response.iter_raw():
            body += part
            if len(body) >= LARGEST_ANSWER:
                break
    return bytes(body[:LARGEST_ANSWER])


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _hidden(url: str) -> re.Pattern[str]:
    """What an answer may repeat of an address, as pages that say "not found" do: path and query.

    They are looked for whole and in their parts, since an answer may write them in its own way.
    """
    target = url.partition("://")[2].partition("/")[2]
    words = {target, *re.split(r"[/?&=;,]", target)}
    words |= {unquote(word) for word in words}
    long = sorted((w for w in words if len(w) >= _SHORTEST_SECRET), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, long)) or "(?!)", re.IGNORECASE)


class _Watch:
    """Ends an exchange that takes too long as a whole, by ending its connection."""

    def __init__(self) -> None:
        self.over = False
        self._socket: socket.socket | None = None

    def note(self, event: str, info: Mapping[str, Any]) -> None:
        """Take note of the connection; to be called by httpx2 with all that happens."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")

    @contextmanager
    def limited(self) -> Iterator[None]:
        self.over = False
        timer = threading.Timer(WHOLE_SECONDS, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end(self) -> None:
        self.over = True
        if self._socket is not None:
            # Not closed: its number could be another file's before the reader has noticed. And
            # not by the TLS socket's own method, which takes away what the reader is using.
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
