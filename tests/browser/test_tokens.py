"""API tokens in a browser: made in the form, seen once, revoked after a question."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PEOPLE, Site
from vmtrak.access import Scope
from vmtrak.accounts import NewToken, actors, api_tokens, users

WIDTHS = (1440, 390)


def make(page: Page, name: str) -> None:
    page.goto("/admin/token/list")
    page.get_by_role("link", name="Make a token").first.click()
    page.locator("#f-name").fill(name)
    page.get_by_label("Read the inventory").check()
    page.get_by_label("Works for so many days").fill("30")
    page.get_by_label("Works only from").fill("127.0.0.0/8")
    page.get_by_role("button", name="Make the token").click()
    expect(page.get_by_role("heading", name=f"{name} is made")).to_be_visible()


def shown(page: Page) -> str:
    return str(page.locator(".link-once code").inner_text())


def status(site: Site, secret: str) -> int:
    asked = Request(  # noqa: S310 - our own server
        f"{site.base_url}/api/vms?limit=1", headers={"Authorization": f"Bearer {secret}"}
    )
    try:
        with urlopen(asked, timeout=10) as answer:  # noqa: S310 - as above
            return int(answer.status)
    except OSError as error:
        return int(getattr(error, "code", 0))


def count(page: Page) -> int:
    page.goto("/admin/token/list")
    return page.locator("tbody tr").count()


def test_a_token_is_made_used_and_revoked(admin: Page, site: Site) -> None:
    make(admin, "nightly report")
    secret = shown(admin)
    assert api_tokens.is_genuine(secret)
    assert status(site, secret) == 200
    admin.get_by_role("link", name="I have copied it").click()
    admin.get_by_role("button", name="Revoke").click()
    dialog = admin.get_by_role("dialog")
    expect(dialog).to_contain_text("A revoked token never works again.")
    dialog.get_by_role("button", name="Cancel").click()
    assert status(site, secret) == 200
    admin.get_by_role("button", name="Revoke").click()
    dialog.get_by_role("button", name="Revoke").click()
    expect(admin.get_by_role("status").first).to_contain_text("no longer works")
    assert status(site, secret) == 401


def test_neither_reload_nor_back_shows_it_again_or_makes_another(admin: Page) -> None:
    before = count(admin)
    make(admin, "shown once")
    secret = shown(admin)
    made_at = admin.url
    admin.reload()
    assert "/admin/token/details/" in admin.url
    assert secret not in admin.content()
    for step in (admin.go_back, admin.go_back, admin.go_forward):
        step()
        assert secret not in admin.content()
    admin.goto(made_at)
    assert "/admin/token/details/" in admin.url
    assert count(admin) == before + 1


def test_going_back_after_leaving_the_page_does_not_show_it(admin: Page) -> None:
    make(admin, "left")
    secret = shown(admin)
    admin.goto("/admin/vm/list")
    admin.go_back()
    expect(admin.get_by_role("heading", name="left")).to_be_visible()
    assert secret not in admin.content()


def test_the_token_is_copied_whole(at: Callable[..., Page]) -> None:
    page = at("admin", permissions=["clipboard-read", "clipboard-write"])
    make(page, "copied")
    page.get_by_role("button", name="Copy the token").click()
    expect(page.locator("#announce")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == shown(page)


def test_all_of_it_works_without_scripts(at: Callable[..., Page], site: Site) -> None:
    page = at("admin", java_script_enabled=False)
    make(page, "plain")
    secret = shown(page)
    page.reload()
    assert secret not in page.content()
    page.get_by_role("button", name="Revoke").click()
    assert status(site, secret) == 401


def test_a_refused_form_leads_to_what_is_wrong(admin: Page) -> None:
    admin.goto("/admin/token/create")
    admin.locator("#f-name").fill("no scope")
    admin.get_by_role("button", name="Make the token").click()
    problems = admin.get_by_role("alert")
    expect(problems).to_be_focused()
    problems.get_by_role("link", name="Scopes").click()
    expect(admin.locator("#f-scopes")).to_be_focused()
    expect(admin.locator("#f-name")).to_have_value("no scope")


@pytest.fixture
def several(site: Site) -> Iterator[int]:
    """Tokens of every sort; the number of one with much to show."""
    networks = ["192.0.2.0/24", "2001:db8:85a3::8a2e:370:7334", "10.0.0.0/8"]
    kinds: tuple[dict[str, Any], ...] = (
        {"name": "backup-of-everything-in-the-inventory-to-the-cold-store-in-the-other-building"},
        {"name": "x" * 128, "allowed_networks": networks, "expires_in_days": 7},
        {"name": "report", "allowed_networks": networks, "scopes": list(Scope)},
    )
    numbers = []
    for kind in kinds:
        with site.database.work(actors.visitor("127.0.0.1", None)) as work:
            user = users.named(work.session, PEOPLE["admin"])
            assert user is not None
            work.actor = actors.actor_of(user, work.actor)
            given = {"scopes": ["inventory:read"], **kind}
            numbers.append(api_tokens.add(work, NewToken.model_validate(given))[0].id)
    yield numbers[-1]
    with site.database.work(actors.visitor("127.0.0.1", None)) as work:
        user = users.named(work.session, PEOPLE["admin"])
        assert user is not None
        work.actor = actors.actor_of(user, work.actor)
        for number in numbers:
            api_tokens.revoke(work, number)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_its_screen(
    width: int, scheme: str, several: int, at: Callable[..., Page]
) -> None:
    page = at("admin", viewport={"width": width, "height": 900}, color_scheme=scheme)
    for path in ("list", "create", f"details/{several}", f"details/{several - 1}"):
        page.goto(f"/admin/token/{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    make(page, "wide")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
