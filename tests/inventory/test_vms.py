"""What can be done with a VM, at each door that offers it."""

from typing import Any

from sqlalchemy import func, select

from tests.conftest import Person
from tests.doors import Door, PanelDoor
from vmtrak import inventory
from vmtrak.audit import AuditEvent
from vmtrak.db import Database
from vmtrak.inventory import VM, statistics


def stored(database: Database, number: int) -> VM:
    with database.read() as session:
        return session.get_one(VM, number)


def events(database: Database, number: int) -> list[tuple[str, dict[str, Any] | None]]:
    with database.read() as session:
        found = session.execute(
            select(AuditEvent.action, AuditEvent.detail)
            .where(AuditEvent.entity_type == "vm", AuditEvent.entity_id == number)
            .order_by(AuditEvent.id)
        )
        return [(action, detail) for action, detail in found]


def test_adding_keeps_every_field_and_says_who_did_it(door: Door, database: Database) -> None:
    assert door.add_hypervisor({"name": "esx-01"}).ok
    number = door.add_vm(
        {
            "vm_name": " web-01 ",
            "hypervisor": "esx-01",
            "ram_gb": 16.0,
            "mac_address": "0050569A01FE",
        }
    ).made
    vm = stored(database, number)
    assert (vm.vm_name, vm.ram_gb, vm.mac_address) == ("web-01", 16, "00:50:56:9a:01:fe")
    assert (vm.status, vm.power_state, vm.environment) == ("active", "unknown", None)
    assert (vm.created_by, vm.updated_by, vm.revision) == ("ada", "ada", 1)
    assert events(database, number) == [
        (
            "vm.create",
            {
                "vm_name": "web-01",
                "hypervisor_id": vm.hypervisor_id,
                "ram_gb": 16,
                "mac_address": "00:50:56:9a:01:fe",
                "status": "active",
                "power_state": "unknown",
            },
        )
    ]


def test_a_name_is_taken_without_regard_to_case_or_accent_coding(door: Door) -> None:
    for name in ("web-01", "Straße", "É"):
        assert door.add_vm({"vm_name": name}).ok
    for name in ("WEB-01", " Web-01 ", "STRASSE", "strasse", "E\u0301", "e\u0301"):
        outcome = door.add_vm({"vm_name": name})
        assert outcome.status == 409, name
        assert outcome.errors == {"vm_name": ["Another VM has this name already."]}


def test_a_vm_may_change_the_case_of_its_own_name(door: Door, database: Database) -> None:
    number = door.add_vm({"vm_name": "web-01"}).made
    assert door.change_vm(number, {"vm_name": "WEB-01"}).ok
    assert stored(database, number).vm_name == "WEB-01"


def test_changing_to_a_taken_name_is_a_conflict_and_changes_nothing(
    door: Door, database: Database
) -> None:
    assert door.add_vm({"vm_name": "web-01"}).ok
    number = door.add_vm({"vm_name": "web-02"}).made
    outcome = door.change_vm(number, {"vm_name": "Web-01", "vlan": "7"})
    assert (outcome.status, list(outcome.errors)) == (409, ["vm_name"])
    vm = stored(database, number)
    assert (vm.vm_name, vm.vlan, vm.revision) == ("web-02", None, 1)
    assert len(events(database, number)) == 1


def test_changing_tells_only_what_became_different(door: Door, database: Database) -> None:
    number = door.add_vm({"vm_name": "web-01", "owner": "rita", "vcpu": 2}).made
    assert door.change_vm(number, {"owner": "olga", "vcpu": 2, "expiry_date": "2027-01-31"}).ok
    assert events(database, number)[1:] == [
        (
            "vm.update",
            {
                "owner": {"from": "rita", "to": "olga"},
                "expiry_date": {"from": None, "to": "2027-01-31"},
            },
        )
    ]
    assert stored(database, number).revision == 2


