"""Expiry notices in a browser: what is due, sent, failed, sent again; on the pages of others."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta

import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import delete, select

from tests.browser.conftest import PEOPLE, Site
from vmtrak import inventory
from vmtrak.access import SYSTEM
from vmtrak.accounts import UserPatch, users
from vmtrak.admin import notices as panel
from vmtrak.channels import Channel, Delayed, Parcel, Refused
from vmtrak.inventory import NewVM
from vmtrak.notices import Message, NoticeRun, NotificationLog, Trigger, planning

LIST = "/admin/notice/list"
UNKNOWN = "550 5.1.1 <bob@elsewhere.example>: User unknown <script>alert(1)</script>"
BOB = "bob@elsewhere.example"


@dataclass
class Post:
    """Takes what is sent over any channel, but for the addresses that it has something against."""

    against: dict[str | None, Exception] = field(default_factory=dict)
    parcels: list[Parcel] = field(default_factory=list)

    def send(self, parcel: Parcel) -> str:
        if parcel.address in self.against:
            raise self.against[parcel.address]
        self.parcels.append(parcel)
        return "250 2.0.0 Ok: queued"

    def close(self) -> None:
        """There is no connection."""


def forget(site: Site) -> None:
    with site.database.work(SYSTEM) as work:
        for model in (NotificationLog, Message, NoticeRun):
            work.session.execute(delete(model))


def plan(site: Site) -> None:
    """Run the notices of today as if its hour had passed."""
    rules, today = site.state.delivery.rules, site.state.today()
    run = planning.run_now(site.database, rules, SYSTEM, today, Trigger.SCHEDULE)
    with site.database.work(SYSTEM) as work:
        work.session.get_one(NoticeRun, run.run_id).scheduled_for = today


def deliver(site: Site) -> None:
    site.state.delivery.run(threading.Event())


@pytest.fixture
def quiet(site: Site) -> Iterator[Site]:
    """Nobody has been told of anything, and no channel is on."""
    forget(site)
    yield site
    site.state.delivery.rules.senders.clear()
    forget(site)


@pytest.fixture
def post(quiet: Site) -> Post:
    """Mail and Slack are on, and bring everything to this post."""
    post = Post()
    senders = quiet.state.delivery.rules.senders
    senders[Channel.MAIL] = senders[Channel.SLACK] = lambda: post
    return post


@pytest.fixture(scope="module")
def bobs(site: Site) -> int:
    """A VM that expires tomorrow, of an owner without an account."""
    expiry = site.state.today() + timedelta(days=1)
    with site.database.work(SYSTEM) as work:
        new = NewVM(vm_name="bobs-box", owner=BOB, expiry_date=expiry)
        return inventory.add(work, new).id


@pytest.fixture
def failed(post: Post, quiet: Site, bobs: int) -> int:
    """The number of the message to Bob, which his server has refused."""
    assert bobs
    post.against[BOB] = Refused(UNKNOWN)
    plan(quiet)
    deliver(quiet)
    return number(quiet, BOB)


def number(site: Site, address: str) -> int:
    with site.database.read() as session:
        return session.scalars(select(Message.id).where(Message.address == address)).one()


def row(page: Page, name: str) -> Locator:
    return page.locator("tbody tr").filter(has=page.get_by_role("rowheader", name=name))


def press(page: Page, name: str, within: Locator | None = None) -> None:
    (within or page).get_by_role("button", name=name).click()


def tab(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Notices by state").get_by_role("link", name=name).click()


@pytest.mark.usefixtures("bobs")
def test_what_is_due_is_shown_and_a_run_sends_it(admin: Page, quiet: Site, post: Post) -> None:
    admin.goto("/admin/")
    admin.get_by_role("link", name="Notices", exact=True).click()
    expect(admin.locator(".empty h2")).to_have_text("No notices yet")
    tab(admin, "Due now")
    expect(row(admin, BOB)).to_contain_text("bobs-box")
    expect(row(admin, "Slack")).to_contain_text("more")
    due = admin.locator("tbody tr").count()
    press(admin, "Run the notices now")
    press(admin, "Run now", admin.get_by_role("dialog"))
    expect(admin.locator("main .notice.success")).to_contain_text("Today's notices are planned")
    expect(admin.locator("tbody tr .badge")).to_have_text(["sent"] * due)
    expect(admin.locator(".runs")).to_contain_text(f"by {PEOPLE['admin']}: {due} messages about")
    assert len(post.parcels) == due
    tab(admin, "Due now")
    expect(admin.locator(".empty h2")).to_have_text("Nothing is due")
    press(admin, "Run the notices now")
    press(admin, "Run now", admin.get_by_role("dialog"))
    expect(admin.locator("main .notice.success")).to_contain_text("nothing new to tell")
    assert len(post.parcels) == due
    assert quiet.state.delivery.rules.mail_is_on


def test_a_message_that_failed_is_sent_again(admin: Page, post: Post, failed: int) -> None:
    admin.goto("/admin/")
    admin.get_by_role("link", name="1 failed").click()
    expect(admin.locator("tbody tr")).to_have_count(1)
    expect(row(admin, BOB)).to_contain_text(UNKNOWN)
    admin.get_by_role("link", name=BOB).click()
    expect(admin.locator(".summary .badge")).to_have_text("failed")
    expect(admin.locator("main .notice.error")).to_contain_text(UNKNOWN)
    expect(admin.get_by_role("link", name="bobs-box")).to_be_visible()
    press(admin, "Send again")
    expect(admin.locator("main .notice.success")).to_contain_text("tried again")
    expect(admin.locator(".summary .badge")).to_have_text("failed")
    post.against.clear()
    press(admin, "Send again")
    expect(admin.locator(".summary .badge")).to_have_text("sent")
    expect(admin.locator("main")).to_contain_text("250 2.0.0 Ok: queued")
    expect(admin.get_by_role("button", name="Send again")).to_have_count(0)
    assert [parcel.address for parcel in post.parcels].count(BOB) == 1
    assert admin.url.endswith(f"/admin/notice/details/{failed}")


@pytest.mark.usefixtures("failed")
def test_all_that_failed_are_sent_again_at_once(admin: Page, post: Post) -> None:
    admin.goto(LIST)
    expect(row(admin, BOB).get_by_role("button", name=f"Send again to {BOB}")).to_be_visible()
    post.against[BOB] = Delayed("451 4.7.1 Come back later")
    press(admin, "Send what failed lately again (1)")
    expect(admin.locator("main .notice.success")).to_contain_text("Messages being tried again: 1.")
    expect(row(admin, BOB).locator(".badge")).to_have_text("waiting")
    expect(row(admin, BOB)).to_contain_text("451 4.7.1 Come back later")
    expect(row(admin, BOB)).to_contain_text("1, next")
    expect(admin.get_by_role("button", name="Send what failed")).to_have_count(0)
    tab(admin, "Failed")
    expect(admin.locator(".empty h2")).to_have_text("Nothing has failed")
    tab(admin, "Waiting")
    expect(admin.locator("tbody tr")).to_have_count(1)
    admin.get_by_role("link", name=BOB).click()
    expect(admin.locator("main .notice.warn")).to_contain_text("It has not got through yet")


@pytest.mark.usefixtures("failed")
def test_channel_and_day_filter_the_list_of_a_state(admin: Page, site: Site) -> None:
    admin.goto(LIST)
    tab(admin, "Sent")
    admin.get_by_label("Channel").select_option("slack")
    expect(admin.locator("tbody tr")).to_have_count(1)
    assert "state=sent" in admin.url
    expect(admin.get_by_role("list", name="Filters in use")).to_contain_text("Channel Slack")
    yesterday = site.state.today() - timedelta(days=1)
    admin.get_by_label("Day").fill(yesterday.isoformat())
    expect(admin.locator(".empty h2")).to_have_text("Nothing matches")
    admin.get_by_role("link", name="Show all").click()
    expect(admin.locator("tbody tr .badge").first).to_have_text("sent")
    expect(admin.get_by_role("link", name="Sent", exact=True)).to_have_attribute(
        "aria-current", "page"
    )


def test_a_channel_that_is_on_can_be_tested(admin: Page, post: Post) -> None:
    admin.goto(LIST)
    press(admin, "Send me a test mail")
    expect(admin.locator("h1")).to_have_text("VMTrak: a test message")
    expect(admin.locator(".summary .badge")).to_have_text("sent")
    expect(admin.locator("main")).to_contain_text("250 2.0.0 Ok: queued")
    admin.goto(LIST)
    post.against[None] = Refused("410 Gone")
    press(admin, "Send a test to Slack")
    expect(admin.locator(".summary")).to_contain_text("to Slack")
    expect(admin.locator("main .notice.error")).to_contain_text("410 Gone")
    assert [parcel.address for parcel in post.parcels] == [f"{PEOPLE['admin']}@harbourline.example"]


def test_while_mail_is_off_notices_are_kept_and_the_pages_say_so(
    admin: Page, quiet: Site, bobs: int
) -> None:
    assert bobs
    plan(quiet)
    admin.goto("/admin/")
    expect(admin.locator(".standing")).to_contain_text("Mail is off")
    admin.locator(".standing").get_by_role("link", name="kept").click()
    expect(admin.locator("main .notice.warn")).to_contain_text("VMTRAK_SMTP_HOST")
    expect(row(admin, BOB).locator(".badge")).to_have_text("kept")
    expect(admin.get_by_role("button", name="Send")).to_have_count(0)
    admin.get_by_role("link", name=BOB).click()
    expect(admin.locator("main .notice.warn")).to_contain_text("while the channel was off")
    expect(admin.get_by_role("button", name="Send again")).to_have_count(0)
    post = Post()
    quiet.state.delivery.rules.senders[Channel.MAIL] = lambda: post
    admin.reload()
    press(admin, "Send again")
    expect(admin.locator(".summary .badge")).to_have_text("sent")
    assert [parcel.address for parcel in post.parcels] == [BOB]


@pytest.mark.usefixtures("post")
def test_the_dashboard_says_when_the_run_is_late_and_else_keeps_quiet(
    at: Callable[..., Page], quiet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(quiet)
    deliver(quiet)
    pages = {person: at(person) for person in PEOPLE}
    for person in ("admin", "operator"):
        pages[person].goto("/admin/")
        expect(pages[person].locator(".standing")).to_contain_text("tomorrow 08:00 Europe/Ams")
        expect(pages[person].locator(".standing .badge")).to_have_count(0)
        expect(pages[person].locator(".notice", has_text="notices")).to_have_count(0)
    following = quiet.state.today() + timedelta(days=1)
    two_hours_late = quiet.state.delivery.rules.schedule.instant(following) + timedelta(hours=2)
    monkeypatch.setattr(panel, "now", lambda: two_hours_late)
    for person in ("admin", "operator"):
        pages[person].goto("/admin/")
        expect(pages[person].locator(".notice", has_text="notices")).to_contain_text(
            "Today's expiry notices have not gone out. They were due at 08:00 Europe/Amsterdam"
        )
    pages["admin"].get_by_role("link", name="To the notices").click()
    expect(pages["admin"].locator("main .notice.error")).to_contain_text("Is a worker running?")
    expect(pages["operator"].get_by_role("link", name="To the notices")).to_have_count(0)
    for person in ("reader", "auditor"):
        pages[person].goto("/admin/")
        expect(pages[person].locator("h1")).to_have_text("Dashboard")
        expect(pages[person].locator(".standing")).to_have_count(0)


@pytest.mark.usefixtures("failed")
def test_a_vm_tells_who_was_told_of_it(at: Callable[..., Page], site: Site, bobs: int) -> None:
    for person in ("admin", "operator", "auditor"):
        page = at(person)
        page.goto(f"/admin/vm/details/{bobs}")
        card = page.get_by_role("region", name="Notices")
        expect(card.locator("tbody tr")).to_have_count(2)
        expect(card.locator("tbody tr", has_text=BOB)).to_contain_text("a day before")
        expect(card.locator("tbody tr", has_text=BOB)).to_contain_text(UNKNOWN)
        expect(card).to_contain_text(
            f"next notice goes out on {(site.state.today() + timedelta(days=1)).isoformat()}"
        )
        linked = person == "admin"
        expect(card.get_by_role("link", name=BOB)).to_have_count(1 if linked else 0)


def test_a_vm_of_which_nobody_was_told_says_when_that_comes(
    at: Callable[..., Page], quiet: Site
) -> None:
    today = quiet.state.today()
    a_week_before = (today + timedelta(days=23)).isoformat()
    cases = {
        "far-away": (today + timedelta(days=30), "active", a_week_before),
        "soon-due": (today + timedelta(days=3), "active", "with the next run"),
        "long-gone": (today - timedelta(days=60), "active", "No more notices"),
        "undated": (None, "active", "no expiry date"),
        "for-ever": (date.max, "active", "stands for no expiry"),
        "switched-off": (today, "inactive", "active VMs only"),
    }
    page = at("operator")
    for name, (expiry, status, words) in cases.items():
        with quiet.database.work(SYSTEM) as work:
            new = NewVM.model_validate({"vm_name": name, "expiry_date": expiry, "status": status})
            vm_id = inventory.add(work, new).id
        page.goto(f"/admin/vm/details/{vm_id}")
        expect(page.get_by_role("region", name="Notices")).to_contain_text(words)
    with quiet.database.work(SYSTEM) as work:
        owned = NewVM.model_validate({"vm_name": "readers", "owner": PEOPLE["reader"]})
        vm_id = inventory.add(work, owned).id
    reader = at("reader")
    reader.goto(f"/admin/vm/details/{vm_id}")
    expect(reader.locator("h1")).to_have_text("readers")
    expect(reader.get_by_role("region", name="Notices")).to_have_count(0)


@pytest.mark.usefixtures("quiet")
def test_people_turn_their_own_notices_on_and_off(at: Callable[..., Page], site: Site) -> None:
    def subscribed() -> bool:
        with site.database.read() as session:
            user = users.named(session, PEOPLE["reader"])
            assert user is not None
            return user.notify_expiry

    with site.database.work(SYSTEM) as work:
        user = users.named(work.session, PEOPLE["reader"])
        assert user is not None
        users.change(work, user.id, UserPatch(notify_expiry=False))
    page = at("reader")
    page.goto("/admin/account/")
    card = page.get_by_role("region", name="Expiry notices")
    expect(card).to_contain_text("off")
    expect(card).to_contain_text("Mail is off at present")
    press(page, "Turn on", card)
    expect(page.locator("main .notice.success")).to_contain_text("all VMs that you see")
    expect(card).to_contain_text("You are told of all VMs you see")
    assert subscribed()
    press(page, "Turn off", card)
    expect(page.locator("main .notice.success")).to_contain_text("your own VMs only")
    assert not subscribed()


def test_the_trail_tells_what_was_sent_and_leads_there(admin: Page, failed: int) -> None:
    admin.goto("/admin/audit/list?entity_type=notice&action=notification.failed")
    line = admin.locator("tbody tr").first
    expect(line).to_contain_text("could not send notices to")
    expect(line).to_contain_text(UNKNOWN)
    line.get_by_role("link", name=BOB).click()
    admin.wait_for_url(f"**/admin/notice/details/{failed}")
    admin.goto("/admin/")
    expect(admin.locator(".timeline")).not_to_contain_text("notices to")


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_fit_whatever_a_server_says(
    at: Callable[..., Page], site: Site, failed: int, bobs: int, width: int, scheme: str
) -> None:
    with site.database.work(SYSTEM) as work:
        work.session.get_one(Message, failed).answer = "x" * 900
    page = at("admin", viewport={"width": width, "height": 844}, color_scheme=scheme)
    addresses = (LIST, "/admin/notice/due", f"/admin/notice/details/{failed}", "/admin/")
    for path in (*addresses, f"/admin/vm/details/{bobs}", "/admin/account/"):
        page.goto(path)
        over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert (path, over <= 0) == (path, True)
