"""Signing in and out, refresh, set-up: at both doors, with what the trail says of it."""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.conftest import PASSWORD, Later, Person, anonymous_client
from vmtrak.access import SYSTEM
from vmtrak.accounts import NewUser, links, sessions, users
from vmtrak.db import Database

NEW_PASSWORD = "quite another secret"


@pytest.fixture
def browser(anonymous: TestClient) -> TestClient:
    """Somebody at the panel's own pages who has not signed in."""
    anonymous.headers["Origin"] = str(anonymous.base_url)
    return anonymous


def events(admin: Person, **wanted: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = admin.api.get("/api/audit", params=wanted).json()["data"]
    return found


def login(client: TestClient, username: str, password: str = PASSWORD) -> Any:
    return client.post("/api/auth/login", json={"username": username, "password": password})


def panel_login(client: TestClient, username: str, password: str = PASSWORD, **more: str) -> Any:
    form = {"username": username, "password": password, **more}
    return client.post("/admin/login", data=form)


@pytest.mark.parametrize("name", ["otto", " OTTO "])
def test_a_user_signs_in_at_both_doors(name: str, browser: TestClient, admin: Person) -> None:
    answer = login(browser, name)
    assert answer.status_code == 200
    user = answer.json()["user"]
    assert set(user) == {"id", "username", "email", "role", "must_change_password"}
    token = answer.json()["accessToken"]
    me = browser.get("/api/auth/me", headers={"Authorization": f"Bearer {token}"})
    assert me.json()["username"] == "otto"
    entered = panel_login(browser, name)
    assert (entered.status_code, entered.headers["Location"]) == (303, "/admin/")
    assert browser.get("/admin/").status_code == 200
    newest = events(admin, action="auth.login", username="otto")
    assert [event["entity_name"] for event in newest] == ["otto", "otto"]
    assert newest[0]["ip_address"] == "127.0.0.1"
    assert newest[0]["request_id"]


REFUSED = (
    ("nobody", PASSWORD),
    ("otto", "wrong"),
    ("rita", ""),
    ("aud", PASSWORD + " "),
    ("closed", PASSWORD),
    ("invited", PASSWORD),
    ("", ""),
    ("otto\0", PASSWORD),
    ("' OR 1=1 --", PASSWORD),
    ("a" * 1000, "b" * 1000),
)
"""Names and passwords that open nothing."""


def test_who_may_not_sign_in_reads_the_same_words(
    browser: TestClient, database: Database, admin: Person
) -> None:
    with database.work(SYSTEM) as work:
        for name in ("closed", "invited"):
            given = {"username": name, "email": f"{name}@vmtrak.example", "role": "admin"}
            if name == "closed":
                given["password"] = PASSWORD
            made = users.add(work, NewUser.model_validate(given))
            if name == "closed":
                users.deactivate(work, made.id)
    for username, password in REFUSED:
        answer = login(browser, username, password)
        page = panel_login(browser, username, password)
        told = (answer.status_code, answer.json()["error"], page.status_code)
        assert (username, *told) == (username, 401, sessions.WRONG, 401)
        assert sessions.WRONG in page.text
        assert not {"set-cookie"} & {*answer.headers, *page.headers}
    failed = events(admin, action="auth.login_failed")
    assert len(failed) == 2 * len(REFUSED)
    assert {event["user_id"] for event in failed} == {None}
    assert PASSWORD not in str(failed)


def test_the_sign_in_page_never_repeats_the_password(browser: TestClient) -> None:
    page = panel_login(browser, "otto", "a wrong password 4711")
    assert "4711" not in page.text
    assert 'value="otto"' in page.text


def test_signing_in_again_starts_another_session(browser: TestClient) -> None:
    tokens = {panel_login(browser, "otto").cookies["vmtrak_session"] for _ in range(2)}
    assert len(tokens) == 2


def refresh(client: TestClient, token: str) -> Any:
    return client.post("/api/auth/refresh", headers={"Cookie": f"refreshToken={token}"})


def test_a_refresh_gives_new_tokens(anonymous: TestClient) -> None:
    old = login(anonymous, "otto").cookies["refreshToken"]
    anonymous.cookies.clear()
    answer = refresh(anonymous, old)
    assert answer.status_code == 200
    assert set(answer.json()) == {"accessToken"}
    assert answer.cookies["refreshToken"] != old
    bearer = {"Authorization": f"Bearer {answer.json()['accessToken']}"}
    assert anonymous.get("/api/auth/me", headers=bearer).status_code == 200


def test_two_tabs_may_refresh_at_the_same_moment(anonymous: TestClient, later: Later) -> None:
    old = login(anonymous, "otto").cookies["refreshToken"]
    anonymous.cookies.clear()
    first = refresh(anonymous, old)
    later(9)
    second = refresh(anonymous, old)
    assert (first.status_code, second.status_code) == (200, 200)
    anonymous.cookies.clear()
    assert refresh(anonymous, first.cookies["refreshToken"]).status_code == 200


def test_a_refresh_token_used_again_later_ends_the_session(
    anonymous: TestClient, later: Later, admin: Person
) -> None:
    old = login(anonymous, "otto").cookies["refreshToken"]
    anonymous.cookies.clear()
    fresh = refresh(anonymous, old)
    anonymous.cookies.clear()
    later(11)
    assert refresh(anonymous, old).status_code == 401
    bearer = {"Authorization": f"Bearer {fresh.json()['accessToken']}"}
    assert anonymous.get("/api/auth/me", headers=bearer).status_code == 401
    assert refresh(anonymous, fresh.cookies["refreshToken"]).status_code == 401
    reuse = events(admin, action="auth.refresh_reuse")
    assert [event["username"] for event in reuse] == ["otto"]


def test_a_refresh_token_expires(anonymous: TestClient, later: Later) -> None:
    old = login(anonymous, "otto").cookies["refreshToken"]
    later(7 * 24 * 3600 + 1)
    assert refresh(anonymous, old).status_code == 401


def test_an_unknown_refresh_token_is_refused(anonymous: TestClient) -> None:
    for token in ("", "x", "é", "a" * 5000, '"', "a;b=c"):
        header = {b"Cookie": f"refreshToken={token}".encode()}
        answer = anonymous.post("/api/auth/refresh", headers=header)
        assert (token, answer.status_code) == (token, 401)


def test_a_closed_account_cannot_refresh(
    anonymous: TestClient, admin: Person, operator: Person
) -> None:
    old = login(anonymous, "otto").cookies["refreshToken"]
    admin.api.delete(f"/api/users/{operator.user_id}")
    assert refresh(anonymous, old).status_code == 401


@pytest.mark.parametrize("by", ["token", "cookie"])
def test_signing_out_ends_the_session(by: str, anonymous: TestClient, admin: Person) -> None:
    signed_in = login(anonymous, "otto")
    bearer = {"Authorization": f"Bearer {signed_in.json()['accessToken']}"}
    cookie = signed_in.cookies["refreshToken"]
    anonymous.cookies.clear()
    headers = bearer if by == "token" else {"Cookie": f"refreshToken={cookie}"}
    answer = anonymous.post("/api/auth/logout", headers=headers)
    assert answer.json() == {"ok": True}
    assert 'refreshToken=""' in answer.headers["Set-Cookie"]
    assert anonymous.get("/api/auth/me", headers=bearer).status_code == 401
    assert refresh(anonymous, cookie).status_code == 401
    assert [event["username"] for event in events(admin, action="auth.logout")] == ["otto"]


def test_signing_out_at_the_panel_ends_that_session_alone(operator: Person, admin: Person) -> None:
    here, elsewhere = operator.panel, operator.panel
    answer = here.post("/admin/logout")
    assert answer.headers["Location"] == "/admin/login"
    assert here.get("/admin/").status_code == 303
    assert elsewhere.get("/admin/").status_code == 200
    assert len(events(admin, action="auth.logout")) == 1


def new_user(admin: Person) -> None:
    form = {"username": "nora", "email": "nora@vmtrak.example", "role": "readwrite"}
    added = admin.api.post("/api/users", json={**form, "password": PASSWORD})
    assert added.json()["must_change_password"] is True


def test_until_the_set_up_is_done_the_api_gives_nothing_else(admin: Person, app: Starlette) -> None:
    new_user(admin)
    client = anonymous_client(app)
    signed_in = login(client, "nora")
    assert signed_in.json()["user"]["must_change_password"] is True
    client.headers["Authorization"] = f"Bearer {signed_in.json()['accessToken']}"
    for path in ("/api/vms", "/api/auth/me", "/api/nothing", "/api/dashboard/stats"):
        refused = client.get(path)
        assert (refused.status_code, refused.json()["error"]) == (403, "setup_required")
    assert client.post("/api/vms", json={"vm_name": "x"}).json()["error"] == "setup_required"
    path, email = "/api/auth/complete-setup", "nora@vmtrak.example"
    same = client.post(path, json={"email": email, "password": PASSWORD})
    assert (same.status_code, list(same.json()["details"])) == (422, ["password"])
    taken = client.post(path, json={"email": "ADA@vmtrak.example", "password": NEW_PASSWORD})
    assert taken.status_code == 409
    done = client.post(path, json={"email": email, "password": NEW_PASSWORD})
    assert done.json() == {"ok": True}
    assert client.get("/api/vms").status_code == 200
    assert client.post(path, json={"email": email, "password": PASSWORD}).status_code == 403
    assert login(client, "nora").status_code == 401
    assert login(client, "nora", NEW_PASSWORD).status_code == 200
    assert len(events(admin, action="auth.setup_completed", username="nora")) == 1


def test_until_the_set_up_is_done_the_panel_shows_nothing_else(
    admin: Person, browser: TestClient
) -> None:
    new_user(admin)
    assert panel_login(browser, "nora").status_code == 303
    for path in ("/admin/", "/admin/vm/list", "/admin/vm/create", "/admin/nothing"):
        assert browser.get(path).headers["Location"] == "/admin/complete-setup"
    refused = browser.post("/admin/vm/create", data={"vm_name": "x"})
    assert refused.headers["Location"] == "/admin/complete-setup"
    assert admin.api.get("/api/vms").json()["total"] == 0
    page = browser.get("/admin/complete-setup")
    assert 'value="nora@vmtrak.example"' in page.text
    form = {"email": "nora@vmtrak.example", "password": "short"}
    assert browser.post("/admin/complete-setup", data=form).status_code == 422
    form["password"] = NEW_PASSWORD
    assert browser.post("/admin/complete-setup", data=form).headers["Location"] == "/admin/"
    assert browser.get("/admin/vm/list").status_code == 200


def first_token(database: Database) -> str:
    with database.work(SYSTEM) as work:
        return links.make(work, "first", None)


def emptied(database: Database) -> None:
    with database.engine.begin() as connection:
        for table in ("refresh_tokens", "sessions", "one_time_links", "users"):
            connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608 - the names are above


def test_the_first_administrator_comes_over_the_link(
    database: Database, browser: TestClient, app: Starlette
) -> None:
    emptied(database)
    token = first_token(database)
    asked = browser.post("/admin/setup", data={"token": token})
    assert all(f'name="{name}"' in asked.text for name in ("username", "email", "password"))
    form = {"token": token, "username": "first", "email": "first@vmtrak.example"}
    short = browser.post("/admin/setup", data={**form, "password": "short"})
    assert short.status_code == 422
    done = browser.post("/admin/setup", data={**form, "password": NEW_PASSWORD})
    assert (done.status_code, done.headers["Location"]) == (303, "/admin/")
    assert browser.get("/admin/user/list").status_code == 200
    again = browser.post("/admin/setup", data={**form, "password": NEW_PASSWORD})
    assert again.status_code == 404
    assert login(anonymous_client(app), "first", NEW_PASSWORD).json()["user"]["role"] == "admin"


def test_the_first_link_is_dead_once_there_is_a_user(
    database: Database, browser: TestClient
) -> None:
    form = {
        "token": first_token(database),
        "username": "mallory",
        "email": "mallory@vmtrak.example",
        "password": NEW_PASSWORD,
    }
    assert browser.post("/admin/setup", data=form).status_code == 404
    assert login(browser, "mallory", NEW_PASSWORD).status_code == 401


def test_a_set_up_link_expires(database: Database, browser: TestClient, later: Later) -> None:
    emptied(database)
    token = first_token(database)
    later(24 * 3600 + 1)
    assert browser.post("/admin/setup", data={"token": token}).status_code == 404


def test_a_set_up_link_sets_the_password_once(
    admin: Person, operator: Person, browser: TestClient
) -> None:
    page = admin.panel.post(f"/admin/user/reset/{operator.user_id}").text
    token = page.partition("/admin/setup#")[2][:43]
    assert login(browser, "otto").status_code == 401
    form = {"token": token, "password": NEW_PASSWORD, "username": "root", "role": "admin"}
    assert browser.post("/admin/setup", data=form).status_code == 303
    assert login(browser, "otto", NEW_PASSWORD).json()["user"]["role"] == "readwrite"
    assert browser.post("/admin/setup", data=form).status_code == 404


def test_a_later_reset_kills_the_link_of_before(
    admin: Person, operator: Person, browser: TestClient
) -> None:
    path = f"/admin/user/reset/{operator.user_id}"
    older, newer = (
        admin.panel.post(path).text.partition("/admin/setup#")[2][:43] for _ in range(2)
    )
    assert browser.post("/admin/setup", data={"token": older}).status_code == 404
    assert browser.post("/admin/setup", data={"token": newer}).status_code == 200


def test_a_password_that_an_admin_gives_kills_the_link_of_before(
    admin: Person, operator: Person, browser: TestClient
) -> None:
    page = admin.panel.post(f"/admin/user/reset/{operator.user_id}").text
    token = page.partition("/admin/setup#")[2][:43]
    path = f"/api/users/{operator.user_id}/reset-password"
    assert admin.api.post(path, json={"new_password": NEW_PASSWORD}).status_code == 200
    assert browser.post("/admin/setup", data={"token": token}).status_code == 404
