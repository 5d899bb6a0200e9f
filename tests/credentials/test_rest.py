"""The REST interface of credentials: its rows, its headers, and what scripts of 1.x send."""

from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from tests.conftest import CANARY, Later, Person
from tests.credentials.conftest import Events, Kept, added, vm_named
from vmtrak.audit import AuditEvent
from vmtrak.credentials import MASK
from vmtrak.db import Database

FIRST, SECOND = f"{CANARY}first", f"{CANARY}second"

ROOT = {"username": "root", "password": FIRST, "notes": "Ask first."}

ROW = {
    "vm_name": "web-01",
    "username": "root",
    "password": MASK,
    "account_type": "primary",
    "notes": "Ask first.",
    "password_changed_by": "ada",
    "rotation_due": False,
    "rotation_marked": False,
    "created_by": "ada",
    "updated_by": "ada",
}
TIMES = {"password_changed_at", "created_at", "updated_at"}


@pytest.fixture
def api(admin: Person) -> TestClient:
    return admin.api


@pytest.fixture
def root(admin: Person, vm: int) -> str:
    """The address of a credential."""
    return f"/api/vms/{vm}/credentials/{added(admin, vm, **ROOT)}"


def reveals(database: Database) -> list[tuple[str, dict[str, Any] | None]]:
    with database.read() as session:
        chosen = select(AuditEvent.action, AuditEvent.detail).order_by(AuditEvent.id)
        rows = session.execute(chosen.where(AuditEvent.action.contains("reveal")))
        return [(action, detail) for action, detail in rows]


def test_a_new_credential_is_answered_with_its_row_its_tag_and_its_address(
    api: TestClient, vm: int
) -> None:
    made = api.post(f"/api/vms/{vm}/credentials", json=ROOT)
    row = made.json()
    assert (made.status_code, made.headers["etag"]) == (201, '"v1"')
    assert {name: row[name] for name in ROW} == ROW
    assert row.keys() == ROW.keys() | TIMES | {"id", "vm_id"}
    again = api.get(made.headers["location"])
    assert (again.json(), again.headers["etag"]) == (row, '"v1"')


def test_the_credentials_of_a_vm_are_a_bare_array_the_primary_one_first(
    api: TestClient, admin: Person, vm: int
) -> None:
    added(admin, vm, "zoe", FIRST)
    for name in ("Bob", "ada", "émile"):
        added(admin, vm, name, FIRST)
    added(admin, vm_named(admin, "web-02"), "other", FIRST)
    rows = api.get(f"/api/vms/{vm}/credentials").json()
    assert [row["username"] for row in rows] == ["zoe", "ada", "Bob", "émile"]
    assert {row["password"] for row in rows} == {MASK}
    assert api.get(f"/api/vms/{vm_named(admin, 'bare')}/credentials").json() == []
    assert api.get("/api/vms/999999/credentials").status_code == 404


def test_a_row_sent_back_as_it_was_read_changes_nothing(
    api: TestClient, root: str, kept: Kept, events: Events
) -> None:
    read = api.get(root)
    answer = api.put(root, json=read.json(), headers={"If-Match": read.headers["etag"]})
    assert (answer.status_code, answer.json()) == (200, read.json())
    assert answer.headers["etag"] == read.headers["etag"]
    number = read.json()["id"]
    assert kept(number) == {1: FIRST}
    assert [action for action, _ in events(number)] == ["credential.create"]


def test_a_row_sent_back_changes_what_differs_and_nothing_that_is_only_read(
    api: TestClient, root: str, events: Events
) -> None:
    row = api.get(root).json()
    foreign = {
        "id": 999,
        "vm_id": 999,
        "vm_name": "other",
        "created_by": "nobody",
        "updated_at": "2001-01-01T00:00:00Z",
        "password_changed_at": None,
        "rotation_due": True,
        "account_type": "others",
    }
    changed = api.put(root, json={**row, **foreign}).json()
    assert {**changed, "updated_at": row["updated_at"]} == {**row, "account_type": "others"}
    assert events(row["id"])[-1] == (
        "credential.update",
        {"account_type": {"from": "primary", "to": "others"}},
    )


def test_a_row_sent_back_with_a_new_password_is_marked_no_more(api: TestClient, root: str) -> None:
    marked = api.put(root, json={"rotation_marked": True}).json()
    changed = api.put(root, json={**marked, "password": SECOND}).json()
    assert (changed["rotation_marked"], changed["rotation_due"]) == (False, False)


