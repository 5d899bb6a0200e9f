"""Step-up: what needs a fresh proof of identity, how one gives it, and who cannot."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from httpx2 import Response
from sqlalchemy import select, update
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.access.test_second_factor import enrol, events, said, script_of
from tests.conftest import PASSWORD, Later, Person
from vmtrak.access import SYSTEM, Actor
from vmtrak.accounts import SignedIn, User, actors
from vmtrak.db import Database, now
from vmtrak.errors import StepUpRequired
from vmtrak.sealing import KeyRing
from vmtrak.web.guard import PANEL_COOKIE, REFRESH_COOKIE

DOORS = ["panel", "rest"]


@pytest.fixture
def keys(app: Starlette) -> KeyRing:
    ring: KeyRing = app.state.vmtrak.vault.keys
    return ring


class Door:
    """Somebody who has signed in at one of the doors."""

    def __init__(self, person: Person, door: str) -> None:
        self.panel = door == "panel"
        self.client = person.panel if self.panel else person.api

    def prove(self, **given: Any) -> Response:
        if self.panel:
            return self.client.post("/admin/account/prove", data=given)
        answer = self.client.post("/api/auth/prove", json=given)
        if answer.status_code == 200:
            self.client.headers["Authorization"] = f"Bearer {answer.json()['accessToken']}"
        return answer

    def proved(self, answer: Response) -> bool:
        return answer.status_code == (303 if self.panel else 200)

    def may(self) -> bool:
        """Whether what needs a proof is done."""
        if not self.panel:
            answer = self.client.post("/api/auth/second-factor")
            assert answer.status_code in {201, 403}
            if answer.status_code == 403:
                assert answer.json()["detail"] == "step_up_required"
            return answer.status_code == 201
        answer = self.client.post("/admin/account/second-factor/start")
        if answer.status_code == 303:
            where = "/admin/account/prove?next=%2Fadmin%2Faccount%2Fsecond-factor"
            assert answer.headers["location"] == where
        return answer.status_code == 200


def test_require_asks_when_the_proof_was(operator: Person) -> None:
    actor = operator.actor
    for proved_at, within in (
        (None, timedelta(minutes=10)),
        (now() - timedelta(seconds=601), timedelta(minutes=10)),
        (now() - timedelta(seconds=61), timedelta(minutes=1)),
    ):
        with pytest.raises(StepUpRequired, match="step_up_required"):
            actors.require_proof(with_proof(actor, proved_at), within)
    actors.require_proof(with_proof(actor, now() - timedelta(seconds=599)))


def with_proof(actor: Actor, proved_at: datetime | None) -> Actor:
    return replace(actor, proved_at=proved_at)


@pytest.mark.parametrize("door", DOORS)
def test_a_sign_in_counts_as_proof_for_ten_minutes_and_the_password_renews_it(
    door: str, operator: Person, later: Later, database: Database
) -> None:
    someone = Door(operator, door)
    later(595)
    assert someone.may()
    later(10)
    assert not someone.may()
    assert someone.proved(someone.prove(password=PASSWORD))
    assert someone.may()
    later(601)
    assert not someone.may()
    assert events(database, "auth.proved") == [("auth.proved", "otto", {"by": "password"})]


@pytest.mark.parametrize("door", DOORS)
def test_who_has_a_second_factor_proves_with_a_code_and_not_with_the_password(
    door: str, operator: Person, keys: KeyRing, later: Later, database: Database
) -> None:
    phone, codes = enrol(operator, keys)
    someone = Door(operator, door)
    later(700)
    refused = someone.prove(password=PASSWORD)
    assert refused.status_code == 422
    assert "code" in refused.text
    assert not someone.may()
    assert someone.proved(someone.prove(code=phone.code()))
    assert someone.may()
    later(700)
    assert not someone.proved(someone.prove(code=phone.code(-30)))
    assert someone.proved(someone.prove(code=codes[0]))
    assert someone.may()
    assert events(database, "auth.proved") == [("auth.proved", "otto", {"by": "code"})] * 2
    assert len(events(database, "auth.recovery_code_used")) == 1


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("enrolled", [False, True])
def test_a_new_password_proves_who_is_there_only_where_no_code_is_wanted(
    enrolled: bool,  # noqa: FBT001 - a case of the table
    door: str,
    operator: Person,
    keys: KeyRing,
    later: Later,
) -> None:
    if enrolled:
        enrol(operator, keys)
    someone = Door(operator, door)
    later(700)
    given = {"current_password": PASSWORD, "new_password": "quite another secret"}
    if someone.panel:
        assert someone.client.post("/admin/account/password", data=given).status_code == 303
    else:
        tokens = someone.client.post("/api/auth/password", json=given).json()
        someone.client.headers["Authorization"] = f"Bearer {tokens['accessToken']}"
    assert someone.may() is not enrolled


@pytest.mark.parametrize("door", DOORS)
def test_a_code_that_signed_in_proves_nothing_more(
    door: str, operator: Person, keys: KeyRing, later: Later
) -> None:
    phone, _ = enrol(operator, keys)
    someone = Door(operator, door)
    later(700)
    code = phone.code()
    assert someone.proved(someone.prove(code=code))
    assert not someone.proved(someone.prove(code=code))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("with_code", [False, True])
def test_wrong_proofs_are_audited_and_lock_this_session_alone(
    with_code: bool,  # noqa: FBT001 - a case of the table
    door: str,
    operator: Person,
    keys: KeyRing,
    later: Later,
    database: Database,
) -> None:
    phone = enrol(operator, keys)[0] if with_code else None
    someone, elsewhere = Door(operator, door), Door(operator, door)
    later(700)
    name = "code" if phone else "password"
    for _ in range(5):
        refused = someone.prove(**{name: phone.wrong() if phone else "not the password"})
        assert refused.status_code == 422
        assert "wrong" in said(refused)
    failed = events(database, "auth.proof_failed")
    assert failed == [("auth.proof_failed", "otto", {"by": name})] * 5
    right = {name: phone.code() if phone else PASSWORD}
    locked = someone.prove(**right)
    assert locked.status_code == 429
    assert int(locked.headers["Retry-After"]) > 0
    assert elsewhere.proved(elsewhere.prove(**right))
    assert not someone.may()
    later(31)
    if phone:
        right = {name: phone.code()}
    assert someone.proved(someone.prove(**right))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("given", [{}, {"password": ""}, {"code": "123456"}])
def test_a_proof_without_what_is_wanted_is_told_so_and_not_counted(
    given: dict[str, str], door: str, operator: Person, later: Later, database: Database
) -> None:
    someone = Door(operator, door)
    later(700)
    for _ in range(6):
        answer = someone.prove(**given)
        assert answer.status_code == 422
        assert "required" in said(answer)
    assert events(database, "auth.proof_failed") == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("value", [1, ["x"], {"a": "b"}, True, "x" * 1_001])
def test_a_proof_of_the_wrong_kind_is_told_so(value: Any, operator: Person) -> None:
    answer = operator.api.post("/api/auth/prove", json={"password": value})
    assert (answer.status_code, list(answer.json()["details"])) == (422, ["password"])


def test_a_proof_gives_the_panel_a_new_cookie_and_ends_the_old_one(
    operator: Person, database: Database
) -> None:
    someone = Door(operator, "panel")
    old = someone.client.cookies[PANEL_COOKIE]
    someone.prove(password=PASSWORD)
    assert someone.client.cookies[PANEL_COOKIE] != old
    assert someone.client.get("/admin/account/second-factor").status_code == 200
    thief = operator.panel
    thief.cookies.set(PANEL_COOKIE, old, domain="127.0.0.1", path="/admin")
    assert thief.get("/admin/account/second-factor").status_code == 303
    with database.read() as session:
        alive = session.scalars(select(SignedIn).where(SignedIn.ended_at.is_(None))).all()
    assert [each.kind for each in alive] == ["panel", "panel"]


def test_a_proof_gives_a_client_new_tokens_and_ends_the_old_ones(
    operator: Person, later: Later
) -> None:
    api = operator.api
    later(700)
    answer = api.post("/api/auth/prove", json={"password": PASSWORD})
    assert answer.json().keys() == {"ok", "proved_at", "accessToken"}
    assert answer.cookies[REFRESH_COOKIE]
    assert api.get("/api/auth/me").status_code == 401
    api.headers["Authorization"] = f"Bearer {answer.json()['accessToken']}"
    assert api.get("/api/auth/me").status_code == 200
    refreshed = api.post("/api/auth/refresh")
    api.headers["Authorization"] = f"Bearer {refreshed.json()['accessToken']}"
    assert api.post("/api/auth/second-factor").status_code == 201


def test_a_refreshed_session_does_not_count_as_proved_anew(
    operator: Person, anonymous: TestClient, later: Later
) -> None:
    given = {"username": "otto", "password": PASSWORD}
    anonymous.post("/api/auth/login", json=given)
    later(601)
    token = anonymous.post("/api/auth/refresh").json()["accessToken"]
    headers = {"Authorization": f"Bearer {token}"}
    assert anonymous.post("/api/auth/second-factor", headers=headers).status_code == 403


def test_an_api_token_never_proves_anything(operator: Person, database: Database) -> None:
    script = script_of(operator)
    for _ in range(6):
        answer = script.post("/api/auth/prove", json={"password": PASSWORD})
        assert answer.status_code == 403
    assert events(database, "auth.proved", "auth.proof_failed") == []


@pytest.mark.parametrize("door", DOORS)
def test_who_signs_in_over_a_provider_proves_it_there(
    door: str, operator: Person, database: Database, later: Later
) -> None:
    with database.work(SYSTEM) as work:
        work.session.execute(
            update(User).where(User.id == operator.user_id).values(sign_in_method="microsoft"),
            execution_options={"audited": True},
        )
    someone = Door(operator, door)
    later(700)
    assert someone.prove(password=PASSWORD).status_code == 409
    if someone.panel:
        page = someone.client.get("/admin/account/prove?next=/admin/vm/list").text
        assert "/api/auth/microsoft?purpose=prove&amp;next=/admin/vm/list" in page
        assert 'name="password"' not in page


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("given", "where"),
    [
        ("/admin/vm/list?page=2", "/admin/vm/list?page=2"),
        ("https://evil.example", "/admin/"),
        ("//evil.example", "/admin/"),
        ("/admin//evil.example", "/admin/"),
        ("javascript:alert(1)", "/admin/"),
        ("/admin/account/prove", "/admin/"),
        ("", "/admin/"),
    ],
)
def test_a_proof_leads_on_to_own_pages_only(given: str, where: str, operator: Person) -> None:
    panel = operator.panel
    page = panel.get("/admin/account/prove", params={"next": given})
    assert f'href="{where}"' in page.text.replace("&amp;", "&")
    done = panel.post("/admin/account/prove", data={"password": PASSWORD, "next": given})
    assert done.headers["location"] == where


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_panels_script_proves_in_place(operator: Person, later: Later) -> None:
    panel = operator.panel
    later(700)
    json = {"Accept": "application/json"}
    wrong = panel.post("/admin/account/prove", data={"password": "wrong"}, headers=json)
    assert (wrong.status_code, wrong.json()["details"]) == (422, {"password": ["is wrong"]})
    right = panel.post("/admin/account/prove", data={"password": PASSWORD}, headers=json)
    assert right.status_code == 204
    assert panel.post("/admin/account/second-factor/start").status_code == 200


def test_everything_about_the_factor_but_looking_needs_a_proof(
    operator: Person, keys: KeyRing, later: Later
) -> None:
    phone, _ = enrol(operator, keys)
    api, panel = operator.api, operator.panel
    later(700)
    code = {"code": phone.code()}
    for method, path in (
        ("POST", "/api/auth/second-factor"),
        ("POST", "/api/auth/second-factor/confirm"),
        ("POST", "/api/auth/second-factor/recovery-codes"),
        ("DELETE", "/api/auth/second-factor"),
    ):
        answer = api.request(method, path, json=code)
        assert (path, answer.json()["detail"]) == (path, "step_up_required")
    for name in ("start", "confirm", "recovery-codes", "remove"):
        answer = panel.post(f"/admin/account/second-factor/{name}", data=code)
        assert answer.headers["location"].startswith("/admin/account/prove?next=")
    assert api.get("/api/auth/second-factor").json()["recovery_codes"] == 10
