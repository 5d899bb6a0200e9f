"""Extending a VM: by days or until a date, with a reason, at each door, and never twice."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from tests.access.test_lock_order import until_somebody_waits
from tests.conftest import Person
from tests.doors import Door, Outcome, PanelDoor, RestDoor
from tests.inventory.test_vms import events, stored
from vmtrak import inventory
from vmtrak.admin import extensions
from vmtrak.db import Database
from vmtrak.errors import Conflict, Invalid
from vmtrak.fields import parse
from vmtrak.inventory import NewVM
from vmtrak.inventory.extensions import MOST_DAYS, Extension
from vmtrak.notices import NotificationLog, Trigger, planning

often = settings(max_examples=300, deadline=None, database=None)

Made = Callable[..., int]


@pytest.fixture
def made(admin: Person) -> Made:
    """Add a VM, the next one of its name."""

    def make(**fields: Any) -> int:
        with admin.database.work(admin.actor) as work:
            new = parse(NewVM, {"vm_name": "web-01", **fields})
            return int(inventory.add(work, new).id)

    return make


def said(outcome: Outcome) -> str:
    """All that a refusal says, wherever the door puts it."""
    return " ".join([outcome.message, *(each for why in outcome.errors.values() for each in why)])


def days(number: int) -> timedelta:
    return timedelta(days=number)


def test_days_are_counted_from_the_present_date_and_the_reason_is_kept(
    door: Door, database: Database, made: Made, today: date
) -> None:
    number = made(expiry_date=today + days(8))
    given = {"days": 30, "reason": " waiting for the new cluster "}
    assert door.extend_vm(number, given).made == number
    vm, ends = stored(database, number), today + days(38)
    assert (vm.expiry_date, vm.expiry_key, vm.revision, vm.updated_by) == (ends, ends, 2, "ada")
    change = {"from": (today + days(8)).isoformat(), "to": ends.isoformat()}
    reason = "waiting for the new cluster"
    assert events(database, number)[1:] == [
        ("vm.update", {"expiry_date": change, "reason": reason})
    ]


@pytest.mark.parametrize("ended", [None, -400, -1, 0])
def test_without_a_date_or_after_it_days_are_counted_from_today(
    door: Door, database: Database, made: Made, today: date, ended: int | None
) -> None:
    number = made(expiry_date=None if ended is None else today + days(ended))
    assert door.extend_vm(number, {"days": 90}).ok
    assert stored(database, number).expiry_date == today + days(90)
    assert "reason" not in (events(database, number)[1][1] or {})


def test_a_vm_is_extended_until_a_date(
    door: Door, database: Database, made: Made, today: date
) -> None:
    number = made(expiry_date=today - days(1))
    for until in (today + days(1), today + days(500), inventory.furthest(today)):
        assert door.extend_vm(number, {"until": until.isoformat()}).ok
        assert stored(database, number).expiry_date == until


def test_until_the_date_that_it_has_changes_nothing(
    door: Door, database: Database, made: Made, today: date
) -> None:
    number = made(expiry_date=today + days(9))
    given = {"until": (today + days(9)).isoformat(), "reason": "sent twice"}
    assert door.extend_vm(number, given).ok
    assert stored(database, number).revision == 1
    assert len(events(database, number)) == 1


@pytest.mark.parametrize(
    ("ahead", "why"),
    [
        (-1, "must be after today"),
        (0, "must be after today"),
        (9, "edit the VM to let it expire earlier"),
        (5 * 366 + 1, "5 years ahead"),
    ],
)
def test_a_date_that_extends_nothing_is_refused(
    door: Door, database: Database, made: Made, today: date, ahead: int, why: str
) -> None:
    number = made(expiry_date=today + days(10))
    outcome = door.extend_vm(number, {"until": (today + days(ahead)).isoformat()})
    assert (outcome.status, list(outcome.errors)) == (422, ["until"])
    assert why in said(outcome)
    assert stored(database, number).revision == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "until"),
        ({"until": ""}, "until"),
        ({"until": "2031-02-29"}, "until"),
        ({"until": "next week"}, "until"),
        ({"days": 30, "reason": "x" * 257}, "reason"),
        ({"days": 30, "reason": "a\x00b"}, "reason"),
        ({"days": 30, "reason": "two\nlines"}, "reason"),
    ],
)
def test_bad_input_is_refused_at_its_field(
    door: Door, database: Database, made: Made, fields: dict[str, Any], field: str
) -> None:
    number = made(expiry_date="2026-01-01")
    outcome = door.extend_vm(number, fields)
    assert (outcome.status, list(outcome.errors)) == (422, [field])
    assert stored(database, number).revision == 1


@pytest.mark.parametrize("wrong", [0, -1, MOST_DAYS + 1, 10**30, "x", 1.5, True])
def test_a_number_of_days_that_cannot_be_is_refused(
    door: Door, database: Database, made: Made, wrong: object
) -> None:
    number = made()
    outcome = door.extend_vm(number, {"days": str(wrong) if wrong is True else wrong})
    assert outcome.status == 422
    assert "must be" in said(outcome) or "is too large" in said(outcome)
    assert stored(database, number).revision == 1


def test_days_and_a_date_together_are_refused(
    operator: Person, database: Database, made: Made, today: date
) -> None:
    number = made()
    given = {"days": 30, "until": (today + days(9)).isoformat()}
    outcome = RestDoor(operator).extend_vm(number, given)
    assert outcome.errors == {"until": ["must not be given along with a number of days"]}
    assert stored(database, number).expiry_date is None


def test_in_the_panel_the_button_with_the_days_outdoes_a_typed_date(
    operator: Person, database: Database, made: Made, today: date
) -> None:
    number = made()
    assert PanelDoor(operator).extend_vm(number, {"days": 30, "until": "2020-01-01"}).ok
    assert stored(database, number).expiry_date == today + days(30)


def test_nothing_is_extended_beyond_five_years(
    door: Door, database: Database, made: Made, today: date
) -> None:
    for ends in (inventory.furthest(today), date(9999, 12, 31)):
        number = made(vm_name=f"until-{ends}", expiry_date=ends)
        outcome = door.extend_vm(number, {"days": 1})
        assert outcome.status == 422
        assert "5 years ahead" in said(outcome)
        assert stored(database, number).expiry_date == ends


def test_a_decommissioned_vm_is_not_extended_and_an_inactive_one_is(
    door: Door, database: Database, made: Made
) -> None:
    gone = made(vm_name="gone", status="decommissioned", expiry_date="2026-01-01")
    outcome = door.extend_vm(gone, {"days": 30})
    assert outcome.status == 409
    assert "is decommissioned" in said(outcome)
    assert stored(database, gone).revision == 1
    assert door.extend_vm(made(vm_name="asleep", status="inactive"), {"days": 30}).ok


def test_what_was_sent_twice_extends_once(
    door: Door, database: Database, made: Made, today: date
) -> None:
    for name, before in (("dated", today + days(3)), ("undated", None)):
        number = made(vm_name=name, expiry_date=before)
        sent = {"days": 30, "expected": before and before.isoformat()}
        assert door.extend_vm(number, sent).ok
        ends = stored(database, number).expiry_date
        outcome = door.extend_vm(number, sent)
        assert outcome.status == 409
        assert f"expires on {ends} now" in said(outcome)
        assert stored(database, number).expiry_date == ends
        assert len(events(database, number)) == 2


def test_a_date_taken_away_meanwhile_is_told(operator: Person, made: Made, today: date) -> None:
    sent = {"days": 30, "expected": today.isoformat()}
    outcome = RestDoor(operator).extend_vm(made(), sent)
    assert list(outcome.errors) == ["expected"]
    assert "has no expiry date now" in said(outcome)


def test_a_refused_panel_keeps_what_was_typed_and_shows_the_new_dates(
    operator: Person, made: Made, today: date
) -> None:
    number = made(expiry_date=today + days(3))
    sent = {"days": 30, "expected": "2020-01-01", "reason": "<b>kept</b>", "until": "2030-01-01"}
    outcome = PanelDoor(operator).extend_vm(number, sent)
    assert '<details class="extend" open>' in outcome.text
    assert 'value="&lt;b&gt;kept&lt;/b&gt;"' in outcome.text
    assert 'value="2030-01-01"' in outcome.text
    assert f'name="expected" value="{today + days(3)}"' in outcome.text
    assert f">{today + days(33)}<" in outcome.text


def test_a_tag_that_no_longer_fits_extends_nothing(
    operator: Person, database: Database, made: Made
) -> None:
    number, api = made(), operator.api
    address, given = f"/api/vms/{number}/extend", {"days": 30}
    answer = api.post(address, json=given, headers={"If-Match": '"v1"'})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"v2"')
    assert answer.json() == api.get(f"/api/vms/{number}").json()
    again = api.post(address, json=given, headers={"If-Match": '"v1"'})
    assert again.status_code == 412
    assert stored(database, number).revision == 2


def test_of_two_at_once_who_expect_the_same_date_one_extends(
    admin: Person, operator: Person, made: Made, today: date
) -> None:
    number = made(expiry_date=today + days(5))
    asked = parse(Extension, {"days": 30, "expected": (today + days(5)).isoformat()})

    def extended() -> None:
        with operator.database.work(operator.actor) as work:
            inventory.extend(work, number, asked, today)

    with ThreadPoolExecutor(1) as pool:
        with admin.database.work(admin.actor) as work:
            inventory.extend(work, number, asked, today)
            other = pool.submit(extended)
            until_somebody_waits(admin.database)
        with pytest.raises(Conflict, match="was changed in the meantime"):
            other.result(10)
    assert stored(admin.database, number).expiry_date == today + days(35)


def test_extensions_at_once_that_expect_nothing_all_count(
    operator: Person, database: Database, made: Made, today: date
) -> None:
    number = made(expiry_date=today)
    asked, actor = parse(Extension, {"days": 10}), operator.actor

    def extended(_: int) -> None:
        with database.work(actor) as work:
            inventory.extend(work, number, asked, today)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(extended, range(8)))
    assert stored(database, number).expiry_date == today + days(80)
    assert len(events(database, number)) == 9


def test_what_is_not_there_cannot_be_extended(door: Door, admin: Person, made: Made) -> None:
    number = made()
    assert door.remove_vm(number).ok
    for absent in (number, number + 1, 2**63 - 1):
        assert door.extend_vm(absent, {"days": 30}).status == 404
        assert door.extend_vm(absent, {"days": 0}).status in {404, 422}
    assert admin.api.post("/api/vms/x/extend", json={"days": 30}).status_code == 422


def test_only_who_may_write_extends_and_is_offered_it(
    reader: Person, auditor: Person, operator: Person, made: Made, database: Database, today: date
) -> None:
    number = made(department="Finance", expiry_date=today + days(3))
    page = f"/admin/vm/details/{number}"
    for person in (reader, auditor):
        assert person.api.post(f"/api/vms/{number}/extend", json={"days": 30}).status_code == 403
        sent = person.panel.post(f"/admin/vm/extend/{number}", data={"days": "30"})
        assert sent.status_code == 403
        assert "extend" not in person.panel.get(page).text
        assert "#extend" not in person.panel.get("/admin/").text
    assert f"/admin/vm/extend/{number}" in operator.panel.get(page).text
    assert f"{page}#extend" in operator.panel.get("/admin/").text
    assert stored(database, number).revision == 1


def test_nothing_is_extended_by_a_get_or_from_another_site(
    operator: Person, made: Made, database: Database
) -> None:
    number, panel = made(), operator.panel
    for address in (f"/admin/vm/extend/{number}?days=30", f"/api/vms/{number}/extend?days=30"):
        client = operator.api if address.startswith("/api") else panel
        assert client.get(address).status_code == 405
    panel.headers["Origin"] = "https://elsewhere.example"
    assert panel.post(f"/admin/vm/extend/{number}", data={"days": "30"}).status_code == 403
    assert stored(database, number).revision == 1


def test_the_next_page_says_the_new_date_and_believes_no_other_cookie(
    operator: Person, made: Made, today: date
) -> None:
    panel = operator.panel
    sent = panel.post(f"/admin/vm/extend/{made()}", data={"days": "30"})
    words = f"Extended: the VM expires on {today + days(30)} now."
    assert words in panel.get(sent.headers["location"]).text
    for forged in ("extended.<b>", "extended.2027-02-30", "nothing.2027-01-01", ".", "extended.."):
        panel.cookies.set("vmtrak_done", forged, path="/admin")
        assert "Extended" not in panel.get("/admin/vm/list").text


def test_the_trail_reads_as_an_extension_with_its_reason(
    admin: Person, made: Made, today: date
) -> None:
    number, panel = made(vm_name="told", expiry_date="2026-01-30"), admin.panel
    RestDoor(admin).extend_vm(number, {"days": 30, "reason": "the <new> cluster is late"})
    listed = panel.get(f"/admin/audit/list?entity_type=vm&entity_id={number}").text
    event = admin.api.get("/api/audit?action=vm.update").json()["data"][0]
    single = panel.get(f"/admin/audit/details/{event['id']}").text
    for page in (panel.get(f"/admin/vm/details/{number}").text, listed, single):
        assert "xtended" in page
        assert "2026-01-30" in page
        assert (today + days(30)).isoformat() in page
        assert "the &lt;new&gt; cluster is late" in page
    assert "Extended: told" in single


def test_only_a_later_date_alone_reads_as_an_extension(
    operator: Person, made: Made, today: date
) -> None:
    number, door = made(expiry_date=today), RestDoor(operator)
    for fields in (
        {"expiry_date": (today - days(1)).isoformat()},
        {"expiry_date": today.isoformat(), "vlan": "7"},
        {"expiry_date": ""},
        {"expiry_date": today.isoformat()},
        {"vlan": "8"},
    ):
        assert door.change_vm(number, fields).ok
    page = operator.panel.get(f"/admin/vm/details/{number}").text
    assert "<span>extended</span>" not in page


def test_who_was_told_is_told_again_before_the_new_date(
    admin: Person, reader: Person, made: Made, database: Database, today: date
) -> None:
    rules = admin.app.state.vmtrak.delivery.rules
    ends = today + days(7)
    number = made(expiry_date=ends, owner="rita")
    key = f"user:{reader.user_id}"

    def told(day: date) -> list[tuple[str, date]]:
        planning.run_now(database, rules, admin.actor, day, Trigger.COMMAND)
        chosen = select(NotificationLog.notice_type, NotificationLog.expiry_date)
        mine = chosen.where(NotificationLog.vm_id == number, NotificationLog.recipient == key)
        with database.read() as session:
            rows = session.execute(mine.order_by(NotificationLog.id))
            return [(row.notice_type, row.expiry_date) for row in rows]

    assert told(today) == [("7d", ends)]
    assert told(today + days(1)) == [("7d", ends)]
    assert RestDoor(admin).extend_vm(number, {"days": 30}).ok
    later = ends + days(30)
    for day in (ends - days(1), ends, later - days(8)):
        assert told(day) == [("7d", ends)]
    assert told(later - days(7)) == [("7d", ends), ("7d", later)]
    assert told(later - days(1))[2:] == [("1d", later)]


present_dates = st.none() | st.dates()
today_dates = st.dates(date(2000, 1, 1), date(9000, 1, 1))


@often
@given(present_dates, st.integers(1, MOST_DAYS), today_dates)
@example(date(2028, 2, 29), 365, date(2028, 2, 29))
@example(date.max, MOST_DAYS, date(2026, 11, 22))
@example(None, 1, date(2028, 2, 28))
def test_days_never_shorten_and_never_lead_into_the_past_or_too_far(
    present: date | None, more: int, today: date
) -> None:
    start, last = max(present or today, today), inventory.furthest(today)
    if (last - start).days < more:
        with pytest.raises(Invalid, match="days: would go beyond"):
            inventory.later(present, more, today)
        return
    ends = inventory.later(present, more, today)
    assert (ends - start).days == more
    assert today < ends <= last


@given(today_dates)
@example(date(2028, 2, 29))
@often
def test_five_years_are_five_calendar_years_also_from_a_leap_day(today: date) -> None:
    last = inventory.furthest(today)
    assert last.year == today.year + 5
    assert (last.month, last.day) in {(today.month, today.day), (2, 28)}


@often
@given(present_dates, today_dates, st.sampled_from(["active", "inactive"]))
def test_the_panel_offers_what_the_operation_grants(
    present: date | None, today: date, status: str
) -> None:
    vm = {"id": 1, "status": status, "expiry_date": present and present.isoformat()}
    offered = extensions.card(vm, today)
    if offered is None:
        with pytest.raises(Invalid):
            inventory.later(present, 1, today)
        return
    for each in offered["choices"]:
        assert each["date"] == inventory.later(present, each["days"], today)
    left = set(inventory.OFFERED) - {each["days"] for each in offered["choices"]}
    for days_ in left:
        with pytest.raises(Invalid):
            inventory.later(present, days_, today)
    until = offered["until"]
    start = max(present or today, today)
    assert start < date.fromisoformat(until.min) <= date.fromisoformat(until.max)
