"""Themes, times, the keyboard, and pages that keep to themselves."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PAGES

GROUND = "getComputedStyle(document.body).backgroundColor"


def is_dark(page: Page) -> bool:
    channels = page.evaluate(f"{GROUND}.match(/[\\d.]+/g).map(Number)")
    return bool(sum(channels[:3]) < 200)


def test_no_page_says_a_word_to_the_console_or_asks_another_host(admin: Page) -> None:
    # The fixture listens; a breach of the content security policy would be said there as well.
    for path in PAGES:
        admin.goto(path)
        expect(admin.locator("[data-reach]:not([title])")).to_have_count(0)
        expect(admin.get_by_role("heading", level=1)).to_have_count(1)


@pytest.mark.parametrize("path", ["/admin/login", "/admin/setup", "/admin/link", "/api/docs"])
def test_pages_for_anybody_keep_to_themselves_too(at: Callable[..., Page], path: str) -> None:
    page = at(None)
    page.goto(path)
    expect(page.get_by_text("VMTrak").first).to_be_visible()


def test_the_theme_follows_the_system_until_one_is_chosen(at: Callable[..., Page]) -> None:
    page = at("reader", color_scheme="dark")
    page.goto("/admin/")
    assert is_dark(page)
    page.emulate_media(color_scheme="light")
    assert not is_dark(page)
    page.get_by_role("button", name="Dark").click()
    assert is_dark(page)
    page.goto("/admin/vm/list")
    assert is_dark(page)
    expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="As the system").click()
    page.reload()
    assert not is_dark(page)


def test_times_are_those_of_the_viewers_zone_and_exact_on_hover(at: Callable[..., Page]) -> None:
    shown = {}
    for zone in ("America/New_York", "Asia/Kolkata"):
        page = at("admin", timezone_id=zone)
        page.goto("/admin/vm/details/1")
        time = page.locator("time").last
        shown[zone] = time.inner_text()
        assert (time.get_attribute("datetime") or "").endswith("Z")
        assert time.get_attribute("datetime") or "" in (time.get_attribute("title") or "")
    assert len(set(shown.values())) == 2


def test_the_first_tab_leads_past_the_menu(admin: Page) -> None:
    admin.goto("/admin/vm/list")
    admin.keyboard.press("Tab")
    skip = admin.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    admin.keyboard.press("Enter")
    expect(admin.get_by_role("main")).to_be_focused()


def test_a_slash_goes_to_the_search_but_not_out_of_a_field(admin: Page) -> None:
    admin.goto("/admin/vm/list")
    admin.keyboard.press("/")
    search = admin.get_by_role("searchbox")
    expect(search).to_be_focused()
    admin.keyboard.type("a/b")
    expect(search).to_have_value("a/b")
    admin.goto("/admin/")
    admin.keyboard.press("/")
    admin.keyboard.type("atlas")
    admin.keyboard.press("Enter")
    admin.wait_for_url("**/admin/vm/list?search=atlas")


def test_escape_closes_the_menu_of_a_phone_and_returns_to_its_button(phone: Page) -> None:
    phone.goto("/admin/")
    button = phone.get_by_role("button", name="Menu")
    users = phone.get_by_role("link", name="Users")
    expect(users).to_be_hidden()
    button.tap()
    expect(users).to_be_visible()
    users.focus()
    phone.keyboard.press("Escape")
    expect(users).to_be_hidden()
    expect(button).to_be_focused()


def test_everything_that_takes_the_focus_shows_it(admin: Page) -> None:
    admin.goto("/admin/vm/list?limit=25")
    for _ in range(25):
        admin.keyboard.press("Tab")
        outline = admin.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", admin.evaluate("document.activeElement.outerHTML")


def test_a_reachability_that_is_not_known_says_so(admin: Page) -> None:
    admin.goto("/admin/vm/list?search=atlas")
    mark = admin.get_by_role("img", name="reachability not known")
    expect(mark).to_be_visible()
    expect(mark).to_have_attribute("title", "reachability not known")


def test_a_cut_off_name_is_whole_on_hover(admin: Page) -> None:
    admin.goto("/admin/vm/list?search=atlas")
    expect(admin.locator("td[data-label=Owner]")).to_have_attribute(
        "title", "sneha.kulkarni@harbourline.example"
    )
    expect(admin.locator(".person b")).to_have_attribute("title", "annelies.devries")


def test_an_address_is_copied_at_a_click(at: Callable[..., Page]) -> None:
    page = at("admin", permissions=["clipboard-read", "clipboard-write"])
    page.goto("/admin/vm/details/1")
    button = page.get_by_role("button", name="Copy the IP address")
    button.click()
    expect(page.locator("#announce")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == button.get_attribute("data-copy")
