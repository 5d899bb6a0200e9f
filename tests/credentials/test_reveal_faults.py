"""What cannot be put on record is not shown, and what is not shown is not on record."""

import base64
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from loguru import logger
from sqlalchemy import func, select, text, update

from tests.conftest import SECRET_KEY, Person
from tests.credentials.conftest import added
from tests.doors import DOORS, Door, Outcome
from tests.faults.running import STOP_SECONDS, access_token, serving
from tests.faults.test_locks import full_at, sqlite_only, write_lock
from vmtrak import db
from vmtrak.audit import AuditEvent
from vmtrak.credentials import CredentialPassword, CredentialReveal
from vmtrak.db import Database
from vmtrak.sealing import Sealed

SECRET = "not to be read by chance"
ROUNDS = 500
KEY = f"tests:{base64.b64encode(bytes(range(32))).decode()}"

_RAISING = (
    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'refused'; END $$"
)
AT_ONCE = {
    "sqlite": (
        "CREATE TRIGGER refuse BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'refused'); END",
    ),
    "postgresql": (
        _RAISING,
        "CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()",
    ),
}
_OWED = "CREATE TABLE owed (id INTEGER REFERENCES vms (id) DEFERRABLE INITIALLY DEFERRED)"
_OWING = "CREATE TRIGGER refuse AFTER INSERT ON {table} BEGIN INSERT INTO owed VALUES (4711); END"
_DEFERRED = (
    "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON {table} "
    "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"
)
AT_THE_COMMIT = {"sqlite": (_OWED, _OWING), "postgresql": (_RAISING, _DEFERRED)}


@pytest.fixture
def number(admin: Person, vm: int) -> int:
    return added(admin, vm, "root", SECRET)


