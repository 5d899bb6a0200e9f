"""Where a request came from: its peer, or what the trusted proxies in between say.

uvicorn's own reading of the header takes any text for an address and does not know an IPv4 proxy
that comes in over an IPv6 socket; see docs/decisions/0011.
"""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.types import Scope

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

FARTHEST = 16
"""So many proxies in a row are believed; a header may name thousands."""

_WRITTEN = re.compile(
    r"\[(?P<bracketed>[0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?"
    r"|(?P<v4>[0-9.]{7,15})(?::[0-9]{1,5})?"
    r"|(?P<v6>[0-9A-Fa-f:.]{2,45})"
)
"""How proxies write an address; no scope, whose text would be anybody's choice."""


def client_address(scope: Scope, trusted: tuple[Network, ...]) -> str | None:
    """The nearest address that is not a trusted proxy's; None where the peer has none.

    Each proxy appends who spoke to it, so the list is believed from its end for as long as the
    one who vouches is trusted. What is no address ends the walk: its proxy stands for it.
    """
    peer = scope.get("client")
    found = _address(peer[0]) if peer else None
    for said in _named(scope):
        if found is None or not any(found in network for network in trusted):
            break
        before = _address(said)
        if before is None:
            break
        found = before
    return None if found is None else str(found)


def _named(scope: Scope) -> Iterator[str]:
    """The entries of X-Forwarded-For, the nearest first."""
    lines = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    entries = b",".join(lines).decode("latin-1").rsplit(",", FARTHEST)[-FARTHEST:]
    return reversed([entry.strip() for entry in entries])


def _address(text: str) -> Address | None:
    """The number alone: without a port, and IPv4 as IPv4 even where IPv6 carries it."""
    written = _WRITTEN.fullmatch(text)
    try:
        number = ip_address(written[written.lastgroup or 0]) if written else None
    except ValueError:
        return None
    return (number.ipv4_mapped or number) if isinstance(number, IPv6Address) else number
