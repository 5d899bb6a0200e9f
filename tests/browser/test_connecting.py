"""RDP files in a browser: a button for each account, again and again, and a page that stays."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import func, select, update

from tests.browser.conftest import Site
from tests.conftest import CANARY
from vmtrak import credentials, inventory
from vmtrak.access import SYSTEM
from vmtrak.accounts import SignedIn
from vmtrak.audit import AuditEvent
from vmtrak.credentials import NewCredential
from vmtrak.db import now
from vmtrak.inventory import NewVM

FIRST, SECOND = "CORP\\jörg", "Zweite & Söhne"


@pytest.fixture(scope="module")
def vm(site: Site) -> int:
    fields = {"vm_name": "desk-77", "ip_address": "192.0.2.10", "os_type": "Windows"}
    with site.database.work(SYSTEM) as work:
        number = inventory.add(work, NewVM.model_validate(fields)).id
        for name in (FIRST, SECOND):
            account = {"username": name, "password": f"{CANARY}x"}
            new = NewCredential.model_validate(account)
            credentials.add(work, site.state.vault, number, new)
    return number


def downloads(site: Site) -> int:
    counted = select(func.count()).where(AuditEvent.action == "rdp.download")
    with site.database.read() as session:
        return session.scalar(counted) or 0


def button(page: Page, user: str) -> Locator:
    return page.get_by_role("button", name=f"RDP file for {user}", exact=True)


def file_of(page: Page, user: str, folder: Path) -> str:
    """Press the button and read the file that comes."""
    with page.expect_download() as waiting:
        button(page, user).click()
    assert waiting.value.suggested_filename == "desk-77.rdp"
    waiting.value.save_as(folder / "desk-77.rdp")
    return (folder / "desk-77.rdp").read_text("utf-16")


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_every_press_of_a_button_gives_a_file_and_the_page_stays(
    at: Callable[..., Page], site: Site, vm: int, tmp_path: Path, *, script: bool
) -> None:
    page = at("operator", java_script_enabled=script)
    page.goto(f"/admin/vm/details/{vm}")
    before = downloads(site)
    for user in (FIRST, FIRST, SECOND, FIRST):
        assert f"username:s:{user}\n" in file_of(page, user, tmp_path)
    assert downloads(site) == before + 4
    assert page.url == f"{site.base_url}/admin/vm/details/{vm}"
    page.get_by_role("link", name="Duplicate").click()
    expect(page.get_by_label("Name required")).to_be_visible()


def test_a_file_comes_after_signing_in_in_place(
    at: Callable[..., Page], site: Site, vm: int, tmp_path: Path
) -> None:
    page = at("operator")
    page.goto(f"/admin/vm/details/{vm}")
    expect(page.locator(".reach-words").first).to_be_visible()
    before = downloads(site)
    with site.database.work(SYSTEM) as work:
        work.session.execute(update(SignedIn).values(ended_at=now()))
    button(page, SECOND).click()
    dialog = page.get_by_role("dialog", name="Sign in to go on")
    dialog.get_by_label("Password", exact=True).fill(site.password)
    with page.expect_download() as waiting:
        dialog.get_by_role("button", name="Sign in").click()
    waiting.value.save_as(tmp_path / "desk-77.rdp")
    assert f"username:s:{SECOND}\n" in (tmp_path / "desk-77.rdp").read_text("utf-16")
    assert f"username:s:{FIRST}\n" in file_of(page, FIRST, tmp_path)
    assert downloads(site) == before + 2
