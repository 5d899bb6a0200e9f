"""Extending a VM in a browser: in two clicks, by keyboard, by telephone, and without a script."""

from collections.abc import Callable
from datetime import date, timedelta
from itertools import count

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Site
from tests.browser.test_credentials import no_sideways_scrolling
from vmtrak import inventory
from vmtrak.access import SYSTEM
from vmtrak.inventory import NewVM

names = count(1)

NewOne = Callable[[int | None], int]


@pytest.fixture
def today(site: Site) -> date:
    return site.state.today()


@pytest.fixture
def vm(site: Site, today: date) -> NewOne:
    """Add a VM that expires in so many days."""

    def add(days: int | None) -> int:
        ends = None if days is None else today + timedelta(days=days)
        fields = {"vm_name": f"put-off-{next(names)}", "expiry_date": ends, "vlan": "7"}
        with site.database.work(SYSTEM) as work:
            return int(inventory.add(work, NewVM.model_validate(fields)).id)

    return add


@pytest.fixture(params=["desk", "phone"])
def page(request: pytest.FixtureRequest) -> Page:
    """An administrator, at a desk and with a telephone."""
    found: Page = request.getfixturevalue({"desk": "admin", "phone": "phone"}[request.param])
    return found


def address(number: int) -> str:
    return f"/admin/vm/details/{number}"


def box(page: Page) -> Locator:
    return page.locator("#extend")


def button(page: Page) -> Locator:
    return page.locator("summary.button")


def ends(site: Site, number: int) -> date | None:
    with site.database.read() as session:
        return session.get_one(inventory.VM, number).expiry_date


def test_two_clicks_extend_a_vm_and_the_page_says_until_when(
    page: Page, site: Site, vm: NewOne, today: date
) -> None:
    number, new = vm(8), today + timedelta(days=38)
    page.goto(address(number))
    expect(box(page)).to_be_hidden()
    button(page).click()
    expect(box(page)).to_be_in_viewport(ratio=1)
    assert no_sideways_scrolling(page)
    box(page).get_by_role("button", name=f"+30 days {new}").click()
    expect(page.get_by_role("status").first).to_have_text(f"Extended: the VM expires on {new} now.")
    assert page.url.endswith(address(number))
    expect(page.locator(".summary")).to_contain_text(f"Expires {new}")
    expect(button(page)).to_be_focused()
    expect(box(page)).to_be_hidden()
    assert ends(site, number) == new


def test_a_date_and_a_reason_reach_the_history(page: Page, vm: NewOne, today: date) -> None:
    page.goto(address(vm(8)))
    button(page).click()
    new = today + timedelta(days=100)
    page.get_by_label("Or until").fill(new.isoformat())
    page.get_by_label("Reason, kept in the history").fill("the new cluster is late")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").first).to_contain_text(f"expires on {new} now")
    first = page.locator(".history li").first
    expect(first).to_contain_text("annelies.devries extended")
    expect(first).to_contain_text("Reason the new cluster is late")


def test_enter_in_the_reason_extends_by_no_number_of_days(
    admin: Page, site: Site, vm: NewOne, today: date
) -> None:
    number = vm(8)
    admin.goto(address(number))
    button(admin).click()
    admin.get_by_label("Reason, kept in the history").fill("kept")
    admin.keyboard.press("Enter")
    expect(admin.get_by_role("alert")).to_be_focused()
    expect(admin.get_by_role("alert")).to_contain_text("is required, or a number of days")
    expect(admin.get_by_label("Reason, kept in the history")).to_have_value("kept")
    assert ends(site, number) == today + timedelta(days=8)
    box(admin).get_by_role("button", name="+90 days").click()
    expect(admin.locator(".history li").first).to_contain_text("kept")
    expect(button(admin)).to_be_focused()


def test_somebody_who_was_overtaken_sees_the_new_date_and_extends_nothing(
    page: Page, site: Site, vm: NewOne, today: date
) -> None:
    number = vm(8)
    page.goto(address(number))
    with site.database.work(SYSTEM) as work:
        asked = inventory.Extension.model_validate({"days": 30})
        inventory.extend(work, number, asked, today)
    button(page).click()
    page.get_by_label("Reason, kept in the history").fill("mine")
    box(page).get_by_role("button", name="+30 days").click()
    alert = page.get_by_role("alert")
    expect(alert).to_be_focused()
    expect(alert).to_contain_text(f"expires on {today + timedelta(days=38)} now")
    expect(page.get_by_label("Reason, kept in the history")).to_have_value("mine")
    assert no_sideways_scrolling(page)
    assert ends(site, number) == today + timedelta(days=38)
    box(page).get_by_role("button", name=f"+30 days {today + timedelta(days=68)}").click()
    expect(page.locator(".summary")).to_contain_text(f"{today + timedelta(days=68)}")


