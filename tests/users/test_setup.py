"""One-time links and the first sign-in."""

from datetime import timedelta

import pytest
from starlette.testclient import TestClient

from tests.conftest import BASE_URL, PASSWORD, Person, anonymous_client
from tests.doors import RestDoor
from vmtrak.access import SYSTEM
from vmtrak.accounts import FirstAdmin, NewPassword, OneTimeLink, User, links, sessions, users
from vmtrak.audit import AuditEvent
from vmtrak.db import Database, now
from vmtrak.errors import Conflict, NotFound

SECRET = "a password of one's own"


@pytest.fixture
def visitor(anonymous: TestClient) -> TestClient:
    """Somebody in front of the panel's own pages who has not signed in."""
    anonymous.headers["Origin"] = BASE_URL
    return anonymous


def link_for(database: Database, person: Person) -> str:
    with database.work(SYSTEM) as work:
        return users.reset_link(work, person.user_id)[1]


def test_a_set_up_link_works_once(visitor: TestClient, reader: Person, database: Database) -> None:
    token = link_for(database, reader)
    form = {"token": token, "password": SECRET}
    assert visitor.get("/admin/setup").status_code == 200
    asked = visitor.post("/admin/setup", data={"token": token})
    assert (asked.status_code, 'name="password"' in asked.text) == (200, True)
    short = visitor.post("/admin/setup", data={**form, "password": "short"})
    assert short.status_code == 422
    done = visitor.post("/admin/setup", data=form)
    assert (done.status_code, done.headers["location"]) == (303, "/admin/")
    assert visitor.get("/admin/vm/list").status_code == 200

    stranger = anonymous_client(reader.app)
    stranger.headers["Origin"] = BASE_URL
    for again in (form, {"token": token}, {"token": "x"}, {"token": ""}, {}):
        assert stranger.post("/admin/setup", data=again).status_code == 404, again
    login = stranger.post("/api/auth/login", json={"username": "rita", "password": SECRET})
    assert login.json()["user"]["must_change_password"] is False


def test_two_attempts_with_one_link_set_one_password(database: Database, reader: Person) -> None:
    token = link_for(database, reader)
    new = NewPassword.model_validate({"password": SECRET})
    with database.work(SYSTEM) as work:
        users.set_up(work, token, new)
    with pytest.raises(NotFound, match="has been used"), database.work(SYSTEM) as work:
        users.set_up(work, token, new)


def test_a_newer_link_ends_the_older(database: Database, reader: Person) -> None:
    first, second = link_for(database, reader), link_for(database, reader)
    assert links.find(database, first)[0] is None
    assert links.find(database, second)[0] == "setup"


def test_a_password_given_by_an_admin_ends_the_link(database: Database, reader: Person) -> None:
    token = link_for(database, reader)
    with database.work(SYSTEM) as work:
        users.reset_password(work, reader.user_id, SECRET)
    assert links.find(database, token)[0] is None


def test_a_link_expires(database: Database, reader: Person) -> None:
    token = link_for(database, reader)
    with database.work(SYSTEM) as work:
        link = links.use(work, token, "setup")
        assert link.expires_at - link.created_at == timedelta(hours=24)
        link.expires_at = now()
    assert links.find(database, token)[0] is None
    with pytest.raises(NotFound), database.work(SYSTEM) as work:
        users.set_up(work, token, NewPassword.model_validate({"password": SECRET}))


def test_a_link_is_good_for_its_own_purpose_only(database: Database, reader: Person) -> None:
    token = link_for(database, reader)
    with pytest.raises(NotFound), database.work(SYSTEM) as work:
        sessions.sign_in_by_link(work, token, None)
    with database.work(SYSTEM) as work:
        other = links.make(work, "sign-in", reader.user_id)
    with pytest.raises(NotFound), database.work(SYSTEM) as work:
        users.set_up(work, other, NewPassword.model_validate({"password": SECRET}))


