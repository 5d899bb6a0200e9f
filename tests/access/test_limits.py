"""Limits against guessing: accounts, known browsers, addresses; at both doors, in one database."""

import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta

import anyio
import anyio.lowlevel
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from sqlalchemy import delete, func, select
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.access.test_passwords import bcrypted, put
from tests.conftest import BASE_URL, PASSWORD, Later, Person, anonymous_client
from vmtrak import app as application
from vmtrak import db
from vmtrak.access import SYSTEM
from vmtrak.accounts import NewUser, SignInLimit, access_tokens, limits, sessions, users
from vmtrak.audit import AuditEvent
from vmtrak.db import Database
from vmtrak.errors import NotFound, TooMany
from vmtrak.settings import Settings
from vmtrak.web import sign_in
from vmtrak.web.turns import Turns

WRONG = "not the password"

DOORS = ("rest", "panel")

FLOOR = sign_in.FLOOR


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are answered at once but where the wait is what is tested."""
    monkeypatch.setattr(sign_in, "FLOOR", 0.0)
    monkeypatch.setattr(sign_in, "SLOWED_BY", 0.0)


@pytest.fixture(autouse=True)
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Moves the program's clock, which stands still in between: a second more is another answer."""
    real, present = db.now, [db.now()]
    for name, module in list(sys.modules.items()):
        if name.startswith("vmtrak.") and getattr(module, "now", None) is real:
            monkeypatch.setattr(module, "now", lambda: present[0])

    def unix_time() -> float:
        return present[0].timestamp()

    monkeypatch.setattr(access_tokens, "unix_time", unix_time)

    def move(seconds: float) -> None:
        present[0] += timedelta(seconds=seconds)

    return move


@dataclass(frozen=True, slots=True)
class Told:
    """What a door says to an attempt; who comes in reads 200."""

    status: int
    words: str = ""
    retry_after: str | None = None


_ALERT = re.compile(r'role="alert">.*?<p>(.*?)</p>', re.DOTALL)

REFUSED = Told(401, sessions.WRONG)


def locked(seconds: int, words: str) -> Told:
    return Told(429, f"Too many failed attempts. Try again in {words}.", str(seconds))


LOCKED = locked(30, "30 seconds")


def knock(client: TestClient, door: str, username: str, password: str) -> Told:
    given = {"username": username, "password": password}
    client.headers["Origin"] = str(client.base_url)
    if door == "rest":
        answer = client.post("/api/auth/login", json=given)
        words = "" if answer.is_success else answer.json()["detail"]
    else:
        answer = client.post("/admin/login", data=given)
        found = _ALERT.search(answer.text)
        words = found[1] if found else ""
    status = 200 if answer.status_code == 303 else answer.status_code
    return Told(status, words, answer.headers.get("Retry-After"))


def stranger(app: Starlette, address: str = "127.0.0.1") -> TestClient:
    """Somebody whose browser nobody knows, at an address."""
    return TestClient(
        app,
        BASE_URL,
        client=(address, 50_000),
        raise_server_exceptions=False,
        follow_redirects=False,
    )


def guessed(app: Starlette, number: int, username: str = "otto", door: str = "rest") -> list[int]:
    """The statuses of so many wrong guesses by a stranger."""
    client = stranger(app)
    return [knock(client, door, username, WRONG).status for _ in range(number)]


def events(database: Database, action: str) -> list[tuple[str, int | None, str | None, object]]:
    """What the trail says of an action: type, number, name and detail, the oldest first."""
    with database.read() as session:
        found = session.scalars(
            select(AuditEvent).where(AuditEvent.action == action).order_by(AuditEvent.id)
        )
        return [(e.entity_type, e.entity_id, e.entity_name, e.detail) for e in found]


# An account


@pytest.mark.parametrize("door", DOORS)
def test_four_failures_in_a_row_cost_nothing(door: str, app: Starlette) -> None:
    for _ in range(2):
        assert guessed(app, 4, door=door) == [401] * 4
        assert knock(stranger(app), door, "otto", PASSWORD) == Told(200)


@pytest.mark.parametrize("door", DOORS)
def test_the_fifth_failure_locks_and_the_right_password_waits_too(
    door: str, app: Starlette, later: Later
) -> None:
    assert guessed(app, 5, door=door) == [401] * 5
    for other in DOORS:
        assert knock(stranger(app), other, "otto", PASSWORD) == LOCKED
        assert knock(stranger(app, "127.0.0.9"), other, " OTTO ", WRONG) == LOCKED
    assert knock(stranger(app), door, "rita", PASSWORD) == Told(200)
    later(29)
    assert knock(stranger(app), door, "otto", PASSWORD) == locked(1, "1 second")
    later(1)
    assert knock(stranger(app), door, "otto", PASSWORD) == Told(200)
    assert guessed(app, 5, door=door) == [401] * 5


