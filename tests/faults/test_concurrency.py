"""Many people at one server: each change counts once, none is lost, nobody meets a fault."""

import shutil
from collections import Counter
from collections.abc import Iterator

import httpx2
import pytest
from sqlalchemy import func, select

from tests import services
from tests.conftest import PASSWORD, SECRET_KEY
from tests.faults.running import access_token, at_once, serving
from vmtrak.audit import AuditEvent
from vmtrak.db import Database

PEOPLE_AT_ONCE = 20
WRITERS = 8
ADDS = 6


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One database with the named people for the whole file: starting a server takes its time."""
    if request.param == "sqlite":
        file = tmp_path_factory.mktemp("shared") / "inventory.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), file)
        yield f"sqlite:///{file}"
    else:
        server = request.getfixturevalue("postgres")
        template = request.getfixturevalue("postgres_template")
        with services.fresh_database(server, template) as made:
            yield made


@pytest.fixture(scope="module")
def client(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    settings = {"VMTRAK_DATABASE_URL": url, "VMTRAK_SECRET_KEY": SECRET_KEY}
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, **settings) as server, server.client(access_token(url)) as client:
        yield client


def events(url: str, action: str, name: str) -> int:
    """How many events of that kind there are about VMs whose names begin so."""
    database = Database(url)
    try:
        with database.read() as session:
            about = AuditEvent.entity_name.istartswith(name)
            chosen = select(func.count()).where(AuditEvent.action == action, about)
            return session.scalar(chosen) or 0
    finally:
        database.close()


def test_of_many_who_take_one_name_at_once_one_gets_it(client: httpx2.Client, url: str) -> None:
    def create(index: int) -> int:
        name = "Wanted" if index % 2 else "wanted"
        return client.post("/api/vms", json={"vm_name": name}).status_code

    assert Counter(at_once(PEOPLE_AT_ONCE, create)) == {201: 1, 409: PEOPLE_AT_ONCE - 1}
    assert client.get("/api/vms?search=wanted").json()["total"] == 1
    assert events(url, "vm.create", "wanted") == 1


def test_of_many_who_edit_what_they_saw_at_once_one_succeeds(
    client: httpx2.Client, url: str
) -> None:
    made = client.post("/api/vms", json={"vm_name": "edited"})
    address, tag = f"/api/vms/{made.json()['id']}", made.headers["ETag"]

    def edit(index: int) -> int:
        change = {"notes": f"edit {index}"}
        return client.put(address, json=change, headers={"If-Match": tag}).status_code

    codes = at_once(PEOPLE_AT_ONCE, edit)
    assert Counter(codes) == {200: 1, 412: PEOPLE_AT_ONCE - 1}
    assert client.get(address).json()["notes"] == f"edit {codes.index(200)}"
    assert events(url, "vm.update", "edited") == 1


def test_adding_while_others_list_loses_nothing(client: httpx2.Client, url: str) -> None:
    before = client.get("/api/vms").json()["total"]

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
    total = client.get("/api/vms").json()["total"]
    assert total == before + WRITERS * ADDS
    assert events(url, "vm.create", "load-") == WRITERS * ADDS


def test_many_sign_in_at_once(client: httpx2.Client) -> None:
    def sign_in(_index: int) -> int:
        attempt = {"username": "otto", "password": PASSWORD}
        return client.post("/api/auth/login", json=attempt).status_code

    assert set(at_once(PEOPLE_AT_ONCE, sign_in)) == {200}
