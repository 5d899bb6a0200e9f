"""A real SMTP server for the tests, which does as it is told: refuses, waits, drops, restarts.

with PostOffice() as office:
office.refuse["bob@vmtrak.example"] = "550 5.1.1 No such mailbox"
office.next("DOT", DROP)     # the next message is taken, but nobody is told so
... a Mailer for MailServer("127.0.0.1", office.port, sender=...) ...
assert [mail.recipients for mail in office.received] == [("ann@vmtrak.example",)]
office.stop(); office.start()  # down for a while; the port stays the same
"""

import asyncio
import json
import ssl
import threading
import time
from base64 import b64decode
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as MAIL_POLICY
from functools import cached_property, partial
from typing import Any, Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Drop:
    """Cut the connection instead of answering. After the dot: whether the message was taken."""

    taken: bool = True


@dataclass(frozen=True, slots=True)
class Wait:
    """Answer as usual, but only after so many seconds; at the dot the message is taken first."""

    seconds: float


DROP, LOSE = Drop(), Drop(taken=False)

Action = str | Drop | Wait
"""What to do at a command: answer with this line (after 421 the connection ends), or the above."""


@dataclass(frozen=True)
class Received:
    """One message as it came over the wire. `connection` counts from 1."""

    sender: str
    recipients: tuple[str, ...]
    raw: bytes
    connection: int
    encrypted: bool
    signed_in_as: str | None
    options: tuple[str, ...]
    at: float

    @cached_property
    def message(self) -> EmailMessage:
        parsed = message_from_bytes(self.raw, policy=MAIL_POLICY)
        assert isinstance(parsed, EmailMessage)
        return parsed

    @property
    def message_id(self) -> str:
        return str(self.message["Message-ID"])


@dataclass(frozen=True, slots=True)
class SignIn:
    mechanism: str
    name: str
    secret: str = field(repr=False)
    encrypted: bool


