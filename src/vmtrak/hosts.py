"""Where a VM answers: what of its record may stand as a host in a file, a link or a configuration.

A VM's host name is free text, and programs read options, ports and patterns out of text.
"""

import re
from ipaddress import IPv6Address, ip_address

LONGEST = 253
"""Characters of a host name, its dots included (RFC 1035, 2.3.4, without the length octets)."""

_LABEL = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")


def host_of(address: str | None, hostname: str | None) -> str | None:
    """The IP address, or where there is none the host name in ASCII; None if neither is one."""
    return _ip(address) or _ip(hostname) or _name(hostname)


def in_brackets(host: str) -> str:
    """The host as it stands before a colon and a port."""
    return f"[{host}]" if ":" in host else host


def _ip(text: str | None) -> str | None:
    """In its one spelling. With a zone (`fe80::1%eth0`) it means something on one machine only."""
    try:
        found = ip_address((text or "").strip())
    except ValueError:
        return None
    return None if isinstance(found, IPv6Address) and found.scope_id else str(found)


def _name(text: str | None) -> str | None:
    name = (text or "").strip()
    if not 0 < len(name) <= LONGEST:
        return None
    encoded = name if name.isascii() else _encoded(name)
    return encoded if len(encoded) <= LONGEST and _NAME.fullmatch(encoded) else None


def _encoded(name: str) -> str:
    """The name in IDNA's ASCII, or nothing if it does not come back from there as it was.

    What does not is spelt differently by the two standards of IDNA (`straße` becomes `strasse` or
    `xn--strae-oqa`): it could lead to somebody else's machine.
    """
    try:
        encoded = name.encode("idna")
        back = encoded.decode("idna")
    except UnicodeError:
        return ""
    return encoded.decode("ascii") if back == name.lower() else ""
