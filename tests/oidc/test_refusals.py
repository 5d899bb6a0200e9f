"""Everything that must not let anybody in, each provoked at a provider that really answers so."""

import time
from typing import Any

import pytest

from tests.conftest import Later
from tests.oidc import troubles
from tests.oidc.conftest import (
    CLIENT_ID,
    SQLITE,
    Visit,
    assert_refused,
    new_cookies,
    sessions_in,
    trail,
    user_called,
)
from tests.oidc.people import PEOPLE
from tests.oidc.provider import Mischief, Provider, Trouble
from tests.oidc.visitor import query_of, with_query
from vmtrak.audit import Action
from vmtrak.db import Database
from vmtrak.web import sign_in
from vmtrak.web.guard import PANEL_COOKIE
from vmtrak.web.microsoft import CALLBACK, PATH
from vmtrak.web.oidc import wire

ADA = PEOPLE["ada"]
OLD = {"iat": 1_600_000_000, "nbf": 1_600_000_000, "exp": 1_600_003_600}

BAD_CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    "another nonce": ({"nonce": "another"}, "wrong_nonce"),
    "no nonce": ({"nonce": None}, "wrong_nonce"),
    "another issuer": ({"iss": "https://login.evil.example"}, "wrong_issuer"),
    "no issuer": ({"iss": None}, "wrong_issuer"),
    "another audience": ({"aud": "another-client"}, "wrong_audience"),
    "no audience": ({"aud": None}, "wrong_audience"),
    "an audience besides": ({"aud": [CLIENT_ID, "another-client"]}, "wrong_audience"),
    "another party": ({"azp": "another-client"}, "wrong_audience"),
    "no subject": ({"sub": None}, "token_incomplete"),
    "an empty subject": ({"sub": ""}, "token_incomplete"),
    "a subject that is no text": ({"sub": 7}, "token_incomplete"),
    "a subject of control characters": ({"sub": "a\x00b"}, "token_incomplete"),
    "a subject without end": ({"sub": "s" * 5000}, "token_incomplete"),
    "no expiry": ({"exp": None}, "token_incomplete"),
    "an expiry that is no number": ({"exp": "tomorrow"}, "token_incomplete"),
    "an expiry beyond all numbers": ({"exp": float("nan")}, "clocks_differ"),
    "no time of issue": ({"iat": None}, "token_incomplete"),
    "expired": (OLD, "clocks_differ"),
    "of long ago and still good": ({"iat": 1_600_000_000}, "clocks_differ"),
    "a time of sign-in that is none": ({"auth_time": "now"}, "token_incomplete"),
    "another access token": ({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, "token_incomplete"),
}

FORGED = [
    "other key",
    "none",
    "secret as HS256",
    "public key as HS256",
]

TROUBLES: dict[str, Trouble] = {
    "500": troubles.status(500),
    "nothing": troubles.body(b""),
    "garbage": troubles.body(b"\xff\xfe{not json"),
    "a page": troubles.body(b"<html>Maintenance</html>", "text/html"),
    "a list": troubles.body(b"[1, 2]"),
    "an empty object": troubles.body(b"{}"),
    "deep JSON": troubles.body(b"[" * 100_000),
    "numbers without end": troubles.body(b'{"keys":' + b"9" * 100_000 + b"}"),
    "a body without end": troubles.flood,
    "a redirect": troubles.moved,
}


def test_who_cancels_at_the_provider_reads_so(visit: Visit, database: Database) -> None:
    address = visit.surfer.sign_in(visit.start(), consent="cancel")
    assert query_of(address)["error"] == "access_denied"
    assert_refused(database, visit.come_back(address), "cancelled")


def test_a_flow_that_took_too_long_starts_again(
    visit: Visit, database: Database, later: Later, provider: Provider
) -> None:
    address = visit.way_back()
    later(601)
    assert_refused(database, visit.come_back(address), "flow_expired")
    assert provider.redeemed == 0


