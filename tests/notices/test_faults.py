"""A real mail server that misbehaves: each person gets each notice exactly once."""

from collections.abc import Iterator

import pytest

from tests.mail.server import DROP, LOSE, PostOffice, Wait
from tests.notices.scene import Scene
from tests.notices.test_outbox import ANN, BEN, CAT, due
from vmtrak.channels import Channel
from vmtrak.channels.smtp import Mailer, MailServer
from vmtrak.notices import State


@pytest.fixture
def office(scene: Scene) -> Iterator[PostOffice]:
    """The mail server to which the scene's notices go."""
    with PostOffice() as made:
        server = MailServer(
            "127.0.0.1", made.port, "VMTrak <vmtrak@vmtrak.example>", helo="vmtrak.example"
        )
        scene.set(senders={Channel.MAIL: lambda: Mailer(server)})
        yield made


def received(office: PostOffice) -> list[str]:
    return sorted(address for mail in office.received for address in mail.recipients)


def deliver_for_hours(scene: Scene) -> None:
    for minutes in (0, 1, 5, 16, 60, 180):
        scene.clock.forward(minutes=minutes)
        scene.deliver()


def test_it_refuses_one_of_two(scene: Scene, office: PostOffice) -> None:
    office.refuse[ANN] = "550 5.1.1 No such mailbox"
    due(scene, ANN, BEN)
    deliver_for_hours(scene)
    assert received(office) == [BEN]
    assert scene.states() == [State.FAILED, State.SENT]
    assert "550 5.1.1 No such mailbox" in str(scene.messages()[0].answer)


def test_it_refuses_one_for_now(scene: Scene, office: PostOffice) -> None:
    office.refuse[ANN] = "451 4.7.1 Greylisted"
    due(scene, ANN, BEN, CAT)
    scene.deliver()
    assert received(office) == [BEN, CAT]
    office.refuse.clear()
    deliver_for_hours(scene)
    assert received(office) == [ANN, BEN, CAT]


def test_it_is_down_and_comes_back(scene: Scene, office: PostOffice) -> None:
    due(scene, ANN, BEN)
    office.stop()
    deliver_for_hours(scene)
    assert scene.states() == [State.WAITING, State.WAITING]
    office.start()
    scene.clock.forward(hours=4)
    scene.deliver()
    assert received(office) == [ANN, BEN]
    assert scene.next_day() == []
    assert received(office) == [ANN, BEN]


def test_it_goes_down_in_the_middle(scene: Scene, office: PostOffice) -> None:
    due(scene, ANN, BEN, CAT)
    office.next("MAIL", Wait(0), *["421 4.3.2 Closing"] * 4)
    deliver_for_hours(scene)
    assert received(office) == [ANN, BEN, CAT]


def test_it_drops_the_connection_after_the_text_without_having_taken_it(
    scene: Scene, office: PostOffice
) -> None:
    due(scene, ANN, BEN)
    office.next("DOT", LOSE)
    deliver_for_hours(scene)
    assert received(office) == [ANN, BEN]
    assert scene.states() == [State.SENT, State.SENT]


def test_nobody_can_know_that_it_took_it_so_it_gets_the_same_once_more(
    scene: Scene, office: PostOffice
) -> None:
    due(scene, ANN, BEN)
    office.next("DOT", DROP)
    deliver_for_hours(scene)
    assert received(office) == [ANN, ANN, BEN]
    first, second = office.to(ANN)
    assert first.message_id == second.message_id


def test_it_answers_slowly(scene: Scene, office: PostOffice) -> None:
    due(scene, ANN, BEN)
    for verb in ("GREETING", "EHLO", "MAIL", "RCPT", "DATA", "DOT"):
        office.next(verb, Wait(0.3))
    deliver_for_hours(scene)
    assert received(office) == [ANN, BEN]
    assert office.connections == 1
