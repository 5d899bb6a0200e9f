"""Signed files, verified by OpenSSL over bytes put together anew from what was downloaded."""

import hashlib
import ssl
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import pkcs7

from tests.conftest import Later, Person
from tests.rdp.conftest import Pair, Vm, Ways, events, self_signed
from tests.rdp.reading import SCOPES, Read, read, signature, signed_message, verified
from vmtrak import rdp
from vmtrak.errors import Unavailable

GATEWAY = "gate.example.org:8443"


def signed(pair: Pair, **rules: Any) -> Read:
    signer = rdp.read_signer(pair.certificate, pair.key)
    chosen = rdp.Rules(**rules, signer=signer)
    return read(rdp.file("192.0.2.1", 3389, "otto", chosen, datetime.now(UTC)))


@pytest.fixture(params=["own", "issued"])
def pair(request: pytest.FixtureRequest) -> Pair:
    found: Pair = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("gateway", [None, GATEWAY])
def test_openssl_verifies_the_signature(pair: Pair, gateway: str | None, tmp_path: Path) -> None:
    file = signed(pair, gateway=gateway)
    assert list(file.lines)[-2:] == ["signscope", "signature"]
    assert file.value("signscope") == ",".join(SCOPES.values())
    assert verified(signed_message(file), signature(file), pair.trusted, tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("full address", "192.0.2.66"),
        ("alternate full address", "192.0.2.66"),
        ("server port", "3390"),
        ("gatewayhostname", "evil.example.org"),
        ("gatewayusagemethod", "1"),
        ("authentication level", "0"),
        ("enablecredsspsupport", "0"),
        ("prompt for credentials", "0"),
        ("redirectclipboard", "1"),
        ("redirectdrives", "1"),
        ("drivestoredirect", "*"),
        ("devicestoredirect", "*"),
        ("alternate shell", "calc.exe"),
        ("remoteapplicationmode", "1"),
    ],
)
def test_a_changed_line_breaks_the_signature(
    own: Pair, name: str, value: str, tmp_path: Path
) -> None:
    file = signed(own)
    head, kind, before = file.lines[name].split(":", 2)
    assert before != value
    changed = Read({**file.lines, name: f"{head}:{kind}:{value}"})
    assert not verified(signed_message(changed), signature(file), own.trusted, tmp_path)


@pytest.mark.parametrize("name", list(SCOPES))
def test_a_line_taken_out_of_the_scope_breaks_the_signature(
    own: Pair, name: str, tmp_path: Path
) -> None:
    file = signed(own)
    rest = [title for title in file.value("signscope").split(",") if title != SCOPES[name]]
    changed = Read({**file.lines, "signscope": f"signscope:s:{','.join(rest)}"})
    assert not verified(signed_message(changed), signature(file), own.trusted, tmp_path)


def test_another_root_does_not_vouch_for_it(own: Pair, issued: Pair, tmp_path: Path) -> None:
    file = signed(issued)
    assert not verified(signed_message(file), signature(file), own.trusted, tmp_path)


def test_the_certificates_between_it_and_the_root_are_included(issued: Pair) -> None:
    found = pkcs7.load_der_pkcs7_certificates(signature(signed(issued)))
    assert len(found) == issued.certificate.read_text().count("BEGIN CERTIFICATE") == 2


def test_the_signature_is_detached_with_sha256_and_without_attributes(
    own: Pair, tmp_path: Path
) -> None:
    (tmp_path / "signature.der").write_bytes(signature(signed(own)))
    printed = subprocess.run(
        ["openssl", "cms", "-cmsout", "-print", "-inform", "DER", "-in", "signature.der"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "eContent: <ABSENT>" in printed
    assert "signedAttrs:\n          <ABSENT>" in printed
    assert "algorithm: sha256 (2.16.840.1.101.3.4.2.1)" in printed


def test_an_unsigned_file_has_neither_line() -> None:
    file = read(rdp.file("192.0.2.1", 3389, None, rdp.Rules(), datetime.now(UTC)))
    assert not {"signscope", "signature"} & set(file.lines)


def test_the_thumbprint_is_the_sha1_of_the_certificate(own: Pair) -> None:
    der = ssl.PEM_cert_to_DER_cert(own.certificate.read_text())
    signer = rdp.read_signer(own.certificate, own.key)
    assert signer.thumbprint == hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()
    assert str(own.key) not in repr(signer)
    assert "RSAPrivateKey" not in repr(signer)


# A file that cannot be signed is not given


Refused = Callable[[Ways, Person, int], str]


@pytest.fixture
def changed(own: Pair) -> dict[str, Any]:
    return {"rdp_cert": own.certificate, "rdp_key": own.key}


@pytest.fixture
def refused(admin: Person) -> Refused:
    """Asks for a file that cannot be signed: no file, nothing on record; the words."""

    def ask(ways: Ways, person: Person, number: int) -> str:
        answer = ways.rdp(person, number)
        assert answer.status_code == 503
        assert b"full address" not in answer.content.replace(b"\0", b"")
        assert events(admin) == []
        return answer.text

    return ask


def test_a_download_is_signed_at_both_doors(
    ways: Ways, operator: Person, vm: Vm, own: Pair, tmp_path: Path, admin: Person
) -> None:
    answer = ways.rdp(operator, vm("otto"))
    assert answer.status_code == 200
    file = read(answer.content)
    assert verified(signed_message(file), signature(file), own.trusted, tmp_path)
    assert [event["detail"] for event in events(admin)] == [{"signed": True, "port": 3389}]


def test_an_expired_certificate_signs_nothing(
    ways: Ways, operator: Person, vm: Vm, later: Later, refused: Refused
) -> None:
    number = vm("otto")
    later(366 * 86_400)
    assert "The RDP file cannot be signed: the certificate expired on" in refused(
        ways, operator, number
    )


def test_a_certificate_that_is_not_valid_yet_signs_nothing(
    ways: Ways, operator: Person, vm: Vm, later: Later, refused: Refused
) -> None:
    number = vm("otto")
    later(-86_400)
    assert "The RDP file cannot be signed: the certificate is not valid before" in refused(
        ways, operator, number
    )


def test_a_signature_that_fails_gives_no_file(
    ways: Ways,
    operator: Person,
    vm: Vm,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> bytes:
        message = "the hardware says no"
        raise ValueError(message)

    monkeypatch.setattr(rdp.Signer, "sign", broken)
    text = refused(ways, operator, vm("otto"))
    assert "The RDP file cannot be signed with the key that is set." in text
    assert "hardware" not in text


def test_validity_counts_to_the_second(tmp_path: Path) -> None:
    pair = self_signed(tmp_path, "-days", "10")
    signer = rdp.read_signer(pair.certificate, pair.key)
    begins = signer.certificate.not_valid_before_utc
    assert signer.fault(begins) is None
    assert signer.fault(signer.ends) is None
    assert signer.fault(begins - timedelta(seconds=1)) is not None
    assert signer.fault(signer.ends + timedelta(seconds=1)) is not None
    with pytest.raises(Unavailable):
        rdp.file("192.0.2.1", 3389, None, rdp.Rules(signer=signer), signer.ends + timedelta(days=1))