def test_each_further_failure_doubles_the_lock_up_to_a_quarter_of_an_hour(
    app: Starlette, later: Later
) -> None:
    guessed(app, 4)
    waits = []
    for _ in range(8):
        assert guessed(app, 1) == [401]
        told = knock(stranger(app), "rest", "otto", PASSWORD)
        waits.append(int(told.retry_after or 0))
        later(waits[-1])
    assert waits == [30, 60, 120, 240, 480, 900, 900, 900]
    assert knock(stranger(app), "rest", "otto", PASSWORD) == Told(200)


def test_the_wait_is_told_in_minutes_where_it_is_long(app: Starlette, later: Later) -> None:
    guessed(app, 5)
    for wait in (30, 60, 120):
        later(wait)
        guessed(app, 1)
    assert knock(stranger(app), "panel", "otto", WRONG) == locked(240, "4 minutes")


def test_attempts_during_a_lock_do_not_prolong_it(app: Starlette, later: Later) -> None:
    guessed(app, 5)
    assert guessed(app, 20) == [429] * 20
    later(30)
    assert guessed(app, 1) == [401]
    assert knock(stranger(app), "rest", "otto", WRONG).retry_after == "60"


def test_failures_of_yesterday_do_not_count(app: Starlette, later: Later) -> None:
    guessed(app, 4)
    later(24 * 3600)
    assert guessed(app, 4) == [401] * 4
    assert knock(stranger(app), "rest", "otto", PASSWORD) == Told(200)


@pytest.mark.parametrize("door", DOORS)
def test_nothing_tells_whether_there_is_such_a_name(
    door: str, app: Starlette, admin: Person, database: Database, later: Later
) -> None:
    """Status, headers and body of each step are the same, but for the name and the request's id."""
    with admin.database.work(admin.actor) as work:
        for name in ("shut", "open"):
            given = {"username": name, "email": f"{name}@vmtrak.example", "role": "read"}
            new = users.add(work, NewUser.model_validate({**given, "password": PASSWORD}))
            if name == "shut":
                users.deactivate(work, new.id)
    with admin.database.work(admin.actor) as work:
        given = {"username": "late", "email": "late@vmtrak.example", "role": "read"}
        users.add(work, NewUser.model_validate(given))
    seen: dict[str, list[tuple[int, object, object]]] = {
        name: [] for name in ("open", "shut", "late", "nemo")
    }
    for wait in [0] * 6 + [31, 0]:
        later(wait)
        for name, answers in seen.items():
            client = stranger(app)
            client.headers["Origin"] = BASE_URL
            given = {"username": name, "password": WRONG}
            if door == "rest":
                answer = client.post("/api/auth/login", json=given)
                body = answer.json() | {"request_id": ""}
            else:
                answer = client.post("/admin/login", data=given)
                body = answer.text.replace(name, "")
            answers.append((answer.status_code, sorted(answer.headers.items()), body))
    assert [answer[0] for answer in seen["open"]] == [401] * 5 + [429, 401, 429]
    for name in ("shut", "late", "nemo"):
        assert json.dumps(seen[name]) == json.dumps(seen["open"])


def test_what_was_typed_as_a_name_is_kept_nowhere(app: Starlette, database: Database) -> None:
    for _ in range(5):
        knock(stranger(app), "rest", "hunter2 typed into the wrong field", WRONG)
    with database.read() as session:
        rows = session.scalars(select(SignInLimit.key)).all()
    assert not [key for key in rows if "hunter2" in key]
    [(kind, number, name, _)] = events(database, "auth.locked")
    assert (kind, number, name) == ("auth", None, None)


def test_a_lock_is_audited_once(app: Starlette, operator: Person, later: Later) -> None:
    guessed(app, 12)
    [(kind, number, name, detail)] = events(operator.database, "auth.locked")
    assert (kind, number, name) == ("user", operator.user_id, "otto")
    assert isinstance(detail, dict)
    assert detail["failures"] == 5
    assert len(events(operator.database, "auth.login_failed")) == 5
    later(30)
    guessed(app, 3)
    assert len(events(operator.database, "auth.locked")) == 2


