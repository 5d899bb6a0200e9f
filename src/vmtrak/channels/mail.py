"""What an expiry notice looks like as a mail: plain text and HTML that say the same."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from urllib.parse import urlencode, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from vmtrak.channels.addresses import in_ascii, parts
from vmtrak.channels.messages import (
    GROUPS,
    Digest,
    Group,
    Line,
    Parcel,
    Trial,
    group_of,
    phrase,
    subject,
)

LARGEST_PART = 96 * 1024
"""Bytes of the HTML part. Gmail hides what follows after 102 kB."""

_JOINERS = "\u200c\u200d"
"""Without them words of some scripts are misspelt; they are not printable to Python."""

_TEMPLATES = Environment(
    loader=PackageLoader("vmtrak.channels"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _details(line: Line) -> list[str]:
    return [detail for detail in (line.ip_address, line.environment, line.owner) if detail]


_TEMPLATES.filters |= {"phrase": phrase, "details": _details}


@dataclass(frozen=True, slots=True)
class _Section:
    """One group of a digest as it is shown. `rest` are those of its VMs that are not named."""

    group: Group
    heading: str
    count: int
    lines: tuple[Line, ...]
    list_address: str

    @property
    def rest(self) -> int:
        return self.count - len(self.lines)


def letter(parcel: Parcel, server_sender: str) -> EmailMessage:
    """The message for one recipient. `server_sender` may be Name <address>.

    Its Message-ID is the same at each attempt. Raises `Refused` for what is no address.
    """
    name, address = parts(server_sender)
    sender = _mailbox(address, name)
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = _mailbox(parcel.address or "")
    message["Subject"] = _as_header(subject(parcel.content))
    message["Date"] = datetime.now(UTC)
    message["Message-ID"] = f"<{parcel.uid}@{_site(parcel.base_url)}>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    text, page = _bodies(parcel)
    message.set_content(text, cte="quoted-printable")
    message.add_alternative(page, subtype="html", cte="quoted-printable")
    return message


def _site(base_url: str) -> str:
    """Where VMTrak is to be found: unlike this machine's name it stays, whoever sends."""
    host = urlsplit(base_url).hostname or "localhost"
    return f"[{host}]" if ":" in host else host


def _mailbox(address: str, name: str = "") -> Address:
    local, _, domain = in_ascii(address).rpartition("@")
    return Address(_as_header(name), local, domain)


def _as_header(text: str) -> str:
    """The text in one line, and none that headers read as encoded (RFC 2047) and would decode."""
    return _one_line(text).replace("=?", "= ?")


def _one_line(text: str) -> str:
    """The text without anything that could end a header."""
    return " ".join("".join(c if c.isprintable() or c in _JOINERS else " " for c in text).split())


def _bodies(parcel: Parcel) -> tuple[str, str]:
    """Text and HTML. Where the HTML would become too long, fewer VMs are named in both."""
    content = parcel.content
    if isinstance(content, Trial):
        return _rendered("test", parcel, {"asked_by": content.asked_by})
    lines: Sequence[Line] = content.lines
    while True:
        told = {"sections": list(_sections(parcel, lines)), "outsider": content.outsider}
        text, page = _rendered("digest", parcel, told)
        size = len(page.encode())
        if size <= LARGEST_PART or not lines:
            return text, page
        lines = lines[: min(len(lines) - 1, len(lines) * LARGEST_PART // size)]


def _rendered(name: str, parcel: Parcel, told: Mapping[str, object]) -> tuple[str, str]:
    values = {
        "title": _one_line(subject(parcel.content)),
        "base_url": parcel.base_url,
        "day": parcel.content.day,
        **told,
    }
    text, page = (_TEMPLATES.get_template(f"{name}.{kind}") for kind in ("txt", "html"))
    return text.render(values), page.render(values)


def _sections(parcel: Parcel, lines: Sequence[Line]) -> Iterator[_Section]:
    """The groups that have VMs, with those of their lines that are shown."""
    content = parcel.content
    assert isinstance(content, Digest)  # noqa: S101 - for mypy
    for group, heading in GROUPS.items():
        count = content.counts.get(group, 0)
        if count:
            shown = tuple(line for line in lines if group_of(line.days) is group)
            query = urlencode({"status": "active", **_span(group, content.day)})
            address = f"{parcel.base_url}/admin/vm/list?{query}&sort=expiry_date"
            yield _Section(group, heading, count, shown, address)


def _span(group: Group, day: date) -> dict[str, str]:
    """The group as the list of VMs filters it. How far "soon" reaches only the settings know."""
    first, last = {
        Group.TODAY: (0, 0),
        Group.TOMORROW: (1, 1),
        Group.SOON: (2, None),
        Group.OVERDUE: (None, -1),
    }[group]
    bounds = {"expires_from": first, "expires_to": last}
    return {
        name: (day + timedelta(days=days)).isoformat()
        for name, days in bounds.items()
        if days is not None
    }
