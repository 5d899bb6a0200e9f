"""What is due is told at its stage, once; when a run is due, and which one does it."""

import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event, insert, select, text
from sqlalchemy.exc import IntegrityError

from tests.conftest import Person
from tests.faults.running import at_once
from tests.notices.scene import TODAY, Scene
from vmtrak import inventory
from vmtrak.access import SYSTEM
from vmtrak.channels import Channel
from vmtrak.db import Database
from vmtrak.errors import Forbidden
from vmtrak.inventory import VM
from vmtrak.notices import (
    NoticeRun,
    NotificationLog,
    Schedule,
    State,
    Trigger,
    planning,
    recipients,
)

ADA = "ada@vmtrak.example"
GWEN = "gwen@elsewhere.example"
MINUTE = timedelta(minutes=1)


def stages(schedule: Schedule, days: range) -> list[str | None]:
    """What is to be told of a VM when it has so many days left."""
    return [schedule.stage(TODAY + timedelta(days=left), TODAY) for left in days]


def test_the_stage_is_the_nearest_threshold_that_has_been_reached() -> None:
    schedule = Schedule((7, 1, 0), time(8), ZoneInfo("UTC"))
    assert stages(schedule, range(9, 6, -1)) == [None, None, "7d"]
    assert stages(schedule, range(6, 1, -1)) == ["7d"] * 5
    assert stages(schedule, range(1, -7, -1)) == ["1d", *["0d"] * 7]


def test_the_overdue_are_told_of_weekly_for_four_weeks() -> None:
    schedule = Schedule((7, 1, 0), time(8), ZoneInfo("UTC"))
    weeks = [f"overdue-{week}w" for week in (1, 2, 3) for _ in range(7)]
    assert stages(schedule, range(-7, -31, -1)) == [*weeks, "overdue-4w", None, None]


def test_without_a_threshold_for_the_day_itself_what_is_past_is_told_if_it_was_missed() -> None:
    schedule = Schedule((30, 3), time(8), ZoneInfo("UTC"))
    assert stages(schedule, range(31, 29, -1)) == [None, "30d"]
    assert stages(schedule, range(4, -2, -1)) == ["30d", *["3d"] * 5]


def test_from_a_week_before_to_four_weeks_after_each_stage_is_told_once(scene: Scene) -> None:
    scene.add("one", 8, owner=GWEN)
    told = {}
    for _ in range(60):
        for _, vms in scene.tell():
            told[scene.today - TODAY] = vms["one"]
        scene.clock.forward(days=1)
    assert list(told.values()) == [7, 1, 0, -7, -14, -21, -28]
    assert [stage for stage, _ in scene.log()] == [
        *("7d", "1d", "0d"),
        *(f"overdue-{week}w" for week in range(1, 5)),
    ]


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (6, [6, 1, 0]),
        (2, [2, 1, 0]),
        (1, [1, 0]),
        (0, [0]),
        (-1, [-1]),
        (-6, [-6, -7]),
        (-27, [-27, -28]),
        (-28, [-28]),
        (-29, []),
    ],
)
def test_what_was_missed_is_made_good_once_with_the_nearest_stage(
    scene: Scene, left: int, told: list[int]
) -> None:
    scene.add("late", left, owner=GWEN)
    seen = []
    for _ in range(max(left, 0) + 3):
        seen += [vms["late"] for _, vms in scene.tell()]
        scene.clock.forward(days=1)
    assert seen == told


def test_changing_the_date_arms_every_stage_again(scene: Scene) -> None:
    vm = scene.add("one", 7, owner=GWEN)
    assert scene.tell() == [(GWEN, {"one": 7})]
    scene.extend(vm, 8)
    assert scene.next_day() == [(GWEN, {"one": 7})]
    scene.extend(vm, 1)
    assert scene.next_day() == [(GWEN, {"one": 0})]


def test_a_date_that_is_changed_back_is_not_told_again(scene: Scene) -> None:
    vm = scene.add("one", 7, owner=GWEN)
    scene.tell()
    scene.extend(vm, 90)
    scene.next_day()
    scene.extend(vm, 6)
    assert scene.next_day() == []


