"""Named people, both databases, both doors.

Every test that asks for `database` runs on SQLite and on PostgreSQL. The schema comes from the
migrations; data is made by calling operations.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests import canaries, services
from vmtrak import app as application
from vmtrak import db, schema
from vmtrak.access import SYSTEM, Actor, Role
from vmtrak.accounts import NewUser, User, access_tokens, actors, sessions, users
from vmtrak.accounts.access_tokens import SessionRules
from vmtrak.db import Database
from vmtrak.settings import Settings, load
from vmtrak.web.guard import PANEL_COOKIE

BASE_URL = "http://127.0.0.1:3000"
PASSWORD = "correct horse battery staple"
SECRET_KEY = "0123456789abcdefghijklmnopqrstuv"

CANARY = canaries.CANARY
"""Begin the passwords of credentials with it. No answer but a reveal's and no event of a log may
hold it, in any test: tests/canaries.py looks, also for passwords that begin with something else."""

PEOPLE = {
    "admin": {"username": "ada", "email": "ada@vmtrak.example", "role": Role.ADMIN},
    "operator": {"username": "otto", "email": "otto@vmtrak.example", "role": Role.READWRITE},
    "auditor": {"username": "aud", "email": "aud@vmtrak.example", "role": Role.AUDITOR},
    "reader": {
        "username": "rita",
        "email": "rita@vmtrak.example",
        "role": Role.READ,
        "department": "Finance",
    },
    "outsider": {
        "username": "olga",
        "email": "olga@vmtrak.example",
        "role": Role.READ,
        "department": "Logistics",
    },
}

Later = Callable[[float], None]

loopback_only = pytest.fixture(autouse=True, scope="session")(services.loopback_only)
no_password_comes_out = pytest.fixture(autouse=True)(canaries.watch)


@pytest.fixture(autouse=True, scope="session")
def watching() -> Iterator[None]:
    with canaries.watching():
        yield


@dataclass
class Person:
    """Somebody with a role: the actor for operations, a client for each door."""

    name: str
    user_id: int
    database: Database
    app: Starlette
    rules: SessionRules

    @property
    def actor(self) -> Actor:
        with self.database.read() as session:
            return actors.actor_of(session.get_one(User, self.user_id), actors.visitor(None, None))

    @property
    def username(self) -> str:
        return str(PEOPLE[self.name]["username"])

    @property
    def api(self) -> TestClient:
        """A client that sends a fresh access token."""
        with self.database.work(actors.visitor("127.0.0.1", None)) as work:
            tokens = sessions.sign_in_api(work, self.user_id, self.rules, "tests")
        client = anonymous_client(self.app)
        client.headers["Authorization"] = f"Bearer {tokens.access}"
        return client

    @property
    def panel(self) -> TestClient:
        """A client with a panel session, whose requests come from the panel's own pages."""
        with self.database.work(actors.visitor("127.0.0.1", None)) as work:
            token = sessions.sign_in_panel(work, self.user_id, "tests")
        client = anonymous_client(self.app)
        client.headers["Origin"] = BASE_URL
        client.cookies.set(PANEL_COOKIE, token, domain="127.0.0.1", path="/admin")
        return client


def anonymous_client(app: Starlette) -> TestClient:
    return TestClient(
        app,
        BASE_URL,
        client=("127.0.0.1", 50_000),
        raise_server_exceptions=False,
        follow_redirects=False,
    )


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with services.postgres_server() as url:
        yield url


def _prepare(url: str) -> None:
    database = Database(url)
    schema.migrate(database)
    with database.work(SYSTEM) as work:
        for person in PEOPLE.values():
            user = users.add(work, NewUser.model_validate({**person, "password": PASSWORD}))
            user.must_change_password = False
    database.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file with the named people in it."""
    path = tmp_path_factory.mktemp("template") / "inventory.db"
    _prepare(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres: str) -> Iterator[str]:
    """The name of a migrated PostgreSQL database with the named people in it."""
    with services.fresh_database(postgres) as url:
        _prepare(url)
        yield url.rpartition("/")[2].partition("?")[0]


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of its own for the test, migrated, with the named people."""
    if request.param == "sqlite":
        template: Path = request.getfixturevalue("sqlite_template")
        shutil.copy(template, tmp_path / "inventory.db")
        yield f"sqlite:///{tmp_path / 'inventory.db'}"
    else:
        server: str = request.getfixturevalue("postgres")
        name: str = request.getfixturevalue("postgres_template")
        with services.fresh_database(server, name) as url:
            yield url


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return load(
        {
            "VMTRAK_DATA_DIR": str(tmp_path),
            "VMTRAK_LOG_DIR": str(tmp_path / "logs"),
            "VMTRAK_DATABASE_URL": database_url,
            "VMTRAK_BASE_URL": BASE_URL,
            "VMTRAK_SECRET_KEY": SECRET_KEY,
            "TZ": "Asia/Kolkata",
        },
        None,
    )


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Moves the program's clock forward by seconds, as often as it is called."""
    real, moved = db.now, [0.0]

    def now() -> datetime:
        return real() + timedelta(seconds=moved[0])

    def move(seconds: float) -> None:
        moved[0] += seconds

    for name, module in list(sys.modules.items()):
        if name.startswith("vmtrak.") and getattr(module, "now", None) is real:
            monkeypatch.setattr(module, "now", now)
    monkeypatch.setattr(access_tokens, "unix_time", lambda: now().timestamp())
    return move


@pytest.fixture
def app(settings: Settings) -> Iterator[Starlette]:
    made = application.build(settings)
    yield made
    made.state.vmtrak.database.close()


@pytest.fixture
def database(app: Starlette) -> Database:
    """The application's own database."""
    found: Database = app.state.vmtrak.database
    return found


@pytest.fixture
def today(app: Starlette) -> date:
    found: date = app.state.vmtrak.today()
    return found


@pytest.fixture
def people(app: Starlette, database: Database) -> dict[str, Person]:
    with database.read() as session:
        numbers = {
            name: user.id
            for name, fields in PEOPLE.items()
            if (user := users.named(session, str(fields["username"])))
        }
    return {
        name: Person(name, number, database, app, app.state.vmtrak.rules)
        for name, number in numbers.items()
    }


@pytest.fixture
def admin(people: dict[str, Person]) -> Person:
    return people["admin"]


@pytest.fixture
def operator(people: dict[str, Person]) -> Person:
    return people["operator"]


@pytest.fixture
def auditor(people: dict[str, Person]) -> Person:
    return people["auditor"]


@pytest.fixture
def reader(people: dict[str, Person]) -> Person:
    """Role read, department Finance."""
    return people["reader"]


@pytest.fixture
def outsider(people: dict[str, Person]) -> Person:
    """Role read, department Logistics."""
    return people["outsider"]


@pytest.fixture
def anonymous(app: Starlette) -> TestClient:
    return anonymous_client(app)
