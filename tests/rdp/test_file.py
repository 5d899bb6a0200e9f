"""What stands in an RDP file, for any address, port, user name and rules."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rdp.reading import NEVER_SHARED, read
from vmtrak import rdp
from vmtrak.connections import RdpRequest
from vmtrak.errors import Invalid
from vmtrak.fields import parse
from vmtrak.hosts import host_of

NOW = datetime(2026, 11, 22, tzinfo=UTC)
NAMES = [
    "full address",
    "alternate full address",
    "server port",
    "negotiate security layer",
    "enablecredsspsupport",
    "enablerdsaadauth",
    "authentication level",
    "prompt for credentials",
    "gatewayhostname",
    "gatewayusagemethod",
    "gatewayprofileusagemethod",
    "alternate shell",
    "remoteapplicationmode",
    "redirectclipboard",
    *NEVER_SHARED,
    "username",
]

ports = st.integers(1, 65535)
gateways = st.sampled_from([None, "gate.example.org", "gate.example.org:8443"])
rules = st.builds(rdp.Rules, clipboard=st.booleans(), gateway=gateways)
ips = st.ip_addresses().map(str)
names = st.text(max_size=300)
written = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Zl", "Zp"]))


@given(ips, names, ports, written, rules)
def test_a_file_has_exactly_its_lines_whatever_it_is_made_of(
    address: str, hostname: str, port: int, user: str, chosen: rdp.Rules
) -> None:
    host = host_of(address, hostname)
    assert host is not None
    file = read(rdp.file(host, port, user, chosen, NOW))
    assert list(file.lines) == NAMES
    assert file.value("username") == user
    assert file.value("server port") == str(port)
    assert file.values.items() >= NEVER_SHARED.items()
    assert file.value("redirectclipboard") == ("1" if chosen.clipboard else "0")
    assert file.value("gatewayhostname") == (chosen.gateway or "")
    assert file.value("gatewayusagemethod") == ("2" if chosen.gateway else "0")


@given(names, ports)
def test_any_host_name_gives_one_line_or_none(hostname: str, port: int) -> None:
    host = host_of(None, hostname)
    if host is None:
        return
    file = read(rdp.file(host, port, None, rdp.Rules(), NOW))
    assert list(file.lines) == NAMES
    assert file.value("full address") == file.value("alternate full address")


@given(st.text(max_size=300))
def test_any_user_name_is_written_as_it_is_or_refused(user: str) -> None:
    try:
        content = rdp.file("192.0.2.1", 3389, user, rdp.Rules(), NOW)
    except Invalid:
        assert not (user.isprintable() and user.isascii())
    else:
        assert read(content).value("username") == user


@pytest.mark.parametrize(
    "user",
    [
        "a\r\nfull address:s:evil",
        *("a\nb", "a\rb", "a\0b", "a\u2028b", "a\u2029b", "a\x85b", "a\x0bb"),
        *("a\u202eb", "a\u2066b", "a\u200bb", "a\ufeffb", "a\ud800b"),
    ],
)
def test_a_user_name_that_could_break_or_turn_a_line_is_refused(user: str) -> None:
    with pytest.raises(Invalid):
        rdp.file("192.0.2.1", 3389, user, rdp.Rules(), NOW)
    with pytest.raises(Invalid):
        parse(RdpRequest, {"user": user})


def test_the_server_is_checked_and_the_password_asked_for() -> None:
    file = read(rdp.file("192.0.2.1", 3389, "otto", rdp.Rules(), NOW))
    expected = {
        "full address": "192.0.2.1",
        "authentication level": "2",
        "enablecredsspsupport": "1",
        "negotiate security layer": "1",
        "prompt for credentials": "1",
        "enablerdsaadauth": "0",
        "gatewayprofileusagemethod": "1",
        "alternate shell": "",
        "remoteapplicationmode": "0",
        "redirectclipboard": "0",
    }
    assert file.values.items() >= expected.items()
    assert not any("password" in name for name in file.lines)


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        ("192.0.2.1", 3389, "192.0.2.1"),
        ("192.0.2.1", 3390, "192.0.2.1:3390"),
        ("desk.example.org", 3389, "desk.example.org"),
        ("desk.example.org", 443, "desk.example.org:443"),
        # What follows the last colon is the port for some readers, so there always is one.
        ("2001:db8::1", 3389, "[2001:db8::1]:3389"),
        ("2001:db8::1", 3390, "[2001:db8::1]:3390"),
    ],
)
def test_the_address_says_which_port(host: str, port: int, address: str) -> None:
    file = read(rdp.file(host, port, None, rdp.Rules(), NOW))
    assert file.value("full address") == file.value("alternate full address") == address
    assert file.value("server port") == str(port)
