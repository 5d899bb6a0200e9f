"""What a calendar holds, for whom, and how programs fetch it."""

from datetime import date, timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.calendars.conftest import AddVM, made, names, read
from tests.conftest import BASE_URL, Later, Person
from vmtrak import inventory
from vmtrak.access import SYSTEM
from vmtrak.accounts import UserPatch, calendar_feeds, users
from vmtrak.db import Database, iso, now
from vmtrak.inventory import VMPatch
from vmtrak.notices import calendars
from vmtrak.web.guard import PANEL_COOKIE

HOUR = 60 * 60


@pytest.fixture
def vms(add_vm: AddVM) -> None:
    """One VM of each relation that people have to VMs."""
    add_vm("by-name", 1, owner="Rita")
    add_vm("by-address", 2, owner="rita@VMTRAK.example")
    add_vm("by-department", 3, department="finance", owner="otto")
    add_vm("of-others", 4, department="Sales", owner="otto")
    add_vm("of-nobody", 5)


@pytest.mark.usefixtures("vms")
@pytest.mark.parametrize("owned_only", [True, False])
def test_everybody_sees_what_the_contract_says(
    people: dict[str, Person], program: TestClient, *, owned_only: bool
) -> None:
    own = ["by-name", "by-address"]
    every = [*own, "by-department", "of-others", "of-nobody"]
    expected = {
        "reader": own if owned_only else every[:3],
        "outsider": [],
        "operator": ["by-department", "of-others"] if owned_only else every,
        "auditor": [] if owned_only else every,
        "admin": [] if owned_only else every,
    }
    seen = {who: names(program, made(people[who], owned_only=owned_only)) for who in expected}
    assert seen == expected


@pytest.mark.usefixtures("vms")
def test_a_changed_role_or_department_counts_from_the_next_request_on(
    reader: Person, admin: Person, program: TestClient
) -> None:
    where = made(reader)
    for patch, seen in (
        (UserPatch(role="auditor"), 5),
        (UserPatch(role="read", department="Sales"), 3),
        (UserPatch(department=None), 2),
    ):
        with admin.database.work(admin.actor) as work:
            users.change(work, reader.user_id, patch)
        assert len(names(program, where)) == seen


def test_it_holds_active_vms_from_four_weeks_ago_to_two_years_ahead_soonest_first(
    add_vm: AddVM, operator: Person, admin: Person, program: TestClient
) -> None:
    where = made(operator)
    for name, days in (("late", 731), ("soon", 1), ("today", 0), ("past", -28), ("a", 1)):
        add_vm(name, days)
    add_vm("too-late", 732)
    add_vm("long-past", -29)
    add_vm("undated", None)
    add_vm("inactive", 1, status="inactive")
    retired, trashed = add_vm("retired", 1), add_vm("trashed", 1)
    with admin.database.work(admin.actor) as work:
        inventory.change(work, retired, VMPatch(status="decommissioned"))
        inventory.remove(work, trashed)
    assert names(program, where) == ["past", "today", "soon", "a", "late"]


def test_an_event_says_what_the_vm_is_and_where_its_page_is(
    add_vm: AddVM, operator: Person, admin: Person, program: TestClient, today: date
) -> None:
    number = add_vm(
        "web-01",
        7,
        ip_address="192.0.2.1",
        environment="production",
        owner="ada, otto; others",
        department="Finance",
    )
    where = made(operator)
    answer = program.get(where)
    calendar = read(answer.content)
    [event] = calendar.events
    day = today + timedelta(days=7)
    page = f"{BASE_URL}/admin/vm/details/{number}"
    assert (event.start, event.end) == (day, day + timedelta(days=1))
    assert b"DTSTART;VALUE=DATE:" in answer.content
    assert event["uid"] == f"vm-{number}@127.0.0.1"
    assert event["summary"] == "web-01 expires"
    assert event["description"] == (
        "IP address: 192.0.2.1\nEnvironment: production\nOwner: ada, otto; others\n"
        f"Department: Finance\n\n{page}"
    )
    assert (event["url"], event["transp"]) == (page, "TRANSPARENT")
    assert event.categories == ["VM expiry", "production"]
    vm = admin.api.get(f"/api/vms/{number}")
    changed_at = vm.json()["updated_at"]
    assert [event.DTSTAMP.strftime("%Y-%m-%dT%H:%M:%SZ")] == [changed_at]
    assert event.LAST_MODIFIED == event.DTSTAMP
    assert vm.headers["etag"] == f'"v{event["sequence"]}"'
    assert (calendar["version"], calendar["method"]) == ("2.0", "PUBLISH")
    assert calendar["prodid"].startswith("-//VMTrak//VMTrak ")
    assert calendar["name"] == calendar["x-wr-calname"] == "VM expiry dates"
    assert calendar.refresh_interval == timedelta(hours=4)


