"""Your sessions, and signing in in place: what was typed is sent, and by whom it was typed."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import select, update

from tests.browser.conftest import PEOPLE, Site
from vmtrak.access import SYSTEM
from vmtrak.accounts import User, sessions, users
from vmtrak.audit import AuditEvent
from vmtrak.web.guard import PANEL_COOKIE

NEW_PASSWORD = "quite another secret 4711"


def end_sessions(site: Site, person: str = "admin") -> None:
    with site.database.work(SYSTEM) as work:
        user = users.named(work.session, PEOPLE[person])
        assert user is not None
        sessions.end_all(work, user.id)


def changed(site: Site, person: str, **values: object) -> None:
    """Change a user's row past every rule."""
    with site.database.work(SYSTEM) as work:
        work.session.execute(
            update(User).where(User.username == PEOPLE[person]).values(**values),
            execution_options={"audited": True},
        )


def dialog_of(page: Page) -> Locator:
    return page.get_by_role("dialog", name="Sign in to go on")


def sign_in(page: Page, site: Site) -> None:
    dialog = dialog_of(page)
    expect(dialog.get_by_label("Password", exact=True)).to_be_focused()
    dialog.get_by_label("Password", exact=True).fill(site.password)
    dialog.get_by_role("button", name="Sign in").click()


def open_form(page: Page, name: str) -> None:
    page.goto("/admin/vm/create")
    page.get_by_label("Name required").fill(name)
    page.get_by_label("Notes").fill("typed for an hour\nand longer")


def save(page: Page) -> None:
    page.get_by_role("button", name="Save", exact=True).click()


def made_by(site: Site, name: str) -> list[str]:
    """Who has made the VMs of that name."""
    made = select(AuditEvent.username).where(
        AuditEvent.action == "vm.create", AuditEvent.entity_name == name
    )
    with site.database.read() as session:
        return list(session.scalars(made))


def test_a_form_is_sent_after_signing_in_in_place(admin: Page, site: Site) -> None:
    open_form(admin, "kept-1")
    end_sessions(site)
    save(admin)
    expect(dialog_of(admin)).to_contain_text("You are not signed in any more.")
    expect(dialog_of(admin).get_by_label("User name")).to_have_value(PEOPLE["admin"])
    sign_in(admin, site)
    admin.wait_for_url("**/admin/vm/details/*")
    expect(admin.locator(".prose")).to_have_text("typed for an hour\nand longer")
    assert made_by(site, "kept-1") == [PEOPLE["admin"]]


def test_the_button_that_was_pressed_still_decides(admin: Page, site: Site) -> None:
    open_form(admin, "kept-2")
    end_sessions(site)
    admin.get_by_role("button", name="Save and keep editing").click()
    sign_in(admin, site)
    admin.wait_for_url("**/admin/vm/edit/*")


def test_a_wrong_password_is_told_in_the_dialog(admin: Page, site: Site) -> None:
    open_form(admin, "kept-3")
    end_sessions(site)
    save(admin)
    dialog = dialog_of(admin)
    dialog.get_by_label("Password", exact=True).fill("not the one")
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog.get_by_role("alert")).to_have_text(sessions.WRONG)
    sign_in(admin, site)
    admin.wait_for_url("**/admin/vm/details/*")


def test_who_cancels_keeps_what_was_typed_and_is_asked_again(admin: Page, site: Site) -> None:
    open_form(admin, "kept-4")
    end_sessions(site)
    save(admin)
    dialog_of(admin).get_by_role("button", name="Cancel").click()
    expect(dialog_of(admin)).to_be_hidden()
    expect(admin.get_by_label("Notes")).to_have_value("typed for an hour\nand longer")
    assert made_by(site, "kept-4") == []
    save(admin)
    expect(dialog_of(admin)).to_be_visible()
    admin.keyboard.press("Escape")
    expect(dialog_of(admin)).to_be_hidden()
    save(admin)
    sign_in(admin, site)
    admin.wait_for_url("**/admin/vm/details/*")


