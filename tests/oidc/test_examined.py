"""What `vmtrak doctor` says of signing in over a provider."""

from pathlib import Path

import pytest
from click.testing import Result

from tests import services
from tests.conftest import BASE_URL
from tests.faults.running import ask
from tests.oidc import troubles
from tests.oidc.conftest import CLIENT_ID, CLIENT_SECRET, registered
from tests.oidc.provider import Provider, Trouble

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

CALLBACK = f"{BASE_URL}/api/auth/microsoft/callback"


@pytest.fixture(autouse=True)
def private(tmp_path: Path, environment: dict[str, str]) -> None:
    """As a start makes its files; the tests' copy is readable by everybody."""
    assert environment["VMTRAK_DATA_DIR"] == str(tmp_path)
    (tmp_path / "inventory.db").chmod(0o600)


def examined(folder: Path, settings: dict[str, str]) -> tuple[Result, list[str]]:
    """The doctor's run, and its lines about signing in."""
    said = ask(folder, "doctor", **settings)
    assert "Traceback" not in said.output
    assert CLIENT_SECRET not in said.output
    lines = said.stdout.splitlines()
    assert said.exit_code == any(line.startswith("MEND") for line in lines)
    return said, [line for line in lines if line[6:].startswith("sign-in: ")]


def to_mend(lines: list[str]) -> str:
    [line] = [line for line in lines if line.startswith("MEND")]
    return line.removeprefix("MEND  sign-in: ")


def test_a_provider_that_knows_this_installation_is_well(
    environment: dict[str, str], tmp_path: Path, provider: Provider
) -> None:
    said, lines = examined(tmp_path, environment)
    assert said.exit_code == 0
    assert lines == [
        f"ok    sign-in: {provider.issuer} tells how to sign in",
        lines[1],
        f"ok    sign-in: the redirect URI {CALLBACK} is registered",
    ]
    assert lines[1].startswith("ok    sign-in: its clock and this one differ by ")
    assert provider.redeemed == 0
    assert provider.seats == {}


@pytest.mark.parametrize(("ahead", "side"), [(120, "behind"), (-120, "ahead of")])
def test_a_clock_that_is_two_minutes_off_is_to_be_mended(
    environment: dict[str, str], tmp_path: Path, provider: Provider, ahead: int, side: str
) -> None:
    provider.mischief.skew = ahead
    line = to_mend(examined(tmp_path, environment)[1])
    assert f" s {side} the provider's" in line
    assert 118 <= int(line.split()[3]) <= 122


def test_a_clock_that_is_half_a_minute_off_is_well(
    environment: dict[str, str], tmp_path: Path, provider: Provider
) -> None:
    provider.mischief.skew = 30
    assert examined(tmp_path, environment)[0].exit_code == 0


def test_a_redirect_uri_that_is_not_registered_is_named(
    environment: dict[str, str], tmp_path: Path, provider: Provider
) -> None:
    provider.clients[CLIENT_ID] = registered("https://vm.corp.example")
    assert f"register {CALLBACK} " in to_mend(examined(tmp_path, environment)[1])


def test_a_client_that_the_provider_does_not_know_is_to_be_mended(
    environment: dict[str, str], tmp_path: Path, provider: Provider
) -> None:
    provider.clients.clear()
    assert "does not know" in to_mend(examined(tmp_path, environment)[1])


def test_a_base_address_without_https_is_told_with_the_redirect_uri(
    environment: dict[str, str], tmp_path: Path, provider: Provider
) -> None:
    provider.clients[CLIENT_ID] = registered("http://vm.corp.example")
    environment["VMTRAK_BASE_URL"] = "http://vm.corp.example"
    line = to_mend(examined(tmp_path, environment)[1])
    assert line.startswith("http://vm.corp.example/api/auth/microsoft/callback is not https")


def test_a_provider_without_a_client_id_is_to_be_mended(
    environment: dict[str, str], tmp_path: Path, provider: Provider
) -> None:
    del environment["VMTRAK_OIDC_CLIENT_ID"]
    line = to_mend(examined(tmp_path, environment)[1])
    assert line == f"{provider.issuer} is not asked: VMTRAK_OIDC_CLIENT_ID is not set"


def test_a_provider_that_is_away_is_one_line(
    environment: dict[str, str], tmp_path: Path, provider: Provider
) -> None:
    assert provider.seats == {}
    away = f"http://localhost:{services.free_port()}"
    environment["VMTRAK_OIDC_ISSUER"] = away
    line = to_mend(examined(tmp_path, environment)[1])
    assert line.startswith(f"{away}/.well-known/openid-configuration is no use")


@pytest.mark.parametrize(
    "trouble",
    [
        troubles.status(500),
        troubles.body(b"<html>"),
        troubles.body(b"[]"),
        troubles.body(b"\xff"),
        troubles.body(b""),
        troubles.moved,
        troubles.flood,
        troubles.drip,
    ],
)
def test_a_provider_in_trouble_is_one_line(
    environment: dict[str, str], tmp_path: Path, provider: Provider, trouble: Trouble
) -> None:
    provider.mischief.answers["metadata"] = trouble
    line = to_mend(examined(tmp_path, environment)[1])
    assert line.startswith(f"{provider.issuer}/.well-known/openid-configuration is no use")


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"authorization_endpoint": "http://evil.example/authorize"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"token_endpoint": None},
    ],
)
def test_metadata_that_no_sign_in_would_use_is_to_be_mended(
    environment: dict[str, str], tmp_path: Path, provider: Provider, changed: dict[str, str]
) -> None:
    provider.mischief.metadata.update(changed)
    line = to_mend(examined(tmp_path, environment)[1])
    assert line.startswith(f"{provider.issuer}/.well-known/openid-configuration is no use")


def test_without_a_provider_there_is_nothing_to_ask(
    environment: dict[str, str], tmp_path: Path, provider: Provider
) -> None:
    passwords = {n: v for n, v in environment.items() if "_OIDC_" not in n}
    said, lines = examined(tmp_path, passwords)
    assert said.exit_code == 0
    assert lines == ["ok    sign-in: with passwords; no OpenID provider is set"]
    assert provider.asked_for_keys == 0
