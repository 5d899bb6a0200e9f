"""What is sent is true when it is sent; what was not told can become due again."""

from typing import Any

import pytest
from sqlalchemy import event

from tests.conftest import PASSWORD, Person
from tests.notices.scene import Post, Scene
from vmtrak import inventory
from vmtrak.access import SYSTEM
from vmtrak.accounts import NewUser, users
from vmtrak.channels import Channel, Digest, Group, Trial, Unreachable
from vmtrak.notices import State, digests, planning, trials

GWEN = "gwen@elsewhere.example"
RITA = "rita@vmtrak.example"


def waiting(scene: Scene, *names: str, **fields: str) -> list[int]:
    """VMs a week from their end, of which messages tell that wait to be sent."""
    numbers = [scene.add(name, 7, **{"owner": GWEN, **fields}) for name in names]
    scene.plan()
    return numbers


def test_it_says_what_each_vm_is_and_how_many_there_are(scene: Scene) -> None:
    fields = {"owner": GWEN, "ip_address": "192.0.2.7", "environment": "test"}
    week, today, past = (scene.add(f"in {days}", days, **fields) for days in (7, 0, -9))
    scene.tell()
    ((to, digest),) = scene.post.digests
    assert to == GWEN
    assert digest.day == scene.today
    assert [line.vm_id for line in digest.lines] == [today, week, past]
    assert digest.counts == {Group.TODAY: 1, Group.SOON: 1, Group.OVERDUE: 1}
    line = digest.lines[0]
    assert (line.vm_name, line.ip_address, line.environment) == ("in 0", "192.0.2.7", "test")
    assert (line.owner, line.expiry_date, line.days) == (GWEN, scene.today, 0)
    sent = scene.only()
    assert (sent.subject, sent.sent_to) == ("1 VM expires today, 1 in 7 days, 1 overdue", GWEN)


def test_the_days_are_those_left_when_it_is_sent(scene: Scene) -> None:
    waiting(scene, "one")
    scene.clock.forward(days=2)
    scene.deliver()
    assert scene.post.told() == [(GWEN, {"one": 5})]
    assert scene.post.digests[0][1].day == scene.today


def test_what_is_no_longer_true_is_left_out_and_can_become_due_again(scene: Scene) -> None:
    stays, extended, retired, removed, given = waiting(scene, *"abcde")
    scene.extend(extended, 90)
    scene.change(retired, status="inactive")
    scene.remove(removed)
    scene.change(given, owner="hugh@elsewhere.example")
    scene.deliver()
    assert scene.post.told() == [(GWEN, {"a": 7})]
    assert scene.log() == [("7d", stays)]
    assert scene.only().vms == 1
    scene.change(retired, status="active")
    with scene.database.work(SYSTEM) as work:
        inventory.restore(work, removed)
    assert scene.next_day() == [(GWEN, {"c": 6, "d": 6}), ("hugh@elsewhere.example", {"e": 6})]


def test_without_anything_left_to_tell_nothing_is_sent(scene: Scene) -> None:
    (vm,) = waiting(scene, "one")
    scene.change(vm, status="inactive")
    scene.deliver()
    assert scene.post.parcels == []
    assert scene.only().state == State.DROPPED
    assert (scene.only().vms, scene.log()) == (0, [])
    scene.change(vm, status="active")
    assert scene.next_day() == [(GWEN, {"one": 6})]


def test_a_day_whose_digest_was_dropped_may_have_another(scene: Scene) -> None:
    (vm,) = waiting(scene, "one")
    scene.change(vm, status="inactive")
    scene.deliver()
    scene.change(vm, status="active")
    with scene.database.read() as session:
        found = [who.address for who, _ in planning.preview(session, scene.rules, scene.today)]
    assert found == [GWEN]


def test_what_changed_and_was_changed_back_is_told(scene: Scene) -> None:
    (vm,) = waiting(scene, "one")
    scene.extend(vm, 30)
    scene.change(vm, status="inactive", owner="rita")
    scene.extend(vm, 7)
    scene.change(vm, status="active", owner=GWEN)
    scene.deliver()
    assert scene.post.told() == [(GWEN, {"one": 7})]


