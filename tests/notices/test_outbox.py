"""The outbox: who may try what when, what became of it, and another try."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import date, timedelta
from itertools import pairwise

import pytest
from sqlalchemy import select, update

from tests.conftest import Person
from tests.faults.running import at_once
from tests.notices.scene import Scene
from vmtrak.access import SYSTEM
from vmtrak.audit import AuditEvent
from vmtrak.channels import Channel, Delayed, Parcel, Refused, Unreachable
from vmtrak.db import Database, Work
from vmtrak.errors import Conflict, Forbidden, NotFound
from vmtrak.notices import Message, NoticeRun, NotificationLog, State, outbox, retention

ANN, BEN, CAT = (f"{name}@elsewhere.example" for name in ("ann", "ben", "cat"))


def fault(error: Exception, *addresses: str) -> Callable[[Parcel], None]:
    """What goes wrong for these, or for all."""

    def raising(parcel: Parcel) -> None:
        if not addresses or parcel.address in addresses:
            raise error

    return raising


def works(_: Parcel) -> None:
    """Nothing goes wrong."""


def due(scene: Scene, *addresses: str) -> None:
    """A message waits for each of these."""
    for address in addresses:
        scene.add(f"of {address}", 7, owner=address)
    scene.plan()


def claimed(scene: Scene) -> Message | None:
    with scene.database.work(SYSTEM) as work:
        return outbox.claim(work, Channel.MAIL)


def events(scene: Scene, action: str) -> list[AuditEvent]:
    with scene.database.read() as session:
        chosen = select(AuditEvent).where(AuditEvent.action == action).order_by(AuditEvent.id)
        return list(session.scalars(chosen))


def change(scene: Scene, **values: object) -> None:
    with scene.database.work(SYSTEM) as work:
        work.session.execute(update(Message).values(**values))


def test_who_was_refused_stops_nobody_else_and_is_not_tried_again(scene: Scene) -> None:
    due(scene, ANN, BEN, CAT)
    scene.post.fault = fault(Refused("550 5.1.1 no such mailbox"), BEN)
    scene.deliver()
    assert scene.states() == [State.SENT, State.FAILED, State.SENT]
    assert scene.messages()[1].answer == "550 5.1.1 no such mailbox"
    scene.post.fault = works
    scene.clock.forward(hours=8)
    scene.deliver()
    assert [to for to, _ in scene.post.told()] == [ANN, CAT]


def test_who_was_delayed_is_tried_again_alone_with_growing_pauses(scene: Scene) -> None:
    due(scene, ANN, BEN)
    scene.post.fault = fault(Delayed("451 4.7.1 greylisted"), BEN)
    began, tries = scene.clock.moment, []
    while State.WAITING in scene.states():
        before = scene.messages()[1].attempts
        scene.deliver()
        if scene.messages()[1].attempts > before:
            tries.append(scene.clock.moment - began)
        scene.clock.forward(seconds=20 if len(tries) < 6 else 3600)
    seconds = [int(later.total_seconds()) for later in tries[:5]]
    assert seconds == [0, 20, 140, 440, 1340]
    assert all(b - a >= timedelta(hours=2) for a, b in pairwise(tries[7:]))
    assert timedelta(days=2, hours=18) < tries[-1] <= timedelta(days=3)
    assert scene.states() == [State.SENT, State.FAILED]
    assert [to for to, _ in scene.post.told()] == [ANN]


def test_the_first_repeat_comes_within_a_minute(scene: Scene) -> None:
    due(scene, ANN)
    scene.post.fault = fault(Unreachable("connection refused"))
    scene.deliver()
    scene.post.fault = works
    scene.clock.forward(seconds=19)
    assert not scene.deliver()
    scene.clock.forward(seconds=31)
    assert scene.deliver() == {State.SENT: 1}


def test_a_channel_that_is_down_is_asked_once_for_all_that_wait(scene: Scene) -> None:
    due(scene, ANN, BEN, CAT)
    asked = []

    def down(parcel: Parcel) -> None:
        asked.append(parcel)
        raise Unreachable("timed out")

    scene.post.fault = down
    scene.deliver()
    assert len(asked) == 1
    assert {(m.state, m.attempts, m.answer) for m in scene.messages()} == {
        (State.WAITING, 1, "timed out")
    }
    scene.clock.forward(seconds=20)
    scene.post.fault = works
    scene.deliver()
    assert [to for to, _ in scene.post.told()] == [ANN, BEN, CAT]


def test_a_channel_that_is_down_for_days_is_given_up_visibly(scene: Scene) -> None:
    due(scene, ANN, BEN)
    scene.post.fault = fault(Unreachable("no route to host"))
    for _ in range(40):
        scene.deliver()
        scene.clock.forward(hours=2)
    assert scene.states() == [State.FAILED, State.FAILED]
    found = events(scene, "notification.failed")
    assert [(e.entity_type, e.entity_name) for e in found] == [("notice", ANN), ("notice", BEN)]
    assert found[0].detail == {"channel": "mail", "vms": 1, "answer": "no route to host"}


def test_what_is_sent_is_in_the_trail(scene: Scene) -> None:
    due(scene, ANN)
    scene.deliver()
    (told,) = events(scene, "notification.sent")
    assert (told.username, told.entity_id) == ("system", scene.only().id)
    assert told.detail == {
        "channel": "mail",
        "vms": 1,
        "subject": "1 VM expires in 7 days",
    }


def test_what_one_has_taken_another_leaves_alone_until_the_lease_ends(scene: Scene) -> None:
    due(scene, ANN, BEN)
    first, second = claimed(scene), claimed(scene)
    assert first
    assert second
    assert (first.address, second.address) == (ANN, BEN)
    assert claimed(scene) is None
    scene.clock.forward(seconds=outbox.LEASE.total_seconds() - 1)
    assert claimed(scene) is None
    scene.clock.forward(seconds=1)
    again = claimed(scene)
    assert again
    assert (again.uid, again.attempts) == (first.uid, 2)


def test_who_has_lost_the_lease_notes_nothing(scene: Scene) -> None:
    due(scene, ANN)
    slow = claimed(scene)
    scene.clock.forward(minutes=16)
    quick = claimed(scene)
    assert slow
    assert quick
    notes: list[Callable[[Work], State]] = [
        lambda work: outbox.refused(work, slow, "550"),
        lambda work: outbox.delayed(work, slow, "450"),
        lambda work: outbox.dropped(work, slow, ()),
        lambda work: outbox.sent(work, slow, "250"),
    ]
    for note in notes:
        with scene.database.work(SYSTEM) as work:
            note(work)
        assert (scene.only().state, scene.only().lease) == (State.WAITING, quick.lease)
    with scene.database.work(SYSTEM) as work:
        outbox.sent(work, quick, "250 Ok")
    assert (scene.only().state, scene.only().answer) == (State.SENT, "250 Ok")


def test_many_that_claim_at_once_take_a_message_each(scene: Scene, database_url: str) -> None:
    due(scene, *(f"person{n}@elsewhere.example" for n in range(6)))
    taken: list[int | None] = []

    def claim(database: Database) -> None:
        with database.work(SYSTEM) as work:
            message = outbox.claim(work, Channel.MAIL)
        taken.append(message.id if message else None)

    with ExitStack() as stack:
        many = [stack.enter_context(closing(Database(database_url))) for _ in range(8)]
        at_once(8, lambda index: claim(many[index]))
    numbers = [number for number in taken if number is not None]
    assert len(numbers) == len(set(numbers)) == 6


@pytest.mark.parametrize("name", ["next_attempt_at", "leased_until"])
def test_times_of_a_clock_that_was_wrong_do_not_hold_it_up(scene: Scene, name: str) -> None:
    due(scene, ANN)
    change(scene, **{name: scene.clock.moment + timedelta(days=400)})
    assert scene.deliver() == {State.SENT: 1}


def test_nor_is_it_tried_for_years(scene: Scene) -> None:
    due(scene, ANN)
    change(scene, give_up_at=scene.clock.moment + timedelta(days=400))
    scene.post.fault = fault(Delayed("451"))
    scene.deliver()
    assert scene.only().give_up_at == scene.clock.moment + timedelta(days=3)


def test_a_message_that_takes_every_worker_down_is_given_up(scene: Scene) -> None:
    due(scene, ANN, BEN)
    change(scene, attempts=outbox.MOST_ATTEMPTS)
    assert claimed(scene) is None
    assert scene.states() == [State.FAILED, State.FAILED]


def test_whatever_the_server_answers_can_be_kept(scene: Scene) -> None:
    due(scene, ANN)
    scene.post.fault = fault(Refused("550 \0\r\n\ud800" + "x" * 5000))
    scene.deliver()
    answer = scene.only().answer
    assert answer
    assert answer.startswith("550     xxx")
    assert len(answer) == 1024


def test_sent_again_it_says_what_is_true_then(scene: Scene, admin: Person) -> None:
    due(scene, ANN)
    scene.post.fault = fault(Refused("550"))
    scene.deliver()
    scene.clock.forward(days=5)
    scene.post.fault = works
    with scene.database.work(admin.actor) as work:
        outbox.send_again(work, scene.rules, scene.only().id)
    scene.deliver()
    assert scene.post.told() == [(ANN, {f"of {ANN}": 2})]
    assert (scene.only().state, scene.only().attempts) == (State.SENT, 1)


def test_what_was_kept_can_be_sent_once_mail_is_on(scene: Scene, admin: Person) -> None:
    senders = scene.rules.senders
    scene.set(senders={})
    due(scene, ANN)
    with scene.database.work(admin.actor) as work, pytest.raises(Conflict, match="Mail is off"):
        outbox.send_again(work, scene.rules, scene.only().id)
    scene.set(senders=senders)
    scene.deliver()
    assert scene.states() == [State.KEPT]
    with scene.database.work(admin.actor) as work:
        outbox.send_again(work, scene.rules, scene.only().id)
    assert scene.deliver() == {State.SENT: 1}


def test_what_waits_or_is_out_cannot_be_sent_again(
    scene: Scene, admin: Person, operator: Person
) -> None:
    due(scene, ANN)
    for _ in range(2):
        with scene.database.work(admin.actor) as work, pytest.raises(Conflict):
            outbox.send_again(work, scene.rules, scene.only().id)
        scene.deliver()
    with scene.database.work(admin.actor) as work, pytest.raises(NotFound):
        outbox.send_again(work, scene.rules, 4711)
    with scene.database.work(operator.actor) as work, pytest.raises(Forbidden):
        outbox.send_again(work, scene.rules, scene.only().id)
    with scene.database.work(operator.actor) as work, pytest.raises(Forbidden):
        outbox.send_all_again(work, scene.rules)


def test_all_that_failed_can_be_sent_again(scene: Scene, admin: Person) -> None:
    due(scene, ANN, BEN, CAT)
    scene.post.fault = fault(Refused("554 blocked"), ANN, CAT)
    scene.deliver()
    scene.post.fault = works
    with scene.database.work(admin.actor) as work:
        assert outbox.send_all_again(work, scene.rules) == 2
    assert scene.deliver() == {State.SENT: 2}
    assert sorted(str(to) for to, _ in scene.post.told()) == [ANN, BEN, CAT]


# What is kept how long


def purge(scene: Scene) -> dict[str, int]:
    total: dict[str, int] = {}
    while True:
        with scene.database.work(SYSTEM) as work:
            gone = retention.purge(work, most=2)
        total = {name: total.get(name, 0) + n for name, n in gone.items()}
        if not any(gone.values()):
            return total


def test_what_nobody_needs_goes_and_nothing_is_told_a_second_time(scene: Scene) -> None:
    due(scene, ANN, BEN, CAT)
    scene.deliver()
    for days in (30, 60, 6):
        scene.clock.forward(days=days)
        assert not any(purge(scene).values())
    scene.clock.forward(days=2)
    assert purge(scene) == {"notification_log": 3, "messages": 0, "notice_runs": 0}
    assert scene.tell() == []
    scene.clock.forward(days=303)
    assert purge(scene) == {"notification_log": 0, "messages": 3, "notice_runs": 1}
    assert scene.tell() == []
    with scene.database.read() as session:
        assert len(session.scalars(select(NoticeRun)).all()) == 2


def test_a_message_of_a_wrong_clock_keeps_what_forbids_a_second_notice(scene: Scene) -> None:
    due(scene, ANN)
    scene.deliver()
    long_ago = scene.clock.moment - timedelta(days=5000)
    change(scene, ended_at=long_ago, created_at=long_ago, day=date(2012, 1, 1), digest_key=None)
    assert not any(purge(scene).values())
    assert scene.next_day() == []
    with scene.database.read() as session:
        assert len(session.scalars(select(NotificationLog)).all()) == 1


def test_what_waits_is_never_purged(scene: Scene) -> None:
    due(scene, ANN)
    scene.clock.forward(days=900)
    purge(scene)
    assert scene.states() == [State.WAITING]


def test_a_worker_whose_clock_is_behind_leaves_the_message_in_hand_alone(scene: Scene) -> None:
    scene.add("one", 7, owner=ANN)
    scene.plan()
    with scene.database.work(SYSTEM) as work:
        assert outbox.claim(work, Channel.MAIL)
    for seconds in (-1, -60, -1800):
        scene.clock.forward(seconds=seconds)
        with scene.database.work(SYSTEM) as work:
            assert outbox.claim(work, Channel.MAIL) is None


def test_a_long_pause_is_kept_by_a_worker_whose_clock_is_behind(scene: Scene) -> None:
    scene.add("one", 7, owner=ANN)
    scene.plan()
    with scene.database.work(SYSTEM) as work:
        message = work.session.scalars(select(Message)).one()
        message.next_attempt_at = work.moment + outbox.PAUSES[-1]
    scene.clock.forward(seconds=-120)
    assert scene.deliver() == {}
