"""Which account a person comes to, with which role, and who stays outside."""

from typing import Any

import pytest

from tests.conftest import BASE_URL, PASSWORD, PEOPLE, Person
from tests.oidc.conftest import (
    SITE_ADMIN,
    SQLITE,
    Visit,
    assert_refused,
    sessions_in,
    trail,
    user_called,
)
from tests.oidc.people import PEOPLE as CLAIMS
from tests.oidc.provider import Provider
from vmtrak.access import SYSTEM
from vmtrak.accounts import UserPatch, users
from vmtrak.accounts.models import User
from vmtrak.audit import Action
from vmtrak.db import Database

ADA, OTTO = CLAIMS["ada"], CLAIMS["otto"]


def user_of(database: Database, number: int) -> User:
    with database.read() as session:
        return session.get_one(User, number)


def change(database: Database, number: int, **fields: Any) -> None:
    with database.work(SYSTEM) as work:
        users.change(work, number, UserPatch(**fields))


def made(visit: Visit, database: Database, person: str = "otto") -> User:
    """Sign the person in for the first time."""
    assert visit.sign_in(person).status_code == 303
    user = user_called(database, CLAIMS[person]["email"])
    assert user is not None
    return user


def test_a_person_is_the_same_whatever_they_are_called_by_now(
    visit: Visit, second_visit: Visit, database: Database, provider: Provider
) -> None:
    before = made(visit, database)
    renamed = {"email": "otto@new.example", "preferred_username": "o2", "name": "O. Hahn"}
    provider.people["otto"] |= renamed
    assert second_visit.sign_in("otto").status_code == 303
    assert {session.user_id for session in sessions_in(database)} == {before.id}


def test_another_person_with_the_same_names_is_not_the_same(
    visit: Visit, second_visit: Visit, database: Database, provider: Provider
) -> None:
    """The address has gone to a new colleague: the account has not."""
    made(visit, database)
    provider.people["otto"]["sub"] = "somebody-else"
    response = second_visit.sign_in("otto")
    assert response.status_code == 403
    assert SITE_ADMIN in response.text
    assert len(sessions_in(database)) == 1


def test_a_role_is_taken_anew_at_each_sign_in_and_counts_for_every_session(
    visit: Visit, second_visit: Visit, database: Database, provider: Provider
) -> None:
    user = made(visit, database)
    assert visit.vmtrak.get("/admin/user/list").status_code == 403
    provider.people["otto"]["roles"] = ["VMTrak.Admin"]
    second_visit.sign_in("otto")
    assert second_visit.vmtrak.get("/admin/user/list").status_code == 200
    assert visit.vmtrak.get("/admin/user/list").status_code == 200
    provider.people["otto"]["roles"] = ["VMTrak.Reader"]
    second_visit.sign_in("otto")
    assert visit.vmtrak.get("/admin/user/list").status_code == 403
    changes = [e.detail for e in trail(database, Action.USER_UPDATE) if e.entity_id == user.id]
    assert changes == [
        {"role": {"from": "readwrite", "to": "admin"}},
        {"role": {"from": "admin", "to": "read"}},
    ]


@pytest.mark.parametrize(
    ("given", "role"),
    [
        (["VMTrak.Reader", "Something.Else", "VMTrak.Admin"], "admin"),
        ("VMTrak.Operator", "readwrite"),
        ([{"x": 1}, None, 7, "VMTrak.Reader"], "read"),
    ],
)
@SQLITE
def test_of_several_roles_the_strongest_counts(
    visit: Visit, database: Database, provider: Provider, given: object, role: str
) -> None:
    provider.people["otto"]["roles"] = given
    assert made(visit, database).role == role


@pytest.mark.parametrize(
    "given", [None, [], ["Something.Else"], ["vmtrak.admin"], "admin", ["admin"], {}, 7]
)
@SQLITE
def test_who_has_no_role_in_the_map_stays_outside_and_reads_whom_to_ask(
    visit: Visit, database: Database, provider: Provider, given: object
) -> None:
    provider.people["nobody"]["roles"] = given
    event = assert_refused(database, visit.sign_in("nobody"), "no_role")
    assert user_called(database, CLAIMS["nobody"]["email"]) is None
    assert event.detail is not None
    assert event.detail["subject"] == CLAIMS["nobody"]["sub"]


def test_who_loses_their_role_loses_their_sessions_too(
    visit: Visit, second_visit: Visit, database: Database, provider: Provider
) -> None:
    user = made(visit, database)
    provider.people["otto"]["roles"] = []
    assert second_visit.sign_in("otto").status_code == 403
    assert not visit.signed_in
    assert [session for session in sessions_in(database) if session.ended_at is None] == []
    (event,) = trail(database, Action.LOGIN_FAILED)
    assert (event.entity_id, (event.detail or {})["reason"]) == (user.id, "no_role")