def test_a_sign_in_in_another_tab_does_as_well(admin: Page, site: Site) -> None:
    open_form(admin, "kept-5")
    end_sessions(site)
    save(admin)
    expect(dialog_of(admin)).to_be_visible()
    other = admin.context.new_page()
    other.goto("/admin/login")
    other.get_by_label("User name").fill(PEOPLE["admin"])
    other.get_by_label("Password").fill(site.password)
    other.get_by_role("button", name="Sign in").click()
    other.wait_for_url("**/admin/")
    back(admin)
    admin.wait_for_url("**/admin/vm/details/*")


def back(page: Page) -> None:
    """Come back to the tab. Without a window Chromium gives every tab the focus all the time."""
    page.bring_to_front()
    page.evaluate("window.dispatchEvent(new Event('focus'))")


def test_nothing_is_sent_as_somebody_else(admin: Page, site: Site) -> None:
    open_form(admin, "kept-6")
    other = admin.context.new_page()
    other.goto("/admin/")
    other.get_by_role("button", name="Sign out").click()
    other.get_by_label("User name").fill(PEOPLE["operator"])
    other.get_by_label("Password").fill(site.password)
    other.get_by_role("button", name="Sign in").click()
    other.wait_for_url("**/admin/")
    save(admin)
    expect(dialog_of(admin)).to_contain_text(f"In another tab {PEOPLE['operator']} has signed in.")
    assert made_by(site, "kept-6") == []
    sign_in(admin, site)
    admin.wait_for_url("**/admin/vm/details/*")
    assert made_by(site, "kept-6") == [PEOPLE["admin"]]


def test_what_has_to_be_done_first_is_told_before_anything_is_lost(
    at: Callable[..., Page], site: Site
) -> None:
    page = at("operator")
    open_form(page, "kept-7")
    changed(site, "operator", must_change_password=True)
    try:
        save(page)
        expect(dialog_of(page)).to_contain_text("Your account has to be set up first")
        with page.expect_popup() as opened:
            dialog_of(page).get_by_role("link", name="Open another tab").click()
        opened.value.wait_for_url("**/admin/complete-setup")
    finally:
        changed(site, "operator", must_change_password=False)
    back(page)
    page.wait_for_url("**/admin/vm/details/*")


def test_who_signs_in_over_the_provider_does_so_in_another_tab(
    at: Callable[..., Page], site: Site
) -> None:
    changed(site, "operator", sign_in_method="microsoft")
    try:
        page = at("operator")
        open_form(page, "kept-8")
        end_sessions(site, "operator")
        save(page)
        link = dialog_of(page).get_by_role("link", name="Sign in with your provider")
        expect(link).to_have_attribute("href", "/admin/microsoft?next=/admin/account/")
        expect(link).to_have_attribute("target", "_blank")
        expect(dialog_of(page).get_by_label("Password")).to_have_count(0)
        token, domain = site.session("operator"), "127.0.0.1"
        page.context.add_cookies(
            [{"name": PANEL_COOKIE, "value": token, "domain": domain, "path": "/admin"}]
        )
        back(page)
        page.wait_for_url("**/admin/vm/details/*")
    finally:
        changed(site, "operator", sign_in_method="local")


def test_a_request_of_the_page_is_repeated_after_signing_in(admin: Page, site: Site) -> None:
    open_form(admin, "kept-9")
    end_sessions(site)
    owner = admin.get_by_label("Owner")
    owner.press_sequentially("sn")
    sign_in(admin, site)
    expect(owner).to_be_focused()
    expect(admin.locator(".combo-list:not([hidden]) li").first).to_be_visible()
    expect(admin.get_by_label("Notes")).to_have_value("typed for an hour\nand longer")


def test_a_question_is_asked_once_and_again_if_nothing_came_of_it(admin: Page, site: Site) -> None:
    open_form(admin, "kept-10")
    save(admin)
    admin.wait_for_url("**/admin/vm/details/*")
    end_sessions(site)
    for give_up in (True, False):
        admin.get_by_role("button", name="Delete").click()
        admin.get_by_role("dialog").get_by_role("button", name="Move to trash").click()
        if give_up:
            dialog_of(admin).get_by_role("button", name="Cancel").click()
            expect(admin.get_by_role("dialog")).to_be_hidden()
    sign_in(admin, site)
    admin.wait_for_url("**/admin/vm/list")


