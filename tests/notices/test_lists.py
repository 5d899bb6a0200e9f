"""What the pages of notices are made of: who may ask, filters, cursors, counts, what is due."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from tests.conftest import Person
from tests.notices.scene import Scene
from vmtrak import inventory
from vmtrak.access import SYSTEM
from vmtrak.channels import Channel, Delayed, Parcel, Refused
from vmtrak.db import iso
from vmtrak.errors import Conflict, Forbidden, Invalid, NotFound
from vmtrak.fields import parse
from vmtrak.inventory import NewVM
from vmtrak.notices import Message, NoticeRun, Trigger, lists, outbox, planning, trials
from vmtrak.notices.lists import MessageQuery

NOWHERE = 999_999_999


def ask(person: Person, call: Callable[..., Any], *arguments: Any) -> Any:
    with person.database.read() as session:
        return call(session, person.actor, *arguments)


def listed(person: Person, **query: Any) -> list[dict[str, Any]]:
    return list(ask(person, lists.page, parse(MessageQuery, query)).rows)


def recipients(rows: list[dict[str, Any]]) -> list[str]:
    return [row["recipient"] for row in rows]


def answering(scene: Scene, **faults: Exception) -> None:
    """Let the post raise these for the addresses that begin so."""

    def fault(parcel: Parcel) -> None:
        error = faults.get((parcel.address or "").partition("@")[0])
        if error is not None:
            raise error

    scene.post.fault = fault


@pytest.fixture
def outcome(scene: Scene) -> None:
    """One message of each kind of outcome: sent, failed, waiting, kept."""
    scene.user("ada", notify_expiry=True)
    scene.add("vm-a", 0, owner="rita")
    scene.add("vm-b", 1, owner="bob@elsewhere.example")
    scene.add("vm-c", 7, owner="cyd@elsewhere.example")
    answering(scene, bob=Refused("550 no such user"), cyd=Delayed("451 later"))
    scene.tell()
    senders, scene.rules.senders[Channel.SLACK] = dict(scene.rules.senders), lambda: scene.post
    planning.run_now(scene.database, scene.rules, SYSTEM, scene.today, Trigger.PERSON)
    scene.rules.senders.clear()
    scene.rules.senders.update(senders)
    with scene.database.work(SYSTEM) as work:
        newest = lists.page(work.session, SYSTEM, MessageQuery()).rows[0]["id"]
        message = work.session.get_one(Message, newest)
        message.state = "kept"


@pytest.mark.usefixtures("outcome")
def test_the_newest_message_is_first_and_each_tells_what_became_of_it(admin: Person) -> None:
    rows = {row["recipient"]: row for row in listed(admin)}
    assert set(rows) == {"ada", "rita", "bob@elsewhere.example", "cyd@elsewhere.example", "Slack"}
    assert [row["id"] for row in listed(admin)] == sorted(
        (row["id"] for row in rows.values()), reverse=True
    )
    ada, bob = rows["ada"], rows["bob@elsewhere.example"]
    assert (ada["state"], ada["sent_to"], ada["vms"]) == ("sent", "ada@vmtrak.example", 3)
    assert (ada["answer"], ada["attempts"], ada["day"]) == ("250 Ok", 1, "2027-03-01")
    assert ada["subject"] == "1 VM expires today, 1 tomorrow, 1 in 7 days"
    assert (ada["ended_at"], ada["next_attempt_at"]) == ("2027-03-01T03:00:00Z", None)
    assert (bob["state"], bob["answer"], bob["user_id"]) == ("failed", "550 no such user", None)
    assert bob["sent_to"] == "bob@elsewhere.example"
    assert rows["cyd@elsewhere.example"]["state"] == "waiting"
    assert rows["cyd@elsewhere.example"]["next_attempt_at"] == "2027-03-01T03:00:20Z"
    assert (rows["Slack"]["channel"], rows["Slack"]["state"]) == ("slack", "kept")


@pytest.mark.usefixtures("outcome")
def test_state_channel_and_day_filter_the_list(admin: Person) -> None:
    assert recipients(listed(admin, state="failed")) == ["bob@elsewhere.example"]
    assert recipients(listed(admin, channel="slack")) == ["Slack"]
    assert recipients(listed(admin, channel="mail", state="waiting")) == ["cyd@elsewhere.example"]
    assert len(listed(admin, day="2027-03-01")) == 5
    assert listed(admin, day="2027-03-02") == []
    assert len(listed(admin, state="", channel="", day="")) == 5
    assert ask(admin, lists.page, MessageQuery(state="sent", limit=1)).total == 2


@pytest.mark.parametrize(
    "query", [{"state": "lost"}, {"channel": "pigeon"}, {"day": "2027-02-30"}, {"cursor": "x"}]
)
def test_what_the_list_cannot_be_asked_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        parse(MessageQuery, query)


@pytest.mark.usefixtures("outcome")
def test_pages_and_cursors_give_each_message_once(admin: Person) -> None:
    everything = [row["id"] for row in listed(admin)]
    for limit in range(1, 7):
        by_page = [row["id"] for n in range(1, 7) for row in listed(admin, page=n, limit=limit)]
        by_cursor: list[int] = []
        cursor = None
        while True:
            page = ask(admin, lists.page, MessageQuery(limit=limit, cursor=cursor))
            assert (page.total, page.limit) == (5, limit)
            by_cursor += [row["id"] for row in page.rows]
            if page.next is None:
                break
            cursor = int(page.next)
        assert by_page == by_cursor == everything


def test_only_those_who_keep_the_users_see_messages(
    scene: Scene, people: dict[str, Person]
) -> None:
    for name in ("operator", "auditor", "reader"):
        for call, more in (
            (lists.page, (MessageQuery(),)),
            (lists.get, (1,)),
            (lists.due, (scene.rules, scene.today)),
        ):
            with pytest.raises(Forbidden):
                ask(people[name], call, *more)
    assert ask(people["operator"], lists.standing, scene.rules, scene.clock.moment)
    for name in ("auditor", "reader"):
        with pytest.raises(Forbidden):
            ask(people[name], lists.standing, scene.rules, scene.clock.moment)


def test_a_message_names_the_vms_it_tells_of(scene: Scene, admin: Person) -> None:
    scene.user("ada", notify_expiry=True)
    first, second = scene.add("later", 7), scene.add("now", 0)
    scene.tell()
    told = ask(admin, lists.get, scene.only().id)["vms_told"]
    assert [(one["vm_id"], one["vm_name"], one["notice_type"]) for one in told] == [
        (second, "now", "0d"),
        (first, "later", "7d"),
    ]
    assert (told[0]["expiry_date"], told[0]["in_trash"]) == ("2027-03-01", False)
    scene.remove(second)
    told = ask(admin, lists.get, scene.only().id)["vms_told"]
    assert [(one["vm_name"], one["in_trash"]) for one in told] == [("now", True), ("later", False)]
    with pytest.raises(NotFound):
        ask(admin, lists.get, NOWHERE)


def test_a_vm_tells_who_was_told_of_it(scene: Scene, people: dict[str, Person]) -> None:
    scene.user("ada", notify_expiry=True)
    number = scene.add("vm-a", 1, owner="rita")
    other = scene.add("vm-b", 1)
    scene.tell()
    scene.next_day()
    for name in ("admin", "operator", "auditor"):
        rows = ask(people[name], lists.of_vm, number)
        assert [(row["recipient"], row["notice_type"]) for row in rows] in (
            [("rita", "0d"), ("ada", "0d"), ("rita", "1d"), ("ada", "1d")],
            [("ada", "0d"), ("rita", "0d"), ("ada", "1d"), ("rita", "1d")],
        )
        assert {(row["state"], row["channel"], row["answer"]) for row in rows} == {
            ("sent", "mail", "250 Ok")
        }
        assert {row["at"][:10] for row in rows} == {"2027-03-01", "2027-03-02"}
    assert {row["recipient"] for row in ask(people["admin"], lists.of_vm, other)} == {"ada"}


def test_a_reader_does_not_learn_who_was_told(scene: Scene, people: dict[str, Person]) -> None:
    number = scene.add("vm-a", 1, owner="rita")
    scene.tell()
    with pytest.raises(Forbidden):
        ask(people["reader"], lists.of_vm, number)
    scene.remove(number)
    for vm in (number, NOWHERE):
        with pytest.raises(NotFound):
            ask(people["admin"], lists.of_vm, vm)


def test_what_is_due_is_what_the_next_run_sends(scene: Scene, admin: Person) -> None:
    scene.user("ada", notify_expiry=True)
    for n, days in enumerate((0, 0, 1, 5, 7, -7, -15)):
        scene.add(f"vm-{n}", days, owner="rita" if n == 0 else None)
    due = {row["recipient"]: row for row in ask(admin, lists.due, scene.rules, scene.today)}
    ada = due["ada"]
    assert (ada["vms"], ada["channel"], ada["address"]) == (7, "mail", "ada@vmtrak.example")
    assert ada["groups"] == {"today": 2, "tomorrow": 1, "soon": 2, "overdue": 2}
    assert ada["first"] == ["vm-0", "vm-1", "vm-2", "vm-3", "vm-4"]
    assert (due["rita"]["vms"], due["rita"]["first"]) == (1, ["vm-0"])
    assert scene.messages() == []
    scene.tell()
    assert {message.vms for message in scene.messages()} == {7, 1}
    assert ask(admin, lists.due, scene.rules, scene.today) == []


def test_so_many_recipients_are_shown_and_no_more(scene: Scene, admin: Person) -> None:
    for n in range(4):
        scene.add(f"vm-{n}", 0, owner=f"owner{n}@elsewhere.example")
    assert len(ask(admin, lists.due, scene.rules, scene.today, 3)) == 3
    found = ask(admin, lists.due, scene.rules, scene.today)
    assert {row["user_id"] for row in found} == {None}
    assert {row["recipient"] for row in found} == {row["address"] for row in found}


def standing(scene: Scene, admin: Person, **later: float) -> dict[str, Any]:
    scene.clock.forward(**later)
    found: dict[str, Any] = ask(admin, lists.standing, scene.rules, scene.clock.moment)
    return found


def test_the_standing_follows_the_day(scene: Scene, admin: Person) -> None:
    found = standing(scene, admin, minutes=-31)  # 07:59
    assert (found["late"], found["last_run"]) == (False, None)
    assert found["next_run_at"] == "2027-03-01T02:30:00Z"
    assert not standing(scene, admin, minutes=15)["late"]  # 08:14
    found = standing(scene, admin, minutes=1)
    assert (found["late"], found["next_run_at"]) == (True, "2027-03-01T02:30:00Z")
    scene.plan()
    found = standing(scene, admin)
    assert (found["late"], found["next_run_at"]) == (False, "2027-03-02T02:30:00Z")
    assert found["last_run"] == {
        "day": "2027-03-01",
        "trigger": "schedule",
        "started_by": "system",
        "started_at": "2027-03-01T02:45:00Z",
        "finished_at": "2027-03-01T02:45:00Z",
        "vms": 0,
        "messages": 0,
    }
    assert not standing(scene, admin, hours=23)["late"]
    assert standing(scene, admin, minutes=60)["late"]


def test_a_run_that_was_never_finished_is_late(scene: Scene, admin: Person) -> None:
    scene.plan()
    with scene.database.work(SYSTEM) as work:
        work.session.get_one(NoticeRun, 1).finished_at = None
    assert standing(scene, admin)["late"]
    assert standing(scene, admin)["last_run"]["finished_at"] is None


def test_a_run_at_somebodys_wish_is_the_last_one_but_not_the_days(
    scene: Scene, admin: Person
) -> None:
    scene.add("one", 7, owner="gwen@elsewhere.example")
    for _ in range(2):  # the second has nothing to tell, and hides nothing
        planning.run_now(scene.database, scene.rules, admin.actor, scene.today, Trigger.PERSON)
    found = standing(scene, admin)
    assert (found["last_run"]["trigger"], found["last_run"]["started_by"]) == ("person", "ada")
    assert found["last_run"]["messages"] == 1
    assert found["late"]


def test_a_message_in_hand_says_when_it_would_be_taken_over(scene: Scene, admin: Person) -> None:
    scene.add("one", 7, owner="gwen@elsewhere.example")
    scene.plan()
    with scene.database.work(SYSTEM) as work:
        held = outbox.claim(work, Channel.MAIL)
    assert held
    row = ask(admin, lists.get, held.id)
    assert row["next_attempt_at"] == iso(scene.clock.moment + outbox.LEASE)


@pytest.mark.parametrize(
    ("owner", "reached"),
    [
        ("rita", True),
        ("RITA@vmtrak.example", True),
        ("gwen@elsewhere.example", True),
        ("Gwen <gwen@elsewhere.example>", False),
        ("ritta", False),
        ("gwen@elsewhere.example, eve@elsewhere.example", False),
    ],
)
def test_the_vm_s_page_says_if_its_owner_is_not_reached(
    admin: Person, owner: str, *, reached: bool
) -> None:
    with admin.database.work(SYSTEM) as work:
        vm = inventory.add(work, NewVM(vm_name="one", owner=owner))
    page = admin.panel.get(f"/admin/vm/details/{vm.id}").text
    assert ("The owner is not told" in page) is not reached


def test_the_vm_s_page_says_that_a_closed_account_is_not_reached(
    admin: Person, scene: Scene
) -> None:
    number = scene.add("one", 7, owner="rita")
    scene.user("rita", is_active=False)
    assert "The owner is not told" in admin.panel.get(f"/admin/vm/details/{number}").text


@pytest.mark.usefixtures("outcome")
def test_the_standing_counts_what_wants_a_look(scene: Scene, admin: Person) -> None:
    found = standing(scene, admin)
    assert (found["mail"], found["channels"]) == (True, ["mail"])
    assert [found[state] for state in ("waiting", "failed", "kept")] == [1, 1, 1]
    scene.rules.senders.clear()
    found = standing(scene, admin)
    assert (found["mail"], found["channels"]) == (False, [])


def test_a_test_mail_goes_to_the_person_who_asks(scene: Scene, admin: Person) -> None:
    with scene.database.work(admin.actor) as work:
        trials.send(work, scene.rules, Channel.MAIL)
    scene.deliver()
    row = ask(admin, lists.get, scene.only().id)
    assert (row["kind"], row["recipient"], row["sent_to"]) == ("test", "ada", "ada@vmtrak.example")
    assert (row["state"], row["vms_told"], row["subject"]) == ("sent", [], "VMTrak: a test message")


def test_each_channel_can_be_tested_while_it_is_on(scene: Scene, admin: Person) -> None:
    others = [channel for channel in Channel if channel is not Channel.MAIL]
    for channel in others:
        with scene.database.work(admin.actor) as work, pytest.raises(Conflict, match="VMTRAK_"):
            trials.send(work, scene.rules, channel)
        scene.rules.senders[channel] = lambda: scene.post
        with scene.database.work(admin.actor) as work:
            trials.send(work, scene.rules, channel)
    assert recipients(listed(admin)) == ["Slack", "Teams", "Webhook"]
    scene.deliver()
    assert {row["state"] for row in listed(admin)} == {"sent"}
    assert [parcel.address for parcel in scene.post.parcels] == [None, None, None]


def test_only_a_person_can_have_a_test_mail(scene: Scene, operator: Person) -> None:
    with scene.database.work(operator.actor) as work, pytest.raises(Forbidden):
        trials.send(work, scene.rules, Channel.MAIL)
    with scene.database.work(SYSTEM) as work, pytest.raises(Conflict, match="nobody"):
        trials.send(work, scene.rules, Channel.MAIL)


def test_what_is_due_for_many_people_takes_few_queries(scene: Scene, admin: Person) -> None:
    scene.user("rita", notify_expiry=True)
    for n in range(60):
        scene.add(f"vm-{n:02}", (0, 7, -7)[n % 3], owner=f"owner{n}@elsewhere.example")
    seen: list[str] = []
    engine = scene.database.engine

    def count(*arguments: Any) -> None:
        seen.append(arguments[2])

    event.listen(engine, "before_cursor_execute", count)
    try:
        rows = ask(admin, lists.due, scene.rules, scene.today)
    finally:
        event.remove(engine, "before_cursor_execute", count)
    assert len(rows) == 60
    assert len(seen) < 20


def test_of_many_people_each_is_shown_what_they_have_not_been_told(
    scene: Scene, admin: Person
) -> None:
    for n in range(30):
        scene.add(f"told-{n:02}", 0, owner=f"owner{n:02}@elsewhere.example")
    scene.tell()
    scene.clock.forward(days=1)
    for n in range(0, 30, 2):
        scene.add(f"new-{n:02}", 7, owner=f"owner{n:02}@elsewhere.example")
    rows = ask(admin, lists.due, scene.rules, scene.today)
    told = {row["recipient"].partition("@")[0]: row["first"] for row in rows}
    assert told == {f"owner{n:02}": [f"new-{n:02}"] for n in range(0, 30, 2)}
    scene.tell()
    assert ask(admin, lists.due, scene.rules, scene.today) == []


def test_only_notices_that_failed_lately_are_sent_again_together(
    scene: Scene, admin: Person
) -> None:
    scene.add("old", 0, owner="old@elsewhere.example")
    answering(scene, old=Refused("550"), new=Refused("550"), ada=Refused("550"))
    scene.tell()
    scene.clock.forward(days=3, seconds=1)
    scene.add("new", 0, owner="new@elsewhere.example")
    with scene.database.work(admin.actor) as work:
        trials.send(work, scene.rules, Channel.MAIL)
    scene.tell()
    assert ask(admin, lists.standing, scene.rules, scene.clock.moment)["failed"] == 3
    with scene.database.read() as session:
        assert outbox.may_be_sent_again(session, scene.rules, scene.clock.moment) == 1
    with scene.database.work(admin.actor) as work:
        assert outbox.send_all_again(work, scene.rules) == 1
    waiting = {message.recipient for message in scene.messages() if message.state == "waiting"}
    assert waiting == {"address:new@elsewhere.example"}


def test_while_its_channel_is_off_nothing_that_failed_is_sent_again(
    scene: Scene, admin: Person
) -> None:
    scene.add("new", 0, owner="new@elsewhere.example")
    answering(scene, new=Refused("550"))
    scene.tell()
    scene.rules.senders.clear()
    with scene.database.work(admin.actor) as work:
        assert outbox.may_be_sent_again(work.session, scene.rules, work.moment) == 0
        assert outbox.send_all_again(work, scene.rules) == 0
