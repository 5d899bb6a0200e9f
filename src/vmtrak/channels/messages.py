"""What every channel is given, what it answers, and the words that all channels share."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Protocol, TypeAlias


class Channel(StrEnum):
    MAIL = "mail"
    WEBHOOK = "webhook"
    TEAMS = "teams"
    SLACK = "slack"


class Group(StrEnum):
    TODAY = "today"
    TOMORROW = "tomorrow"
    SOON = "soon"
    OVERDUE = "overdue"


GROUPS: Mapping[Group, str] = {
    Group.TODAY: "Today",
    Group.TOMORROW: "Tomorrow",
    Group.SOON: "Soon",
    Group.OVERDUE: "Overdue",
}
"""The groups of a digest in their order, with their headings."""


def group_of(days: int) -> Group:
    """The group of a VM that expires in so many days, negative ones being past."""
    if days < 0:
        return Group.OVERDUE
    return {0: Group.TODAY, 1: Group.TOMORROW}.get(days, Group.SOON)


def phrase(days: int) -> str:
    """How far away an expiry date is, as "in 5 days" or "3 days ago"."""
    near = {0: "today", 1: "tomorrow", -1: "yesterday"}
    if days in near:
        return near[days]
    return f"in {days} days" if days > 0 else f"{-days} days ago"


@dataclass(frozen=True, slots=True)
class Line:
    """A VM of a digest. `days` are those left on the digest's day, negative once it is past."""

    vm_id: int
    vm_name: str
    ip_address: str | None
    environment: str | None
    owner: str | None
    expiry_date: date
    days: int


@dataclass(frozen=True, slots=True)
class Digest:
    """What one recipient is told on `day`, which is a date in the zone of the settings.

    An `outsider` has no account: somebody whose address stands with VMs as their owner's.

    `lines` are in the order of their groups, those of a group by date and name, and perhaps not
    all of them: `counts` says how many VMs each group has.
    """

    day: date
    lines: tuple[Line, ...]
    counts: Mapping[Group, int]
    outsider: bool = False

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Trial:
    """A message by which an administrator sees that a channel works."""

    day: date
    asked_by: str


Content: TypeAlias = Digest | Trial


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message to be sent. `uid` is its own and the same at each attempt, 32 hex digits.

    `address` is the e-mail address; other channels have their own. `base_url` begins every link.
    """

    uid: str
    address: str | None
    content: Content
    base_url: str


class Refused(Exception):
    """The other side will never take this message (SMTP 5xx). `str(error)` is what it said."""


class Delayed(Exception):
    """The other side does not take this message now (SMTP 4xx); others it may take."""


class Unreachable(Exception):
    """The channel does not work at present: no message can be sent over it."""


class Sender(Protocol):
    """One channel, open for as many messages as there are; the connection is kept."""

    def send(self, parcel: Parcel) -> str:
        """Send it and return the other side's answer.

        Raises `Refused`, `Delayed` or `Unreachable`; anything else is a bug.
        """

    def close(self) -> None:
        """End the connection, if there is one. Never raises."""


def subject(content: Content) -> str:
    """One line that says how many VMs expire and how soon: "3 VMs expire today, 2 tomorrow"."""
    if isinstance(content, Trial):
        return "VMTrak: a test message"
    (group, count), *others = [(g, content.counts[g]) for g in GROUPS if content.counts.get(g)]
    one = count == 1
    verb = ("is" if one else "are") if group is Group.OVERDUE else ("expires" if one else "expire")
    head = f"{count:,} {'VM' if one else 'VMs'} {verb} {_when(group, content)}"
    told = ", ".join([head, *(f"{n:,} {_when(g, content)}" for g, n in others)])
    # To the outside no subject is written with words that somebody chose as a VM's name.
    named = content.total == 1 and not content.outsider
    return f"{told}: {content.lines[0].vm_name}" if named else told


def _when(group: Group, digest: Digest) -> str:
    if group is not Group.SOON:
        return group.value
    days = {line.days for line in digest.lines if group_of(line.days) is Group.SOON}
    whole = len(digest.lines) == digest.total
    return f"in {min(days)} days" if whole and len(days) == 1 else "soon"
