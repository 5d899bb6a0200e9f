"""Whose word counts about where a request came from."""

import shutil
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from tests.conftest import BASE_URL, PASSWORD, SECRET_KEY, anonymous_client
from tests.faults.running import serving
from vmtrak import app as application
from vmtrak.audit import AuditEvent
from vmtrak.db import Database
from vmtrak.settings import Settings
from vmtrak.web.guard import PANEL_COOKIE
from vmtrak.web.proxies import FARTHEST, client_address

TRUSTED = tuple(ip_network(n) for n in ("127.0.0.1", "10.0.0.0/8", "::1", "fd00::/8"))

SAID = {
    "nothing": ([], "127.0.0.1"),
    "one address": (["203.0.113.9"], "203.0.113.9"),
    "what the client forged stands to the left": (["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
    "through a trusted proxy": (["203.0.113.9, 10.1.2.3"], "203.0.113.9"),
    "through two of them, one IPv6": (["203.0.113.9, fd00::7, 10.1.2.3"], "203.0.113.9"),
    "forged, and through two": (["8.8.8.8, 203.0.113.9, fd00::7, 10.1.2.3"], "203.0.113.9"),
    "a stranger who names a trusted proxy": (["10.9.9.9, 203.0.113.9"], "203.0.113.9"),
    "trusted ones alone": (["10.9.9.9, 10.1.2.3"], "10.9.9.9"),
    "IPv6": (["2001:db8::7"], "2001:db8::7"),
    "IPv6 in another spelling": (["2001:0DB8:0:0::0007"], "2001:db8::7"),
    "IPv6 in brackets": (["[2001:db8::7]"], "2001:db8::7"),
    "IPv6 with a port": (["[2001:db8::7]:4711"], "2001:db8::7"),
    "IPv4 with a port": (["203.0.113.9:4711"], "203.0.113.9"),
    "IPv4 written as IPv6": (["::ffff:203.0.113.9"], "203.0.113.9"),
    "a trusted IPv4 written as IPv6": (["203.0.113.9, ::ffff:10.1.2.3"], "203.0.113.9"),
    "spaces and tabs": (["  198.51.100.1 ,\t203.0.113.9\t"], "203.0.113.9"),
    "no spaces": (["198.51.100.1,203.0.113.9"], "203.0.113.9"),
    "several lines": (["198.51.100.1", "203.0.113.9"], "203.0.113.9"),
    "several lines through a proxy": (["198.51.100.1", "203.0.113.9, 10.1.2.3"], "203.0.113.9"),
    "empty": ([""], "127.0.0.1"),
    "commas": ([",,,"], "127.0.0.1"),
    "unknown": (["unknown"], "127.0.0.1"),
    "unknown behind a proxy": (["198.51.100.1, unknown, 10.1.2.3"], "10.1.2.3"),
    "a hidden name": (["_hidden"], "127.0.0.1"),
    "a socket's path": (["unix:"], "127.0.0.1"),
    "a host name": (["localhost"], "127.0.0.1"),
    "markup": (["<script>x"], "127.0.0.1"),
    "very long": (["x" * 60_000], "127.0.0.1"),
    "a very long number": (["1" * 60_000], "127.0.0.1"),
    "a scope with text in it": (["fe80::1%" + "x" * 300], "127.0.0.1"),
    "text behind the brackets": (["[2001:db8::7]x"], "127.0.0.1"),
    "an open bracket": (["[2001:db8::7"], "127.0.0.1"),
    "empty brackets": (["[]:80"], "127.0.0.1"),
    "a port that is none": (["203.0.113.9:x"], "127.0.0.1"),
    "leading zeros": (["203.0.113.09"], "127.0.0.1"),
    "half an address": (["203.0.113"], "127.0.0.1"),
    "a network": (["203.0.113.0/24"], "127.0.0.1"),
    "other digits": (["203.0.113.\xb9"], "127.0.0.1"),
    "more proxies than anybody has": (["203.0.113.9" + ", 10.1.2.3" * 6_000], "10.1.2.3"),
    "as many as are believed": (
        ["203.0.113.9" + ", 10.1.2.3" * (FARTHEST - 1)],
        "203.0.113.9",
    ),
}

PEERS = {
    "127.0.0.1": "203.0.113.9",
    "::1": "203.0.113.9",
    "::ffff:127.0.0.1": "203.0.113.9",
    "10.255.0.1": "203.0.113.9",
    "fd00::1": "203.0.113.9",
    "127.0.0.2": "127.0.0.2",
    "11.0.0.1": "11.0.0.1",
    "::ffff:11.0.0.1": "11.0.0.1",
    "2001:db8::1": "2001:db8::1",
    "testclient": None,
    "": None,
}

Recorded = Callable[..., str | None]


def told(lines: list[bytes], peer: str = "127.0.0.1") -> str | None:
    headers = [(b"x-forwarded-for", line) for line in lines]
    headers += [(b"x-real-ip", b"192.0.2.1"), (b"forwarded", b"for=192.0.2.1")]
    return client_address({"client": (peer, 50_000), "headers": headers}, TRUSTED)


@pytest.mark.parametrize("case", SAID)
def test_what_a_trusted_proxy_says_is_read_from_its_end(case: str) -> None:
    lines, expected = SAID[case]
    assert told([line.encode("latin-1") for line in lines]) == expected


@pytest.mark.parametrize("peer", PEERS)
def test_only_a_trusted_peer_is_listened_to(peer: str) -> None:
    assert told([b"203.0.113.9"], peer) == PEERS[peer]


def test_a_peer_without_an_address_has_none_and_is_not_believed() -> None:
    headers = [(b"x-forwarded-for", b"203.0.113.9")]
    assert client_address({"client": None, "headers": headers}, TRUSTED) is None
    assert client_address({"headers": headers}, TRUSTED) is None


def test_nobody_is_listened_to_where_nobody_is_trusted() -> None:
    scope = {"client": ("127.0.0.1", 1), "headers": [(b"x-forwarded-for", b"203.0.113.9")]}
    assert client_address(scope, ()) == "127.0.0.1"


@given(st.lists(st.binary(max_size=80), max_size=4))
def test_whatever_a_header_holds_an_address_comes_out(lines: list[bytes]) -> None:
    found = told(lines)
    assert found is not None
    assert str(ip_address(found)) == found


@given(st.lists(st.binary(max_size=80), max_size=4), st.ip_addresses())
def test_whatever_a_client_sends_the_proxy_has_the_last_word(
    forged: list[bytes], client: object
) -> None:
    """As `$proxy_add_x_forwarded_for` appends: to the last line."""
    *before, last = forged or [b""]
    found = told([*before, last + f", {client}".encode()], "10.0.0.1")
    expected = told([str(client).encode()], "10.0.0.1")
    trusted = any(ip_address(expected or "") in network for network in TRUSTED)
    assert found == expected or trusted


@pytest.fixture
def folder(sqlite_template: Path, tmp_path: Path) -> Path:
    shutil.copy(sqlite_template, tmp_path / "inventory.db")
    return tmp_path


def recorder(folder: Path, address: str) -> Recorded:
    """Signs in and tells which address the trail has for it."""

    def record(*forwarded: str, source: str | None = None) -> str | None:
        headers = [("X-Forwarded-For", value) for value in forwarded]
        body = {"username": "ada", "password": PASSWORD}
        with httpx2.Client(transport=httpx2.HTTPTransport(local_address=source)) as client:
            answer = client.post(f"{address}/api/auth/login", json=body, headers=headers)
        assert answer.status_code == 200
        assert "server" not in answer.headers
        database = Database(f"sqlite:///{folder / 'inventory.db'}")
        newest = select(AuditEvent.ip_address).order_by(AuditEvent.id.desc()).limit(1)
        with database.read() as session:
            found = session.scalar(newest)
        database.engine.dispose()
        return found

    return record


def test_the_trail_has_the_address_that_a_trusted_proxy_gives(folder: Path) -> None:
    trusted = {"VMTRAK_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8"}
    with serving(folder, VMTRAK_SECRET_KEY=SECRET_KEY, **trusted) as server:
        recorded = recorder(folder, server.address)
        assert recorded() == "127.0.0.1"
        assert recorded("203.0.113.9") == "203.0.113.9"
        assert recorded("198.51.100.1", "203.0.113.9, 10.0.0.1") == "203.0.113.9"
        assert recorded("2001:db8::7") == "2001:db8::7"
        assert recorded("fe80::1%" + "x" * 5_000) == "127.0.0.1"
        assert recorded("203.0.113.9", source="127.0.0.5") == "127.0.0.5"


def test_an_untrusted_peer_says_nothing_about_where_a_request_came_from(folder: Path) -> None:
    settings = {"VMTRAK_TRUSTED_PROXIES": "10.0.0.0/8", "FORWARDED_ALLOW_IPS": "*"}
    with serving(folder, VMTRAK_SECRET_KEY=SECRET_KEY, **settings) as server:
        recorded = recorder(folder, server.address)
        assert recorded("203.0.113.9") == "127.0.0.1"
        assert recorded("10.0.0.1, 203.0.113.9") == "127.0.0.1"
        assert recorded("203.0.113.9, 10.0.0.1") == "127.0.0.1"


def test_a_server_on_both_kinds_of_address_knows_its_proxies(folder: Path) -> None:
    settings = {"VMTRAK_TRUSTED_PROXIES": "127.0.0.1, ::1", "VMTRAK_HOST": "::"}
    with serving(folder, VMTRAK_SECRET_KEY=SECRET_KEY, **settings) as server:
        recorded = recorder(folder, server.address)
        assert recorded() == "127.0.0.1"
        assert recorded("203.0.113.9") == "203.0.113.9"
        assert recorded("203.0.113.9", source="127.0.0.5") == "127.0.0.5"
        recorded = recorder(folder, f"http://[::1]:{server.port}")
        assert recorded() == "::1"
        assert recorded("203.0.113.9") == "203.0.113.9"


FORGED = {
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "4443",
    "X-Forwarded-Server": "evil.example",
    "X-Forwarded-Prefix": "/evil",
    "X-Original-URL": "/admin/user/list",
    "X-Rewrite-URL": "/admin/user/list",
    "X-HTTP-Method-Override": "DELETE",
    "Forwarded": "for=192.0.2.1;host=evil.example;proto=https",
}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("forged", ["http", "https", "ftp", "https, http"])
def test_only_the_base_address_says_whether_it_is_https(
    settings: Settings, scheme: str, forged: str
) -> None:
    base_url = BASE_URL.replace("http", scheme)
    app = application.build(settings.model_copy(update={"base_url": base_url}))
    headers = {**FORGED, "X-Forwarded-Proto": forged, "Origin": BASE_URL}
    form = {"username": "ada", "password": PASSWORD}
    with anonymous_client(app) as client:
        answer = client.post("/admin/login", data=form, headers=headers)
        cookie = answer.headers["set-cookie"]
        signed_in = {**headers, "Cookie": cookie.partition(";")[0]}
        slash = client.get("/admin/user/list/", headers=signed_in)
    assert answer.status_code == 303
    assert cookie.startswith(f"{PANEL_COOKIE}=")
    assert ("Secure" in cookie) == (scheme == "https")
    assert ("strict-transport-security" in answer.headers) == (scheme == "https")
    assert answer.headers["location"] == "/admin/"
    assert "evil" not in answer.text
    assert slash.headers["location"] == f"{base_url}/admin/user/list"