def test_a_change_that_names_no_field_is_refused(api: TestClient, root: str) -> None:
    for body in ({}, {"id": 7, "nothing": "known"}):
        assert api.put(root, json=body).json()["details"] == {"body": ["names no field to change"]}


def test_if_match_guards_change_and_removal(api: TestClient, root: str) -> None:
    assert api.put(root, json={"notes": "new"}).headers["etag"] == '"v2"'
    for late in (
        api.put(root, json={"notes": "late"}, headers={"If-Match": '"v1"'}),
        api.delete(root, headers={"If-Match": '"v1"'}),
    ):
        assert late.status_code == 412
    assert api.get(root).json()["notes"] == "new"
    gone = api.delete(root, headers={"If-Match": '"v2"'})
    assert (gone.status_code, gone.json()) == (200, {"ok": True})
    assert api.get(root).status_code == 404


def test_a_reveal_is_not_kept_by_anybody_on_the_way(api: TestClient, root: str) -> None:
    for answer in (api.get(f"{root}/reveal"), api.post(f"{root}/reveal")):
        assert (answer.status_code, answer.json()) == (200, {"password": FIRST})
        assert answer.headers["cache-control"] == "no-store"
        assert "etag" not in answer.headers
        assert answer.headers["content-type"] == "application/json"


def test_a_tag_of_before_never_saves_the_reveal(
    api: TestClient, root: str, database: Database
) -> None:
    tags = {"If-None-Match": '"v1", *', "If-Modified-Since": "Wed, 21 Oct 2099 07:28:00 GMT"}
    assert api.get(f"{root}/reveal", headers=tags).json() == {"password": FIRST}
    assert len(reveals(database)) == 1


def test_the_reason_stands_in_the_query_or_in_the_body(
    api: TestClient, root: str, database: Database
) -> None:
    at = f"{root}/reveal"
    assert api.get(f"{at}?reason=ticket+7").status_code == 200
    assert api.post(f"{at}?reason=ticket+8").status_code == 200
    assert api.post(at, json={"reason": " ticket 9 "}).status_code == 200
    assert api.post(f"{at}?reason=query", json={"reason": "body"}).status_code == 200
    assert api.post(f"{at}?reason=query", json={"reason": ""}).status_code == 200
    assert api.post(at, json={}).status_code == 200
    told = [(detail or {}).get("reason") for _, detail in reveals(database)]
    assert told == ["ticket 7", "ticket 8", "ticket 9", "body", "query", None]


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"json": {"reason": "r" * 513}}, 422),
        ({"json": {"reason": 7}}, 422),
        ({"json": ["reason"]}, 422),
        ({"content": b"null", "headers": {"Content-Type": "application/json"}}, 422),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ({"content": b"reason=ticket"}, 415),
        ({"data": {"reason": "ticket"}}, 415),
        ({"params": {"reason": "r" * 513}}, 422),
        ({"params": [("reason", "one"), ("reason", "two")]}, 422),
    ],
    ids=str,
)
def test_a_reason_that_cannot_be_reveals_nothing(
    api: TestClient, root: str, database: Database, given: dict[str, Any], status: int
) -> None:
    answer = api.post(f"{root}/reveal", **given)
    assert answer.status_code == status
    assert reveals(database) == []


def test_a_body_that_comes_with_a_get_is_not_read(
    api: TestClient, root: str, database: Database
) -> None:
    answer = api.request("GET", f"{root}/reveal", json={"reason": "ticket"})
    assert answer.status_code == 200
    assert reveals(database) == [("credential.reveal", {"version": 1})]


@pytest.mark.parametrize("place", ["reveal", "versions/1/reveal"])
def test_head_reveals_nothing_and_leaves_no_trace(
    api: TestClient, root: str, database: Database, place: str
) -> None:
    answer = api.head(f"{root}/{place}")
    assert (answer.status_code, answer.content) == (405, b"")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "POST"}
    assert reveals(database) == []


def test_other_addresses_answer_head_as_ever(api: TestClient, root: str) -> None:
    assert api.head(root).status_code == api.head(f"{root}/versions").status_code == 200


@pytest.mark.parametrize("settings", [{"reveals_per_hour": 2}], indirect=True)
def test_beyond_the_limit_the_answer_says_when_to_come_back(
    admin: Person, api: TestClient, root: str, database: Database, later: Later
) -> None:
    assert [api.get(f"{root}/reveal").status_code for _ in range(2)] == [200, 200]
    for refused in (api.get(f"{root}/reveal"), api.post(f"{root}/versions/1/reveal")):
        assert refused.status_code == 429
        assert 3_500 < int(refused.headers["retry-after"]) <= 3_600
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["detail"].startswith("You have revealed 2 passwords")
    assert [action for action, _ in reveals(database)] == [
        "credential.reveal",
        "credential.reveal",
        "credential.reveal_refused",
        "credential.reveal_refused",
    ]
    later(int(refused.headers["retry-after"]) + 1)
    assert admin.api.get(f"{root}/reveal").json() == {"password": FIRST}