def test_a_link_is_not_kept_in_clear(database: Database, reader: Person) -> None:
    token = link_for(database, reader)
    with database.read() as session:
        rows = [str(vars(link)) for link in session.query(OneTimeLink)]
        trail = [str(vars(event)) for event in session.query(AuditEvent)]
    assert rows
    assert not any(token in text for text in (*rows, *trail))


def test_a_link_of_a_closed_account_opens_nothing(database: Database, reader: Person) -> None:
    token = link_for(database, reader)
    with database.work(SYSTEM) as work:
        users.deactivate(work, reader.user_id)
    with pytest.raises(NotFound), database.work(SYSTEM) as work:
        users.set_up(work, token, NewPassword.model_validate({"password": SECRET}))


def test_a_reset_link_ends_the_sessions_and_the_old_password(admin: Person, reader: Person) -> None:
    api, panel = reader.api, reader.panel
    page = admin.panel.post(f"/admin/user/reset/{reader.user_id}")
    assert page.status_code == 200
    assert f"{BASE_URL}/admin/setup#" in page.text
    assert api.get("/api/vms").status_code == 401
    assert panel.get("/admin/vm/list").status_code == 303
    login = api.post("/api/auth/login", json={"username": "rita", "password": PASSWORD})
    assert login.status_code == 401


def test_the_first_admin_link_works_only_while_there_is_nobody(
    database: Database, admin: Person
) -> None:
    with database.work(SYSTEM) as work:
        assert users.first_link(work) is None
        token = links.make(work, "first", None)
    new = FirstAdmin.model_validate(
        {"username": "evil", "email": "evil@vmtrak.example", "password": SECRET}
    )
    with pytest.raises(NotFound), database.work(SYSTEM) as work:
        users.add_first(work, token, new)
    with database.read() as session:
        assert users.named(session, "evil") is None


# The first sign-in


@pytest.fixture
def newcomer(database: Database, reader: Person) -> Person:
    """The reader, who has been given a password by somebody else."""
    with database.work(SYSTEM) as work:
        users.reset_password(work, reader.user_id, PASSWORD)
    return reader


def test_until_the_set_up_is_done_nothing_else_works_over_rest(newcomer: Person) -> None:
    api = newcomer.api
    for method, address in (
        ("GET", "/api/vms"), ("GET", "/api/vms/1"), ("POST", "/api/vms"), ("GET", "/api/auth/me"),
        ("GET", "/api/vms/field-values?field=owner"), ("GET", "/api/hypervisors"),
        ("GET", "/api/users"),
        ("GET", "/api/dashboard/stats"), ("GET", "/api/no-such-address"),
    ):  # fmt: skip
        answer = api.request(method, address)
        assert (answer.status_code, answer.json()["error"]) == (403, "setup_required"), address

    same = api.post(
        "/api/auth/complete-setup", json={"email": "rita@vmtrak.example", "password": PASSWORD}
    )
    assert (same.status_code, list(same.json()["details"])) == (422, ["password"])
    # An address says which VMs are a reader's own: they cannot give themselves another.
    other = {"email": "ada@vmtrak.example", "password": SECRET}
    taken = api.post("/api/auth/complete-setup", json=other)
    assert (taken.status_code, list(taken.json()["details"])) == (422, ["email"])
    bad = api.post("/api/auth/complete-setup", json={"email": "x", "password": "short"})
    assert set(bad.json()["details"]) == {"email", "password"}
    assert api.get("/api/vms").status_code == 403

    own = {"email": "RITA@vmtrak.example", "password": SECRET}
    assert api.post("/api/auth/complete-setup", json=own).json() == {"ok": True}
    assert api.get("/api/auth/me").json()["must_change_password"] is False
    assert api.post("/api/auth/complete-setup", json=own).status_code == 403


