"""VMTrak beside a provider of its own, and somebody who goes from the one to the other."""

import html
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from httpx2 import Response
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.conftest import BASE_URL, SECRET_KEY, anonymous_client
from tests.oidc import provider as providers
from tests.oidc.people import PEOPLE, ROLE_MAP
from tests.oidc.provider import Client, Provider
from tests.oidc.visitor import Surfer
from vmtrak.accounts.models import SignedIn, User
from vmtrak.audit import Action, AuditEvent
from vmtrak.db import Database
from vmtrak.settings import Settings, load

CLIENT_ID = "vmtrak"
CLIENT_SECRET = "Gq8~a secret+with/signs%20and:a colon"
SITE_ADMIN = "it-desk@corp.example"

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what differs in nothing that a database could see."""


def registered(base_url: str) -> Client:
    """VMTrak at that address, as a provider's administrator registers it."""
    return Client(
        CLIENT_ID,
        CLIENT_SECRET,
        f"{base_url}/api/auth/microsoft/callback",
        f"{base_url}/admin/login",
        f"{base_url}/api/auth/microsoft/logout",
    )


def oidc_settings(issuer: str) -> dict[str, str]:
    return {
        "VMTRAK_OIDC_ISSUER": issuer,
        "VMTRAK_OIDC_CLIENT_ID": CLIENT_ID,
        "VMTRAK_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "VMTRAK_OIDC_ROLE_MAP": ROLE_MAP,
        "VMTRAK_SITE_ADMIN_EMAIL": SITE_ADMIN,
    }


@pytest.fixture(scope="session")
def served() -> Iterator[Provider]:
    with providers.running(PEOPLE) as provider:
        yield provider


@pytest.fixture
def provider(served: Provider) -> Provider:
    """A provider that has seen nobody yet and knows VMTrak."""
    served.reset()
    served.clients[CLIENT_ID] = registered(BASE_URL)
    return served


@pytest.fixture
def environment(database_url: str, tmp_path: Path, provider: Provider) -> dict[str, str]:
    """The settings as the environment gives them, for tests that change some."""
    own = {
        "VMTRAK_DATA_DIR": str(tmp_path),
        "VMTRAK_LOG_DIR": str(tmp_path / "logs"),
        "VMTRAK_DATABASE_URL": database_url,
        "VMTRAK_BASE_URL": BASE_URL,
        "VMTRAK_SECRET_KEY": SECRET_KEY,
        "TZ": "Asia/Kolkata",
    }
    return own | oidc_settings(provider.issuer)


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    return load(environment, None)


@dataclass
class Visit:
    """One browser, which knows VMTrak's cookies and the provider's, but no scripts."""

    vmtrak: TestClient
    surfer: Surfer

    def start(self, query: str = "") -> str:
        """Press the button: the address to which VMTrak sends the browser."""
        response = self.vmtrak.get(f"/api/auth/microsoft{query}")
        assert response.status_code in {302, 303}, response.text
        return response.headers["location"]

    def way_back(self, person: str = "ada", query: str = "") -> str:
        """Start, sign in at the provider, and stop before VMTrak hears of it."""
        return self.surfer.sign_in(self.start(query), person)

    def come_back(self, address: str) -> Response:
        return self.vmtrak.get(address.removeprefix(BASE_URL))

    def sign_in(self, person: str = "ada", query: str = "") -> Response:
        return self.come_back(self.way_back(person, query))

    @property
    def signed_in(self) -> bool:
        return self.vmtrak.get("/admin/").status_code == 200


@pytest.fixture
def visit(app: Starlette) -> Iterator[Visit]:
    with Surfer() as surfer:
        yield Visit(anonymous_client(app), surfer)


@pytest.fixture
def second_visit(app: Starlette) -> Iterator[Visit]:
    """Another browser."""
    with Surfer() as surfer:
        yield Visit(anonymous_client(app), surfer)


def sessions_in(database: Database) -> list[SignedIn]:
    with database.read() as session:
        return list(session.scalars(select(SignedIn).order_by(SignedIn.id)))


def trail(database: Database, action: Action) -> list[AuditEvent]:
    with database.read() as session:
        found = select(AuditEvent).where(AuditEvent.action == action).order_by(AuditEvent.id)
        return list(session.scalars(found))


def user_called(database: Database, email: str) -> User | None:
    with database.read() as session:
        return session.scalar(select(User).where(User.email == email))


PAGES = {
    "no_flow": (400, "Start again"),
    "flow_expired": (400, "took too long"),
    "cancelled": (403, "You cancelled the sign-in"),
    "malformed_answer": (400, "answer is not complete"),
    "other_provider": (400, "came from another provider"),
    "code_refused": (400, "does not take this sign-in any more"),
    "client_refused": (502, "does not accept VMTrak"),
    "provider_error": (502, "did not finish the sign-in"),
    "provider_unreachable": (503, "cannot be reached"),
    "provider_unreadable": (502, "cannot be understood"),
    "wrong_signature": (400, "proof of who you are is not right"),
    "wrong_issuer": (400, "proof of who you are is not right"),
    "wrong_audience": (400, "proof of who you are is not right"),
    "wrong_tenant": (400, "another organisation"),
    "wrong_nonce": (400, "proof of who you are is not right"),
    "clocks_differ": (400, "differ too much"),
    "token_incomplete": (400, "proof of who you are is not right"),
    "no_role": (403, "nobody has given you a role"),
    "account_closed": (403, "account is closed"),
    "email_taken": (403, "Another VMTrak account has your e-mail address"),
    "last_admin": (403, "last administrator"),
}
"""What a refused person meets, by the reason in the trail: the status and some of the words."""

ASKS = frozenset({"no_role", "account_closed", "email_taken", "last_admin", "clocks_differ"})
"""The reasons whose page names the person to ask."""


def assert_refused(database: Database, response: Response, reason: str) -> AuditEvent:
    """A page that says why, one row in the trail, and nothing that would let anybody in."""
    events = trail(database, Action.LOGIN_FAILED)
    assert [(event.detail or {}).get("reason") for event in events] == [reason]
    status, words = PAGES[reason]
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("text/html")
    assert words in html.unescape(response.text)
    assert "no-store" in response.headers["cache-control"]
    if reason in ASKS:
        assert SITE_ADMIN in response.text
    assert new_cookies(response) == []
    assert sessions_in(database) == []
    assert trail(database, Action.LOGIN) == []
    return events[0]


def new_cookies(response: Response) -> list[str]:
    """The names of the cookies that a response sets and does not take away."""
    given = response.headers.get_list("set-cookie")
    return [line.partition("=")[0] for line in given if "max-age=0" not in line.lower()]