@dataclass
class PostOffice:
    """A server on loopback; `with` it runs.

    `accounts` are names and passwords, `tokens` names and XOAUTH2 tokens; with any of them nobody
    sends who has not signed in. `context` is the server's certificate: used from the first byte if
    `tls_from_the_start`, else offered as STARTTLS.
    """

    accounts: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    context: ssl.SSLContext | None = None
    tls_from_the_start: bool = False
    smtputf8: bool = True
    mechanisms: set[str] = field(default_factory=lambda: {"PLAIN", "LOGIN", "XOAUTH2"})
    """Ways to sign in; offered if there is somebody who could."""
    refuse: dict[str, str] = field(default_factory=dict)
    """Recipients who are answered with that line, as long as they stand here."""
    always: dict[str, Action] = field(default_factory=dict)
    """What to do at each such command; GREETING and DOT count as commands, too."""
    port: int = 0
    received: list[Received] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    """The verbs of all connections, in the order in which they came."""
    sign_ins: list[SignIn] = field(default_factory=list)
    greeted_by: list[str] = field(default_factory=list)
    connections: int = 0
    errors: list[str] = field(default_factory=list)
    """What went wrong in the server itself; connections that end are no errors."""
    _nexts: defaultdict[str, deque[Action]] = field(default_factory=lambda: defaultdict(deque))
    _open: set["_Visit"] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None
    _server: asyncio.Server | None = None

    def next(self, verb: str, *actions: Action) -> None:
        """What to do at the next commands of this verb, once each."""
        self._nexts[verb].extend(actions)

    def to(self, address: str) -> list[Received]:
        return [mail for mail in self.received if address in mail.recipients]

    def wait_for(self, count: int, seconds: float = 20) -> list[Received]:
        """Wait until so many messages are there, and give all that are."""
        self.until(lambda: len(self.received) >= count, seconds)
        return list(self.received)

    def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{len(self.received)} messages, {self.commands}"
            time.sleep(0.01)

    def start(self) -> None:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(self._complain)
        tls = self.context if self.tls_from_the_start else None
        made = loop.create_server(partial(_Visit, self, loop), HOST, self.port, ssl=tls)
        self._server, self._loop = loop.run_until_complete(made), loop
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=loop.run_forever, name="post office", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and cut every connection."""
        assert self._loop
        assert self._thread
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._loop = self._thread = self._server = None

    def hang_up(self) -> None:
        """Cut every connection; the port stays open. Servers do so with idle ones."""
        assert self._loop
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(10)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None:
            self.stop()
        assert self.errors == []

    async def _close(self) -> None:
        assert self._server
        self._server.close()
        await self._cut()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _cut(self) -> None:
        while self._open:
            for visit in list(self._open):
                visit.cut()
            await asyncio.sleep(0)

    def _complain(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, OSError):  # a TLS error is one, too: the client went away
            self.errors.append(f"{context['message']}: {error!r}")

    def action(self, verb: str) -> Action | None:
        if self._nexts[verb]:
            return self._nexts[verb].popleft()
        return self.always.get(verb)


class _Visit(SMTP):
    """One connection."""

    def __init__(self, office: PostOffice, loop: asyncio.AbstractEventLoop) -> None:
        self.office = office
        self.number = 0
        offered = ({"PLAIN", "LOGIN"} if office.accounts else set()) | {"XOAUTH2"}
        offered = offered & office.mechanisms if office.accounts or office.tokens else set()
        super().__init__(
            _Clerk(office),
            hostname="post.vmtrak.example",
            ident="VMTrak's test server",
            loop=loop,
            enable_SMTPUTF8=office.smtputf8,
            tls_context=None if office.tls_from_the_start else office.context,
            auth_require_tls=False,  # that no password comes in the open is for the client to see
            auth_exclude_mechanism={"PLAIN", "LOGIN", "XOAUTH2"} - offered,
            authenticator=_authenticate,
        )
        self._smtp_methods = {
            verb: partial(self._scripted, verb, method)
            for verb, method in self._smtp_methods.items()
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.number == 0:  # it is made once more after STARTTLS
            self.office.connections += 1
            self.number = self.office.connections
            self.office._open.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.office._open.discard(self)
        super().connection_lost(error)

    def cut(self) -> None:
        transport = self._original_transport or self.transport
        if isinstance(transport, asyncio.WriteTransport):
            transport.abort()

    @property
    def encrypted(self) -> bool:
        return self.office.tls_from_the_start or self._tls_protocol is not None

    async def _handle_client(self) -> None:
        action = self.office.action("GREETING")
        if await self._acted(action):
            self._writer.close()
            return
        await super()._handle_client()

    async def _scripted(self, verb: str, method: Callable[[str | None], Any], arg: str) -> None:
        self.office.commands.append(verb)
        if not await self._acted(self.office.action(verb)):
            await method(arg)

    async def _acted(self, action: Action | None) -> bool:
        """Whether the command is answered already."""
        if isinstance(action, Wait):
            await asyncio.sleep(action.seconds)
        if isinstance(action, Drop):
            self.cut()
        if isinstance(action, str):
            await self.push(action)
            if action.startswith("421"):
                self._writer.close()
        return isinstance(action, Drop | str)


class _Clerk:
    """The hooks that aiosmtpd asks."""

    def __init__(self, office: PostOffice) -> None:
        self.office = office

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's names
        self, _server: SMTP, session: Session, _envelope: Envelope, name: str, lines: list[str]
    ) -> list[str]:
        session.host_name = name
        self.office.greeted_by.append(name)
        return [line for line in lines if line.strip() != "250-AUTH"]

    async def handle_MAIL(  # noqa: N802
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if (self.office.accounts or self.office.tokens) and not session.authenticated:
            return "530 5.7.57 Client not authenticated to send mail"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Sender OK"

    async def handle_RCPT(  # noqa: N802
        self,
        _server: SMTP,
        _session: Session,
        envelope: Envelope,
        address: str,
        _options: list[str],
    ) -> str:
        if refusal := self.office.refuse.get(address):
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Recipient OK"

    async def handle_DATA(  # noqa: N802
        self, server: _Visit, session: Session, envelope: Envelope
    ) -> str:
        action = self.office.action("DOT")
        if isinstance(action, str):
            return action
        if action != LOSE:
            self._keep(server, session, envelope)
        await server._acted(action)
        return f"250 2.0.0 Ok: queued as {len(self.office.received):06X}"

    def _keep(self, server: _Visit, session: Session, envelope: Envelope) -> None:
        assert envelope.original_content is not None
        self.office.received.append(
            Received(
                sender=str(envelope.mail_from),
                recipients=tuple(envelope.rcpt_tos),
                raw=envelope.original_content,
                connection=server.number,
                encrypted=server.encrypted,
                signed_in_as=session.auth_data if session.authenticated else None,
                options=tuple(envelope.mail_options),
                at=time.monotonic(),
            )
        )

    async def auth_XOAUTH2(self, server: _Visit, args: list[str]) -> AuthResult:  # noqa: N802
        """A token that is refused is answered with a challenge first, as Exchange does."""
        blob = b64decode(args[1]).decode()
        name, bearer, *_ = blob.split("\x01")
        name, token = name.removeprefix("user="), bearer.removeprefix("auth=Bearer ")
        self.office.sign_ins.append(SignIn("XOAUTH2", name, token, server.encrypted))
        if self.office.tokens.get(name) == token:
            return AuthResult(success=True, auth_data=name)
        challenge = {"status": "400", "schemes": "Bearer", "scope": "https://mail.example/"}
        answer = await server.challenge_auth(json.dumps(challenge))
        assert answer == b""
        message = "535 5.7.3 Authentication unsuccessful"
        return AuthResult(success=False, handled=False, message=message)


def _authenticate(
    server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: LoginPassword
) -> AuthResult:
    assert isinstance(server, _Visit)
    office = server.office
    name, password = given.login.decode(), given.password.decode()
    office.sign_ins.append(SignIn(mechanism, name, password, server.encrypted))
    if office.accounts.get(name) == password:
        return AuthResult(success=True, auth_data=name)
    message = "535 5.7.8 Error: authentication failed"
    return AuthResult(success=False, handled=False, message=message)
