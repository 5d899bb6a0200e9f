"""ETag and If-Match (RFC 9110, 8.8.3 and 13.1.1)."""

import pytest
from starlette.testclient import TestClient

from tests.conftest import Person
from tests.doors import RestDoor

FITS = ('"v2"', "*", ' "v2" ', '"v1", "v2"', '"other","v2"', 'W/"v1", "v2"')
DOES_NOT = (
    '"v1"',
    'W/"v2"',
    '"v02x"',
    "v2",
    '"2"',
    "",
    '"v1", W/"v2"',
    '"v' + 30 * "9" + '"',
    "rubbish",
    '"**"',
)


@pytest.fixture
def api(operator: Person) -> TestClient:
    return operator.api


def twice_changed(api: TestClient, address: str, name: str) -> str:
    made = api.post(address, json={name: "first"}).json()
    row = f"{address}/{made['id']}"
    assert api.put(row, json={name: "second"}).status_code == 200
    return row


@pytest.mark.parametrize(
    ("address", "name"), [("/api/vms", "vm_name"), ("/api/hypervisors", "name")]
)
def test_a_change_goes_through_only_if_the_tag_still_fits(
    api: TestClient, address: str, name: str
) -> None:
    row = twice_changed(api, address, name)
    assert api.get(row).headers["etag"] == '"v2"'
    for tag in DOES_NOT:
        for refused in (
            api.put(row, json={name: "third"}, headers={"If-Match": tag}),
            api.delete(row, headers={"If-Match": tag}),
        ):
            assert refused.status_code == 412, tag
            assert refused.headers["content-type"] == "application/problem+json"
    for tag in FITS:
        answer = api.put(row, json={name: "second"}, headers={"If-Match": tag})
        assert (answer.status_code, answer.headers["etag"]) == (200, '"v2"'), tag
    changed = api.put(row, json={name: "third"}, headers={"If-Match": '"v2"'})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"v3"')
    assert api.delete(row, headers={"If-Match": '"v3"'}).status_code == 200
    assert api.delete(row, headers={"If-Match": "*"}).status_code == 404


def test_every_answer_of_one_row_carries_the_same_tag(api: TestClient) -> None:
    made = api.post("/api/vms", json={"vm_name": "web-01"})
    row = made.headers["location"]
    assert made.headers["etag"] == api.get(row).headers["etag"] == '"v1"'
    assert made.json() == api.get(row).json()
    changed = api.put(row, json={"vlan": "7"})
    assert changed.headers["etag"] == api.get(row).headers["etag"] == '"v2"'
    assert changed.json() == api.get(row).json()


def test_an_empty_change_is_invalid(api: TestClient) -> None:
    for address, name in (("/api/vms", "vm_name"), ("/api/hypervisors", "name")):
        row = twice_changed(api, address, name)
        for body in ({}, {"id": 5, "created_at": "2020-01-01T00:00:00Z"}, {"unknown": 1}):
            answer = api.put(row, json=body)
            assert answer.status_code == 422
            assert answer.json()["details"] == {"body": ["names no field to change"]}


def test_a_script_may_send_back_the_whole_row_it_has_read(admin: Person) -> None:
    door = RestDoor(admin)
    number = door.add_vm({"vm_name": "web-01", "owner": "rita", "ram_gb": 0.5}).made
    row = door.client.get(f"/api/vms/{number}").json()
    answer = door.client.put(f"/api/vms/{number}", json=row)
    assert (answer.status_code, answer.headers["etag"]) == (200, '"v1"')