def test_the_last_administrator_cannot_be_lost_to_the_provider(
    visit: Visit, database: Database, provider: Provider, people: dict[str, Person]
) -> None:
    user = made(visit, database, "ada")
    change(database, people["admin"].user_id, role="read")
    provider.people["ada"]["roles"] = ["VMTrak.Reader"]
    response = visit.sign_in("ada")
    assert response.status_code == 403
    assert "last administrator" in response.text
    assert user_of(database, user.id).role == "admin"


def test_a_deactivated_person_stays_outside(
    visit: Visit, second_visit: Visit, database: Database
) -> None:
    user = made(visit, database)
    with database.work(SYSTEM) as work:
        users.deactivate(work, user.id)
    response = second_visit.sign_in("otto")
    assert response.status_code == 403
    assert "account is closed" in response.text
    assert SITE_ADMIN in response.text
    assert not visit.signed_in
    assert not second_visit.signed_in
    assert len(sessions_in(database)) == 1
    (event,) = trail(database, Action.LOGIN_FAILED)
    assert (event.detail or {})["reason"] == "account_closed"


@pytest.mark.parametrize("verified", [True, False, None, "yes"])
def test_the_address_of_a_local_account_opens_it_to_nobody(
    visit: Visit,
    database: Database,
    provider: Provider,
    people: dict[str, Person],
    verified: object,
) -> None:
    """Whether or not the provider vouches for the address: nobody marked the account for it."""
    local = PEOPLE["admin"]["email"]
    provider.people["otto"] |= {"email": local, "email_verified": verified}
    provider.people["otto"]["preferred_username"] = PEOPLE["admin"]["username"]
    response = visit.sign_in("otto")
    if verified is True:
        assert_refused(database, response, "email_taken")
    else:
        assert response.status_code == 303
        (session,) = sessions_in(database)
        stranger = user_of(database, session.user_id)
        assert stranger.role == "readwrite"
        assert local not in {stranger.email, stranger.username}
        assert PEOPLE["admin"]["username"] != stranger.username
    untouched = user_of(database, people["admin"].user_id)
    assert (untouched.sign_in_method, untouched.email) == ("local", local)
    assert not [s for s in sessions_in(database) if s.user_id == untouched.id]


@pytest.mark.parametrize(
    "mark", [{"awaits_subject": OTTO["sub"]}, {"awaits_email": True}], ids=["subject", "e-mail"]
)
def test_an_account_that_awaits_its_person_is_claimed_once(
    visit: Visit,
    second_visit: Visit,
    database: Database,
    provider: Provider,
    people: dict[str, Person],
    mark: dict[str, Any],
) -> None:
    reader = people["reader"]
    email = PEOPLE["reader"]["email"] if "awaits_email" in mark else OTTO["email"]
    provider.people["otto"]["email"] = email
    panel = reader.panel
    change(database, reader.user_id, **mark)
    assert visit.sign_in("otto").status_code == 303
    user = user_of(database, reader.user_id)
    assert sessions_in(database)[-1].user_id == user.id
    assert (user.sign_in_method, user.role) == ("microsoft", "readwrite")
    assert (user.awaits_subject, user.awaits_email, user.password_hash) == (None, False, None)
    assert panel.get("/admin/").status_code == 303  # what was open before is not any more
    (linked,) = trail(database, Action.USER_LINKED)
    assert linked.entity_id == user.id
    provider.people["otto"] |= {"sub": "somebody-else", "email": PEOPLE["reader"]["email"]}
    assert second_visit.sign_in("otto").status_code == 403
    attempt = {"username": reader.username, "password": PASSWORD}
    again = second_visit.vmtrak.post("/admin/login", data=attempt, headers={"Origin": BASE_URL})
    assert again.status_code == 401


def test_an_address_that_nobody_vouches_for_claims_nothing(
    visit: Visit, database: Database, provider: Provider, people: dict[str, Person]
) -> None:
    reader = people["reader"]
    change(database, reader.user_id, awaits_email=True)
    claimed = {"email": PEOPLE["reader"]["email"], "email_verified": False}
    provider.people["otto"] |= claimed
    visit.sign_in("otto")
    user = user_of(database, reader.user_id)
    assert (user.sign_in_method, user.awaits_email) == ("local", True)
    assert user.id not in {session.user_id for session in sessions_in(database)}


def test_an_awaited_person_without_a_role_does_not_use_up_the_mark(
    visit: Visit, database: Database, provider: Provider, people: dict[str, Person]
) -> None:
    change(database, people["reader"].user_id, awaits_subject=OTTO["sub"])
    provider.people["otto"]["roles"] = []
    assert_refused(database, visit.sign_in("otto"), "no_role")
    user = user_of(database, people["reader"].user_id)
    assert (user.sign_in_method, user.awaits_subject) == ("local", OTTO["sub"])
