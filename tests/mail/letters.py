"""Digests to send, and what mail programs make of them."""

from datetime import date, timedelta
from email.message import EmailMessage

from vmtrak.channels import Digest, Group, Line, Parcel, group_of
from vmtrak.channels.mail import letter

DAY = date(2026, 11, 23)
BASE_URL = "https://vm.example.org"
SENDER = "VMTrak <vmtrak@vmtrak.example>"
ANN, BOB = "ann@vmtrak.example", "bob@vmtrak.example"


def line(number: int, days: int, name: str | None = None, **others: str | None) -> Line:
    about = {"ip_address": "192.0.2.17", "environment": "Production", "owner": ANN, **others}
    return Line(
        vm_id=number,
        vm_name=name if name is not None else f"build-{number:02}",
        expiry_date=DAY + timedelta(days=days),
        days=days,
        **about,
    )


def digest(*lines: Line, **more: int) -> Digest:
    """A digest of these lines and, by the names of groups, of so many VMs that it only counts."""
    counts = {group: more.get(group.value, 0) for group in Group}
    for one in lines:
        counts[group_of(one.days)] += 1
    return Digest(DAY, lines, {group: count for group, count in counts.items() if count})


def parcel(number: int = 1, address: str | None = ANN, content: Digest | None = None) -> Parcel:
    return Parcel(f"{number:032x}", address, content or digest(line(1, 5)), BASE_URL)


def made(content: Digest) -> EmailMessage:
    return letter(parcel(content=content), SENDER)


def part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert body is not None
    content = body.get_content()
    assert isinstance(content, str)
    return content.replace("\r\n", "\n")
