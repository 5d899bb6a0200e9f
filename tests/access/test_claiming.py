"""An e-mail address says which VMs are a reader's: nobody may give themselves somebody else's."""

import pytest

from tests.conftest import PASSWORD, Person
from vmtrak import inventory
from vmtrak.access import SYSTEM
from vmtrak.accounts import Setup, User, UserPatch, users
from vmtrak.db import Database
from vmtrak.errors import Invalid
from vmtrak.inventory import NewVM

BOSS = "boss@vmtrak.example"
NEW = "another horse, another staple"


def must_set_up(database: Database, person: Person) -> None:
    """Reset the person's password, and let them sign in with it for the set-up."""
    with database.work(SYSTEM) as work:
        users.reset_password(work, person.user_id, PASSWORD)


def test_a_reader_cannot_claim_an_owners_address_at_the_set_up(
    database: Database, operator: Person, outsider: Person
) -> None:
    with database.work(operator.actor) as work:
        inventory.add(work, NewVM(vm_name="secret", owner=BOSS))
    must_set_up(database, outsider)
    refused = outsider.api.post("/api/auth/complete-setup", json={"email": BOSS, "password": NEW})
    assert refused.status_code == 422
    assert list(refused.json()["details"]) == ["email"]
    page = outsider.panel.post("/admin/complete-setup", data={"email": BOSS, "password": NEW})
    assert page.status_code == 422
    with database.read() as session:
        assert session.get_one(User, outsider.user_id).email == "olga@vmtrak.example"


def test_a_reader_keeps_the_address_on_record(database: Database, outsider: Person) -> None:
    must_set_up(database, outsider)
    done = outsider.api.post(
        "/api/auth/complete-setup", json={"email": "Olga@vmtrak.example", "password": NEW}
    )
    assert done.json() == {"ok": True}
    assert outsider.api.get("/api/vms").json()["total"] == 0


def test_an_operator_sees_everything_anyway_and_may_correct_theirs(
    database: Database, operator: Person
) -> None:
    must_set_up(database, operator)
    body = {"email": "otto.new@vmtrak.example", "password": NEW}
    assert operator.api.post("/api/auth/complete-setup", json=body).json() == {"ok": True}
    assert operator.api.get("/api/auth/me").json()["email"] == "otto.new@vmtrak.example"


def test_who_changes_their_address_does_not_lay_hands_on_its_owners_first_sign_in(
    database: Database, operator: Person
) -> None:
    """The mark meant whoever has the address that the administrator saw."""
    for email, kept in (("Otto@vmtrak.example", True), (BOSS, False)):
        must_set_up(database, operator)
        with database.work(SYSTEM) as work:
            users.change(work, operator.user_id, UserPatch(awaits_email=True))
        body = {"email": email, "password": NEW}
        assert operator.api.post("/api/auth/complete-setup", json=body).json() == {"ok": True}
        with database.read() as session:
            assert session.get_one(User, operator.user_id).awaits_email is kept


def test_the_present_password_is_not_a_new_one(database: Database, operator: Person) -> None:
    must_set_up(database, operator)
    with pytest.raises(Invalid) as refusal, database.work(operator.actor) as work:
        users.complete_setup(work, Setup(email="otto@vmtrak.example", password=PASSWORD))
    assert list(refusal.value.fields) == ["password"]
