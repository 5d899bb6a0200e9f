"""Sessions from their start to their end: how long, who sees them, who ends them."""

import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from http.cookies import SimpleCookie
from typing import Any

import pytest
from httpx2 import Response
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update
from starlette.testclient import TestClient

from tests.conftest import BASE_URL, PASSWORD, Later, Person, anonymous_client
from vmtrak import db
from vmtrak.access import SYSTEM
from vmtrak.accounts import (
    OneTimeLink,
    RefreshToken,
    SignedIn,
    SignInLimit,
    User,
    access_tokens,
    actors,
    links,
    sessions,
    user_agents,
)
from vmtrak.accounts.actors import PANEL_IDLE
from vmtrak.accounts.purge import purge
from vmtrak.accounts.sessions import PANEL_LIFETIME, REUSE_GRACE, Proof, Sighting
from vmtrak.db import Database
from vmtrak.web.sign_in import AFTER_SIGN_IN, own_path

NEW_PASSWORD = "quite another secret 4711"
DAY = 24 * 3600

Clock = Callable[[datetime], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stops the program's clock at a moment, as often as it is called."""
    real = db.now

    def stop(moment: datetime) -> None:
        for name, module in list(sys.modules.items()):
            if name.startswith("vmtrak.") and hasattr(module, "now"):
                monkeypatch.setattr(module, "now", lambda: moment)
        monkeypatch.setattr(access_tokens, "unix_time", moment.timestamp)

    stop(real())
    return stop


def events(admin: Person, **wanted: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = admin.api.get("/api/audit", params=wanted).json()["data"]
    return found


def panel_is_open(client: TestClient) -> bool:
    return client.get("/admin/session", headers={"Accept": "application/json"}).status_code == 204


def api_is_open(client: TestClient) -> bool:
    return client.get("/api/auth/me").status_code == 200


def log_in(client: TestClient, username: str = "otto") -> Response:
    return client.post("/api/auth/login", json={"username": username, "password": PASSWORD})


def refresh(client: TestClient, token: str) -> Response:
    client.cookies.clear()
    return client.post("/api/auth/refresh", headers={"Cookie": f"refreshToken={token}"})


def session_of(person: Person, kind: str = "panel") -> SignedIn:
    """The newest session of a person."""
    with person.database.read() as session:
        newest = select(SignedIn).where(SignedIn.user_id == person.user_id, SignedIn.kind == kind)
        found = session.scalars(newest.order_by(SignedIn.id.desc())).first()
    assert found is not None
    return found


# How long


def test_a_panel_session_is_over_after_eight_idle_hours_to_the_second(
    operator: Person, clock: Clock
) -> None:
    client = operator.panel
    seen = session_of(operator).last_seen_at
    clock(seen + PANEL_IDLE - timedelta(seconds=1))
    assert panel_is_open(client)
    clock(seen + PANEL_IDLE)
    assert not panel_is_open(client)


def test_a_panel_session_in_use_is_over_after_seven_days_to_the_second(
    operator: Person, clock: Clock
) -> None:
    client = operator.panel
    begun = session_of(operator)
    end = begun.created_at + PANEL_LIFETIME
    assert begun.expires_at == end
    with operator.database.work(SYSTEM) as work:
        sessions.note_seen(work, {begun.id: Sighting(end - timedelta(seconds=30), "127.0.0.1")})
    clock(end - timedelta(seconds=1))
    assert panel_is_open(client)
    clock(end)
    assert not panel_is_open(client)


def test_being_used_keeps_a_panel_session(
    operator: Person, later: Later, database: Database
) -> None:
    client = operator.panel
    for _ in range(3):
        later(7 * 3600)
        assert panel_is_open(client)
        client.app.state.vmtrak.presence.write(database)  # type: ignore[attr-defined]
    later(8 * 3600)
    assert not panel_is_open(client)


def test_an_access_token_is_over_after_its_minutes_to_the_second(
    operator: Person, clock: Clock
) -> None:
    client = operator.api
    issued = session_of(operator, "api").created_at
    clock(issued + operator.rules.access - timedelta(seconds=1))
    assert api_is_open(client)
    clock(issued + operator.rules.access)
    assert not api_is_open(client)


def test_a_refresh_token_is_over_after_its_days_to_the_second(
    anonymous: TestClient, operator: Person, clock: Clock
) -> None:
    token = log_in(anonymous).cookies["refreshToken"]
    issued = session_of(operator, "api").created_at
    clock(issued + operator.rules.refresh)
    assert refresh(anonymous, token).status_code == 401
    clock(issued + operator.rules.refresh - timedelta(seconds=1))
    assert refresh(anonymous, token).status_code == 200


def test_a_session_of_the_api_ends_however_often_it_is_refreshed(
    anonymous: TestClient, operator: Person, clock: Clock
) -> None:
    answer = log_in(anonymous)
    begun = session_of(operator, "api").created_at
    end = begun + sessions.REFRESH_LIFETIMES * operator.rules.refresh
    for day in range(6, 28, 6):
        clock(begun + timedelta(days=day))
        answer = refresh(anonymous, answer.cookies["refreshToken"])
        assert answer.status_code == 200
    cookie = SimpleCookie(answer.headers["Set-Cookie"])["refreshToken"]
    assert int(cookie["max-age"]) == 4 * DAY
    clock(end - timedelta(seconds=1))
    answer = refresh(anonymous, answer.cookies["refreshToken"])
    bearer = {"Authorization": f"Bearer {answer.json()['accessToken']}"}
    assert anonymous.get("/api/auth/me", headers=bearer).status_code == 200
    clock(end)
    assert anonymous.get("/api/auth/me", headers=bearer).status_code == 401
    assert refresh(anonymous, answer.cookies["refreshToken"]).status_code == 401


# The cookie of the panel


def test_who_signs_in_again_gets_another_cookie_and_the_old_one_is_dead(
    operator: Person, admin: Person
) -> None:
    client = operator.panel
    old = client.cookies["vmtrak_session"]
    form = {"username": "otto", "password": PASSWORD}
    answer = client.post("/admin/login", data=form)
    assert answer.cookies["vmtrak_session"] != old
    assert panel_is_open(client)
    stolen = anonymous_client(operator.app)
    stolen.cookies.set("vmtrak_session", old, domain="127.0.0.1", path="/admin")
    assert not panel_is_open(stolen)
    told = [event["action"] for event in events(admin, username="otto")]
    assert told[:2] == ["auth.login", "auth.logout"]


def test_somebody_else_who_signs_in_ends_the_session_of_before(
    operator: Person, reader: Person
) -> None:
    client = operator.panel
    before = session_of(operator).id
    client.post("/admin/login", data={"username": "rita", "password": PASSWORD})
    with operator.database.read() as session:
        assert session.get_one(SignedIn, before).ended_at is not None
    assert "rita" in client.get("/admin/account/").text
    assert session_of(reader).ended_at is None


def test_a_failed_sign_in_leaves_the_session_alone(operator: Person) -> None:
    client = operator.panel
    client.post("/admin/login", data={"username": "otto", "password": "wrong"})
    assert panel_is_open(client)


def test_a_client_that_signs_in_again_leaves_its_session_of_before(
    operator: Person, admin: Person
) -> None:
    client, login = anonymous_client(operator.app), {"username": "otto", "password": PASSWORD}
    first = client.post("/api/auth/login", json=login).json()["accessToken"]
    before = dict(client.cookies)
    second = client.post("/api/auth/login", json=login).json()["accessToken"]
    answers = [
        client.get("/api/auth/me", headers={"Authorization": f"Bearer {token}"}).status_code
        for token in (first, second)
    ]
    assert answers == [401, 200]
    left = anonymous_client(operator.app)
    left.cookies.set("refreshToken", before["refreshToken"], domain="127.0.0.1", path="/api/auth")
    assert left.post("/api/auth/refresh").status_code == 401
    assert events(admin, action="auth.logout")[0]["username"] == "otto"


def test_a_cookie_that_was_planted_is_not_taken_over(operator: Person) -> None:
    planted = "planted-by-somebody-else"
    client = anonymous_client(operator.app)
    client.headers["Origin"] = BASE_URL
    client.cookies.set("vmtrak_session", planted, domain="127.0.0.1", path="/admin")
    answer = client.post("/admin/login", data={"username": "otto", "password": PASSWORD})
    assert answer.cookies["vmtrak_session"] != planted
    client.cookies.clear()
    client.cookies.set("vmtrak_session", planted, domain="127.0.0.1", path="/admin")
    assert not panel_is_open(client)


def test_signing_out_ends_the_row_and_takes_the_cookie(operator: Person) -> None:
    client = operator.panel
    answer = client.post("/admin/logout")
    cookie = SimpleCookie(answer.headers["Set-Cookie"])["vmtrak_session"]
    assert (cookie.value, cookie["max-age"], cookie["path"]) == ("", "0", "/admin")
    assert session_of(operator).ended_at is not None


# Refreshing


def at_once(number: int, call: Callable[[], object]) -> list[object]:
    """What came of calling it so many times at the same moment."""
    start, found = threading.Barrier(number), []

    def run() -> None:
        start.wait()
        found.append(call())

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_five_tabs_that_refresh_at_the_same_moment_all_succeed(
    anonymous: TestClient, operator: Person
) -> None:
    token = log_in(anonymous).cookies["refreshToken"]

    def one_tab() -> object:
        with operator.database.work(actors.visitor("127.0.0.1", None)) as work:
            return sessions.refresh(work, token, operator.rules)

    found = at_once(5, one_tab)
    assert all(isinstance(each, sessions.Tokens) for each in found)
    for each in found:
        assert isinstance(each, sessions.Tokens)
        assert refresh(anonymous, each.refresh).status_code == 200
    assert session_of(operator, "api").ended_at is None


def test_a_used_token_counts_for_ten_seconds_to_the_second(
    anonymous: TestClient, operator: Person, admin: Person, clock: Clock
) -> None:
    old = log_in(anonymous).cookies["refreshToken"]
    used = session_of(operator, "api").created_at
    tokens = [refresh(anonymous, old)]
    clock(used + REUSE_GRACE)
    tokens += [refresh(anonymous, old) for _ in range(4)]
    assert [answer.status_code for answer in tokens] == [200] * 5
    clock(used + REUSE_GRACE + timedelta(seconds=1))
    assert refresh(anonymous, old).status_code == 401
    assert session_of(operator, "api").ended_at is not None
    for answer in tokens:
        bearer = {"Authorization": f"Bearer {answer.json()['accessToken']}"}
        assert anonymous.get("/api/auth/me", headers=bearer).status_code == 401
        assert refresh(anonymous, answer.cookies["refreshToken"]).status_code == 401
    reuse = events(admin, action="auth.refresh_reuse")
    assert [(event["username"], event["ip_address"]) for event in reuse] == [("otto", "127.0.0.1")]


def test_a_reuse_ends_no_other_session(
    anonymous: TestClient, operator: Person, later: Later
) -> None:
    other, old = operator.api, log_in(anonymous).cookies["refreshToken"]
    refresh(anonymous, old)
    later(11)
    assert refresh(anonymous, old).status_code == 401
    assert api_is_open(other)


# What ends a session


def by_sign_out(operator: Person, _admin: Person, _database: Database) -> None:
    for kind in ("panel", "api"):
        actor = actors.actor_of(_user(operator), SYSTEM, session_of(operator, kind).id)
        with operator.database.work(actor) as work:
            sessions.sign_out(work)


def by_reset(operator: Person, admin: Person, _database: Database) -> None:
    path = f"/api/users/{operator.user_id}/reset-password"
    assert admin.api.post(path, json={"new_password": NEW_PASSWORD}).status_code == 200


def by_deactivation(operator: Person, admin: Person, _database: Database) -> None:
    assert admin.api.delete(f"/api/users/{operator.user_id}").status_code == 200


def by_an_admin(operator: Person, admin: Person, _database: Database) -> None:
    path = f"/api/users/{operator.user_id}/end-sessions"
    assert admin.api.post(path).json() == {"ok": True}


def by_oneself(operator: Person, _admin: Person, _database: Database) -> None:
    assert operator.api.delete("/api/auth/sessions").json() == {"ok": True}


def by_another_password(operator: Person, _admin: Person, _database: Database) -> None:
    change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    assert operator.api.post("/api/auth/password", json=change).status_code == 200


def _user(person: Person) -> User:
    with person.database.read() as session:
        return session.get_one(User, person.user_id)


@pytest.mark.parametrize(
    "end",
    [by_sign_out, by_reset, by_deactivation, by_an_admin, by_oneself, by_another_password],
)
def test_everything_alive_ends_at_once(
    end: Callable[..., None],
    operator: Person,
    admin: Person,
    anonymous: TestClient,
    database: Database,
) -> None:
    panel, signed_in = operator.panel, log_in(anonymous)
    api = anonymous_client(operator.app)
    api.headers["Authorization"] = f"Bearer {signed_in.json()['accessToken']}"
    assert panel_is_open(panel)
    assert api_is_open(api)
    end(operator, admin, database)
    assert not panel_is_open(panel)
    assert not api_is_open(api)
    assert refresh(anonymous, signed_in.cookies["refreshToken"]).status_code == 401


def test_a_lower_role_counts_at_once_for_everything_alive(
    operator: Person, admin: Person, anonymous: TestClient
) -> None:
    panel, signed_in = operator.panel, log_in(anonymous)
    api = anonymous_client(operator.app)
    api.headers["Authorization"] = f"Bearer {signed_in.json()['accessToken']}"
    admin.api.put(f"/api/users/{operator.user_id}", json={"role": "read"})
    assert panel.get("/admin/vm/create").status_code == 403
    assert api.post("/api/vms", json={"vm_name": "new"}).status_code == 403
    fresh = refresh(anonymous, signed_in.cookies["refreshToken"]).json()["accessToken"]
    api.headers["Authorization"] = f"Bearer {fresh}"
    assert api.post("/api/vms", json={"vm_name": "new"}).status_code == 403


# Your sessions


def test_people_see_their_own_sessions_and_which_is_the_present_one(
    operator: Person, admin: Person
) -> None:
    api = operator.api
    _ = admin.api, operator.panel
    mine = api.get("/api/auth/sessions").json()
    assert [(row["kind"], row["current"]) for row in mine] == [("panel", False), ("api", True)]
    assert {row["ip_address"] for row in mine} == {"127.0.0.1"}
    assert {row["device"] for row in mine} == {"tests"}
    page = operator.panel.get("/admin/account/").text
    assert page.count('action="/admin/account/sessions/end"') == 2
    assert page.count("this one") == 1


def test_a_session_that_is_over_is_not_shown(operator: Person, later: Later) -> None:
    _ = operator.panel
    assert len(operator.api.get("/api/auth/sessions").json()) == 2
    later(8 * 3600)
    assert [row["kind"] for row in operator.api.get("/api/auth/sessions").json()] == ["api", "api"]


def test_a_session_shows_where_it_was_seen_last(
    operator: Person, database: Database, clock: Clock
) -> None:
    seen = session_of_panel(operator)
    moment = seen.last_seen_at + timedelta(minutes=5)
    with database.work(SYSTEM) as work:
        sessions.note_seen(work, {seen.id: Sighting(moment, "127.0.0.9")})
    clock(moment)
    row = next(r for r in operator.api.get("/api/auth/sessions").json() if r["id"] == seen.id)
    assert (row["ip_address"], row["last_ip_address"]) == ("127.0.0.1", "127.0.0.9")
    assert row["last_seen_at"] == db.iso(moment)
    assert row["created_at"] == db.iso(seen.created_at)


def session_of_panel(person: Person) -> SignedIn:
    _ = person.panel
    return session_of(person)


def test_one_session_can_be_ended_at_both_doors(operator: Person, admin: Person) -> None:
    first, second = operator.panel, operator.panel
    doomed = session_of(operator).id
    answer = first.post("/admin/account/sessions/end", data={"id": str(doomed)})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/admin/account/")
    assert not panel_is_open(second)
    doomed = session_of_panel(operator).id
    assert operator.api.delete(f"/api/auth/sessions/{doomed}").json() == {"ok": True}
    assert panel_is_open(first)
    told = events(admin, action="auth.sessions_ended")
    assert [event["detail"] for event in told] == [{"device": "tests", "sessions": 1}] * 2


def test_all_others_can_be_ended_from_the_panel(operator: Person, admin: Person) -> None:
    kept, others = operator.panel, [operator.panel, operator.panel]
    api = operator.api
    assert kept.post("/admin/account/sessions/end-all").status_code == 303
    assert panel_is_open(kept)
    assert not any(panel_is_open(client) for client in others)
    assert not api_is_open(api)
    assert [e["detail"] for e in events(admin, action="auth.sessions_ended")] == [{"sessions": 3}]
    kept.post("/admin/account/sessions/end-all")
    assert len(events(admin, action="auth.sessions_ended")) == 1


def test_nobody_ends_a_session_of_somebody_else(operator: Person, admin: Person) -> None:
    client = admin.panel
    number = session_of(admin).id
    assert operator.api.delete(f"/api/auth/sessions/{number}").status_code == 404
    form = {"id": str(number)}
    assert operator.panel.post("/admin/account/sessions/end", data=form).status_code == 404
    assert panel_is_open(client)


def test_a_session_that_has_ended_cannot_be_ended_again(operator: Person) -> None:
    number, api = session_of_panel(operator).id, operator.api
    assert api.delete(f"/api/auth/sessions/{number}").status_code == 200
    assert api.delete(f"/api/auth/sessions/{number}").status_code == 404


def test_an_admin_sees_and_ends_the_sessions_of_others(operator: Person, admin: Person) -> None:
    panel, api, theirs = admin.panel, admin.api, operator.panel
    path = f"/api/users/{operator.user_id}"
    shown = api.get(f"{path}/sessions").json()
    assert [(row["kind"], row["current"]) for row in shown] == [("panel", False)]
    assert api.post(f"{path}/end-sessions").json() == {"ok": True}
    assert not panel_is_open(theirs)
    assert panel_is_open(panel)
    assert api.get(f"{path}/sessions").json() == []
    told = events(admin, action="auth.sessions_ended")
    assert [(e["entity_name"], e["detail"]) for e in told] == [("otto", {"sessions": 1})]
    assert api.post("/api/users/999999/end-sessions").status_code == 404
    assert api.get("/api/users/999999/sessions").status_code == 404


AGENTS = {
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0": "Edge on Windows",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/141.0.0.0 Safari/537.36": "Chrome on Linux",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.0 Safari/605.1.15": "Safari on macOS",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) CriOS/141.0 Mobile/15E148 Safari/604.1": "Chrome on iPhone",
    "Mozilla/5.0 (Android 15; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0": "Firefox on Android",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0": (
        "Firefox on Linux"
    ),
    "Mozilla/5.0 (compatible)": "Unknown device",
    "curl/8.14.1": "curl",
    "python-requests/2.32": "python-requests",
    "Mozilla/5.0 Firefox/140.0": "Firefox",
    "<script>alert(1)</script>": "Unknown device",
    "": "Unknown device",
}


@pytest.mark.parametrize(("header", "words"), AGENTS.items())
def test_a_device_is_told_in_words(header: str, words: str) -> None:
    assert user_agents.told(header) == words


@given(st.none() | st.text())
def test_any_header_is_told_shortly(header: str | None) -> None:
    told = user_agents.told(header)
    assert 0 < len(told) <= 40
    assert told.isprintable()


# Another password


def change(client: TestClient, current: str = PASSWORD, new: str = NEW_PASSWORD) -> Response:
    """At the door of that client."""
    wanted = {"current_password": current, "new_password": new}
    if "Authorization" in client.headers:
        return client.post("/api/auth/password", json=wanted)
    return client.post("/admin/account/password", data=wanted)


def test_a_new_password_at_the_panel_gives_a_new_cookie(
    operator: Person, admin: Person, anonymous: TestClient
) -> None:
    client = operator.panel
    before = session_of(operator)
    old = client.cookies["vmtrak_session"]
    answer = change(client)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/admin/account/")
    assert answer.cookies["vmtrak_session"] != old
    assert panel_is_open(client)
    after = session_of(operator)
    assert after.id != before.id
    assert (after.created_at, after.expires_at) == (before.created_at, before.expires_at)
    stolen = anonymous_client(operator.app)
    stolen.cookies.set("vmtrak_session", old, domain="127.0.0.1", path="/admin")
    assert not panel_is_open(stolen)
    told = events(admin, action="auth.password_changed")
    assert [(e["username"], e["entity_name"], e["detail"]) for e in told] == [
        ("otto", "otto", None)
    ]
    assert log_in(anonymous).status_code == 401


def test_a_new_password_at_the_api_gives_new_tokens(
    operator: Person, anonymous: TestClient
) -> None:
    client = operator.api
    answer = change(client)
    assert answer.status_code == 200
    assert not api_is_open(client)
    client.headers["Authorization"] = f"Bearer {answer.json()['accessToken']}"
    assert api_is_open(client)
    assert refresh(anonymous, answer.cookies["refreshToken"]).status_code == 200


def test_a_new_password_ends_open_links(operator: Person, admin: Person) -> None:
    with operator.database.work(admin.actor) as work:
        token = links.make(work, "setup", operator.user_id)
    assert change(operator.api).status_code == 200
    assert links.find(operator.database, token) == (None, None)


@pytest.mark.parametrize("door", ["panel", "api"])
def test_a_password_is_not_changed_without_the_present_one(
    door: str, operator: Person, admin: Person, anonymous: TestClient
) -> None:
    client, other = getattr(operator, door), operator.panel
    answer = change(client, "not the present one")
    assert answer.status_code == 422
    assert "is not your present password" in answer.text
    assert "not the present one" not in answer.text
    assert panel_is_open(other)
    assert log_in(anonymous).status_code == 200
    failed = events(admin, action="auth.proof_failed")
    assert [(e["username"], e["detail"]) for e in failed] == [("otto", {"by": "password"})]


@pytest.mark.parametrize("door", ["panel", "api"])
def test_the_present_password_cannot_be_guessed(door: str, operator: Person) -> None:
    client = getattr(operator, door)
    for n in range(5):
        assert change(client, f"guess {n}").status_code == 422
    refused = change(client)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0
    assert "Too many" in refused.text
    assert change(getattr(operator, door)).status_code in {200, 303}


@pytest.mark.parametrize("new", ["short", PASSWORD, "x" * 257, ""])
def test_a_new_password_that_will_not_do_changes_nothing(
    new: str, operator: Person, anonymous: TestClient
) -> None:
    for client in (operator.panel, operator.api):
        assert change(client, new=new).status_code == 422
    assert log_in(anonymous).status_code == 200


@pytest.mark.parametrize("door", ["panel", "api"])
def test_a_new_password_that_will_not_do_is_no_wrong_guess_at_the_present_one(
    door: str, operator: Person
) -> None:
    client = getattr(operator, door)
    for n in range(6):
        assert change(client, new=f"password12345{n}").status_code == 422
    assert change(client).status_code in {200, 303}


def test_no_token_is_in_what_a_program_shows_of_it() -> None:
    assert repr(sessions.Tokens("an-access", "a-refresh", 60)) == "Tokens(refresh_seconds=60)"


def test_who_signs_in_over_the_provider_has_no_password_to_change(
    operator: Person, database: Database
) -> None:
    client, api = operator.panel, operator.api
    with database.work(SYSTEM) as work:
        work.session.execute(
            update(User).where(User.id == operator.user_id).values(sign_in_method="microsoft"),
            execution_options={"audited": True},
        )
    assert change(client).status_code == 403
    assert change(api).status_code == 403
    page = client.get("/admin/account/")
    assert "your provider" in page.text
    assert "/admin/account/password" not in page.text


# Asking whether one is still signed in


def test_a_page_learns_whether_its_person_is_signed_in(
    operator: Person, admin: Person, anonymous: TestClient
) -> None:
    json = {"Accept": "application/json"}
    client, me = operator.panel, {"person": str(operator.user_id)}
    assert client.get("/admin/session", headers=json, params=me).status_code == 204
    other = admin.panel.get("/admin/session", headers=json, params=me)
    assert (other.status_code, other.json()["detail"]) == (409, "In another tab ada has signed in.")
    nobody = anonymous.get("/admin/session", headers=json, params=me)
    assert (nobody.status_code, nobody.json()["detail"]) == (401, "Sign in first.")
    assert nobody.headers["Content-Type"] == "application/problem+json"


def test_a_page_learns_what_has_to_be_done_first(operator: Person, admin: Person) -> None:
    client, json = operator.panel, {"Accept": "application/json"}
    with operator.database.work(admin.actor) as work:
        work.session.execute(
            update(User).where(User.id == operator.user_id).values(must_change_password=True),
            execution_options={"audited": True},
        )
    answer = client.get("/admin/session", headers=json)
    assert (answer.status_code, answer.json()["detail"]) == (403, "setup_required")


def test_a_script_of_the_panel_signs_in_and_is_told_in_json(anonymous: TestClient) -> None:
    anonymous.headers.update({"Origin": BASE_URL, "Accept": "application/json"})
    for form in ({"username": "otto", "password": "wrong"}, {"username": "otto"}):
        wrong = anonymous.post("/admin/login", data=form)
        assert (wrong.status_code, wrong.json()["detail"]) == (401, sessions.WRONG)
        assert "set-cookie" not in wrong.headers
    right = anonymous.post("/admin/login", data={"username": "otto", "password": PASSWORD})
    assert (right.status_code, right.content) == (204, b"")
    assert panel_is_open(anonymous)


def test_a_form_that_comes_too_late_says_where_the_typed_text_is(anonymous: TestClient) -> None:
    anonymous.headers.update({"Origin": BASE_URL, "Accept": "text/html"})
    answer = anonymous.post("/admin/vm/create", data={"vm_name": "typed for an hour"})
    assert answer.status_code == 401
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "Browsers keep what was typed one page back" in answer.text
    assert "typed for an hour" not in answer.text


# Where to go after a sign-in

PIECES = st.sampled_from(
    (
        *(
            "/",
            "//",
            "\\",
            ".",
            "..",
            "%2f",
            "%5c",
            "%2e",
            "%00",
            "@",
            ":",
            "?",
            "#",
            ";",
            "\t",
            "\n",
        ),
        *(" ", "\u2028", "É", "admin", "vm", "login", "https:", "javascript:", "evil.example"),
    )
)
PATHS = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=40)