def test_who_sees_every_vm_may_give_another_address_that_nobody_has(
    operator: Person, database: Database
) -> None:
    with database.work(SYSTEM) as work:
        users.reset_password(work, operator.user_id, PASSWORD)
    api = operator.api
    taken = {"email": "ADA@vmtrak.example", "password": SECRET}
    refused = api.post("/api/auth/complete-setup", json=taken)
    assert (refused.status_code, list(refused.json()["details"])) == (409, ["email"])
    free = {"email": "otto2@vmtrak.example", "password": SECRET}
    assert api.post("/api/auth/complete-setup", json=free).json() == {"ok": True}
    assert api.get("/api/auth/me").json()["email"] == "otto2@vmtrak.example"


def test_until_the_set_up_is_done_nothing_else_works_in_the_panel(newcomer: Person) -> None:
    panel = newcomer.panel
    for address in (
        "/admin/",
        "/admin/vm/list",
        "/admin/vm/create",
        "/admin/user/list",
        "/admin/vm/suggest",
    ):
        answer = panel.get(address)
        assert answer.status_code == 303, address
        assert answer.headers["location"] == "/admin/complete-setup"
    assert panel.post("/admin/vm/create", data={"vm_name": "x"}).status_code == 303
    page = panel.get("/admin/complete-setup")
    assert (page.status_code, "rita@vmtrak.example" in page.text) == (200, True)
    form = {"email": "rita@vmtrak.example", "password": PASSWORD}
    assert panel.post("/admin/complete-setup", data=form).status_code == 422
    taken = {"email": "ada@vmtrak.example", "password": SECRET}
    assert panel.post("/admin/complete-setup", data=taken).status_code == 422
    done = panel.post("/admin/complete-setup", data={**form, "password": SECRET})
    assert (done.status_code, done.headers["location"]) == (303, "/admin/")
    assert panel.get("/admin/vm/list").status_code == 200
    assert panel.get("/admin/complete-setup").status_code == 403


def test_finishing_the_set_up_ends_the_other_sessions(newcomer: Person, database: Database) -> None:
    here, elsewhere, panel = newcomer.api, newcomer.api, newcomer.panel
    given = {"email": "rita@vmtrak.example", "password": SECRET}
    assert here.post("/api/auth/complete-setup", json=given).is_success
    assert here.get("/api/vms").status_code == 200
    assert elsewhere.get("/api/vms").status_code == 401
    assert panel.get("/admin/vm/list").headers["location"].startswith("/admin/login")
    with database.read() as session:
        assert session.get_one(User, newcomer.user_id).must_change_password is False


def test_a_set_up_of_ones_own_is_for_those_who_must(operator: Person) -> None:
    given = {"email": "otto@vmtrak.example", "password": SECRET}
    assert operator.api.post("/api/auth/complete-setup", json=given).status_code == 403
    assert operator.panel.post("/admin/complete-setup", data=given).status_code == 403


def test_a_user_added_over_rest_finishes_the_set_up_at_the_first_sign_in(
    admin: Person, anonymous: TestClient
) -> None:
    first = "a long first password"
    new = {
        "username": "nina",
        "email": "nina@vmtrak.example",
        "role": "readwrite",
        "password": first,
    }
    assert RestDoor(admin).add_user(new).ok
    login = anonymous.post("/api/auth/login", json={"username": "Nina", "password": first}).json()
    assert login["user"]["must_change_password"] is True
    headers = {"Authorization": f"Bearer {login['accessToken']}"}
    assert anonymous.get("/api/vms", headers=headers).status_code == 403
    given = {"email": "nina@vmtrak.example", "password": SECRET}
    assert anonymous.post("/api/auth/complete-setup", json=given, headers=headers).is_success
    made = anonymous.post("/api/vms", json={"vm_name": "a"}, headers=headers)
    assert (made.status_code, made.json()["created_by"]) == (201, "nina")


def test_an_operation_refuses_what_its_form_would_never_send(database: Database) -> None:
    for wrong in ("", "x" * 11, "x" * 257):
        with pytest.raises(ValueError, match="12 to 256"):
            NewPassword.model_validate({"password": wrong})
    assert Conflict().field is None
