"""What of a VM's free text counts as a place to connect to."""

import re
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmtrak.hosts import host_of, in_brackets


@pytest.mark.parametrize(
    ("address", "hostname", "host"),
    [
        ("192.0.2.1", "desk.example.org", "192.0.2.1"),
        (None, "desk.example.org", "desk.example.org"),
        (None, " desk.example.org. ", "desk.example.org."),
        (None, "Desk_01", "Desk_01"),
        (None, "192.0.2.1", "192.0.2.1"),
        (None, "2001:DB8:0::1", "2001:db8::1"),
        ("2001:db8::1", None, "2001:db8::1"),
        ("fe80::1%eth0", "desk", "desk"),
        (None, "bücher.example", "xn--bcher-kva.example"),
        (None, "Bücher.example", "xn--bcher-kva.example"),
        (None, "日本.example", "xn--wgv71a.example"),
    ],
)
def test_an_address_comes_before_a_name_and_a_name_is_ascii(
    address: str | None, hostname: str | None, host: str
) -> None:
    assert host_of(address, hostname) == host


@pytest.mark.parametrize(
    "hostname",
    [
        *(None, "", "  ", "-oProxyCommand=x", "desk;reboot", "desk 01", "desk/..", "user@desk"),
        *("$(id)", "desk:3390", "[2001:db8::1]", "fe80::1%eth0", "a..b", ".desk", "desk.-x", "*"),
        *("desk\nx", "a" * 64, ".".join(["abc"] * 64), "ü" * 200, "xn--a\u0308"),
        # What the two standards of IDNA spell differently, or one of them not at all.
        *("straße.example", "βόλος.example", "\uff44esk.example", "desk\u200d.example"),
        *("desk\u202e", "\u2100.example"),
    ],
)
def test_what_is_no_name_of_a_machine_counts_as_none(hostname: str | None) -> None:
    assert host_of(None, hostname) is None


@given(st.text(max_size=300), st.text(max_size=300))
def test_whatever_the_text_a_host_is_harmless(address: str, hostname: str) -> None:
    host = host_of(address, hostname)
    if host is not None and ":" in host:
        assert str(ip_address(host)) == host
    elif host is not None:
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}", host)


@given(st.text("abcxyzäöéжюאب日本-", min_size=1, max_size=40))
def test_a_name_in_another_script_comes_back_from_its_ascii(name: str) -> None:
    host = host_of(None, name)
    if host is not None and not name.isascii():
        assert host.startswith("xn--")
        assert host.encode().decode("idna") == name


def test_only_ipv6_stands_in_brackets() -> None:
    assert in_brackets("2001:db8::1") == "[2001:db8::1]"
    assert in_brackets("desk.example.org") == "desk.example.org"
