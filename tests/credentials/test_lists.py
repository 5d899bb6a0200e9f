"""The list over all VMs: what is in it, in which order, page by page."""

import base64
from typing import Any

import orjson
import pytest
from starlette.testclient import TestClient

from tests.conftest import CANARY, Later, Person
from tests.credentials.conftest import added, vm_named
from vmtrak.credentials import MASK

PASSWORD = f"{CANARY}one"

DAY = 24 * 60 * 60

PLACES = {
    "web-02": ("root", "Backup"),
    "DB-01": ("postgres", "root_100%", "ada"),
    "Äpfel": ("Administrator",),
    "web-01": ("root",),
}
IN_ORDER = [
    ("DB-01", "ada"),
    ("DB-01", "postgres"),
    ("DB-01", "root_100%"),
    ("web-01", "root"),
    ("web-02", "Backup"),
    ("web-02", "root"),
    ("Äpfel", "Administrator"),
]

Names = list[tuple[str, str]]


@pytest.fixture
def filled(admin: Person) -> None:
    for name, users in PLACES.items():
        number = vm_named(admin, name)
        for user in users:
            added(admin, number, user, PASSWORD)


@pytest.fixture
def api(filled: None, admin: Person) -> TestClient:
    return admin.api


def asked(api: TestClient, **query: Any) -> dict[str, Any]:
    answer = api.get("/api/credentials", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def names(page: dict[str, Any]) -> Names:
    return [(row["vm_name"], row["username"]) for row in page["data"]]


def test_rows_come_by_vm_and_user_name_in_the_frame_of_every_list(api: TestClient) -> None:
    page = asked(api)
    assert names(page) == IN_ORDER
    frame = {name: page[name] for name in ("total", "page", "limit", "next")}
    assert frame == {"total": 7, "page": 1, "limit": 50, "next": None}
    assert {row["password"] for row in page["data"]} == {MASK}
    row = page["data"][0]
    own = f"/api/vms/{row['vm_id']}/credentials/{row['id']}"
    assert api.get(own).json() == row


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 200])
def test_cursors_and_pages_each_give_every_row_once(api: TestClient, limit: int) -> None:
    page = asked(api, limit=limit)
    by_cursor, number = names(page), 1
    while page["next"]:
        page, number = asked(api, limit=limit, cursor=page["next"]), number + 1
        assert (page["page"], page["total"]) == (number, 7)
        by_cursor += names(page)
    by_page = [
        one for at in range(1, number + 2) for one in names(asked(api, limit=limit, page=at))
    ]
    assert by_cursor == by_page == IN_ORDER


def test_a_cursor_goes_on_when_its_row_is_gone(api: TestClient) -> None:
    page = asked(api, limit=4)
    row = page["data"][-1]
    assert api.delete(f"/api/vms/{row['vm_id']}/credentials/{row['id']}").status_code == 200
    assert names(asked(api, cursor=page["next"])) == IN_ORDER[4:]


def test_a_cursor_holds_no_user_name(api: TestClient) -> None:
    text = asked(api, limit=3)["next"]
    told = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert b"db-01" in told
    assert b"root" not in told


def cursor(*values: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(values)).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        "rubbish",
        "ä",
        "a",
        "=",
        cursor(),
        cursor("web-01", 1),
        cursor("web-01", 1, 2, 3),
        cursor(7, 1, 2),
        cursor("web\0", 1, 2),
        cursor("web-01", "1", 2),
        cursor("web-01", 1.5, 2),
        cursor("web-01", 0, 2),
        cursor("web-01", 2**63, 2),
        cursor("web-01", 1, 0),
        cursor("web-01", 1, 2**64 - 1),
        cursor(None, 1, 2),
        base64.urlsafe_b64encode(b'{"a": 1}').decode(),
        base64.urlsafe_b64encode(b"[" * 2_000).decode(),
    ],
)
def test_a_cursor_that_no_list_gave_is_refused(api: TestClient, text: str) -> None:
    answer = api.get("/api/credentials", params={"cursor": text})
    assert (answer.status_code, list(answer.json()["details"])) == (422, ["cursor"])


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("root", [("DB-01", "root_100%"), ("web-01", "root"), ("web-02", "root")]),
        ("ROOT", [("DB-01", "root_100%"), ("web-01", "root"), ("web-02", "root")]),
        ("web", [("web-01", "root"), ("web-02", "Backup"), ("web-02", "root")]),
        ("web root", [("web-01", "root"), ("web-02", "root")]),
        ("ÄPFEL", [("Äpfel", "Administrator")]),
        ("A\u0308pfel", [("Äpfel", "Administrator")]),
        ("_", [("DB-01", "root_100%")]),
        ("%", [("DB-01", "root_100%")]),
        ("t_1", [("DB-01", "root_100%")]),
        ("root_1%0", []),
        ("/", []),
        ("\\", []),
        ("'", []),
        ("   ", IN_ORDER),
    ],
)
def test_search_looks_into_user_names_and_vm_names_word_by_word(
    api: TestClient, search: str, expected: Names
) -> None:
    page = asked(api, search=search)
    assert (names(page), page["total"]) == (expected, len(expected))