@given(PATHS | PATHS.map("/admin/".__add__))
def test_no_next_leads_out_of_the_panel(target: str) -> None:
    found = own_path(target)
    assert found.startswith("/admin/")
    assert found in {target, AFTER_SIGN_IN}
    path = found.partition("?")[0]
    assert not {"..", "."} & set(path.lower().replace("%2e", ".").replace("%2f", "/").split("/"))
    assert not any(part in path.lower() for part in ("\\", "%5c", "//", "/%2f", "#"))
    assert found.isprintable()


# Cleaning up


def rows(database: Database) -> dict[str, int]:
    tables = (SignedIn, RefreshToken, OneTimeLink, SignInLimit)
    with database.read() as session:
        return {
            table.__tablename__: session.scalar(select(func.count()).select_from(table)) or 0
            for table in tables
        }


def purged(database: Database, most: int = 500) -> dict[str, int]:
    total: dict[str, int] = {}
    while True:
        with database.work(SYSTEM) as work:
            counts = purge(work, most)
        total = {name: total.get(name, 0) + number for name, number in counts.items()}
        if not any(counts.values()):
            return total


def test_what_works_is_not_purged(
    operator: Person, anonymous: TestClient, database: Database, later: Later
) -> None:
    token = log_in(anonymous).cookies["refreshToken"]
    newest = refresh(anonymous, token).cookies["refreshToken"]
    with database.work(SYSTEM) as work:
        link = links.make(work, "setup", operator.user_id)
    before = rows(database)
    later(23 * 3600)
    assert not any(purged(database).values())
    assert rows(database) == before
    assert links.find(database, link)[0] == "setup"
    assert refresh(anonymous, newest).status_code == 200


