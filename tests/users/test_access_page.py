"""What administrators see and mend of how others sign in."""

import re
from collections.abc import Callable

import pytest
from sqlalchemy import select

from tests.conftest import PASSWORD, Later, Person, anonymous_client
from vmtrak.accounts import ApiToken, User
from vmtrak.audit import AuditEvent
from vmtrak.db import Database

Press = Callable[[str, int], int]


@pytest.fixture(params=["panel", "rest"])
def press(request: pytest.FixtureRequest, admin: Person) -> Press:
    """Do something to an account as an administrator, at one door; the status of the answer."""

    def at_the_panel(what: str, number: int) -> int:
        done = admin.panel.post(f"/admin/user/{what}/{number}").status_code
        return 200 if done == 303 else done

    def over_rest(what: str, number: int) -> int:
        return int(admin.api.post(f"/api/users/{number}/{what}").status_code)

    return at_the_panel if request.param == "panel" else over_rest


def told(database: Database) -> list[tuple[str, str | None]]:
    with database.read() as session:
        rows = session.execute(select(AuditEvent.action, AuditEvent.entity_name))
        return [(row.action, row.entity_name) for row in rows]


def lock(person: Person) -> None:
    client = anonymous_client(person.app)
    wrong = {"username": person.username, "password": "not the right password"}
    for _ in range(5):
        assert client.post("/api/auth/login", json=wrong).status_code == 401
    right = {**wrong, "password": PASSWORD}
    assert client.post("/api/auth/login", json=right).status_code == 429


def page(admin: Person, reader: Person) -> str:
    text = admin.panel.get(f"/admin/user/details/{reader.user_id}").text
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def test_a_locked_account_is_shown_and_can_be_unlocked(
    press: Press, admin: Person, reader: Person
) -> None:
    lock(reader)
    assert "locked until" in page(admin, reader)
    assert 'title="Too many failed attempts">locked' in admin.panel.get("/admin/user/list").text
    assert press("unlock", reader.user_id) == 200
    assert "not locked" in page(admin, reader)
    assert ("user.unlock", "rita") in told(admin.database)
    right = {"username": "rita", "password": PASSWORD}
    assert anonymous_client(reader.app).post("/api/auth/login", json=right).status_code == 200


def test_an_administrator_ends_every_session_of_an_account(
    press: Press, admin: Person, reader: Person
) -> None:
    panel, api = reader.panel, reader.api
    assert "REST interface" in page(admin, reader)
    assert press("end-sessions", reader.user_id) == 200
    assert (panel.get("/admin/").status_code, api.get("/api/auth/me").status_code) == (303, 401)
    assert "REST interface" not in page(admin, reader)


def test_an_administrator_revokes_every_token_of_an_account(
    press: Press, admin: Person, reader: Person
) -> None:
    made = reader.api.post(
        "/api/tokens", json={"name": "script", "scopes": ["inventory:read"], "expires_in_days": 9}
    ).json()
    script = anonymous_client(reader.app)
    script.headers["Authorization"] = f"Bearer {made['token']}"
    assert script.get("/api/vms").status_code == 200
    assert "1 that works" in page(admin, reader)
    assert press("revoke-tokens", reader.user_id) == 200
    assert script.get("/api/vms").status_code == 401
    with admin.database.read() as session:
        assert session.scalars(select(ApiToken.revoked_at)).one() is not None


@pytest.mark.parametrize("what", ["unlock", "end-sessions", "revoke-tokens", "reset-second-factor"])
def test_nothing_is_done_to_an_account_that_does_not_exist(press: Press, what: str) -> None:
    assert press(what, 4711) == 404


def test_the_list_says_how_and_when_people_sign_in(
    admin: Person, reader: Person, database: Database, later: Later
) -> None:
    later(60)
    assert reader.panel.get("/admin/").status_code == 200
    admin.app.state.vmtrak.presence.write(database)
    with database.read() as session:
        seen = session.get_one(User, reader.user_id).last_seen_at
    assert seen is not None
    assert seen.strftime("%Y-%m-%dT%H:%M:%SZ") in admin.panel.get("/admin/user/list").text