def test_passwords_and_notes_are_not_searched(api: TestClient, admin: Person) -> None:
    added(admin, vm_named(admin, "x"), "y", f"{PASSWORD} needle", notes="ask Zoe")
    for word in ("zoe", "needle", MASK):
        assert asked(api, search=word)["total"] == 0


def test_filters_by_vm_and_type(api: TestClient) -> None:
    vm = asked(api, search="db-01")["data"][0]["vm_id"]
    assert names(asked(api, vm_id=vm)) == IN_ORDER[:3]
    assert asked(api, vm_id=999_999)["data"] == []
    primary = asked(api, account_type="primary")
    assert names(primary) == [
        ("DB-01", "postgres"),
        ("web-01", "root"),
        ("web-02", "root"),
        ("Äpfel", "Administrator"),
    ]
    assert asked(api, account_type="others")["total"] == 3
    both = asked(api, account_type="others", search="web", limit=1)
    assert (names(both), both["total"], both["next"]) == ([("web-02", "Backup")], 1, None)


def test_a_cursor_goes_on_under_the_same_filters(api: TestClient) -> None:
    page = asked(api, search="root", limit=2)
    assert names(asked(api, search="root", cursor=page["next"])) == [("web-02", "root")]


def test_without_a_setting_age_makes_nothing_due(filled: None, admin: Person, later: Later) -> None:
    later(5_000 * DAY)
    api = admin.api  # of today: the sessions of then have ended
    assert asked(api)["total"] == asked(api, rotation_due="false")["total"] == 7
    assert asked(api, rotation_due="true")["total"] == 0


@pytest.mark.parametrize("settings", [{"rotation_days": 0}, {"rotation_days": 5}], indirect=True)
def test_what_is_marked_is_due(api: TestClient) -> None:
    row = asked(api)["data"][1]
    own = f"/api/vms/{row['vm_id']}/credentials/{row['id']}"
    assert asked(api, rotation_due="true")["data"] == []
    marked = api.put(own, json={"rotation_marked": True}).json()
    assert (marked["rotation_due"], marked["rotation_marked"]) == (True, True)
    assert asked(api, rotation_due="true")["data"] == [marked]
    rest = asked(api, rotation_due="false")
    assert names(rest) == [one for one in IN_ORDER if one != IN_ORDER[1]]
    assert {row["rotation_due"] for row in rest["data"]} == {False}


@pytest.mark.parametrize("settings", [{"rotation_days": 5}], indirect=True)
def test_what_is_too_old_is_due_until_it_is_changed(
    filled: None, admin: Person, later: Later
) -> None:
    later(5 * DAY - 60)
    api = admin.api
    assert asked(api, rotation_due="true")["total"] == 0
    later(60)
    due = asked(api, rotation_due="true")
    assert (names(due), due["total"]) == (IN_ORDER, 7)
    assert all(row["rotation_due"] and not row["rotation_marked"] for row in due["data"])
    row = due["data"][0]
    own = f"/api/vms/{row['vm_id']}/credentials/{row['id']}"
    assert api.put(own, json={"notes": "looked at"}).json()["rotation_due"]
    assert not api.put(own, json={"password": f"{CANARY}two"}).json()["rotation_due"]
    assert names(asked(api, rotation_due="false")) == IN_ORDER[:1]


@pytest.mark.parametrize(
    "query",
    [
        {"vm_id": "x"},
        {"vm_id": 0},
        {"vm_id": 2**63},
        {"account_type": "root"},
        {"rotation_due": "maybe"},
        {"page": 0},
        {"limit": 0},
        {"limit": 201},
        {"search": "s" * 201},
        {"search": "bell\x07"},
    ],
    ids=str,
)
def test_what_a_list_cannot_be_asked_for_is_named(api: TestClient, query: dict[str, Any]) -> None:
    answer = api.get("/api/credentials", params=query)
    assert (answer.status_code, list(answer.json()["details"])) == (422, list(query))


def test_far_pages_are_empty(api: TestClient) -> None:
    page = asked(api, page=1_000_000_000, limit=200)
    assert (page["data"], page["total"], page["next"]) == ([], 7, None)