@pytest.mark.parametrize("settings", [{"reveal_reason": "required"}], indirect=True)
def test_a_reason_that_is_required_is_named_as_missing(
    api: TestClient, root: str, database: Database
) -> None:
    for answer in (
        api.get(f"{root}/reveal"),
        api.get(f"{root}/reveal?reason=%20"),
        api.post(f"{root}/reveal"),
        api.post(f"{root}/reveal", json={"reason": None}),
    ):
        assert answer.status_code == 422
        assert answer.json()["details"] == {"reason": ["is required"]}
    assert api.post(f"{root}/reveal", json={"reason": "ticket 7"}).status_code == 200
    assert reveals(database) == [("credential.reveal", {"version": 1, "reason": "ticket 7"})]


@pytest.mark.parametrize("settings", [{"reveal_step_up": "all"}], indirect=True)
def test_a_proof_that_is_too_old_is_asked_for_anew(
    api: TestClient, root: str, later: Later, database: Database
) -> None:
    assert api.get(f"{root}/reveal").status_code == 200
    later(10 * 60 + 1)
    refused = api.get(f"{root}/reveal")
    assert (refused.status_code, refused.json()["detail"]) == (403, "step_up_required")
    assert len(reveals(database)) == 1


def test_the_versions_tell_when_each_password_was_set_and_by_whom(
    api: TestClient, admin: Person, operator: Person, vm: int, later: Later
) -> None:
    number = added(operator, vm, "root", FIRST)
    root = f"/api/vms/{vm}/credentials/{number}"
    later(60)
    api.put(root, json={"password": SECOND})
    second, first = api.get(f"{root}/versions").json()
    assert first.pop("set_at") < second.pop("set_at")
    assert first == {"version": 1, "set_by": "otto", "present": False, "password": MASK}
    assert second == {"version": 2, "set_by": "ada", "present": True, "password": MASK}


def test_revealing_an_earlier_password_is_an_event_of_its_own(
    api: TestClient, root: str, database: Database
) -> None:
    api.put(root, json={"password": SECOND})
    assert api.get(f"{root}/versions/1/reveal").json() == {"password": FIRST}
    assert api.post(f"{root}/versions/2/reveal").json() == {"password": SECOND}
    assert reveals(database) == [
        ("credential.reveal_earlier", {"version": 1}),
        ("credential.reveal", {"version": 2}),
    ]
    for version in (3, 2**31, 2**63 - 1):
        assert api.get(f"{root}/versions/{version}/reveal").status_code == 404, version
    for wrong in ("0", "-1", "one", "1.0", str(2**63)):
        answer = api.get(f"{root}/versions/{wrong}/reveal")
        assert (answer.status_code, list(answer.json()["details"])) == (422, ["version"])


def test_the_scripts_of_earlier_editions_run_unchanged(api: TestClient, vm: int) -> None:
    """What VMTrak 1.x documented: the fields that its clients send, and those they read."""
    at = f"/api/vms/{vm}/credentials"
    made = api.post(
        at,
        json={"username": "root", "password": FIRST, "account_type": "primary", "notes": ""},
    )
    assert made.status_code == 201
    row = made.json()
    assert row["notes"] is None
    read = {"id", "vm_id", "username", "password", "account_type", "notes", "created_at"}
    assert read | {"updated_at"} <= row.keys()
    assert [one["id"] for one in api.get(at).json()] == [row["id"]]
    taken = api.post(at, json={"username": "ROOT", "password": "other"})
    assert (taken.status_code, taken.json()["error"]) == (
        409,
        "This VM has an account of this name already.",
    )
    changed = api.put(f"{at}/{row['id']}", json={"password": SECOND}).json()
    assert (changed["id"], changed["password"]) == (row["id"], MASK)
    assert api.get(f"{at}/{row['id']}/reveal").json() == {"password": SECOND}
    assert api.post(f"{at}/{row['id']}/reveal").json() == {"password": SECOND}
    listed = {one["id"]: one for one in api.get("/api/vms").json()["data"]}
    assert listed[vm]["primary_username"] == "root"
    assert api.delete(f"{at}/{row['id']}").json() == {"ok": True}
    assert api.get(at).json() == []