def test_the_browser_keeps_a_date_of_the_past_from_being_sent(
    admin: Page, vm: NewOne, today: date
) -> None:
    admin.goto(address(vm(-3)))
    button(admin).click()
    expect(box(admin)).to_contain_text("Counted from today, as the date has passed.")
    until = admin.get_by_label("Or until")
    until.fill(today.isoformat())
    assert not until.evaluate("each => each.validity.valid")
    box(admin).get_by_role("button", name="Extend until the date").click()
    assert "/details/" in admin.url
    box(admin).get_by_role("button", name=f"+30 days {today + timedelta(days=30)}").click()
    expect(admin.get_by_role("status").first).to_contain_text("Extended")


def test_a_vm_without_a_date_gets_one(page: Page, vm: NewOne, today: date) -> None:
    page.goto(address(vm(None)))
    expect(button(page)).to_have_text("Set an expiry date")
    button(page).click()
    box(page).get_by_role("button", name="+180 days").click()
    new = today + timedelta(days=180)
    expect(page.locator(".summary")).to_contain_text(f"Expires {new}")


def test_the_keyboard_opens_chooses_and_closes(admin: Page, vm: NewOne) -> None:
    admin.goto(address(vm(8)))
    button(admin).focus()
    admin.keyboard.press("Enter")
    expect(box(admin)).to_be_visible()
    admin.keyboard.press("Tab")
    expect(admin.get_by_label("Reason, kept in the history")).to_be_focused()
    admin.keyboard.press("Tab")
    expect(box(admin).get_by_role("button", name="+30 days")).to_be_focused()
    admin.keyboard.press("Escape")
    expect(box(admin)).to_be_hidden()
    expect(button(admin)).to_be_focused()
    admin.keyboard.press("Space")
    expect(box(admin)).to_be_visible()
    admin.get_by_role("heading", level=1).click()
    expect(box(admin)).to_be_hidden()


def test_the_dashboard_and_the_lifecycle_lead_to_the_open_box(page: Page, vm: NewOne) -> None:
    number = vm(0)
    page.goto("/admin/")
    page.locator(f"a[href='{address(number)}#extend']").click()
    first = box(page).get_by_role("button", name="+30 days")
    expect(first).to_be_focused()
    expect(box(page)).to_be_in_viewport(ratio=1)
    assert page.url.endswith(address(number))
    page.get_by_role("heading", level=1).click()
    for _ in range(2):
        expect(box(page)).to_be_hidden()
        page.locator("dd").get_by_role("link", name="Extend").click()
        expect(first).to_be_focused()
        page.keyboard.press("Escape")


@pytest.mark.parametrize("fragment", ["", "#extend"])
def test_without_a_script_it_takes_the_same_two_clicks(
    at: Callable[..., Page], vm: NewOne, today: date, fragment: str
) -> None:
    page, number = at("operator", java_script_enabled=False), vm(8)
    page.goto(address(number) + fragment)
    if not fragment:
        button(page).click()
    box(page).get_by_role("button", name="+30 days").click()
    expect(page.get_by_role("status").first).to_contain_text(f"{today + timedelta(days=38)}")


def test_who_only_reads_sees_the_date_and_no_button(at: Callable[..., Page], vm: NewOne) -> None:
    page = at("auditor")
    page.goto(address(vm(8)) + "#extend")
    expect(page.locator(".summary")).to_contain_text("Expires")
    expect(button(page)).to_have_count(0)
    expect(page.get_by_text("Extend")).to_have_count(0)


def test_a_decommissioned_vm_is_not_offered_it(admin: Page, site: Site, vm: NewOne) -> None:
    number = vm(8)
    with site.database.work(SYSTEM) as work:
        patch = inventory.VMPatch.model_validate({"status": "decommissioned"})
        inventory.change(work, number, patch)
    admin.goto(address(number))
    expect(button(admin)).to_have_count(0)
