"""Finding VMs: the dashboard's ways into the list, columns, filters, pages, and the trash."""

import re
from collections.abc import Callable
from datetime import datetime

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PAGES, Site

LIST = "/admin/vm/list"
HEADS = (
    "Status",
    "Name",
    "IP address",
    "Hypervisor",
    "Environment",
    "Owner",
    "Expiry",
    "Power",
)


def names(page: Page) -> list[str]:
    return page.locator("tbody th.title a").all_text_contents()


def column(page: Page, label: str) -> list[str]:
    """The texts of a column, without the marks for what is empty."""
    cells = page.locator(f"tbody td[data-label='{label}']").all_inner_texts()
    return [cell for cell in cells if cell != "\u2013"]


def total(page: Page) -> int:
    return int(page.locator("h1 .count").inner_text().replace(",", ""))


def total_at(page: Page, href: str) -> int:
    answer = page.request.get(href + ("&" if "?" in href else "?") + "limit=25")
    found = re.search(r'class="count" title="(\d+) in', answer.text())
    assert found
    return int(found.group(1))


@pytest.mark.parametrize("part", [".tile", ".bar", ".month"])
def test_everything_counted_on_the_dashboard_leads_to_as_many_vms(admin: Page, part: str) -> None:
    admin.goto("/admin/")
    links = admin.locator(part).all()
    assert len(links) >= 4
    for link in links:
        said = re.search(r"\d+", link.locator("b, .bar-value, .month-value").inner_text())
        href = link.get_attribute("href")
        assert said
        assert href
        assert total_at(admin, href) == int(said.group()), href


def test_the_dashboards_bars_of_one_field_count_every_vm(admin: Page) -> None:
    admin.goto("/admin/")
    every = total_at(admin, LIST)
    for title in ("Status", "Environment", "Power"):
        panel = admin.locator(".panel", has=admin.get_by_role("heading", name=title))
        assert sum(map(int, panel.locator(".bar-value").all_inner_texts())) == every


def test_a_month_of_the_dashboard_opens_with_its_filter_in_sight(admin: Page) -> None:
    admin.goto("/admin/")
    month = admin.locator(".month").nth(1)
    said = month.locator(".month-label").inner_text()
    month.click()
    expect(admin.locator(".chips")).to_contain_text("Expires from")
    days = {datetime.fromisoformat(text[:10]) for text in column(admin, "Expiry")}
    assert {day.strftime("%b %y") for day in days} == {said}


def test_a_column_sorts_at_a_click_and_turns_round_at_the_next(admin: Page) -> None:
    admin.goto(f"{LIST}?limit=25&sort=expiry_date")
    for label in HEADS:
        head = admin.get_by_role("columnheader", name=label)
        head.get_by_role("link").click()
        expect(head).to_have_attribute("aria-sort", "ascending")
        first = names(admin)
        head.get_by_role("link").click()
        expect(head).to_have_attribute("aria-sort", "descending")
        assert names(admin) != first


def test_names_sort_without_regard_to_case(admin: Page) -> None:
    admin.goto(f"{LIST}?limit=200")
    found = names(admin)
    assert found == sorted(found, key=str.casefold)


def test_pages_follow_one_another_and_their_size_can_be_chosen(admin: Page) -> None:
    admin.goto(LIST)
    admin.get_by_label("25 rows on a page").click()
    expect(admin.locator(".pager > p")).to_have_text(re.compile("1\u201325 of"))
    before = names(admin)
    admin.get_by_label("Next page").click()
    expect(admin.locator(".pager > p")).to_have_text(re.compile("26\u201350 of"))
    assert not set(before) & set(names(admin))
    admin.get_by_label("Previous page").click()
    expect(admin.locator(".pager > p")).to_have_text(re.compile("1\u201325 of"))
    assert names(admin) == before


def test_a_chosen_filter_applies_at_once_and_its_chip_takes_it_away(admin: Page) -> None:
    admin.goto(f"{LIST}?sort=owner&limit=100")
    every = total(admin)
    admin.locator("#q-environment").click()
    admin.locator("#q-environment").select_option("staging")
    admin.wait_for_url("**environment=staging**")
    assert set(column(admin, "Environment")) == {"Staging"}
    assert "sort=owner" in admin.url
    assert "limit=100" in admin.url
    admin.locator(".chips a", has_text="Staging").click()
    expect(admin.locator(".chips")).to_have_count(0)
    assert total(admin) == every


def test_a_number_of_days_finds_what_expires_within_them(admin: Page) -> None:
    admin.goto(LIST)
    admin.get_by_label("Expires in (days)").fill("30")
    admin.keyboard.press("Enter")
    admin.wait_for_url("**expiring_in=30**")
    assert total(admin) > 0
    assert "over" not in " ".join(column(admin, "Expiry"))


def test_the_keyboard_chooses_a_hypervisor_from_those_there_are(admin: Page) -> None:
    admin.goto(LIST)
    field = admin.get_by_role("combobox", name="Hypervisor")
    field.press_sequentially("ESX0")
    expect(admin.locator(".combo-list:not([hidden]) li")).to_have_count(3)
    field.press("ArrowDown")
    field.press("ArrowDown")
    field.press("Escape")
    expect(admin.locator(".combo-list:not([hidden]) li")).to_have_count(0)
    field.press("ArrowDown")
    expect(admin.locator(".combo-list:not([hidden]) li")).to_have_count(3)
    field.press("ArrowDown")
    field.press("Enter")
    admin.wait_for_url("**hypervisor=rtm-esx01**")
    assert set(column(admin, "Hypervisor")) == {"rtm-esx01"}


