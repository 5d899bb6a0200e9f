"""Who makes, sees and revokes tokens, with which limits, at both doors."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.conftest import Later, Person
from tests.doors import Outcome, told_by_json, told_by_page
from tests.tokens.conftest import Script, client_at, made
from vmtrak.access import SYSTEM, Scope
from vmtrak.accounts import ApiToken, NewToken, UserPatch, api_tokens, users
from vmtrak.errors import Conflict, Forbidden, Invalid, NotFound

DAY = 24 * 60 * 60


class Door(Protocol):
    def make(self, fields: Mapping[str, Any]) -> Outcome: ...
    def revoke(self, number: int) -> Outcome: ...


class RestDoor:
    def __init__(self, person: Person) -> None:
        self.client: TestClient = person.api

    def make(self, fields: Mapping[str, Any]) -> Outcome:
        return told_by_json(self.client.post("/api/tokens", json=dict(fields)))

    def revoke(self, number: int) -> Outcome:
        return told_by_json(self.client.delete(f"/api/tokens/{number}"), number)


class PanelDoor:
    """The form, with its boxes ticked and its networks written on lines of their own."""

    def __init__(self, person: Person) -> None:
        self.client: TestClient = person.panel

    def make(self, fields: Mapping[str, Any]) -> Outcome:
        form = {name: str(value) for name, value in fields.items() if isinstance(value, str | int)}
        form |= {f"scopes.{scope}": "true" for scope in fields.get("scopes", [])}
        form["allowed_networks"] = "\r\n".join(fields.get("allowed_networks", []))
        return told_by_page(self.client.post("/admin/token/create", data=form))

    def revoke(self, number: int) -> Outcome:
        answer = self.client.post("/admin/token/delete", data={"pk": str(number)})
        return told_by_page(answer, number)


@pytest.fixture(params=["panel", "rest"])
def door(request: pytest.FixtureRequest, operator: Person) -> Door:
    """The door of the operator."""
    return PanelDoor(operator) if request.param == "panel" else RestDoor(operator)


def token(**fields: Any) -> dict[str, Any]:
    return {"name": "nightly report", "scopes": ["inventory:read"], **fields}


def events(admin: Person, action: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = admin.api.get(f"/api/audit?action={action}").json()["data"]
    return found


def test_a_token_is_made_at_both_doors_alike(door: Door, operator: Person, admin: Person) -> None:
    number = door.make(
        token(
            scopes=["rdp", "inventory:write", "rdp"],
            expires_in_days=30,
            allowed_networks=["10.1.2.3/8", "2001:DB8::1", "10.0.0.0/8"],
        )
    ).made
    [row] = operator.api.get("/api/tokens").json()
    lifetime = datetime.fromisoformat(row["expires_at"]) - datetime.fromisoformat(row["created_at"])
    assert lifetime == timedelta(days=30)
    assert {name: row[name] for name in row if not name.endswith("_at") and name != "hint"} == {
        "id": number,
        "user_id": operator.user_id,
        "username": operator.username,
        "name": "nightly report",
        "scopes": ["inventory:write", "rdp"],
        "allowed_networks": ["10.0.0.0/8", "2001:db8::1/128"],
        "last_used_ip_address": None,
    }
    [event] = events(admin, "token.create")
    assert (event["username"], event["entity_type"]) == (operator.username, "token")
    assert (event["entity_id"], event["entity_name"]) == (number, "nightly report")
    assert event["detail"] == {
        "username": operator.username,
        "scopes": "inventory:write, rdp",
        "allowed_networks": "10.0.0.0/8, 2001:db8::1/128",
        "expires_at": row["expires_at"],
    }


def test_without_more_words_a_token_works_for_90_days_from_anywhere(
    door: Door, operator: Person
) -> None:
    door.make(token(expires_in_days="")).made  # noqa: B018 - asserts that it was
    [row] = operator.api.get("/api/tokens").json()
    lifetime = datetime.fromisoformat(row["expires_at"]) - datetime.fromisoformat(row["created_at"])
    assert (lifetime, row["allowed_networks"]) == (timedelta(days=90), [])


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("name", {"name": " "}),
        ("name", {"name": "n" * 129}),
        ("name", {"name": "two\nlines"}),
        ("scopes", {"scopes": []}),
        ("expires_in_days", {"expires_in_days": 0}),
        ("expires_in_days", {"expires_in_days": -1}),
        ("expires_in_days", {"expires_in_days": 366}),
        ("expires_in_days", {"expires_in_days": "soon"}),
        ("expires_in_days", {"expires_in_days": "1.5"}),
        ("allowed_networks", {"allowed_networks": ["300.1.1.1"]}),
        ("allowed_networks", {"allowed_networks": ["10.0.0.0/33"]}),
        ("allowed_networks", {"allowed_networks": ["example.org"]}),
        ("allowed_networks", {"allowed_networks": ["fe80::1%eth0"]}),
        ("allowed_networks", {"allowed_networks": ["192.0.2.1", "nonsense"]}),
        ("allowed_networks", {"allowed_networks": [f"192.0.2.{n}" for n in range(21)]}),
    ],
)
def test_nonsense_is_refused_and_said_at_its_field(
    field: str, fields: dict[str, Any], door: Door, operator: Person
) -> None:
    outcome = door.make(token(**fields))
    assert (outcome.status, list(outcome.errors)) == (422, [field])
    assert operator.api.get("/api/tokens").json() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scopes", None),
        ("scopes", "inventory:read"),
        ("scopes", ["everything"]),
        ("scopes", ["Inventory:Read"]),
        ("scopes", [["inventory:read"]]),
        ("scopes", {"inventory:read": True}),
        ("expires_in_days", True),
        ("expires_in_days", 1e30),
        ("expires_in_days", [90]),
        ("allowed_networks", "10.0.0.0/8"),
        ("allowed_networks", [10]),
        ("allowed_networks", [None]),
        ("allowed_networks", [""]),
        ("name", 7),
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_json_of_another_kind_is_refused(field: str, value: object, operator: Person) -> None:
    answer = operator.api.post("/api/tokens", json=token(**{field: value}))
    assert (answer.status_code, list(answer.json()["details"])) == (422, [field])


def test_a_scope_that_the_role_does_not_cover_is_refused_by_name(
    people: dict[str, Person],
) -> None:
    uncovered = {
        "reader": ["inventory:write", "credentials:reveal", "rdp", "audit:read"],
        "auditor": ["inventory:write", "credentials:reveal", "rdp"],
        "operator": ["audit:read"],
    }
    for who, names in uncovered.items():
        answer = people[who].api.post("/api/tokens", json=token(scopes=list(Scope)))
        assert answer.status_code == 422
        [why] = answer.json()["details"]["scopes"]
        role = people[who].actor.role
        assert why == f"the role {role} does not cover {', '.join(names)}"
    assert people["admin"].api.post("/api/tokens", json=token(scopes=list(Scope))).is_success


def test_every_scope_says_what_a_role_needs_for_it() -> None:
    assert set(api_tokens.NEEDS) == set(Scope)


def test_the_token_is_in_the_answer_and_nowhere_else(
    operator: Person, admin: Person, app: Starlette
) -> None:
    answer = operator.api.post("/api/tokens", json=token())
    secret = answer.json()["token"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert client_at(app, secret).get("/api/vms").status_code == 200
    for page in ("/api/tokens", f"/api/tokens?user_id={operator.user_id}", "/api/audit"):
        assert secret not in admin.api.get(page).text
        assert secret[4:-6] not in operator.api.get(page).text
    with operator.database.read() as session:
        row = session.get_one(ApiToken, answer.json()["id"])
        kept = [str(getattr(row, column.key)) for column in ApiToken.__table__.columns]
    assert [value for value in kept if len(value) >= len(secret[-4:]) and value in secret] == [
        secret[-4:]
    ]


def test_a_token_can_be_revoked_once_and_its_end_is_told_once(
    door: Door, operator: Person, admin: Person
) -> None:
    number, _ = made(operator)
    assert door.revoke(number).ok
    assert door.revoke(number).ok
    [event] = events(admin, "token.revoke")
    assert (event["username"], event["entity_id"]) == (operator.username, number)
    [row] = operator.api.get("/api/tokens").json()
    assert row["revoked_at"] == event["created_at"]


def test_nobody_but_an_administrator_sees_or_revokes_another_persons_token(
    door: Door, admin: Person, reader: Person, auditor: Person, app: Starlette
) -> None:
    number, secret = made(reader)
    assert door.revoke(number).status == 404
    assert door.revoke(999_999).status == 404
    for person in (auditor, admin):
        api, panel = person.api, person.panel
        everyone = person is admin
        assert len(api.get("/api/tokens").json()) == 0
        for query in ("all=true", f"user_id={reader.user_id}"):
            answer = api.get(f"/api/tokens?{query}")
            assert answer.status_code == (200 if everyone else 403)
            if everyone:
                assert [row["username"] for row in answer.json()] == [reader.username]
        listed = panel.get("/admin/token/list").text
        assert ("nightly report" in listed) == everyone
        details = panel.get(f"/admin/token/details/{number}")
        assert details.status_code == (200 if everyone else 404)
        assert client_at(app, secret).get("/api/vms").status_code == 200
        revoked = api.delete(f"/api/tokens/{number}")
        assert revoked.status_code == (200 if everyone else 404)
    assert client_at(app, secret).get("/api/vms").status_code == 401
    [event] = events(admin, "token.revoke")
    assert (event["username"], event["detail"]["username"]) == (admin.username, reader.username)


def test_asking_for_ones_own_number_needs_no_more(operator: Person) -> None:
    number, _ = made(operator)
    answer = operator.api.get(f"/api/tokens?user_id={operator.user_id}&all=")
    assert [row["id"] for row in answer.json()] == [number]
    assert operator.api.get("/api/tokens?all=perhaps").status_code == 422
    assert operator.api.get("/api/tokens?user_id=me").status_code == 422


def test_with_a_token_nobody_makes_lists_or_revokes_tokens(admin: Person, script: Script) -> None:
    number, _ = made(admin)
    client = script(admin, *Scope)
    assert client.get("/api/tokens").status_code == 403
    assert client.post("/api/tokens", json=token()).status_code == 403
    assert client.delete(f"/api/tokens/{number}").status_code == 403


def test_a_user_has_at_most_fifty_that_work(door: Door, operator: Person, later: Later) -> None:
    first, _ = made(operator)
    for _ in range(api_tokens.MOST - 2):
        made(operator)
    made(operator, expires_in_days=1)
    assert door.make(token()).status == 409
    door.revoke(first)
    assert door.make(token()).ok
    assert door.make(token()).status == 409
    later(DAY)
    made(operator)
    with pytest.raises(Conflict):
        made(operator)


def test_the_fiftieth_is_not_made_twice_at_once(operator: Person) -> None:
    for _ in range(api_tokens.MOST - 1):
        made(operator)
    actor, new = operator.actor, NewToken.model_validate(token())

    def attempt(_: int) -> bool:
        try:
            with operator.database.work(actor) as work:
                api_tokens.add(work, new)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(attempt, range(4))) == [False, False, False, True]


def test_closing_an_account_revokes_its_tokens_and_tells_of_each(
    admin: Person, operator: Person
) -> None:
    numbers = {made(operator, name=name)[0] for name in ("one", "two")}
    already, _ = made(operator, name="three")
    operator.api.delete(f"/api/tokens/{already}")
    assert admin.api.delete(f"/api/users/{operator.user_id}").is_success
    told = [event for event in events(admin, "token.revoke") if event["username"] == "ada"]
    assert {event["entity_id"] for event in told} == numbers
    rows = admin.api.get(f"/api/tokens?user_id={operator.user_id}").json()
    assert all(row["revoked_at"] for row in rows)


def test_an_administrator_ends_all_tokens_of_a_user(admin: Person, operator: Person) -> None:
    for _ in range(3):
        made(operator)
    kept, _ = made(admin)
    with admin.database.work(admin.actor) as work:
        assert api_tokens.revoke_all(work, operator.user_id) == 3
        assert api_tokens.revoke_all(work, operator.user_id) == 0
    rows = admin.api.get("/api/tokens?all=true").json()
    assert [row["id"] for row in rows if row["revoked_at"] is None] == [kept]
    with pytest.raises(Forbidden), operator.database.work(operator.actor) as work:
        api_tokens.revoke_all(work, operator.user_id)


def test_only_the_server_makes_tokens_for_others(admin: Person, operator: Person) -> None:
    new = NewToken.model_validate(token(scopes=["inventory:write"]))
    with pytest.raises(Forbidden), operator.database.work(operator.actor) as work:
        api_tokens.add_for(work, operator.user_id, new)
    with operator.database.work(SYSTEM) as work:
        row, _ = api_tokens.add_for(work, operator.user_id, new)
    assert row.user_id == operator.user_id
    [event] = events(admin, "token.create")
    assert (event["username"], event["detail"]["username"]) == ("system", operator.username)


def test_a_token_is_not_made_for_whom_it_could_do_nothing(
    admin: Person, reader: Person, operator: Person
) -> None:
    new = NewToken.model_validate(token(scopes=["inventory:write"]))
    with pytest.raises(Invalid, match="inventory:write"), reader.database.work(SYSTEM) as work:
        api_tokens.add_for(work, reader.user_id, new)
    with admin.database.work(admin.actor) as work:
        users.change(work, operator.user_id, UserPatch(is_active=False))
    for number in (operator.user_id, 999_999):
        with pytest.raises(Conflict), operator.database.work(SYSTEM) as work:
            api_tokens.add_for(work, number, new)


def test_a_number_that_is_nobodys_token_is_not_found(operator: Person) -> None:
    with pytest.raises(NotFound), operator.database.read() as session:
        api_tokens.get(session, operator.actor, 1)


networks = st.one_of(st.ip_addresses().map(str), st.ip_addresses(network="10.0.0.0/8").map(str))


@given(st.lists(networks, max_size=20), st.integers(0, 128))
def test_a_network_that_was_taken_is_taken_again_as_it_is(given_: list[str], bits: int) -> None:
    wanted = [f"{each}/{bits if ':' in each else bits % 33}" for each in given_]
    once = NewToken.model_validate(token(allowed_networks=wanted)).allowed_networks
    again = NewToken.model_validate(token(allowed_networks=list(once))).allowed_networks
    assert once == again
    assert len(once) == len(set(once))
    assert len(" ".join(once)) <= 2048


@given(st.lists(st.one_of(st.text(), st.integers(), st.none()), max_size=25))
def test_any_list_is_either_networks_or_refused(given_: list[object]) -> None:
    try:
        taken = NewToken.model_validate(token(allowed_networks=given_)).allowed_networks
    except ValidationError:
        return
    assert all("/" in each for each in taken)


def test_a_token_takes_a_recent_proof_of_identity(operator: Person, later: Later) -> None:
    wanted = {"name": "backup", "scopes": ["inventory:read"], "expires_in_days": 30}
    api, panel = operator.api, operator.panel
    later(10 * 60 + 1)
    refused = api.post("/api/tokens", json=wanted)
    assert (refused.status_code, refused.json()["error"]) == (403, "step_up_required")
    shown = panel.get("/admin/token/create")
    assert shown.status_code == 303
    assert shown.headers["location"] == "/admin/account/prove?next=%2Fadmin%2Ftoken%2Fcreate"
    form = {"name": "backup", "scopes.inventory:read": "on", "expires_in_days": "30"}
    again = panel.post("/admin/token/create", data=form)
    assert (again.status_code, 'value="backup"' in again.text) == (403, True)
    assert api.get("/api/tokens").json() == []
