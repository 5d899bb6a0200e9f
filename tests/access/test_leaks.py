"""What a reader must not learn: two worlds that differ only in what is hidden look the same."""

import base64
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import orjson
import pytest
from httpx2 import Response
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests import services
from tests.conftest import Person
from vmtrak import app as application
from vmtrak import inventory
from vmtrak.access import SYSTEM
from vmtrak.accounts import UserPatch, users
from vmtrak.inventory import (
    Environment,
    Missing,
    NewHypervisor,
    NewVM,
    PowerState,
    Status,
    VMPatch,
    hypervisors,
)
from vmtrak.inventory.lists import Sort
from vmtrak.settings import Settings, load

OWN = (
    {
        "vm_name": "ledger-01",
        "department": "Finance",
        "hypervisor": "shared",
        "os_version": "22.04",
    },
    {"vm_name": "ledger-02", "department": "finance", "hypervisor": "ours", "owner": "mona"},
    {"vm_name": "ledger-03", "department": "FINANCE", "status": "inactive", "application": "SAP"},
    {"vm_name": "payroll", "department": "Finance", "environment": "production", "owner": "mona"},
    {"vm_name": "lab", "department": "Research", "owner": "RITA", "expiry_date": "2027-01-31"},
    {"vm_name": "kiosk", "owner": "Rita@VMTrak.Example", "ip_address": "127.0.0.1"},
    {"vm_name": "gone-finance", "department": "Finance", "trash": "yes"},
)

FOREIGN = (
    {
        "vm_name": "convoy-01",
        "department": "Logistics",
        "hypervisor": "theirs",
        "ip_address": "127.0.0.1",
        "os_type": "Linux",
        "os_version": "secret-os",
        "hostname": "convoy.depot.example",
        "owner": "olga",
        "application": "fleet",
        "environment": "production",
        "expiry_date": "2027-01-15",
    },
    {"vm_name": "convoy-02", "department": "Logistics", "hypervisor": "shared", "owner": "mona"},
    {"vm_name": "ledger-99", "department": "Logistics", "status": "decommissioned"},
    {"vm_name": "nobody", "power_state": "suspended"},
    {"vm_name": "near-miss", "department": "Finance 2", "owner": "rita2"},
    {"vm_name": "nearer-miss", "department": "", "owner": "rita@vmtrak.example.net"},
    {
        "vm_name": "gone-logistics",
        "department": "Logistics",
        "hypervisor": "theirs",
        "trash": "yes",
    },
)

CHANGING = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z|(?<=\"request_id\":\")[0-9a-f]{16}"
)
"""Times to the second and request ids."""


@dataclass(frozen=True)
class World:
    """An application with its reader and an operator, and the numbers of what is in it."""

    app: Starlette
    reader: Person
    operator: Person
    numbers: dict[str, int]


def person(app: Starlette, like: Person) -> Person:
    state = app.state.vmtrak
    return Person(like.name, like.user_id, state.database, app, state.rules)


def populated(app: Starlette, people: dict[str, Person], *, foreign: bool) -> World:
    """A world in which the hidden rows are (`foreign`), or in which they are no more."""
    reader, operator = (person(app, people[name]) for name in ("reader", "operator"))
    admin = person(app, people["admin"]).actor
    numbers: dict[str, int] = {}
    with operator.database.work(operator.actor) as work:
        for name in ("ours", "theirs", "shared"):
            made = hypervisors.add(work, NewHypervisor(name=f"hv-{name}", hostname="127.0.0.1"))
            numbers[name] = made.id
        for values in (pair for both in zip(OWN, FOREIGN, strict=True) for pair in both):
            home = numbers.get(values.get("hypervisor", ""))
            vm = inventory.add(work, NewVM.model_validate({**values, "hypervisor_id": home}))
            numbers[vm.vm_name] = vm.id
            if "trash" in values:
                inventory.remove(work, vm.id)
    if not foreign:
        with operator.database.work(admin) as work:
            for values in FOREIGN:
                if "trash" not in values:
                    inventory.remove(work, numbers[values["vm_name"]])
                    work.flush()
                inventory.purge(work, numbers[values["vm_name"]])
            work.flush()
            hypervisors.remove(work, numbers["theirs"])
    return World(app, reader, operator, numbers)