def test_only_active_vms_are_told_of(scene: Scene) -> None:
    for status in ("inactive", "decommissioned"):
        scene.add(status, 1, owner=GWEN, status=status)
    scene.remove(scene.add("in the trash", 1, owner=GWEN))
    with scene.database.work(SYSTEM) as work:
        inventory.add(work, inventory.NewVM(vm_name="for ever", owner=GWEN))
    assert scene.tell() == []


def test_back_in_use_it_is_told_of_at_its_nearest_stage(scene: Scene) -> None:
    vm = scene.add("one", 3, owner=GWEN, status="inactive")
    assert scene.tell() == []
    scene.change(vm, status="active")
    assert scene.next_day() == [(GWEN, {"one": 2})]
    assert scene.next_day() == [(GWEN, {"one": 1})]


def test_the_constraint_forbids_a_second_row(scene: Scene) -> None:
    scene.add("one", 7, owner=GWEN)
    scene.tell()
    log = NotificationLog
    columns = (log.vm_id, log.notice_type, log.expiry_date, log.recipient, log.message_id)
    again = insert(log).from_select([c.key for c in columns], select(*columns))
    with pytest.raises(IntegrityError), scene.database.work(SYSTEM) as work:
        work.session.execute(again)


def test_nobody_has_two_digests_a_day_however_often_it_is_asked(
    scene: Scene, admin: Person
) -> None:
    scene.add("one", 7, owner=GWEN)
    assert len(scene.tell()) == 1
    scene.add("two", 7, owner=GWEN)
    for _ in range(2):
        now(scene, admin)
        assert scene.tell() == []
    assert scene.next_day() == [(GWEN, {"two": 6})]
    assert all(run.finished_at for run in runs(scene))


def now(scene: Scene, person: Person, day: date | None = None) -> planning.Plan:
    day = day or scene.today
    return planning.run_now(scene.database, scene.rules, person.actor, day, Trigger.PERSON)


def test_a_run_by_hand_says_what_it_made_and_spares_the_run_of_the_day(
    scene: Scene, admin: Person
) -> None:
    scene.clock.forward(hours=-3)
    assert scene.plan() is None
    scene.add("one", 7, owner=GWEN)
    scene.add("two", 7, owner=GWEN)
    scene.add("three", 0, owner="someone@elsewhere.example")
    made = now(scene, admin)
    assert (made.messages, made.vms, made.day) == (2, 3, scene.today)
    scene.clock.forward(hours=3)
    plan = scene.plan()
    assert plan
    assert (plan.messages, plan.vms) == (0, 0)


def test_a_run_by_hand_is_for_those_who_look_after_users(scene: Scene, operator: Person) -> None:
    with pytest.raises(Forbidden):
        now(scene, operator)
    assert runs(scene) == []


def test_any_day_of_the_calendar_can_be_asked_for(scene: Scene, admin: Person) -> None:
    with scene.database.work(SYSTEM) as work:
        inventory.add(work, inventory.NewVM(vm_name="for ever", owner=GWEN))
    for day in (date.min, date.max):
        assert now(scene, admin, day).messages == 0


def runs(scene: Scene) -> list[NoticeRun]:
    with scene.database.read() as session:
        return list(session.scalars(select(NoticeRun).order_by(NoticeRun.id)))


def test_a_look_ahead_changes_nothing(scene: Scene) -> None:
    scene.add("one", 8, owner=GWEN)
    with scene.database.read() as session:
        tomorrow = scene.today + timedelta(days=1)
        (found,) = planning.preview(session, scene.rules, tomorrow)
    assert found[0].address == GWEN
    assert [one.stage for one in found[1]] == ["7d"]
    assert (scene.messages(), runs(scene)) == ([], [])


def test_without_mail_notices_are_kept_and_not_planned_again(scene: Scene) -> None:
    scene.add("one", 7, owner=GWEN)
    scene.set(senders={})
    assert scene.tell() == []
    assert scene.states() == [State.KEPT]
    assert scene.next_day() == []
    assert scene.states() == [State.KEPT]


