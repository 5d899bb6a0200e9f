"""The demonstration: a throw-away instance with the sample inventory, gone when it stops."""

import secrets
import string
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

from vmtrak import credentials, inventory, notices, sample, schema
from vmtrak.access import SYSTEM, Actor
from vmtrak.accounts import NewUser, User, actors, links, users
from vmtrak.credentials import (
    CredentialPatch,
    NewCredential,
    RevealRequest,
    Rules,
    Vault,
    Which,
)
from vmtrak.db import Database, Work
from vmtrak.fields import parse
from vmtrak.inventory import NewHypervisor, NewVM, VMPatch, hypervisors
from vmtrak.notices import NoticeRun, Schedule, Trigger, planning
from vmtrak.sample import Account, Look
from vmtrak.sealing import KeyRing


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for everything the demonstration writes; nothing of it stays."""
    with TemporaryDirectory(prefix="vmtrak-demo-") as made:
        yield Path(made)


def fill(database: Database, today: date, keys: KeyRing) -> str:
    """Make the sample inventory, its people and its history; returns the admin's password.

    `keys` seal the passwords of the accounts on VMs, which are made up here and now.
    """
    schema.migrate(database)
    password = "-".join(secrets.token_hex(2) for _ in range(4))
    with database.work(SYSTEM) as work:
        work.moment = _in_office(work.moment, sample.TAKEN_IN)
        people = _people(work, password)
        numbers = _add(work, today)
    _live(database, people, _Accounts(Vault(keys, Rules()), numbers), sample.vms(today))
    writers = [user for user in people if user.role in {"admin", "readwrite"}]
    for number, (name, patch) in enumerate(sample.edits(today)):
        with database.work(_actor(writers[number % len(writers)])) as work:
            inventory.change(work, numbers[name], parse(VMPatch, patch))
    with database.work(_actor(writers[0])) as work:
        for name in sample.retired():
            inventory.remove(work, numbers[name])
    _notices(database, today)
    return password


def _notices(database: Database, today: date) -> None:
    """The day's run of the notices, as if its hour had passed. They are kept: mail is off."""
    rules = notices.Rules(Schedule(days=(7, 1, 0), at=time(8), zone=ZoneInfo("UTC")), base_url="")
    plan = planning.run_now(database, rules, SYSTEM, today, Trigger.SCHEDULE)
    with database.work(SYSTEM) as work:
        work.session.get_one(NoticeRun, plan.run_id).scheduled_for = today


def sign_in_link(database: Database) -> str:
    """The token of a link that signs in the sample's administrator once."""
    with database.work(SYSTEM) as work:
        return links.make(work, "sign-in", _admin(work).id)


def administrator() -> str:
    """The sample administrator's user name."""
    return next(str(p["username"]) for p in sample.people() if p["role"] == "admin")


def _admin(work: Work) -> User:
    found = users.named(work.session, administrator())
    if found is None:
        message = "the sample has no administrator"
        raise LookupError(message)
    return found


def _people(work: Work, password: str) -> list[User]:
    """All get the same password."""
    made = []
    for person in sample.people():
        user = users.add(work, parse(NewUser, {**person, "password": password}))
        user.must_change_password = False
        made.append(user)
    return made


def _add(work: Work, today: date) -> dict[str, int]:
    """Enter the inventory; returns the VMs' numbers by their names."""
    hosts = {}
    for row in sample.hypervisors():
        made = hypervisors.add(work, parse(NewHypervisor, row))
        hosts[made.name] = made.id
    numbers = {}
    for row in sample.vms(today):
        host = row.pop("hypervisor")
        number = hosts[str(host)] if host else None
        vm = inventory.add(work, parse(NewVM, {**row, "hypervisor_id": number}))
        numbers[vm.vm_name] = vm.id
    return numbers


def _actor(user: User) -> Actor:
    return actors.actor_of(user, replace(SYSTEM, ip_address="127.0.0.1"))


Step = Callable[[Work], None]


@dataclass
class _Accounts:
    """The accounts on the sample's VMs, as they come to be; `vms` are the VMs' numbers by name."""

    vault: Vault
    vms: Mapping[str, int]
    numbers: dict[Account, int] = field(default_factory=dict)

    def steps(self, rows: list[sample.Row]) -> dict[tuple[int, str], list[Step]]:
        """What is done to them, by how many days ago and by whom."""
        known = sample.accounts(rows)
        found: dict[tuple[int, str], list[Step]] = defaultdict(list)
        for one in known:
            for version, days_ago in enumerate(one.set_days_ago):
                call = partial(self.change, one) if version else partial(self.add, one)
                found[days_ago, one.set_by].append(call)
        for look in (*sample.looks(known), sample.last_look(known, self.vault.rules.per_hour)):
            found[look.days_ago, look.username].append(partial(self.look, look))
        found[sample.MARKED, sample.ADMINISTRATOR] += [
            partial(self.mark, one) for one in sample.marked(known)
        ]
        return found

    def add(self, account: Account, work: Work) -> None:
        given = account._asdict() | {"password": _password()}
        new = parse(NewCredential, given)
        made = credentials.add(work, self.vault, self.vms[account.vm_name], new)
        self.numbers[account] = made.id

    def change(self, account: Account, work: Work) -> None:
        self._change(work, account, {"password": _password()})

    def mark(self, account: Account, work: Work) -> None:
        self._change(work, account, {"rotation_marked": True})

    def _change(self, work: Work, account: Account, given: Mapping[str, object]) -> None:
        which = Which(self.numbers[account])
        credentials.change(work, self.vault, which, parse(CredentialPatch, given))

    def look(self, look: Look, work: Work) -> None:
        asked = parse(RevealRequest, {"reason": look.reason})
        for account in look.accounts:
            credentials.reveal(work, self.vault, Which(self.numbers[account]), asked)


def _live(
    database: Database, people: list[User], accounts: _Accounts, rows: list[sample.Row]
) -> None:
    """The accounts' history from the first day on, each day's work in the name of who did it."""
    actor = {user.username: _actor(user) for user in people}
    for (days_ago, username), steps in sorted(accounts.steps(rows).items(), key=_oldest_first):
        with database.work(actor[username]) as work:
            work.moment = _in_office(work.moment, days_ago)
            for step in steps:
                step(work)


def _in_office(moment: datetime, days_ago: int) -> datetime:
    """So many days earlier, between 7 and 16 o'clock UTC, at another time on each."""
    day = moment - timedelta(days=days_ago)
    return day.replace(hour=7 + days_ago * 7 % 9, minute=days_ago * 17 % 60)


def _oldest_first(entry: tuple[tuple[int, str], list[Step]]) -> tuple[int, str]:
    (days_ago, username), _ = entry
    return -days_ago, username


def _password() -> str:
    letters = string.ascii_letters + string.digits + "!#%&*+-./:=?@_"
    return "".join(secrets.choice(letters) for _ in range(20))
