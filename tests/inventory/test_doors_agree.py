"""The same input through the form and as JSON: the same row, the same trail, the same refusal."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import select

from tests.conftest import Person
from tests.doors import Door, Fields, Outcome, PanelDoor, RestDoor
from vmtrak.accounts import User
from vmtrak.audit import AuditEvent
from vmtrak.db import Base, Database
from vmtrak.inventory import VM, Hypervisor

WHOLE: Fields = {
    "vm_name": "erp-db-01",
    "vm_tag": "gold",
    "application": "ERP",
    "description": "Primary.\nAsk first.",
    "hypervisor": "esx-01",
    "cluster": "C1",
    "datacenter": "Berlin",
    "os_type": "Linux",
    "os_version": "Debian 13",
    "hostname": "erp-db-01.corp.example",
    "ip_address": "10.0.0.7",
    "vlan": "120",
    "mac_address": "00:50:56:9a:01:fe",
    "vcpu": 4,
    "ram_gb": 15.5,
    "disk_gb": 200,
    "environment": "production",
    "status": "inactive",
    "power_state": "on",
    "owner": "rita",
    "department": "Finance",
    "expiry_date": "2027-02-28",
    "notes": "Line one\r\nLine two\tindented",
}

GOOD_VALUES: tuple[Fields, ...] = (
    {},
    {"vm_name": "  trimmed  "},
    {"vm_name": "STRASSE-straße-Ünïcødé 🖥"},
    {"vm_name": "E\u0301cole"},
    {"vm_name": "a" * 128},
    {"vm_name": "<b>&amp;\"'"},
    {"vm_name": "=cmd|' /C calc'!A0"},
    {"vm_tag": "t" * 64},
    {"vm_tag": "   "},
    {"description": "d" * 1024},
    {"description": "one\r\ntwo\rthree\nfour"},
    {"notes": "n" * 4096},
    {"notes": "\n\nfirst lines blank"},
    {"hostname": "h" * 253},
    {"owner": "o" * 256},
    {"hypervisor": "ESX-01"},
    {"hypervisor": ""},
    {"ip_address": "192.168.0.1"},
    {"ip_address": "2001:DB8:0:0:0:0:0:1"},
    {"ip_address": "::ffff:10.0.0.1"},
    {"ip_address": ""},
    {"mac_address": "00-50-56-9A-01-FE"},
    {"mac_address": "0050.569a.01fe"},
    {"mac_address": "0050569A01FE"},
    {"vcpu": 1},
    {"vcpu": 1_000_000},
    {"vcpu": "16.0"},
    {"vcpu": ""},
    {"ram_gb": 0.5},
    {"ram_gb": "0.1"},
    {"ram_gb": 1e-05},
    {"ram_gb": "1e3"},
    {"disk_gb": 1_000_000_000},
    {"expiry_date": "2028-02-29"},
    {"expiry_date": "0001-01-01"},
    {"expiry_date": ""},
    {"environment": ""},
    {"status": "", "power_state": ""},
    {"os_type": "Other"},
)

BAD_VALUES: tuple[Fields, ...] = (
    {"vm_name": ""},
    {"vm_name": "   "},
    {"vm_name": "a" * 129},
    {"vm_name": "web\r\nSet-Cookie: a=b"},
    {"vm_name": "web\t01"},
    {"vm_name": "web\x0001"},
    {"vm_name": "web\x7f01"},
    {"vm_name": "web\x8501"},
    {"vm_name": "web\u202e01"},
    {"vm_name": "web\u202801"},
    {"vm_name": "web\uffff01"},
    {"vm_tag": "t" * 65},
    {"description": "d" * 1025},
    {"description": "bell\x07"},
    {"notes": "n" * 4097},
    {"notes": "null\x00"},
    {"cluster": "c" * 129},
    {"datacenter": "d" * 129},
    {"os_version": "o" * 129},
    {"hostname": "h" * 254},
    {"hostname": "host\nname"},
    {"vlan": "v" * 65},
    {"owner": "o" * 257},
    {"department": "d" * 129},
    {"application": "a" * 129},
    {"hypervisor": "nowhere"},
    {"hypervisor": "no\x00where"},
    {"hypervisor": "nowhere", "vm_name": ""},
    {"os_type": "BeOS"},
    {"os_type": "linux"},
    {"environment": "prod"},
    {"status": "gone"},
    {"power_state": "ON"},
    {"ip_address": "10.0.0.256"},
    {"ip_address": "10.0.0.1/24"},
    {"ip_address": "010.0.0.1"},
    {"ip_address": "fe80::1%eth0"},
    {"ip_address": "10.0.0.1, 10.0.0.2"},
    {"ip_address": "host.example"},
    {"mac_address": "00:50:56:9a:01"},
    {"mac_address": "00:50:56:9a:01:fg"},
    {"mac_address": "00:50-56:9a-01:fe"},
    {"vcpu": 0},
    {"vcpu": -1},
    {"vcpu": 4.5},
    {"vcpu": 1_000_001},
    {"vcpu": 10**30},
    {"vcpu": "four"},
    {"vcpu": "0x10"},
    {"vcpu": "\uff11\uff12"},
    {"vcpu": "NaN"},
    {"ram_gb": 0},
    {"ram_gb": -0.5},
    {"ram_gb": "NaN"},
    {"ram_gb": "Infinity"},
    {"ram_gb": "1e99"},
    {"ram_gb": 10**30},
    {"disk_gb": 1_000_000_001},
    {"disk_gb": "1,5"},
    {"expiry_date": "2027-02-31"},
    {"expiry_date": "2027-02-29"},
    {"expiry_date": "2027-13-01"},
    {"expiry_date": "0000-01-01"},
    {"expiry_date": "31.12.2027"},
    {"expiry_date": "20271231"},
    {"expiry_date": "2027-W01-1"},
    {"expiry_date": "2027-01-01T00:00:00Z"},
    {"expiry_date": "next year"},
    {"vm_name": "", "vcpu": "x", "ip_address": "y", "expiry_date": "z"},
)

TAKEN = (
    "Taken",
    "TAKEN",
    "  taken ",
    "\uff54\uff41\uff4b\uff45\uff4e",
    "STRASSE",
    "straße",
    "É",
    "E\u0301",
    "é",
)
"""Names that are tried beside VMs named Taken, Straße and É."""


class Both:
    """Both doors on one database, and what each write leaves behind there."""

    def __init__(self, admin: Person) -> None:
        self.database: Database = admin.database
        self.panel, self.rest = PanelDoor(admin), RestDoor(admin)

    @property
    def doors(self) -> tuple[Door, Door]:
        return self.panel, self.rest

    def left(self, model: type[Base], number: int, since: int) -> dict[str, Any]:
        """The row and its events after event `since`, without numbers, times and request ids."""
        with self.database.read() as session:
            row = session.get(model, number)
            events = session.scalars(
                select(AuditEvent)
                .where(AuditEvent.id > since, AuditEvent.entity_id == number)
                .order_by(AuditEvent.id)
            ).all()
        return {"row": row and plain(row), "events": [plain(event) for event in events]}

    def newest_event(self) -> int:
        with self.database.read() as session:
            return session.scalar(select(AuditEvent.id).order_by(AuditEvent.id.desc())) or 0


def plain(row: Base) -> dict[str, Any]:
    hidden = {"id", "entity_id", "request_id", "password_hash"}
    values = {column.key: getattr(row, column.key) for column in type(row).__mapper__.columns}
    return {
        name: value
        for name, value in values.items()
        if name not in hidden and not isinstance(value, datetime)
    }


@pytest.fixture
def both(admin: Person) -> Both:
    return Both(admin)


def bare(fields: Fields) -> Fields:
    return {"vm_name": "vm", **fields}


def differences(
    table: tuple[Fields, ...], attempts: Callable[[Fields], Iterator[Any]]
) -> list[tuple[Fields, Any, Any]]:
    """The inputs of which the two doors do not say the same."""
    found = []
    for fields in table:
        by_form, by_json = attempts(fields)
        if by_form != by_json:
            found.append((fields, by_form, by_json))
    return found


def test_a_vm_added_through_either_door_is_the_same_row_with_the_same_event(both: Both) -> None:
    assert both.rest.add_hypervisor({"name": "esx-01"}).ok

    def added(fields: Fields) -> Iterator[dict[str, Any]]:
        for door in both.doors:
            since = both.newest_event()
            number = door.add_vm(bare(fields)).made
            yield both.left(VM, number, since)
            assert door.remove_vm(number).ok
            assert door.purge_vm(number).ok

    assert differences((WHOLE, *GOOD_VALUES), added) == []


def test_a_vm_changed_through_either_door_is_the_same_row_with_the_same_event(both: Both) -> None:
    assert both.rest.add_hypervisor({"name": "esx-01"}).ok
    numbers = [door.add_vm({"vm_name": f"vm-{at}"}).made for at, door in enumerate(both.doors)]

    def changed(fields: Fields) -> Iterator[dict[str, Any]]:
        for door, number in zip(both.doors, numbers, strict=True):
            assert both.rest.change_vm(number, START).ok
            since = both.newest_event()
            given = {
                k: v for k, v in fields.items() if k not in {"vm_name", "status", "power_state"}
            }
            assert door.change_vm(number, {"vlan": "7", **given}).ok
            left = both.left(VM, number, since)
            for name in ("vm_name", "name_key", "search_text", "revision"):
                del left["row"][name]
            for event in left["events"]:
                del event["entity_name"]
            yield left

    assert differences((WHOLE, *GOOD_VALUES), changed) == []


START: Fields = {name: None for name in WHOLE if name not in {"vm_name", "status", "power_state"}}


def test_both_doors_refuse_the_same_new_vms_at_the_same_field_in_the_same_words(both: Both) -> None:
    def refused(fields: Fields) -> Iterator[Any]:
        return (door.add_vm(bare(fields)).refusal for door in both.doors)

    assert differences(BAD_VALUES, refused) == []
    for fields in BAD_VALUES:
        outcome = both.rest.add_vm(bare(fields))
        assert outcome.status == 422, fields
        expected = set(fields) - ({"hypervisor"} if len(fields) > 1 else set())
        assert set(outcome.errors) == expected, (fields, outcome.errors)
    assert both.rest.client.get("/api/vms").json()["total"] == 0


def test_both_doors_refuse_the_same_changes_and_change_nothing(both: Both) -> None:
    number = both.rest.add_vm({"vm_name": "vm"}).made
    since = both.newest_event()

    def refused(fields: Fields) -> Iterator[Any]:
        return (door.change_vm(number, fields).refusal for door in both.doors)

    assert differences(BAD_VALUES, refused) == []
    left = both.left(VM, number, since)
    assert left["events"] == []
    assert left["row"]["revision"] == 1


def test_both_doors_find_the_same_names_taken(both: Both) -> None:
    for name in ("Taken", "Straße", "É"):
        assert both.rest.add_vm({"vm_name": name}).ok

    def refused(fields: Fields) -> Iterator[Any]:
        for door in both.doors:
            outcome = door.add_vm(fields)
            yield outcome.refusal
            if outcome.ok:
                assert door.remove_vm(outcome.made).ok

    table = tuple({"vm_name": name} for name in TAKEN)
    assert differences(table, refused) == []
    statuses = [both.rest.add_vm(fields).status for fields in table]
    assert statuses == [409, 409, 409, 200, 409, 409, 409, 409, 409]


HYPERVISORS: tuple[Fields, ...] = (
    {},
    {"name": "b" * 128},
    {
        "hostname": "esx.corp.example",
        "type": "VMware vSphere",
        "version": "8.0 U3",
        "description": "Rack 4\nunit 12",
        "status": "decommissioned",
        "environment": "staging",
        "vcpu": "64",
        "ram_gb": 1024,
        "disk_gb": 0.5,
    },
    {"name": ""},
    {"name": "b" * 129},
    {"name": "esx\r\n01"},
    {"hostname": "h" * 254},
    {"type": "Xen"},
    {"version": "v" * 129},
    {"description": "d" * 1025},
    {"description": "\x1b[31m"},
    {"status": "off"},
    {"environment": "moon"},
    {"vcpu": 0},
    {"vcpu": "many"},
    {"ram_gb": -1},
    {"disk_gb": "Infinity"},
)


def test_both_doors_say_the_same_of_hypervisors(both: Both) -> None:
    def added(fields: Fields) -> Iterator[Any]:
        for door in both.doors:
            since = both.newest_event()
            outcome = door.add_hypervisor({"name": "esx", **fields})
            yield outcome.refusal, outcome.ok and both.left(Hypervisor, outcome.made, since)
            if outcome.ok:
                since = both.newest_event()
                assert door.remove_hypervisor(outcome.made).ok
                yield both.left(Hypervisor, outcome.made, since)

    def grouped(fields: Fields) -> Iterator[Any]:
        seen = list(added(fields))
        half = len(seen) // 2
        return iter((seen[:half], seen[half:]))

    assert differences(HYPERVISORS, grouped) == []


def test_both_doors_change_hypervisors_alike(both: Both) -> None:
    numbers = [both.rest.add_hypervisor({"name": f"esx-{at}"}).made for at in range(2)]
    assert both.rest.add_hypervisor({"name": "other"}).ok

    def changed(fields: Fields) -> Iterator[Any]:
        for door, number in zip(both.doors, numbers, strict=True):
            since = both.newest_event()
            outcome = door.change_hypervisor(number, fields)
            events = both.left(Hypervisor, number, since)["events"]
            yield outcome.refusal, [(event["action"], event["detail"]) for event in events]

    table: tuple[Fields, ...] = ({"name": "OTHER"}, {"version": "9", "vcpu": 8}, {"version": "9"})
    unnamed = tuple(fields for fields in HYPERVISORS if fields and fields.get("name") != "b" * 128)
    assert differences((*table, *unnamed), changed) == []


NEW_USER: Fields = {
    "username": "newcomer",
    "email": "newcomer@vmtrak.example",
    "role": "read",
    "password": "a long first password",
}

USERS: tuple[Fields, ...] = (
    {"username": ""},
    {"username": "two words"},
    {"username": "n" * 129},
    {"username": "new\x00comer"},
    {"username": "ADA"},
    {"email": ""},
    {"email": "nobody"},
    {"email": "a@b@c.example"},
    {"email": "Ada@VMTRAK.example"},
    {"email": "new\r\nBcc: x@vmtrak.example"},
    {"email": "e" * 400 + "@vmtrak.example"},
    {"role": "root"},
    {"role": ""},
    {"department": "d" * 129},
    {"password": "too short"},
    {"password": "p" * 257},
)


def test_both_doors_refuse_the_same_users(both: Both) -> None:
    def refused(fields: Fields) -> Iterator[Any]:
        return (door.add_user({**NEW_USER, **fields}).refusal for door in both.doors)

    assert differences(USERS, refused) == []
    for fields in USERS:
        outcome = both.rest.add_user({**NEW_USER, **fields})
        assert set(outcome.errors) == set(fields), fields


def test_both_doors_add_change_and_deactivate_users_alike(both: Both) -> None:
    def history(at: int, door: Door) -> tuple[list[Any], str]:
        since = both.newest_event()
        name = f"newcomer-{at}"
        fields = {**NEW_USER, "username": name, "email": f"{name}@vmtrak.example"}
        number = door.add_user({**fields, "department": " Finance "}).made
        outcomes: list[Outcome] = [
            door.change_user(number, {"role": "auditor", "notify_expiry": True}),
            door.change_user(number, {"email": "nonsense"}),
            door.change_user(number, {"email": "ADA@vmtrak.example"}),
            door.deactivate_user(number),
            door.change_user(number, {"is_active": True, "department": ""}),
        ]
        left = both.left(User, number, since)
        return [outcome.refusal for outcome in outcomes], without(left, name)

    by_form, by_json = (history(at, door) for at, door in enumerate(both.doors))
    assert by_form == by_json


def without(left: dict[str, Any], name: str) -> str:
    return repr(left).replace(name, "newcomer")


def test_both_doors_tell_the_same_story_of_trash_restore_and_purge(both: Both) -> None:
    def story(door: Door) -> tuple[list[Any], dict[str, Any]]:
        since = both.newest_event()
        number = door.add_vm({"vm_name": "story"}).made
        outcomes = [
            door.restore_vm(number),
            door.purge_vm(number),
            door.remove_vm(number),
            door.remove_vm(number),
            door.change_vm(number, {"vlan": "1"}),
            door.restore_vm(number),
            door.remove_vm(number),
            door.purge_vm(number),
            door.restore_vm(number),
        ]
        return [outcome.refusal for outcome in outcomes], both.left(VM, number, since)

    by_form, by_json = (story(door) for door in both.doors)
    assert by_form == by_json
    assert [status for status, _, _ in by_form[0]] == [404, 404, 200, 404, 404, 200, 200, 200, 404]


def test_a_script_may_send_any_json_and_gets_no_more_than_a_refusal(operator: Person) -> None:
    api = operator.api
    wrong: Mapping[str, tuple[Any, ...]] = {
        "vm_name": (None, 5, True, [], {}, ["a"]),
        "description": (5, False, [], {"a": 1}),
        "vcpu": (True, [], {}, "\uff11", [4]),
        "ram_gb": (False, [], {}),
        "hypervisor_id": (0, -1, True, "x", 1.5, 10**30, [], {}),
        "expiry_date": (20270101, 5.5, True, [], {}),
        "ip_address": (167772161, True, [], {}),
        "mac_address": (5, [], {}),
        "environment": (5, [], {}, True),
        "status": (5, [], {}),
    }
    for name, values in wrong.items():
        for value in values:
            answer = api.post("/api/vms", json={"vm_name": "vm", name: value})
            assert answer.status_code == 422, (name, value, answer.text)
            assert set(answer.json()["details"]) == {name}, (name, value)


def test_a_body_that_is_no_json_object_is_refused(operator: Person) -> None:
    api, kind = operator.api, {"Content-Type": "application/json"}
    for body in (b"", b"{", b'{"vcpu": NaN}', b'"\xff"', b"\x00", b'{"a":"\\ud800"}'):
        assert api.post("/api/vms", content=body, headers=kind).status_code == 400, body
    for body in (b"[]", b"null", b"5", b'"text"'):
        answer = api.post("/api/vms", content=body, headers=kind)
        assert answer.status_code == 422
        assert answer.json()["details"] == {"body": ["must be an object"]}
