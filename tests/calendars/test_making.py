"""Who makes, sees and revokes a calendar address, at both doors."""

import html
import re
from typing import Any, Protocol

import pytest
from httpx2 import Response
from sqlalchemy import func, select
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.calendars.conftest import made, path
from tests.conftest import BASE_URL, Later, Person
from tests.faults.running import at_once
from tests.tokens.conftest import client_at
from tests.tokens.conftest import made as api_token
from vmtrak.access import SYSTEM, Scope
from vmtrak.accounts import CalendarFeed, UserPatch, calendar_feeds, users
from vmtrak.admin.calendars import COOKIE, MADE
from vmtrak.errors import Conflict, Forbidden

TOKEN = re.compile(rf"{re.escape(BASE_URL)}/calendar/(vmc_[0-9A-Za-z_-]{{43}})\.ics")


class Door(Protocol):
    def make(self, *, owned_only: bool) -> str:
        """The address, without the host."""

    def ask(self) -> Response:
        """Ask for an address, whatever comes of it."""

    def revoke(self) -> None: ...


class RestDoor:
    def __init__(self, person: Person) -> None:
        self.client: TestClient = person.api

    def make(self, *, owned_only: bool) -> str:
        answer = self.client.post("/api/auth/calendar", json={"owned_only": owned_only})
        assert answer.status_code == 201, answer.text
        return path(found(answer.json()["address"]))

    def ask(self) -> Response:
        return self.client.post("/api/auth/calendar", json={})

    def revoke(self) -> None:
        assert self.client.delete("/api/auth/calendar").json() == {"ok": True}


class PanelDoor:
    def __init__(self, person: Person) -> None:
        self.client: TestClient = person.panel

    def make(self, *, owned_only: bool) -> str:
        form = {"choice": "owned" if owned_only else "all"}
        answer = self.client.post("/admin/account/calendar", data=form)
        assert (answer.status_code, answer.headers["location"]) == (303, MADE)
        return path(found(html.unescape(self.client.get(MADE).text)))

    def ask(self) -> Response:
        return self.client.post("/admin/account/calendar", data={"choice": "all"})

    def revoke(self) -> None:
        answer = self.client.post("/admin/account/calendar/revoke")
        assert (answer.status_code, answer.headers["location"]) == (303, "/admin/account/")


@pytest.fixture(params=["panel", "rest"])
def door(request: pytest.FixtureRequest, reader: Person) -> Door:
    """The door of the reader."""
    return PanelDoor(reader) if request.param == "panel" else RestDoor(reader)


def found(text: str) -> str:
    [token] = set(TOKEN.findall(text))
    return str(token)


def events(admin: Person) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = admin.api.get("/api/audit?entity_type=token").json()["data"]
    return rows


@pytest.mark.parametrize("owned_only", [True, False])
def test_an_address_is_made_at_both_doors_alike(
    door: Door, reader: Person, admin: Person, program: TestClient, *, owned_only: bool
) -> None:
    where = door.make(owned_only=owned_only)
    assert program.get(where).status_code == 200
    standing = reader.api.get("/api/auth/calendar").json()
    assert standing.keys() == {"owned_only", "created_at", "last_used_at"}
    assert (standing["owned_only"], standing["last_used_at"]) == (owned_only, None)
    [event] = events(admin)
    assert (event["username"], event["action"]) == (reader.username, "token.create")
    assert (event["entity_id"], event["entity_name"]) == (None, "calendar feed")
    assert event["detail"] == {"username": reader.username, "owned_only": owned_only}


def test_a_new_address_takes_the_place_of_the_old_one_at_once(
    door: Door, admin: Person, program: TestClient
) -> None:
    old = door.make(owned_only=True)
    assert program.get(old).status_code == 200
    new = door.make(owned_only=False)
    assert (program.get(old).status_code, program.get(new).status_code) == (404, 200)
    told = [event["action"] for event in events(admin)]
    assert told == ["token.create", "token.revoke", "token.create"]


def test_a_revoked_address_works_no_more_and_its_end_is_told_once(
    door: Door, reader: Person, admin: Person, program: TestClient
) -> None:
    where = door.make(owned_only=False)
    door.revoke()
    assert program.get(where).status_code == 404
    assert reader.api.get("/api/auth/calendar").status_code == 404
    door.revoke()
    assert [event["action"] for event in events(admin)] == ["token.revoke", "token.create"]


def test_a_person_has_only_their_own(reader: Person, outsider: Person, program: TestClient) -> None:
    theirs = made(reader)
    mine = made(outsider)
    outsider.api.delete("/api/auth/calendar")
    assert (program.get(theirs).status_code, program.get(mine).status_code) == (200, 404)


def test_making_one_takes_a_proof_of_identity(door: Door, reader: Person, later: Later) -> None:
    later(11 * 60)
    answer = door.ask()
    if isinstance(door, RestDoor):
        assert (answer.status_code, answer.json()["detail"]) == (403, "step_up_required")
    else:
        assert answer.headers["location"].startswith("/admin/account/prove?next=")
    assert reader.api.get("/api/auth/calendar").status_code == 404


def test_no_api_token_reaches_it(admin: Person, app: Starlette) -> None:
    client = client_at(app, api_token(admin, *Scope)[1])
    for method in ("GET", "POST", "DELETE"):
        assert client.request(method, "/api/auth/calendar", json={}).status_code == 403


def test_the_program_itself_has_no_calendar(admin: Person) -> None:
    with admin.database.work(SYSTEM) as work, pytest.raises(Conflict):
        calendar_feeds.make(work, owned_only=False)


