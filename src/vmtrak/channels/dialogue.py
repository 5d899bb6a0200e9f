"""The dialogue with a mail server: a connection that is timed, encrypted and signed in."""

import base64
import math
import re
import smtplib
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from vmtrak.channels.answers import shown
from vmtrak.channels.messages import Unreachable
from vmtrak.channels.tokens import Grant

CONNECT_SECONDS = 20
"""For each address of the host."""

COMMAND_SECONDS = 60
"""For the greeting, for each command with its answer, for the text of a message."""

OPENING_SECONDS = 180
"""For everything up to a connection that is signed in, a second try with a new token included."""

DOT_SECONDS = 300
"""For the answer to a message. RFC 5321 (4.5.3.2.6) would wait for ten minutes."""

GOODBYE_SECONDS = 5

_LONGEST_LINE = 8 * 1024
_MOST_LINES = 256
_AT_ONCE = 16 * 1024
_READY, _CHALLENGE, _TOKEN_REFUSED = 220, 334, 535
_OK = 2


@dataclass(frozen=True, slots=True)
class MailServer:
    """`security` None: STARTTLS if the server offers it. `sender` may be Name <address>."""

    host: str
    port: int
    sender: str
    security: Literal["none", "starttls", "tls"] | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    grant: Grant | None = None
    helo: str | None = None

    def __str__(self) -> str:
        return f"{self.host}, port {self.port}"


class Answered(Exception):
    """The server answered something else than was hoped for."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(f"{code} {words}" if code > 0 else words)
        self.code = code


class Nonsense(OSError):
    """The other side does not speak SMTP."""


class TokenRefused(Unreachable):
    pass


class Line(smtplib.SMTP):
    """A connection whose every wait ends at `_until`, however slowly bytes come in."""

    def __init__(self, server: MailServer, secrets: tuple[str, ...]) -> None:
        super().__init__(local_hostname=server.helo)
        self.soiled = False
        """Whether a transaction was begun and not ended."""
        self.encrypted = False
        self.bound = math.inf
        """When what is being done must be over, however many commands it takes."""
        self._server = server
        self._secrets = secrets
        self._until = 0.0
        self._unread = b""

    @property
    def is_over(self) -> bool:
        return self.sock is None

    def dial(self) -> None:
        """Connect, in TLS if that is how it begins, and hear the greeting."""
        self.sock = self._connected()
        self.wait(COMMAND_SECONDS)
        if self._server.security == "tls":
            self.encrypt()
        code, words = self.getreply()
        if code != _READY:
            raise Answered(code, self.shown(words))

    def _connected(self) -> socket.socket:
        """A connection to the first of the host's addresses that answers."""
        failure = OSError("it has no address")
        for family, address in self._addresses():
            self.wait(CONNECT_SECONDS)
            tried = socket.socket(family, socket.SOCK_STREAM)
            try:
                tried.settimeout(self._left())
                tried.connect(address)
            except OSError as error:
                tried.close()
                failure = error
            else:
                return tried
        raise failure

    def _addresses(self) -> Iterator[tuple[int, tuple[Any, ...]]]:
        place = (self._server.host, self._server.port)
        try:
            found = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)
        except UnicodeError as error:  # two dots side by side, for example
            raise socket.gaierror(str(error)) from error
        for family, _, _, _, address in found:
            yield family, address

    def encrypt(self) -> None:
        """Put the connection into TLS; `SSL_CERT_FILE` can name a private authority."""
        assert self.sock is not None  # noqa: S101 - for mypy
        if self._unread:  # said before the encryption, to be taken for what comes after it
            raise Answered(0, "it sent something between STARTTLS and TLS")
        self.sock.settimeout(self._left())
        context = ssl.create_default_context()
        self.sock = context.wrap_socket(self.sock, server_hostname=self._server.host)
        self.encrypted = True

    def wait(self, seconds: float) -> None:
        """From now on wait so many seconds, but not beyond the bound."""
        self._until = min(time.monotonic() + seconds, self.bound)

    def asked(self, command: str, hoped: int = 0) -> str:
        """What the server answers. Raises `Answered` if it is not what was hoped for."""
        self.wait(COMMAND_SECONDS)
        self.command_encoding = "utf-8"
        code, words = self.docmd(command)
        return self._taken(code, words, hoped)

    def told(self, text: bytes) -> str:
        """What the server answers to the text of a message."""
        self.wait(COMMAND_SECONDS)
        self.send(text + b".\r\n")
        self.wait(DOT_SECONDS)
        return self._taken(*self.getreply(), 0)

    def _taken(self, code: int, words: bytes, hoped: int) -> str:
        told = self.shown(words)
        if code != hoped if hoped else code // 100 != _OK:
            raise Answered(code, told)
        return f"{code} {told}"

    def shown(self, words: bytes) -> str:
        return shown(words, self._secrets)

    def goodbye(self) -> None:
        """Take leave, if there is somebody to take leave of."""
        self.bound = math.inf
        self.wait(GOODBYE_SECONDS)
        with suppress(OSError):
            self.docmd("QUIT")
        self.close()

    def _left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def send(self, s: "bytes | str") -> None:  # type: ignore[override]  # of typeshed's buffers
        """Send it in parts as long as a TLS record, each of which may take the time that is left.

        A TLS socket counts its time anew for each of them.
        """
        data = s.encode(self.command_encoding) if isinstance(s, str) else s
        for start in range(0, len(data), _AT_ONCE):
            if self.sock is None:
                raise smtplib.SMTPServerDisconnected
            self.sock.settimeout(self._left())
            self.sock.sendall(data[start : start + _AT_ONCE])

    def getreply(self) -> tuple[int, bytes]:
        """The code and the lines of an answer."""
        lines: list[bytes] = []
        while len(lines) < _MOST_LINES:
            line = self._read_line()
            if not re.match(rb"[2-5][0-9]{2}(?:[ -]|\s*$)", line):
                raise Nonsense(self.shown(line[:_LONGEST_LINE]))
            lines.append(line[4:].strip())
            if line[3:4] != b"-":
                return int(line[:3]), b"\n".join(lines)
        raise Nonsense("an answer without an end")

    def _read_line(self) -> bytes:
        while b"\n" not in self._unread:
            if len(self._unread) > _LONGEST_LINE:
                raise Nonsense("a line without an end")
            if self.sock is None:
                raise smtplib.SMTPServerDisconnected
            self.sock.settimeout(self._left())
            part = self.sock.recv(_LONGEST_LINE)
            if not part:
                raise smtplib.SMTPServerDisconnected
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        return line


