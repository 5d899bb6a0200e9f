"""Signing in and out, one-time links, and what each role finds."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PEOPLE, Site
from vmtrak.access import SYSTEM
from vmtrak.accounts import users
from vmtrak.demo import sign_in_link

MENUS = {
    "admin": [
        "Dashboard",
        "VMs",
        "Hypervisors",
        "Credentials",
        "Trash",
        "API tokens",
        "Users",
        "Notices",
        "Alerts",
        "Audit trail",
    ],
    "operator": ["Dashboard", "VMs", "Hypervisors", "Credentials", "API tokens"],
    "auditor": ["Dashboard", "VMs", "Hypervisors", "API tokens", "Audit trail"],
    "reader": ["Dashboard", "VMs", "API tokens"],
}
PASSWORD = "correct horse battery staple"


def sign_in(page: Page, site: Site, person: str = "admin") -> None:
    page.get_by_label("User name").fill(PEOPLE[person])
    page.get_by_label("Password").fill(site.password)
    page.get_by_role("button", name="Sign in").click()


def test_signing_in_leads_back_to_the_page_that_was_asked_for(
    at: Callable[..., Page], site: Site
) -> None:
    page = at(None)
    page.goto("/admin/vm/list?status=inactive")
    page.wait_for_url("**/admin/login?next=*")
    expect(page.get_by_label("User name")).to_be_focused()
    sign_in(page, site)
    page.wait_for_url("**/admin/vm/list?status=inactive")


def test_a_wrong_password_keeps_the_name_and_says_so(at: Callable[..., Page], site: Site) -> None:
    page = at(None)
    page.goto("/admin/login")
    page.get_by_label("User name").fill(PEOPLE["admin"])
    page.get_by_label("Password").fill("something else entirely")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("User name")).to_have_value(PEOPLE["admin"])
    expect(page.get_by_label("Password")).to_be_focused()
    sign_in(page, site)
    page.wait_for_url("**/admin/")


def test_signing_in_works_without_a_script(at: Callable[..., Page], site: Site) -> None:
    page = at(None, java_script_enabled=False)
    page.goto("/admin/login")
    sign_in(page, site, "reader")
    page.wait_for_url("**/admin/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Dashboard")


def test_after_signing_out_the_way_back_shows_nothing(at: Callable[..., Page]) -> None:
    page = at("operator")
    page.goto("/admin/vm/list")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/admin/login")
    expect(page.get_by_role("status").first).to_have_text("You have signed out.")
    page.go_back()
    page.wait_for_url("**/admin/login?next=*")
    expect(page.get_by_role("table")).to_have_count(0)


def test_a_sign_in_link_works_once_and_says_so_the_second_time(
    at: Callable[..., Page], site: Site
) -> None:
    address = f"/admin/link#{sign_in_link(site.database)}"
    first, second = at(None), at(None)
    first.goto(address)
    first.wait_for_url("**/admin/")
    second.goto(address)
    expect(second.locator(".error-page")).to_contain_text("This link has been used")
    assert "#" not in second.url
    second.get_by_role("link", name="To the sign-in page").click()
    second.wait_for_url("**/admin/login**")


def test_the_first_administrator_sets_up_an_account_over_the_link(
    browser: Browser, new_site: Site
) -> None:
    with new_site.database.work(SYSTEM) as work:
        token = users.first_link(work)
    assert token
    context = browser.new_context()
    page = context.new_page()
    page.goto(users.link_address(new_site.base_url, token))
    page.get_by_label("User name").fill("first")
    page.get_by_label("E-mail").fill("first@vmtrak.example")
    page.get_by_label("New password").fill("short")
    page.get_by_role("button", name="Set up and sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("12")
    expect(page.get_by_label("User name")).to_have_value("first")
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_role("button", name="Set up and sign in").click()
    page.wait_for_url("**/admin/")
    page.get_by_role("navigation").get_by_role("link", name="VMs").click()
    expect(page.get_by_role("heading", name="No virtual machines yet")).to_be_visible()
    page.goto(users.link_address(new_site.base_url, token))
    expect(page.locator(".error-page")).to_contain_text("This link has been used")
    context.close()


def test_a_new_user_sets_a_password_over_the_link_that_an_admin_hands_over(
    admin: Page, at: Callable[..., Page]
) -> None:
    admin.goto("/admin/user/details/6")
    admin.get_by_role("button", name="New set-up link").click()
    admin.get_by_role("dialog").get_by_role("button", name="Make the link").click()
    address = admin.locator(".link-once code").inner_text()
    page = at(None)
    page.goto(address)
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_role("button", name="Set up and sign in").click()
    page.wait_for_url("**/admin/")
    expect(page.locator(".person")).to_contain_text("mehmet.yildiz")


@pytest.mark.parametrize("person", ["reader", "auditor"])
def test_who_may_not_write_finds_nothing_to_write_with(
    at: Callable[..., Page], site: Site, person: str
) -> None:
    page = at(person)
    page.goto("/admin/vm/list")
    expect(page.locator("tbody tr").first).to_be_visible()
    expect(page.locator("input[name=pk]")).to_have_count(0)
    expect(page.locator("a[href*='/edit/'], a[href*='/create']")).to_have_count(0)
    page.locator("tbody th a").first.click()
    page.wait_for_url("**/admin/vm/details/*")
    expect(page.locator(".actions")).to_have_count(0)
    page.goto("/admin/vm/create")
    expect(page.locator(".error-status")).to_have_text("403")


def test_the_menu_holds_what_the_role_may_open(at: Callable[..., Page]) -> None:
    for person, wanted in MENUS.items():
        page = at(person)
        page.goto("/admin/")
        found = page.get_by_role("navigation", name="Main").get_by_role("link").all_inner_texts()
        # Behind Alerts stands how many of them are unread.
        assert [text.strip().split("\n")[0] for text in found] == wanted, person