def test_a_callback_without_the_cookie_of_its_flow_is_refused(
    visit: Visit, database: Database, provider: Provider
) -> None:
    address = visit.way_back()
    visit.vmtrak.cookies.clear()
    assert_refused(database, visit.come_back(address), "no_flow")
    assert provider.redeemed == 0


@pytest.mark.parametrize("step", ["callback", "start"])
def test_an_address_that_fails_again_and_again_is_slowed_and_still_gets_in(
    step: str,
    visit: Visit,
    database: Database,
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody fills the trail, or has VMTrak ask the provider, as fast as they like."""
    path = PATH if step == "start" else f"{CALLBACK}?state=x&code=y"
    if step == "start":
        provider.mischief.answers["metadata"] = troubles.status(500)
    monkeypatch.setattr(sign_in, "SLOWED_BY", 0.5)
    statuses = {visit.vmtrak.get(path).status_code for _ in range(21)}
    assert statuses == {502 if step == "start" else 400}
    assert len(trail(database, Action.LOGIN_FAILED)) == 21
    began = time.monotonic()
    visit.vmtrak.get(path)
    assert time.monotonic() - began >= 0.5
    provider.mischief.answers.clear()
    assert visit.sign_in().status_code == 303


def test_who_comes_in_never_makes_an_address_slow(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in, "SLOWED_BY", 60)
    for _ in range(23):
        assert visit.sign_in().status_code == 303


def test_a_callback_that_somebody_else_began_signs_nobody_in(
    visit: Visit, second_visit: Visit, database: Database, provider: Provider
) -> None:
    """Login CSRF: the attacker hands over the address that ends the attacker's own sign-in."""
    address = visit.way_back()
    second_visit.start()
    assert_refused(database, second_visit.come_back(address), "no_flow")
    assert provider.redeemed == 0


def test_the_cookie_of_one_flow_does_not_serve_another_under_its_name(
    visit: Visit, second_visit: Visit, database: Database
) -> None:
    address = visit.way_back()
    (name,) = visit.vmtrak.cookies
    second_visit.start()
    (own,) = second_visit.vmtrak.cookies
    value = second_visit.vmtrak.cookies[own]
    second_visit.vmtrak.cookies.set(name, value, domain="127.0.0.1")
    assert_refused(database, second_visit.come_back(address), "no_flow")


def test_a_callback_cannot_be_played_twice(
    visit: Visit, database: Database, provider: Provider
) -> None:
    address = visit.way_back()
    assert visit.come_back(address).status_code == 303
    visit.vmtrak.cookies.delete(PANEL_COOKIE)
    again = visit.come_back(address)
    assert again.status_code == 400
    assert "Start again" in again.text
    assert new_cookies(again) == []
    assert len(sessions_in(database)) == 1
    assert provider.redeemed == 1
    assert not visit.signed_in


def test_a_stolen_callback_with_its_stolen_cookie_still_needs_an_unused_code(
    visit: Visit, second_visit: Visit, database: Database, provider: Provider
) -> None:
    address = visit.way_back()
    for name, value in visit.vmtrak.cookies.items():
        second_visit.vmtrak.cookies.set(name, value, domain="127.0.0.1")
    assert visit.come_back(address).status_code == 303
    again = second_visit.come_back(address)
    assert again.status_code == 400
    assert new_cookies(again) == []
    assert len(sessions_in(database)) == 1
    assert provider.refusals == ["invalid_grant: the code was used before"]
    (event,) = trail(database, Action.LOGIN_FAILED)
    assert event.detail == {"reason": "code_refused"}


def test_the_state_of_one_flow_with_the_code_of_another_is_refused(
    visit: Visit, database: Database, provider: Provider
) -> None:
    one, other = visit.way_back("ada"), visit.way_back("otto")
    mixed = with_query(one, code=query_of(other)["code"])
    assert_refused(database, visit.come_back(mixed), "code_refused")
    assert provider.redeemed == 0
    assert any("verifier" in refusal for refusal in provider.refusals)


@SQLITE
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"state": "made-up"}, "no_flow"),
        ({"state": "\udcff"}, "no_flow"),
        ({"state": None}, "no_flow"),
        ({"code": None}, "malformed_answer"),
        ({"code": "made-up"}, "code_refused"),
        ({"code": "c" * 5000}, "code_refused"),
        ({"iss": "https://login.evil.example"}, "other_provider"),
        ({"iss": None}, "other_provider"),
        ({"error": "server_error"}, "provider_error"),
        ({"error": "temporarily_unavailable"}, "provider_unreachable"),
        ({"error": "<script>alert(1)</script>"}, "provider_error"),
    ],
    ids=str,
)
def test_a_callback_that_is_not_in_order_is_refused(
    visit: Visit,
    database: Database,
    provider: Provider,
    changed: dict[str, str | None],
    reason: str,
) -> None:
    """RFC 9207: a provider that says it sends `iss` always sends it."""
    given = {name: "%FF" if value == "\udcff" else value for name, value in changed.items()}
    address = with_query(visit.way_back(), **given)
    response = visit.come_back(address)
    assert_refused(database, response, reason)
    assert "<script>alert" not in response.text
    assert provider.redeemed == 0
    if reason == "other_provider":
        assert provider.refusals == []  # the code went nowhere