def test_what_is_not_known_of_a_vm_is_left_out(
    add_vm: AddVM, operator: Person, program: TestClient
) -> None:
    number = add_vm("bare")
    [event] = read(program.get(made(operator)).content).events
    assert event["description"] == f"{BASE_URL}/admin/vm/details/{number}"
    assert event.categories == ["VM expiry"]


def test_an_event_keeps_its_name_and_counts_up_when_the_date_moves(
    add_vm: AddVM, operator: Person, admin: Person, program: TestClient, today: date
) -> None:
    number, where = add_vm("web-01"), made(operator)

    def event() -> Any:
        [one] = read(program.get(where).content).events
        return one

    before = event()
    with admin.database.work(admin.actor) as work:
        inventory.change(work, number, VMPatch(expiry_date=today + timedelta(days=90)))
    after = event()
    assert after["uid"] == before["uid"]
    assert after["sequence"] > before["sequence"]
    assert after.start == today + timedelta(days=90)


def test_an_empty_calendar_is_a_calendar(outsider: Person, program: TestClient) -> None:
    answer = program.get(made(outsider, owned_only=True))
    assert read(answer.content)["name"] == "Expiry dates of my VMs"


def test_a_cut_is_told_by_an_event_on_the_day_of_the_first_vm_left_out(
    add_vm: AddVM,
    operator: Person,
    program: TestClient,
    today: date,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calendars, "MOST", 2)
    where = made(operator)
    for days in (1, 2):
        add_vm(f"in-{days}", days)
    assert names(program, where) == ["in-1", "in-2"]
    add_vm("in-9", 9)
    *_, last = read(program.get(where).content).events
    assert names(program, where) == ["in-1", "in-2", "More VMs expire, from this day on"]
    assert last.start == today + timedelta(days=9)
    assert (last["uid"], last["url"]) == (
        "more@127.0.0.1",
        f"{BASE_URL}/admin/vm/list?sort=expiry_date",
    )


def test_it_is_sent_as_a_calendar_that_only_its_person_may_keep(
    operator: Person, program: TestClient
) -> None:
    where = made(operator)
    answer, head = program.get(where), program.head(where)
    expected = {
        "content-type": "text/calendar; charset=utf-8",
        "content-disposition": 'inline; filename="vmtrak.ics"',
        "cache-control": "private, no-cache",
        "x-robots-tag": "noindex",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    }
    assert {name: answer.headers[name] for name in expected} == expected
    assert "set-cookie" not in answer.headers
    assert head.content == b""
    assert {**head.headers, "content-length": str(len(answer.content))} == dict(answer.headers)


def test_what_has_not_changed_is_not_sent_again(
    add_vm: AddVM, operator: Person, admin: Person, program: TestClient
) -> None:
    number, where = add_vm("web-01"), made(operator)
    tag = program.get(where).headers["etag"]

    def ask(given: str) -> int:
        return program.get(where, headers={"If-None-Match": given}).status_code

    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = program.get(where, headers={"If-None-Match": given})
        assert (again.status_code, again.content) == (304, b"")
        assert (again.headers["etag"], again.headers["cache-control"]) == (
            tag,
            "private, no-cache",
        )
    assert [ask(given) for given in ('"other"', tag.strip('"'), "", ",,")] == [200] * 4
    with admin.database.work(admin.actor) as work:
        inventory.change(work, number, VMPatch(owner="otto"))
    assert ask(tag) == 200