def test_theft_is_noticed_after_a_purge_too(
    operator: Person, admin: Person, anonymous: TestClient, database: Database, later: Later
) -> None:
    old = log_in(anonymous).cookies["refreshToken"]
    refresh(anonymous, old)
    later(6 * DAY)
    purged(database)
    assert refresh(anonymous, old).status_code == 401
    assert session_of(operator, "api").ended_at is not None
    assert len(events(admin, action="auth.refresh_reuse")) == 1


def test_what_is_over_is_purged_a_day_later(
    operator: Person, admin: Person, anonymous: TestClient, database: Database, later: Later
) -> None:
    panel, token = operator.panel, log_in(anonymous).cookies["refreshToken"]
    refresh(anonymous, token)
    log_in(anonymous, "nobody")
    with database.work(admin.actor) as work:
        links.make(work, "setup", operator.user_id)
    panel.post("/admin/logout")
    later(DAY - 10)
    assert not any(purged(database).values())
    later(20)
    gone = purged(database)
    assert (gone["sessions"], gone["refresh_tokens"]) == (1, 0)
    later(DAY)
    assert purged(database)["one_time_links"] == 1
    later(6 * DAY)
    gone = purged(database)
    assert (gone["sessions"], gone["refresh_tokens"]) == (1, 2)
    assert not any(rows(database).values())


