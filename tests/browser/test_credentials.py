"""Passwords of accounts on VMs in a browser: shown for a while, copied, and then nowhere."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from playwright.sync_api import Locator, Page, Route, expect
from sqlalchemy import delete, select, update

from tests.browser.conftest import Site
from tests.conftest import CANARY
from vmtrak import credentials, inventory
from vmtrak.access import SYSTEM
from vmtrak.accounts import SignedIn
from vmtrak.audit import AuditEvent
from vmtrak.credentials import CredentialPatch, CredentialReveal, NewCredential, Rules, Which
from vmtrak.db import now
from vmtrak.inventory import NewVM

FIRST = f"{CANARY}l1I0O "
PASSWORDS = {"root": f"{CANARY}<b>&amp;</b> l1I0O §", "backup": f"{CANARY}0Ol1"}

CLIPBOARD = ["clipboard-read", "clipboard-write"]

Settings = Callable[[Rules], None]


@pytest.fixture(scope="module")
def vm(site: Site) -> int:
    """A production VM with two accounts, the first of which has an earlier password."""
    vault = site.state.vault
    with site.database.work(SYSTEM) as work:
        fields = {"vm_name": "canary-01", "environment": "production"}
        number = inventory.add(work, NewVM.model_validate(fields)).id
        for name, password in {**PASSWORDS, "root": FIRST}.items():
            new = NewCredential.model_validate({"username": name, "password": password})
            credentials.add(work, vault, number, new)
    with site.database.work(SYSTEM) as work:
        rows = credentials.of_vm(work.session, SYSTEM, vault.rules, number)
        patch = CredentialPatch.model_validate({"password": PASSWORDS["root"]})
        [root] = [row["id"] for row in rows if row["username"] == "root"]
        credentials.change(work, vault, Which(root), patch)
    return int(number)


@pytest.fixture
def ruled(site: Site) -> Iterator[Settings]:
    """Lay down other rules, as the settings would."""
    state, usual = site.state, site.state.vault

    def lay_down(rules: Rules) -> None:
        object.__setattr__(state, "vault", replace(usual, rules=rules))

    yield lay_down
    object.__setattr__(state, "vault", usual)


@pytest.fixture
def page(at: Callable[..., Page], vm: int) -> Page:
    """An operator before the VM, in whose browser only the test lets time pass."""
    page = at("operator", permissions=CLIPBOARD, viewport={"width": 1440, "height": 900})
    page.clock.install()
    page.goto(f"/admin/vm/details/{vm}")
    page.clock.pause_at(now() + timedelta(hours=1))
    return page


def line(page: Page, name: str = "root") -> Locator:
    return page.locator(f"[data-name='the password of {name}']")


def press(page: Page, word: str, name: str = "root") -> None:
    page.get_by_role("button", name=f"{word} the password of {name}", exact=True).click()


def shown(page: Page) -> Locator:
    return page.locator(".password")


def clipboard(page: Page) -> str:
    return str(page.evaluate("navigator.clipboard.readText()"))


def events(site: Site) -> list[tuple[str, str | None]]:
    """What the trail tells of reveals on the VM of these tests: action and reason."""
    with site.database.read() as session:
        chosen = select(AuditEvent.action, AuditEvent.detail).order_by(AuditEvent.id)
        rows = session.execute(
            chosen.where(
                AuditEvent.entity_name == "canary-01", AuditEvent.action.contains("reveal")
            )
        )
        return [(action, (detail or {}).get("reason")) for action, detail in rows]


def no_sideways_scrolling(page: Page) -> bool:
    return bool(
        page.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
    )


def test_a_password_is_shown_for_thirty_seconds(page: Page, site: Site) -> None:
    before = len(events(site))
    page.get_by_label("Reason, kept in the audit trail").fill("ticket 4711")
    press(page, "Reveal")
    expect(shown(page)).to_have_text(PASSWORDS["root"])
    assert shown(page).text_content() == PASSWORDS["root"]
    expect(line(page)).to_contain_text("Hides in 30 s")
    expect(page.get_by_role("button", name="Hide the password of root")).to_be_focused()
    page.clock.run_for(12_000)
    expect(line(page)).to_contain_text("Hides in 18 s")
    assert line(page).locator("progress").evaluate("each => each.value") == 18
    page.clock.run_for(18_000)
    expect(shown(page)).to_have_count(0)
    expect(line(page)).not_to_contain_text("Hides in")
    expect(page.get_by_role("button", name="Reveal the password of root")).to_be_focused()
    assert events(site)[before:] == [("credential.reveal", "ticket 4711")]


def test_it_is_told_to_screen_readers_that_it_is_shown_but_not_what(page: Page) -> None:
    press(page, "Reveal")
    announced = page.locator("#announce")
    expect(announced).to_have_text("Shown for 30 seconds: the password of root")
    expect(page.get_by_role("group", name="the password of root")).to_be_visible()
    assert (
        shown(page).evaluate("each => each.closest('[aria-live], [role=status], [role=alert]')")
        is None
    )
    press(page, "Hide")
    expect(announced).to_have_text("Hidden again: the password of root")


def test_letters_digits_signs_and_blanks_are_told_apart_and_chosen_whole(page: Page) -> None:
    press(page, "Reveal")
    expect(shown(page)).to_be_visible()
    parts = shown(page).locator("span")
    kinds = parts.evaluate_all("all => all.map((each) => [each.className, each.textContent])")
    assert ["digits", "1"] in kinds
    assert ["digits", "0"] in kinds
    assert ["blanks", " "] in kinds
    assert ["signs", "-<"] in kinds
    assert "".join(text for _, text in kinds) == PASSWORDS["root"]
    style = "getComputedStyle(document.querySelector('.password'))"
    assert "mono" in page.evaluate(f"{style}.fontFamily").lower()
    assert page.evaluate(f"[{style}.userSelect, {style}.whiteSpace]") == ["all", "pre-wrap"]
    shown(page).click()
    assert page.evaluate("getSelection().toString()") == PASSWORDS["root"]


def test_of_two_one_is_shown(page: Page) -> None:
    press(page, "Reveal", "root")
    expect(shown(page)).to_have_text(PASSWORDS["root"])
    press(page, "Reveal", "backup")
    expect(shown(page)).to_have_text(PASSWORDS["backup"])
    expect(line(page, "root").locator(".password")).to_have_count(0)


def test_the_keyboard_is_enough(page: Page) -> None:
    page.get_by_label("Reason, kept in the audit trail").focus()
    reveal = page.get_by_role("button", name="Reveal the password of backup")
    for _ in range(30):
        if reveal.evaluate("each => each === document.activeElement"):
            break
        page.keyboard.press("Tab")
    expect(reveal).to_be_focused()
    page.keyboard.press("Enter")
    expect(shown(page)).to_have_text(PASSWORDS["backup"])
    page.keyboard.press("Shift+Tab")
    expect(shown(page)).to_be_focused()
    page.keyboard.press("Escape")
    expect(shown(page)).to_have_count(0)
    expect(reveal).to_be_focused()
    page.keyboard.press("Space")
    expect(shown(page)).to_be_visible()
    page.keyboard.press("Space")
    expect(shown(page)).to_have_count(0)
    expect(reveal).to_be_focused()


def test_copying_shows_nothing_and_the_clipboard_is_cleared(page: Page, site: Site) -> None:
    before = len(events(site))
    press(page, "Copy")
    expect(line(page)).to_contain_text("Copied, not shown. The clipboard is cleared in 30 s")
    assert clipboard(page) == PASSWORDS["root"]
    expect(shown(page)).to_have_count(0)
    assert len(events(site)) == before + 1
    page.clock.run_for(29_000)
    expect(line(page)).to_contain_text("cleared in 1 s")
    assert clipboard(page) == PASSWORDS["root"]
    page.clock.run_for(1_000)
    expect(line(page)).to_contain_text("The clipboard is cleared.")
    assert clipboard(page) == ""
    expect(page.get_by_role("button", name="Copy the password of root")).to_be_focused()


def test_what_was_copied_since_is_left_alone(page: Page) -> None:
    press(page, "Copy")
    expect(line(page)).to_contain_text("Copied, not shown.")
    page.get_by_role("button", name="Copy the account name").first.click()
    expect(line(page)).not_to_contain_text("Copied, not shown.")
    page.clock.run_for(31_000)
    assert clipboard(page) == "root"


def test_a_page_that_is_not_in_front_says_that_it_cannot_clear(page: Page) -> None:
    press(page, "Copy")
    expect(line(page)).to_contain_text("Copied, not shown.")
    page.evaluate("document.hasFocus = () => false")
    page.clock.run_for(30_000)
    expect(line(page)).to_contain_text("The clipboard may still hold the password")
    assert clipboard(page) == PASSWORDS["root"]
    line(page).get_by_role("button", name="Clear it").click()
    expect(line(page)).to_contain_text("The clipboard is cleared.")
    assert clipboard(page) == ""


def test_where_copying_is_not_to_be_had_the_password_is_shown_chosen(page: Page, vm: int) -> None:
    page.add_init_script("delete Navigator.prototype.clipboard")
    page.goto(f"/admin/vm/details/{vm}")
    press(page, "Copy")
    expect(line(page)).to_contain_text("Over plain HTTP a page may not copy.")
    expect(shown(page)).to_be_focused()
    assert page.evaluate("getSelection().toString()") == PASSWORDS["root"]
    page.clock.run_for(30_000)
    expect(shown(page)).to_have_count(0)
    expect(page.get_by_role("button", name="Reveal the password of root")).to_be_focused()


def test_a_browser_that_refuses_to_copy_shows_it_chosen(page: Page) -> None:
    page.evaluate("() => { Clipboard.prototype.write = () => Promise.reject(new Error('no')); }")
    press(page, "Copy")
    expect(line(page)).to_contain_text("The browser did not let VMTrak copy.")
    assert page.evaluate("getSelection().toString()") == PASSWORDS["root"]


@pytest.mark.parametrize("happening", ["pagehide", "visibilitychange"])
def test_it_hides_as_soon_as_nobody_looks(page: Page, happening: str) -> None:
    press(page, "Reveal")
    expect(shown(page)).to_be_visible()
    page.evaluate(
        """happening => {
          if (happening === "pagehide") {
            window.dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true }));
          } else {
            Object.defineProperty(document, "hidden", { value: true, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
          }
        }""",
        happening,
    )
    expect(shown(page)).to_have_count(0)


def test_an_answer_that_comes_when_nobody_looks_is_not_shown(page: Page) -> None:
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true })")
    press(page, "Reveal")
    expect(line(page).get_by_role("alert")).to_contain_text("revealed, but not shown")
    expect(shown(page)).to_have_count(0)


def test_nothing_of_it_stays_behind(page: Page, vm: int) -> None:
    address = page.url
    press(page, "Reveal")
    expect(shown(page)).to_have_text(PASSWORDS["root"])
    assert page.url == address
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Hypervisors").click()
    page.wait_for_url("**/admin/hypervisor/list")
    page.go_back()
    page.wait_for_url(f"**/admin/vm/details/{vm}")
    expect(page.get_by_role("button", name="Reveal the password of root")).to_be_visible()
    kept = page.evaluate(
        """() => JSON.stringify([
          document.documentElement.outerHTML,
          [...document.querySelectorAll("input, textarea")].map((each) => each.value),
          history.state, { ...sessionStorage }, { ...localStorage },
          performance.getEntries().map((each) => each.name),
        ])"""
    )
    assert CANARY not in kept
    assert CANARY not in page.request.get(page.url).text()


def test_a_reason_that_is_required_is_asked_for_at_its_field(
    page: Page, vm: int, ruled: Settings, site: Site
) -> None:
    ruled(Rules(reason="production"))
    before = len(events(site))
    press(page, "Reveal")  # the page was opened before the rule
    reason = page.get_by_label("Reason, kept in the audit trail")
    expect(reason).to_be_focused()
    expect(reason).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("alert").first).to_have_text("The reason is required")
    page.goto(f"/admin/vm/details/{vm}")
    press(page, "Copy")
    expect(reason).to_be_focused()
    expect(page.get_by_role("alert").first).to_have_text("Say why first")
    assert len(events(site)) == before
    page.keyboard.type("ticket 12")
    expect(reason).not_to_have_attribute("aria-invalid", "true")
    press(page, "Reveal")
    expect(shown(page)).to_be_visible()
    assert events(site)[before:] == [("credential.reveal", "ticket 12")]


def test_a_proof_is_asked_for_in_place_and_then_it_is_shown(
    page: Page, ruled: Settings, site: Site
) -> None:
    ruled(Rules(step_up="all"))
    with site.database.work(SYSTEM) as work:
        work.session.execute(update(SignedIn).values(proved_at=now() - timedelta(minutes=11)))
    press(page, "Reveal")
    dialog = page.get_by_role("dialog", name="Prove that it is you")
    dialog.get_by_role("button", name="Cancel").click()
    expect(line(page).get_by_role("alert")).to_contain_text("Nothing was revealed")
    press(page, "Reveal")
    dialog.get_by_label("Password", exact=True).fill(site.password)
    dialog.get_by_role("button", name="Go on").click()
    expect(shown(page)).to_have_text(PASSWORDS["root"])
    expect(line(page).get_by_role("alert")).to_be_hidden()
    expect(page.get_by_role("button", name="Hide the password of root")).to_be_focused()


def test_copying_asks_for_the_proof_as_well(page: Page, ruled: Settings, site: Site) -> None:
    ruled(Rules(step_up="all"))
    with site.database.work(SYSTEM) as work:
        work.session.execute(update(SignedIn).values(proved_at=now() - timedelta(minutes=11)))
    press(page, "Copy")
    dialog = page.get_by_role("dialog", name="Prove that it is you")
    dialog.get_by_label("Password", exact=True).fill(site.password)
    dialog.get_by_role("button", name="Go on").click()
    expect(line(page)).to_contain_text("Copied, not shown.")
    assert clipboard(page) == PASSWORDS["root"]


def test_a_session_that_has_ended_is_begun_again_in_place(page: Page, site: Site) -> None:
    with site.database.work(SYSTEM) as work:
        work.session.execute(update(SignedIn).values(ended_at=now()))
    page.get_by_label("Reason, kept in the audit trail").fill("kept")
    press(page, "Reveal")
    dialog = page.get_by_role("dialog", name="Sign in to go on")
    dialog.get_by_label("Password", exact=True).fill(site.password)
    dialog.get_by_role("button", name="Sign in").click()
    expect(shown(page)).to_have_text(PASSWORDS["root"])
    assert events(site)[-1] == ("credential.reveal", "kept")


def test_at_the_limit_the_card_says_when_the_next_is_possible(
    page: Page, ruled: Settings, site: Site
) -> None:
    with site.database.work(SYSTEM) as work:
        work.session.execute(delete(CredentialReveal))
    ruled(Rules(per_hour=1))
    press(page, "Reveal")
    press(page, "Reveal", "backup")
    alert = line(page, "backup").get_by_role("alert")
    expect(alert).to_contain_text("You have revealed 1 passwords within the hour")
    expect(alert).to_have_text(re.compile(r"The next is possible at \d\d:\d\d\.$"))
    expect(shown(page)).to_have_count(0)
    press(page, "Copy", "backup")
    expect(alert).to_contain_text("The next is possible")
    assert clipboard(page) != PASSWORDS["backup"]


@pytest.mark.parametrize(
    ("status", "detail", "said"),
    [
        (403, "Your role does not allow this.", "Your role does not allow this."),
        (403, "setup_required", "Your account has to be set up first"),
        (404, "There is no such entry.", "It is no longer there"),
        (503, "This password was damaged where it is kept.", "This password was damaged"),
        (500, "", "VMTrak does not answer"),
    ],
)
def test_a_refusal_is_put_in_words_at_its_account(
    page: Page, status: int, detail: str, said: str
) -> None:
    def refuse(route: Route) -> None:
        kind = "application/problem+json"
        route.fulfill(status=status, content_type=kind, body=json.dumps({"detail": detail}))

    # 500 and 503 would be remarked on in the console, which has to stay empty.
    if status >= 500:
        page.evaluate(
            """([status, body]) => {
              window.fetch = () => Promise.resolve(new Response(body, { status }));
            }""",
            [status, json.dumps({"detail": detail})],
        )
    page.route("**/admin/credential/reveal/**", refuse)
    press(page, "Reveal")
    expect(line(page).get_by_role("alert")).to_contain_text(said)
    expect(page.get_by_role("button", name="Reveal the password of root")).to_be_focused()


def test_a_server_that_is_away_is_said_to_be(page: Page) -> None:
    page.evaluate("() => { window.fetch = () => Promise.reject(new TypeError('no')); }")
    for word in ("Reveal", "Copy"):
        press(page, word)
        expect(line(page).get_by_role("alert")).to_contain_text("VMTrak does not answer")
    expect(shown(page)).to_have_count(0)


def test_without_a_script_the_card_says_what_is_missing(at: Callable[..., Page], vm: int) -> None:
    page = at("operator", java_script_enabled=False)
    page.goto(f"/admin/vm/details/{vm}")
    expect(page.get_by_text("needs JavaScript")).to_be_visible()
    expect(page.locator("[data-show]").first).to_be_hidden()


def test_an_earlier_password_has_a_reveal_of_its_own(page: Page, site: Site) -> None:
    page.locator("#credentials").get_by_role("link", name="root", exact=True).click()
    page.get_by_role("button", name="Reveal the password no. 1 of root").click()
    assert shown(page).text_content() == FIRST
    assert events(site)[-1][0] == "credential.reveal_earlier"
    page.reload()
    expect(page.locator(".history")).to_contain_text("revealed an earlier password")


def test_a_new_account_with_a_made_up_password(page: Page, vm: int) -> None:
    page.get_by_role("link", name="Add an account").click()
    expect(page.locator("#f-vm")).to_have_value("canary-01")
    field = page.locator("#f-password")
    seen, made = set(), ""
    for _ in range(5):
        page.get_by_role("button", name="Generate").click()
        expect(field).to_have_attribute("type", "text")
        made = field.input_value()
        assert re.fullmatch(r"[a-km-zA-HJ-NP-Z2-9\-_.+:=@,]{20}", made)
        assert all(re.search(kind, made) for kind in (r"[a-z]", r"[A-Z]", r"\d", r"[^\w]|_"))
        seen.add(made)
    assert len(seen) == 5
    page.get_by_role("button", name="Hide", exact=True).click()
    expect(field).to_have_attribute("type", "password")
    expect(field).to_have_attribute("autocomplete", "new-password")
    page.get_by_label("Account name").fill("generated")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url(f"**/admin/vm/details/{vm}#credentials")
    press(page, "Reveal", "generated")
    expect(shown(page)).to_have_text(made)
    page.go_back()
    expect(field).to_have_value("")


def test_no_character_is_likelier_than_another(page: Page) -> None:
    page.get_by_role("link", name="Add an account").click()
    # 195 is the last whole multiple of 65: from there on a byte says nothing.
    drawn = [255, 0, 195, 25, 200, 49, 57, 194, *range(1, 16)]
    page.evaluate(
        """bytes => {
          crypto.getRandomValues = (array) => {
            array[0] = bytes.shift();
            return array;
          };
        }""",
        drawn,
    )
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#f-password")).to_have_value("aA2-,bcdefghijkmnopq")


def test_what_was_typed_is_gone_after_leaving_the_form(page: Page, vm: int) -> None:
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"/admin/credential/create?vm={vm}")
    field = page.locator("#f-password")
    field.fill(f"{CANARY}typed")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(field).to_have_attribute("autocomplete", "off")
    page.goto("/admin/hypervisor/list")
    page.go_back()
    expect(field).to_have_value("")
    expect(field).to_have_attribute("type", "password")


def test_moving_vms_to_the_trash_says_what_becomes_of_their_credentials(
    page: Page, site: Site
) -> None:
    page.goto("/admin/vm/list?search=canary-01")
    page.get_by_label("Choose canary-01").check()
    page.get_by_role("button", name="Move to trash").click()
    expect(page.get_by_role("dialog")).to_contain_text(
        re.compile(r"Their \d credentials stay sealed with them and come back with them\.")
    )
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    page.get_by_label("Choose canary-01").uncheck()
    assert "credential" not in str(page.locator("#bulk").get_attribute("data-confirm"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_the_pages_fit(at: Callable[..., Page], vm: int, width: int, scheme: str) -> None:
    page = at("operator", viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto("/admin/credential/list")
    assert no_sideways_scrolling(page)
    page.goto(f"/admin/vm/details/{vm}")
    assert no_sideways_scrolling(page)
    press(page, "Reveal")
    expect(shown(page)).to_be_visible()
    assert no_sideways_scrolling(page)
    page.locator("#credentials").get_by_role("link", name="root", exact=True).click()
    expect(page.get_by_role("heading", name="Password", exact=True)).to_be_visible()
    assert no_sideways_scrolling(page)
    page.get_by_role("link", name="Edit", exact=True).click()
    expect(page.get_by_role("button", name="Generate")).to_be_visible()
    assert no_sideways_scrolling(page)
