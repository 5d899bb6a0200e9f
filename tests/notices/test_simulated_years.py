"""Years of notices under a clock of the test's own, against a model made of the issue's words.

A day of it: somebody changes things, the server may be down until some hour or for days, it plans
(and may be killed at it), somebody changes things, it delivers (and may be killed at that, too, and
the mail server may be down or refuse), and at the end of the day everything may have recovered.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import services
from tests.notices.scene import Clock, Scene
from vmtrak import inventory
from vmtrak.access import SYSTEM
from vmtrak.channels import Delayed, Digest, Parcel, Refused, Unreachable
from vmtrak.db import Database
from vmtrak.notices import outbox, planning

PLACES = [
    ("Asia/Kolkata", date(2028, 2, 24)),  # a leap day
    ("America/New_York", date(2027, 3, 10)),  # a day of 23 hours
    ("Pacific/Auckland", date(2027, 3, 31)),  # one of 25
    ("Europe/Lisbon", date(2027, 10, 27)),
    ("Pacific/Apia", date(2011, 12, 25)),  # a day that was left out
    ("UTC", date(2027, 12, 28)),
]
GWEN = "gwen@elsewhere.example"
OWNERS = [None, "rita", "OTTO@vmtrak.example", "olga", GWEN, "Hugh of finance"]
USERS = ["rita", "otto", "olga"]
READERS = {"rita": "Finance", "olga": "Logistics"}
DEPARTMENTS = [None, "Finance", "Logistics"]
LEFT = [8, 2, 7, 1, 0, 6, 9, -1, -6, -7, -8, -27]
MOST_VMS = 3


class Killed(BaseException):
    """The process is gone at this point."""


@dataclass
class Machine:
    """A VM as the model knows it."""

    number: int
    expiry: date
    owner: str | None
    department: str | None
    status: str = "active"
    deleted: bool = False


class Notice(NamedTuple):
    """What nobody is to be told twice."""

    person: str
    vm: str
    expiry: date
    stage: str


def stage(expiry: date, day: date) -> str | None:
    """In the issue's words: in 7 days, in 1 day, today, and overdue ones weekly for four weeks."""
    left = (expiry - day).days
    if left > 7 or left < -28:
        return None
    if left > 1:
        return "in a week"
    if left == 1:
        return "tomorrow"
    if left > -7:
        return "today"
    return f"{-left // 7} weeks over"


