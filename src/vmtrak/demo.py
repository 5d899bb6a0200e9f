"""The demonstration: a throw-away instance with the sample inventory, gone when it stops."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from vmtrak import inventory, sample, schema
from vmtrak.access import SYSTEM, Actor
from vmtrak.accounts import NewUser, User, actors, links, users
from vmtrak.db import Database, Work
from vmtrak.fields import parse
from vmtrak.inventory import NewHypervisor, NewVM, VMPatch, hypervisors


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for everything the demonstration writes; nothing of it stays."""
    with TemporaryDirectory(prefix="vmtrak-demo-") as made:
        yield Path(made)


def fill(database: Database, today: date) -> str:
    """Make the sample inventory, its people and its history; returns the admin's password."""
    schema.migrate(database)
    password = "-".join(secrets.token_hex(2) for _ in range(4))
    with database.work(SYSTEM) as work:
        people = _people(work, password)
        _add(work, today)
    for number, (name, patch) in enumerate(sample.edits(today)):
        with database.work(_actor(people[number % len(people)])) as work:
            inventory.change(work, _number(work, name), parse(VMPatch, patch))
    with database.work(_actor(people[0])) as work:
        for name in sample.retired():
            inventory.remove(work, _number(work, name))
    return password


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
    """All get the same password; those who may write come back, to be named in the history."""
    made = []
    for person in sample.people():
        user = users.add(work, parse(NewUser, {**person, "password": password}))
        user.must_change_password = False
        made.append(user)
    return [user for user in made if user.role in {"admin", "readwrite"}]


def _add(work: Work, today: date) -> None:
    numbers = {}
    for row in sample.hypervisors():
        made = hypervisors.add(work, parse(NewHypervisor, row))
        numbers[made.name] = made.id
    for row in sample.vms(today):
        host = row.pop("hypervisor")
        number = numbers[str(host)] if host else None
        inventory.add(work, parse(NewVM, {**row, "hypervisor_id": number}))


def _actor(user: User) -> Actor:
    return actors.actor_of(user, replace(SYSTEM, ip_address="127.0.0.1"))


def _number(work: Work, name: str) -> int:
    return inventory.named(work, name).id
