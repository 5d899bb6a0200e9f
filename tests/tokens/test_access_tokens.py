"""Forged access tokens, and tokens of one kind in the place of another; see also tests/access."""

import base64
import hashlib
import hmac
import json
import string
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.conftest import PASSWORD, SECRET_KEY, Later, Person
from tests.tokens.conftest import client_at, made
from vmtrak.web.guard import PANEL_COOKIE, REFRESH_COOKIE

KEY = OctKey.import_key(SECRET_KEY)
OTHERS = (
    *("none", "None", "NONE", "nOnE", "", "hs256", "HS384", "HS512"),
    *("RS256", "RS512", "ES256", "PS256", "EdDSA"),
)
URLSAFE = string.ascii_letters + string.digits + "-_"


def good(person: Person) -> str:
    token: str = person.api.headers["Authorization"].removeprefix("Bearer ")
    return token


def claims_of(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, KEY).claims)


def part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def signed(header: dict[str, Any], claims: dict[str, Any], key: str = SECRET_KEY) -> str:
    """A token with any header at all, whose signature is HMAC-SHA256 under the key."""
    text = f"{part(header)}.{part(claims)}"
    mark = hmac.digest(key.encode(), text.encode(), hashlib.sha256)
    return f"{text}.{base64.urlsafe_b64encode(mark).decode().rstrip('=')}"


def status(client: TestClient, token: str) -> int:
    header = f"Bearer {token}".encode()
    return client.get("/api/auth/me", headers={b"Authorization": header}).status_code


def test_a_token_of_our_own_making_works(operator: Person, anonymous: TestClient) -> None:
    """So that what is refused below is refused for its header and nothing else."""
    claims = claims_of(good(operator))
    assert status(anonymous, signed({"alg": "HS256", "typ": "JWT"}, claims)) == 200


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "header",
    [
        *({"alg": name} for name in OTHERS),
        {"alg": None},
        {"alg": 1},
        {"alg": []},
        {},
        {"alg": ["HS256"]},
        {"alg": "HS256", "crit": ["exp"], "exp": 0},
        {"alg": "HS256", "b64": False, "crit": ["b64"]},
    ],
    ids=str,
)
def test_a_header_that_names_another_algorithm_opens_nothing(
    header: dict[str, Any], operator: Person, anonymous: TestClient
) -> None:
    token = signed(header, claims_of(good(operator)))
    assert status(anonymous, token) == 401
    assert status(anonymous, f"{token.rpartition('.')[0]}.") == 401


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_key_that_the_token_brings_along_counts_for_nothing(
    operator: Person, anonymous: TestClient
) -> None:
    claims, own = claims_of(good(operator)), RSAKey.generate_key(2048)
    public = own.as_dict(private=False)
    genuine = jwt.encode({"alg": "RS256", "jwk": public}, claims, own, algorithms=["RS256"])
    assert status(anonymous, genuine) == 401
    pem = own.as_pem(private=False).decode()
    thief = "the thief's own key of 32 bytes!"
    octets = base64.urlsafe_b64encode(thief.encode()).decode().rstrip("=")
    for header, key in (
        ({"alg": "HS256"}, pem),
        ({"alg": "RS256"}, pem),
        ({"alg": "HS256", "jwk": {"kty": "oct", "k": octets}}, thief),
        ({"alg": "HS256", "kid": "../../dev/null"}, ""),
        ({"alg": "HS256", "jku": "http://127.0.0.1/keys"}, thief),
        ({"alg": "HS256", "x5u": "http://127.0.0.1/keys"}, thief),
    ):
        assert (header, status(anonymous, signed(header, claims, key))) == (header, 401)


def test_a_token_works_to_its_last_second_and_not_one_longer(
    operator: Person, anonymous: TestClient, stopped: Later
) -> None:
    token = good(operator)
    claims = claims_of(token)
    stopped(claims["exp"] - claims["iat"] - 1)
    assert status(anonymous, token) == 200
    stopped(1)
    assert status(anonymous, token) == 401


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_session_of_somebody_else_is_not_theirs_to_name(
    operator: Person, admin: Person, reader: Person, anonymous: TestClient
) -> None:
    mine, theirs = claims_of(good(operator)), claims_of(good(admin))
    for change in (
        {"sid": theirs["sid"]},
        {"sub": theirs["sub"]},
        {"sub": str(reader.user_id)},
        {"sub": theirs["sub"], "jti": theirs["jti"]},
        {"sub": f"{mine['sub']}.0"},
        {"sub": [mine["sub"]]},
        {"aud": ["another"]},
        {"iss": ["another"]},
        {"iat": None},
        {"exp": "9" * 20},
        {"nbf": mine["exp"], "exp": mine["iat"] - 1},
    ):
        answer = status(anonymous, signed({"alg": "HS256"}, {**mine, **change}))
        assert (change, answer) == (change, 401)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.floats(0, 1, exclude_max=True), letter=st.sampled_from(URLSAFE))
def test_one_wrong_character_opens_nothing(
    place: float, letter: str, operator: Person, anonymous: TestClient
) -> None:
    token = good(operator)
    at = int(place * (len(token) - 1))  # of the last character's six bits only four count
    changed = token[:at] + letter + token[at + 1 :]
    assert status(anonymous, changed) == (200 if changed == token else 401)


def test_no_kind_of_token_stands_in_for_another(operator: Person, app: Starlette) -> None:
    signing_in = client_at(app, "")
    del signing_in.headers["Authorization"]
    given_ = {"username": operator.username, "password": PASSWORD}
    access = signing_in.post("/api/auth/login", json=given_).json()["accessToken"]
    refresh = signing_in.cookies[REFRESH_COOKIE]
    panel = operator.panel.cookies[PANEL_COOKIE]
    _, script = made(operator)
    everything = {"access": access, "refresh": refresh, "panel": panel, "script": script}
    works = {
        (name, place)
        for name, token in everything.items()
        for place, opened in tried(app, token).items()
        if opened
    }
    assert works == {
        ("access", "bearer"),
        ("script", "bearer"),
        ("refresh", "refresh"),
        ("panel", "panel"),
    }


def tried(app: Starlette, token: str) -> dict[str, bool]:
    """Which places take the token, whatever it is."""
    bearer = client_at(app, token).get("/api/vms")
    client = client_at(app, "")
    del client.headers["Authorization"]
    for name in (REFRESH_COOKIE, PANEL_COOKIE):
        client.cookies.set(name, token, domain="127.0.0.1", path="/")
    return {
        "bearer": bearer.status_code == 200,
        "api with a cookie": client.get("/api/vms").status_code == 200,
        "refresh": client.post("/api/auth/refresh").status_code == 200,
        "panel": client.get("/admin/vm/list").status_code == 200,
    }
