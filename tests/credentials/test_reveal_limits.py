"""So many reveals an hour: counted to the second, over all doors, and by however many servers."""

import base64
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import func, select

from tests.conftest import SECRET_KEY, Later, Person
from tests.credentials.conftest import Events, added
from tests.faults.running import access_token, at_once, serving
from tests.tokens.conftest import client_at, made
from vmtrak import credentials, db
from vmtrak.access import Scope
from vmtrak.alerts import Alert
from vmtrak.audit import AuditEvent
from vmtrak.credentials import CredentialReveal, RevealRequest, Which
from vmtrak.db import Database
from vmtrak.errors import TooMany
from vmtrak.web import revealing
from vmtrak.web.state import State

SECRET = "not to be read by chance"
KEYS = f"tests:{base64.b64encode(bytes(range(32))).decode()}"
TOGETHER = 200
HOUR = 3_600

Outcome = str | int
"""The password, or after how many seconds to try again."""

Reveal = Callable[..., Outcome]


@pytest.fixture
def number(admin: Person, vm: int) -> int:
    return added(admin, vm, "root", SECRET)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the clock of units of work to so many seconds after the start; it stands still."""
    start = datetime.fromisoformat("2026-11-22T08:30:00Z")

    def turn(seconds: int) -> None:
        monkeypatch.setattr(db, "now", lambda: start + timedelta(seconds=seconds))

    turn(0)
    return turn


def reveal(person: Person, number: int, most: int) -> Outcome:
    state: State = person.app.state.vmtrak
    vault = replace(state.vault, rules=replace(state.vault.rules, per_hour=most))
    try:
        return revealing.reveal(
            replace(state, vault=vault), person.actor, Which(number), RevealRequest()
        )
    except TooMany as refused:
        return refused.retry_after


def counted(database: Database, action: str) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).where(AuditEvent.action == action)) or 0


def alerts(database: Database) -> list[tuple[str, str | None]]:
    with database.read() as session:
        found = session.execute(select(Alert.text, Alert.address).order_by(Alert.id))
        return [(text, address) for text, address in found]


def test_a_place_is_free_again_an_hour_after_its_reveal_to_the_second(
    operator: Person, number: int, clock: Callable[[int], None]
) -> None:
    said: list[Outcome] = []
    for seconds in (0, 10, 10, 20, HOUR - 1, HOUR, HOUR, HOUR + 9, HOUR + 10, HOUR + 10):
        clock(seconds)
        said.append(reveal(operator, number, most=2))
    assert said == [SECRET, SECRET, 3_590, 3_580, 1, SECRET, 10, 1, SECRET, HOUR - 10]


def test_a_lowered_limit_waits_until_enough_reveals_are_an_hour_old(
    operator: Person, number: int, clock: Callable[[int], None]
) -> None:
    for seconds in (0, 100, 200):
        clock(seconds)
        assert reveal(operator, number, most=3) == SECRET
    clock(300)
    assert reveal(operator, number, most=1) == HOUR - 100
    assert reveal(operator, number, most=2) == HOUR - 200
    assert reveal(operator, number, most=3) == HOUR - 300
    clock(100 + HOUR)
    assert reveal(operator, number, most=2) == SECRET


def test_being_refused_is_on_record_each_time_and_prolongs_nothing(
    operator: Person, number: int, events: Events, clock: Callable[[int], None]
) -> None:
    assert reveal(operator, number, most=1) == SECRET
    for seconds in range(1, 6):
        clock(seconds)
        assert reveal(operator, number, most=1) == HOUR - seconds
    assert events(number)[-5:] == [("credential.reveal_refused", {"limit": 1})] * 5
    clock(HOUR)
    assert reveal(operator, number, most=1) == SECRET
    with operator.database.read() as session:
        assert session.scalar(select(func.count()).select_from(CredentialReveal)) == 2


@pytest.mark.parametrize("settings", [{"reveals_per_hour": 4}], indirect=True)
def test_all_doors_count_together_and_each_person_for_themselves(
    operator: Person, admin: Person, vm: int, number: int, database: Database
) -> None:
    rest = f"/api/vms/{vm}/credentials/{number}/reveal"
    page = f"/admin/credential/reveal/{number}"
    script = client_at(operator.app, made(operator, Scope.CREDENTIALS_REVEAL)[1])
    panel, api = operator.panel, operator.api

    def knock() -> list[httpx2.Response]:
        earlier = f"/api/vms/{vm}/credentials/{number}/versions/1/reveal"
        return [api.get(rest), script.post(rest), panel.post(page), api.get(earlier)]

    assert [answer.json() for answer in knock()] == [{"password": SECRET}] * 4
    for refused in knock():
        assert refused.status_code == 429
        assert HOUR - 60 < int(refused.headers["Retry-After"]) <= HOUR
        assert refused.headers["Cache-Control"] == "no-store"
        assert SECRET not in refused.text
    assert counted(database, "credential.reveal_refused") == 4
    assert admin.api.get(rest).json() == {"password": SECRET}


@pytest.mark.parametrize("settings", [{"reveals_per_hour": 1}], indirect=True)
def test_after_an_hour_the_door_is_open_again(
    operator: Person, vm: int, number: int, later: Later
) -> None:
    address = f"/api/vms/{vm}/credentials/{number}/reveal"
    assert operator.api.get(address).status_code == 200
    wait = int(operator.api.get(address).headers["Retry-After"])
    later(wait - 30)
    assert operator.api.get(address).status_code == 429
    later(30)
    assert operator.api.get(address).status_code == 200


def test_destroying_what_was_revealed_gives_nothing_back(
    operator: Person, vm: int, number: int
) -> None:
    other = added(operator, vm, "other", SECRET)
    assert reveal(operator, other, most=1) == SECRET
    with operator.database.work(operator.actor) as work:
        credentials.remove(work, Which(other))
    assert isinstance(reveal(operator, number, most=1), int)


def test_the_administrators_are_told_once_for_a_person_and_an_hour(
    operator: Person, admin: Person, number: int, clock: Callable[[int], None]
) -> None:
    """By the hours of the clock: the start is half past eight."""
    for person in (operator, admin):
        assert reveal(person, number, most=1) == SECRET
    assert alerts(operator.database) == []
    for seconds in (0, 1, 1_799, 1_800, 1_801):
        clock(seconds)
        reveal(operator, number, most=1)
    reveal(admin, number, most=1)
    told = [(text.split()[0], address) for text, address in alerts(operator.database)]
    mine, ada = (f"/admin/user/seen/{person.user_id}" for person in (operator, admin))
    assert told == [("otto", mine), ("otto", mine), ("ada", ada)]
    assert "limit of 1 revealed" in alerts(operator.database)[0][0]


def test_of_many_at_once_as_many_succeed_as_may_and_the_alert_is_posted_once(
    operator: Person, number: int, clock: Callable[[int], None]
) -> None:
    clock(5)
    said = Counter(at_once(12, lambda _: reveal(operator, number, most=5)))
    assert said == {SECRET: 5, HOUR: 7}
    assert counted(operator.database, "credential.reveal") == 5
    assert counted(operator.database, "credential.reveal_refused") == 7
    assert len(alerts(operator.database)) == 1


# Real servers


def environment(url: str, most: int) -> dict[str, str]:
    return {
        "VMTRAK_DATABASE_URL": url,
        "VMTRAK_SECRET_KEY": SECRET_KEY,
        "VMTRAK_CREDENTIAL_KEYS": KEYS,
        "VMTRAK_REVEALS_PER_HOUR": str(most),
    }


def revealable(client: httpx2.Client) -> str:
    """The address at which a new credential is revealed."""
    vm = client.post("/api/vms", json={"vm_name": "web-01"}).json()["id"]
    new = {"username": "root", "password": SECRET}
    answer = client.post(f"/api/vms/{vm}/credentials", json=new)
    assert answer.status_code == 201, answer.text
    return f"/api/vms/{vm}/credentials/{answer.json()['id']}/reveal"


def trail(url: str) -> list[tuple[str, str | None]]:
    """What the trail tells of reveals: kind and reason."""
    database = Database(url)
    chosen = select(AuditEvent.action, AuditEvent.detail).where(AuditEvent.action.like("%reveal%"))
    with database.read() as session:
        found = [(action, detail.get("reason")) for action, detail in session.execute(chosen)]
    database.close()
    return found


def test_of_two_hundred_at_once_each_that_was_shown_is_on_record_once(
    database_url: str, tmp_path: Path
) -> None:
    settings = environment(database_url, TOGETHER + 1)
    with (
        serving(tmp_path, **settings) as server,
        server.client(access_token(database_url)) as client,
    ):
        address = revealable(client)

        def ask(index: int) -> tuple[str, httpx2.Response]:
            why = f"ticket {index}"
            return why, client.post(address, json={"reason": why})

        answers = at_once(TOGETHER, ask)
        assert server.stop() == 0
    shown = [why for why, answer in answers if answer.status_code == 200]
    assert {answer.json().get("password") for _, answer in answers} <= {SECRET, None}
    assert {answer.status_code for _, answer in answers} <= {200, 503}
    assert shown
    told = trail(database_url)
    assert sorted(told) == sorted(("credential.reveal", why) for why in shown)
    lines = (tmp_path / "logs" / "audit.log").read_text().splitlines()
    kept = [event for event in map(json.loads, lines) if event["action"] == "credential.reveal"]
    assert sorted(event["detail"]["reason"] for event in kept) == sorted(shown)
    assert len({event["id"] for event in kept}) == len(shown)


def test_the_limit_holds_across_two_servers_on_one_database(
    database_url: str, tmp_path: Path
) -> None:
    most, asked = 15, 60
    settings = environment(database_url, most)
    token = access_token(database_url)
    folders = tmp_path / "one", tmp_path / "other"
    for folder in folders:
        folder.mkdir()
    with (
        serving(folders[0], **settings) as one,
        serving(folders[1], "--no-worker", **settings) as other,
        one.client(token) as here,
        other.client(token) as there,
    ):
        address = revealable(here)
        answers = at_once(asked, lambda index: (here, there)[index % 2].get(address))
    assert Counter(answer.status_code for answer in answers) == {200: most, 429: asked - most}
    waits = [int(a.headers["Retry-After"]) for a in answers if a.status_code == 429]
    assert HOUR - 60 < min(waits) <= max(waits) <= HOUR
    assert Counter(action for action, _ in trail(database_url)) == {
        "credential.reveal": most,
        "credential.reveal_refused": asked - most,
    }
    database = Database(database_url)
    assert len({text for text, _ in alerts(database)}) == 1
    assert len(alerts(database)) <= 2, "the hour of the clock may have turned meanwhile"
    database.close()