@pytest.fixture
def twin(
    request: pytest.FixtureRequest, settings: Settings, database_url: str, tmp_path: Path
) -> Iterator[Starlette]:
    """A second application, on a database of its own."""
    folder = tmp_path / "twin"
    folder.mkdir()
    with ExitStack() as stack:
        if database_url.startswith("sqlite"):
            shutil.copy(request.getfixturevalue("sqlite_template"), folder / "inventory.db")
            url = f"sqlite:///{folder / 'inventory.db'}"
        else:
            server, template = (
                request.getfixturevalue(name) for name in ("postgres", "postgres_template")
            )
            url = stack.enter_context(services.fresh_database(server, template))
        given = {
            "VMTRAK_DATA_DIR": str(folder),
            "VMTRAK_DATABASE_URL": url,
            "VMTRAK_BASE_URL": settings.base_url,
            "VMTRAK_SECRET_KEY": settings.signing_key().decode(),
            "TZ": "Asia/Kolkata",
        }
        made = application.build(load(given, None))
        yield made
        made.state.vmtrak.database.close()


@pytest.fixture
def worlds(app: Starlette, twin: Starlette, people: dict[str, Person]) -> tuple[World, World]:
    return populated(app, people, foreign=True), populated(twin, people, foreign=False)


def cursor(*values: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(values)).decode().rstrip("=")


def forged_cursors(numbers: dict[str, int]) -> Iterator[str]:
    """Cursors that point at hidden rows, in every sort and both directions."""
    keys = {"expiry_date": "2027-01-15", "created_at": "2020-01-01T00:00:00Z"}
    keys["updated_at"] = keys["created_at"]
    for sort, order in product(Sort, ("asc", "desc")):
        yield cursor(sort, order, keys.get(sort, "convoy-01"), numbers["convoy-01"], 2)


def list_queries(numbers: dict[str, int]) -> Iterator[str]:
    yield from ("", "limit=2", "limit=2&page=2", "limit=2&page=3", "limit=2&page=9", "limit=200")
    for sort, order in product(Sort, ("asc", "desc")):
        yield f"sort={sort}&order={order}&limit=3"
    for forged in forged_cursors(numbers):
        yield f"cursor={forged}"
    for name, choices in (
        ("environment", Environment),
        ("status", Status),
        ("power_state", PowerState),
        ("missing", Missing),
    ):
        yield from (f"{name}={value.value}" for value in choices)
    for word in ("convoy", "ledger", "ledger-99", "depot", "127.0.0.1", "olga", "mona", "c", "co"):
        yield f"search={word}"
        yield f"search={word}&status=active"
    for name in ("owner", "department"):
        for value in ("olga", "mona", "rita", "rita2", "Logistics", "Finance", "Finance 2"):
            yield f"{name}={value}"
            yield f"{name}={value}&environment=production"
    for name in ("ours", "theirs", "shared"):
        yield f"hypervisor_id={numbers[name]}"
        yield f"hypervisor_id={numbers[name]}&department=Logistics"
    yield from ("hypervisor_id=999999", "expiring_in=36500", "expires_from=2027-01-01")
    yield from ("expires_to=2027-01-20", "search=convoy&hypervisor_id=2&page=2")


