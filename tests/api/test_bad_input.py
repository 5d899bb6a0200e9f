"""Bad input to every endpoint: refused in words, never an error of ours."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from tests.conftest import Person
from vmtrak.api import ENDPOINTS
from vmtrak.api.base import Endpoint

BAD_IDS = (
    "abc",
    "1.0",
    "1e3",
    "+1",
    "-1",
    "0",
    "1" + "0" * 30,
    "0" * 19 + "1" + "0" * 30,
    "9223372036854775808",
    "9" * 5_000,
    "%D9%A3",
    "%00",
    "1%00",
    "%20",
    "1;2",
    "%FF",
    "' OR 1=1 --",
)
UNKNOWN_ID = "9223372036854775807"

BAD_QUERIES = (
    "page=1000000000000000000",
    "page=0",
    "page=-1",
    "page=1.5",
    "page=",
    "page=%D9%A3",
    "page=1&page=2",
    "limit=0",
    "limit=201",
    "limit=abc",
    "limit=1&limit=1",
    "cursor=x&cursor=y",
)
BAD_VM_QUERIES = (
    "sort=notes",
    "sort=vm_name;DROP TABLE vms",
    "order=up",
    "environment=moon",
    "status=gone",
    "power_state=1",
    "hypervisor_id=abc",
    "hypervisor_id=0",
    "hypervisor_id=9223372036854775808",
    "expiring_in=-1",
    "expiring_in=99999999999999999999",
    "expires_from=2027-02-31",
    "expires_to=tomorrow",
    "missing=everything",
    "search=%00",
    "search=" + "a" * 201,
    "search=a&search=b",
    "department=" + "d" * 129,
    "owner=a%0D%0Ab",
    "cursor=%00",
    "cursor=nonsense",
    "cursor=bnVsbA",
    "cursor=W10",
    "cursor=WzEsMiwzLDQsNV0",
    "cursor=W1sidm1fbmFtZSJdLCJhc2MiLCJ4IiwxLDFd",
    "cursor=W3t9LCJhc2MiLCJ4IiwxLDFd",
    "cursor=WyJ2bV9uYW1lIixbXSwieCIsMSwxXQ",
    "cursor=WyJ2bV9uYW1lIiwiYXNjIiwieCIsMWUzMCwxXQ",
    "cursor=WyJjcmVhdGVkX2F0IiwiYXNjIiwiZ2FyYmFnZSIsMSwxXQ",
    "cursor=WyJleHBpcnlfZGF0ZSIsImFzYyIsIjIwMjYtVzQ3LTciLDEsMV0",
    "cursor=WyJ1cGRhdGVkX2F0IiwiZGVzYyIsIjIwMjYtOTktMDFUMDA6MDA6MDBaIiwxLDFd",
    "cursor=" + "A" * 2_001,
)
BAD_AUDIT_QUERIES = (
    "user_id=abc",
    "entity_id=9223372036854775808",
    "from=2027-02-31",
    "from=yesterday",
    "to=2026-01-01T25:00:00Z",
    "to=2026-01-01T00:00:00%2B02:00",
    "action=%00",
    "cursor=0",
    "cursor=abc",
    "cursor=1000000000000000000000000",
)
BAD_ID_LISTS = (
    "",
    "ids=",
    "ids=abc",
    "ids=1,",
    "ids=1,,2",
    "ids=0",
    "ids=" + "9" * 30,
    "ids=1&ids=2",
)

NO_JSON = (
    b"",  # which is fine where the body may be missing
    b"{",
    b"'a'",
    b"{'vm_name': 'a'}",
    b'{"vm_name": NaN}',
    b'{"vm_name": 1e400}',
    b'{"vm_name": "\\ud800"}',
    b'{"vm_name": "a"} x',
    b"\xff\xfe",
    b'{"vm_name": "\xff"}',
    b"\x00",
    b"[" * 100_000,
    b'{"a":' * 10_000,
)
NO_OBJECT = (b"[]", b"null", b"3", b'"text"', b"true", b"[{}]")

LEAKS = re.compile(
    r"SELECT |INSERT INTO|Traceback|/home/|/opt/|/tmp/|\.py\b"
    r"|(?i:sqlite|psycopg|sqlalchemy|pydantic)"
)

WITH_BODY = [one for one in ENDPOINTS if one.body is not None]
WITH_NUMBER = [one for one in ENDPOINTS if "{id}" in one.path]


def label(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.path}"


def assert_problem(answer: Response, *statuses: int) -> dict[str, Any]:
    """RFC 9457 with the names of earlier clients, and nothing in it of how VMTrak is built."""
    assert answer.status_code in statuses, (answer.request.url, answer.status_code, answer.text)
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    wanted = {"type", "title", "status", "detail", "error", "request_id"}
    assert set(problem) - {"details"} == wanted
    assert problem["status"] == answer.status_code
    assert problem["error"] == problem["detail"]
    assert re.fullmatch(r"[0-9a-f]{16}", problem["request_id"])
    if answer.status_code == 422:
        assert problem["details"]
        assert all(isinstance(words, list) and words for words in problem["details"].values())
    assert not LEAKS.search(answer.text), answer.text
    return problem


def good_body(endpoint: Endpoint) -> dict[str, Any]:
    """A body that is right for everything."""
    return {
        "vm_name": "made",
        "name": "made",
        "username": "made",
        "email": "made@vmtrak.example",
        "role": "read",
        "password": "long enough for anybody",
        "days": 30,
        "new_password": "long enough for anybody",
    }


def address(endpoint: Endpoint, number: str) -> str:
    """With the number in the place of each that the address names."""
    return "/api" + re.sub(r"{\w+}", lambda _: number, endpoint.path)


def request(client: TestClient, endpoint: Endpoint, number: str) -> Response:
    body = good_body(endpoint) if endpoint.body else None
    return client.request(endpoint.method, address(endpoint, number), json=body)


@pytest.mark.parametrize("endpoint", WITH_NUMBER, ids=label)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_is_no_number_is_refused(endpoint: Endpoint, admin: Person) -> None:
    client = admin.api
    for number in BAD_IDS:
        assert_problem(request(client, endpoint, number), 422)
    for number in ("1%2F2", "..%2F1"):
        assert_problem(request(client, endpoint, number), 404, 405, 422)


def test_the_largest_number_is_nobodys(admin: Person) -> None:
    client = admin.api
    for endpoint in WITH_NUMBER:
        assert_problem(request(client, endpoint, UNKNOWN_ID), 404)
    for path in ("vms", "hypervisors"):
        assert client.get(f"/api/{path}/reachability?ids={UNKNOWN_ID}").json() == {}
    assert client.get(f"/api/vms?hypervisor_id={UNKNOWN_ID}").json()["total"] == 0
    for name in ("user_id", "entity_id"):
        assert client.get(f"/api/audit?{name}={UNKNOWN_ID}").json()["total"] == 0
    assert client.get(f"/api/audit?cursor={UNKNOWN_ID}").status_code == 200
    refused = client.post("/api/vms", json={"vm_name": "a", "hypervisor_id": int(UNKNOWN_ID)})
    assert list(assert_problem(refused, 422)["details"]) == ["hypervisor_id"]


def bad_addresses() -> Iterator[str]:
    for path in ("/api/vms", "/api/vms/trash", "/api/audit"):
        yield from (
            f"{path}?{query}" for query in BAD_QUERIES if query[:6] != "cursor" or "t" not in path
        )
    yield from (f"/api/vms?{query}" for query in BAD_VM_QUERIES)
    yield from (f"/api/audit?{query}" for query in BAD_AUDIT_QUERIES)
    for path in ("/api/vms/reachability", "/api/hypervisors/reachability"):
        yield from (f"{path}?{query}" for query in BAD_ID_LISTS)
        yield f"{path}?ids={','.join(str(n) for n in range(1, 52))}"
    for query in ("", "field=", "field=notes", "field=owner&field=owner", "field=vm_name"):
        yield f"/api/vms/field-values?{query}"


def test_a_query_that_is_wrong_names_its_field(admin: Person) -> None:
    client = admin.api
    for wrong in bad_addresses():
        problem = assert_problem(client.get(wrong), 422)
        query = wrong.partition("?")[2]
        named = query.partition("=")[0] or "ids"
        assert set(problem["details"]) & {named, "field"}, (wrong, problem)


@pytest.mark.parametrize("query", ["x=1", "page=1&x=1&x=2", "%FF=%FF", "&&&", "=", "search=%FF"])
def test_a_query_that_nobody_asks_for_is_ignored(query: str, admin: Person) -> None:
    assert admin.api.get(f"/api/vms?{query}").status_code == 200


def test_far_pages_are_empty(admin: Person) -> None:
    for path in ("/api/vms", "/api/vms/trash", "/api/audit"):
        page = admin.api.get(f"{path}?page=1000000000&limit=200").json()
        assert page["data"] == []
        assert page["next"] is None


def send(client: TestClient, endpoint: Endpoint, body: bytes, kind: str | None) -> Response:
    headers = {} if kind is None else {"Content-Type": kind}
    return client.request(endpoint.method, address(endpoint, "1"), content=body, headers=headers)


NOTHING_NEEDED = {label(each) for each in WITH_BODY if each.body_optional} | {"POST /auth/calendar"}
"""Those to which an empty object says enough."""


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=label)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_body_that_is_no_object_is_refused(endpoint: Endpoint, admin: Person) -> None:
    client = admin.api
    for body in NO_JSON[endpoint.body_optional :]:
        assert_problem(send(client, endpoint, body, "application/json"), 400)
    for body in NO_OBJECT:
        problem = assert_problem(send(client, endpoint, body, "application/json"), 422)
        assert list(problem["details"]) == ["body"]
    for kind in (None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"):
        assert_problem(send(client, endpoint, b"{}", kind), 415)
    for kind in ("application/json", "Application/JSON ; charset=utf-8"):
        usual = {201, 404, 409} if label(endpoint) in NOTHING_NEEDED else {401, 422}
        assert send(client, endpoint, b"{}", kind).status_code in usual
    large = b'{"notes": "' + b"x" * 10_000_000 + b'"}'
    assert_problem(send(client, endpoint, large, "application/json"), 413)


def test_a_large_body_is_refused_however_it_comes(admin: Person, anonymous: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(200):
            yield b"x" * 64 * 1024

    headers = {"Content-Type": "application/json"}
    assert_problem(admin.api.post("/api/vms", content=chunks(), headers=headers), 413)
    assert_problem(anonymous.post("/api/auth/login", content=chunks(), headers=headers), 413)
    assert_problem(anonymous.post("/api/vms", content=chunks(), headers=headers), 401)
    lying = {**headers, "Content-Length": "9" * 40}
    assert_problem(admin.api.post("/api/vms", content=b"{}", headers=lying), 413)


WRONG_VALUES: tuple[dict[str, Any], ...] = (
    {"vm_name": None},
    {"vm_name": ""},
    {"vm_name": "   "},
    {"vm_name": "a\x00b"},
    {"vm_name": "a\r\nb"},
    {"vm_name": "a" * 129},
    {"vm_name": 7},
    {"vm_name": ["a"]},
    {"vm_name": {"a": {"b": []}}},
    {"notes": "a\x07b"},
    {"notes": "n" * 4097},
    {"expiry_date": "2027-02-31"},
    {"expiry_date": "31.12.2027"},
    {"expiry_date": 20270131},
    {"expiry_date": "2027-01-31T00:00:00Z"},
    {"vcpu": 0},
    {"vcpu": -1},
    {"vcpu": 1.5},
    {"vcpu": 10**30},
    {"vcpu": True},
    {"vcpu": "four"},
    {"ram_gb": 0},
    {"ram_gb": "lots"},
    {"disk_gb": []},
    {"hypervisor_id": 999_999},
    {"hypervisor_id": "abc"},
    {"hypervisor_id": 0},
    {"environment": "moon"},
    {"status": "gone"},
    {"power_state": 1},
    {"os_type": "linux"},
    {"ip_address": "10.0.0.256"},
    {"ip_address": "fe80::1%eth0"},
    {"mac_address": "00:00"},
    {"owner": "o" * 257},
    {"department": "a\tb"},
)


def test_a_wrong_value_is_named_by_its_field(operator: Person) -> None:
    client = operator.api
    made = client.post("/api/vms", json={"vm_name": "kept"}).json()
    for value in WRONG_VALUES:
        new = client.post("/api/vms", json={"vm_name": "new", **value})
        changed = client.put(f"/api/vms/{made['id']}", json=value)
        for answer in (new, changed):
            assert (value, answer.status_code) == (value, 422)
            problem = assert_problem(answer, 422)
            assert list(problem["details"]) == list(value), (value, problem)
    assert client.get(f"/api/vms/{made['id']}").json() == {**made}
    assert client.get("/api/vms").json()["total"] == 1


@pytest.mark.parametrize("path", ["/api/vms", "/api/hypervisors", "/api/users"])
def test_an_empty_change_is_refused(path: str, admin: Person) -> None:
    created = admin.api.post(path, json=good_body(WITH_BODY[0])).json()
    for body in ({}, {"unknown": 1}, {"id": 5}):
        problem = assert_problem(admin.api.put(f"{path}/{created['id']}", json=body), 422)
        assert list(problem["details"]) == ["body"]


def test_a_key_given_twice_counts_as_it_was_said_last(operator: Person) -> None:
    answer = operator.api.post(
        "/api/vms",
        content=b'{"vm_name":"first","vm_name":"last"}',
        headers={"Content-Type": "application/json"},
    )
    assert answer.json()["vm_name"] == "last"


@pytest.mark.parametrize("tag", ['"v0"', "v1", 'W/"v1"', "", '"v99999999999999999999"', "é", '""'])
def test_a_tag_that_is_not_the_rows_is_overtaken(tag: str, operator: Person) -> None:
    made = operator.api.post("/api/vms", json={"vm_name": "kept"}).json()["id"]
    headers = {b"If-Match": tag.encode()}
    for method, body in (("PUT", {"vm_name": "other"}), ("DELETE", None)):
        answer = operator.api.request(method, f"/api/vms/{made}", json=body, headers=headers)
        assert_problem(answer, 412)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_method_that_an_address_does_not_take_is_told_those_it_does(admin: Person) -> None:
    client, methods = admin.api, {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X"}
    taken: dict[str, set[str]] = {}
    for endpoint in ENDPOINTS:
        taken.setdefault(address(endpoint, "1"), set()).add(endpoint.method)
    without_head = {address(endpoint, "1") for endpoint in ENDPOINTS if endpoint.writes}
    for path, right in taken.items():
        expected = right | ({"HEAD"} if "GET" in right and path not in without_head else set())
        for method in methods - right:
            # Some words are addresses of their own and numbers at the same time.
            answer = client.request(method, path)
            if answer.status_code != 422:
                assert_problem(answer, 405)
                assert set(answer.headers["Allow"].split(", ")) == expected


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_address_that_does_not_exist_is_not_found(admin: Person, anonymous: TestClient) -> None:
    for path in (
        "/api/",
        "/api/nothing",
        "/api/vms/1/nothing",
        "/api/openapi",
        "/api/VMS",
        "/api//vms",
    ):
        for method in ("GET", "POST", "DELETE"):
            assert_problem(admin.api.request(method, path), 404)
            assert_problem(anonymous.request(method, path), 401)
