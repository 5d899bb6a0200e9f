"""Post offices, and certificates that VMTrak trusts because `SSL_CERT_FILE` says so."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.mail.certificates import Authority
from tests.mail.letters import SENDER
from tests.mail.server import HOST, PostOffice
from vmtrak.channels import dialogue
from vmtrak.channels.smtp import Mailer, MailServer

Open = Callable[..., PostOffice]
MakeMailer = Callable[..., Mailer]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.made(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def certificate(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A certificate for the host on which post offices are, of an authority that is trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority.context(HOST)


@pytest.fixture
def open_office() -> Iterator[Open]:
    with ExitStack() as stack:

        def opened(**how: Any) -> PostOffice:
            return stack.enter_context(PostOffice(**how))

        yield opened


@pytest.fixture
def office(open_office: Open) -> PostOffice:
    return open_office()


@pytest.fixture
def mailer_for() -> Iterator[MakeMailer]:
    made: list[Mailer] = []

    def mailer(office: PostOffice, **how: Any) -> Mailer:
        made.append(Mailer(server_of(office, **how)))
        return made[-1]

    yield mailer
    for one in made:
        one.close()


@pytest.fixture
def mailer(office: PostOffice, mailer_for: MakeMailer) -> Mailer:
    return mailer_for(office)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait half a second where VMTrak waits a minute or more."""
    for name in ("CONNECT_SECONDS", "COMMAND_SECONDS", "OPENING_SECONDS", "DOT_SECONDS"):
        monkeypatch.setattr(dialogue, name, 0.5)


def server_of(office: PostOffice, **how: Any) -> MailServer:
    given = {"host": HOST, "port": office.port, "sender": SENDER, "helo": "vm.vmtrak.example"}
    return MailServer(**{**given, **how})