def test_a_change_that_changes_nothing_leaves_no_trace(door: Door, database: Database) -> None:
    fields = {"vm_name": "web-01", "ram_gb": 0.1, "description": "a\nb", "ip_address": "::1"}
    number = door.add_vm(fields).made
    before = stored(database, number)
    assert door.change_vm(number, {**fields, "description": "a\r\nb ", "ip_address": "0::1"}).ok
    after = stored(database, number)
    assert (after.revision, after.updated_at) == (1, before.updated_at)
    assert len(events(database, number)) == 1


def test_blank_clears_a_field_but_never_a_required_one(door: Door, database: Database) -> None:
    number = door.add_vm({"vm_name": "web-01", "owner": "rita", "vcpu": 4}).made
    assert door.change_vm(number, {"owner": "", "vcpu": ""}).ok
    vm = stored(database, number)
    assert (vm.owner, vm.vcpu) == (None, None)
    for name in ("vm_name", "status", "power_state"):
        outcome = door.change_vm(number, {name: " "})
        assert (outcome.status, list(outcome.errors)) == (422, [name])


def test_an_overtaken_change_is_refused_and_the_first_one_stays(
    door: Door, database: Database
) -> None:
    number = door.add_vm({"vm_name": "web-01"}).made
    assert door.change_vm(number, {"owner": "rita"}, revision=1).ok
    outcome = door.change_vm(number, {"owner": "olga"}, revision=1)
    assert outcome.status == 412
    assert stored(database, number).owner == "rita"
    assert door.change_vm(number, {"owner": "olga"}, revision=2).ok


def test_a_removed_vm_is_hidden_everywhere(
    door: Door, admin: Person, operator: Person, database: Database
) -> None:
    assert door.add_hypervisor({"name": "esx-01"}).ok
    given = {
        "hypervisor": "esx-01",
        "owner": "rita",
        "department": "Finance",
        "application": "ERP",
        "os_version": "Debian",
        "ip_address": "127.0.0.1",
        "environment": "production",
        "expiry_date": "2020-01-01",
    }
    number = door.add_vm({"vm_name": "hidden", **given}).made
    assert door.remove_vm(number).ok

    api, panel = operator.api, operator.panel
    for query in (
        "",
        "search=hidden",
        "search=hi",
        "owner=rita",
        "department=Finance",
        "status=active",
    ):
        answer = api.get(f"/api/vms?{query}").json()
        assert (answer["total"], answer["data"]) == (0, []), query
        assert "hidden</a>" not in panel.get(f"/admin/vm/list?{query}").text
    for address in (
        f"/api/vms/{number}",
        f"/admin/vm/details/{number}",
        f"/admin/vm/edit/{number}",
    ):
        client = api if address.startswith("/api") else panel
        assert client.get(address).status_code == 404, address
    assert panel.get(f"/admin/vm/create?from={number}").status_code == 404
    for field in ("os_version", "owner", "department", "application"):
        assert api.get("/api/vms/field-values", params={"field": field}).json() == []
        assert panel.get("/admin/vm/suggest", params={"field": field}).json() == {"results": []}
    assert api.get("/api/vms/reachability", params={"ids": number}).json() == {}
    assert panel.get("/admin/vm/reachability", params={"ids": number}).json() == {}
    assert [row["vm_count"] for row in api.get("/api/hypervisors").json()] == [0]
    figures = api.get("/api/dashboard/stats").json()
    assert (figures["total"], figures["by_status"], figures["by_environment"]) == (0, {}, {})
    assert (figures["expired_count"], figures["expiring_soon"]) == (0, [])
    with database.read() as session:
        assert statistics.by_hypervisor(session, admin.actor) == []
        assert inventory.targets(session, admin.actor, [number]) == []
    assert door.change_vm(number, {"vlan": "1"}).status == 404
    assert door.remove_vm(number).status == 404


def test_the_trash_shows_who_removed_what_and_only_to_an_admin(
    door: Door, admin: Person, operator: Person
) -> None:
    number = door.add_vm({"vm_name": "gone"}).made
    assert door.remove_vm(number).ok
    answer = admin.api.get("/api/vms/trash").json()
    row = answer["data"][0]
    assert (answer["total"], row["id"], row["vm_name"], row["deleted_by"]) == (
        1,
        number,
        "gone",
        "ada",
    )
    assert "gone" in admin.panel.get("/admin/trash/list").text
    assert operator.api.get("/api/vms/trash").status_code == 403
    assert operator.panel.get("/admin/trash/list").status_code == 403
    assert operator.api.post(f"/api/vms/{number}/restore").status_code == 403
    assert operator.panel.post(f"/admin/trash/purge/{number}").status_code == 403