def addresses(numbers: dict[str, int]) -> Iterator[str]:
    """Everything that a reader can GET about VMs, asked about what is hidden."""
    for query in list_queries(numbers):
        yield f"/api/vms?{query}"
        yield f"/admin/vm/list?{query}"
    for name in ("hv-ours", "hv-theirs", "hv-shared", "hv-nowhere"):
        yield f"/admin/vm/list?hypervisor={name}"
    every = ",".join(str(number) for number in numbers.values())
    for door in ("/api/vms", "/admin/vm", "/api/hypervisors"):
        yield f"{door}/reachability?ids={every}"
        yield f"{door}/reachability?ids={numbers['convoy-01']},{numbers['theirs']}"
    for field in ("os_version", "owner", "department", "application", "vm_name", "hypervisor"):
        yield f"/api/vms/field-values?field={field}"
        yield f"/admin/vm/suggest?field={field}"
        yield f"/admin/vm/suggest?field={field}&term=l"
    for number in numbers.values():
        yield f"/api/vms/{number}"
        yield f"/api/hypervisors/{number}"
        yield from (
            f"/admin/{kind}/{page}/{number}"
            for kind, page in product(("vm", "hypervisor", "trash"), ("details", "edit"))
        )
        yield f"/admin/vm/create?from={number}"
        yield f"/admin/hypervisor/create?from={number}"
        yield f"/api/audit?entity_type=vm&entity_id={number}"
        yield f"/admin/audit/list?entity_type=vm&entity_id={number}"
        yield f"/admin/audit/details/{number}"
    yield from ("/admin/", "/api/vms/hypervisors", "/api/hypervisors", "/api/dashboard/stats")
    yield from ("/admin/hypervisor/list", "/admin/trash/list", "/api/vms/trash", "/api/auth/me")
    yield from ("/api/audit?action=vm.create", "/admin/audit/list", "/api/users")


