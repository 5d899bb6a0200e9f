"""No password of a credential comes out of the tests' own process but by a reveal.

`watch` is registered in conftest.py for every test, so that none can forget it: it reads each
answer of each application, whichever client or browser asked, and each event on its way to a log.
It looks for `CANARY`, for every password that is sealed while the test runs, and for those in the
bodies of requests about credentials, also where they are refused.
"""

import html
import json
import logging
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from urllib.parse import parse_qsl

import httpx2
import orjson
import pytest
from loguru import logger
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from vmtrak.credentials import CredentialPassword
from vmtrak.sealing import KeyRing, Place, Sealed

if TYPE_CHECKING:
    from loguru import Record

CANARY = "kanarienvogel-"

DISTINCT = 8
"""Characters that differ. A password of fewer is found where nobody has put it."""

REVEAL = re.compile(
    r"/api/vms/\d+/credentials/\d+(/versions/\d+)?/reveal|/admin/credential/reveal/\d+(/\d+)?"
)
"""The addresses whose answer is a password."""

_ABOUT_CREDENTIALS = re.compile(r"/api/vms/\d+/credentials|/admin/credential/")


class Canaries:
    """What is looked for, and where it was found."""

    def __init__(self) -> None:
        self.planted = {CANARY}
        self.found: list[str] = []

    def start(self) -> None:
        """Forget what an earlier test has planted."""
        self.planted = {CANARY}
        self.found = []

    def plant(self, value: object) -> None:
        if isinstance(value, str) and len(set(value)) >= DISTINCT:
            self.planted.add(value)

    def look(self, where: str, text: str) -> None:
        """Note the place if the text holds what was planted."""
        for secret in tuple(self.planted):
            if any(form in text for form in _spellings(secret)):
                self.found.append(where)

    def look_at_answer(self, asked: str, headers: Any, body: bytes) -> None:
        """`asked` is the method and the path; a reveal may hold a password in its body alone."""
        self.look(f"the headers of {asked}", repr(headers))
        if REVEAL.fullmatch(asked.partition(" ")[2]) is None:
            self.look(f"the body of {asked}", body.decode("utf-8", "replace"))

    def look_at_event(self, record: "Record") -> None:
        error = record["exception"]
        trace = "".join(traceback.format_exception(*error)) if error else ""
        self.look(f"a log: {record['name']}", f"{record['message']} {record['extra']} {trace}")


canaries = Canaries()


@contextmanager
def watching() -> Iterator[None]:
    """Look at whatever leaves the tests' process; for the whole run."""
    logger.configure(patcher=canaries.look_at_event)
    with (
        patch.object(Starlette, "__call__", _application(Starlette.__call__)),
        patch.object(httpx2.Client, "send", _client(httpx2.Client.send)),
        patch.object(KeyRing, "seal", _seal(KeyRing.seal)),
    ):
        yield
    logging.getLogger().removeHandler(_HANDLER)


def watch() -> Iterator[None]:
    """Start anew and find nothing; to be registered as an automatic fixture."""
    canaries.start()
    logging.getLogger().addHandler(_HANDLER)  # again: `logs.configure` takes away what it finds
    yield
    if canaries.found:
        pytest.fail(
            f"a password of a credential came out: {'; '.join(sorted(set(canaries.found)))}"
        )


@lru_cache(maxsize=1_000)
def _spellings(secret: str) -> frozenset[str]:
    """As it is, and as JSON, HTML and Python write it."""
    escaped = json.dumps(secret)[1:-1]
    return frozenset({secret, escaped, html.escape(secret), repr(secret)[1:-1]})


Application = Callable[[Starlette, Scope, Receive, Send], Any]


def _application(call: Application) -> Application:
    """The application, with its requests read on their way in and its answers on their way out."""

    async def watched(self: Starlette, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await call(self, scope, receive, send)
            return
        sent, came = _Joined(), _Joined()

        async def receiving() -> Message:
            message = await receive()
            if came.whole(message):
                _plant_from(scope["path"], b"".join(came.parts))
            return message

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent.headers = message.get("headers", [])
            elif sent.whole(message):
                asked = f"{scope['method']} {scope['path']}"
                canaries.look_at_answer(asked, sent.headers, b"".join(sent.parts))
            await send(message)

        await call(self, scope, receiving, sending)

    return watched


class _Joined:
    """The parts of one body, and the headers that came before them."""

    def __init__(self) -> None:
        self.headers: Any = []
        self.parts: list[bytes] = []

    def whole(self, message: Message) -> bool:
        """Keep the part; whether it was the last one."""
        if message["type"] == "http.disconnect":
            return False
        self.parts.append(message.get("body", b""))
        return not message.get("more_body", False)


def _plant_from(path: str, body: bytes) -> None:
    if not body or _ABOUT_CREDENTIALS.match(path) is None:
        return
    text = body.decode("utf-8", "replace")
    try:
        told = orjson.loads(text)
    except ValueError:
        told = dict(parse_qsl(text))
    if isinstance(told, dict):
        canaries.plant(told.get("password"))


def _client(send: Callable[..., httpx2.Response]) -> Callable[..., httpx2.Response]:
    """For servers that are processes of their own."""

    def watched(self: httpx2.Client, *arguments: Any, **options: Any) -> httpx2.Response:
        response = send(self, *arguments, **options)
        if response.is_stream_consumed and not isinstance(self, TestClient):
            asked = f"{response.request.method} {response.request.url.path}"
            canaries.look_at_answer(asked, response.headers.raw, response.content)
        return response

    return watched


Seal = Callable[[KeyRing, str, Place], Sealed]


def _seal(seal: Seal) -> Seal:
    def watched(self: KeyRing, plaintext: str, place: Place) -> Sealed:
        if place.table == CredentialPassword.__tablename__:
            canaries.plant(plaintext)
        return seal(self, plaintext, place)

    return watched


class _Handler(logging.Handler):
    """The standard library's events, where nothing has led them into our own logs."""

    def emit(self, record: logging.LogRecord) -> None:
        canaries.look(f"a log: {record.name}", self.format(record))


_HANDLER = _Handler()
