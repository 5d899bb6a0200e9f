"""A calendar of expiry dates as iCalendar text (RFC 5545, RFC 7986), for programs that subscribe.

The same dates give the same bytes, so that a tag stands for them. The lines are put together here:
with the library's components a text of 2,000 events takes eight times as long.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

from icalendar.parser import Contentline

import vmtrak

REFRESH = "PT4H"
"""How often a program may ask again, a duration of RFC 5545; most ask when they like."""

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
        return b"".join(_folded(line) + b"\r\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield "BEGIN:VCALENDAR"
        yield "VERSION:2.0"
        yield f"PRODID:-//VMTrak//VMTrak {vmtrak.__version__}//EN"
        yield "METHOD:PUBLISH"
        yield f"NAME:{_text(self.name)}"
        yield f"X-WR-CALNAME:{_text(self.name)}"
        yield f"REFRESH-INTERVAL;VALUE=DURATION:{REFRESH}"
        yield f"X-PUBLISHED-TTL:{REFRESH}"
        host = urlsplit(self.base_url).hostname
        for one in self.expiries:
            yield from _of_vm(one, self.base_url).lines(host)
        if self.rest_from is not None:
            yield from _of_the_rest(self.rest_from, self).lines(host)
        yield "END:VCALENDAR"


class _Event(NamedTuple):
    """An event on all of a day which keeps nobody from being free then."""

    name: str
    day: date
    changed_at: datetime
    summary: str
    description: str
    page: str
    sequence: int = 0
    environment: str | None = None

    def lines(self, host: str | None) -> Iterator[str]:
        """The content lines, in the order in which the standard lists their kinds."""
        changed_at = f"{self.changed_at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        yield "BEGIN:VEVENT"
        yield f"SUMMARY:{_text(self.summary)}"
        yield f"DTSTART;VALUE=DATE:{self.day:%Y%m%d}"
        yield f"DTEND;VALUE=DATE:{self.day + _DAY:%Y%m%d}"
        yield f"DTSTAMP:{changed_at}"
        yield f"UID:{self.name}@{host}"
        yield f"SEQUENCE:{self.sequence}"
        yield f"CATEGORIES:VM expiry{f',{_text(self.environment)}' if self.environment else ''}"
        yield f"DESCRIPTION:{_text(self.description)}"
        yield f"LAST-MODIFIED:{changed_at}"
        yield "TRANSP:TRANSPARENT"
        yield f"URL:{self.page}"
        yield "END:VEVENT"


def _of_vm(one: Expiry, base_url: str) -> _Event:
    page = f"{base_url}/admin/vm/details/{one.vm_id}"
    return _Event(
        name=f"vm-{one.vm_id}",
        day=one.expiry_date,
        changed_at=one.updated_at,
        summary=f"{one.vm_name} expires",
        description=_described(one, page),
        page=page,
        sequence=one.revision,
        environment=one.environment,
    )


def _of_the_rest(day: date, calendar: Calendar) -> _Event:
    """The last event of a calendar that is cut, on the day of the first VM that is left out."""
    page = f"{calendar.base_url}/admin/vm/list?sort=expiry_date"
    held = f"This calendar holds the next {len(calendar.expiries):,} VMs."
    return _Event(
        name="more",
        day=day,
        changed_at=max(one.updated_at for one in calendar.expiries),
        summary="More VMs expire, from this day on",
        description=f"{held} All of them: {page}",
        page=page,
    )


def _described(one: Expiry, page: str) -> str:
    facts = {
        "IP address": one.ip_address,
        "Environment": one.environment,
        "Owner": one.owner,
        "Department": one.department,
    }
    lines = "\n".join(f"{label}: {fact}" for label, fact in facts.items() if fact)
    return f"{lines}\n\n{page}" if lines else page


_UNFIT = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Characters that could end a line, or that the format does not allow."""


def _text(text: str) -> str:
    r"""Text escaped as RFC 5545 says (3.3.11), with spaces for characters that do not fit.

    The library's own escaping makes a line break of the `\N` in a name such as `DC\NODE-1`.
    """
    escaped = _UNFIT.sub(" ", text).replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace(";", "\\;").replace(",", "\\,")


_SHORT = 75
"""Bytes; a line of fewer need not be folded (3.1)."""


def _folded(line: str) -> bytes:
    """The library looks at each character, so it is asked only about the few long lines."""
    written = line.encode()
    if len(written) < _SHORT:
        return written
    folded: bytes = Contentline(line).to_ical()  # type: ignore[no-untyped-call] # it has no types
    return folded
