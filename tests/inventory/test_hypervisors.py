"""What can be done with a hypervisor, at each door that offers it."""

from sqlalchemy import select

from tests.conftest import Person
from tests.doors import Door
from vmtrak.audit import AuditEvent
from vmtrak.db import Database
from vmtrak.inventory import VM


def test_a_hypervisors_name_is_taken_without_regard_to_case(door: Door) -> None:
    number = door.add_hypervisor({"name": "Größe-01"}).made
    outcome = door.add_hypervisor({"name": "GRÖSSE-01"})
    assert outcome.status == 409
    assert outcome.errors == {"name": ["Another hypervisor has this name already."]}
    other = door.add_hypervisor({"name": "esx-02"}).made
    assert door.change_hypervisor(other, {"name": "grösse-01"}).status == 409
    assert door.change_hypervisor(number, {"name": "GRÖSSE-01"}).ok


def test_a_hypervisor_keeps_every_field(door: Door, admin: Person) -> None:
    fields = {
        "name": "esx-01",
        "hostname": "esx-01.corp.example",
        "type": "Hyper-V",
        "version": "2025",
        "description": "Rack 4",
        "status": "inactive",
        "environment": "test",
        "vcpu": 64,
        "ram_gb": 512.5,
        "disk_gb": 4000,
    }
    number = door.add_hypervisor(fields).made
    row = admin.api.get(f"/api/hypervisors/{number}").json()
    assert {name: row[name] for name in fields} == fields
    assert door.change_hypervisor(number, {"version": "", "vcpu": 128}).ok
    row = admin.api.get(f"/api/hypervisors/{number}").json()
    assert {name: row[name] for name in fields} == {**fields, "version": None, "vcpu": 128}


def test_a_hypervisor_with_vms_is_not_removed_even_if_they_are_in_the_trash(
    door: Door, admin: Person
) -> None:
    number = door.add_hypervisor({"name": "esx-01"}).made
    vms = [door.add_vm({"vm_name": f"vm-{at}", "hypervisor": "esx-01"}).made for at in range(2)]
    refused = door.remove_hypervisor(number)
    assert refused.refusal == (409, {}, "2 VMs are assigned to this hypervisor.")
    assert door.change_vm(vms[0], {"hypervisor": ""}).ok
    assert door.remove_hypervisor(number).message == "1 VM is assigned to this hypervisor."
    assert door.remove_vm(vms[1]).ok
    words = "1 VM is in the trash and on this hypervisor; purge it first."
    assert door.remove_hypervisor(number).refusal == (409, {}, words)
    assert door.purge_vm(vms[1]).ok
    assert door.remove_hypervisor(number).ok
    assert admin.api.get(f"/api/hypervisors/{number}").status_code == 404
    assert door.remove_hypervisor(number).status == 404
    assert door.add_hypervisor({"name": "esx-01"}).made > number


def test_renaming_a_hypervisor_sorts_its_vms_anew(
    door: Door, admin: Person, database: Database
) -> None:
    for name in ("a-host", "m-host"):
        assert door.add_hypervisor({"name": name}).ok
    vms = {
        name: door.add_vm({"vm_name": f"on-{name}", "hypervisor": name}).made
        for name in ("a-host", "m-host")
    }
    trashed = door.add_vm({"vm_name": "trashed", "hypervisor": "a-host"}).made
    assert door.remove_vm(trashed).ok

    def order() -> list[str]:
        rows = admin.api.get("/api/vms?sort=hypervisor_name").json()["data"]
        return [row["hypervisor_name"] for row in rows]

    assert order() == ["a-host", "m-host"]
    first = next(h["id"] for h in admin.api.get("/api/hypervisors").json() if h["name"] == "a-host")
    assert door.change_hypervisor(first, {"name": "Z-host"}).ok
    assert order() == ["m-host", "Z-host"]
    assert door.restore_vm(trashed).ok
    assert order() == ["m-host", "Z-host", "Z-host"]
    with database.read() as session:
        assert session.get_one(VM, vms["a-host"]).revision == 1
        actions = session.scalars(
            select(AuditEvent.action)
            .where(AuditEvent.entity_type == "hypervisor")
            .order_by(AuditEvent.id)
        )
        assert list(actions) == ["hypervisor.create"] * 2 + ["hypervisor.update"]


def test_counts_leave_out_what_is_in_the_trash(door: Door, admin: Person) -> None:
    assert door.add_hypervisor({"name": "esx-01"}).ok
    vms = [door.add_vm({"vm_name": f"vm-{at}", "hypervisor": "esx-01"}).made for at in range(3)]
    assert door.remove_vm(vms[0]).ok
    assert [row["vm_count"] for row in admin.api.get("/api/hypervisors").json()] == [2]
    assert door.restore_vm(vms[0]).ok
    assert [row["vm_count"] for row in admin.api.get("/api/hypervisors").json()] == [3]


def test_an_overtaken_change_of_a_hypervisor_is_refused(door: Door) -> None:
    number = door.add_hypervisor({"name": "esx-01"}).made
    assert door.change_hypervisor(number, {"version": "8"}, revision=1).ok
    assert door.change_hypervisor(number, {"version": "9"}, revision=1).status == 412
    assert door.change_hypervisor(number, {"version": "9"}, revision=2).ok
    assert door.change_hypervisor(number, {"version": "9"}, revision=3).ok
    assert door.change_hypervisor(number, {"version": "10"}, revision=3).ok


def test_a_vm_names_a_hypervisor_that_exists(door: Door) -> None:
    number = door.add_vm({"vm_name": "vm"}).made
    refusal = (422, {"hypervisor": ["there is no such hypervisor"]}, "")
    assert door.add_vm({"vm_name": "other", "hypervisor": "nowhere"}).refusal == refusal
    assert door.change_vm(number, {"hypervisor": "nowhere"}).refusal == refusal


def test_a_reader_learns_only_the_names_of_the_hypervisors_of_their_own_vms(
    door: Door, reader: Person
) -> None:
    for name in ("esx-01", "esx-02"):
        assert door.add_hypervisor({"name": name, "hostname": "secret.corp.example"}).ok
    assert door.add_vm({"vm_name": "mine", "hypervisor": "esx-01", "department": "finance"}).ok
    assert door.add_vm({"vm_name": "other", "hypervisor": "esx-01", "department": "HR"}).ok
    assert door.add_vm({"vm_name": "third", "hypervisor": "esx-02"}).ok
    rows = reader.api.get("/api/hypervisors").json()
    assert [(row["name"], row["vm_count"], row["hostname"]) for row in rows] == [
        ("esx-01", 1, None)
    ]
    assert [row["name"] for row in reader.api.get("/api/vms/hypervisors").json()] == ["esx-01"]
    assert reader.panel.get("/admin/hypervisor/list").status_code == 403