def test_failed_attempts_are_answered_not_before_the_floor(
    app: Starlette, people: dict[str, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in, "FLOOR", FLOOR)
    admin, operator = people["admin"], people["operator"]
    put(admin.database, operator.user_id, bcrypted(PASSWORD, cost=8))
    with admin.database.work(admin.actor) as work:
        users.deactivate(work, people["outsider"].user_id)
    for name in ("nobody", "otto", "rita", "olga"):
        began = time.monotonic()
        assert knock(stranger(app), "rest", name, WRONG) == REFUSED
        assert time.monotonic() - began >= FLOOR


# Opening it again


def test_an_admin_sees_and_unlocks_a_locked_account(
    app: Starlette, admin: Person, operator: Person
) -> None:
    guessed(app, 5)
    with admin.database.read() as session:
        found = limits.locked(session, admin.actor, db.now())
    assert [*found] == [operator.user_id]
    path = f"/api/users/{operator.user_id}/unlock"
    assert admin.api.post(path).json() == {"ok": True}
    with admin.database.read() as session:
        assert limits.locked(session, admin.actor, db.now()) == {}
    assert knock(stranger(app), "rest", "otto", PASSWORD) == Told(200)
    assert admin.api.post(path).json() == {"ok": True}
    assert events(admin.database, "user.unlock") == [("user", operator.user_id, "otto", None)]


def test_a_lock_that_is_over_is_no_longer_shown(
    app: Starlette, admin: Person, later: Later
) -> None:
    guessed(app, 5)
    guessed(app, 5, "nobody at all")
    later(30)
    with admin.database.read() as session:
        assert limits.locked(session, admin.actor, db.now()) == {}


def test_nobody_unlocks_who_does_not_exist(admin: Person, operator: Person) -> None:
    assert admin.api.post("/api/users/999999/unlock").status_code == 404
    with pytest.raises(NotFound), admin.database.work(SYSTEM) as work:
        limits.unlock(work, 999_999)
    assert operator.api.post(f"/api/users/{admin.user_id}/unlock").status_code == 403


def test_unlocking_one_account_leaves_those_whose_number_begins_alike(
    app: Starlette, admin: Person
) -> None:
    with admin.database.work(SYSTEM) as work:
        for number in (1, 10, 11):
            work.session.add(
                SignInLimit(key=f"user:{number}", failures=9, pending=0, last_failed_at=work.moment)
            )
        work.flush()
        limits.forget(work, 1)
    with admin.database.read() as session:
        rows = session.scalars(select(SignInLimit))
        assert {row.key: row.failures for row in rows} == {"user:1": 0, "user:10": 9, "user:11": 9}


def test_a_new_password_opens_a_locked_account(
    app: Starlette, admin: Person, operator: Person
) -> None:
    secret = "quite another secret"
    guessed(app, 5)
    with admin.database.work(admin.actor) as work:
        users.reset_password(work, operator.user_id, secret)
    assert knock(stranger(app), "rest", "otto", secret) == Told(200)
    guessed(app, 5)
    with admin.database.work(admin.actor) as work:
        _, token = users.reset_link(work, operator.user_id)
    guessed(app, 5)
    visitor = stranger(app)
    visitor.headers["Origin"] = BASE_URL
    form = {"token": token, "password": "and one more of them"}
    assert visitor.post("/admin/setup", data=form).status_code == 303
    assert knock(stranger(app), "panel", "otto", form["password"]) == Told(200)


# A browser that is known


def known(app: Starlette, door: str, username: str = "otto") -> TestClient:
    """A browser in which somebody has signed in, without the session."""
    client = stranger(app)
    assert knock(client, door, username, PASSWORD) == Told(200)
    cookie = client.cookies["vmtrak_device"]
    client.cookies.clear()
    return carrying(client, cookie)


def carrying(client: TestClient, cookie: str) -> TestClient:
    client.cookies.set("vmtrak_device", cookie, domain="127.0.0.1", path="/")
    return client


@pytest.mark.parametrize("door", DOORS)
def test_nobody_is_locked_out_of_a_browser_in_which_they_have_signed_in(
    door: str, app: Starlette
) -> None:
    browser = known(app, door)
    guessed(app, 30)
    assert knock(stranger(app), door, "otto", PASSWORD).status == 429
    for other in DOORS:
        assert knock(browser, other, "otto", PASSWORD) == Told(200)


@pytest.mark.parametrize("door", DOORS)
def test_a_known_browser_is_counted_by_itself(door: str, app: Starlette, later: Later) -> None:
    browser, other = known(app, door), known(app, door)
    assert [knock(browser, door, "otto", WRONG).status for _ in range(6)] == [401] * 5 + [429]
    assert knock(browser, door, "otto", PASSWORD) == LOCKED
    assert knock(other, door, "otto", PASSWORD) == Told(200)
    assert knock(stranger(app), door, "otto", PASSWORD) == Told(200)
    assert knock(browser, door, "otto", PASSWORD) == LOCKED
    later(30)
    assert knock(browser, door, "otto", PASSWORD) == Told(200)


def test_a_browser_is_known_for_one_user_only(app: Starlette) -> None:
    browser = known(app, "rest", "rita")
    guessed(app, 5)
    assert knock(browser, "rest", "otto", PASSWORD) == LOCKED
    assert knock(browser, "rest", "nobody", WRONG) == REFUSED
    assert knock(browser, "rest", "rita", PASSWORD) == Told(200)


def test_signing_in_again_keeps_the_browsers_name(app: Starlette) -> None:
    browser = known(app, "rest")
    name = claims(app, browser.cookies["vmtrak_device"])["jti"]
    answer = browser.post("/api/auth/login", json={"username": "otto", "password": PASSWORD})
    assert claims(app, answer.cookies["vmtrak_device"])["jti"] == name
    assert claims(app, known(app, "rest").cookies["vmtrak_device"])["jti"] != name


def claims(app: Starlette, cookie: str) -> dict[str, object]:
    key = OctKey.import_key(app.state.vmtrak.rules.secret)
    return dict(jwt.decode(cookie, key, algorithms=["HS256"]).claims)


def test_a_known_browser_is_forgotten_with_the_password_and_after_ninety_days(
    app: Starlette, admin: Person, operator: Person, later: Later
) -> None:
    secret = "quite another secret"
    first, other = known(app, "panel"), known(app, "panel", "rita")
    with admin.database.work(admin.actor) as work:
        users.reset_password(work, operator.user_id, secret)
    guessed(app, 5)
    assert knock(first, "panel", "otto", secret) == LOCKED
    later(90 * 24 * 3600 - 1)
    guessed(app, 5, "rita")
    assert knock(other, "panel", "rita", PASSWORD) == Told(200)
    other = carrying(stranger(app), known(app, "panel", "aud").cookies["vmtrak_device"])
    later(90 * 24 * 3600)
    guessed(app, 5, "aud")
    assert knock(other, "panel", "aud", PASSWORD) == LOCKED


def test_a_cookie_that_was_not_given_to_this_browser_makes_it_no_known_one(
    app: Starlette,
) -> None:
    cookie = known(app, "rest").cookies["vmtrak_device"]
    told = claims(app, cookie)
    key = OctKey.import_key(app.state.vmtrak.rules.secret)
    access = (
        stranger(app)
        .post("/api/auth/login", json={"username": "otto", "password": PASSWORD})
        .json()["accessToken"]
    )
    guessed(app, 5)
    forged = [
        cookie[:-3] + ("AAA" if cookie[-3:] != "AAA" else "BBB"),
        cookie.partition(".")[0] + "." + cookie.split(".")[1] + ".",
        jwt.encode({"alg": "HS256"}, told, OctKey.import_key("another key of 32 bytes or more..")),
        jwt.encode({"alg": "HS256"}, told | {"aud": "vmtrak"}, key),
        jwt.encode({"alg": "HS256"}, {k: v for k, v in told.items() if k != "exp"}, key),
        jwt.encode({"alg": "HS256"}, told | {"exp": "soon"}, key),
        jwt.encode({"alg": "HS256"}, told | {"exp": 10**30}, key),
        jwt.encode({"alg": "HS256"}, told | {"pwd": "0" * 16}, key),
        access,
        "x",
        "a.b.c",
        "." * 3000,
    ]
    for each in forged:
        assert knock(carrying(stranger(app), each), "rest", "otto", PASSWORD) == LOCKED
    assert knock(carrying(stranger(app), cookie), "rest", "otto", PASSWORD) == Told(200)


@pytest.mark.parametrize("door", DOORS)
def test_the_cookie_is_out_of_reach_of_scripts_and_signs_nobody_in(
    door: str, app: Starlette
) -> None:
    client = stranger(app)
    client.headers["Origin"] = BASE_URL
    given = {"username": "otto", "password": PASSWORD}
    if door == "rest":
        answer = client.post("/api/auth/login", json=given)
    else:
        answer = client.post("/admin/login", data=given)
    [line] = [
        each for each in answer.headers.get_list("set-cookie") if each.startswith("vmtrak_device=")
    ]
    parts = {part.strip().lower() for part in line.split(";")[1:]}
    assert {"httponly", "path=/", "samesite=strict", f"max-age={90 * 24 * 3600}"} <= parts
    cookie = client.cookies["vmtrak_device"]
    bare = carrying(stranger(app), cookie)
    assert bare.get("/admin/").status_code == 303
    bearer = {"Authorization": f"Bearer {cookie}"}
    assert bare.get("/api/auth/me", headers=bearer).status_code == 401
    assert not set(cookie.split(".")) & {PASSWORD}


# An address


def spray(app: Starlette, number: int, address: str = "127.0.0.1") -> set[int]:
    """Wrong guesses for so many different names."""
    client = stranger(app, address)
    return {knock(client, "rest", f"guess-{index}", WRONG).status for index in range(number)}


@pytest.mark.parametrize("door", DOORS)
def test_an_address_that_guesses_is_slowed_and_a_right_password_still_gets_in(
    door: str, app: Starlette, monkeypatch: pytest.MonkeyPatch, later: Later
) -> None:
    browser = known(app, door, "rita")
    monkeypatch.setattr(sign_in, "SLOWED_BY", 1.5)
    began = time.monotonic()
    assert spray(app, 21) == {401}
    assert wait_of(app, door, "127.0.0.1") >= 1.5
    assert wait_of(app, door, "127.0.0.2") < 1.5
    began = time.monotonic()
    assert knock(browser, door, "rita", PASSWORD) == Told(200)
    assert time.monotonic() - began < 1.5
    later(15 * 60)
    assert wait_of(app, door, "127.0.0.1") < 1.5


def wait_of(app: Starlette, door: str, address: str) -> float:
    """How long a right password takes from there."""
    began = time.monotonic()
    assert knock(stranger(app, address), door, "otto", PASSWORD) == Told(200)
    return time.monotonic() - began


def test_right_passwords_never_make_an_address_slow(
    app: Starlette, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in, "SLOWED_BY", 60)
    for _ in range(25):
        assert knock(stranger(app), "rest", "otto", PASSWORD) == Told(200)


def test_an_address_that_never_stops_is_as_quick_as_ever_half_an_hour_after_it_did(
    database: Database, later: Later
) -> None:
    for _ in range(200):
        with database.work(SYSTEM) as work:
            limits.arrived(work, "nobody:x", "address:192.0.2.1")
    later(15 * 60)
    with database.work(SYSTEM) as work:
        assert limits.arrived(work, "nobody:x", "address:192.0.2.1") == (45, False)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1:2:3", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
    ],
)
def test_an_ipv6_network_counts_as_one_address(one: str, other: str, same: bool) -> None:  # noqa: FBT001 - a column of the table
    assert (limits.of_address(one) == limits.of_address(other)) is same
    assert limits.of_address(None) == limits.of_address(None)


