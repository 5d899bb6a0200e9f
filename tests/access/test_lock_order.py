"""Whoever works on a user and on what is theirs locks the user first, at every door."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest
from sqlalchemy import select, text
from starlette.applications import Starlette

from tests.access.test_second_factor import enrol
from tests.conftest import Person
from vmtrak.access import SYSTEM, Actor
from vmtrak.accounts import (
    NewPassword,
    SignedIn,
    SignInLimit,
    actors,
    limits,
    links,
    second_factor,
    sessions,
    users,
)
from vmtrak.accounts.sessions import Sighting
from vmtrak.db import Database, Work, now
from vmtrak.errors import NotAuthenticated, NotFound
from vmtrak.sealing import KeyRing


@dataclass
class Case:
    """A unit of work of a person, as the actor, whose session is `session_id`."""

    person: Person
    keys: KeyRing
    session_id: int
    link: str
    code: str

    @property
    def actor(self) -> Actor:
        return replace(self.person.actor, session_id=self.session_id)

    def set_up(self, work: Work) -> None:
        users.set_up(work, self.link, NewPassword.model_validate({"password": "a new one of 12"}))

    def sign_in(self, work: Work) -> None:
        sessions.sign_in_panel(work, self.person.user_id, "tests")

    def renew(self, work: Work) -> None:
        sessions.renew_panel(work)

    def prove(self, work: Work) -> None:
        if second_factor.accepts(work, self.keys, self.person.user_id, self.code):
            sessions.renew_panel(work)


@pytest.fixture
def case(app: Starlette, operator: Person) -> Case:
    keys: KeyRing = app.state.vmtrak.vault.keys
    _, codes = enrol(operator, keys)
    with operator.database.work(SYSTEM) as work:
        link = links.make(work, "setup", operator.user_id)
    with operator.database.work(actors.visitor(None, None)) as work:
        sessions.sign_in_panel(work, operator.user_id, "tests")
        number = work.actor.session_id
    assert number is not None
    return Case(operator, keys, number, link, codes[0])


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def until_somebody_waits(database: Database) -> None:
    """On SQLite the second writer waits for the file; there is nothing to look at."""
    if database.sqlite:
        return
    waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    ends = time.monotonic() + 5
    while time.monotonic() < ends:
        with database.engine.connect() as connection:
            if connection.scalar(waits):
                return
        time.sleep(0.01)
    message = "nobody waits"
    raise AssertionError(message)


@pytest.mark.parametrize("name", ["set_up", "sign_in", "renew", "prove"])
def test_a_reset_at_the_same_moment_comes_before_or_after(
    name: str, case: Case, admin: Person, pool: ThreadPoolExecutor
) -> None:
    """The administrator has the user, and goes on to what is theirs while somebody waits."""
    database, doing = admin.database, getattr(case, name)

    def meanwhile() -> None:
        with suppress(NotFound, NotAuthenticated), database.work(case.actor) as work:
            doing(work)

    with database.work(admin.actor) as work:
        user = users.listed(admin.actor).where(users.FIELDS[0] == case.person.user_id)
        work.session.execute(user.with_for_update())
        other = pool.submit(meanwhile)
        until_somebody_waits(database)
        users.reset_link(work, case.person.user_id)
        second_factor.reset(work, case.person.user_id)
    other.result(10)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # SQLite has one writer
def test_who_was_there_is_written_down_without_waiting_for_anybody(
    case: Case, admin: Person
) -> None:
    """Sessions of many people are written in one unit of work, in no order that suits all."""
    database = admin.database
    with database.work(actors.visitor(None, None)) as work:
        sessions.sign_in_panel(work, admin.user_id, "tests")
        other_id = work.actor.session_id
    assert other_id is not None
    seen = {case.session_id: Sighting(now(), "127.0.0.8"), other_id: Sighting(now(), "127.0.0.8")}
    done = threading.Event()

    def write() -> None:
        with database.work(SYSTEM) as work:
            sessions.note_seen(work, seen)
        done.set()

    with ThreadPoolExecutor(1) as pool:
        with database.work(admin.actor) as work:
            users.end_sessions(work, case.person.user_id)
            written = pool.submit(write)
            assert done.wait(4)
        written.result(10)
    with database.read() as session:
        rows = session.execute(select(SignedIn.id, SignedIn.last_ip_address))
        addresses = {row.id: row.last_ip_address for row in rows}
    assert addresses[other_id] == "127.0.0.8"
    assert addresses[case.session_id] is None


def test_a_counter_that_is_purged_at_this_moment_is_made_anew(
    admin: Person, pool: ThreadPoolExecutor
) -> None:
    database = admin.database

    def admit() -> bool:
        with database.work(SYSTEM) as work:
            return limits.admit(work, "user:7")

    assert admit()
    with database.work(SYSTEM) as work:
        row = work.session.get_one(SignInLimit, "user:7", with_for_update=True)
        other = pool.submit(admit)
        until_somebody_waits(database)
        work.session.delete(row)
    assert other.result(10)
    with database.read() as session:
        assert session.get_one(SignInLimit, "user:7").pending == 1