def test_the_search_reads_name_address_and_owner(admin: Page) -> None:
    admin.goto(LIST)
    for word, shown in (("hlr-ns1", "hlr-ns1"), ("10.20.20.92", "atlas")):
        admin.get_by_role("searchbox").fill(word)
        admin.keyboard.press("Enter")
        expect(admin.locator(".chips")).to_contain_text(word)
        assert shown in names(admin)


def test_a_search_without_a_find_offers_the_way_back(admin: Page) -> None:
    admin.goto(f"{LIST}?search=nowhere-to-be-found")
    expect(admin.get_by_role("heading", name="Nothing matches")).to_be_visible()
    admin.get_by_role("link", name="Show all").click()
    assert total(admin) > 400


def test_on_a_phone_filters_are_folded_until_asked_for(phone: Page) -> None:
    phone.goto(f"{LIST}?status=active&environment=test")
    expect(phone.locator("#q-status")).to_be_hidden()
    phone.get_by_role("button", name="Filters (2)").tap()
    expect(phone.locator("#q-status")).to_be_visible()


def test_no_page_scrolls_sideways_on_a_phone_or_a_tablet(phone: Page) -> None:
    for path in PAGES:
        phone.goto(path)
        for width in (390, 800):
            phone.set_viewport_size({"width": width, "height": 844})
            assert phone.evaluate("document.documentElement.scrollWidth") == width, path


def test_list_and_filter_work_without_a_script(at: Callable[..., Page]) -> None:
    page = at("admin", java_script_enabled=False)
    page.goto(LIST)
    page.locator("#q-status").select_option("inactive")
    page.get_by_role("button", name="Apply").click()
    page.wait_for_url("**status=inactive**")
    assert set(page.locator("tbody .col-status").all_inner_texts()) == {"Inactive"}


def test_chosen_vms_go_to_the_trash_together_once_the_question_is_answered(admin: Page) -> None:
    admin.goto(f"{LIST}?search=hlr-prd-etcd")
    every = total(admin)
    assert every > 2
    for box in admin.locator("input[name=pk]").all()[:2]:
        box.check()
    expect(admin.locator(".bulk")).to_contain_text("2 VMs chosen")
    admin.get_by_role("button", name="Move to trash").click()
    admin.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    admin.goto(f"{LIST}?search=hlr-prd-etcd")
    assert total(admin) == every
    admin.get_by_label("Choose all rows of this page").check()
    admin.get_by_role("button", name="Move to trash").click()
    admin.get_by_role("dialog").get_by_role("button", name="Move to trash").click()
    expect(admin.get_by_role("status").first).to_contain_text("Moved to the trash")
    admin.goto(f"{LIST}?search=hlr-prd-etcd")
    expect(admin.get_by_role("heading", name="Nothing matches")).to_be_visible()


def test_the_trash_gives_back_what_was_deleted(admin: Page, site: Site) -> None:
    number = site.number("hlr-ns1")
    admin.goto(f"/admin/vm/details/{number}")
    admin.get_by_role("button", name="Delete").click()
    admin.get_by_role("dialog").get_by_role("button", name="Move to trash").click()
    admin.wait_for_url(f"**{LIST}")
    assert admin.request.get(f"/admin/vm/details/{number}").status == 404
    admin.goto("/admin/trash/list")
    admin.get_by_role("button", name="Restore hlr-ns1").click()
    admin.wait_for_url(f"**/admin/vm/details/{number}")
    expect(admin.get_by_role("heading", level=1)).to_have_text("hlr-ns1")


def test_the_trash_destroys_only_after_a_question(admin: Page) -> None:
    admin.goto("/admin/trash/list")
    destroy = admin.get_by_role("button", name="Destroy oude-nas for good")
    destroy.click()
    admin.keyboard.press("Escape")
    expect(admin.get_by_role("dialog")).to_be_hidden()
    admin.reload()
    destroy.click()
    admin.get_by_role("dialog").get_by_role("button", name="Destroy for good").click()
    expect(admin.get_by_role("status").first).to_contain_text("Destroyed")
    expect(destroy).to_have_count(0)


def test_a_hypervisor_that_carries_vms_says_why_it_stays(admin: Page) -> None:
    admin.goto("/admin/hypervisor/details/1")
    button = admin.get_by_role("button", name="Delete")
    expect(button).to_be_disabled()
    expect(button).to_have_accessible_description(re.compile(r"Still carries \d+ VMs; move them"))


def test_deleting_a_hypervisor_behind_the_buttons_back_is_refused_in_words(admin: Page) -> None:
    admin.goto("/admin/hypervisor/details/1")
    admin.evaluate(
        """() => {
          const form = document.createElement("form");
          form.method = "post";
          form.action = "/admin/hypervisor/delete";
          form.innerHTML = '<input name="pk" value="1">';
          document.body.append(form);
          form.submit();
        }"""
    )
    admin.wait_for_url("**/admin/hypervisor/delete")
    expect(admin.locator(".error-page")).to_contain_text("VM")
    assert admin.request.get("/admin/hypervisor/details/1").ok
