"""The list of events: filters, pages, cursor, newest first."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.conftest import Person
from tests.doors import RestDoor
from vmtrak import audit, inventory
from vmtrak.access import SYSTEM, Actor
from vmtrak.accounts import UserPatch, users
from vmtrak.audit import Action
from vmtrak.db import Database
from vmtrak.inventory import NewVM

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def api(auditor: Person) -> TestClient:
    return auditor.api


@pytest.fixture
def story(database: Database, auditor: Person, api: TestClient) -> list[dict[str, Any]]:
    """Forty events, one an hour, after those that the fixtures made; as the list must show them."""
    kinds = (Action.VM_CREATE, Action.VM_UPDATE, Action.HYPERVISOR_CREATE, Action.LOGIN)
    for at in range(40):
        action = kinds[at % 4]
        actor = Actor(("rita", "olga")[at % 2], frozenset(), user_id=900 + at % 3)
        with database.work(actor) as work:
            work.moment = START + timedelta(hours=at)
            audit.record(
                work,
                action,
                entity_type=action.partition(".")[0],
                entity_id=at % 5,
                entity_name=f"n{at}",
                detail={"at": at},
            )
    with database.read() as session:
        first = audit.page(session, auditor.actor, audit.AuditQuery(limit=200))
    return [row for row in first.rows if row["username"] in {"rita", "olga"}]


def found(api: TestClient, query: str) -> list[str]:
    """The names of the events by cursor and by page, which must be the same, newest first."""
    by_cursor: list[dict[str, Any]] = []
    by_page: list[dict[str, Any]] = []
    step, number = "", 1
    while True:
        body = api.get(f"/api/audit?{query}&limit=7{step}").json()
        by_cursor += body["data"]
        if body["next"] is None:
            break
        step = f"&cursor={body['next']}"
    while len(by_page) < len(by_cursor):
        body = api.get(f"/api/audit?{query}&limit=7&page={number}").json()
        assert body["total"] == len(by_cursor)
        by_page += body["data"]
        number += 1
    assert by_page == by_cursor
    numbers = [row["id"] for row in by_cursor]
    assert numbers == sorted(numbers, reverse=True)
    return [row["entity_name"] for row in by_cursor]


def test_each_filter_finds_what_it_says_newest_first(
    api: TestClient, story: list[dict[str, Any]]
) -> None:
    def names(**wanted: object) -> list[str]:
        return [
            row["entity_name"]
            for row in story
            if all(row[name] == value for name, value in wanted.items())
        ]

    assert len(story) == 40
    assert found(api, "user_id=901") == names(user_id=901)
    assert found(api, "username=rita") == names(username="rita")
    assert found(api, "action=vm.update") == names(action="vm.update")
    assert found(api, "entity_type=hypervisor") == names(entity_type="hypervisor")
    assert found(api, "entity_type=vm&entity_id=3") == names(entity_type="vm", entity_id=3)
    both = "action=vm.create&user_id=902&entity_id=2"
    assert found(api, both) == names(action="vm.create", user_id=902, entity_id=2)
    assert found(api, "action=no.such") == []


def test_times_bound_the_list_on_both_sides(api: TestClient, story: list[dict[str, Any]]) -> None:
    def between(first: str, last: str) -> list[str]:
        return [row["entity_name"] for row in story if first <= row["created_at"] <= last]

    assert found(api, "from=2026-03-02&to=2026-03-02") == between(
        "2026-03-02", "2026-03-02T23:59:59Z"
    )
    assert len(found(api, "from=2026-03-02&to=2026-03-02")) == 24
    exact = "2026-03-01T12:00:00Z"
    assert found(api, f"from={exact}&to={exact}") == ["n0"]
    assert found(api, "from=2026-03-01T12:30Z&to=2026-03-01T14:00:00.5Z") == ["n2", "n1"]
    assert found(api, "to=2026-03-01T11:59:59Z") == []
    assert found(api, "from=2026-03-03&to=2026-03-02") == []


def test_the_panel_shows_the_same(auditor: Person, story: list[dict[str, Any]]) -> None:
    page = auditor.panel.get(
        "/admin/audit/list?action=vm.update&username=olga&from=2026-03-02"
    ).text
    wanted = [
        row["entity_name"]
        for row in story
        if row["action"] == "vm.update" and row["created_at"] >= "2026-03-02"
    ]
    for row in story:
        assert (f">{row['entity_name']}<" in page) == (row["entity_name"] in wanted), row


BAD: tuple[tuple[str, str], ...] = (
    ("user_id", "abc"), ("user_id", str(10**30)), ("user_id", "0"),
    ("entity_id", "1.5"),
    ("from", "yesterday"), ("from", "2026-02-31"), ("to", "2026-13-01"),
    ("to", "2026-01-01T25:00:00Z"),
    ("to", "2026-01-01T00:00:00+02:00"), ("page", "0"), ("limit", "0"), ("limit", "201"),
    ("cursor", "abc"), ("cursor", "0"), ("cursor", str(2**63)),
    ("action", "a\0"), ("page", str(10**18)),
)  # fmt: skip


def test_a_query_that_cannot_be_right_is_refused_by_its_name(api: TestClient) -> None:
    for name, value in BAD:
        answer = api.get("/api/audit", params={name: value})
        assert (answer.status_code, list(answer.json()["details"])) == (422, [name]), (name, value)


def test_only_admin_and_auditor_read_the_trail(people: dict[str, Person]) -> None:
    for name, person in people.items():
        status = 200 if name in {"admin", "auditor"} else 403
        assert person.api.get("/api/audit").status_code == status, name
        assert person.panel.get("/admin/audit/list").status_code == status, name
        assert person.panel.get("/admin/audit/details/1").status_code == status, name


def test_there_is_no_door_that_changes_an_event(admin: Person) -> None:
    assert RestDoor(admin).add_vm({"vm_name": "web-01"}).ok
    panel, api = admin.panel, admin.api
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert api.request(method, "/api/audit").status_code == 405, method
    assert panel.post("/admin/audit/delete", data={"pk": "1"}).status_code in {403, 404, 405}
    for address in ("/admin/audit/edit/1", "/admin/audit/create"):
        assert panel.get(address).status_code in {403, 404}
        assert panel.post(address, data={"username": "x"}).status_code in {403, 404}


def test_an_unknown_event_is_not_found(auditor: Person) -> None:
    assert auditor.panel.get("/admin/audit/details/999999").status_code == 404


def test_the_dashboard_finds_what_changed_under_any_number_of_notices_and_sign_ins(
    database: Database, auditor: Person
) -> None:
    with database.work(SYSTEM) as work:
        number = inventory.add(work, NewVM(vm_name="long-ago")).id
        for action, kind in ((Action.NOTIFICATION_SENT, "notice"), (Action.LOGIN, "auth")):
            many = [(n, "somebody") for n in range(1, 5_002)]
            audit.record_each(work, action, kind, many, {})
    with database.read() as session:
        newest = audit.latest(session, auditor.actor)[0]
    assert (newest["action"], newest["entity_id"]) == ("vm.create", number)
    page = auditor.panel.get("/admin/").text
    assert "long-ago" in page
    assert "Nothing has changed yet" not in page


def test_the_trail_leads_nobody_to_a_page_that_refuses_them(people: dict[str, Person]) -> None:
    ours = people["admin"]
    with ours.database.work(ours.actor) as work:
        inventory.add(work, NewVM(vm_name="web-01"))
        users.change(work, people["reader"].user_id, UserPatch(department="Sales"))
        for kind in ("notice", "token"):
            action = Action.NOTIFICATION_SENT if kind == "notice" else Action.TOKEN_CREATE
            detail = {"username": people["auditor"].username if kind == "token" else "x"}
            audit.record(work, action, entity_type=kind, entity_id=7, detail=detail)
            audit.record(work, action, entity_type=kind, entity_id=8, detail={"username": "x"})
    for name, led in (("admin", {"vm", "user", "notice", "token"}), ("auditor", {"vm", "token"})):
        page = people[name].panel.get("/admin/audit/list?limit=200").text
        found = set(re.findall(r'href="/admin/(\w+)/details/(\d+)"', page)) - {("audit", "")}
        kinds = {kind for kind, _ in found} - {"audit"}
        assert kinds == led, name
        assert (("token", "8") in found) == (name == "admin")