def test_two_calendars_with_the_same_vms_have_tags_of_their_own_name(
    add_vm: AddVM, operator: Person, program: TestClient
) -> None:
    add_vm("web-01", owner="otto")
    tags = {
        program.get(made(operator, owned_only=owned)).headers["etag"] for owned in (True, False)
    }
    assert len(tags) == 2


def test_every_address_that_opens_nothing_is_answered_alike(
    reader: Person, program: TestClient
) -> None:
    revoked = made(reader)
    live = made(reader)
    answers = [
        program.get(where)
        for where in (
            revoked,
            "/calendar/vmc_" + "x" * 43 + ".ics",
            "/calendar/nonsense.ics",
            "/calendar/.ics",
            "/calendar/",
            "/calendar/%00.ics",
            "/calendar/vmt_" + "x" * 49 + ".ics",
            live.removesuffix(".ics"),
            live.upper().replace("/CALENDAR", "/calendar").replace(".ICS", ".ics"),
            f"{live}/",
            live.replace("/calendar/", "/calendar//"),
            "/calendar/" + "x" * 20_000 + ".ics",
            "/calendar/../api/vms.ics",
        )
    ]
    [alike] = {
        (answer.status_code, answer.content, tuple(sorted(answer.headers.items())))
        for answer in answers[:-1]
    }
    assert alike[:2] == (404, b"There is no such calendar.\n")
    assert answers[-1].status_code == 401
    assert program.get(live).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_sent_to_it(method: str, reader: Person, program: TestClient) -> None:
    where = made(reader)
    assert program.request(method, where).status_code == 403
    own = program.request(method, where, headers={"Origin": BASE_URL})
    assert own.status_code == 405
    assert program.get(where).status_code == 200


@pytest.mark.usefixtures("vms")
def test_it_is_its_persons_calendar_whoever_else_is_signed_in(
    reader: Person, admin: Person, program: TestClient
) -> None:
    where, nobodys = made(reader), "/calendar/vmc_" + "x" * 43 + ".ics"
    cookie = admin.panel.cookies[PANEL_COOKIE]
    program.cookies.set(PANEL_COOKIE, cookie, domain="127.0.0.1", path="/")
    program.headers["Authorization"] = admin.api.headers["Authorization"]
    assert len(names(program, where)) == 3
    assert program.get(nobodys).status_code == 404


def test_its_token_opens_nothing_else(reader: Person, program: TestClient) -> None:
    token = made(reader).removeprefix("/calendar/").removesuffix(".ics")
    program.headers["Authorization"] = f"Bearer {token}"
    program.cookies.set(PANEL_COOKIE, token, domain="127.0.0.1", path="/")
    assert program.get("/api/vms").status_code == 401
    assert program.get("/api/auth/me").status_code == 401
    assert program.get("/admin/").status_code == 303


def test_that_it_is_used_is_written_down_once_an_hour(
    app: Starlette, database: Database, reader: Person, program: TestClient, later: Later
) -> None:
    where = made(reader)

    def used() -> str | None:
        app.state.vmtrak.presence.write(database)
        with database.read() as session:
            standing = calendar_feeds.standing(session, reader.actor)
        assert standing is not None
        found: str | None = standing["last_used_at"]
        return found

    assert used() is None
    program.get(where)
    first = used()
    assert first is not None
    later(HOUR - 60)
    program.get(where)
    assert used() == first
    later(120)
    for _ in range(3):
        program.get(where)
    assert str(used()) > first


def test_two_processes_write_it_down_once(database: Database, reader: Person) -> None:
    made(reader)
    moment = now()
    for late in (0, 5):
        with database.work(SYSTEM) as work:
            calendar_feeds.note_used(work, {1: moment + timedelta(seconds=late)})
    with database.read() as session:
        standing = calendar_feeds.standing(session, reader.actor)
    assert standing is not None
    assert standing["last_used_at"] == iso(moment)
