"""Delivery: each message once, whatever goes wrong around it."""

import threading
import time

import pytest
from sqlalchemy import text, update

from tests.notices.scene import Post, Scene
from tests.notices.test_outbox import ANN, BEN, CAT, due, fault, works
from vmtrak.access import SYSTEM
from vmtrak.accounts import User
from vmtrak.channels import Channel, Parcel
from vmtrak.db import Database
from vmtrak.errors import Unavailable
from vmtrak.notices import Delivery, State, delivery, digests, outbox


def test_it_is_one_sender_for_all_and_it_is_closed(scene: Scene) -> None:
    made: list[Post] = []
    closed: list[Post] = []

    class Closing(Post):
        def close(self) -> None:
            closed.append(self)

    def make() -> Post:
        made.append(Closing())
        return made[-1]

    scene.set(senders={Channel.MAIL: make})
    due(scene, ANN, BEN, CAT)
    scene.deliver()
    assert len(made) == 1
    assert closed == made
    assert len(made[0].parcels) == 3
    scene.deliver()
    assert len(made) == 1


def test_a_bug_in_one_message_holds_up_no_other(scene: Scene) -> None:
    due(scene, ANN, BEN)
    scene.post.fault = fault(ValueError("a secret word"), ANN)
    scene.deliver()
    assert scene.states() == [State.WAITING, State.SENT]
    assert scene.messages()[0].answer == "An error within VMTrak; its log tells more."
    scene.post.fault = works
    scene.clock.forward(seconds=20)
    assert scene.deliver() == {State.SENT: 1}