def test_signing_out_asks_for_nothing(admin: Page, site: Site) -> None:
    admin.goto("/admin/")
    end_sessions(site)
    admin.get_by_role("button", name="Sign out").click()
    admin.wait_for_url("**/admin/login")


def test_without_a_script_the_typed_text_is_one_page_back(
    at: Callable[..., Page], site: Site
) -> None:
    page = at("admin", java_script_enabled=False)
    open_form(page, "kept-11")
    end_sessions(site)
    save(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in first")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Sign in in another tab").click()
    opened.value.get_by_label("User name").fill(PEOPLE["admin"])
    opened.value.get_by_label("Password").fill(site.password)
    opened.value.get_by_role("button", name="Sign in").click()
    opened.value.wait_for_url("**/admin/")
    page.go_back()
    expect(page.get_by_label("Notes")).to_have_value("typed for an hour\nand longer")
    save(page)
    page.wait_for_url("**/admin/vm/details/*")
    assert made_by(site, "kept-11") == [PEOPLE["admin"]]


# Your account


def test_people_find_their_account_behind_their_name(at: Callable[..., Page]) -> None:
    page = at("reader")
    page.goto("/admin/")
    page.get_by_role("link", name=PEOPLE["reader"]).click()
    page.wait_for_url("**/admin/account/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Your account")


def test_a_session_is_ended_from_the_page(at: Callable[..., Page], site: Site) -> None:
    end_sessions(site, "reader")
    page, other = at("reader"), at("reader")
    other.goto("/admin/")
    page.goto("/admin/account/")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_role("button", name="End the session of").click()
    expect(page.get_by_role("status").first).to_have_text("The session has ended.")
    expect(page.locator("tbody tr")).to_have_count(1)
    other.goto("/admin/")
    other.wait_for_url("**/admin/login?next=*")


def test_all_other_sessions_are_ended_after_a_question(at: Callable[..., Page], site: Site) -> None:
    end_sessions(site, "reader")
    page, others = at("reader"), [at("reader"), at("reader")]
    page.goto("/admin/account/")
    page.get_by_role("button", name="End all others").click()
    page.get_by_role("dialog").get_by_role("button", name="End them").click()
    expect(page.get_by_role("status").first).to_have_text("Your other sessions have ended.")
    expect(page.get_by_role("button", name="End all others")).to_have_count(0)
    for other in others:
        other.goto("/admin/")
        other.wait_for_url("**/admin/login?next=*")


def test_the_password_is_changed_from_the_page(at: Callable[..., Page], site: Site) -> None:
    page, other = at("auditor"), at("auditor")
    page.goto("/admin/account/")
    for present, new in (("not the one", NEW_PASSWORD), (site.password, NEW_PASSWORD)):
        page.get_by_label("Present password").fill(present)
        page.get_by_label("New password").fill(new)
        page.get_by_role("button", name="Change the password").click()
        if present != site.password:
            alert = page.get_by_role("alert")
            expect(alert).to_contain_text("Present password: is not your present password")
            expect(page.get_by_label("Present password")).to_have_value("")
    expect(page.get_by_role("status").first).to_contain_text("Your password is changed")
    other.goto("/admin/")
    other.wait_for_url("**/admin/login?next=*")
    other.get_by_label("User name").fill(PEOPLE["auditor"])
    other.get_by_label("Password").fill(NEW_PASSWORD)
    other.get_by_role("button", name="Sign in").click()
    other.wait_for_url("**/admin/")


@pytest.mark.parametrize("width", [1440, 1000, 390])
def test_the_account_fits_the_screen(at: Callable[..., Page], width: int) -> None:
    page = at("admin", viewport={"width": width, "height": 900})
    page.goto("/admin/account/")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    table = page.locator(".account-sessions .table-box")
    assert table.evaluate("box => box.scrollWidth <= box.clientWidth")