def test_turns_go_in_order_of_arrival_and_refuse_a_crowd() -> None:
    turns = Turns(at_once=2, waiting=3)
    order: list[object] = []
    refused: list[tuple[int, int]] = []

    async def visit(number: int) -> None:
        try:
            async with turns.turn("here"):
                order.append(number)
                await anyio.sleep(0.02)
        except TooMany as error:
            refused.append((number, error.retry_after))

    async def all_at_once() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(7):
                tasks.start_soon(visit, number)
                await anyio.lowlevel.checkpoint()
            async with turns.turn("elsewhere"):
                order.append("elsewhere")

    anyio.run(all_at_once)
    assert order[:3] == [0, 1, "elsewhere"]
    assert order[3:] == [2, 3, 4]
    assert refused == [(5, 1), (6, 1)]
    assert not turns._present
    assert not turns._queues


# Many at once, in several processes


@pytest.fixture
def processes(settings: Settings) -> Iterator[list[TestClient]]:
    """Two applications on one database, each with an event loop of its own."""
    with ExitStack() as stack:
        yield [stack.enter_context(anonymous_client(application.build(settings))) for _ in range(2)]


def at_once(clients: list[TestClient], number: int, *, password: str) -> Counter[int]:
    """The statuses of so many attempts at the same moment, spread over the clients."""
    start = threading.Barrier(number)
    given = {"username": "otto", "password": password}

    def run(index: int) -> int:
        start.wait()
        client = clients[index % len(clients)]
        return client.post("/api/auth/login", json=given).status_code

    with ThreadPoolExecutor(number) as pool:
        return Counter(pool.map(run, range(number)))