# Opening it


def opened(server: MailServer, token: str | None, until: float) -> Line:
    """A connection that is encrypted and signed in as the settings say. Raises `Unreachable`."""
    line = Line(server, _secrets(server, token))
    line.bound = until
    try:
        _dial(line, server)
        _secure(line, server)
        _sign_in(line, server, token)
    except BaseException:
        line.close()
        raise
    return line


def _dial(line: Line, server: MailServer) -> None:
    with _opening(server, "greeted VMTrak with"):
        line.dial()
        _greet(line)


def _greet(line: Line) -> None:
    line.wait(COMMAND_SECONDS)
    code, words = line.ehlo()
    if code // 100 != _OK:
        raise Answered(code, line.shown(words))


def _secure(line: Line, server: MailServer) -> None:
    """STARTTLS, if that is how the connection is to be encrypted.

    Where the server offers it and then fails, the mail waits: going on in the open would be what
    somebody on the way wants.
    """
    if server.security in {"tls", "none"}:
        return
    if not line.has_extn("starttls"):
        if server.security == "starttls":
            words = f"{server} offers no STARTTLS, which VMTRAK_SMTP_SECURITY asks for."
            raise Unreachable(words)
        return
    with _opening(server, "answered STARTTLS with"):
        line.asked("STARTTLS", _READY)
        line.encrypt()
        _greet(line)