@dataclass
class World:
    """The program on its scene, and beside it what the model knows of the same world."""

    scene: Scene
    vms: dict[str, Machine] = field(default_factory=dict)
    subscribed: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    planned_on: dict[str, date] = field(default_factory=dict)
    told: dict[Notice, set[str]] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)
    crashed: Counter[str] = field(default_factory=Counter)
    digests: dict[tuple[str, date], set[str]] = field(default_factory=dict)
    refused: set[Notice] = field(default_factory=set)

    def concerns(self, person: str, vm: Machine) -> bool:
        """Whether the model would tell this person of that VM, today."""
        if vm.deleted or vm.status != "active" or person in self.closed:
            return False
        owner = (vm.owner or "").lower()
        if person not in USERS:
            return owner == person
        if owner in {person, f"{person}@vmtrak.example"}:
            return True
        sees = person not in READERS or vm.department == READERS[person]
        return person in self.subscribed and sees

    def due(self, day: date) -> set[Notice]:
        return {
            Notice(person, name, vm.expiry, at)
            for person in [*USERS, GWEN]
            for name, vm in self.vms.items()
            if self.concerns(person, vm) and (at := stage(vm.expiry, day))
        }

    # What people do

    def change(self, what: tuple[str, int, int]) -> None:
        kind, which, how = what
        if kind in {"subscribe", "close"}:
            self._user(kind, USERS[which % 3], on=bool(how % 2))
        elif kind == "add" or not self.vms:
            self._add(which, how)
        else:
            name = sorted(self.vms)[which % len(self.vms)]
            getattr(self, f"_{kind}")(self.vms[name], how)

    def _add(self, which: int, how: int) -> None:
        if len(self.vms) >= MOST_VMS:
            return
        name, left = f"vm{len(self.vms)}", LEFT[how % len(LEFT)]
        owner, department = OWNERS[which % len(OWNERS)], DEPARTMENTS[how % 3]
        number = self.scene.add(name, left, owner=owner, department=department)
        expiry = self.scene.today + timedelta(days=left)
        self.vms[name] = Machine(number, expiry, owner, department)

    def _edit(self, vm: Machine, **fields: Any) -> None:
        if not vm.deleted:
            self.scene.change(vm.number, **fields)

    def _extend(self, vm: Machine, how: int) -> None:
        if not vm.deleted:
            vm.expiry = self.scene.today + timedelta(days=LEFT[how % len(LEFT)])
            self._edit(vm, expiry_date=vm.expiry)

    def _retire(self, vm: Machine, how: int) -> None:
        if not vm.deleted:
            vm.status = ("active", "inactive", "decommissioned")[how % 3]
            self._edit(vm, status=vm.status)

    def _give(self, vm: Machine, how: int) -> None:
        if not vm.deleted:
            vm.owner = OWNERS[how % len(OWNERS)]
            self._edit(vm, owner=vm.owner)

    def _move(self, vm: Machine, how: int) -> None:
        if not vm.deleted:
            vm.department = DEPARTMENTS[how % 3]
            self._edit(vm, department=vm.department)

    def _delete(self, vm: Machine, _how: int) -> None:
        with self.scene.database.work(SYSTEM) as work:
            (inventory.restore if vm.deleted else inventory.remove)(work, vm.number)
        vm.deleted = not vm.deleted

    def _user(self, kind: str, name: str, *, on: bool) -> None:
        if kind == "subscribe":
            self.scene.user(name, notify_expiry=on)
            (self.subscribed.add if on else self.subscribed.discard)(name)
        else:
            self.scene.user(name, is_active=not on)
            (self.closed.add if on else self.closed.discard)(name)

    # What the program does

    def plan(self) -> None:
        self.scene.plan()
        for message in self.scene.messages():
            self.planned_on.setdefault(message.uid, message.day)

    def receive(self, parcel: Parcel) -> None:
        """Hold what arrives against everything that the issue promises."""
        day, content = self.scene.today, parcel.content
        address = str(parcel.address)
        person = address.removesuffix("@vmtrak.example")
        planned = self.planned_on[parcel.uid]
        digests = self.digests.setdefault((person, planned), set())
        digests.add(parcel.uid)
        assert len(digests) == 1, "two digests of one day"
        self.sent[parcel.uid] += 1
        assert self.sent[parcel.uid] <= 1 + self.crashed[parcel.uid], "repeated"
        assert names(parcel)
        for line in content.lines:  # type: ignore[union-attr]
            vm = self.vms[line.vm_name]
            assert self.concerns(person, vm), "not theirs"
            assert (line.expiry_date, line.days) == (vm.expiry, (vm.expiry - day).days)
            at = stage(vm.expiry, planned)
            assert at, "nothing was due"
            uids = self.told.setdefault(Notice(person, line.vm_name, vm.expiry, at), set())
            uids.add(parcel.uid)
            # Whether one arrived that a kill interrupted, the program cannot know.
            assert len(uids - self.crashed.keys()) <= 1, "told twice"

    def refuse(self, parcel: Parcel) -> None:
        """The server will never take it: this is not lost but failed, and seen in the panel."""
        person = str(parcel.address).removesuffix("@vmtrak.example")
        for line in parcel.content.lines:  # type: ignore[union-attr]
            at = stage(line.expiry_date, self.planned_on[parcel.uid])
            self.refused.add(Notice(person, line.vm_name, line.expiry_date, str(at)))

    def deliver(self, mood: str, kill: int, patch: pytest.MonkeyPatch) -> None:
        self.scene.post.fault = _faults(self, mood)
        before = len(self.scene.post.parcels)
        with patch.context() as killing:
            if kill:
                killing.setattr(outbox, "sent", _killer(outbox.sent, kill))
            try:
                self.scene.deliver()
            except Killed:
                self.crashed[self.scene.post.parcels[-1].uid] += 1
        self.scene.post.fault = _faults(self, "well")
        arrived = self.scene.post.parcels[before:]
        for parcel in arrived:
            self.receive(parcel)
        named = [(parcel.address, name) for parcel in arrived for name in names(parcel)]
        assert len(named) == len(set(named)), "told twice at a time"


def names(parcel: Parcel) -> list[str]:
    assert isinstance(parcel.content, Digest)
    return [line.vm_name for line in parcel.content.lines]


def _faults(world: World, mood: str) -> Callable[[Parcel], None]:
    def fault(parcel: Parcel) -> None:
        if mood == "down":
            raise Unreachable("down")
        if mood == "later" and parcel.address in {GWEN, "rita@vmtrak.example"}:
            raise Delayed("451")
        if mood == "never" and parcel.address in {GWEN, "otto@vmtrak.example"}:
            world.refuse(parcel)
            raise Refused("550")

    return fault


