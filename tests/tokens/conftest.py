"""API tokens for the named people, and clients that send them."""

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.conftest import BASE_URL, Later, Person
from vmtrak import db
from vmtrak.access import Scope
from vmtrak.accounts import NewToken, access_tokens, api_tokens

Script = Callable[..., TestClient]


def made(person: Person, *scopes: Scope, **fields: Any) -> tuple[int, str]:
    """A token that the person made: its number and itself."""
    given = {"name": "nightly report", "scopes": list(scopes or [Scope.INVENTORY_READ]), **fields}
    with person.database.work(person.actor) as work:
        token, secret = api_tokens.add(work, NewToken.model_validate(given))
    return token.id, secret


def client_at(app: Starlette, secret: str, address: str = "127.0.0.1") -> TestClient:
    """A script at that address which sends the token."""
    client = TestClient(
        app,
        BASE_URL,
        client=(address, 50_000),
        raise_server_exceptions=False,
        follow_redirects=False,
    )
    client.headers["Authorization"] = f"Bearer {secret}"
    return client


@pytest.fixture
def script(app: Starlette) -> Script:
    """Makes a script: a client with a new token of the person."""

    def client(
        person: Person, *scopes: Scope, address: str = "127.0.0.1", **fields: Any
    ) -> TestClient:
        return client_at(app, made(person, *scopes, **fields)[1], address)

    return client


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Stops the program's clock, and moves it forward by seconds as often as it is called."""
    start, moved = db.now(), [0.0]

    def move(seconds: float) -> None:
        moved[0] += seconds
        moment = start + timedelta(seconds=moved[0])
        for name, module in list(sys.modules.items()):
            if name.startswith("vmtrak.") and hasattr(module, "now"):
                monkeypatch.setattr(module, "now", lambda: moment)
        monkeypatch.setattr(access_tokens, "unix_time", moment.timestamp)

    move(0)
    return move
