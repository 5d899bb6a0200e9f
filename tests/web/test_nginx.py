"""nginx in front, as docs/operations.md sets it up: who the client is, and what it cannot forge."""

import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import select

from tests import services
from tests.conftest import PASSWORD, SECRET_KEY
from tests.faults.running import serving
from vmtrak.accounts.models import SignInLimit
from vmtrak.audit import AuditEvent
from vmtrak.db import Database

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"

CLIENT, OTHER = "127.0.0.5", "127.0.0.6"
OUTER, INNER = "127.0.0.2", "127.0.0.3"

FORGED: tuple[tuple[str, ...], ...] = (
    (),
    ("198.51.100.1",),
    ("127.0.0.1",),
    (f"198.51.100.1, {INNER}, {OUTER}",),
    ("198.51.100.1", "127.0.0.1"),
    ("::1", "[::1]:80", "::ffff:127.0.0.1"),
    ("unknown",),
    ("unix:",),
    ("<script>", "fe80::1%" + "x" * 1_000),
    ("",),
    (",,,",),
    ("9" * 4_000,),
    ("\xb9\xb2",),
)

Sent = Callable[..., httpx2.Response]


def configuration(folder: Path, servers: str) -> str:
    scratch = "".join(
        f"{kind}_temp_path {folder / kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off;\nmaster_process off;\npid {folder / 'pid'};\n"
        f"events {{ worker_connections 64; }}\nhttp {{\naccess_log off;\n{scratch}{servers}}}\n"
    )


