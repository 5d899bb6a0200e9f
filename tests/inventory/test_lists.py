"""Lists against brute force: sorts, cursors, filters, search, totals, and the tally behind them."""

import base64
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from tests.conftest import Person
from tests.inventory import brute
from vmtrak import inventory
from vmtrak.access import SYSTEM
from vmtrak.db import Database, Work
from vmtrak.errors import Conflict, NotFound
from vmtrak.fields import parse
from vmtrak.inventory import (
    VM,
    Environment,
    Hypervisor,
    HypervisorPatch,
    Missing,
    NewHypervisor,
    NewVM,
    Order,
    PowerState,
    Sort,
    Status,
    VMPatch,
    hypervisors,
    lists,
)

TODAY = date(2026, 11, 22)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
HOSTS = ("esx-b", "ESX-A", "ésx", "Zürich")

NAMES = st.text("aAbBéÉßsS1._%\\\"*'- \U0001f5a5", min_size=1, max_size=12).filter(str.strip)
OWNERS = st.sampled_from([None, "rita", "RITA", "Rita@vmtrak.example", "Zoë", "Øle", "zed 100%"])
DEPARTMENTS = st.sampled_from([None, "Finance", "FINANCE", "Straße", "STRASSE", "Ops"])
ADDRESSES = st.one_of(
    st.none(),
    st.sampled_from(
        ["9.9.9.9", "10.0.0.2", "10.0.0.10", "100.0.0.1", "::1", "2001:db8::10", "fe80::2"]
    ),
)
DAYS = st.one_of(
    st.none(),
    st.integers(-40, 40).map(lambda days: TODAY + timedelta(days=days)),
    st.sampled_from([date.min, date(9999, 12, 30)]),
)
TERMS = st.one_of(
    st.text("aAbBéÉßsS1._%\\\"*'- ", max_size=6),
    st.sampled_from(
        [
            "%", "_", "__", '"', '""', "*", "a*", "'", "\\", "\\%", "a b", "OR", "NOT a", "^a",
            "aaa", "a AND b", "vm_name:a", "(a", "NEAR(a b)", "-a", "ss", "ß", "e\u0301", "É",
            "10.0", "::", "rita", "RITA@", "100%", "ø", "\U0001f5a5",
        ]
    ),
)  # fmt: skip
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "vm_name": NAMES,
    "hostname": st.one_of(st.none(), NAMES),
    "ip_address": ADDRESSES,
    "owner": OWNERS,
    "department": DEPARTMENTS,
    "environment": st.sampled_from([None, *Environment]),
    "status": st.sampled_from(Status),
    "power_state": st.sampled_from(PowerState),
    "expiry_date": DAYS,
    "host": st.integers(0, len(HOSTS)),
}
CONDITIONS: dict[str, st.SearchStrategy[Any]] = {
    "environment": st.sampled_from(Environment),
    "status": st.sampled_from(Status),
    "power_state": st.sampled_from(PowerState),
    "department": DEPARTMENTS.filter(bool),
    "owner": OWNERS.filter(bool),
    "host": st.integers(1, len(HOSTS)),
    "expiring_in": st.sampled_from([0, 7, 30, 36_500]),
    "expires_from": DAYS.filter(bool),
    "expires_to": st.one_of(DAYS.filter(bool), st.just(date.max)),
    "missing": st.sampled_from(Missing),
    "search": TERMS,
}


def some_of(
    named: Mapping[str, st.SearchStrategy[Any]], most: int
) -> st.SearchStrategy[dict[str, Any]]:
    """A few of these by name: with many conditions at once every list would be empty."""
    one = st.one_of([st.tuples(st.just(name), value) for name, value in named.items()])
    return st.lists(one, min_size=1, max_size=most).map(dict)


VMS = st.fixed_dictionaries({**FIELDS, "age": st.integers(0, 5)})
INVENTORIES = st.lists(
    VMS, min_size=12, max_size=36, unique_by=lambda vm: brute.folded(vm["vm_name"].strip())
)
FILTERS = some_of(CONDITIONS, 3)
WALKS = st.fixed_dictionaries(
    {"limit": st.sampled_from([1, 3, 7, 50])},
    optional={"sort": st.sampled_from(Sort), "order": st.sampled_from(Order)},
)