def test_other_channels_are_told_of_everything_once_a_day(scene: Scene) -> None:
    post = scene.post
    scene.set(senders={Channel.SLACK: lambda: post})
    scene.add("one", 7)
    scene.add("two", -8, owner=GWEN)
    assert scene.tell() == [(None, {"one": 7, "two": -8})]
    assert scene.next_day() == []


# When a run is due


def test_before_its_hour_nothing_is_due_and_from_it_on_it_is(scene: Scene) -> None:
    scene.clock.moment = datetime(2027, 3, 1, 2, 29, 59, tzinfo=UTC)
    assert scene.plan() is None
    scene.clock.forward(seconds=1)
    assert scene.plan()
    assert scene.plan() is None


def test_a_server_that_was_down_at_the_hour_catches_up_later_on_the_day(scene: Scene) -> None:
    scene.add("one", 7, owner=GWEN)
    scene.clock.moment = datetime(2027, 3, 1, 18, 29, tzinfo=UTC)  # one minute to midnight
    assert scene.tell() == [(GWEN, {"one": 7})]
    scene.clock.forward(minutes=1)
    assert scene.plan() is None


@pytest.mark.parametrize(
    ("zone", "day", "at", "moment"),
    [
        # The hour is skipped: as if the clocks had not been moved yet.
        ("America/New_York", date(2027, 3, 14), time(2, 30), "2027-03-14T07:30:00"),
        # The hour comes twice: the first of them.
        ("America/New_York", date(2027, 11, 7), time(1, 30), "2027-11-07T05:30:00"),
        ("Pacific/Auckland", date(2027, 9, 26), time(8), "2027-09-25T19:00:00"),
        ("Pacific/Auckland", date(2028, 2, 29), time(8), "2028-02-28T19:00:00"),
        ("Asia/Kolkata", date(2027, 3, 1), time(8), "2027-03-01T02:30:00"),
        # It is skipped at the very end of the day, whose notices must not be lost.
        ("America/Nuuk", date(2024, 3, 30), time(23, 30), "2024-03-31T00:30:00"),
        ("Pacific/Apia", date(2011, 12, 31), time(8), "2011-12-30T18:00:00"),
    ],
)
def test_the_hour_is_the_one_of_the_zone(zone: str, day: date, at: time, moment: str) -> None:
    schedule = Schedule((7,), at, ZoneInfo(zone))
    instant = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert schedule.instant(day) == instant
    assert schedule.due(instant) == day
    assert schedule.due(instant - timedelta(seconds=1)) != day


@pytest.mark.parametrize("zone", ["America/Nuuk", "Pacific/Apia", "Europe/Lisbon", "Asia/Beirut"])
@pytest.mark.parametrize("at", [time(0), time(0, 30), time(8), time(23, 30), time(23, 59)])
def test_every_day_that_a_zone_has_comes_due(zone: str, at: time) -> None:
    schedule = Schedule((7,), at, ZoneInfo(zone))
    for year in (2011, 2024):
        start = datetime(year, 1, 1, 12, tzinfo=UTC)
        minutes = [start + n * timedelta(minutes=30) - MINUTE for n in range(360 * 48)]
        days = {schedule.today(moment) for moment in minutes[48:-48]}
        assert days <= {schedule.due(moment) for moment in minutes}


def test_another_zone_counts_from_the_next_look_on(scene: Scene) -> None:
    scene.add("one", 7, owner=GWEN)
    assert scene.tell() == [(GWEN, {"one": 7})]
    new = Schedule((7, 1, 0), time(8), ZoneInfo("Pacific/Auckland"))
    scene.set(schedule=new)
    assert scene.tell() == []
    assert scene.today == TODAY
    scene.clock.forward(hours=17)  # nine o'clock on the next day there
    assert scene.plan()
    assert scene.today == TODAY + timedelta(days=1)


# Which worker does it