def test_nor_does_one_that_cannot_be_written(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    due(scene, ANN, BEN)
    real = digests.letter

    def broken(*arguments: object) -> object:
        if getattr(arguments[2], "address", "") == ANN:
            raise ValueError
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(digests, "letter", broken)
    scene.deliver()
    assert scene.states() == [State.WAITING, State.SENT]


def test_an_account_without_an_address_fails_and_says_so(scene: Scene) -> None:
    with scene.database.work(SYSTEM) as work:
        broken = update(User).where(User.username == "rita").values(email="rita\r\nRCPT TO:<eve>")
        work.session.execute(broken, execution_options={"audited": True})
    scene.add("one", 7, owner="rita")
    scene.tell()
    assert scene.post.parcels == []
    assert (scene.only().state, scene.only().answer) == (
        State.FAILED,
        "Their account has no address to which mail can go.",
    )


def test_once_told_to_stop_it_begins_nothing_more(scene: Scene) -> None:
    due(scene, ANN, BEN)
    stopping = threading.Event()
    scene.post.fault = lambda _: stopping.set()
    deliver = Delivery(scene.database, scene.rules)
    assert deliver.run(stopping) == {State.SENT: 1}
    assert deliver.run(stopping) == {}
    assert scene.states() == [State.SENT, State.WAITING]


def held_up(scene: Scene) -> tuple[Delivery, threading.Event, threading.Event]:
    """A delivery whose mail server answers only when it is told to, and is asked by now."""
    asked, answer = threading.Event(), threading.Event()

    def slow(_: Parcel) -> None:
        asked.set()
        assert answer.wait(30)

    scene.post.fault = slow
    return Delivery(scene.database, scene.rules), asked, answer


def test_a_slow_mail_server_does_not_hold_up_the_other_channels(scene: Scene) -> None:
    slack = Post()
    scene.set(senders={**scene.rules.senders, Channel.SLACK: lambda: slack})
    due(scene, ANN)
    shared, asked, answer = held_up(scene)
    slow = threading.Thread(target=shared.run, args=(threading.Event(),))
    slow.start()
    assert asked.wait(30)
    assert shared.run(threading.Event()) == {State.SENT: 1}
    assert len(slack.parcels) == 1
    answer.set()
    slow.join()
    assert len(scene.post.parcels) == 1


def test_who_waits_for_a_turn_waits_until_told_to_stop(scene: Scene) -> None:
    due(scene, ANN, BEN)
    shared, asked, answer = held_up(scene)
    slow = threading.Thread(target=shared.run, args=(threading.Event(),))
    slow.start()
    assert asked.wait(30)
    stopping = threading.Event()
    waiting = threading.Thread(target=lambda: shared.run(stopping, wait=True))
    waiting.start()
    time.sleep(0.3)
    assert waiting.is_alive()
    stopping.set()
    waiting.join(5)
    assert not waiting.is_alive()
    answer.set()
    slow.join()
    assert len(scene.post.parcels) == 2


def test_an_outcome_that_cannot_be_noted_at_once_is_noted_a_little_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    due(scene, ANN)
    monkeypatch.setattr(delivery, "PAUSES", (0.01, 0.01, 0.01))
    real, refused = outbox.sent, [1, 2]

    def full(*arguments: object, **named: object) -> State:
        if refused:
            refused.pop()
            raise Unavailable
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(outbox, "sent", full)
    assert scene.deliver() == {State.SENT: 1}
    assert len(scene.post.parcels) == 1
    assert scene.states() == [State.SENT]


def test_sent_and_not_noted_it_is_repeated_once_with_the_same_number(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    due(scene, ANN, BEN)

    def killed(*_: object, **__: object) -> State:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "sent", killed)
        with pytest.raises(KeyboardInterrupt):
            scene.deliver()
    scene.deliver()
    assert [to for to, _ in scene.post.told()] == [ANN, BEN]
    scene.clock.forward(minutes=15)
    scene.deliver()
    scene.clock.forward(minutes=15)
    scene.deliver()
    assert [to for to, _ in scene.post.told()] == [ANN, BEN, ANN]
    assert scene.post.parcels[0].uid == scene.post.parcels[2].uid != scene.post.parcels[1].uid


def test_what_was_sent_and_not_noted_and_is_untrue_by_then_is_rather_told_again_than_lost(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = scene.add("one", 7, owner=ANN)

    def killed(*_: object, **__: object) -> State:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "sent", killed)
        with pytest.raises(KeyboardInterrupt):
            scene.tell()
    scene.change(vm, status="inactive")
    scene.clock.forward(minutes=15)
    assert scene.deliver() == {State.DROPPED: 1}
    scene.change(vm, status="active")
    assert scene.next_day() == [(ANN, {"one": 6})]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_with_nothing_to_send_nobody_is_kept_from_writing(scene: Scene, database_url: str) -> None:
    due(scene, ANN)
    scene.deliver()
    other = Database(database_url)
    with other.work(SYSTEM) as work:
        work.session.execute(text("SELECT 1"))
        assert scene.deliver() == {}
        assert scene.plan() is None
    other.close()


def test_two_deliveries_at_once_send_each_message_once(scene: Scene, database_url: str) -> None:
    due(scene, *(f"person{n}@elsewhere.example" for n in range(12)))
    scene.post.fault = lambda _: time.sleep(0.01)
    other = Database(database_url)
    deliveries = [Delivery(scene.database, scene.rules), Delivery(other, scene.rules)]
    threads = [threading.Thread(target=one.run, args=(threading.Event(),)) for one in deliveries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert len(scene.post.parcels) == len({parcel.uid for parcel in scene.post.parcels}) == 12
    assert set(scene.states()) == {State.SENT}


def test_what_waits_for_a_channel_that_is_turned_off_is_kept_and_does_not_go_out_later(
    scene: Scene,
) -> None:
    scene.add("one", 7, owner=ANN)
    scene.plan()
    on = scene.rules
    scene.set(senders={})
    assert scene.deliver() == {State.KEPT: 1}
    assert scene.only().answer == "The channel was turned off before it was sent."
    scene.rules = on
    scene.clock.forward(days=1)
    assert scene.deliver() == {}
    with scene.database.work(SYSTEM) as work:
        outbox.send_again(work, scene.rules, scene.only().id)
    assert scene.deliver() == {State.SENT: 1}
    assert scene.post.told() == [(ANN, {"one": 6})]