@contextmanager
def nginx(folder: Path, servers: str, port: int) -> Iterator[None]:
    """An nginx of its own with these server blocks, until the port answers and to the end."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        name = "nginx"
        raise services.MissingProgramError(name)
    own = folder / f"nginx-{port}"
    own.mkdir()
    (own / "nginx.conf").write_text(configuration(own, servers))
    command = [program, "-p", str(own), "-e", str(own / "errors"), "-c", str(own / "nginx.conf")]
    process = subprocess.Popen(command)
    try:
        wait_for(process, port, own / "errors")
        yield
    finally:
        process.terminate()
        process.wait(services.STOP_SECONDS)


def wait_for(process: "subprocess.Popen[bytes]", port: int, errors: Path) -> None:
    deadline = time.monotonic() + services.START_SECONDS
    while True:
        try:
            httpx2.get(f"http://127.0.0.1:{port}/")
        except httpx2.TransportError:
            assert process.poll() is None, errors.read_text()
            assert time.monotonic() < deadline, errors.read_text()
            time.sleep(0.05)
        else:
            return


def proxy(listen: str, upstream: str, source: str) -> str:
    """A server block that passes on to the upstream from an address of its own."""
    return (
        f"server {{\nlisten {listen};\nlocation / {{\nproxy_pass http://{upstream};\n"
        f"proxy_bind {source};\nproxy_set_header Host $http_host;\n"
        "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n"
        "proxy_set_header X-Forwarded-Proto $scheme;\n}\n}\n"
    )


def sending(address: str, source: str = CLIENT) -> Sent:
    """Posts a sign-in from a client of that address, with forged headers."""

    def send(*forwarded: str, password: str = PASSWORD, username: str = "ada") -> httpx2.Response:
        headers = [("X-Forwarded-For", value.encode("latin-1")) for value in forwarded]
        with httpx2.Client(transport=httpx2.HTTPTransport(local_address=source)) as client:
            return client.post(
                f"{address}/api/auth/login",
                json={"username": username, "password": password},
                headers=[(name.encode(), value) for name, value in headers],
            )

    return send


def newest(url: str) -> AuditEvent:
    database = Database(url)
    with database.read() as session:
        found = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1)).one()
    database.close()
    return found


@contextmanager
def chained(folder: Path, trusted: str, *, proxies: int) -> Iterator[str]:
    """The outermost address of VMTrak behind no nginx, one or two."""
    settings = {"VMTRAK_SECRET_KEY": SECRET_KEY, "VMTRAK_TRUSTED_PROXIES": trusted}
    inner, outer = services.free_port(), services.free_port()
    with serving(folder, **settings) as server:
        servers = proxy(f"127.0.0.1:{inner}", f"127.0.0.1:{server.port}", INNER)
        servers += proxy(f"127.0.0.1:{outer}", f"127.0.0.1:{inner}", OUTER)
        with nginx(folder, servers, inner):
            yield f"http://127.0.0.1:{(server.port, inner, outer)[proxies]}"


@pytest.mark.parametrize("proxies", [0, 1, 2])
@pytest.mark.parametrize("trusted", [f"{OUTER}, {INNER}", "127.0.0.0/30"])
def test_the_trail_has_the_true_client_whatever_it_forges(
    database_url: str, tmp_path: Path, trusted: str, proxies: int
) -> None:
    with chained(tmp_path, trusted, proxies=proxies) as address:
        for forged in FORGED:
            answer = sending(address)(*forged)
            assert answer.status_code == 200, forged
            assert newest(database_url).ip_address == CLIENT, forged


@pytest.mark.parametrize(
    ("trusted", "proxies", "seen"),
    [("none", 1, INNER), ("none", 2, INNER), (INNER, 2, OUTER), (OUTER, 2, INNER)],
)
def test_a_proxy_that_is_not_trusted_is_itself_the_client(
    database_url: str, tmp_path: Path, trusted: str, proxies: int, seen: str
) -> None:
    with chained(tmp_path, trusted, proxies=proxies) as address:
        for forged in ((), ("198.51.100.1",), (CLIENT, INNER, OUTER)):
            assert sending(address)(*forged).status_code == 200
            assert newest(database_url).ip_address == seen, forged


def counted(url: str) -> set[str]:
    """The addresses that sign-ins are counted for."""
    database = Database(url)
    with database.read() as session:
        found = session.scalars(select(SignInLimit.key).where(SignInLimit.key.startswith("addr")))
        keys = set(found)
    database.close()
    return keys


@pytest.mark.parametrize("proxies", [0, 1, 2])
def test_failed_sign_ins_count_against_the_true_client(
    database_url: str, tmp_path: Path, proxies: int
) -> None:
    with chained(tmp_path, f"{OUTER}, {INNER}", proxies=proxies) as address:
        for number, forged in enumerate(FORGED[:6]):
            answer = sending(address)(*forged, username=f"nobody-{number}", password="guess")
            assert answer.status_code == 401
            assert newest(database_url).ip_address == CLIENT
        assert counted(database_url) == {f"address:{CLIENT}"}
        assert sending(address, OTHER)(CLIENT, password="guess").status_code == 401
        assert counted(database_url) == {f"address:{CLIENT}", f"address:{OTHER}"}


@pytest.mark.parametrize("proxies", [0, 1, 2])
@pytest.mark.usefixtures("database_url")
def test_a_token_for_one_network_is_of_no_use_to_who_claims_to_be_there(
    tmp_path: Path, proxies: int
) -> None:
    with chained(tmp_path, f"{OUTER}, {INNER}", proxies=proxies) as address:
        access = sending(address)().json()["accessToken"]
        new = {"name": "script", "scopes": ["inventory:read"], "expires_in_days": 1}
        made = httpx2.post(
            f"{address}/api/tokens",
            json={**new, "allowed_networks": [f"{CLIENT}/32"]},
            headers={"Authorization": f"Bearer {access}"},
        )
        assert made.status_code == 201, made.text
        for source, status in ((CLIENT, 200), (OTHER, 403)):
            for forged in (CLIENT, OTHER, f"{CLIENT}, {INNER}", "unknown"):
                headers = {"X-Forwarded-For": forged, "X-Real-IP": CLIENT}
                headers["Authorization"] = f"Bearer {made.json()['token']}"
                with httpx2.Client(transport=httpx2.HTTPTransport(local_address=source)) as client:
                    answer = client.get(f"{address}/api/vms", headers=headers)
                assert answer.status_code == status, (source, forged)


@pytest.mark.parametrize(
    ("listening", "upstream", "own", "client"),
    [("[::1]", "127.0.0.1", INNER, "::1"), ("127.0.0.1", "[::1]", "::1", CLIENT)],
)
def test_clients_and_proxies_on_ipv6_are_known(
    database_url: str, tmp_path: Path, listening: str, upstream: str, own: str, client: str
) -> None:
    """VMTrak listens on both kinds; an IPv4 proxy comes in over the IPv6 socket."""
    settings = {"VMTRAK_SECRET_KEY": SECRET_KEY, "VMTRAK_HOST": "::"}
    port, other = services.free_port(), services.free_port()
    with serving(tmp_path, VMTRAK_TRUSTED_PROXIES=own, **settings) as server:
        servers = proxy(f"{listening}:{port}", f"{upstream}:{server.port}", own)
        servers += proxy(f"127.0.0.1:{other}", f"{upstream}:{server.port}", own)
        with nginx(tmp_path, servers, other):
            sent = sending(f"http://{listening}:{port}", client)("198.51.100.1", "2001:db8::7")
    assert sent.status_code == 200
    assert newest(database_url).ip_address == client


def certificate(folder: Path) -> ssl.SSLContext:
    """Make one for 127.0.0.1; the context trusts it and nothing else."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "vm.example.org")])
    moment = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - timedelta(minutes=1))
        .not_valid_after(moment + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "vm.example.org.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "vm.example.org.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return ssl.create_default_context(cafile=str(folder / "vm.example.org.pem"))


def documented(folder: Path, port: int, upstream: int) -> str:
    """The server block of the document, with this test's ports and certificate."""
    match = re.search(r"```nginx\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert match is not None
    block = match[1]
    for theirs, ours in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/", f"{folder}/"),
        ("http://127.0.0.1:3000", f"http://127.0.0.1:{upstream}"),
    ):
        assert theirs in block
        block = block.replace(theirs, ours)
    return block


def test_the_documented_nginx_serves_the_panel_over_https(
    database_url: str, tmp_path: Path
) -> None:
    trusting, port = certificate(tmp_path), services.free_port()
    settings = {
        "VMTRAK_SECRET_KEY": SECRET_KEY,
        "VMTRAK_BASE_URL": f"https://127.0.0.1:{port}",
    }
    forged = {"X-Forwarded-For": "198.51.100.1", "X-Forwarded-Proto": "http"}
    with (
        serving(tmp_path, **settings) as server,
        nginx(tmp_path, documented(tmp_path, port, server.port), port),
        httpx2.Client(
            base_url=f"https://127.0.0.1:{port}",
            transport=httpx2.HTTPTransport(verify=trusting, local_address=CLIENT),
            headers=forged,
        ) as client,
    ):
        assert client.get("/admin/").headers["location"] == "/admin/login?next=%2Fadmin%2F"
        # As an older browser would: with Origin, which has to be what nginx passes on as Host.
        answer = client.post(
            "/admin/login",
            data={"username": "ada", "password": PASSWORD},
            headers={"Origin": f"https://127.0.0.1:{port}"},
        )
        assert answer.status_code == 303
        assert "Secure" in answer.headers["set-cookie"]
        assert "strict-transport-security" in answer.headers
        assert newest(database_url).ip_address == CLIENT
        assert client.get("/admin/").status_code == 200
        assert client.get("/admin/user/list/").headers["location"] == (
            f"https://127.0.0.1:{port}/admin/user/list"
        )
        foreign = client.post("/admin/logout", headers={"Origin": "https://vm.example.org"})
        assert foreign.status_code == 403
