"""The panel's forms: overtaken edits, duplicates, what is typed and what comes back."""

import re
from typing import Any

import pytest

from tests.conftest import Person
from tests.doors import Form, PanelDoor, RestDoor, told_by_page
from vmtrak.accounts import User
from vmtrak.db import Database
from vmtrak.inventory import VM, Hypervisor

AWKWARD: dict[str, Any] = {
    "vm_name": "<script>alert(1)</script>&amp;\"'",
    "vm_tag": "tab-less \u00a0 and wide \u3000 gaps",
    "description": "\ttabbed\n\n<textarea></textarea>\n</textarea>&lt;",
    "hypervisor": 'esx "01" & co',
    "owner": "Zoë 🖥 O'Neil",
    "ip_address": "2001:db8::7",
    "mac_address": "00:50:56:9a:01:fe",
    "vcpu": 1_000_000,
    "ram_gb": 1e-05,
    "disk_gb": 123456789.123,
    "expiry_date": "0099-01-01",
    "notes": "  ends with breaks\n\n",
}


@pytest.fixture
def panel(admin: Person) -> PanelDoor:
    return PanelDoor(admin)


@pytest.fixture
def rest(admin: Person) -> RestDoor:
    return RestDoor(admin)


def stored(database: Database, number: int) -> VM:
    with database.read() as session:
        return session.get_one(VM, number)


def test_saving_a_form_as_it_came_changes_nothing(
    panel: PanelDoor, rest: RestDoor, admin: Person, database: Database
) -> None:
    hypervisor = rest.add_hypervisor({"name": 'esx "01" & co', "ram_gb": 0.1, "version": "8"}).made
    number = rest.add_vm(AWKWARD).made
    assert panel.change_vm(number, {}).ok
    assert panel.change_hypervisor(hypervisor, {}).ok
    assert panel.change_user(admin.user_id, {}).ok
    with database.read() as session:
        assert session.get_one(VM, number).revision == 1
        assert session.get_one(Hypervisor, hypervisor).revision == 1
        user = session.get_one(User, admin.user_id)
        assert (user.is_active, user.role) == (True, "admin")


def test_a_form_shows_and_keeps_everything_that_was_typed(panel: PanelDoor, rest: RestDoor) -> None:
    assert rest.add_hypervisor({"name": 'esx "01" & co'}).ok
    outcome = panel.add_vm({**AWKWARD, "vcpu": "many", "expiry_date": "2027-02-31"})
    assert set(outcome.errors) == {"vcpu", "expiry_date"}
    again = Form(outcome.text).values
    for name, value in {**AWKWARD, "vcpu": "many", "expiry_date": "2027-02-31"}.items():
        assert again[name].replace("\r\n", "\n") == str(value), name


def test_an_overtaken_form_says_who_changed_what_and_loses_nothing(
    panel: PanelDoor, operator: Person, database: Database
) -> None:
    number = panel.add_vm({"vm_name": "web-01", "owner": "rita", "vlan": "7", "notes": "old"}).made
    mine = panel.form(f"/admin/vm/edit/{number}").filled(
        {"owner": "olga", "notes": "mine\r\nwhole", "department": "Ops"}
    )
    theirs = RestDoor(operator)
    assert theirs.change_vm(number, {"owner": "zed", "vlan": "8"}).ok
    assert theirs.change_vm(number, {"owner": "zoe"}).ok

    refused = panel.client.post(f"/admin/vm/edit/{number}", data=mine)
    assert refused.status_code == 412
    section = re.search(r'<section class="conflict".*?</section>', refused.text, re.DOTALL)
    assert section
    assert "otto changed this" in section[0]
    rows = [
        re.sub(r"<[^>]+>|\s+", " ", row).split()
        for row in re.findall(r"<tr class=\"top.*?</tr>", section[0], re.DOTALL)
    ]
    assert ["Owner", "rita", "zoe", "olga"] in rows
    assert ["VLAN", "7", "8"] in [row[:3] for row in rows]
    assert len(rows) == 2

    again = Form(refused.text).values
    # What this person left alone follows the other; all that they typed stands.
    assert again == {**mine, "vlan": "8", "revision": "3"}
    assert stored(database, number).owner == "zoe"
    assert panel.client.post(f"/admin/vm/edit/{number}", data=again).status_code == 303
    assert (stored(database, number).owner, stored(database, number).department) == ("olga", "Ops")


def test_a_form_without_a_revision_or_with_an_invented_one_is_overtaken(panel: PanelDoor) -> None:
    number = panel.add_vm({"vm_name": "web-01"}).made
    form = panel.form(f"/admin/vm/edit/{number}").filled({"vlan": "7"})
    for revision in ("", "0", "-1", "x", "9" * 40, "2", "\uff11"):
        data = {**form, "revision": revision}
        assert panel.client.post(f"/admin/vm/edit/{number}", data=data).status_code == 412, revision
    del form["revision"]
    assert panel.client.post(f"/admin/vm/edit/{number}", data=form).status_code == 412


