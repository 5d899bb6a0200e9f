"""The second factor in a browser: setting it up, signing in with it, proving who one is."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import select, update

from tests.browser.conftest import PEOPLE, Site
from vmtrak.access import SYSTEM
from vmtrak.accounts import SecondFactor, SignedIn, UserPatch, second_factor, users
from vmtrak.db import now

CORNER = """image => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 9, height: 9 });
  canvas.getContext("2d").drawImage(image, 0, 0);
  return [...canvas.getContext("2d").getImageData(8, 8, 1, 1).data];
}"""

PAGE = "/admin/account/second-factor"


class App:
    """An authenticator app that gives each of its codes once."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.steps = -1

    def code(self) -> str:
        self.steps += 1
        return pyotp.TOTP(self.secret).at(now(), counter_offset=self.steps)


@pytest.fixture(autouse=True)
def _nobody_has_one(site: Site) -> Iterator[None]:
    yield
    with site.database.work(SYSTEM) as work:
        for name in PEOPLE.values():
            user = users.named(work.session, name)
            assert user is not None
            users.change(work, user.id, UserPatch(second_factor_required=False))
            second_factor.reset(work, user.id)


def forgotten(site: Site) -> None:
    """Let every proof of identity, and every code that was used, be long ago."""
    with site.database.work(SYSTEM) as work:
        work.session.execute(update(SignedIn).values(proved_at=now() - timedelta(minutes=11)))
        work.session.execute(update(SecondFactor).values(last_step=None))


def set_up(page: Page) -> tuple[App, list[str]]:
    """Set up a factor on the page for it; the app and the recovery codes."""
    page.goto(PAGE)
    page.get_by_role("button", name="Set up a second factor").click()
    app = App(page.locator("code[data-select]").inner_text().replace(" ", ""))
    page.get_by_label("Code").fill(app.code())
    page.get_by_role("button", name="Put it in force").click()
    expect(page.get_by_text("Your second factor is in force.")).to_be_visible()
    return app, page.locator(".recovery-codes li").all_inner_texts()


def no_sideways_scrolling(page: Page) -> bool:
    return bool(
        page.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
    )


def dialog_of(page: Page) -> Locator:
    return page.get_by_role("dialog", name="Prove that it is you")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_the_pages_fit_and_the_code_stands_on_white(
    width: int, scheme: str, at: Callable[..., Page]
) -> None:
    page = at("operator", viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(PAGE)
    assert no_sideways_scrolling(page)
    page.get_by_role("button", name="Set up a second factor").click()
    image = page.get_by_alt_text("QR code that holds the key below")
    expect(image).to_be_visible()
    assert image.evaluate("each => each.complete && each.naturalWidth > 100")
    assert image.evaluate(CORNER) == [255, 255, 255, 255]
    assert no_sideways_scrolling(page)
    app = App(page.locator("code[data-select]").inner_text().replace(" ", ""))
    page.get_by_label("Code").fill(app.code())
    page.get_by_role("button", name="Put it in force").click()
    expect(page.locator(".recovery-codes li")).to_have_count(10)
    assert no_sideways_scrolling(page)
    page.get_by_role("link", name="I have kept them").click()
    expect(page.get_by_text("10 of 10 are left.")).to_be_visible()
    assert no_sideways_scrolling(page)
    page.goto("/admin/account/prove")
    assert no_sideways_scrolling(page)


def test_from_setting_it_up_to_signing_in_with_it(
    at: Callable[..., Page], site: Site, tmp_path: Path
) -> None:
    page = at("operator")
    app, codes = set_up(page)
    with page.expect_download() as saving:
        page.get_by_role("link", name="Save as a file").click()
    saving.value.save_as(tmp_path / "codes.txt")
    assert saving.value.suggested_filename == "vmtrak-recovery-codes.txt"
    assert set(codes) <= set((tmp_path / "codes.txt").read_text().splitlines())
    page.get_by_role("button", name="Sign out").click()
    forgotten(site)
    for code in (app.code(), codes[0]):
        page.goto("/admin/vm/list")
        page.get_by_label("User name").fill(PEOPLE["operator"])
        page.get_by_label("Password", exact=True).fill(site.password)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_label("Code")).to_be_focused()
        page.get_by_label("Code").fill("000000 no")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("The code is wrong")
        page.get_by_label("Code").fill(code)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/admin/vm/list")
        page.get_by_role("button", name="Sign out").click()