def test_a_run_that_was_killed_is_taken_up_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ann", "ben", "cat"):
        scene.add(name, 7, owner=f"{name}@elsewhere.example")
    real = planning._tell
    done: list[object] = []

    def killed(*arguments: object) -> None:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(arguments)
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(planning, "_tell", killed)
    with pytest.raises(KeyboardInterrupt):
        scene.plan()
    monkeypatch.undo()
    scene.clock.rule(monkeypatch)
    assert scene.plan() is None  # perhaps it is alive
    scene.clock.forward(minutes=2)
    plan = scene.plan()
    assert plan
    assert (plan.messages, plan.vms) == (3, 3)
    (run,) = runs(scene)
    assert (run.messages, run.vms, run.finished_at) == (3, 3, scene.clock.moment)
    scene.deliver()
    assert sorted(str(to) for to, _ in scene.post.told()) == [
        f"{name}@elsewhere.example" for name in ("ann", "ben", "cat")
    ]


@pytest.mark.parametrize("years", [1, -1])
def test_a_clock_that_was_wrong_does_not_block_the_day_for_ever(scene: Scene, years: int) -> None:
    with scene.database.work(SYSTEM) as work:
        wrong = scene.clock.moment + timedelta(days=365 * years)
        ended = wrong if years > 0 else None
        work.session.add(
            NoticeRun(
                day=TODAY,
                scheduled_for=TODAY,
                trigger="schedule",
                started_by="system",
                started_at=wrong,
                finished_at=ended,
            )
        )
    scene.add("one", 7, owner=GWEN)
    assert scene.tell() == [(GWEN, {"one": 7})]
    assert scene.plan() is None


