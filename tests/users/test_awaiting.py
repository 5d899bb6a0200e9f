"""Accounts that somebody is to claim at the first sign-in over the provider."""

import pytest
from sqlalchemy import select

from tests.conftest import Person
from tests.doors import Door
from vmtrak.access import SYSTEM
from vmtrak.accounts import Identity, User, UserPatch, users
from vmtrak.db import Database, now

OID = "5d3b6a9e-0f1c-4c53-9f0e-0123456789ab"
NEW = {"username": "mia", "email": "mia@vmtrak.example", "role": "readwrite"}


def identified(database: Database, person: Person) -> None:
    """Make somebody a person who signs in over the provider."""
    with database.work(SYSTEM) as work:
        work.session.add(
            Identity(user_id=person.user_id, issuer="tenant", subject=OID, created_at=now())
        )
        user = work.session.get_one(User, person.user_id)
        users.change(work, person.user_id, UserPatch(notify_expiry=True))
        user.sign_in_method = "microsoft"


def test_an_account_can_await_its_person_by_identifier_or_by_address(
    door: Door, database: Database, reader: Person
) -> None:
    assert door.change_user(reader.user_id, {"awaits_subject": OID}).ok
    assert door.change_user(reader.user_id, {"awaits_email": True}).ok
    with database.read() as session:
        user = session.get_one(User, reader.user_id)
    assert (user.awaits_subject, user.awaits_email) == (OID, True)


def test_no_two_accounts_await_the_same_person(
    door: Door, reader: Person, operator: Person
) -> None:
    assert door.change_user(reader.user_id, {"awaits_subject": OID}).ok
    refused = door.change_user(operator.user_id, {"awaits_subject": OID})
    assert (refused.status, list(refused.errors)) == (409, ["awaits_subject"])


@pytest.mark.parametrize(("field", "value"), [("awaits_subject", OID), ("awaits_email", True)])
def test_who_uses_the_provider_already_awaits_nothing(
    door: Door, database: Database, reader: Person, field: str, value: object
) -> None:
    identified(database, reader)
    refused = door.change_user(reader.user_id, {field: value})
    assert (refused.status, list(refused.errors)) == (409, [field])


def test_nobody_awaits_a_person_who_has_an_account(
    door: Door, database: Database, reader: Person, operator: Person
) -> None:
    identified(database, reader)
    refused = door.change_user(operator.user_id, {"awaits_subject": OID})
    assert (refused.status, list(refused.errors)) == (409, ["awaits_subject"])


def test_an_account_that_awaits_its_person_needs_no_link(admin: Person) -> None:
    answer = admin.panel.post("/admin/user/create", data={**NEW, "awaits_email": "true"})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/admin/user/details/")


def test_a_reset_brings_an_account_back_to_a_password(
    database: Database, admin: Person, reader: Person
) -> None:
    identified(database, reader)
    assert admin.panel.post(f"/admin/user/reset/{reader.user_id}").status_code == 200
    with database.read() as session:
        user = session.get_one(User, reader.user_id)
        left = session.scalars(select(Identity)).all()
    assert (user.sign_in_method, left) == ("local", [])
    event = admin.api.get("/api/audit?action=user.password_reset").json()["data"][0]
    assert event["detail"] == {"sign_in_method": {"from": "microsoft", "to": "local"}}


def test_an_administrator_who_uses_the_provider_counts_as_one(
    database: Database, admin: Person, operator: Person
) -> None:
    with database.work(SYSTEM) as work:
        users.change(work, operator.user_id, UserPatch.model_validate({"role": "admin"}))
    identified(database, operator)
    with database.work(SYSTEM) as work:
        work.session.get_one(User, operator.user_id).password_hash = None
        users.change(work, operator.user_id, UserPatch(department="IT"))
    assert admin.api.put(f"/api/users/{admin.user_id}", json={"role": "read"}).status_code == 200
