"""Writing VMs down: suggestions, copies, mistakes, and somebody else being faster."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Dialog, Page, expect

from tests.browser.conftest import Site


def save(page: Page, button: str = "Save") -> None:
    page.get_by_role("button", name=button, exact=True).click()


def heading(page: Page) -> str:
    return page.get_by_role("heading", level=1).inner_text()


@pytest.mark.parametrize(
    ("label", "term", "found"),
    [
        ("Hypervisor", "pve3", "gdn-pve3"),
        ("OS version", "windows server 2019", "Windows Server 2019"),
        ("Owner", "femke", "femke.bakker@harbourline.example"),
        ("Department", "fin", "Finance"),
        ("Application", "sap s", "SAP S/4HANA"),
    ],
)
def test_a_field_offers_what_others_have(admin: Page, label: str, term: str, found: str) -> None:
    admin.goto("/admin/vm/create")
    field = admin.get_by_role("combobox", name=label)
    field.press_sequentially(term)
    option = admin.locator(".combo-list li", has_text=found).first
    expect(option).to_be_visible()
    expect(field).to_have_attribute("aria-expanded", "true")
    field.press("ArrowDown")
    while option.get_attribute("aria-selected") != "true":
        field.press("ArrowDown")
    field.press("Enter")
    expect(field).to_have_value(found)
    expect(option).to_be_hidden()


def test_a_saved_vm_shows_what_was_typed_and_who_added_it(admin: Page) -> None:
    admin.goto("/admin/vm/create")
    admin.get_by_label("Name required").fill("typed-by-hand")
    admin.get_by_label("IP address").fill("10.9.8.7")
    admin.get_by_role("combobox", name="Hypervisor").fill("gdn-pve3")
    save(admin)
    admin.wait_for_url("**/admin/vm/details/*")
    assert heading(admin) == "typed-by-hand"
    expect(admin.get_by_role("link", name="gdn-pve3").first).to_be_visible()
    expect(admin.locator(".history")).to_contain_text("annelies.devries added")


def test_a_duplicate_starts_from_the_row_and_needs_a_name_of_its_own(
    admin: Page, site: Site
) -> None:
    admin.goto(f"/admin/vm/details/{site.number('atlas')}")
    admin.get_by_role("link", name="Duplicate").click()
    expect(admin.get_by_label("IP address")).to_have_value("10.20.20.92")
    save(admin)
    expect(admin.locator("#e-vm_name")).to_be_visible()
    expect(admin.get_by_label("Name required")).to_have_value("atlas")
    admin.get_by_label("Name required").fill("atlas-copy")
    save(admin)
    admin.wait_for_url("**/admin/vm/details/*")
    assert heading(admin) == "atlas-copy"


def test_save_as_new_leaves_the_row_that_was_opened_alone(admin: Page, site: Site) -> None:
    number = site.number("apollo")
    admin.goto(f"/admin/vm/edit/{number}")
    admin.get_by_label("Name required").fill("apollo-the-second")
    save(admin, "Save as new")
    admin.wait_for_url("**/admin/vm/details/*")
    assert heading(admin) == "apollo-the-second"
    admin.goto(f"/admin/vm/details/{number}")
    assert heading(admin) == "apollo"


def test_a_refused_form_keeps_what_was_typed_and_leads_to_each_mistake(admin: Page) -> None:
    admin.goto("/admin/vm/create")
    admin.get_by_label("Name required").fill("half-right")
    admin.get_by_label("IP address").fill("10.0.0.256")
    admin.get_by_label("Notes").fill("to be kept\nboth lines")
    save(admin)
    alert = admin.get_by_role("alert")
    expect(alert).to_be_focused()
    expect(alert).to_contain_text("IPv4 or IPv6")
    alert.get_by_role("link", name="IP address").click()
    expect(admin.get_by_label("IP address")).to_be_focused()
    expect(admin.get_by_label("IP address")).to_have_attribute("aria-invalid", "true")
    expect(admin.get_by_label("Name required")).to_have_value("half-right")
    expect(admin.get_by_label("Notes")).to_have_value("to be kept\nboth lines")
    admin.get_by_label("IP address").fill("10.0.0.25")
    save(admin)
    admin.wait_for_url("**/admin/vm/details/*")


def test_a_tick_survives_a_refused_form(admin: Page) -> None:
    admin.goto("/admin/user/edit/3")
    admin.get_by_label("Gets expiry notices").check()
    admin.get_by_label("E-mail required").fill("annelies.devries@harbourline.example")
    save(admin)
    expect(admin.get_by_role("alert")).to_be_visible()
    expect(admin.get_by_label("Gets expiry notices")).to_be_checked()
    expect(admin.get_by_label("Active")).to_be_checked()


def test_somebody_who_was_overtaken_sees_both_versions_and_loses_nothing(
    admin: Page, at: Callable[..., Page], site: Site
) -> None:
    address = f"/admin/vm/edit/{site.number('hlr-git01')}"
    other = at("operator")
    admin.goto(address)
    other.goto(address)
    other.get_by_label("Notes").fill("theirs")
    other.get_by_label("VLAN").fill("their-vlan")
    other.get_by_role("combobox", name="Hypervisor").fill("gdn-pve3")
    save(other)
    other.wait_for_url("**/admin/vm/details/*")

    admin.get_by_label("Notes").fill("mine")
    admin.get_by_label("Tag").fill("my-tag")
    save(admin)
    panel = admin.locator(".conflict")
    expect(panel).to_be_focused()
    expect(panel).to_contain_text("femke.bakker changed this")
    expect(panel.get_by_role("row", name="Notes")).to_contain_text("theirs")
    expect(panel.get_by_role("row", name="Notes")).to_contain_text("mine")
    expect(panel.get_by_role("row", name="Hypervisor")).to_contain_text("gdn-pve3")
    expect(panel.get_by_role("row", name="VLAN")).to_contain_text("left alone")
    expect(admin.get_by_label("Notes")).to_have_value("mine")
    expect(admin.get_by_label("Tag")).to_have_value("my-tag")

    save(admin, "Save anyway")
    admin.wait_for_url("**/admin/vm/details/*")
    for kept in ("mine", "my-tag", "their-vlan", "gdn-pve3"):
        expect(admin.locator(".panels")).to_contain_text(kept)


def test_leaving_unsaved_work_asks_first_and_saving_it_does_not(admin: Page) -> None:
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    admin.on("dialog", stay)
    admin.goto("/admin/hypervisor/edit/2")
    admin.get_by_label("Version").fill("something else")
    admin.get_by_role("link", name="Dashboard").click(no_wait_after=True)
    expect(admin.get_by_label("Version")).to_have_value("something else")
    assert asked == ["beforeunload"]
    save(admin)
    admin.wait_for_url("**/admin/hypervisor/details/2")
    assert asked == ["beforeunload"]


def test_a_form_saves_without_a_script(at: Callable[..., Page]) -> None:
    page = at("operator", java_script_enabled=False)
    page.goto("/admin/vm/create")
    page.get_by_label("Name required").fill("without-a-script")
    save(page)
    page.wait_for_url("**/admin/vm/details/*")
    assert heading(page) == "without-a-script"


def test_the_keyboard_alone_adds_a_vm(admin: Page) -> None:
    admin.goto("/admin/vm/list")
    admin.get_by_role("link", name="Add a VM").focus()
    admin.keyboard.press("Enter")
    admin.wait_for_url("**/admin/vm/create")
    admin.get_by_label("Name required").focus()
    admin.keyboard.type("typed-without-a-mouse")
    for label in ("Tag", "Application", "Description", "Hypervisor", "Cluster"):
        admin.keyboard.press("Tab")
        expect(admin.locator("form.editor").get_by_label(label)).to_be_focused()
    admin.keyboard.press("Enter")
    admin.wait_for_url("**/admin/vm/details/*")
    assert heading(admin) == "typed-without-a-mouse"