def _sign_in(line: Line, server: MailServer, token: str | None) -> None:
    secret = token if token is not None else server.password
    if server.username is None or secret is None:
        return
    if not line.encrypted and server.security != "none":
        reason = (
            f"{server} offers no encryption, and the password does not travel in the open. "
            "Set VMTRAK_SMTP_SECURITY to none if it may."
        )
        raise Unreachable(reason)
    offered = line.esmtp_features.get("auth", "").upper().split()
    known = ("PLAIN", "LOGIN") if token is None else ("XOAUTH2",)
    mechanism = next((name for name in known if name in offered), None)
    if mechanism is None:
        ways = f"with {' or '.join(known)}, but with {', '.join(offered) or 'nothing'}"
        raise Unreachable(f"{server} lets nobody sign in {ways}.")
    _authenticate(line, server, mechanism, secret)


def _authenticate(line: Line, server: MailServer, mechanism: str, secret: str) -> None:
    name = server.username or ""
    try:
        with _opening(server, f"refused the sign-in of {name} with"):
            if mechanism == "LOGIN":
                line.asked("AUTH LOGIN", _CHALLENGE)
                line.asked(_encoded(name), _CHALLENGE)
                line.asked(_encoded(secret))
            else:
                _in_one_go(line, mechanism, _initial(mechanism, name, secret))
    except Unreachable as error:
        answered = error.__cause__
        if isinstance(answered, Answered) and answered.code == _TOKEN_REFUSED:
            raise TokenRefused(str(error)) from answered
        raise


def _in_one_go(line: Line, mechanism: str, initial: str) -> None:
    """Where a token is refused, the reason comes as a challenge, and the refusal only after it."""
    try:
        line.asked(f"AUTH {mechanism} {initial}")
    except Answered as error:
        if error.code != _CHALLENGE:
            raise
        line.asked("")


def _initial(mechanism: str, name: str, secret: str) -> str:
    """Name and secret as RFC 4616 (PLAIN) and Microsoft and Google (XOAUTH2) write them."""
    if mechanism == "PLAIN":
        return _encoded(f"\0{name}\0{secret}")
    return _encoded(f"user={name}\x01auth=Bearer {secret}\x01\x01")


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _secrets(server: MailServer, token: str | None) -> tuple[str, ...]:
    """In every form in which they are sent, and in which an answer might repeat them."""
    plain = [secret for secret in (server.password, token) if secret]
    name = server.username or ""
    sent = [_initial(how, name, secret) for secret in plain for how in ("PLAIN", "XOAUTH2")]
    return (*plain, *sent, *map(_encoded, plain))


@contextmanager
def _opening(server: MailServer, what: str) -> Iterator[None]:
    try:
        yield
    except Answered as error:
        raise Unreachable(f"{server} {what}: {error}") from error
    except OSError as error:
        raise Unreachable(explained(error, server)) from error


# Words

_OTHER_SECURITY = "Does VMTRAK_SMTP_SECURITY fit this port?"


def explained(error: Exception, server: MailServer) -> str:
    """What went wrong with the connection, so that somebody can mend it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"The certificate of {server} is not accepted: {error.verify_message.rstrip('.')}. "
            "SSL_CERT_FILE can name a private authority."
        )
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or str(error)).replace("_", " ").lower()
        return f"{server} does not speak TLS as it should: {reason}. {_OTHER_SECURITY}"
    return f"{server} {_trouble(error)}"


def _trouble(error: Exception) -> str:
    told: tuple[tuple[type[Exception], str], ...] = (
        (Answered, f"answered: {error}"),
        (Nonsense, f"does not speak SMTP: {error}"),
        (socket.gaierror, "cannot be found: the name is not known to this machine's resolver."),
        (TimeoutError, f"does not answer in time. {_OTHER_SECURITY}"),
        (ConnectionRefusedError, "cannot be reached: the connection was refused."),
        (smtplib.SMTPServerDisconnected, "ended the connection."),
        (ConnectionError, "ended the connection."),
    )
    other = f"cannot be reached: {getattr(error, 'strerror', None) or error}."
    return next((words for kind, words in told if isinstance(error, kind)), other)
