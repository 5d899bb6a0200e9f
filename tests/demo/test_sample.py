"""The sample inventory keeps the limits of the public interface and never changes by itself."""

from collections import Counter
from datetime import date, timedelta
from ipaddress import ip_address
from itertools import pairwise

import pytest

from vmtrak import sample

TODAY = date(2026, 11, 22)
VM_LIMITS = {
    "vm_name": 128,
    "vm_tag": 64,
    "description": 1024,
    "cluster": 128,
    "datacenter": 128,
    "os_version": 128,
    "hostname": 253,
    "vlan": 64,
    "owner": 256,
    "department": 128,
    "application": 128,
    "notes": 4096,
}
VM_CHOICES = {
    "os_type": {"Windows", "Linux", "Other"},
    "power_state": {"on", "off", "suspended", "unknown"},
    "environment": {"production", "staging", "development", "test"},
    "status": {"active", "inactive", "decommissioned"},
}
NUMBERS = ("vcpu", "ram_gb", "disk_gb")
VM_FIELDS = {
    *VM_LIMITS,
    *VM_CHOICES,
    *NUMBERS,
    "hypervisor",
    "ip_address",
    "mac_address",
    "expiry_date",
}
PREFIXES = {
    "VMware vSphere": "00:50:56",
    "Proxmox": "bc:24:11",
    "Hyper-V": "00:15:5d",
    "KVM": "52:54:00",
    "Other": "50:6b:8d",
}


@pytest.fixture(scope="module")
def rows() -> list[sample.Row]:
    return sample.vms(TODAY)


def filled(rows: list[sample.Row], field: str) -> list[str]:
    return [str(row[field]) for row in rows if row[field] is not None]


def days_left(rows: list[sample.Row]) -> list[int]:
    dates = [row["expiry_date"] for row in rows]
    return sorted((day - TODAY).days for day in dates if isinstance(day, date))


def assert_within_limits(fields: sample.Row) -> None:
    assert set(fields) <= VM_FIELDS
    for name, value in fields.items():
        if name in VM_CHOICES:
            assert value in VM_CHOICES[name]
        elif name in NUMBERS:
            assert isinstance(value, int)
            assert value > 0
        elif name in VM_LIMITS and value is not None:
            assert_text(name, value)


def assert_text(name: str, value: object) -> None:
    assert isinstance(value, str)
    assert 1 <= len(value) <= VM_LIMITS[name]
    assert value == value.strip()
    lines = value.replace("\n", "") if name in {"notes", "description"} else value
    assert lines.isprintable()


def test_there_are_412_vms_with_every_field(rows: list[sample.Row]) -> None:
    assert len(rows) == 412
    assert all(set(row) == VM_FIELDS for row in rows)


def test_every_vm_keeps_the_limits(rows: list[sample.Row]) -> None:
    for row in rows:
        assert_within_limits(row)


def test_names_are_unique_without_regard_to_case(rows: list[sample.Row]) -> None:
    assert len({name.casefold() for name in filled(rows, "vm_name")}) == len(rows)


@pytest.mark.parametrize("field", ["ip_address", "mac_address", "hostname"])
def test_nothing_on_the_network_is_given_twice(rows: list[sample.Row], field: str) -> None:
    values = filled(rows, field)
    assert len(values) > 390
    assert len(set(values)) == len(values)


def test_addresses_parse_and_belong_to_the_company(rows: list[sample.Row]) -> None:
    versions = Counter(ip_address(text).version for text in filled(rows, "ip_address"))
    assert set(versions) == {4, 6}
    assert all(text.startswith(("10.", "2001:db8:")) for text in filled(rows, "ip_address"))


def test_mac_addresses_follow_the_hypervisor(rows: list[sample.Row]) -> None:
    kinds = {host["name"]: str(host["type"]) for host in sample.hypervisors()}
    for row in rows:
        if row["hypervisor"] is not None:
            assert str(row["mac_address"]).startswith(PREFIXES[kinds[row["hypervisor"]]])


def test_vms_run_only_on_hosts_in_use(rows: list[sample.Row]) -> None:
    in_use = {host["name"] for host in sample.hypervisors() if host["status"] == "active"}
    assert set(filled(rows, "hypervisor")) == in_use
    assert any(row["hypervisor"] is None for row in rows)


def test_hosts_hold_what_runs_on_them(rows: list[sample.Row]) -> None:
    for host in sample.hypervisors():
        running = [row for row in rows if row["hypervisor"] == host["name"]]
        for field in ("ram_gb", "disk_gb"):
            assert sum(int(str(row[field])) for row in running) <= int(str(host[field]))


def test_most_vms_are_active_and_on(rows: list[sample.Row]) -> None:
    status = Counter(filled(rows, "status"))
    power = Counter(filled(rows, "power_state"))
    assert set(status) == VM_CHOICES["status"]
    assert set(power) == VM_CHOICES["power_state"]
    assert status["active"] > 350
    assert power["on"] > 330


