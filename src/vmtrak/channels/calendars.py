"""A calendar of expiry dates as iCalendar text (RFC 5545, RFC 7986), for programs that subscribe.

The same dates give the same bytes, so that a tag stands for them.
"""

import hashlib
import unicodedata
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

import icalendar
from icalendar import Event, vDuration, vText

import vmtrak

REFRESH = timedelta(hours=4)
"""How often a program may ask again; most ask when they like."""

_DAY = timedelta(days=1)


class Expiry(NamedTuple):
    """One all-day event: the day on which a VM expires. `revision` counts the VM's changes."""

    vm_id: int
    vm_name: str
    ip_address: str | None
    environment: str | None
    owner: str | None
    department: str | None
    expiry_date: date
    updated_at: datetime
    revision: int


@dataclass(frozen=True, slots=True)
class Calendar:
    """What is to be written. From the day `rest_from` on there are more VMs than stand in it."""

    name: str
    base_url: str
    expiries: tuple[Expiry, ...]
    rest_from: date | None = None

    @property
    def tag(self) -> str:
        """A name for the very text that `text` gives, found without writing it."""
        return hashlib.sha256(repr((self, vmtrak.__version__)).encode()).hexdigest()[:32]

    def text(self) -> bytes:
        calendar = icalendar.Calendar()
        calendar.add("prodid", f"-//VMTrak//VMTrak {vmtrak.__version__}//EN")
        calendar.add("version", "2.0")
        calendar.add("method", "PUBLISH")
        for title in ("name", "x-wr-calname"):
            calendar.add(title, _text(self.name))
        calendar.add("refresh-interval", vDuration(REFRESH), {"VALUE": "DURATION"})
        calendar.add("x-published-ttl", vDuration(REFRESH))
        for one in self.expiries:
            calendar.add_component(_of_vm(one, self.base_url))
        if self.rest_from is not None:
            calendar.add_component(_of_the_rest(self.rest_from, self))
        written: bytes = calendar.to_ical()
        return written


def _of_vm(one: Expiry, base_url: str) -> Event:
    page = f"{base_url}/admin/vm/details/{one.vm_id}"
    event = _event(f"vm-{one.vm_id}", base_url, one.expiry_date, one.updated_at)
    event.add("sequence", one.revision)
    event.add("summary", _text(f"{one.vm_name} expires"))
    event.add("description", _text(_described(one, page)))
    event.add("url", page)
    event.add("categories", ["VM expiry", *([one.environment] if one.environment else [])])
    return event


def _of_the_rest(day: date, calendar: Calendar) -> Event:
    """The last event of a calendar that is cut, on the day of the first VM that is left out."""
    page = f"{calendar.base_url}/admin/vm/list?sort=expiry_date"
    newest = max(one.updated_at for one in calendar.expiries)
    event = _event("more", calendar.base_url, day, newest)
    event.add("summary", _text("More VMs expire, from this day on"))
    event.add(
        "description",
        _text(f"This calendar holds the next {len(calendar.expiries):,} VMs. All of them: {page}"),
    )
    event.add("url", page)
    event.add("categories", ["VM expiry"])
    return event


def _event(name: str, base_url: str, day: date, changed_at: datetime) -> Event:
    """An event on all of a day which keeps nobody from being free then."""
    event = Event()
    event.add("uid", f"{name}@{urlsplit(base_url).hostname}")
    event.add("dtstamp", changed_at)
    event.add("last-modified", changed_at)
    event.add("dtstart", day)
    event.add("dtend", day + _DAY)
    event.add("transp", "TRANSPARENT")
    return event


def _described(one: Expiry, page: str) -> str:
    facts = {
        "IP address": one.ip_address,
        "Environment": one.environment,
        "Owner": one.owner,
        "Department": one.department,
    }
    lines = "\n".join(f"{label}: {fact}" for label, fact in facts.items() if fact)
    return f"{lines}\n\n{page}" if lines else page


class _Text(vText):
    r"""Text escaped as RFC 5545 says (3.3.11).

    The library's own escaping makes a line break of the `\N` in a name such as `DC\NODE-1`.
    """

    def to_ical(self) -> bytes:
        escaped = str(self).replace("\\", "\\\\").replace("\n", "\\n")
        return escaped.replace(";", "\\;").replace(",", "\\,").encode()


def _text(text: str) -> _Text:
    """The text without characters that could end a line, or that the format does not allow."""
    return _Text("".join(one if _allowed(one) else " " for one in text))


def _allowed(character: str) -> bool:
    return character == "\n" or unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"}
