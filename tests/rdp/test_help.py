"""The page that says who signs RDP files and how Windows learns to trust it."""

from typing import Any

import pytest

from tests.conftest import Later, Person
from tests.rdp.conftest import Pair, Vm, openssl

HELP = "/admin/rdp-help"


@pytest.fixture
def changed(request: pytest.FixtureRequest, own: Pair) -> dict[str, Any]:
    signing = {"rdp_cert": own.certificate, "rdp_key": own.key}
    found: dict[str, Any] = getattr(request, "param", signing)
    return found


def test_the_page_names_the_certificate_as_openssl_does(operator: Person, own: Pair) -> None:
    page = operator.panel.get(HELP).text
    pem = ["x509", "-in", str(own.certificate), "-noout"]
    printed = openssl(own.certificate.parent, *pem, "-fingerprint", "-sha1")
    thumbprint = printed.strip().rpartition("=")[2].replace(":", "")
    assert f'<span id="thumbprint">{thumbprint}</span>' in page
    assert f'data-copy="{thumbprint}"' in page
    assert "CN=VMTrak own,O=Example" in page
    ends = openssl(own.certificate.parent, *pem, "-enddate", "-dateopt", "iso_8601")
    assert ends.strip().removeprefix("notAfter=")[:16] in page


def test_the_page_names_the_group_policy(operator: Person) -> None:
    page = operator.panel.get(HELP).text
    for words in (
        "Specify SHA1 thumbprints of certificates representing trusted .rdp publishers",
        "Remote Desktop Connection Client",
        "TrustedCertThumbprints",
        "Caution: Unknown remote connection",
    ):
        assert words in page


@pytest.mark.parametrize("changed", [{}], indirect=True)
def test_the_page_says_that_files_are_not_signed(operator: Person) -> None:
    page = operator.panel.get(HELP).text
    assert "not signed" in page
    assert "VMTRAK_RDP_CERT" in page
    assert 'id="thumbprint"' not in page


def test_the_page_says_that_the_certificate_has_expired(operator: Person, later: Later) -> None:
    later(366 * 86_400)
    assert "The certificate expired on" in operator.panel.get(HELP).text


def test_the_card_says_whether_files_can_be_signed(operator: Person, vm: Vm, later: Later) -> None:
    number = vm("otto")
    address = f"/admin/vm/details/{number}"
    assert "The files are signed." in operator.panel.get(address).text
    later(366 * 86_400)
    page = operator.panel.get(address).text
    assert "The files are signed." not in page
    assert "the certificate that signs them expired on" in page


@pytest.mark.parametrize("who", ["reader", "outsider", "auditor"])
def test_who_may_not_connect_gets_no_page(who: str, people: dict[str, Person]) -> None:
    assert people[who].panel.get(HELP).status_code == 403