def test_some_vms_have_no_owner(rows: list[sample.Row]) -> None:
    owners = [row["owner"] for row in rows]
    assert 0.05 <= owners.count(None) / len(rows) <= 0.08
    assert any("@" not in name for name in filled(rows, "owner"))
    emails = {str(person["email"]) for person in sample.people()}
    assert sum(owner in emails for owner in owners) > len(rows) / 2


def test_expiry_dates_spread_around_today(rows: list[sample.Row]) -> None:
    left = days_left(rows)
    assert 0.3 <= 1 - len(left) / len(rows) <= 0.36
    assert (left.count(0), left.count(1)) == (1, 1)
    assert 4 <= sum(days < 0 for days in left) <= 9
    assert 6 <= sum(0 <= days <= 14 for days in left) <= 14
    assert 650 < max(left) <= 730
    assert max(later - earlier for earlier, later in pairwise(left) if earlier > 0) < 60


def test_notes_have_line_breaks_and_no_passwords(rows: list[sample.Row]) -> None:
    notes = filled(rows, "notes")
    assert len(notes) > 100
    assert any("\n" in note for note in notes)
    text = " ".join(notes + filled(rows, "description")).casefold()
    assert not any(word in text for word in ("password", "passwd", "pwd", "secret", "token", "{"))


def test_the_same_seed_gives_the_same_inventory(rows: list[sample.Row]) -> None:
    assert sample.vms(TODAY) == rows
    assert sample.edits(TODAY) == sample.edits(TODAY)
    assert sample.vms(TODAY, seed=7) != rows


@pytest.mark.parametrize("seed", [1, 7, 4711])
def test_another_seed_is_just_as_sound(seed: int) -> None:
    rows = sample.vms(TODAY, seed)
    assert len({name.casefold() for name in filled(rows, "vm_name")}) == 412
    for row in rows:
        assert_within_limits(row)
    assert len(sample.edits(TODAY, seed)) == len(sample.edits(TODAY))


def test_another_day_moves_the_dates_and_nothing_else(rows: list[sample.Row]) -> None:
    shift = timedelta(days=500)
    for now, then in zip(rows, sample.vms(TODAY + shift), strict=True):
        expiry = now["expiry_date"]
        moved = expiry + shift if isinstance(expiry, date) else None
        assert then == now | {"expiry_date": moved}


def test_hypervisors_keep_the_limits() -> None:
    hosts = sample.hypervisors()
    assert len({str(host["name"]).casefold() for host in hosts}) == len(hosts) == 14
    assert {host["type"] for host in hosts} == set(PREFIXES)
    assert {host["status"] for host in hosts} == VM_CHOICES["status"]
    assert {host["environment"] for host in hosts} == VM_CHOICES["environment"]
    assert all(int(str(host[field])) > 0 for host in hosts for field in NUMBERS)


def test_people_have_the_four_roles() -> None:
    people = sample.people()
    roles = Counter(str(person["role"]) for person in people)
    assert roles == {"admin": 1, "readwrite": 3, "auditor": 1, "read": 4}
    assert len({person["department"] for person in people if person["role"] == "read"}) == 4
    assert len({person["username"] for person in people}) == len(people)
    assert all(str(person["email"]).endswith(".example") for person in people)


def test_each_edit_changes_something_and_keeps_the_limits(rows: list[sample.Row]) -> None:
    state = {str(row["vm_name"]): dict(row) for row in rows}
    edits = sample.edits(TODAY)
    assert 50 <= len(edits) <= 70
    for name, fields in edits:
        assert_within_limits(fields)
        assert all(state[name][field] != value for field, value in fields.items())
        state[name].update(fields)
    addresses = filled(list(state.values()), "ip_address")
    assert len(set(addresses)) == len(addresses)


def test_edits_touch_many_kinds_of_fields() -> None:
    fields = Counter(field for _, change in sample.edits(TODAY) for field in change)
    assert set(fields) == {"power_state", "owner", "expiry_date", "notes", "ip_address", "ram_gb"}


def test_edits_only_extend_and_leave_what_is_due_soon(rows: list[sample.Row]) -> None:
    before = {str(row["vm_name"]): row["expiry_date"] for row in rows}
    for name, fields in sample.edits(TODAY):
        if "expiry_date" in fields:
            old, new = before[name], fields["expiry_date"]
            assert isinstance(old, date)
            assert isinstance(new, date)
            assert TODAY + timedelta(days=14) < old < new


def test_the_retired_are_five_decommissioned_vms_nobody_edits(rows: list[sample.Row]) -> None:
    retired = sample.retired()
    status = {row["vm_name"]: row["status"] for row in rows}
    assert [status[name] for name in retired] == ["decommissioned"] * 5
    assert not {name for name, _ in sample.edits(TODAY)} & set(retired)