def test_many_rows_are_purged_a_few_at_a_time(
    operator: Person, database: Database, later: Later
) -> None:
    with database.work(actors.visitor(None, None)) as work:
        for _ in range(7):
            sessions.sign_in_api(work, operator.user_id, operator.rules, None)
    later(30 * DAY)
    with database.work(SYSTEM) as work:
        assert purge(work, 3)["refresh_tokens"] == 3
    assert (rows(database)["refresh_tokens"], rows(database)["sessions"]) == (4, 4)
    assert purged(database, 3)["sessions"] == 4
    assert rows(database)["sessions"] == 0


def test_a_refresh_and_a_purge_do_not_wait_for_each_other(
    operator: Person, anonymous: TestClient, database: Database, later: Later
) -> None:
    tokens = []
    for _ in range(8):
        anonymous.cookies.clear()  # or the sign-in would end the session before it
        tokens.append(log_in(anonymous).cookies["refreshToken"])
        refresh(anonymous, tokens[-1])
    later(6 * DAY)
    calls = iter([lambda: purged(database, 2), *(_refreshing(operator, t) for t in tokens)])

    def one_of_them() -> object:
        return next(calls)()

    assert len(at_once(9, one_of_them)) == 9


def _refreshing(operator: Person, token: str) -> Callable[[], object]:
    def run() -> object:
        with operator.database.work(actors.visitor(None, None)) as work:
            return sessions.refresh(work, token, operator.rules)

    return run


def test_a_proof_of_another_kind_is_kept_by_a_session_that_goes_on(
    operator: Person, database: Database
) -> None:
    proof = Proof("microsoft", None, "sid-of-the-provider")
    with database.work(actors.visitor(None, None)) as work:
        sessions.sign_in_panel(work, operator.user_id, "tests", proof)
        sessions.renew_panel(work)
    found = session_of(operator)
    assert (found.method, found.provider_sid) == ("microsoft", "sid-of-the-provider")
    assert found.proved_at is None