def test_who_must_have_one_is_led_to_it_and_gets_on_afterwards(
    at: Callable[..., Page], site: Site
) -> None:
    page = at("reader", viewport={"width": 390, "height": 844})
    with site.database.work(SYSTEM) as work:
        user = users.named(work.session, PEOPLE["reader"])
        assert user is not None
        users.change(work, user.id, UserPatch(second_factor_required=True))
    page.goto("/admin/vm/list")
    expect(page).to_have_url(re.compile(PAGE))
    expect(page.get_by_text("Your account must have a second factor.")).to_be_visible()
    set_up(page)
    page.get_by_role("link", name="I have kept them").click()
    expect(page.get_by_text("replaced but not removed")).to_be_visible()
    page.goto("/admin/vm/list")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Virtual machines")


def test_a_proof_is_asked_for_in_place(at: Callable[..., Page], site: Site) -> None:
    page = at("operator")
    app, _ = set_up(page)
    forgotten(site)
    page.goto(PAGE)
    page.get_by_role("button", name="Make new recovery codes").click()
    page.get_by_role("button", name="Make new ones").click()
    expect(dialog_of(page).get_by_label("Code")).to_be_focused()
    dialog_of(page).get_by_label("Code").fill("000 000")
    dialog_of(page).get_by_role("button", name="Go on").click()
    expect(dialog_of(page).get_by_role("alert")).to_contain_text("wrong")
    dialog_of(page).get_by_label("Code").fill(app.code())
    dialog_of(page).get_by_role("button", name="Go on").click()
    expect(page.locator(".recovery-codes li")).to_have_count(10)


def test_a_proof_that_is_not_given_changes_nothing(at: Callable[..., Page], site: Site) -> None:
    page = at("operator")
    forgotten(site)
    page.goto(PAGE)
    page.get_by_role("button", name="Set up a second factor").click()
    dialog_of(page).get_by_role("button", name="Cancel").click()
    expect(dialog_of(page)).to_have_count(0)
    expect(page).to_have_url(re.compile(f"{PAGE}$"))
    with site.database.read() as session:
        assert session.scalars(select(SecondFactor)).all() == []


def test_without_scripts_the_page_for_the_proof_leads_back(
    at: Callable[..., Page], site: Site
) -> None:
    page = at("operator", java_script_enabled=False)
    forgotten(site)
    page.goto(PAGE)
    page.get_by_role("button", name="Set up a second factor").click()
    expect(page).to_have_url(re.compile("/admin/account/prove"))
    page.get_by_label("Password", exact=True).fill(site.password)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("That is you.")).to_be_visible()
    page.get_by_role("button", name="Set up a second factor").click()
    expect(page.get_by_alt_text("QR code that holds the key below")).to_be_visible()


def test_signing_in_in_place_asks_for_the_code(at: Callable[..., Page], site: Site) -> None:
    page = at("operator")
    app, _ = set_up(page)
    forgotten(site)
    page.goto("/admin/vm/create")
    page.get_by_label("Name required").fill("kept-with-a-code")
    with site.database.work(SYSTEM) as work:
        work.session.execute(update(SignedIn).values(ended_at=now()))
    page.get_by_role("button", name="Save", exact=True).click()
    dialog = page.get_by_role("dialog", name="Sign in to go on")
    dialog.get_by_label("Password", exact=True).fill(site.password)
    dialog.get_by_role("button", name="Sign in").click()
    dialog.get_by_label("Code").fill(app.code())
    dialog.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/admin/vm/details/*")