@SQLITE
@pytest.mark.parametrize("bad", BAD_CLAIMS)
def test_a_token_whose_claims_are_not_right_lets_nobody_in(
    visit: Visit, database: Database, provider: Provider, bad: str
) -> None:
    claims, reason = BAD_CLAIMS[bad]
    address = visit.way_back()
    provider.mischief = Mischief(claims=claims)
    assert_refused(database, visit.come_back(address), reason)
    assert provider.redeemed == 1
    assert user_called(database, ADA["email"]) is None


@pytest.mark.parametrize("signature", FORGED)
def test_a_token_that_the_provider_did_not_sign_lets_nobody_in(
    visit: Visit, database: Database, provider: Provider, signature: Any
) -> None:
    address = visit.way_back()
    provider.mischief = Mischief(signature=signature)
    assert_refused(database, visit.come_back(address), "wrong_signature")
    assert provider.redeemed == 1
    assert user_called(database, ADA["email"]) is None


@SQLITE
@pytest.mark.parametrize("signature", FORGED[1:])
def test_metadata_cannot_talk_vmtrak_into_a_weak_signature(
    visit: Visit, database: Database, provider: Provider, signature: Any
) -> None:
    announced = {"id_token_signing_alg_values_supported": ["none", "HS256", "RS256"]}
    provider.mischief = Mischief(metadata=announced, signature=signature)
    assert_refused(database, visit.come_back(visit.way_back()), "wrong_signature")


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("place", ["metadata", "keys", "token"])
@SQLITE
def test_a_provider_in_trouble_gives_a_clear_page(
    visit: Visit, database: Database, provider: Provider, place: str, trouble: str
) -> None:
    address = "/api/auth/microsoft" if place == "metadata" else visit.way_back()
    provider.mischief.answers[place] = TROUBLES[trouble]
    assert_refused(database, visit.come_back(address), "provider_unreadable")


@pytest.mark.parametrize("trouble", [troubles.hang, troubles.drip], ids=["hangs", "drips"])
@pytest.mark.parametrize("place", ["metadata", "keys", "token"])
@SQLITE
def test_a_provider_that_does_not_finish_is_given_up_in_time(
    visit: Visit,
    database: Database,
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    trouble: Trouble,
) -> None:
    """Bounded as a whole, not by each read. Five seconds in earnest, here half of one."""
    assert wire.PATIENCE <= 5
    monkeypatch.setattr(wire, "PATIENCE", 0.5)
    address = "/api/auth/microsoft" if place == "metadata" else visit.way_back()
    provider.mischief.answers[place] = trouble
    assert_refused(database, visit.come_back(address), "provider_unreachable")