quick = settings(
    max_examples=20,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking would take minutes here
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def hosts(database: Database) -> list[int]:
    """The numbers of four hypervisors."""
    with database.work(SYSTEM) as work:
        return [hypervisors.add(work, NewHypervisor(name=name)).id for name in HOSTS]


def fill(database: Database, hosts: list[int], vms: list[dict[str, Any]]) -> None:
    """Make these the only VMs that there are."""
    with database.work(SYSTEM) as work:
        work.session.execute(text("DELETE FROM vms"))
        for given_ in vms:
            add(work, hosts, given_)


def add(work: Work, hosts: list[int], given_: Mapping[str, Any]) -> VM:
    vm = inventory.add(work, parse(NewVM, fields(hosts, given_)))
    vm.created_at = LONG_AGO + timedelta(days=given_["age"])
    vm.updated_at = LONG_AGO + timedelta(days=9 - given_["age"])
    return vm


def fields(hosts: list[int], given_: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a VM or the filters of a list, with the hypervisor's number for its place."""
    found = {name: value for name, value in given_.items() if name not in {"host", "age"}}
    if "host" in given_:
        found["hypervisor_id"] = [None, *hosts][given_["host"]]
    return found


def check(database: Database, person: Person, asked: dict[str, Any]) -> None:
    actor = person.actor
    wanted = brute.expected(database, actor, asked, TODAY)
    assert list(brute.by_pages(database, actor, asked, TODAY)) == wanted, asked
    assert list(brute.by_cursor(database, actor, asked, TODAY)) == wanted, asked
    assert brute.totals(database, actor, asked, TODAY) == (len(wanted), len(wanted)), asked


@quick
@given(
    vms=INVENTORIES,
    asked=st.lists(st.tuples(FILTERS, WALKS), min_size=3, max_size=6),
    few=st.sampled_from([0, 3, lists.FEW]),
)
def test_every_list_is_what_brute_force_says(
    database: Database,
    hosts: list[int],
    admin: Person,
    reader: Person,
    vms: list[dict[str, Any]],
    asked: list[tuple[dict[str, Any], dict[str, Any]]],
    few: int,
) -> None:
    fill(database, hosts, vms)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "FEW", few)
        for filters, walk in asked:
            for person in (admin, reader):
                check(database, person, {**fields(hosts, filters), **walk})


@pytest.mark.parametrize("few", [4, lists.FEW])
def test_every_sort_walks_the_same_way_by_page_and_by_cursor(
    database: Database, hosts: list[int], admin: Person, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(lists, "FEW", few)
    owners, days = [None, "zed", "Adam", "ÉMILE", "emile"], [None, -3, 5, 400]
    addresses = [None, "10.0.0.10", "10.0.0.9", "9.0.0.1", "::1", "fe80::1"]
    vms = [
        {
            "vm_name": f"{'vV'[at % 2]}m-{at * 37 % 60}",
            "owner": owners[at % 5],
            "department": owners[at % 4],
            "ip_address": addresses[at % 6],
            "environment": [None, *Environment][at % 5],
            "status": list(Status)[at % 3],
            "power_state": list(PowerState)[at % 4],
            "expiry_date": None
            if days[at % 4] is None
            else TODAY + timedelta(days=days[at % 4] or 0),
            "host": at % 5,
            "age": at % 6,
        }
        for at in range(60)
    ]
    fill(database, hosts, vms)
    narrower: tuple[dict[str, Any], ...] = (
        {},
        {"status": "active"},
        {"search": "vm-1"},
        {"expiring_in": 9},
    )
    for sort in Sort:
        for order in Order:
            for filters in narrower:
                check(database, admin, {"sort": sort, "order": order, "limit": 17, **filters})


STEPS = st.one_of(
    st.tuples(st.just("add"), VMS),
    st.tuples(st.just("change"), st.integers(0, 9), some_of(FIELDS, 2)),
    st.tuples(st.sampled_from(["remove", "restore", "purge"]), st.integers(0, 9)),
    st.tuples(st.just("rename"), st.integers(0, len(HOSTS) - 1), NAMES),
)


def step(database: Database, hosts: list[int], kind: str, *arguments: Any) -> None:
    """One operation in its own unit of work; a refusal is as good as a success."""
    numbers = all_numbers(database)
    try:
        with database.work(SYSTEM) as work:
            if kind == "add":
                add(work, hosts, arguments[0])
            elif kind == "rename":
                patch = parse(HypervisorPatch, {"name": arguments[1]})
                hypervisors.change(work, hosts[arguments[0]], patch)
            elif numbers:
                on_vm(work, hosts, kind, numbers[arguments[0] % len(numbers)], *arguments[1:])
    except (Conflict, NotFound):
        pass


def on_vm(work: Work, hosts: list[int], kind: str, number: int, *arguments: Any) -> None:
    if kind == "change":
        inventory.change(work, number, parse(VMPatch, fields(hosts, arguments[0])))
    else:
        {"remove": inventory.remove, "restore": inventory.restore, "purge": inventory.purge}[kind](
            work, number
        )


def all_numbers(database: Database) -> list[int]:
    with database.read() as session:
        return list(session.scalars(select(VM.id).order_by(VM.id)))


@quick
@given(
    vms=INVENTORIES,
    steps=st.lists(STEPS, min_size=8, max_size=20),
    terms=st.lists(TERMS, min_size=3, max_size=6),
)
def test_tally_and_search_follow_whatever_happens(
    database: Database,
    hosts: list[int],
    admin: Person,
    vms: list[dict[str, Any]],
    steps: list[tuple[Any, ...]],
    terms: list[str],
) -> None:
    fill(database, hosts, vms)
    for one in steps:
        step(database, hosts, *one)
    assert brute.tally(database) == brute.recount(database)
    for term in terms:
        check(database, admin, {"search": term, "limit": 50})
    check(database, admin, {"sort": "hypervisor_name", "limit": 50})


def test_a_range_of_days_finds_only_what_has_a_day(
    database: Database, hosts: list[int], admin: Person
) -> None:
    days = (None, date.min, TODAY, date(9999, 12, 30))
    fill(
        database,
        hosts,
        [{"vm_name": f"{day}", "expiry_date": day, "host": 0, "age": 0} for day in days],
    )
    ends = (None, date.min, TODAY, date(9999, 12, 30), date.max)
    for first in ends:
        for last in ends:
            bounds = {"expires_from": first, "expires_to": last}
            asked = {name: day for name, day in bounds.items() if day is not None}
            check(database, admin, {**asked, "limit": 50})


def test_the_tally_stays_right_when_it_is_summed_up(database: Database, hosts: list[int]) -> None:
    for at in range(60):
        vm = {"vm_name": f"vm-{at}", "host": at % 5, "age": 0, "department": f"d{at % 3}"}
        step(database, hosts, "add", vm)
        step(database, hosts, "change", at, {"status": list(Status)[at % 3]})
        if at % 4 == 0:
            step(database, hosts, "remove", at)
    if not database.sqlite:
        with database.work(SYSTEM) as work:
            # One writer in about a hundred does it, by chance.
            work.session.execute(text("SELECT vm_tally_sum_up() FROM generate_series(1, 2000)"))
    assert brute.tally(database) == brute.recount(database)


def test_a_term_finds_it_anywhere_in_name_host_name_address_and_owner(
    operator: Person, database: Database
) -> None:
    vms: list[dict[str, Any]] = [
        {"vm_name": "Web-01", "owner": "Rita"},
        {"vm_name": "db-01", "hostname": "DB.corp.example", "notes": "Web"},
        {"vm_name": "x", "ip_address": "10.1.2.3", "department": "Web"},
        {"vm_name": 'Größe 100%_"q"', "owner": "ÉMILE"},
    ]
    for vm in vms:
        assert operator.api.post("/api/vms", json=vm).status_code == 201
    odd = ['Größe 100%_"q"']
    finds = {
        "web": ["Web-01"], "WEB-0": ["Web-01"], "rita": ["Web-01"], "b-0": ["db-01", "Web-01"],
        "corp": ["db-01"], "1.2.3": ["x"], "3": ["x"], "grösse": odd,
        "SS": odd, "émile": odd, "e\u0301m": odd,
        "emile": [], "%": odd, "_": odd, '"q"': odd,
        "web rita": ["Web-01"], "rita web": ["Web-01"], "web corp": [], "*": [], "we*": [],
        "w_b": [],
        "01\nrita": ["Web-01"], "notes:web": [], "   ": ["db-01", *odd, "Web-01", "x"],
    }  # fmt: skip
    for term, names in finds.items():
        answer = operator.api.get("/api/vms", params={"search": term})
        if term == "01\nrita":
            assert answer.status_code == 422
            continue
        body = answer.json()
        assert ([row["vm_name"] for row in body["data"]], body["total"]) == (names, len(names)), (
            term
        )


def test_a_changed_vm_is_found_by_what_changed_and_by_what_did_not(operator: Person) -> None:
    api = operator.api
    made = api.post("/api/vms", json={"vm_name": "web-01", "owner": "rita", "hostname": "old"})
    row = made.headers["location"]

    def hits(*terms: str) -> list[int]:
        return [api.get("/api/vms", params={"search": term}).json()["total"] for term in terms]

    assert api.put(row, json={"hostname": "brandnew"}).status_code == 200
    assert hits("web-01", "rita", "brandnew", "old") == [1, 1, 1, 0]
    assert api.put(row, json={"status": "inactive"}).status_code == 200
    assert hits("web-01", "rita", "brandnew") == [1, 1, 1]
    assert api.put(row, json={"vm_name": "db-01", "owner": None}).status_code == 200
    assert hits("db-01", "brandnew", "web-01", "rita") == [1, 1, 0, 0]


def test_nothing_comes_last_and_a_tie_is_decided_by_the_number(operator: Person) -> None:
    for name, owner in (("c", None), ("a", "Zed"), ("b", "adam"), ("d", None), ("e", "ADAM")):
        assert (
            operator.api.post("/api/vms", json={"vm_name": name, "owner": owner}).status_code == 201
        )

    def order(query: str) -> str:
        return "".join(
            row["vm_name"] for row in operator.api.get(f"/api/vms?{query}").json()["data"]
        )

    assert order("sort=owner") == "beacd"
    assert order("sort=owner&order=desc") == "dcaeb"
    assert order("") == "abcde"


def test_the_script_walks_on_by_cursor_alone(operator: Person) -> None:
    for at in range(7):
        assert operator.api.post("/api/vms", json={"vm_name": f"vm-{at}"}).status_code == 201
    api, seen, following = operator.api, [], "sort=created_at&order=desc"
    for number in (1, 2, 3):
        body = api.get(f"/api/vms?limit=3&{following}").json()
        assert (body["total"], body["page"], body["limit"]) == (7, number, 3)
        seen += [row["vm_name"] for row in body["data"]]
        following = f"cursor={body['next']}"
    assert following == "cursor=None"
    assert seen == [f"vm-{at}" for at in reversed(range(7))]


def test_a_walk_by_cursor_is_not_disturbed_by_rows_that_come_and_go(operator: Person) -> None:
    made = [
        operator.api.post("/api/vms", json={"vm_name": f"vm-{at}"}).json()["id"] for at in range(6)
    ]
    first = operator.api.get("/api/vms?limit=3").json()
    operator.api.delete(f"/api/vms/{made[0]}")
    operator.api.delete(f"/api/vms/{made[2]}")
    operator.api.post("/api/vms", json={"vm_name": "a-new-one"})
    rest = operator.api.get("/api/vms", params={"cursor": first["next"]}).json()
    assert [row["vm_name"] for row in rest["data"]] == ["vm-3", "vm-4", "vm-5"]


def encoded(content: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")


TAMPERED = (
    "x", "====", "é", "e30", "bnVsbA", "a" * 2_001,
    encoded([]), encoded({}), encoded(5), encoded([1, 2, 3, 4, 5]),
    encoded(["vm_name", "asc", "k", 1]),
    encoded(["vm_name", "asc", "k", 1, 1, 1]),
    encoded([["vm_name"], "asc", "k", 1, 1]),
    encoded(["vm_name", ["asc"], "k", 1, 1]),
    encoded(["vm_name", "asc", ["k"], 1, 1]),
    encoded(["vm_name", "asc", {"k": 1}, 1, 1]),
    encoded(["vm_name", "asc", "k", "1", 1]),
    encoded(["vm_name", "asc", "k", True, 1]),
    encoded(["vm_name", "asc", "k", 0, 1]),
    encoded(["vm_name", "asc", "k", 2**63, 1]),
    encoded(["vm_name", "asc", "k", 1, -1]),
    encoded(["vm_name", "asc", "k\0", 1, 1]),
    encoded(["vm_name", "sideways", "k", 1, 1]),
    encoded(["notes", "asc", "k", 1, 1]),
    encoded(["id; DROP TABLE vms", "asc", "k", 1, 1]),
    encoded(["expiry_date", "asc", "soon", 1, 1]),
    encoded(["expiry_date", "asc", "2026-W01-1", 1, 1]),
    encoded(["expiry_date", "asc", "20260101", 1, 1]),
    encoded(["expiry_date", "asc", "2027-02-31", 1, 1]),
    encoded(["created_at", "asc", "abc", 1, 1]),
    encoded(["created_at", "asc", "infinity", 1, 1]),
    encoded(["created_at", "asc", "2026-01-01", 1, 1]),
    encoded(["updated_at", "desc", "2026-01-01T00:00:00+23:59", 1, 1]),
)  # fmt: skip


def test_a_cursor_that_no_list_gave_is_refused(operator: Person) -> None:
    api = operator.api
    for cursor in TAMPERED:
        answer = api.get("/api/vms", params={"cursor": cursor})
        assert (answer.status_code, list(answer.json()["details"])) == (422, ["cursor"]), cursor


BAD_QUERIES: tuple[tuple[str, str], ...] = (
    ("page", "0"), ("page", "-1"), ("page", "x"), ("page", "1.5"), ("page", str(10**18)),
    ("page", ""),
    ("limit", "0"), ("limit", "201"), ("limit", "x"), ("sort", "notes"), ("sort", "id"),
    ("order", "up"), ("environment", "moon"), ("status", "gone"), ("power_state", "half"),
    ("hypervisor_id", "abc"), ("hypervisor_id", "0"), ("hypervisor_id", str(10**30)),
    ("expiring_in", "-1"), ("expiring_in", "soon"), ("expiring_in", str(10**30)),
    ("search", "a\0b"), ("search", "s" * 201), ("owner", "o" * 257), ("expires_to", "2027-02-31"),
    ("missing", "brain"),
)  # fmt: skip


def test_a_query_that_cannot_be_right_is_refused_by_its_name(operator: Person) -> None:
    api = operator.api
    for name, value in BAD_QUERIES:
        answer = api.get("/api/vms", params={name: value})
        assert (answer.status_code, list(answer.json()["details"])) == (422, [name]), (name, value)
    twice = api.get("/api/vms?status=active&status=inactive")
    assert (twice.status_code, list(twice.json()["details"])) == (422, ["status"])
    far = api.get("/api/vms?page=1000000000").json()
    assert (far["data"], far["next"]) == ([], None)


def test_stored_sort_keys_are_those_of_the_row(database: Database, hosts: list[int]) -> None:
    """The columns that lists sort by follow a rename, also of what lies in the trash."""
    with database.work(SYSTEM) as work:
        kept = add(work, hosts, {"vm_name": "kept", "host": 1, "age": 0})
        gone = add(work, hosts, {"vm_name": "gone", "host": 1, "age": 0})
        inventory.remove(work, gone.id)
    with database.work(SYSTEM) as work:
        hypervisors.change(work, hosts[0], HypervisorPatch(name="NEW"))
    with database.read() as session:
        keys = session.scalars(select(VM.hypervisor_key).where(VM.id.in_([kept.id, gone.id])))
        assert list(keys) == ["new", "new"]
        assert session.get_one(Hypervisor, hosts[0]).name == "NEW"