def test_nobody_but_an_administrator_asks_about_another_persons(
    reader: Person, outsider: Person, admin: Person
) -> None:
    made(reader)
    with admin.database.read() as session:
        assert calendar_feeds.standing(session, admin.actor, reader.user_id) is not None
        assert calendar_feeds.standing(session, admin.actor) is None
        with pytest.raises(Forbidden):
            calendar_feeds.standing(session, outsider.actor, reader.user_id)


@pytest.mark.parametrize(
    "body", [{"owned_only": "perhaps"}, {"owned_only": None}, {"owned_only": []}]
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_json_of_another_kind_is_refused(body: dict[str, Any], reader: Person) -> None:
    answer = reader.api.post("/api/auth/calendar", json=body)
    assert (answer.status_code, list(answer.json()["details"])) == (422, ["owned_only"])


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("form", [{}, {"choice": ""}, {"choice": "everybody's"}])
def test_a_form_without_a_choice_is_refused(form: dict[str, str], reader: Person) -> None:
    assert reader.panel.post("/admin/account/calendar", data=form).status_code == 422
    assert reader.api.get("/api/auth/calendar").status_code == 404


def test_the_address_is_shown_once_and_nowhere_else(reader: Person, admin: Person) -> None:
    client = reader.panel
    where = PanelDoor(reader).make(owned_only=False)
    token = where.removeprefix("/calendar/").removesuffix(".ics")
    client.post("/admin/account/calendar", data={"choice": "all"})
    first, second = client.get(MADE), client.get(MADE)
    assert first.headers["cache-control"] == "no-store"
    assert TOKEN.search(first.text)
    assert (second.status_code, second.headers["location"]) == (303, "/admin/account/")
    for text in (
        client.get("/admin/account/").text,
        reader.api.get("/api/auth/calendar").text,
        admin.api.get("/api/audit").text,
        admin.panel.get(f"/admin/user/details/{reader.user_id}").text,
    ):
        assert "vmc_" not in text
    with reader.database.read() as session:
        kept = session.scalars(select(CalendarFeed)).one()
        assert token not in repr(vars(kept))


def test_a_cookie_that_somebody_else_planted_shows_nothing(
    reader: Person, outsider: Person
) -> None:
    token = made(outsider).removeprefix("/calendar/").removesuffix(".ics")
    client = reader.panel
    for planted in (token, "vmc_" + "x" * 43, "<script>", ""):
        client.cookies.set(COOKIE, planted, domain="127.0.0.1", path=MADE)
        assert client.get(MADE).status_code == 303


def test_closing_an_account_ends_its_address_for_good(
    reader: Person, admin: Person, program: TestClient
) -> None:
    where = made(reader)
    for active in (False, True):
        with admin.database.work(admin.actor) as work:
            users.change(work, reader.user_id, UserPatch(is_active=active))
        assert program.get(where).status_code == 404
    told = events(admin)[0]
    assert (told["action"], told["username"]) == ("token.revoke", admin.username)
    assert told["detail"]["username"] == reader.username


@pytest.mark.parametrize("by", ["panel", "rest"])
def test_an_administrator_sees_that_there_is_one_and_ends_it_with_the_tokens(
    by: str, reader: Person, admin: Person, program: TestClient
) -> None:
    where = made(reader)
    assert "never used" in admin.panel.get(f"/admin/user/details/{reader.user_id}").text
    if by == "rest":
        admin.api.post(f"/api/users/{reader.user_id}/revoke-tokens")
    else:
        admin.panel.post(f"/admin/user/revoke-tokens/{reader.user_id}")
    assert program.get(where).status_code == 404
    assert "never used" not in admin.panel.get(f"/admin/user/details/{reader.user_id}").text


def test_ending_sessions_leaves_it_as_it_leaves_tokens(
    reader: Person, admin: Person, program: TestClient
) -> None:
    where = made(reader)
    admin.api.post(f"/api/users/{reader.user_id}/end-sessions")
    assert program.get(where).status_code == 200


def test_after_a_reset_nothing_is_shown_until_a_password_is_chosen(
    reader: Person, admin: Person, program: TestClient
) -> None:
    where = made(reader)
    given, chosen = "until you choose one", "four quiet walruses ascend"
    admin.api.post(f"/api/users/{reader.user_id}/reset-password", json={"new_password": given})
    assert program.get(where).status_code == 404
    signed_in = program.post("/api/auth/login", json={"username": "rita", "password": given})
    bearer = {"Authorization": f"Bearer {signed_in.json()['accessToken']}"}
    setup = {"email": "rita@vmtrak.example", "password": chosen}
    assert program.post("/api/auth/complete-setup", json=setup, headers=bearer).is_success
    assert program.get(where).status_code == 200


def test_a_required_second_factor_that_is_missing_closes_it(
    reader: Person, admin: Person, program: TestClient
) -> None:
    where = made(reader)
    for required, status in ((True, 404), (False, 200)):
        with admin.database.work(admin.actor) as work:
            users.change(work, reader.user_id, UserPatch(second_factor_required=required))
        assert program.get(where).status_code == status


def test_of_two_made_at_once_one_works(reader: Person, program: TestClient) -> None:
    actor = reader.actor

    def make(_: int) -> str:
        with reader.database.work(actor) as work:
            return path(calendar_feeds.make(work, owned_only=False)[1])

    statuses = [program.get(where).status_code for where in at_once(4, make)]
    assert sorted(statuses) == [200, 404, 404, 404]
    with reader.database.read() as session:
        assert session.scalar(select(func.count()).select_from(CalendarFeed)) == 1
