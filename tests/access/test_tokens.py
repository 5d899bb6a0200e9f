"""Which tokens and sessions open the doors, and until when."""

import base64
import time
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from starlette.testclient import TestClient

from tests.conftest import SECRET_KEY, Person
from vmtrak.accounts import actors, sessions
from vmtrak.accounts.models import SignedIn

KEY = OctKey.import_key(SECRET_KEY)
FOREIGN_KEY = OctKey.import_key("another key of thirty-two bytes!")

Change = Callable[[dict[str, Any]], object]


def claims_of(person: Person) -> dict[str, Any]:
    token = person.api.headers["Authorization"].removeprefix("Bearer ")
    return dict(jwt.decode(token, KEY).claims)


def signed(claims: dict[str, Any], key: OctKey = KEY, algorithm: str = "HS256") -> str:
    return jwt.encode({"alg": algorithm}, claims, key, algorithms=["HS256", "HS512"])


def bearer(client: TestClient, token: str, kind: str = "Bearer") -> int:
    header = f"{kind} {token}".encode("latin-1")
    answer = client.get("/api/auth/me", headers={b"Authorization": header})
    if answer.status_code == 401:
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.status_code


def unsigned(claims: dict[str, Any]) -> str:
    """The token with the algorithm "none", which means: believe me."""
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    return f"{header}.{signed(claims).split('.')[1]}."


def test_a_token_opens_the_api(operator: Person, anonymous: TestClient) -> None:
    token = signed(claims_of(operator))
    assert bearer(anonymous, token) == 200
    assert bearer(anonymous, token, "bearer") == 200


def test_a_token_with_a_wrong_claim_opens_nothing(operator: Person, anonymous: TestClient) -> None:
    claims = claims_of(operator)
    for change in (
        {"exp": int(time.time()) - 1},
        {"exp": "tomorrow"},
        {"exp": None},
        {"iat": int(time.time()) + 3600},
        {"iss": "somebody"},
        {"aud": "something"},
        {"sub": "999999"},
        {"sub": "1 or 1"},
        {"sub": None},
        {"sid": "0"},
        {"sid": "999999"},
        {"sid": "9" * 30},
        {"sid": str(2**63 - 1)},
        {"sid": [1]},
    ):
        status = bearer(anonymous, signed({**claims, **change}))
        assert (change, status) == (change, 401)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_token_that_lacks_a_claim_opens_nothing(operator: Person, anonymous: TestClient) -> None:
    claims = claims_of(operator)
    for missing in ("exp", "iat", "iss", "aud", "sub", "sid"):
        rest = {name: value for name, value in claims.items() if name != missing}
        assert (missing, bearer(anonymous, signed(rest))) == (missing, 401)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_token_that_vmtrak_has_not_signed_opens_nothing(
    operator: Person, anonymous: TestClient
) -> None:
    claims = claims_of(operator)
    good = signed(claims)
    head, body, signature = good.split(".")
    for token in (
        signed(claims, FOREIGN_KEY),
        signed(claims, algorithm="HS512"),
        unsigned(claims),
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{head}.{body}.{signature[:-2]}AA",
        f"{body}.{head}.{signature}",
        f"{head}.e30.{signature}",
        good * 2,
        "",
        ".",
        "..",
        "é.é.é",
        "\N{FULL BLOCK}".encode().decode("latin-1"),
        "a" * 10_000,
        "vmt_0123456789",
        "null",
    ):
        assert (token, bearer(anonymous, token)) == (token, 401)
    for kind in ("Basic", "Token", ""):
        assert bearer(anonymous, good, kind) == 401


def test_a_token_of_one_session_does_not_speak_for_another_user(
    admin: Person, reader: Person, anonymous: TestClient
) -> None:
    mixed = {**claims_of(reader), "sub": claims_of(admin)["sub"]}
    assert bearer(anonymous, signed(mixed)) == 401


def test_a_panel_session_is_no_session_of_the_api(
    admin: Person, operator: Person, anonymous: TestClient
) -> None:
    with operator.database.work(actors.visitor(None, None)) as work:
        sessions.sign_in_panel(work, operator.user_id, None)
    newest = int(claims_of(operator)["sid"])
    for number in range(1, newest):
        claims = {**claims_of(operator), "sid": str(number)}
        alive = bearer(anonymous, signed(claims)) == 200
        with admin.database.read() as session:
            found = session.get_one(SignedIn, number)
        assert alive == (found.kind == "api" and found.user_id == operator.user_id)


def works(person: Person) -> tuple[TestClient, TestClient]:
    """Clients of both doors that have been used."""
    api, panel = person.api, person.panel
    assert api.get("/api/auth/me").status_code == 200
    assert panel.get("/admin/").status_code == 200
    return api, panel


def assert_shut(api: TestClient, panel: TestClient) -> None:
    assert api.get("/api/auth/me").status_code == 401
    assert panel.get("/admin/").headers["Location"].startswith("/admin/login")
    assert panel.post("/admin/vm/delete", data={"pk": "1"}).status_code == 401


def test_a_session_ends_at_once_with_its_sign_out(operator: Person) -> None:
    api, panel = works(operator)
    other = operator.api
    assert api.post("/api/auth/logout").json() == {"ok": True}
    assert panel.post("/admin/logout").status_code == 303
    assert_shut(api, panel)
    assert other.get("/api/auth/me").status_code == 200


def test_a_deactivated_user_is_out_at_once(admin: Person, operator: Person) -> None:
    api, panel = works(operator)
    assert admin.api.delete(f"/api/users/{operator.user_id}").json() == {"ok": True}
    assert_shut(api, panel)


def test_sessions_of_before_stay_ended_when_the_user_is_back(
    admin: Person, operator: Person
) -> None:
    api, panel = works(operator)
    for active in (False, True):
        changed = admin.api.put(f"/api/users/{operator.user_id}", json={"is_active": active})
        assert changed.json()["is_active"] is active
    assert_shut(api, panel)


def test_a_new_password_ends_the_sessions(admin: Person, operator: Person) -> None:
    api, panel = works(operator)
    path = f"/api/users/{operator.user_id}/reset-password"
    assert admin.api.post(path, json={"new_password": "twelve or more"}).status_code == 200
    assert_shut(api, panel)


def test_a_set_up_link_ends_the_sessions(admin: Person, operator: Person) -> None:
    api, panel = works(operator)
    assert admin.panel.post(f"/admin/user/reset/{operator.user_id}").status_code == 200
    assert_shut(api, panel)


def test_a_change_of_role_counts_from_the_next_request(admin: Person, operator: Person) -> None:
    api, panel = works(operator)
    me = f"/api/users/{operator.user_id}"
    assert api.get("/api/audit").status_code == 403
    for role, trail, new in (("admin", 200, 201), ("auditor", 200, 403), ("read", 403, 403)):
        assert admin.api.put(me, json={"role": role}).status_code == 200
        assert api.get("/api/audit").status_code == trail
        assert panel.get("/admin/audit/list").status_code == trail
        assert api.post("/api/vms", json={"vm_name": f"by-{role}"}).status_code == new
        assert (panel.get("/admin/vm/create").status_code == 200) == (new == 201)


def test_a_change_of_department_counts_from_the_next_request(
    admin: Person, operator: Person, reader: Person
) -> None:
    operator.api.post("/api/vms", json={"vm_name": "convoy", "department": "Logistics"})
    client = reader.api
    assert client.get("/api/vms").json()["total"] == 0
    admin.api.put(f"/api/users/{reader.user_id}", json={"department": "logistics"})
    assert client.get("/api/vms").json()["total"] == 1
