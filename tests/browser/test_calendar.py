"""The calendar address in a browser: chosen, seen once, used by a program, replaced, revoked."""

from collections.abc import Callable, Iterator
from urllib.request import urlopen

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PEOPLE, Site
from vmtrak.accounts import actors, calendar_feeds, users

WIDTHS = (1440, 390)


@pytest.fixture(autouse=True)
def none_left(site: Site) -> Iterator[None]:
    """Nobody has an address before a test, and nobody after it."""
    yield
    with site.database.work(actors.visitor("127.0.0.1", None)) as work:
        for name in PEOPLE.values():
            user = users.named(work.session, name)
            assert user is not None
            work.actor = actors.actor_of(user, work.actor)
            calendar_feeds.revoke(work)


def make(page: Page, which: str = "for all that I see") -> str:
    """Make the first address, and give it."""
    page.goto("/admin/account/")
    page.get_by_role("button", name=which).click()
    return shown(page)


def shown(page: Page) -> str:
    expect(page.get_by_role("heading", name="Your calendar address")).to_be_visible()
    return str(page.locator(".link-once code").inner_text())


def fetched(address: str) -> tuple[int, str]:
    try:
        with urlopen(address, timeout=10) as answer:  # noqa: S310 - our own server
            return int(answer.status), answer.read().decode()
    except OSError as error:
        return int(getattr(error, "code", 0)), ""


def test_an_address_is_made_used_replaced_and_revoked(admin: Page) -> None:
    first = make(admin)
    status, text = fetched(first)
    assert (status, text.startswith("BEGIN:VCALENDAR\r\n")) == (200, True)
    assert "BEGIN:VEVENT" in text
    admin.get_by_role("link", name="I have copied it").click()
    card = admin.get_by_role("region", name="Calendar")
    expect(card).to_contain_text("all VMs that you see")
    card.get_by_role("button", name="New address for VMs I own").click()
    dialog = admin.get_by_role("dialog")
    expect(dialog).to_contain_text("The one that you have stops working.")
    dialog.get_by_role("button", name="Make it").click()
    second = shown(admin)
    assert [fetched(address)[0] for address in (first, second)] == [404, 200]
    admin.get_by_role("link", name="I have copied it").click()
    expect(card).to_contain_text("VMs that you own")
    card.get_by_role("button", name="Revoke the address").click()
    dialog.get_by_role("button", name="Revoke").click()
    expect(admin.get_by_role("status").first).to_contain_text("no longer works")
    expect(card.get_by_role("button", name="Address for VMs I own")).to_be_visible()
    assert fetched(second)[0] == 404


def test_neither_reload_nor_back_shows_it_again_or_makes_another(admin: Page) -> None:
    address = make(admin)
    made_at = admin.url
    admin.reload()
    assert admin.url.endswith("/admin/account/")
    for step in (admin.go_back, admin.go_back, admin.go_forward):
        step()
        assert address not in admin.content()
    admin.goto(made_at)
    assert admin.url.endswith("/admin/account/")
    assert fetched(address)[0] == 200


def test_the_address_is_copied_whole(at: Callable[..., Page]) -> None:
    page = at("reader", permissions=["clipboard-read", "clipboard-write"])
    address = make(page)
    page.get_by_role("button", name="Copy the address").click()
    expect(page.locator("#announce")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == address


def test_all_of_it_works_without_scripts(at: Callable[..., Page]) -> None:
    page = at("reader", java_script_enabled=False)
    address = make(page, "for VMs I own")
    assert fetched(address)[0] == 200
    page.get_by_role("link", name="I have copied it").click()
    page.get_by_role("button", name="Revoke the address").click()
    assert fetched(address)[0] == 404


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_its_screen(width: int, scheme: str, at: Callable[..., Page]) -> None:
    page = at("admin", viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto("/admin/account/")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    make(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.goto("/admin/account/")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
