"""The settings that name certificate and key: what stops the start, and what the doctor says."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Later
from tests.faults.running import ask
from tests.rdp.conftest import Pair, openssl, self_signed
from vmtrak import app, settings
from vmtrak.settings import SettingsError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose name tells that it was printed."""
    path = tmp_path / "unspoken"
    path.mkdir()
    return path


def stopped(certificate: Path, key: Path) -> str:
    """The one line with which the start ends."""
    given = {"VMTRAK_RDP_CERT": str(certificate), "VMTRAK_RDP_KEY": str(key)}
    with pytest.raises(SettingsError) as caught:
        app.rdp_rules(settings.load(given, None))
    line = str(caught.value)
    assert "unspoken" not in line
    assert "\n" not in line
    return line


def test_a_certificate_without_a_key_stops_the_start_and_the_reverse() -> None:
    for name, other in (("CERT", "KEY"), ("KEY", "CERT")):
        with pytest.raises(SettingsError) as caught:
            settings.load({f"VMTRAK_RDP_{name}": "/etc/rdp.pem"}, None)
        assert str(caught.value) == f"VMTRAK_RDP_{name}: needs VMTRAK_RDP_{other} beside it"


def test_a_file_that_is_not_there_is_told_by_its_setting_alone(own: Pair, folder: Path) -> None:
    gone = folder / "gone.pem"
    why = "cannot read this file (No such file or directory)"
    assert stopped(gone, own.key) == f"VMTRAK_RDP_CERT: {why}"
    assert stopped(own.certificate, gone) == f"VMTRAK_RDP_KEY: {why}"
    why = "cannot read this file (Is a directory)"
    assert stopped(own.certificate, folder) == f"VMTRAK_RDP_KEY: {why}"


def test_a_file_of_something_else_is_refused(own: Pair, folder: Path) -> None:
    other = folder / "other.pem"
    for content in ("", "hunter2", own.key.read_text(), "-----BEGIN CERTIFICATE-----\nAAAA\n"):
        other.write_text(content)
        line = stopped(other, own.key)
        assert line == "VMTRAK_RDP_CERT: this file holds no certificate in PEM"
    for content in ("", "hunter2", own.certificate.read_text()):
        other.write_text(content)
        line = stopped(own.certificate, other)
        assert line == "VMTRAK_RDP_KEY: this file holds no private key in PEM"


def test_the_key_must_fit_the_certificate(own: Pair, folder: Path) -> None:
    other = self_signed(folder, name="other")
    line = "VMTRAK_RDP_KEY: does not belong to the certificate"
    assert stopped(own.certificate, other.key) == line
    curve = ["-pkeyopt", "ec_paramgen_curve:secp224k1"]
    strange = self_signed(folder, *curve, kind="ec", name="strange")
    assert stopped(strange.certificate, own.key) == line


def test_an_encrypted_key_is_refused(own: Pair, folder: Path) -> None:
    locked = folder / "locked.key"
    openssl(
        folder, "rsa", "-aes256", "-passout", "pass:x", "-in", str(own.key), "-out", str(locked)
    )
    assert stopped(own.certificate, locked) == (
        "VMTRAK_RDP_KEY: this key is encrypted; it must have no passphrase"
    )


@pytest.mark.parametrize("kind", ["rsa:1024", "ed25519", "ec"])
def test_only_rsa_of_2048_bits_or_more_signs(kind: str, folder: Path) -> None:
    more = ["-pkeyopt", "ec_paramgen_curve:P-256"] if kind == "ec" else []
    pair = self_signed(folder, *more, kind=kind)
    assert stopped(pair.certificate, pair.key) == (
        "VMTRAK_RDP_KEY: must be an RSA key of at least 2048 bits; Windows reads no other"
    )


def test_the_program_itself_ends_with_that_line(own: Pair, folder: Path) -> None:
    chosen = {"VMTRAK_RDP_CERT": str(own.certificate), "VMTRAK_RDP_KEY": str(folder / "gone")}
    said = ask(folder, "serve", "--port", "0", **chosen)
    assert said.exit_code == 1
    line = "vmtrak: VMTRAK_RDP_KEY: cannot read this file (No such file or directory)"
    assert (said.stdout, said.stderr) == ("", f"{line}\n")
    assert not (folder / "inventory.db").exists()


@pytest.mark.parametrize("gateway", ["gate.example.org", "gate:443", "192.0.2.1:8443"])
def test_a_gateway_is_a_host_perhaps_with_a_port(gateway: str) -> None:
    chosen = settings.load({"VMTRAK_RDP_GATEWAY": gateway, "VMTRAK_RDP_CLIPBOARD": "on"}, None)
    rules = app.rdp_rules(chosen)
    assert (rules.gateway, rules.clipboard, rules.signer) == (gateway, True, None)


@pytest.mark.parametrize(
    "gateway", ["gate:0", "gate:65536", "-gate", "a b", "https://gate", "a\nb"]
)
def test_any_other_gateway_stops_the_start(gateway: str) -> None:
    with pytest.raises(SettingsError, match="VMTRAK_RDP_GATEWAY: must"):
        settings.load({"VMTRAK_RDP_GATEWAY": gateway}, None)


# What the doctor says


def examined(folder: Path, **given: Any) -> list[str]:
    """The doctor's lines about RDP files."""
    said = ask(folder, "doctor", **{name: str(value) for name, value in given.items()})
    assert "Traceback" not in said.output
    lines = said.stdout.splitlines()
    assert said.exit_code == any(line.startswith("MEND") for line in lines)
    return [line for line in lines if line[6:].startswith("RDP files: ")]


def of(pair: Pair) -> dict[str, Path]:
    return {"VMTRAK_RDP_CERT": pair.certificate, "VMTRAK_RDP_KEY": pair.key}


def test_the_doctor_says_that_files_are_not_signed(tmp_path: Path) -> None:
    assert examined(tmp_path) == ["ok    RDP files: not signed; VMTRAK_RDP_CERT is not set"]


def test_the_doctor_says_who_signs_and_until_when(own: Pair, tmp_path: Path) -> None:
    [line] = examined(tmp_path, **of(own))
    assert line.startswith("ok    RDP files: signed until 2")
    assert line.endswith(" by CN=VMTrak own,O=Example")


def test_the_doctor_finds_what_would_stop_the_start(own: Pair, folder: Path) -> None:
    given = {**of(own), "VMTRAK_RDP_KEY": folder / "gone"}
    [line] = examined(folder, **given)
    assert line.startswith("MEND  RDP files: VMTRAK_RDP_KEY: cannot read this file")


def test_the_doctor_warns_of_a_key_that_others_can_read(folder: Path) -> None:
    pair = self_signed(folder, "-days", "365")
    pair.key.chmod(0o640)
    found = examined(folder, **of(pair))
    assert f"MEND  RDP files: others can read {pair.key}; chmod 600 mends that" in found


def test_the_doctor_warns_thirty_days_before_the_end_and_after_it(
    folder: Path, later: Later
) -> None:
    pair = self_signed(folder, "-days", "31")
    assert examined(folder, **of(pair))[0].startswith("ok    RDP files: signed until")
    later(2 * 86_400)
    [line] = examined(folder, **of(pair))
    assert line.startswith("MEND  RDP files: the certificate ends on ")
    assert line.endswith("; renew it")
    later(30 * 86_400)
    [line] = examined(folder, **of(pair))
    assert line.startswith("MEND  RDP files: nobody gets one: the certificate expired on ")
