"""What an admin can do with users, and what it means for them at once."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import select

from tests.conftest import PASSWORD, Person, anonymous_client
from tests.doors import Door
from vmtrak.access import SYSTEM, Role
from vmtrak.accounts import NewUser, User, UserPatch, users
from vmtrak.audit import AuditEvent
from vmtrak.db import Database
from vmtrak.errors import Conflict

NEW = {
    "username": "nina",
    "email": "nina@vmtrak.example",
    "role": "read",
    "department": "Finance",
    "password": "a long first password",
}


def stored(database: Database, number: int) -> User:
    with database.read() as session:
        return session.get_one(User, number)


def last_detail(database: Database) -> object:
    with database.read() as session:
        newest = select(AuditEvent.action, AuditEvent.detail).order_by(AuditEvent.id.desc())
        row = session.execute(newest.limit(1)).one()
    return row.action, row.detail


def test_a_new_user_must_change_the_password_first(door: Door, database: Database) -> None:
    number = door.add_user(NEW).made
    user = stored(database, number)
    assert (user.is_active, user.must_change_password, user.notify_expiry) == (True, True, False)
    assert user.password_hash
    assert user.password_hash.startswith("$argon2id$")
    action, detail = ("user.create", {k: v for k, v in NEW.items() if k != "password"})
    flags = {"is_active": True, "must_change_password": True, "sign_in_method": "local"}
    unset = ("notify_expiry", "awaits_email", "is_guest", "second_factor_required")
    flags |= dict.fromkeys((*unset, "has_second_factor"), False)
    assert last_detail(database) == (action, {**detail, **flags})


def test_names_and_addresses_are_taken_without_regard_to_case(door: Door) -> None:
    assert door.add_user(NEW).ok
    for name in ("nina", "NINA", " Nina "):
        outcome = door.add_user({**NEW, "username": name, "email": "other@vmtrak.example"})
        assert (outcome.status, list(outcome.errors)) == (409, ["username"]), name
    for email in ("nina@vmtrak.example", "NINA@VMTRAK.EXAMPLE", "Nina@vmtrak.example"):
        outcome = door.add_user({**NEW, "username": "other", "email": email})
        assert (outcome.status, list(outcome.errors)) == (409, ["email"]), email


def test_an_address_that_another_has_is_a_conflict(door: Door, reader: Person) -> None:
    number = door.add_user(NEW).made
    outcome = door.change_user(number, {"email": "RITA@vmtrak.example"})
    assert (outcome.status, list(outcome.errors)) == (409, ["email"])
    assert door.change_user(number, {"email": "NINA@vmtrak.example"}).ok
    assert door.change_user(reader.user_id, {"email": "rita@vmtrak.example"}).ok


def test_a_closed_account_keeps_its_name(door: Door) -> None:
    number = door.add_user(NEW).made
    assert door.deactivate_user(number).ok
    assert door.add_user({**NEW, "email": "other@vmtrak.example"}).status == 409


def test_the_last_active_admin_stays_admin_and_active(
    door: Door, admin: Person, operator: Person, database: Database
) -> None:
    words = "The last active admin stays admin and active."
    for outcome in (
        door.change_user(admin.user_id, {"role": "readwrite"}),
        door.change_user(admin.user_id, {"is_active": False}),
        door.deactivate_user(admin.user_id),
    ):
        assert outcome.refusal == (409, {}, words)
    user = stored(database, admin.user_id)
    assert (user.role, user.is_active) == ("admin", True)

    assert door.change_user(operator.user_id, {"role": "admin"}).ok
    assert door.deactivate_user(operator.user_id).ok
    assert door.deactivate_user(admin.user_id).status == 409
    assert door.change_user(operator.user_id, {"is_active": True}).ok
    assert door.deactivate_user(admin.user_id).ok


def test_two_admins_cannot_demote_each_other_at_once(
    database: Database, admin: Person, operator: Person
) -> None:
    with database.work(SYSTEM) as work:
        users.change(work, operator.user_id, UserPatch(role=Role.ADMIN))
    refused: list[Exception] = []

    def demote() -> None:
        try:
            with database.work(operator.actor) as work:
                users.change(work, admin.user_id, UserPatch(role=Role.READ))
        except Conflict as error:
            refused.append(error)

    other = threading.Thread(target=demote)
    with database.work(admin.actor) as work:
        users.change(work, operator.user_id, UserPatch(role=Role.READ))
        other.start()
        other.join(0.3)
        assert other.is_alive()
    other.join()
    assert len(refused) == 1
    assert stored(database, admin.user_id).role == "admin"


def test_a_deactivation_ends_every_session_at_once(
    door: Door, reader: Person, database: Database
) -> None:
    api, panel = reader.api, reader.panel
    assert api.get("/api/vms").status_code == 200
    assert panel.get("/admin/vm/list").status_code == 200
    login = api.post("/api/auth/login", json={"username": "rita", "password": PASSWORD})
    assert login.status_code == 200

    assert door.deactivate_user(reader.user_id).ok
    assert api.get("/api/vms").status_code == 401
    assert panel.get("/admin/vm/list").status_code == 303
    assert api.post("/api/auth/refresh").status_code == 401
    assert (
        api.post("/api/auth/login", json={"username": "rita", "password": PASSWORD}).status_code
        == 401
    )
    detail = {"is_active": {"from": True, "to": False}}
    with database.read() as session:
        actions = select(AuditEvent.detail).where(AuditEvent.action == "user.deactivate")
        assert list(session.scalars(actions)) == [detail]

    assert door.change_user(reader.user_id, {"is_active": True}).ok
    assert api.get("/api/vms").status_code == 401
    assert reader.api.get("/api/vms").status_code == 200


def test_a_change_of_role_counts_from_the_next_request(door: Door, operator: Person) -> None:
    api, panel = operator.api, operator.panel
    assert api.post("/api/vms", json={"vm_name": "a"}).status_code == 201
    assert door.change_user(operator.user_id, {"role": "read"}).ok
    assert api.post("/api/vms", json={"vm_name": "b"}).status_code == 403
    assert api.get("/api/vms").json()["total"] == 0
    assert panel.get("/admin/vm/create").status_code == 403
    assert door.change_user(operator.user_id, {"role": "admin"}).ok
    assert api.get("/api/users").status_code == 200
    assert panel.get("/admin/user/list").status_code == 200


def test_a_change_of_department_counts_from_the_next_request(door: Door, reader: Person) -> None:
    assert door.add_vm({"vm_name": "theirs", "department": "Logistics"}).ok
    api = reader.api
    assert api.get("/api/vms").json()["total"] == 0
    assert door.change_user(reader.user_id, {"department": "LOGISTICS"}).ok
    assert api.get("/api/vms").json()["total"] == 1
    assert door.change_user(reader.user_id, {"department": ""}).ok
    assert api.get("/api/vms").json()["total"] == 0


def test_an_overtaken_change_of_a_user_is_refused(
    door: Door, reader: Person, database: Database
) -> None:
    revision = stored(database, reader.user_id).revision
    assert door.change_user(reader.user_id, {"department": "Ops"}, revision).ok
    assert door.change_user(reader.user_id, {"department": "HR"}, revision).status == 412
    assert door.change_user(reader.user_id, {"department": "HR"}, revision + 1).ok


def test_a_change_that_changes_nothing_leaves_no_trace(
    door: Door, reader: Person, database: Database
) -> None:
    before, trail = stored(database, reader.user_id).revision, last_detail(database)
    assert door.change_user(reader.user_id, {"department": "Finance ", "role": "read"}).ok
    assert (stored(database, reader.user_id).revision, last_detail(database)) == (before, trail)


def test_a_reset_by_an_admin_ends_the_sessions_and_asks_for_a_new_password(
    admin: Person, reader: Person
) -> None:
    api, panel = reader.api, reader.panel
    short = admin.api.post(
        f"/api/users/{reader.user_id}/reset-password", json={"new_password": "short"}
    )
    assert (short.status_code, list(short.json()["details"])) == (422, ["new_password"])
    assert api.get("/api/vms").status_code == 200
    given = {"new_password": "another long password"}
    assert admin.api.post(f"/api/users/{reader.user_id}/reset-password", json=given).is_success
    assert api.get("/api/vms").status_code == 401
    assert panel.get("/admin/vm/list").status_code == 303
    old = api.post("/api/auth/login", json={"username": "rita", "password": PASSWORD})
    assert old.status_code == 401
    new = api.post("/api/auth/login", json={"username": "RITA", "password": given["new_password"]})
    assert new.json()["user"]["must_change_password"] is True


def test_an_admin_resets_no_password_of_their_own(admin: Person) -> None:
    reset = f"/admin/user/reset/{admin.user_id}"
    given = {"new_password": "another long password"}
    over_rest = admin.api.post(f"/api/users/{admin.user_id}/reset-password", json=given)
    assert over_rest.status_code == 409
    assert admin.panel.post(reset).status_code == 409
    assert reset not in admin.panel.get(f"/admin/user/details/{admin.user_id}").text
    signed_in = {"username": "ada", "password": PASSWORD}
    assert admin.api.post("/api/auth/login", json=signed_in).status_code == 200


@pytest.mark.parametrize("role", [role for role in Role if role != Role.ADMIN])
def test_nobody_but_an_admin_touches_users(people: dict[str, Person], role: Role) -> None:
    person = {
        "read": people["reader"],
        "readwrite": people["operator"],
        "auditor": people["auditor"],
    }[role]
    target, api, panel = people["outsider"].user_id, person.api, person.panel
    attempts: tuple[Callable[[], int], ...] = (
        lambda: api.get("/api/users").status_code,
        lambda: api.get(f"/api/users/{target}").status_code,
        lambda: api.post("/api/users", json=NEW).status_code,
        lambda: api.put(f"/api/users/{person.user_id}", json={"role": "admin"}).status_code,
        lambda: api.delete(f"/api/users/{target}").status_code,
        lambda: (
            api.post(
                f"/api/users/{target}/reset-password", json={"new_password": "x" * 20}
            ).status_code
        ),
        lambda: panel.get("/admin/user/list").status_code,
        lambda: panel.get(f"/admin/user/details/{target}").status_code,
        lambda: panel.post("/admin/user/create", data=NEW).status_code,
        lambda: (
            panel.post(f"/admin/user/edit/{person.user_id}", data={"role": "admin"}).status_code
        ),
        lambda: panel.post("/admin/user/delete", data={"pk": str(target)}).status_code,
        lambda: panel.post(f"/admin/user/deactivate/{target}").status_code,
        lambda: panel.post(f"/admin/user/reset/{target}").status_code,
    )
    assert [attempt() for attempt in attempts] == [403] * len(attempts)


def test_the_list_never_shows_a_hash(admin: Person) -> None:
    for text in (
        admin.api.get("/api/users").text,
        admin.api.get(f"/api/users/{admin.user_id}").text,
        admin.api.get("/api/auth/me").text,
        admin.panel.get("/admin/user/list").text,
        admin.panel.get(f"/admin/user/details/{admin.user_id}").text,
        admin.panel.get(f"/admin/user/edit/{admin.user_id}").text,
    ):
        assert "argon2" not in text
        assert "password_hash" not in text


def test_a_user_added_without_a_password_cannot_sign_in_with_any(
    database: Database, reader: Person
) -> None:
    with database.work(SYSTEM) as work:
        users.add(work, NewUser(username="nina", email="nina@vmtrak.example", role=Role.READ))
    client = anonymous_client(reader.app)
    for password in ("", "None", "null", PASSWORD):
        answer = client.post("/api/auth/login", json={"username": "nina", "password": password})
        assert answer.status_code == 401