def test_of_fifty_guesses_at_once_five_are_looked_at(
    processes: list[TestClient], later: Later
) -> None:
    assert at_once(processes, 50, password=WRONG) == {401: 5, 429: 45}
    later(30)
    assert at_once(processes, 20, password=WRONG) == {401: 1, 429: 19}


def test_of_many_right_passwords_at_once_none_is_refused(processes: list[TestClient]) -> None:
    assert at_once(processes, 24, password=PASSWORD) == {200: 24}


def test_no_failure_is_lost_among_processes(settings: Settings) -> None:
    databases = [Database(settings.database_url) for _ in range(2)]
    attempt = limits.Attempt("user:7")

    def fail(index: int) -> None:
        with databases[index % 2].work(SYSTEM) as work:
            limits.failed(work, attempt)

    with ThreadPoolExecutor(8) as pool:
        assert len([*pool.map(fail, range(40))]) == 40
    with databases[0].read() as session:
        assert session.get_one(SignInLimit, "user:7").failures == 40
    for each in databases:
        each.close()


# What becomes of an attempt


def admitted(database: Database, number: int = 1) -> list[bool]:
    found = []
    for _ in range(number):
        with database.work(SYSTEM) as work:
            found.append(limits.admit(work, "user:7"))
    return found


def settle(database: Database, outcome: Callable[..., None]) -> None:
    with database.work(SYSTEM) as work:
        outcome(work, limits.Attempt("user:7"))


