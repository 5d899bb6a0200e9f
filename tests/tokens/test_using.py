"""An API token works only as long, from where, and for what it was made, and its user may."""

import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.conftest import BASE_URL, Later, Person
from tests.tokens.conftest import Script, client_at, made
from vmtrak.access import Scope
from vmtrak.accounts import UserPatch, users
from vmtrak.web.guard import PANEL_COOKIE

DAY = 24 * 60 * 60
HOME = "192.0.2.7"
ABROAD = "198.51.100.7"


def status(client: TestClient, path: str = "/api/vms") -> int:
    answer = client.get(path)
    if answer.status_code == 401:
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.json()["detail"] == "Sign in first."
    return answer.status_code


def refused_at(admin: Person) -> list[dict[str, object]]:
    trail = admin.api.get("/api/audit?entity_type=token&action=auth.login_failed")
    rows: list[dict[str, object]] = trail.json()["data"]
    return rows


def test_a_script_works_in_the_name_of_its_user(operator: Person, script: Script) -> None:
    client = script(operator, Scope.INVENTORY_WRITE)
    assert client.get("/api/auth/me").json()["username"] == operator.username
    added = client.post("/api/vms", json={"vm_name": "by-script"})
    assert (added.status_code, added.json()["created_by"]) == (201, operator.username)


def test_the_scheme_may_be_written_in_any_case(operator: Person, app: Starlette) -> None:
    client = client_at(app, secret := made(operator)[1])
    for kind in ("Bearer", "bearer", "BEARER", "bEaReR"):
        client.headers["Authorization"] = f"{kind} {secret}"
        assert (kind, status(client)) == (kind, 200)
    for kind in ("Basic", "Token", "Bearer:", ""):
        client.headers["Authorization"] = f"{kind} {secret}"
        assert (kind, status(client)) == (kind, 401)


def test_a_token_works_to_its_last_second_and_not_one_longer(
    operator: Person, script: Script, stopped: Later
) -> None:
    client = script(operator, expires_in_days=30)
    stopped(30 * DAY - 1)
    assert status(client) == 200
    stopped(1)
    assert status(client) == 401


def test_a_revoked_token_works_no_more(operator: Person, app: Starlette) -> None:
    number, secret = made(operator)
    client = client_at(app, secret)
    assert status(client) == 200
    assert operator.api.delete(f"/api/tokens/{number}").json() == {"ok": True}
    assert status(client) == 401


def test_the_tokens_of_a_closed_account_never_work_again(
    admin: Person, operator: Person, script: Script
) -> None:
    client = script(operator)
    for active in (False, True):
        with admin.database.work(admin.actor) as work:
            users.change(work, operator.user_id, UserPatch(is_active=active))
        assert (active, status(client)) == (active, 401)


def test_a_lowered_role_narrows_its_tokens_at_once(
    admin: Person, operator: Person, script: Script
) -> None:
    client = script(operator, Scope.INVENTORY_WRITE)
    for role, read, write in (("readwrite", 1, 201), ("auditor", 2, 403), ("read", 0, 403)):
        admin.api.put(f"/api/users/{operator.user_id}", json={"role": role})
        answer = client.post("/api/vms", json={"vm_name": f"by-{role}"})
        assert (role, answer.status_code) == (role, write)
        if role == "auditor":
            admin.api.post("/api/vms", json={"vm_name": "another"})
        assert (role, client.get("/api/vms").json()["total"]) == (role, read)


def test_a_raised_role_does_not_widen_a_token(
    admin: Person, reader: Person, script: Script
) -> None:
    client = script(reader, Scope.INVENTORY_READ)
    admin.api.put(f"/api/users/{reader.user_id}", json={"role": "admin"})
    assert status(client) == 200
    assert client.post("/api/vms", json={"vm_name": "x"}).status_code == 403
    assert status(client, "/api/users") == 403
    assert status(client, "/api/audit") == 403


def test_until_the_password_is_changed_a_token_does_nothing(
    admin: Person, operator: Person, script: Script
) -> None:
    client = script(operator)
    path = f"/api/users/{operator.user_id}/reset-password"
    assert admin.api.post(path, json={"new_password": "until you choose"}).status_code == 200
    assert client.get("/api/vms").json()["detail"] == "setup_required"
    chosen = {"email": "otto@vmtrak.example", "password": "chosen by a thief"}
    answer = client.post("/api/auth/complete-setup", json=chosen)
    assert answer.status_code == 403
    signed_in = client.post(
        "/api/auth/login", json={"username": "otto", "password": "chosen by a thief"}
    )
    assert signed_in.status_code == 401