@pytest.fixture(params=list(DOORS))
def door(request: pytest.FixtureRequest, operator: Person) -> Door:
    return DOORS[request.param](operator)


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What the program logs, tracebacks and all."""
    lines: list[str] = []
    sink = logger.add(lines.append, level="WARNING", format="{message}")
    yield lines
    logger.remove(sink)


def on_record(database: Database) -> tuple[int, int]:
    """How many events tell of a reveal, and how many reveals count."""
    told = select(func.count()).where(AuditEvent.action.like("credential.reveal%"))
    counted = select(func.count()).select_from(CredentialReveal)
    with database.read() as session:
        return session.scalar(told) or 0, session.scalar(counted) or 0


def set_up(database: Database, statements: dict[str, tuple[str, ...]], table: str) -> None:
    with database.engine.begin() as connection:
        for statement in statements[database.url.get_backend_name()]:
            connection.execute(text(statement.format(table=table)))


def take_away(database: Database, table: str) -> None:
    of = "" if database.sqlite else f" ON {table}"
    with database.engine.begin() as connection:
        connection.execute(text(f"DROP TRIGGER refuse{of}"))


def assert_nothing(database: Database, outcome: Outcome, status: int) -> None:
    assert outcome.status == status, outcome.text
    assert SECRET not in outcome.text
    assert "refused" not in outcome.text, "an error's inner words are for the log"
    assert on_record(database) == (0, 0)


@pytest.mark.parametrize("table", ["audit_events", "credential_reveals"])
@pytest.mark.parametrize("trouble", [AT_ONCE, AT_THE_COMMIT], ids=["at once", "at the commit"])
def test_without_event_or_count_nothing_is_shown(
    door: Door,
    database: Database,
    vm: int,
    number: int,
    logged: list[str],
    trouble: dict[str, tuple[str, ...]],
    table: str,
) -> None:
    set_up(database, trouble, table)
    assert_nothing(database, door.reveal(vm, number), 500)
    assert logged
    assert not any(SECRET in line for line in logged)
    take_away(database, table)
    assert door.reveal(vm, number).ok
    assert on_record(database) == (1, 1)


@pytest.mark.parametrize("settings", [{"reveals_per_hour": 1}], indirect=True)
def test_a_refusal_that_cannot_be_put_on_record_is_one_all_the_same(
    door: Door, database: Database, vm: int, number: int
) -> None:
    assert door.reveal(vm, number).ok
    set_up(database, AT_ONCE, "audit_events")
    refused = door.reveal(vm, number)
    assert refused.status == 500
    assert SECRET not in refused.text
    assert on_record(database) == (1, 1)


@sqlite_only
def test_while_the_database_is_locked_nothing_is_shown(
    door: Door,
    database: Database,
    vm: int,
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database.engine.dispose()
    monkeypatch.setattr(db, "BUSY_TIMEOUT", 50)
    with write_lock(tmp_path / "inventory.db"):
        assert_nothing(database, door.reveal(vm, number), 503)
    assert door.reveal(vm, number).ok
    assert on_record(database) == (1, 1)


@sqlite_only
@pytest.mark.parametrize("settings", [{"reveals_per_hour": 2 * ROUNDS}], indirect=True)
def test_on_a_full_disk_as_much_is_shown_as_is_on_record(
    door: Door, database: Database, vm: int, number: int
) -> None:
    with database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    database.engine.dispose()
    shown = 0
    with full_at(database, pages):
        while (outcome := door.reveal(vm, number)).ok:
            shown += 1
            assert shown < ROUNDS, "the disk is never full"
        assert outcome.status == 503
        assert SECRET not in outcome.text
        assert on_record(database) == (shown, shown)
    assert door.reveal(vm, number).ok


def damage(database: Database, number: int, spoil: Callable[[str], str]) -> None:
    of = CredentialPassword.credential_id == number
    with database.read() as session:
        sealed = session.scalars(select(CredentialPassword.sealed).where(of)).one()
    with database.engine.begin() as connection:
        spoilt = Sealed(spoil(sealed.text))
        connection.execute(update(CredentialPassword).where(of).values(sealed=spoilt))


def flipped(sealed: str) -> str:
    """Another character in the middle of the ciphertext."""
    at = sealed.rindex(".") + 5
    return sealed[:at] + ("A" if sealed[at] != "A" else "B") + sealed[at + 1 :]


def under_another_key(sealed: str) -> str:
    version, _, rest = sealed.split(".", 2)
    return f"{version}.lost-key.{rest}"


@pytest.mark.parametrize(
    ("spoil", "words", "logs"),
    [
        (flipped, "damaged", "altered or does not belong"),
        (lambda sealed: sealed[:-4], "damaged", "altered or does not belong"),
        (lambda _: "", "damaged", "altered or does not belong"),
        (under_another_key, "not in the key ring", "'lost-key'"),
    ],
    ids=["flipped", "cut", "empty", "unknown key"],
)
def test_what_does_not_open_is_told_in_words_logged_and_counts_for_nothing(
    door: Door,
    database: Database,
    vm: int,
    number: int,
    logged: list[str],
    spoil: Callable[[str], str],
    words: str,
    logs: str,
) -> None:
    damage(database, number, spoil)
    outcome = door.reveal(vm, number)
    assert_nothing(database, outcome, 503)
    assert words in outcome.message
    assert "lost-key" not in outcome.text
    assert any(logs in line for line in logged)
    assert not any(SECRET in line for line in logged)


def test_a_value_moved_from_another_credential_does_not_open(
    door: Door, database: Database, operator: Person, vm: int, number: int
) -> None:
    other = added(operator, vm, "other", "another secret")
    with database.read() as session:
        of_other = CredentialPassword.credential_id == other
        moved = session.scalars(select(CredentialPassword.sealed).where(of_other)).one().text
    damage(database, number, lambda _: moved)
    outcome = door.reveal(vm, number)
    assert_nothing(database, outcome, 503)
    assert "another secret" not in outcome.text


@pytest.mark.parametrize(("when", "told"), [("before", (0, 0)), ("after", (1, 1))])
def test_killed_in_the_middle_it_shows_nothing_that_is_not_on_record(
    database_url: str, tmp_path: Path, when: str, told: tuple[int, int]
) -> None:
    """Between commit and answer alone an event may tell of what nobody saw."""
    settings = {
        "VMTRAK_DATABASE_URL": database_url,
        "VMTRAK_SECRET_KEY": SECRET_KEY,
        "VMTRAK_CREDENTIAL_KEYS": KEY,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    dying = (sys.executable, "-m", "tests.credentials.dying", when)
    with (
        serving(tmp_path, "--no-worker", program=dying, **settings) as server,
        server.client(access_token(database_url)) as client,
    ):
        vm = client.post("/api/vms", json={"vm_name": "web-01"}).json()["id"]
        new = {"username": "root", "password": SECRET}
        made = client.post(f"/api/vms/{vm}/credentials", json=new).json()["id"]
        with pytest.raises(httpx2.TransportError):
            client.get(f"/api/vms/{vm}/credentials/{made}/reveal")
        assert server.process.wait(STOP_SECONDS) == -signal.SIGKILL
    database = Database(database_url)
    assert on_record(database) == told
    database.close()