def test_a_form_for_what_has_gone_meanwhile_finds_nothing(panel: PanelDoor) -> None:
    number = panel.add_vm({"vm_name": "web-01"}).made
    form = panel.form(f"/admin/vm/edit/{number}").filled({"vlan": "7"})
    assert panel.remove_vm(number).ok
    assert panel.client.post(f"/admin/vm/edit/{number}", data=form).status_code == 404


def test_a_field_given_twice_is_refused(panel: PanelDoor) -> None:
    answer = panel.client.post("/admin/vm/create", data={"vm_name": ["a", "b"], "vlan": "1"})
    assert answer.status_code == 422
    answer = panel.client.post("/admin/vm/create", files={"vm_name": b"a file"})
    assert answer.status_code == 422


def test_duplicating_starts_from_the_values_of_the_first(
    panel: PanelDoor, rest: RestDoor, database: Database
) -> None:
    assert rest.add_hypervisor({"name": "esx-01"}).ok
    given = {
        "vm_name": "web-01",
        "hypervisor": "esx-01",
        "owner": "rita",
        "notes": "a\nb",
        "vcpu": 4,
    }
    number = rest.add_vm(given).made
    form = panel.form(f"/admin/vm/create?from={number}")
    assert panel.client.post("/admin/vm/create", data=form.values).status_code == 409
    data = form.filled({"vm_name": "web-02"})
    made = told_by_page(panel.client.post("/admin/vm/create", data=data)).made
    first, second = stored(database, number), stored(database, made)
    for name in ("hypervisor_id", "owner", "notes", "vcpu", "status", "power_state"):
        assert getattr(first, name) == getattr(second, name)
    assert second.revision == 1


def test_save_as_new_adds_another_vm_and_leaves_the_first(
    panel: PanelDoor, database: Database
) -> None:
    number = panel.add_vm({"vm_name": "web-01", "owner": "rita"}).made
    form = panel.form(f"/admin/vm/edit/{number}")
    data = {**form.filled({"vm_name": "web-02", "owner": "olga"}), "save": "new"}
    answer = panel.client.post(f"/admin/vm/edit/{number}", data=data)
    assert answer.status_code == 303
    assert answer.headers["location"] != f"/admin/vm/details/{number}"
    first = stored(database, number)
    assert (first.vm_name, first.owner, first.revision) == ("web-01", "rita", 1)
    taken = panel.client.post(f"/admin/vm/edit/{number}", data={**form.values, "save": "new"})
    assert taken.status_code == 409
    assert Form(taken.text).values["owner"] == "rita"


def test_each_button_leads_where_it_says(panel: PanelDoor) -> None:
    form = panel.form("/admin/vm/create")
    places = {"save": "details/{}", "continue": "edit/{}", "another": "create"}
    for at, (button, place) in enumerate(places.items(), 1):
        data = {**form.filled({"vm_name": f"vm-{at}"}), "save": button}
        answer = panel.client.post("/admin/vm/create", data=data)
        number = at
        assert answer.headers["location"].startswith(f"/admin/vm/{place.format(number)}")


def test_several_vms_go_to_the_trash_at_once(panel: PanelDoor, admin: Person) -> None:
    numbers = [panel.add_vm({"vm_name": f"vm-{at}"}).made for at in range(3)]
    data = {"pk": [str(number) for number in numbers[:2]]}
    assert panel.client.post("/admin/vm/delete", data=data).status_code == 303
    assert [row["id"] for row in admin.api.get("/api/vms").json()["data"]] == numbers[2:]
    assert panel.client.post("/admin/vm/delete", data={}).status_code == 422


def test_several_vms_go_to_the_trash_together_or_not_at_all(
    panel: PanelDoor, admin: Person
) -> None:
    number = panel.add_vm({"vm_name": "vm"}).made
    answer = panel.client.post("/admin/vm/delete", data={"pk": [str(number), str(number + 9)]})
    assert answer.status_code == 404
    assert [row["id"] for row in admin.api.get("/api/vms").json()["data"]] == [number]


def test_a_form_names_the_field_and_links_to_it(panel: PanelDoor) -> None:
    outcome = panel.add_vm({"vm_name": "", "ip_address": "nowhere"})
    assert outcome.status == 422
    for name in ("vm_name", "ip_address"):
        assert f'href="#f-{name}"' in outcome.text
        control = re.search(rf'<input[^>]* id="f-{name}"[^>]*>', outcome.text)
        assert control
        assert 'aria-invalid="true"' in control[0]