def test_a_closed_account_is_not_told_and_is_told_when_it_is_open_again(scene: Scene) -> None:
    scene.add("one", 7, owner="rita")
    scene.plan()
    scene.user("rita", is_active=False)
    scene.deliver()
    assert (scene.states(), scene.log()) == ([State.DROPPED], [])
    scene.user("rita", is_active=True)
    assert scene.next_day() == [(RITA, {"one": 6})]


def test_who_unsubscribed_is_told_of_their_own_alone(scene: Scene) -> None:
    scene.user("rita", notify_expiry=True)
    scene.add("own", 7, owner="rita")
    scene.add("seen", 7, department="Finance")
    scene.plan()
    scene.user("rita", notify_expiry=False)
    scene.deliver()
    assert scene.post.told() == [(RITA, {"own": 7})]


def test_who_sees_less_is_told_of_less(scene: Scene) -> None:
    scene.user("rita", notify_expiry=True)
    moved = scene.add("moved", 7, department="Finance")
    scene.add("one", 7, department="Finance")
    scene.add("own", 7, owner="rita@vmtrak.example")
    scene.plan()
    scene.change(moved, department="Logistics")
    scene.deliver()
    assert scene.post.told() == [(RITA, {"one": 7, "own": 7})]


def test_another_department_is_another_view(scene: Scene) -> None:
    scene.user("rita", notify_expiry=True)
    scene.add("one", 7, department="Finance")
    scene.add("two", 1, department="Logistics")
    scene.plan()
    scene.user("rita", department="Logistics")
    scene.deliver()
    assert scene.post.told() == []
    assert scene.next_day() == [(RITA, {"two": 0})]


def test_a_new_address_gets_what_waits(scene: Scene) -> None:
    scene.add("one", 7, owner="rita")
    scene.plan()
    scene.user("rita", email="rita@new.example")
    scene.deliver()
    assert scene.post.told() == [("rita@new.example", {"one": 7})]
    assert scene.only().sent_to == "rita@new.example"
    assert scene.next_day() == []


def newcomer(scene: Scene, email: str) -> None:
    with scene.database.work(SYSTEM) as work:
        new = {"username": "gwen", "email": email, "role": "admin", "password": PASSWORD}
        users.add(work, NewUser.model_validate(new))


def test_an_address_that_became_a_closed_account_s_is_told_nothing(scene: Scene) -> None:
    waiting(scene, "one")
    newcomer(scene, GWEN)
    scene.user("gwen", is_active=False)
    scene.deliver()
    assert scene.post.parcels == []
    assert scene.states() == [State.DROPPED]


def down(_: object) -> None:
    raise Unreachable("no route")


def test_two_that_wait_do_not_tell_of_the_same_vm(scene: Scene) -> None:
    scene.add("one", 2, owner=GWEN)
    scene.add("two", 7, owner=GWEN)
    scene.post.fault = down
    scene.tell()
    assert scene.next_day() == []
    scene.post.fault = lambda _: None
    scene.clock.forward(hours=5)
    scene.deliver()
    assert sorted(map(str, scene.post.told())) == sorted(
        map(str, [(GWEN, {"two": 6}), (GWEN, {"one": 1})])
    )


def test_nor_if_their_reader_got_an_account_in_between(scene: Scene) -> None:
    scene.add("one", 2, owner=GWEN)
    scene.post.fault = down
    scene.tell()
    newcomer(scene, GWEN)
    assert scene.next_day() == []
    scene.post.fault = lambda _: None
    scene.clock.forward(hours=5)
    scene.deliver()
    assert scene.post.told() == [(GWEN, {"one": 1})]
    assert sorted(scene.states()) == [State.DROPPED, State.SENT]


def test_of_very_many_it_names_the_first_and_counts_all(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "MOST_LINES", 3)
    for number in range(5):
        scene.add(f"vm{number}", number % 2, owner=GWEN)
    scene.tell()
    ((_, digest),) = scene.post.digests
    assert [line.vm_name for line in digest.lines] == ["vm0", "vm2", "vm4"]
    assert digest.counts == {Group.TODAY: 3, Group.TOMORROW: 2}
    assert scene.only().vms == 5


