"""A stage for notices: a clock that stands where it is set, a post that keeps what it is given."""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from vmtrak import db, inventory
from vmtrak.access import SYSTEM
from vmtrak.accounts import UserPatch, users
from vmtrak.channels import Channel, Digest, Line, Parcel
from vmtrak.db import Database
from vmtrak.inventory import NewVM, VMPatch
from vmtrak.notices import Delivery, Message, NotificationLog, Rules, Schedule, State, planning
from vmtrak.notices.planning import Plan

KOLKATA = ZoneInfo("Asia/Kolkata")
BEGIN = datetime(2027, 3, 1, 3, 0, tzinfo=UTC)
"""A Monday, half past eight in Kolkata: the hour of the notices has come."""

TODAY = date(2027, 3, 1)


@dataclass
class Clock:
    """What the program takes for the present."""

    moment: datetime = BEGIN

    def forward(self, **much: float) -> None:
        self.moment += timedelta(**much)

    def rule(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand in for the program's clock, wherever it is asked."""
        real = db.now
        for name, module in list(sys.modules.items()):
            if name.startswith("vmtrak.") and getattr(module, "now", None) is real:
                monkeypatch.setattr(module, "now", lambda: self.moment)


@dataclass
class Post:
    """A channel that keeps what it is given. `fault` may raise what a real one raises."""

    parcels: list[Parcel] = field(default_factory=list)
    fault: Callable[[Parcel], None] = lambda _: None

    def send(self, parcel: Parcel) -> str:
        self.fault(parcel)
        self.parcels.append(parcel)
        return "250 Ok"

    def close(self) -> None:
        """There is no connection."""

    @property
    def digests(self) -> list[tuple[str | None, Digest]]:
        return [(p.address, p.content) for p in self.parcels if isinstance(p.content, Digest)]

    def told(self) -> list[tuple[str | None, dict[str, int]]]:
        """Each digest's address, and the days that each of its VMs has left."""
        return [(to, {line.vm_name: line.days for line in d.lines}) for to, d in self.digests]

    def lines(self) -> Iterable[tuple[str | None, Line]]:
        return [(to, line) for to, digest in self.digests for line in digest.lines]


@dataclass
class Scene:
    database: Database
    clock: Clock
    post: Post
    rules: Rules

    @classmethod
    def on(cls, database: Database, clock: Clock, zone: ZoneInfo = KOLKATA) -> "Scene":
        post = Post()
        schedule = Schedule((7, 1, 0), time(8), zone)
        rules = Rules(schedule, "https://vmtrak.example", senders={Channel.MAIL: lambda: post})
        return cls(database, clock, post, rules)

    @property
    def today(self) -> date:
        return self.rules.schedule.today(self.clock.moment)

    def set(self, **changes: Any) -> None:
        self.rules = replace(self.rules, **changes)

    def add(self, name: str, days: int, **fields: Any) -> int:
        """A VM that expires in so many days from today; its number."""
        expiry = self.today + timedelta(days=days)
        with self.database.work(SYSTEM) as work:
            new = NewVM.model_validate({"vm_name": name, "expiry_date": expiry, **fields})
            return inventory.add(work, new).id

    def change(self, vm_id: int, **fields: Any) -> None:
        with self.database.work(SYSTEM) as work:
            inventory.change(work, vm_id, VMPatch.model_validate(fields))

    def extend(self, vm_id: int, days: int) -> None:
        self.change(vm_id, expiry_date=self.today + timedelta(days=days))

    def remove(self, vm_id: int) -> None:
        with self.database.work(SYSTEM) as work:
            inventory.remove(work, vm_id)

    def purge(self, vm_id: int) -> None:
        with self.database.work(SYSTEM) as work:
            inventory.purge(work, vm_id)

    def user(self, username: str, **fields: Any) -> int:
        """Change a user, and give the number."""
        with self.database.work(SYSTEM) as work:
            user = users.named(work.session, username)
            assert user is not None
            users.change(work, user.id, UserPatch.model_validate(fields))
            return user.id

    def plan(self) -> Plan | None:
        return planning.run_daily(self.database, self.rules)

    def deliver(self) -> Counter[State]:
        return Delivery(self.database, self.rules).run(threading.Event())

    def tell(self) -> list[tuple[str | None, dict[str, int]]]:
        """Plan and deliver; what came out of it."""
        before = len(self.post.parcels)
        self.plan()
        self.deliver()
        return self.post.told()[before:]

    def next_day(self, days: int = 1) -> list[tuple[str | None, dict[str, int]]]:
        self.clock.forward(days=days)
        return self.tell()

    def messages(self) -> list[Message]:
        with self.database.read() as session:
            return list(session.scalars(select(Message).order_by(Message.id)))

    def only(self) -> Message:
        (message,) = self.messages()
        return message

    def states(self) -> list[str]:
        return [message.state for message in self.messages()]

    def log(self) -> list[tuple[str, int]]:
        """What is on record as told: the stage and the VM's number."""
        log = NotificationLog
        with self.database.read() as session:
            rows = session.execute(select(log.notice_type, log.vm_id).order_by(log.id))
            return [(stage, vm_id) for stage, vm_id in rows]
