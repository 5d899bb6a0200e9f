"""There is always an administrator who can sign in, and a closed account has no way back in."""

import pytest

from tests.conftest import Person
from vmtrak.access import SYSTEM, Role
from vmtrak.accounts import NewUser, UserPatch, links, users
from vmtrak.db import Database
from vmtrak.errors import Conflict


def test_an_admin_without_a_password_is_no_replacement(database: Database, admin: Person) -> None:
    with database.work(SYSTEM) as work:
        pending = NewUser(username="pend", email="pend@vmtrak.example", role=Role.ADMIN)
        users.add(work, pending)
    assert admin.api.delete(f"/api/users/{admin.user_id}").status_code == 409
    with database.read() as session:
        assert users.can_administer(session)


def test_a_closed_accounts_link_stays_dead_when_it_is_opened_again(
    database: Database, admin: Person, operator: Person
) -> None:
    with database.work(admin.actor) as work:
        _, token = users.reset_link(work, operator.user_id)
    for active in (False, True):
        with database.work(admin.actor) as work:
            users.change(work, operator.user_id, UserPatch(is_active=active))
    assert links.find(database, token) == (None, None)


def test_a_closed_account_gets_no_link(database: Database, admin: Person, operator: Person) -> None:
    with database.work(admin.actor) as work:
        users.deactivate(work, operator.user_id)
    assert admin.panel.post(f"/admin/user/reset/{operator.user_id}").status_code == 409
    with pytest.raises(Conflict), database.work(admin.actor) as work:
        users.reset_link(work, operator.user_id)


@pytest.mark.parametrize("name", ["rita@vmtrak.example", "o\u00adtto", "a\u200bda", "\u3164"])
def test_nobody_can_be_named_to_pass_for_another(admin: Person, name: str) -> None:
    given = {"username": name, "email": "new@vmtrak.example", "role": "read"}
    body = {**given, "password": "a long enough password"}
    answer = admin.api.post("/api/users", json=body)
    assert answer.status_code == 422
    assert list(answer.json()["details"]) == ["username"]


def test_a_password_in_the_name_field_does_not_reach_the_trail(admin: Person) -> None:
    secret = "typed into the wrong field"
    api = admin.api
    wrong = {"username": secret, "password": "x"}
    assert api.post("/api/auth/login", json=wrong).status_code == 401
    known = {"username": "RITA", "password": "x"}
    assert api.post("/api/auth/login", json=known).status_code == 401
    failed = api.get("/api/audit", params={"action": "auth.login_failed"}).json()["data"]
    assert [row["entity_name"] for row in failed] == ["rita", None]
