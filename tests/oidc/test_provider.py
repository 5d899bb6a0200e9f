"""The provider that the other tests stand on: it refuses what a strict provider must refuse."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx2
import pytest
from joserfc import jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet

from tests.oidc import provider as providers
from tests.oidc.people import PEOPLE, TENANT
from tests.oidc.provider import Client, Provider, challenge_of
from tests.oidc.visitor import Surfer, query_of, with_query

BACK = "http://127.0.0.1:3000/back"
SECRET = "a secret with a % and a : in it"
VERIFIER = "v" * 43
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass
class Relying:
    """A right client, which the tests make forget something."""

    provider: Provider
    surfer: Surfer

    @property
    def discovered(self) -> dict[str, Any]:
        address = f"{self.provider.issuer}/.well-known/openid-configuration"
        found: dict[str, Any] = self.surfer.client.get(address).json()
        return found

    def address(self, **changed: str | None) -> str:
        right = {
            "client_id": "vmtrak",
            "response_type": "code",
            "redirect_uri": BACK,
            "scope": "openid profile email",
            "state": "a state",
            "nonce": "a nonce",
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
        }
        return with_query(f"{self.provider.issuer}/authorize?{urlencode(right)}", **changed)

    def code(self, **changed: str | None) -> str:
        return query_of(self.surfer.sign_in(self.address(**changed)))["code"]

    def redeem(
        self,
        code: str,
        auth: tuple[str, str] | None = ("vmtrak", SECRET),
        changed: Mapping[str, str] = NOTHING,
    ) -> httpx2.Response:
        right = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": BACK,
            "code_verifier": VERIFIER,
        }
        headers = {"Authorization": _basic(*auth)} if auth else {}
        address = f"{self.provider.issuer}/token"
        return self.surfer.client.post(address, data={**right, **changed}, headers=headers)


def _basic(*auth: str) -> str:
    """RFC 6749, 2.3.1: both are form-encoded before they go into the header."""
    encoded = ":".join(quote_plus(part) for part in auth)
    return f"Basic {base64.b64encode(encoded.encode()).decode()}"


@pytest.fixture
def relying(served: Provider) -> Iterator[Relying]:
    served.reset()
    served.clients = {
        "vmtrak": Client("vmtrak", SECRET, BACK, f"{BACK}/out", f"{BACK}/frame"),
        "other": Client("other", "another secret", BACK, f"{BACK}/out"),
    }
    with Surfer() as surfer:
        yield Relying(served, surfer)


def claims_in(relying: Relying, answer: httpx2.Response) -> dict[str, Any]:
    known = KeySet.import_key_set(
        relying.surfer.client.get(f"{relying.provider.issuer}/keys").json()
    )
    return jwt.decode(answer.json()["id_token"], known, algorithms=["RS256"]).claims


def test_a_right_client_comes_through(relying: Relying) -> None:
    way_back = query_of(relying.surfer.sign_in(relying.address()))
    assert way_back["state"] == "a state"
    assert way_back["iss"] == relying.provider.issuer == relying.discovered["issuer"]
    answer = relying.redeem(way_back["code"])
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    claims = claims_in(relying, answer)
    assert claims["nonce"] == "a nonce"
    assert claims["aud"] == "vmtrak"
    assert {name: claims[name] for name in PEOPLE["ada"]} == PEOPLE["ada"]


def test_the_secret_may_stand_in_the_form_instead_of_the_header(relying: Relying) -> None:
    post = {"client_id": "vmtrak", "client_secret": SECRET}
    assert relying.redeem(relying.code(), None, post).status_code == 200
    twice = relying.redeem(relying.code(), changed=post)
    assert (twice.status_code, twice.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    "changed",
    [
        {"code_challenge": None},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": None},
        {"nonce": None},
        {"state": None},
        {"response_type": "token"},
        {"response_mode": "fragment"},
        {"prompt": "none login"},
    ],
    ids=str,
)
def test_a_request_that_lacks_something_is_sent_back(
    relying: Relying, changed: dict[str, str | None]
) -> None:
    way_back = query_of(relying.surfer.sign_in(relying.address(**changed)))
    assert way_back["error"] == "invalid_request"
    assert "code" not in way_back


def test_a_request_without_openid_is_sent_back(relying: Relying) -> None:
    way_back = query_of(relying.surfer.sign_in(relying.address(scope="profile")))
    assert way_back["error"] == "invalid_scope"


@pytest.mark.parametrize(
    "changed",
    [
        {"redirect_uri": f"{BACK}/"},
        {"redirect_uri": f"{BACK}?x=1"},
        {"redirect_uri": None},
        {"client_id": "stranger"},
    ],
    ids=str,
)
def test_nobody_is_redirected_to_an_address_that_is_not_registered(
    relying: Relying, changed: dict[str, str | None]
) -> None:
    answer = relying.surfer.client.get(relying.address(**changed))
    assert answer.status_code == 400
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("changed", "auth", "error"),
    [
        ({"code_verifier": "w" * 43}, ("vmtrak", SECRET), "invalid_grant"),
        ({"code_verifier": ""}, ("vmtrak", SECRET), "invalid_grant"),
        ({"redirect_uri": f"{BACK}/"}, ("vmtrak", SECRET), "invalid_grant"),
        ({"code": "made up"}, ("vmtrak", SECRET), "invalid_grant"),
        ({}, ("other", "another secret"), "invalid_grant"),
        ({}, ("vmtrak", "guessed"), "invalid_client"),
        ({}, ("stranger", SECRET), "invalid_client"),
        ({}, None, "invalid_client"),
        ({"grant_type": "password"}, ("vmtrak", SECRET), "unsupported_grant_type"),
    ],
    ids=str,
)
def test_a_code_counts_only_for_whom_it_was_made(
    relying: Relying, changed: dict[str, str], auth: tuple[str, str] | None, error: str
) -> None:
    answer = relying.redeem(relying.code(), auth, changed)
    assert answer.json()["error"] == error
    assert relying.provider.redeemed == 0


def test_a_code_works_once_and_a_second_use_takes_its_tokens_back(relying: Relying) -> None:
    code = relying.code()
    bearer = {"Authorization": f"Bearer {relying.redeem(code).json()['access_token']}"}
    about = f"{relying.provider.issuer}/userinfo"
    assert relying.surfer.client.get(about, headers=bearer).json()["sub"] == PEOPLE["ada"]["sub"]
    assert relying.redeem(code).json()["error"] == "invalid_grant"
    assert relying.surfer.client.get(about, headers=bearer).status_code == 401


def test_a_code_lives_a_minute(relying: Relying, monkeypatch: pytest.MonkeyPatch) -> None:
    code = relying.code()
    monkeypatch.setattr(providers, "CODE_SECONDS", 0)
    assert relying.redeem(code).json()["error"] == "invalid_grant"


def test_who_cancels_is_sent_back_without_a_code(relying: Relying) -> None:
    way_back = query_of(relying.surfer.sign_in(relying.address(), consent="cancel"))
    assert way_back["error"] == "access_denied"
    assert way_back["state"] == "a state"


def test_a_seat_spares_the_second_sign_in_unless_the_client_wants_one(relying: Relying) -> None:
    nobody = query_of(relying.surfer.sign_in(relying.address(prompt="none")))
    assert nobody["error"] == "login_required"
    relying.code()
    assert "code" in query_of(relying.surfer.sign_in(relying.address(prompt="none")))
    for again in ({"prompt": "login"}, {"max_age": "0"}):
        page = relying.surfer.client.get(relying.address(**again))
        assert "Sign in at the provider" in page.text, again


def test_signing_in_again_makes_a_new_time(relying: Relying) -> None:
    old = claims_in(relying, relying.redeem(relying.code()))["auth_time"]
    relying.provider.mischief.skew = 500
    kept = claims_in(relying, relying.redeem(relying.code()))["auth_time"]
    new = claims_in(relying, relying.redeem(relying.code(max_age="60")))["auth_time"]
    assert kept == old
    assert new >= old + 500


def test_keys_may_change_and_the_old_one_may_stay(relying: Relying) -> None:
    old = relying.redeem(relying.code())
    relying.provider.rotate()
    assert claims_in(relying, old)
    assert claims_in(relying, relying.redeem(relying.code()))
    relying.provider.mischief.signature = "other key"
    with pytest.raises(BadSignatureError):
        claims_in(relying, relying.redeem(relying.code()))


def test_signing_out_tells_the_clients_and_goes_only_where_it_is_registered(
    relying: Relying,
) -> None:
    answer = relying.redeem(relying.code())
    address = f"{relying.provider.issuer}/logout"
    hint = {"id_token_hint": answer.json()["id_token"]}
    client = relying.surfer.client
    foreign = client.get(
        address, params={**hint, "post_logout_redirect_uri": "https://evil.example"}
    )
    assert foreign.status_code == 400
    assert relying.provider.seats
    asked = client.get(address)
    assert "Sign out everywhere" in asked.text
    page = client.get(address, params={**hint, "post_logout_redirect_uri": f"{BACK}/out"})
    sid = claims_in(relying, answer)["sid"]
    assert f"{BACK}/frame?" in page.text
    assert f"sid={sid}" in page.text
    assert relying.provider.seats == {}


def test_with_a_tenant_it_looks_like_entra() -> None:
    with providers.running(PEOPLE, TENANT) as provider, Surfer() as surfer:
        provider.clients = {"vmtrak": Client("vmtrak", SECRET, BACK, f"{BACK}/out")}
        relying = Relying(provider, surfer)
        assert provider.issuer.endswith(f"/{TENANT}/v2.0")
        claims = claims_in(relying, relying.redeem(relying.code()))
        assert (claims["tid"], claims["iss"]) == (TENANT, provider.issuer)
