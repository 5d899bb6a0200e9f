"""Who knows which passwords, and the alerts, in a browser."""

import csv
import io
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import delete

from tests.browser.conftest import KEY, PEOPLE, Site
from vmtrak import alerts, credentials, inventory
from vmtrak.access import SYSTEM, Actor, Role
from vmtrak.accounts import NewUser, actors, users
from vmtrak.alerts import Alert
from vmtrak.credentials import CredentialPatch, NewCredential, RevealRequest, Rules, Vault, Which
from vmtrak.db import Work
from vmtrak.inventory import NewVM
from vmtrak.sealing import KeyRing

VAULT = Vault(KeyRing([("browser", KEY)]), Rules(per_hour=1_000))
WIDTHS = (1440, 390)
MARK = "Mark all for rotation"


class Leaver:
    """Somebody who knows three passwords, one of them of a VM in the trash, one marked already."""

    def __init__(self, site: Site, name: str) -> None:
        self.name = name
        with site.database.work(SYSTEM) as work:
            made = NewUser.model_validate(
                {"username": name, "email": f"{name}@vmtrak.example", "role": Role.READWRITE}
            )
            self.number = users.add(work, made).id
            self.numbers = [self._learns(work, n) for n in range(3)]
            patch = CredentialPatch(rotation_marked=True)
            credentials.change(work, VAULT, Which(self.numbers[0]), patch)
        with site.database.work(SYSTEM) as work:
            inventory.remove(work, inventory.named(work, f"{name}-2").id)

    def _learns(self, work: Work, n: int) -> int:
        vm = inventory.add(work, NewVM(vm_name=f"{self.name}-{n}"))
        account = NewCredential.model_validate(
            {"username": "a-service-account-with-a-long-name", "password": "known to who leaves"}
        )
        work.actor = self._actor(work)
        number = credentials.add(work, VAULT, vm.id, account).id
        work.flush()
        credentials.reveal(work, VAULT, Which(number), RevealRequest())
        work.actor = SYSTEM
        return number

    def _actor(self, work: Work) -> Actor:
        user = users.named(work.session, self.name)
        assert user is not None
        return actors.actor_of(user, actors.visitor("127.0.0.1", None))

    @property
    def page(self) -> str:
        return f"/admin/user/details/{self.number}"


_numbers = count(1)


@pytest.fixture
def leaver(site: Site) -> Leaver:
    return Leaver(site, f"leaver-{next(_numbers)}")


@pytest.fixture
def noticed(site: Site) -> Iterator[str]:
    """The text of a notice that nobody has read; no other is unread."""
    text = "A person whose name is <b>odd</b> has reached a limit."
    with site.database.work(SYSTEM) as work:
        alerts.read_all(work)
        alerts.post(work, kind="test", key="browser", text=text, address="/admin/user/list")
    yield text
    with site.database.work(SYSTEM) as work:
        work.session.execute(delete(Alert).where(Alert.key == "browser"))


def test_who_leaves_is_closed_and_what_they_know_is_marked(
    admin: Page, site: Site, leaver: Leaver
) -> None:
    admin.goto(leaver.page)
    admin.get_by_role("button", name="Deactivate").click()
    dialog = admin.get_by_role("dialog")
    expect(dialog).to_contain_text("3 present passwords are known to this account")
    dialog.get_by_role("button", name="Deactivate").click()
    admin.get_by_role("link", name="See which passwords they know").click()
    expect(admin.get_by_role("heading", level=1)).to_contain_text(leaver.name)
    rows = admin.locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(2)).to_contain_text("in the trash")
    expect(rows.nth(0)).to_contain_text("set it, revealed")
    expect(admin.locator("tbody").get_by_text("marked", exact=True)).to_have_count(1)
    admin.get_by_role("button", name=MARK).click()
    expect(dialog).to_contain_text("Mark 2 passwords for rotation?")
    dialog.get_by_role("button", name="Cancel").click()
    expect(admin.locator("tbody").get_by_text("marked", exact=True)).to_have_count(1)
    admin.get_by_role("button", name=MARK).click()
    dialog.get_by_role("button", name="Mark for rotation").click()
    expect(admin.get_by_role("status").first).to_contain_text("Marked for rotation")
    expect(admin.locator("tbody").get_by_text("marked", exact=True)).to_have_count(3)
    expect(admin.get_by_role("button", name=MARK)).to_have_count(0)
    with site.database.read() as session:
        marked = credentials.find(session, SYSTEM, VAULT.rules, Which(leaver.numbers[1]))
    assert marked["rotation_marked"]


def test_the_file_is_named_for_the_person(admin: Page, leaver: Leaver, tmp_path: Path) -> None:
    admin.goto(f"/admin/user/seen/{leaver.number}")
    with admin.expect_download() as waiting:
        admin.get_by_role("link", name="Download CSV").click()
    assert waiting.value.suggested_filename == f"passwords-known-by-{leaver.name}.csv"
    file = tmp_path / "known.csv"
    waiting.value.save_as(file)
    rows = list(csv.DictReader(io.StringIO(file.read_text("utf-8-sig"), newline="")))
    assert [row["vm_name"] for row in rows] == [f"{leaver.name}-{n}" for n in range(3)]


def test_a_credentials_page_tells_who_knows_it_and_leads_to_what_else_they_know(
    admin: Page, leaver: Leaver
) -> None:
    admin.goto(f"/admin/credential/details/{leaver.numbers[1]}")
    card = admin.locator("section", has=admin.get_by_role("heading", name="Who knows"))
    expect(card.locator("tbody tr")).to_have_count(1)
    with admin.expect_download() as waiting:
        card.get_by_role("link", name="Download CSV").click()
    assert waiting.value.suggested_filename.startswith(f"who-knows-{leaver.name}-1-")
    card.get_by_role("link", name=leaver.name).click()
    expect(admin.get_by_role("heading", level=1)).to_contain_text("Passwords known to")


def test_marking_works_without_scripts(at: Callable[..., Page], leaver: Leaver) -> None:
    page = at("admin", java_script_enabled=False)
    page.goto(f"/admin/user/seen/{leaver.number}")
    page.get_by_role("button", name=MARK).click()
    expect(page.locator("tbody").get_by_text("marked", exact=True)).to_have_count(3)


def test_an_alert_stands_on_the_dashboard_until_it_is_read(admin: Page, noticed: str) -> None:
    admin.goto("/admin/")
    expect(admin.get_by_role("link", name=noticed)).to_be_visible()
    menu = admin.get_by_role("navigation", name="Main").get_by_role("link", name="Alerts")
    expect(menu).to_have_accessible_name("Alerts 1 unread")
    menu.click()
    expect(admin.locator("tbody tr").first).to_contain_text(noticed)
    admin.get_by_role("button", name=f"Mark as read: {noticed}").click()
    expect(admin.get_by_role("status").first).to_contain_text("Marked as read")
    expect(admin.locator("tbody tr").first).to_contain_text(PEOPLE["admin"])
    expect(menu).to_have_accessible_name("Alerts")
    admin.goto("/admin/")
    expect(admin.get_by_role("link", name=noticed)).to_have_count(0)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_its_screen(
    width: int, scheme: str, at: Callable[..., Page], leaver: Leaver, noticed: str
) -> None:
    page = at("admin", viewport={"width": width, "height": 900}, color_scheme=scheme)
    credential = f"/admin/credential/details/{leaver.numbers[1]}"
    report = f"/admin/user/seen/{leaver.number}"
    for path in (report, "/admin/alert/list", "/admin/", credential, leaver.page):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