def changes(numbers: dict[str, int]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """What a reader may not do anyway, done to what is hidden."""
    for name in ("convoy-01", "gone-logistics", "theirs", "ledger-01"):
        number = numbers[name]
        for kind in ("vms", "hypervisors"):
            for body in ({"vm_name": "convoy-01", "name": "hv-theirs"}, {"vm_name": ""}):
                yield "PUT", f"/api/{kind}/{number}", body
            yield "DELETE", f"/api/{kind}/{number}", {}
        yield "POST", f"/api/vms/{number}/restore", {}
        yield "POST", f"/api/vms/{number}/purge", {}
        yield "POST", f"/admin/vm/edit/{number}", {"vm_name": "convoy-01", "revision": "1"}
        yield "POST", "/admin/vm/delete", {"pk": str(number)}
        yield "POST", "/admin/hypervisor/delete", {"pk": str(number)}
        yield "POST", f"/admin/trash/restore/{number}", {}
        yield "POST", f"/admin/trash/purge/{number}", {}
    yield "POST", "/api/vms", {"vm_name": "convoy-01"}
    yield "POST", "/api/hypervisors", {"name": "hv-theirs"}
    yield "POST", "/admin/vm/create", {"vm_name": "convoy-01", "hypervisor": "hv-theirs"}


def seen(answer: Response) -> tuple[int, dict[str, str], str]:
    """All that a client learns of an answer, without times and request ids."""
    return answer.status_code, dict(answer.headers), CHANGING.sub("*", answer.text)


class Doors:
    """One person's clients for both doors."""

    def __init__(self, someone: Person) -> None:
        self._api, self._panel = someone.api, someone.panel

    def get(self, address: str) -> tuple[int, dict[str, str], str]:
        return seen(self._of(address).get(address))

    def change(self, method: str, address: str, body: dict[str, str]) -> object:
        client = self._of(address)
        if client is self._panel:
            return seen(client.post(address, data=body))
        json = None if method == "DELETE" else body
        return seen(client.request(method, address, json=json, headers={"If-Match": '"v7"'}))

    def _of(self, address: str) -> TestClient:
        return self._api if address.startswith("/api/") else self._panel


def test_a_reader_cannot_tell_whether_hidden_vms_exist(worlds: tuple[World, World]) -> None:
    full, bare = worlds
    assert full.numbers == bare.numbers
    here, there = Doors(full.reader), Doors(bare.reader)
    for address in addresses(full.numbers):
        assert (address, here.get(address)) == (address, there.get(address))
    for method, address, body in changes(full.numbers):
        asked = (method, address)
        assert (asked, here.change(method, address, body)) == (
            asked,
            there.change(method, address, body),
        )


def test_an_operator_can_tell_by_the_same_requests(worlds: tuple[World, World]) -> None:
    """The comparison sees differences where there are some."""
    here, there = Doors(worlds[0].operator), Doors(worlds[1].operator)
    asked = list(addresses(worlds[0].numbers))[::5]
    different = [address for address in asked if here.get(address) != there.get(address)]
    assert len(different) > len(asked) / 5


def test_a_reader_sees_what_is_theirs_or_their_departments(worlds: tuple[World, World]) -> None:
    for world in worlds:
        found = world.reader.api.get("/api/vms").json()
        own = {vm["vm_name"] for vm in OWN if "trash" not in vm}
        assert {vm["vm_name"] for vm in found["data"]} == own
        assert found["total"] == len(own)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_nothing_hidden_is_on_any_page_of_a_reader(worlds: tuple[World, World]) -> None:
    world = worlds[0]
    doors = Doors(world.reader)
    words = ("convoy-", "secret-os", "depot", "olga", "fleet", "hv-theirs", "near-miss", "gone-")
    for address in addresses(world.numbers):
        status, _, text = doors.get(address)
        asked = address.lower()
        told = [word for word in words if word in text.lower() and word not in asked]
        assert (address, status, told) == (address, status, [])


def test_a_hidden_vm_answers_as_one_that_never_was(worlds: tuple[World, World]) -> None:
    world = worlds[0]
    doors, hidden = Doors(world.reader), world.numbers["convoy-01"]
    for pattern in (
        "/api/vms/{}",
        "/api/hypervisors/{}",
        "/api/vms/reachability?ids={}",
        "/api/vms?hypervisor_id={}",
        "/admin/vm/details/{}",
        "/admin/vm/edit/{}",
        "/admin/vm/create?from={}",
    ):
        one, other = doors.get(pattern.format(hidden)), doors.get(pattern.format(987_654))
        digits = re.compile(rf"\b({hidden}|987654|{len(one[2])}|{len(other[2])})\b")
        told, expected = (digits.sub("N", str(answer)) for answer in (one, other))
        assert (pattern, told) == (pattern, expected)


def test_a_cursor_that_was_given_shows_the_rest_of_the_own_rows(
    worlds: tuple[World, World],
) -> None:
    client, names = worlds[0].reader.api, []
    follow: str | None = ""
    while follow is not None:
        page = client.get("/api/vms", params={"limit": 2, "cursor": follow}).json()
        names += [vm["vm_name"] for vm in page["data"]]
        follow = page["next"]
    assert names == sorted(vm["vm_name"] for vm in OWN if "trash" not in vm)


def test_a_vm_that_moves_to_another_department_is_hidden_at_once(
    worlds: tuple[World, World],
) -> None:
    world = worlds[0]
    client, number = world.reader.api, world.numbers["ledger-01"]
    tag = client.get(f"/api/vms/{number}").headers["ETag"]
    with world.operator.database.work(world.operator.actor) as work:
        inventory.change(work, number, VMPatch(department="Logistics"))
    hidden = client.get(f"/api/vms/{number}", headers={"If-None-Match": tag})
    assert hidden.status_code == 404
    assert "ledger-01" not in client.get("/api/vms").text
    assert client.get("/api/vms/hypervisors").json() == [
        {"id": world.numbers["ours"], "name": "hv-ours"}
    ]


def test_a_reader_without_department_sees_no_vm_without_one(worlds: tuple[World, World]) -> None:
    world = worlds[0]
    with world.reader.database.work(SYSTEM) as work:
        users.change(work, world.reader.user_id, UserPatch(department=None))
    found = world.reader.api.get("/api/vms").json()
    assert [vm["vm_name"] for vm in found["data"]] == ["kiosk", "lab"]


def test_a_hypervisor_tells_a_reader_its_name_and_their_own_count(
    worlds: tuple[World, World],
) -> None:
    world = worlds[0]
    found = {one["name"]: one for one in world.reader.api.get("/api/hypervisors").json()}
    assert {name: one["vm_count"] for name, one in found.items()} == {"hv-ours": 1, "hv-shared": 1}
    told = {key for key, value in found["hv-shared"].items() if value is not None}
    assert told == {"id", "name", "vm_count"}
    alone = world.reader.api.get(f"/api/hypervisors/{world.numbers['shared']}")
    assert alone.json() == found["hv-shared"]
    assert "etag" not in alone.headers
