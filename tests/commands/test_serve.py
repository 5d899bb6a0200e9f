"""`vmtrak serve` from the first start on, as a person at the terminal meets it."""

import re
import signal
import stat
from pathlib import Path

import httpx2
import pytest

from tests.conftest import PASSWORD
from tests.faults.running import Server, ask, run, serving

LINK = re.compile(r"(https?://\S+/admin/setup)#(\S+)")
FIRST = {"username": "ada", "email": "ada@vmtrak.example", "password": PASSWORD}


def link_in(output: str) -> tuple[str, str]:
    """The address and the token of the set-up link that was printed."""
    found = LINK.findall(output)
    assert len(found) == 1, output
    address, token = found[0]
    return address, token


def set_up(server: Server, token: str) -> httpx2.Response:
    form = {**FIRST, "token": token}
    with server.client() as client:
        return client.post("/admin/setup", data=form, headers={"Origin": server.address})


def test_the_first_start_prints_a_link_that_makes_the_first_admin_once(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        address, token = link_in(server.output)
        assert address == f"{server.address}/admin/setup"
        with server.client() as client:
            assert client.get("/admin/setup").status_code == 200
            form = {"token": token}
            asked = client.post("/admin/setup", data=form, headers={"Origin": server.address})
            assert 'name="username"' in asked.text
        assert set_up(server, token).status_code == 303
        assert set_up(server, token).status_code == 404
        with server.client() as client:
            signed_in = client.post(
                "/api/auth/login", json={"username": "ADA", "password": PASSWORD}
            )
            assert signed_in.status_code == 200
            assert signed_in.json()["user"]["role"] == "admin"
        assert server.stop() == 0
    with serving(tmp_path) as again:
        assert "/admin/setup" not in again.output
        assert again.stop(signal.SIGINT) == 0


def test_another_start_prints_another_link_and_the_earlier_one_is_void(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        _, old = link_in(server.output)
        assert server.stop() == 0
    with serving(tmp_path) as server:
        _, new = link_in(server.output)
        assert new != old
        assert set_up(server, old).status_code == 404
        assert set_up(server, new).status_code == 303


def test_a_second_start_on_a_taken_port_ends_and_leaves_the_first_ones_link_alone(
    tmp_path: Path,
) -> None:
    with serving(tmp_path) as server:
        _, token = link_in(server.output)
        second = run(tmp_path, "serve", "--port", str(server.port))
        assert (second.returncode, second.stdout) == (1, "")
        assert second.stderr == (
            f"vmtrak: cannot listen on 127.0.0.1 port {server.port}: Address already in use\n"
        )
        assert set_up(server, token).status_code == 303


def test_a_base_address_that_is_set_is_the_one_in_the_link(tmp_path: Path) -> None:
    with serving(tmp_path, VMTRAK_BASE_URL="https://vm.example.org") as server:
        address, _ = link_in(server.output)
    assert address == "https://vm.example.org/admin/setup"


def test_a_host_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    refused = run(tmp_path, "serve", "--host", "300.1.1.1")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert len(refused.stderr.splitlines()) == 1
    assert "300.1.1.1" in refused.stderr


def test_what_it_makes_is_for_its_own_account_alone(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.client() as client:
        assert client.get("/api/vms").status_code == 401
        names = ("inventory.db", "inventory.db-wal", "secret-key", "logs/vmtrak.log")
        for name in names:
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600, name
        assert stat.S_IMODE((tmp_path / "logs").stat().st_mode) == 0o700


def test_no_secret_reaches_a_log(tmp_path: Path) -> None:
    with serving(tmp_path, VMTRAK_SECRET_KEY="k" * 16 + "K" * 17 + "z") as server:
        _, token = link_in(server.output)
        secrets = [PASSWORD, token, "kkkkKKKK", "wrong password 17"]
        panel = set_up(server, token)
        secrets.append(panel.cookies["vmtrak_session"])
        with server.client() as client:
            attempt = {"username": "ada", "password": "wrong password 17"}
            assert client.post("/api/auth/login", json=attempt).status_code == 401
            answer = client.post("/api/auth/login", json={**attempt, "password": PASSWORD})
            secrets += [answer.json()["accessToken"], answer.cookies["refreshToken"]]
            client.headers["Authorization"] = f"Bearer {answer.json()['accessToken']}"
            new = {"username": "bo", "email": "bo@vmtrak.example", "role": "read"}
            made = client.post("/api/users", json={**new, "password": "bo's own secret"})
            assert made.status_code == 201, made.text
            secrets.append("bo's own secret")
            broken = client.post("/api/auth/login", content=b'{"password": "half a pass')
            assert broken.status_code in {400, 415}
            secrets.append("half a pass")
            secrets.append(client.post("/api/auth/refresh").json()["accessToken"])
            assert client.post("/api/auth/logout").status_code == 200
        assert server.stop() == 0
        logs = [path.read_text() for path in (tmp_path / "logs").iterdir()]
    written = "".join([*logs, server.errors])
    assert "auth.login_failed" in written
    for secret in secrets:
        assert len(secret) > 7
        assert secret not in written
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("inventory.db*"))
    for secret in secrets:
        assert secret.encode() not in stored


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("VMTRAK_PROT", "1", "did you mean VMTRAK_PORT?"),
        ("VMTRAK_PORT", "many", "a number from 0 to 65535"),
        ("VMTRAK_SECRET_KEY", "changeme-changeme-changeme-changeme", "placeholder"),
    ],
)
def test_a_bad_setting_is_one_line_that_names_it(
    tmp_path: Path, name: str, value: str, words: str
) -> None:
    refused = ask(tmp_path, "serve", **{name: value})
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert len(refused.stderr.splitlines()) == 1
    assert refused.stderr.startswith(f"vmtrak: {name}: ")
    assert words in refused.stderr
    assert "changeme" not in refused.stderr
    assert list(tmp_path.iterdir()) == []
