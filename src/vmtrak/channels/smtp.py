"""Sends mail over SMTP (RFC 5321), one connection for as many messages as there are."""

from dataclasses import dataclass, field
from typing import Literal

from vmtrak.channels.messages import Parcel


@dataclass(frozen=True, slots=True)
class Grant:
    """From where a program gets its OAuth 2 token (RFC 6749, 4.4: client credentials)."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str


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


class Mailer:
    """The sender for mail."""

    def __init__(self, server: MailServer) -> None:
        self._server = server

    def send(self, parcel: Parcel) -> str:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing yet."""


def fault(server: MailServer) -> str | None:
    """Why the server cannot be used, if so: connects, signs in, sends nothing."""
    raise NotImplementedError