def test_a_test_message_goes_out_as_one(scene: Scene, admin: Person) -> None:
    with scene.database.work(admin.actor) as work:
        trials.send(work, scene.rules, Channel.MAIL)
    scene.deliver()
    (parcel,) = scene.post.parcels
    assert parcel.address == "ada@vmtrak.example"
    assert parcel.content == Trial(scene.today, "ada")
    assert scene.states() == [State.SENT]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_change_while_it_is_written_does_not_come_half_into_it(scene: Scene) -> None:
    first, second = waiting(scene, "one", "two")
    seen: list[str] = []

    def change(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "notification_log" in statement and "SELECT" in statement and not seen:
            seen.append(statement)
        elif "count(*)" in statement and "CASE" in statement and len(seen) == 1:
            seen.append(statement)
            scene.change(second, status="inactive")

    event.listen(scene.database.engine, "before_cursor_execute", change)
    scene.deliver()
    event.remove(scene.database.engine, "before_cursor_execute", change)
    assert len(seen) == 2
    ((_, digest),) = scene.post.digests
    assert (digest.total, len(digest.lines)) == (2, 2)
    assert scene.log() == [("7d", first), ("7d", second)]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("subscribed", [True, False])
def test_writing_one_starts_with_its_own_rows(scene: Scene, *, subscribed: bool) -> None:
    """Not with all VMs of the person, which may be very many."""
    scene.user("rita", notify_expiry=subscribed, role="read")
    scene.add("one", 7, owner="rita", department="Finance")
    scene.plan()
    asked: list[tuple[str, Any]] = []

    def watch(_connection: object, _cursor: object, *told: Any) -> None:
        if "JOIN vms" in str(told[0]):
            asked.append((str(told[0]), told[1]))

    engine = scene.database.engine
    event.listen(engine, "before_cursor_execute", watch)
    scene.deliver()
    event.remove(engine, "before_cursor_execute", watch)
    assert len(asked) == 4
    with engine.connect() as connection:
        for statement, values in asked:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            steps = [str(row[-1]) for row in rows]
            assert "notification_log USING INDEX ix_notification_log_message_id" in steps[0]
            assert "SEARCH vms USING INTEGER PRIMARY KEY (rowid=?)" in steps


def test_each_of_several_channels_gets_it(scene: Scene) -> None:
    slack = Post()
    scene.set(senders={**scene.rules.senders, Channel.SLACK: lambda: slack})
    vm = scene.add("one", 7, owner=GWEN)
    scene.plan()
    scene.change(vm, owner="nobody")
    scene.deliver()
    assert scene.post.told() == []
    assert slack.told() == [(None, {"one": 7})]
    assert isinstance(slack.parcels[0].content, Digest)


def test_a_vm_that_lost_its_owner_can_become_due_again(scene: Scene) -> None:
    stays = scene.add("stays", 7, owner=GWEN)
    lost = scene.add("lost", 7, owner=GWEN)
    scene.plan()
    scene.change(lost, owner=None)
    scene.deliver()
    assert scene.post.told() == [(GWEN, {"stays": 7})]
    assert scene.log() == [("7d", stays)]
    scene.change(lost, owner=GWEN)
    assert scene.next_day() == [(GWEN, {"lost": 6})]


def test_an_owner_written_in_another_spelling_of_an_account_s_address_is_that_account(
    scene: Scene,
) -> None:
    with scene.database.work(SYSTEM) as work:
        new = {"username": "ida", "email": "ida@bücher.example", "role": "admin"}
        users.add(work, NewUser.model_validate({**new, "password": PASSWORD}))
    scene.user("ida", notify_expiry=True)
    scene.add("one", 7, owner="ida@xn--bcher-kva.example")
    assert scene.tell() == [("ida@bücher.example", {"one": 7})]
    scene.user("ida", notify_expiry=False)
    scene.add("two", 1, owner="ida@xn--bcher-kva.example")
    assert scene.next_day() == [("ida@bücher.example", {"two": 0})]
