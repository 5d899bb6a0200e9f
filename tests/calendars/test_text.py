"""Whatever people write into the inventory, a calendar says it and nothing else."""

from datetime import UTC, date, datetime

from hypothesis import given
from hypothesis import strategies as st

from tests.calendars.conftest import read
from vmtrak.channels.calendars import Calendar, Expiry
from vmtrak.errors import Invalid
from vmtrak.fields import parse
from vmtrak.inventory import NewVM

SHARP = '\\nN,;:"^ \t\r\n\x0b\x0c\x85\u2028\xe9\U0001f642BEGIN:VEVENT'
"""What a line of the format could be broken with."""

ANYTHING = st.text() | st.text(st.sampled_from(SHARP))

EXPIRY = Expiry(
    vm_id=7,
    vm_name="web-01",
    ip_address="192.0.2.1",
    environment="production",
    owner=None,
    department=None,
    expiry_date=date(2027, 2, 28),
    updated_at=datetime(2026, 11, 22, 8, 30, tzinfo=UTC),
    revision=3,
)

EXPECTED = {
    "SUMMARY",
    "DTSTART;VALUE=DATE",
    "DTEND;VALUE=DATE",
    "DTSTAMP",
    "UID",
    "SEQUENCE",
    "CATEGORIES",
    "DESCRIPTION",
    "LAST-MODIFIED",
    "TRANSP",
    "URL",
}


def text(*expiries: Expiry, rest_from: date | None = None) -> bytes:
    return Calendar("VM expiry dates", "https://vm.example.org", expiries, rest_from).text()


def lines(written: bytes) -> list[str]:
    """The content lines, unfolded as RFC 5545 says, after a look at how they are folded."""
    assert written.endswith(b"\r\n")
    physical = written.split(b"\r\n")
    assert all(len(line) <= 75 for line in physical)
    assert all(byte >= 0x20 or byte == 0x09 for line in physical for byte in line)
    return written.decode().replace("\r\n ", "").split("\r\n")


@given(ANYTHING, ANYTHING, ANYTHING)
def test_no_text_becomes_a_line_of_its_own(name: str, owner: str, department: str) -> None:
    expiry = EXPIRY._replace(vm_name=name, owner=owner, department=department)
    found = lines(text(expiry))
    begin, end = found.index("BEGIN:VEVENT"), found.index("END:VEVENT")
    assert {line.partition(":")[0] for line in found[begin + 1 : end]} == EXPECTED
    assert len(found[begin + 1 : end]) == len(EXPECTED)
    assert len(read(text(expiry)).events) == 1


@given(ANYTHING, ANYTHING)
def test_what_the_inventory_takes_is_read_again_as_it_was(name: str, owner: str) -> None:
    try:
        vm = parse(NewVM, {"vm_name": name, "owner": owner})
    except Invalid:
        return
    [event] = read(text(EXPIRY._replace(vm_name=vm.vm_name, owner=vm.owner))).events
    assert event["summary"] == f"{vm.vm_name} expires"
    said = str(event["description"]).split("\n")
    assert said[2:3] == ([f"Owner: {vm.owner}"] if vm.owner else [""])
    assert event.errors == []


def test_a_backslash_before_an_n_is_no_line_break() -> None:
    [event] = read(text(EXPIRY._replace(vm_name=r"DC\NODE\n1\;,"))).events
    assert event["summary"] == r"DC\NODE\n1\;, expires"


def test_the_same_vms_give_the_same_bytes_and_others_another_tag() -> None:
    one, other = (Calendar("x", "https://a.example", (e,)) for e in (EXPIRY, EXPIRY._replace()))
    assert (one.text(), one.tag) == (other.text(), other.tag)
    changed = [
        Calendar("y", "https://a.example", (EXPIRY,)),
        Calendar("x", "https://b.example", (EXPIRY,)),
        Calendar("x", "https://a.example", (EXPIRY,), date(2027, 3, 1)),
        Calendar("x", "https://a.example", ()),
        Calendar("x", "https://a.example", (EXPIRY._replace(revision=4),)),
    ]
    assert len({one.tag, *(calendar.tag for calendar in changed)}) == 1 + len(changed)


def test_every_event_has_a_name_of_its_own_on_the_public_host() -> None:
    expiries = [EXPIRY._replace(vm_id=number) for number in (1, 11, 111)]
    calendar = read(text(*expiries, rest_from=date(2027, 3, 1)))
    assert [str(event["uid"]) for event in calendar.events] == [
        "vm-1@vm.example.org",
        "vm-11@vm.example.org",
        "vm-111@vm.example.org",
        "more@vm.example.org",
    ]


def test_the_library_writes_what_it_has_read_in_the_same_bytes() -> None:
    long = "ä, b; c\\d \U0001f642 " * 20
    expiries = [EXPIRY, EXPIRY._replace(vm_id=8, owner=long, environment=None, department="x\ny")]
    written = text(*expiries, rest_from=date(2027, 3, 1))
    assert read(written).to_ical() == written