def test_restoring_brings_everything_back(door: Door, admin: Person, database: Database) -> None:
    assert door.add_hypervisor({"name": "esx-01"}).ok
    number = door.add_vm({"vm_name": "web-01", "hypervisor": "esx-01", "notes": "keep"}).made
    before = admin.api.get(f"/api/vms/{number}").json()
    assert door.remove_vm(number).ok
    assert door.restore_vm(number).ok
    after = admin.api.get(f"/api/vms/{number}").json()
    changing = {"updated_at", "updated_by"}
    assert {k: v for k, v in after.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }
    assert [action for action, _ in events(database, number)] == [
        "vm.create",
        "vm.delete",
        "vm.restore",
    ]
    assert admin.api.get("/api/vms?search=web-01").json()["total"] == 1


def test_a_name_in_the_trash_is_free_and_restoring_onto_a_taken_one_is_a_conflict(
    door: Door, database: Database
) -> None:
    first = door.add_vm({"vm_name": "web-01"}).made
    assert door.remove_vm(first).ok
    second = door.add_vm({"vm_name": "WEB-01"}).made
    outcome = door.restore_vm(first)
    assert outcome.status == 409
    assert "Another VM has this name already." in (
        outcome.message,
        *outcome.errors.get("vm_name", ()),
    )
    assert stored(database, first).deleted_at is not None
    assert door.remove_vm(second).ok
    assert door.restore_vm(first).ok
    assert door.restore_vm(second).status == 409


def test_only_what_is_in_the_trash_can_be_restored_or_purged(door: Door) -> None:
    number = door.add_vm({"vm_name": "web-01"}).made
    for absent in (number, number + 1, 2**63 - 1):
        assert door.restore_vm(absent).status == 404
        assert door.purge_vm(absent).status == 404


def test_a_purged_vm_leaves_its_history_but_never_its_number(
    door: Door, database: Database
) -> None:
    number = door.add_vm({"vm_name": "web-01", "owner": "rita"}).made
    assert door.remove_vm(number).ok
    assert door.purge_vm(number).ok
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(VM)) == 0
    purged = {"vm_name": "web-01", "owner": "rita", "status": "active", "power_state": "unknown"}
    assert events(database, number)[-1] == ("vm.purge", purged)
    assert door.add_vm({"vm_name": "web-01"}).made > number


def test_numbers_that_can_be_none_are_refused(door: Door, admin: Person) -> None:
    for text in ("abc", "1.0", "-1", "0", "1" + 30 * "0", "\uff11"):
        answer = admin.api.get(f"/api/vms/{text}")
        assert (answer.status_code, list(answer.json()["details"])) == (422, ["id"]), text
        assert admin.panel.get(f"/admin/vm/details/{text}").status_code in {404, 422}, text
    assert door.change_vm(2**63 - 1, {"vlan": "1"}).status == 404


def test_a_reader_changes_nothing(reader: Person, admin: Person) -> None:
    number = PanelDoor(admin).add_vm({"vm_name": "theirs", "owner": "rita"}).made
    api, panel = reader.api, reader.panel
    for answer in (
        api.post("/api/vms", json={"vm_name": "x"}),
        api.put(f"/api/vms/{number}", json={"vlan": "1"}),
        api.delete(f"/api/vms/{number}"),
        panel.post("/admin/vm/create", data={"vm_name": "x"}),
        panel.post(f"/admin/vm/edit/{number}", data={"vlan": "1", "revision": "1"}),
        panel.post("/admin/vm/delete", data={"pk": str(number)}),
    ):
        assert answer.status_code == 403
    assert admin.api.get(f"/api/vms/{number}").headers["etag"] == '"v1"'
