"""Sends mail over SMTP (RFC 5321), one connection for as many messages as there are."""

import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP as POLICY

from vmtrak.channels import mail
from vmtrak.channels.addresses import in_ascii, parts
from vmtrak.channels.dialogue import (
    COMMAND_SECONDS,
    DOT_SECONDS,
    OPENING_SECONDS,
    Answered,
    Line,
    MailServer,
    TokenRefused,
    explained,
    opened,
)
from vmtrak.channels.messages import Delayed, Parcel, Refused, Unreachable
from vmtrak.channels.tokens import PATIENCE, Tokens

__all__ = ["LONGEST_ATTEMPT", "MailServer", "Mailer", "fault"]

ENVELOPE_SECONDS = 120
"""For RSET, MAIL, RCPT and DATA together."""

LONGEST_ATTEMPT = (
    2 * ENVELOPE_SECONDS + OPENING_SECONDS + 2 * PATIENCE + COMMAND_SECONDS + DOT_SECONDS
)
"""820 seconds, 80 less than the 15 minutes for which the outbox lends a message to one attempt.

A kept connection accepts the envelope in the last moment and ends (120); two tokens are fetched
(2 x 20) while another connection is opened (180), which takes the envelope (120) and the text (60)
and says nothing of it (300). The rest is for the resolver, which has no time limit that a program
could set, and for writing down the outcome.
"""

_GO_AHEAD, _CLOSING = 354, 421
_SIGN_IN_FIRST = frozenset({530, 538})
_FOR_EVER = 5


class Mailer:
    """The sender for mail."""

    def __init__(self, server: MailServer) -> None:
        self._server = server
        self._tokens = Tokens(server.grant) if server.grant is not None else None
        self._line: Line | None = None

    def send(self, parcel: Parcel) -> str:
        """Send it and return the server's answer. Raises `Refused`, `Delayed`, `Unreachable`.

        Servers drop connections that were idle or have carried enough: what was kept and ends
        before the text was begun is replaced by a new one, which then is judged.
        """
        letter = _Letter.of(parcel, self._server.sender)
        if self._line is not None:
            with suppress(_Ended):
                return self._handed_over(self._line, letter)
        line = self._line = self._opened()
        try:
            return self._handed_over(line, letter)
        except _Ended as error:
            raise error.verdict from error

    def close(self) -> None:
        """End the connection, if there is one. Never raises."""
        line, self._line = self._line, None
        if line is not None:
            line.goodbye()

    def look(self) -> None:
        """See whether mail could be sent: connect, sign in, send nothing. Raises `Unreachable`."""
        line = self._line = self._opened()
        try:
            line.asked("NOOP")
        except (OSError, Answered) as error:
            raise Unreachable(explained(error, self._server)) from error

    def _opened(self) -> Line:
        """A connection that is signed in. A token that was kept and is refused is renewed once."""
        until = time.monotonic() + OPENING_SECONDS
        if self._tokens is not None and self._tokens.kept:
            with suppress(TokenRefused):
                return opened(self._server, self._tokens.get(), until)
            self._tokens.forget()
        token = self._tokens.get() if self._tokens is not None else None
        return opened(self._server, token, until)

    def _handed_over(self, line: Line, letter: "_Letter") -> str:
        """Do one transaction. A connection that cannot go on is closed and forgotten."""
        try:
            return _handed_over(line, letter, self._server)
        finally:
            if line.is_over:
                self._line = None


def fault(server: MailServer) -> str | None:
    """Why the server cannot be used, if so: connects, signs in, sends nothing."""
    mailer = Mailer(server)
    try:
        mailer.look()
    except Unreachable as error:
        return str(error)
    finally:
        mailer.close()
    return None


# Messages


@dataclass(frozen=True, slots=True)
class _Letter:
    """A message ready to go. Addresses are ASCII, unless the part before an @ is not."""

    sender: str
    recipient: str
    message: EmailMessage

    @classmethod
    def of(cls, parcel: Parcel, sender: str) -> "_Letter":
        message = mail.letter(parcel, sender)
        return cls(in_ascii(parts(sender)[1]), in_ascii(parcel.address or ""), message)

    @property
    def international(self) -> bool:
        return not (self.sender + self.recipient).isascii()

    def text(self) -> bytes:
        """The message with dots doubled where they begin a line (RFC 5321, 4.5.2)."""
        policy = POLICY.clone(cte_type="7bit", utf8=self.international)
        return re.sub(rb"(?m)^\.", b"..", self.message.as_bytes(policy=policy))


# One transaction


class _Ended(Exception):
    """The connection ended while nothing of the text was sent: another one may take it."""

    def __init__(self, verdict: Delayed | Unreachable) -> None:
        super().__init__(str(verdict))
        self.verdict = verdict


def _handed_over(line: Line, letter: _Letter, server: MailServer) -> str:
    options, text = _options(line, letter), letter.text()
    line.bound = time.monotonic() + ENVELOPE_SECONDS
    _clean(line, server)
    with _judging(line, server, Unreachable):
        line.asked(f"MAIL FROM:<{letter.sender}>{options}")
    with _judging(line, server, Delayed):
        line.asked(f"RCPT TO:<{letter.recipient}>")
        line.asked("DATA", _GO_AHEAD)
    line.bound = math.inf
    with _judging_the_text(line):
        answer = line.told(text)
    line.soiled = False
    return answer


def _clean(line: Line, server: MailServer) -> None:
    """End what is left of a transaction that failed."""
    if line.soiled:
        try:
            line.asked("RSET")
        except (OSError, Answered) as error:
            line.close()
            raise _Ended(Unreachable(explained(error, server))) from error
    line.soiled = True


def _options(line: Line, letter: _Letter) -> str:
    if not letter.international:
        return ""
    if not line.has_extn("smtputf8"):
        reason = "The mail server takes only addresses whose letters are ASCII (no SMTPUTF8)."
        raise Refused(reason)
    return " SMTPUTF8 BODY=8BITMIME"


@contextmanager
def _judging(line: Line, server: MailServer, end: type[Delayed | Unreachable]) -> Iterator[None]:
    """Turn what goes wrong before the text into an outcome; `end` if the connection ends (or 421).

    At RCPT and DATA that delays this message and no other: if the server as a whole is down, the
    next one finds out; if it is this message at which the server stumbles, the others must not
    wait behind it for ever. A server that wants a sign-in first does so at MAIL, for all of them.
    """
    try:
        yield
    except OSError as error:
        line.close()
        raise _Ended(end(explained(error, server))) from error
    except Answered as error:
        if error.code == _CLOSING or (error.code in _SIGN_IN_FIRST and end is Unreachable):
            line.close()
            raise _Ended(end(explained(error, server))) from error
        raise _verdict(error) from error


@contextmanager
def _judging_the_text(line: Line) -> Iterator[None]:
    """The same for the text, of which nobody knows whether a connection that ended has taken it.

    It is sent again (RFC 5321, 4.5.4.1), with the same Message-ID, by which mailboxes know it.
    Like RCPT and DATA, and for the same reason, this delays one message only.
    """
    try:
        yield
    except OSError as error:
        line.close()
        words = "The connection ended before the server said whether it took the message."
        raise Delayed(words) from error
    except Answered as error:
        if error.code == _CLOSING:
            line.close()
        raise _verdict(error) from error


def _verdict(error: Answered) -> Refused | Delayed:
    return (Refused if error.code // 100 == _FOR_EVER else Delayed)(str(error))