def test_no_more_are_looked_at_than_may_fail(database: Database) -> None:
    assert admitted(database, 7) == [True] * 5 + [False] * 2
    settle(database, limits.failed)
    assert admitted(database) == [False]
    settle(database, limits.succeeded)
    assert admitted(database, 3) == [True, True, False]


def test_an_attempt_that_was_withdrawn_changes_nothing(database: Database) -> None:
    for _ in range(4):
        admitted(database)
        settle(database, limits.failed)
    for _ in range(3):
        assert admitted(database, 2) == [True, False]
        settle(database, limits.withdrawn)
    admitted(database)
    settle(database, limits.failed)
    with pytest.raises(TooMany) as raised:
        admitted(database)
    assert raised.value.retry_after == 30


def test_what_a_process_looked_at_when_it_died_counts_as_failed(
    database: Database, later: Later
) -> None:
    assert admitted(database, 5) == [True] * 5
    later(59)
    assert admitted(database) == [False]
    later(1)
    assert admitted(database) == [True]
    settle(database, limits.failed)
    with pytest.raises(TooMany) as raised:
        admitted(database)
    assert raised.value.retry_after == 60


def test_the_own_password_is_counted_in_the_session_alone(app: Starlette, operator: Person) -> None:
    api = operator.api
    given = {"current_password": WRONG, "new_password": "quite another secret"}
    told = [api.post("/api/auth/password", json=given) for _ in range(6)]
    assert [answer.status_code for answer in told] == [422] * 5 + [429]
    assert told[-1].headers["Retry-After"] == "30"
    assert knock(stranger(app), "rest", "otto", PASSWORD) == Told(200)
    right = operator.api.post("/api/auth/password", json=given | {"current_password": PASSWORD})
    assert right.is_success


def test_counters_that_say_nothing_any_more_can_be_deleted(
    app: Starlette, database: Database, later: Later
) -> None:
    guessed(app, 5)
    assert deleted(database) == 0
    later(24 * 3600)
    guessed(app, 1, "rita")
    assert deleted(database) == 1
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(SignInLimit)) == 2


def deleted(database: Database) -> int:
    with database.work(SYSTEM) as work:
        statement = delete(SignInLimit).where(limits.expired(work.moment))
        keys = statement.returning(SignInLimit.key)
        return len(work.session.execute(keys).all())


# What the panel shows


def test_the_sign_in_page_keeps_the_name_and_says_how_long_to_wait(app: Starlette) -> None:
    guessed(app, 5)
    client = stranger(app)
    client.headers["Origin"] = BASE_URL
    form = {"username": "otto", "password": "typed 4711 typed", "next": "/admin/vm/list"}
    page = client.post("/admin/login", data=form)
    assert page.status_code == 429
    assert "Try again in 30 seconds." in page.text
    assert 'value="otto"' in page.text
    assert 'value="/admin/vm/list"' in page.text
    assert "4711" not in page.text