def _killer(real: Callable[..., Any], at: int) -> Callable[..., Any]:
    calls = [0]

    def call(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            raise Killed
        return real(*arguments, **named)

    return call


CHANGES = st.tuples(
    st.sampled_from(
        ["add", "extend", "retire", "retire", "give", "move", "delete", "subscribe", "close"]
    ),
    st.integers(0, 11),
    st.integers(0, 65),
)


class Day(NamedTuple):
    before: list[tuple[str, int, int]]
    between: list[tuple[str, int, int]]
    hour: int
    """When the server is there; 24: not on this day."""
    mood: str
    recovers: bool
    kill_planning: int
    kill_sending: int
    asleep: int
    """Days that follow on which the server is down."""


DAYS = st.builds(
    Day,
    before=st.lists(CHANGES, max_size=3),
    between=st.lists(CHANGES, max_size=3),
    hour=st.sampled_from([8, 8, 8, 9, 15, 24]),
    mood=st.sampled_from(["well", "well", "well", "down", "later", "never"]),
    recovers=st.booleans(),
    kill_planning=st.sampled_from([0, 0, 0, 1, 2]),
    kill_sending=st.sampled_from([0, 0, 0, 1, 2]),
    asleep=st.sampled_from([0, 0, 0, 0, 1, 2, 5, 30]),
)
FIRST = [("add", 1, 0), ("add", 4, 1), ("subscribe", 1, 1)]
"""A VM of Rita's, one of Gwen's, and Otto, who wants to know of all."""

SCENARIOS = st.tuples(
    st.sampled_from(PLACES),
    st.lists(CHANGES, max_size=4).map(lambda changes: [*FIRST, *changes]),
    st.lists(DAYS, min_size=5, max_size=20),
)


def live(world: World, day: date, what: Day, patch: pytest.MonkeyPatch) -> None:
    """One day; at its end nobody who was to be told, and could be, was left out."""
    wind(world, day, 7, 59)
    if world.scene.today != day:  # the zone has left it out
        return
    for change in what.before:
        world.change(change)
    assert world.scene.plan() is None
    if what.hour > 23:
        return
    plan(world, day, what, patch)
    due = world.due(day)
    for change in what.between:
        world.change(change)
    world.deliver(what.mood, what.kill_sending, patch)
    if what.recovers:
        wind(world, day, 20)
        world.deliver("well", 0, patch)
        missing = (due & world.due(day)) - world.told.keys() - world.refused
        assert not missing, "never told"


def wind(world: World, day: date, hour: int, minute: int = 0) -> None:
    """Set the clock to that time of the zone."""
    local = datetime.combine(day, time(hour, minute), world.scene.rules.schedule.zone)
    world.scene.clock.moment = local.astimezone(UTC)


def plan(world: World, day: date, what: Day, patch: pytest.MonkeyPatch) -> None:
    """Plan; if that was killed half way, another worker takes it up three minutes later."""
    wind(world, day, what.hour)
    with patch.context() as killing:
        if what.kill_planning:
            killing.setattr(planning, "_present", _killer(planning._present, what.kill_planning))
        with suppress(Killed):
            world.scene.plan()
    wind(world, day, what.hour, 3)
    world.plan()


def simulate(scene: Scene, scenario: tuple[Any, list[tuple[str, int, int]], list[Day]]) -> World:
    (_, day), changes, days = scenario
    world = World(scene)
    scene.clock.moment = datetime.combine(day, time(6), scene.rules.schedule.zone).astimezone(UTC)
    for change in changes:
        world.change(change)
    with pytest.MonkeyPatch.context() as patch:
        for what in days:
            live(world, day, what, patch)
            day += timedelta(days=1 + what.asleep)
    return world


@contextmanager
def fresh(url: str, clock: Clock, zone: str) -> Iterator[Scene]:
    database = Database(url)
    try:
        yield Scene.on(database, clock, ZoneInfo(zone))
    finally:
        database.close()


def hold(examples: int, run: Callable[[Any], None]) -> None:
    """Try the invariants on so many worlds."""
    chosen = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # a world is not made smaller within a test's time
    )
    chosen(given(SCENARIOS)(run))()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    made.rule(monkeypatch)
    return made


def test_years_on_sqlite(clock: Clock, sqlite_template: Path, tmp_path: Path) -> None:
    told: Counter[str] = Counter()

    def run(scenario: Any) -> None:
        for part in tmp_path.glob("inventory.db*"):
            part.unlink()
        shutil.copy(sqlite_template, tmp_path / "inventory.db")
        with fresh(f"sqlite:///{tmp_path / 'inventory.db'}", clock, scenario[0][0]) as scene:
            world = simulate(scene, scenario)
        told.update(notice.stage for notice in world.told)
        told["repeated"] += sum(n > 1 for n in world.sent.values())
        told["refused"] += len(world.refused)

    hold(60, run)
    assert {"in a week", "tomorrow", "today", "1 weeks over", "refused"} <= told.keys()


def test_years_on_postgresql(clock: Clock, postgres: str, postgres_template: str) -> None:
    def run(scenario: Any) -> None:
        with (
            services.fresh_database(postgres, postgres_template) as url,
            fresh(url, clock, scenario[0][0]) as scene,
        ):
            simulate(scene, scenario)

    hold(8, run)