@pytest.mark.parametrize(
    ("networks", "inside", "outside"),
    [
        (["192.0.2.0/24"], ["192.0.2.0", "192.0.2.255", "::ffff:192.0.2.9"], ["192.0.3.0"]),
        ([HOME], [HOME], ["192.0.2.8", "::ffff:192.0.2.8", "::192.0.2.7"]),
        (["::ffff:192.0.2.7"], [HOME, "::ffff:192.0.2.7"], ["192.0.2.8"]),
        (["::ffff:192.0.2.0/120"], [HOME], [ABROAD]),
        (["2001:db8::/32"], ["2001:db8::1", "2001:DB8:0:0::1"], ["2001:db9::1", "192.0.2.1"]),
        (["::1"], ["::1"], ["127.0.0.1"]),
        (["192.0.2.0/24", "2001:db8::1"], [HOME, "2001:db8::1"], [ABROAD, "2001:db8::2"]),
        ([], [HOME, "2001:db8::1", "127.0.0.1"], []),
    ],
)
def test_a_token_works_from_its_networks_only(
    networks: list[str],
    inside: list[str],
    outside: list[str],
    operator: Person,
    app: Starlette,
) -> None:
    _, secret = made(operator, allowed_networks=networks)
    for address in inside:
        assert (address, status(client_at(app, secret, address))) == (address, 200)
    for address in outside:
        answer = client_at(app, secret, address).get("/api/vms")
        assert (address, answer.status_code) == (address, 403)
        assert answer.json()["detail"] == "This token does not work from this address."


def test_a_client_without_an_address_is_in_no_network(operator: Person, app: Starlette) -> None:
    _, secret = made(operator, allowed_networks=["0.0.0.0/0", "::/0"])
    assert status(client_at(app, secret, "testclient")) == 403


def test_a_stolen_token_that_is_tried_from_elsewhere_is_told_once_an_hour(
    admin: Person, operator: Person, app: Starlette, stopped: Later
) -> None:
    number, secret = made(operator, allowed_networks=["192.0.2.0/24"], name="backup")
    for address in (ABROAD, ABROAD, "203.0.113.9"):
        assert status(client_at(app, secret, address)) == 403
    [event] = refused_at(admin)
    assert (event["username"], event["user_id"]) == ("", None)
    assert (event["entity_id"], event["entity_name"]) == (number, "backup")
    assert event["ip_address"] == ABROAD
    assert event["detail"] == {
        "username": operator.username,
        "reason": "This token does not work from this address.",
    }
    stopped(60 * 60 - 1)
    assert status(client_at(app, secret, ABROAD)) == 403
    assert len(refused_at(admin)) == 1
    stopped(2)
    assert status(client_at(app, secret, ABROAD)) == 403
    assert len(refused_at(admin)) == 2
    assert secret not in str(refused_at(admin))


def test_a_dead_token_that_is_tried_leaves_no_trace(
    admin: Person, operator: Person, app: Starlette
) -> None:
    number, secret = made(operator, allowed_networks=["192.0.2.0/24"])
    operator.api.delete(f"/api/tokens/{number}")
    assert status(client_at(app, secret, ABROAD)) == 401
    assert refused_at(admin) == []


def test_when_and_from_where_a_token_was_used_last_is_kept(
    operator: Person, app: Starlette, stopped: Later
) -> None:
    _, secret = made(operator, allowed_networks=["192.0.2.0/24"])
    state, own = app.state.vmtrak, operator.api

    def last_used() -> tuple[str | None, str | None]:
        state.presence.write(state.database)
        [row] = own.get("/api/tokens").json()
        return row["last_used_at"], row["last_used_ip_address"]

    assert last_used() == (None, None)
    assert status(client_at(app, secret, HOME)) == 200
    first = last_used()
    assert first[1] == HOME
    stopped(60)
    assert status(client_at(app, secret, ABROAD)) == 403
    assert last_used() == first
    assert status(client_at(app, secret, "192.0.2.8")) == 200
    assert last_used()[1] == "192.0.2.8"
    assert str(last_used()[0]) > str(first[0])


def test_a_token_never_opens_the_panel(admin: Person, app: Starlette) -> None:
    client = client_at(app, secret := made(admin, *Scope)[1])
    for name in (PANEL_COOKIE, "refreshToken", "vmtrak_new_token"):
        client.cookies.set(name, secret, domain="127.0.0.1", path="/")
    for path in ("/admin/", "/admin/vm/list", "/admin/token/list", "/admin/token/made/1"):
        assert client.get(path).headers["Location"].startswith("/admin/login"), path
    assert client.post("/admin/vm/delete", headers={"Origin": BASE_URL}).status_code == 401
    assert client.post("/api/auth/refresh").status_code == 401


def test_a_token_elsewhere_than_in_the_header_counts_for_nothing(
    operator: Person, anonymous: TestClient
) -> None:
    _, secret = made(operator)
    for name in ("token", "access_token", "api_key", "authorization"):
        assert anonymous.get(f"/api/vms?{name}={secret}").status_code == 401
        assert anonymous.get("/api/vms", headers={f"X-{name}": secret}).status_code == 401
        assert anonymous.post("/api/vms", json={name: secret}).status_code == 401
    assert anonymous.get("/api/vms", auth=("otto", secret)).status_code == 401
    assert anonymous.get("/api/vms", auth=(secret, "")).status_code == 401


def test_a_token_cannot_end_or_renew_a_session(operator: Person, script: Script) -> None:
    session, client = operator.api, script(operator)
    assert client.post("/api/auth/logout").status_code == 401
    assert client.post("/api/auth/refresh").status_code == 401
    assert status(session) == status(client) == 200


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.one_of(st.text(), st.text(string.printable).map("vmt_".__add__)))
def test_no_other_text_opens_anything(text: str, anonymous: TestClient) -> None:
    header = f"Bearer {text}".encode("utf-8", "replace")
    answer = anonymous.get("/api/vms", headers={b"Authorization": header.replace(b"\n", b"")})
    assert answer.status_code == 401