def test_a_run_that_the_machine_slept_through_tells_nothing_old(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.add("one", 1, owner="ann@elsewhere.example")
    scene.add("two", 1, owner="ben@elsewhere.example")
    real = planning._tell

    def sleeping(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        scene.clock.forward(days=1)

    monkeypatch.setattr(planning, "_tell", sleeping)
    plan = scene.plan()
    assert plan
    assert plan.messages == 1
    assert runs(scene)[0].finished_at is None
    monkeypatch.setattr(planning, "_tell", real)
    assert sorted(scene.tell(), key=str) == [
        ("ann@elsewhere.example", {"one": 0}),
        ("ben@elsewhere.example", {"two": 0}),
    ]


def test_what_fails_for_one_keeps_nobody_else_waiting(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ann", "ben", "cat"):
        scene.add(name, 7, owner=f"{name}@elsewhere.example")
    real = planning._tell

    def failing(*arguments: object) -> None:
        if "ben" in str(arguments[3]):
            raise RuntimeError
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(planning, "_tell", failing)
    assert [to for to, _ in scene.tell()] == ["ann@elsewhere.example", "cat@elsewhere.example"]
    assert runs(scene)[0].finished_at is None
    monkeypatch.setattr(planning, "_tell", real)
    scene.clock.forward(minutes=3)
    assert [to for to, _ in scene.tell()] == ["ben@elsewhere.example"]
    assert runs(scene)[0].finished_at


def meanwhile(
    monkeypatch: pytest.MonkeyPatch, name: str, call: Callable[[], object]
) -> Callable[[], None]:
    """Do something once, right after that function of the planning."""
    real = getattr(planning, name)

    def both(*arguments: object) -> object:
        outcome = real(*arguments)
        monkeypatch.setattr(planning, name, real)
        call()
        return outcome

    monkeypatch.setattr(planning, name, both)
    return lambda: monkeypatch.setattr(planning, name, real)


def test_a_vm_that_is_destroyed_meanwhile_does_not_stop_the_run(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = scene.add("one", 7, owner=GWEN)
    scene.add("two", 7, owner=GWEN)
    real = recipients.audience

    def slow(*arguments: object) -> object:
        found = real(*arguments)  # type: ignore[arg-type]
        scene.remove(vm)
        scene.purge(vm)
        return found

    monkeypatch.setattr(recipients, "audience", slow)
    assert scene.tell() == [(GWEN, {"two": 7})]
    assert runs(scene)[0].finished_at
    assert scene.only().vms == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_vm_cannot_be_destroyed_between_the_look_and_the_row(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = scene.add("one", 7, owner=GWEN)

    def purge() -> None:
        scene.remove(vm)
        scene.purge(vm)

    purging = threading.Thread(target=purge)
    undo = meanwhile(monkeypatch, "_present", purging.start)
    plan = scene.plan()
    undo()
    purging.join()
    assert plan
    assert plan.messages == 1
    assert scene.log() == []
    scene.deliver()
    assert scene.states() == [State.DROPPED]


def test_of_many_that_plan_at_the_same_moment_each_person_gets_one(
    scene: Scene, database_url: str, admin: Person
) -> None:
    for number in range(12):
        scene.add(f"vm{number}", number % 8, owner=f"person{number % 4}@elsewhere.example")
    actor, day, rules = admin.actor, scene.today, scene.rules

    def run(database: Database, number: int) -> None:
        if number % 2:
            planning.run_now(database, rules, actor, day, Trigger.PERSON)
        else:
            planning.run_daily(database, rules)

    with ExitStack() as stack:
        many = [stack.enter_context(closing(Database(database_url))) for _ in range(6)]
        at_once(6, lambda index: run(many[index], index))
    assert len(scene.messages()) == 4
    assert len(scene.log()) == 12
    assert sum(run.messages for run in runs(scene)) == 4


# What it costs


def plan_of(scene: Scene, call: Callable[[], object]) -> list[str]:
    """How the database goes about each SELECT of a call that asks for VMs by their date."""
    asked: list[tuple[str, Any]] = []

    def watch(
        _connection: object, _cursor: object, statement: str, values: object, *_: object
    ) -> None:
        if statement.startswith("SELECT") and "expiry_key BETWEEN" in statement:
            asked.append((statement, values))

    engine = scene.database.engine
    event.listen(engine, "before_cursor_execute", watch)
    call()
    event.remove(engine, "before_cursor_execute", watch)
    explain = "EXPLAIN QUERY PLAN " if scene.database.sqlite else "EXPLAIN "
    with engine.connect() as connection:
        return [
            "\n".join(str(row[-1]) for row in connection.exec_driver_sql(explain + s, v))
            for s, v in asked
        ]


def fill(scene: Scene, number: int) -> None:
    """So many VMs that are far from their end, and that all belong to Rita."""
    first = scene.add("far", 1000, owner="rita", department="Finance")
    table = VM.metadata.tables["vms"]
    with scene.database.work(SYSTEM) as work:
        connection = work.session.connection()
        row = dict(connection.execute(select(table).where(VM.id == first)).one()._mapping)
        del row["id"]
        connection.execute(insert(table), [{**row, "name_key": f"far{n}"} for n in range(number)])


def test_planning_walks_the_index_of_expiry_dates_and_not_the_table(scene: Scene) -> None:
    fill(scene, 3000)
    scene.add("one", 7, owner=GWEN, department="Finance")
    scene.user("rita", notify_expiry=True)
    if not scene.database.sqlite:
        with scene.database.engine.begin() as connection:
            connection.execute(text("ANALYZE vms"))
    plans = plan_of(scene, scene.tell)
    assert len(plans) >= 2
    for plan in plans:
        assert "ix_vms_expiry_date" in plan or "ix_vms_expiry_key" in plan, plan
        assert "Seq Scan on vms" not in plan
        assert "SCAN vms" not in plan
        assert "MULTI-INDEX" not in plan


def test_who_was_told_ahead_of_a_day_is_told_on_that_day_of_what_is_new(scene: Scene) -> None:
    scene.add("one", 10, owner=GWEN)
    ahead = scene.today + timedelta(days=3)
    plan = planning.run_now(scene.database, scene.rules, SYSTEM, ahead, Trigger.COMMAND)
    assert plan.messages == 1
    again = planning.run_now(scene.database, scene.rules, SYSTEM, ahead, Trigger.COMMAND)
    assert again.messages == 0
    scene.deliver()
    assert scene.post.told() == [(GWEN, {"one": 10})]
    scene.clock.forward(days=2)
    scene.add("two", 2, owner=GWEN)
    assert scene.next_day() == [(GWEN, {"two": 1})]
