"""How long VMTrak waits for a mail server, however slowly it answers."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.mail.conftest import MakeMailer, Open
from tests.mail.letters import parcel
from tests.mail.server import HOST, PostOffice, Wait
from vmtrak.channels import Delayed, Unreachable, dialogue, smtp, tokens
from vmtrak.channels.smtp import LONGEST_ATTEMPT, Mailer, MailServer
from vmtrak.notices import outbox

FOREVER = Wait(60)


def test_one_attempt_is_over_before_another_may_begin() -> None:
    told = 2 * 120 + 2 * 20 + 180 + 60 + 300
    assert told == LONGEST_ATTEMPT
    assert outbox.LEASE.total_seconds() - LONGEST_ATTEMPT >= 60
    assert (dialogue.CONNECT_SECONDS, dialogue.COMMAND_SECONDS) == (20, 60)
    assert (dialogue.DOT_SECONDS, tokens.PATIENCE) == (300, 20)


@pytest.mark.parametrize("verb", ["GREETING", "EHLO", "MAIL"])
def test_a_server_that_is_silent_is_unreachable(
    impatient: None, office: PostOffice, mailer: Mailer, verb: str
) -> None:
    office.always[verb] = FOREVER
    with pytest.raises(Unreachable, match="does not answer in time"):
        mailer.send(parcel())


@pytest.mark.parametrize("verb", ["RCPT", "DATA", "DOT"])
def test_a_server_that_is_silent_about_one_message_delays_that_one(
    impatient: None, office: PostOffice, mailer: Mailer, verb: str
) -> None:
    office.next(verb, FOREVER)
    with pytest.raises(Delayed):
        mailer.send(parcel(1))
    mailer.send(parcel(2))
    assert office.connections == 2


def test_a_server_that_answers_slowly_is_waited_for(office: PostOffice, mailer: Mailer) -> None:
    office.always |= dict.fromkeys(("GREETING", "EHLO", "MAIL", "RCPT", "DATA", "DOT"), Wait(0.2))
    mailer.send(parcel())
    assert len(office.received) == 1


def test_the_opening_as_a_whole_has_an_end(
    open_office: Open,
    mailer_for: MakeMailer,
    certificate: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(smtp, "OPENING_SECONDS", 0.5)
    office = open_office(context=certificate)
    office.always |= {"EHLO": Wait(0.3)}
    with pytest.raises(Unreachable, match="does not answer in time"):
        mailer_for(office).send(parcel())


def test_the_envelope_as_a_whole_has_an_end(
    office: PostOffice, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "ENVELOPE_SECONDS", 0.5)
    office.always |= dict.fromkeys(("MAIL", "RCPT", "DATA"), Wait(0.2))
    with pytest.raises(Delayed):
        mailer.send(parcel())


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[MailServer]:
    """A server that does to its one visitor what the function says."""
    with socket.create_server((HOST, 0)) as listener:

        def visit() -> None:
            visitor, _ = listener.accept()
            with visitor:
                serve(visitor)

        thread = threading.Thread(target=visit)
        thread.start()
        yield MailServer(HOST, listener.getsockname()[1], "vmtrak@vmtrak.example", helo="vm")
        thread.join(10)


def test_an_answer_that_drips_is_not_waited_for_longer(impatient: None) -> None:
    def drip(visitor: socket.socket) -> None:
        for _ in range(20):
            try:
                visitor.sendall(b"2")
            except OSError:
                return
            time.sleep(0.1)

    with listening(drip) as server:
        began = time.monotonic()
        with pytest.raises(Unreachable, match="does not answer in time"):
            Mailer(server).send(parcel())
        assert time.monotonic() - began < 1.5


def test_a_text_that_nobody_reads_is_not_pushed_for_longer(impatient: None) -> None:
    done = threading.Event()

    def deaf(visitor: socket.socket) -> None:
        """Ask for the text and never read it."""
        visitor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        for answer in (b"220 x", b"250 x", b"250 x", b"250 x", b"354 x"):
            visitor.sendall(answer + b"\r\n")
            if not answer.startswith(b"354"):
                visitor.recv(1024)
        done.wait(10)

    with listening(deaf) as server:
        line = dialogue.opened(server, None, time.monotonic() + 5)
        for command, hoped in (("MAIL FROM:<a@b>", 0), ("RCPT TO:<a@b>", 0), ("DATA", 354)):
            line.asked(command, hoped)
        with pytest.raises(TimeoutError):
            line.told(b"x" * 20_000_000)
        line.close()
        done.set()


def test_taking_leave_of_a_silent_server_does_not_take_long(
    office: PostOffice, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialogue, "GOODBYE_SECONDS", 0.3)
    mailer.send(parcel())
    office.always["QUIT"] = FOREVER
    began = time.monotonic()
    mailer.close()
    assert time.monotonic() - began < 2
