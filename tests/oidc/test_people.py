"""What is believed of the claims of a token that is in order."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from vmtrak.access import Role
from vmtrak.accounts.identities import Person
from vmtrak.db import now
from vmtrak.errors import Refusal, SignInRefused
from vmtrak.web.oidc import Flow, Registration, person_of
from vmtrak.web.oidc.flows import opened, sealed
from vmtrak.web.refusals import TOLD

TENANT = "6f1c9e0a-3b52-4a7e-9d1f-2c8b5e7a4d30"
OID = "a1a1a1a1-0000-4000-8000-000000000001"
ROLES = (("A", Role.ADMIN), ("W", Role.READWRITE), ("U", Role.AUDITOR), ("R", Role.READ))
SECRET = b"0123456789abcdefghijklmnopqrstuv"

CLAIMS: dict[str, Any] = {
    "sub": "pairwise",
    "oid": OID,
    "tid": TENANT,
    "email": "Ada@Corp.example",
    "preferred_username": "ada.l@corp.example",
    "roles": ["R"],
}


def person(*, entra: bool = True, **claims: object) -> Person:
    issuer = f"https://login.example.org/{TENANT}/v2.0"
    registration = Registration(
        issuer, TENANT if entra else None, "vmtrak", None, "https://vm.example.org", "roles", ROLES
    )
    return person_of(registration, {**CLAIMS, **claims})


def test_a_person_is_tenant_and_object_for_entra_and_issuer_and_subject_elsewhere() -> None:
    assert (person().issuer, person().subject) == (TENANT, OID)
    other = person(entra=False)
    assert (other.issuer, other.subject) == (
        f"https://login.example.org/{TENANT}/v2.0",
        "pairwise",
    )


@pytest.mark.parametrize("oid", [None, "", 7, ["a"], "a\0b", "a" * 257])
def test_without_an_identifier_there_is_nobody(oid: object) -> None:
    with pytest.raises(SignInRefused) as caught:
        person(oid=oid)
    assert caught.value.reason == Refusal.TOKEN


@pytest.mark.parametrize(
    ("given", "role"),
    [
        (["R", "U", "W", "A"], Role.ADMIN),
        (["R", "U", "W"], Role.READWRITE),
        (["R", "U"], Role.AUDITOR),
        (["R"], Role.READ),
        ("W", Role.READWRITE),
        (["a", "A ", "AW"], None),
        ([["A"], {"A": 1}, None, 1], None),
        ([], None),
        (None, None),
        ({"A": True}, None),
        ("A W", None),
    ],
)
def test_of_several_roles_the_most_powerful_counts(given: object, role: Role | None) -> None:
    assert person(roles=given).role == role


def test_a_member_of_the_tenant_brings_the_addresses_that_the_tenant_gave() -> None:
    member = person()
    assert member.vouched == ("Ada@corp.example", "ada.l@corp.example")
    assert (member.username, member.email) == ("Ada@corp.example", "Ada@corp.example")
    assert not member.is_guest


STRANGERS: list[dict[str, Any]] = [
    {"acct": 1},
    {"acct": "1"},
    {"acct": 1, "idp": f"https://sts.windows.net/{TENANT}/"},
    {"idp": "https://sts.windows.net/0d9b7c52-8e14-4f6a-b3c1-5a2e9f7d6b48/"},
    {"idp": "live.com"},
]


@pytest.mark.parametrize("claims", STRANGERS)
def test_a_guest_has_neither_an_address_nor_a_name_of_their_choice(
    claims: dict[str, Any],
) -> None:
    guest = person(**claims, email_verified=True)
    assert guest.is_guest
    assert guest.vouched == ()
    name, _, domain = guest.email.partition("@")
    assert (guest.username, domain) == (name, "unverified.example")
    assert name.startswith("ada-")
    assert guest.username != person(**claims, oid="another").username


def test_an_external_member_may_reveal_but_brings_no_address() -> None:
    member = person(acct=0, idp="https://sts.windows.net/elsewhere/")
    assert (member.is_guest, member.vouched) == (False, ())


def test_elsewhere_an_address_counts_once_it_was_verified() -> None:
    assert person(entra=False, email_verified=True).vouched == ("Ada@corp.example",)
    assert person(entra=False, email_verified="true").vouched == ("Ada@corp.example",)
    for unsure in (None, False, "false", 1, "yes"):
        assert person(entra=False, email_verified=unsure).vouched == ()
    assert not person(entra=False, acct=1).is_guest


@pytest.mark.parametrize(
    "address", ["bob@straße.example", "bo\u017fs@corp.example", "ﬃ@corp.example"]
)
def test_an_address_that_compares_as_somebody_elses_does_not_count(address: str) -> None:
    """Names are compared by case folding, which makes one of straße and strasse."""
    alike = person(entra=False, email=address, email_verified=True)
    assert alike.vouched == ()
    assert alike.email.endswith("@unverified.example")
    umlaut = person(entra=False, email="Jörg@Bücher.example", email_verified=True)
    assert umlaut.vouched == ("Jörg@bücher.example",)


def test_what_is_no_address_is_not_taken_for_one() -> None:
    odd = person(email="ada", preferred_username=["x@corp.example"])
    assert odd.vouched == ()
    assert odd.username.startswith("ada-")
    assert person(email="", preferred_username="@", name="Åsa  Ö.").username.startswith("sa-")
    assert person(email=None, preferred_username=None).username.startswith("user-")


def test_auth_time_is_when_the_person_signed_in_and_never_later_than_now() -> None:
    assert person(auth_time=1_700_000_000).proof.at == datetime.fromtimestamp(1_700_000_000, UTC)
    ahead = person(auth_time=now().timestamp() + 50).proof.at
    assert ahead is not None
    assert ahead <= now() + timedelta(seconds=1)
    for odd in (None, True, "1700000000", float("inf"), 10**30, -(10**30)):
        assert person(auth_time=odd).proof.at is None


def test_a_flow_comes_back_only_from_what_was_sealed_with_this_key() -> None:
    flow = Flow("panel", "/admin/", session_id=7)
    text = sealed(flow, SECRET)
    assert opened(text, SECRET) == flow
    assert flow.nonce not in text
    assert opened(text, SECRET[::-1]) is None
    head, rest = text.split(".", 1)
    for bad in ("", "x", text[:-2], f"{head}.{rest[:30]}A{rest[31:]}", text + "." + text):
        assert opened(bad, SECRET) is None


def test_every_refusal_has_its_words() -> None:
    assert set(TOLD) == set(Refusal)
    assert {told.status for told in TOLD.values()} == {400, 401, 403, 502, 503}
