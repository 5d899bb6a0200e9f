"""Many people at one server: each change counts once, none is lost, nobody meets a fault."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import func, select

from tests.conftest import PASSWORD, SECRET_KEY
from tests.faults.running import access_token, at_once, serving
from vmtrak.audit import AuditEvent
from vmtrak.db import Database
from vmtrak.inventory import VM

PEOPLE_AT_ONCE = 20
WRITERS = 8
ADDS = 6


@pytest.fixture
def client(database_url: str, tmp_path: Path) -> Iterator[httpx2.Client]:
    token = access_token(database_url)
    settings = {"VMTRAK_DATABASE_URL": database_url, "VMTRAK_SECRET_KEY": SECRET_KEY}
    with serving(tmp_path, **settings) as server, server.client(token) as client:
        yield client


def count(url: str, *actions: str) -> tuple[int, int]:
    """How many VMs there are, and how many events of the actions."""
    database = Database(url)
    try:
        with database.read() as session:
            vms = session.scalar(select(func.count()).select_from(VM))
            events = select(func.count()).where(AuditEvent.action.in_(actions))
            return vms or 0, session.scalar(events) or 0
    finally:
        database.close()


def test_of_many_who_take_one_name_at_once_one_gets_it(
    client: httpx2.Client, database_url: str
) -> None:
    def create(index: int) -> int:
        name = "Web-01" if index % 2 else "web-01"
        return client.post("/api/vms", json={"vm_name": name}).status_code

    assert Counter(at_once(PEOPLE_AT_ONCE, create)) == {201: 1, 409: PEOPLE_AT_ONCE - 1}
    assert count(database_url, "vm.create") == (1, 1)


def test_of_many_who_edit_what_they_saw_at_once_one_succeeds(
    client: httpx2.Client, database_url: str
) -> None:
    made = client.post("/api/vms", json={"vm_name": "web-01"})
    address, tag = f"/api/vms/{made.json()['id']}", made.headers["ETag"]

    def edit(index: int) -> int:
        change = {"notes": f"edit {index}"}
        return client.put(address, json=change, headers={"If-Match": tag}).status_code

    codes = at_once(PEOPLE_AT_ONCE, edit)
    assert Counter(codes) == {200: 1, 412: PEOPLE_AT_ONCE - 1}
    assert client.get(address).json()["notes"] == f"edit {codes.index(200)}"
    assert count(database_url, "vm.update") == (1, 1)


def test_adding_while_others_list_loses_nothing(client: httpx2.Client, database_url: str) -> None:
    def work(index: int) -> list[int]:
        if index >= WRITERS:
            return [client.get("/api/vms?search=load").status_code for _ in range(ADDS)]
        return [
            client.post("/api/vms", json={"vm_name": f"load-{index}-{step}"}).status_code
            for step in range(ADDS)
        ]

    codes = Counter(code for codes in at_once(WRITERS + 2, work) for code in codes)
    assert codes == {201: WRITERS * ADDS, 200: 2 * ADDS}
    page = client.get("/api/vms?limit=200&search=load").json()
    assert page["total"] == len(page["data"]) == WRITERS * ADDS
    assert client.get("/api/vms").json()["total"] == WRITERS * ADDS
    assert count(database_url, "vm.create") == (WRITERS * ADDS, WRITERS * ADDS)


def test_many_sign_in_at_once(client: httpx2.Client) -> None:
    def sign_in(_index: int) -> int:
        attempt = {"username": "otto", "password": PASSWORD}
        return client.post("/api/auth/login", json=attempt).status_code

    assert set(at_once(PEOPLE_AT_ONCE, sign_in)) == {200}
