"""Who learns of credentials: the roles, guests, scripts, and nobody else, by no way around."""

from collections.abc import Callable
from itertools import product

import pytest
from httpx2 import Response
from sqlalchemy import update
from starlette.testclient import TestClient

from tests.conftest import CANARY, Person, anonymous_client
from tests.credentials.conftest import added, row_of, vm_named
from tests.doors import RestDoor
from tests.tokens.conftest import made
from vmtrak import audit, credentials
from vmtrak.access import Actor, Permission, Scope
from vmtrak.accounts import User
from vmtrak.audit import AuditQuery
from vmtrak.credentials import (
    CredentialPatch,
    CredentialQuery,
    NewCredential,
    RevealRequest,
    Vault,
    Which,
)
from vmtrak.db import Database
from vmtrak.errors import Forbidden

USERNAME = "klabauter-account"
NOTES = "klabauter-note"
PASSWORD = f"{CANARY}one"

NEW = {"username": "other", "password": f"{CANARY}other"}

STRANGERS = ("reader", "auditor", "outsider")


@pytest.fixture
def number(admin: Person, vm: int) -> int:
    """A credential whose VM the reader sees."""
    admin.api.put(f"/api/vms/{vm}", json={"department": "Finance", "owner": "aud"})
    return added(admin, vm, USERNAME, PASSWORD, notes=NOTES)


def addresses(vm: int, number: int) -> list[tuple[str, str]]:
    """Every way to a credential over REST."""
    own = f"/api/vms/{vm}/credentials/{number}"
    reveals = [f"{own}/reveal", f"{own}/versions/1/reveal"]
    return [
        ("GET", "/api/credentials"),
        ("GET", f"/api/vms/{vm}/credentials"),
        ("POST", f"/api/vms/{vm}/credentials"),
        *product(("GET", "PUT", "DELETE"), [own]),
        ("GET", f"{own}/versions"),
        *product(("GET", "POST"), reveals),
    ]


def ask(client: TestClient, method: str, address: str) -> Response:
    body = NEW if method in {"POST", "PUT"} and "reveal" not in address else None
    return client.request(method, address, json=body)


@pytest.mark.parametrize("who", STRANGERS)
def test_who_may_not_see_credentials_gets_the_same_refusal_whether_there_are_any_or_not(
    who: str, people: dict[str, Person], admin: Person, vm: int, number: int
) -> None:
    api, before = people[who].api, row_of(admin, number)
    for there, nowhere in zip(addresses(vm, number), addresses(999_999, 999_999), strict=True):
        refusals = [ask(api, *one) for one in (there, nowhere)]
        assert [answer.status_code for answer in refusals] == [403, 403], there
        assert len({answer.json()["detail"] for answer in refusals}) == 1
        assert all("klabauter" not in answer.text for answer in refusals)
    assert row_of(admin, number) == before


def test_who_has_not_signed_in_is_asked_to(anonymous: TestClient, vm: int, number: int) -> None:
    for method, address in addresses(vm, number):
        answer = ask(anonymous, method, address)
        assert (answer.status_code, "klabauter" in answer.text) == (401, False), address


@pytest.mark.parametrize("who", STRANGERS)
def test_the_operations_themselves_refuse_whatever_the_door_forgot(
    who: str, people: dict[str, Person], database: Database, vault: Vault, vm: int, number: int
) -> None:
    person, which, rules = people[who].actor, Which(number), vault.rules
    with database.read() as session:
        reads: list[Callable[[], object]] = [
            lambda: credentials.page(session, person, rules, CredentialQuery()),
            lambda: credentials.of_vm(session, person, rules, vm),
            lambda: credentials.find(session, person, rules, which),
            lambda: credentials.versions(session, person, which),
        ]
        for read in reads:
            with pytest.raises(Forbidden):
                read()
    new = NewCredential.model_validate(NEW)
    with database.work(person) as work:
        writes: list[Callable[[], object]] = [
            lambda: credentials.add(work, vault, vm, new),
            lambda: credentials.change(work, vault, which, CredentialPatch(notes="new")),
            lambda: credentials.remove(work, which),
            lambda: credentials.reveal(work, vault, which, RevealRequest()),
        ]
        for write in writes:
            with pytest.raises(Forbidden):
                write()


@pytest.mark.parametrize("who", STRANGERS)
def test_no_list_search_or_suggestion_tells_a_user_name(
    who: str, people: dict[str, Person], vm: int, number: int
) -> None:
    api = people[who].api
    for address in (
        "/api/vms",
        f"/api/vms?search={USERNAME}",
        f"/api/vms/{vm}",
        "/api/vms/field-values?field=owner",
        "/api/vms/field-values?field=application",
        "/api/hypervisors",
        "/api/audit",
        "/api/dashboard/stats",
    ):
        answer = api.get(address)
        assert answer.status_code != 500
        assert "klabauter" not in answer.text, address
        assert "primary_username" not in answer.text, address
    assert api.get(f"/api/vms?search={USERNAME}").json()["total"] == 0


@pytest.mark.parametrize("who", STRANGERS)
def test_no_page_of_the_panel_tells_a_user_name(
    who: str, people: dict[str, Person], admin: Person, vm: int, number: int
) -> None:
    assert RestDoor(admin).change_credential(vm, number, {"notes": f"{NOTES}-2"}).ok
    panel, shown = people[who].panel, set()
    for address in (
        "/admin/",
        "/admin/vm/list",
        f"/admin/vm/list?search={USERNAME[:6]}",
        f"/admin/vm/details/{vm}",
        "/admin/vm/suggest?field=owner",
        "/admin/hypervisor/list",
        "/admin/credential/list",
        f"/admin/credential/list?search={USERNAME[:6]}",
        f"/admin/credential/details/{number}",
        f"/admin/credential/edit/{number}",
        f"/admin/credential/create?vm={vm}",
        "/admin/audit/list",
        f"/admin/audit/list?entity_type=credential&entity_id={number}",
        *(f"/admin/audit/details/{event}" for event in range(1, 12)),
    ):
        answer = panel.get(address)
        assert answer.status_code != 500, address
        if answer.status_code == 200:
            shown.add(address.partition("?")[0])
        assert "klabauter" not in answer.text, address
    assert "/admin/vm/list" in shown
    assert "klabauter" in admin.panel.get(f"/admin/vm/details/{vm}").text
    assert not {address for address in shown if address.startswith("/admin/credential")}


def test_the_search_for_vms_does_not_look_into_accounts(
    admin: Person, vm: int, number: int
) -> None:
    assert admin.api.get(f"/api/vms?search={USERNAME}").json()["total"] == 0
    listed = admin.api.get("/api/vms").json()["data"]
    assert [(row["id"], row["primary_username"]) for row in listed] == [(vm, USERNAME)]
    assert "primary_username" not in admin.api.get(f"/api/vms/{vm}").json()


def test_an_auditor_reads_that_something_happened_and_not_with_which_account(
    auditor: Person, admin: Person, database: Database, vm: int, number: int
) -> None:
    door = RestDoor(admin)
    change = {"username": f"{USERNAME}-2", "notes": f"{NOTES}-2", "password": f"{PASSWORD}-2"}
    assert door.change_credential(vm, number, change).ok
    assert door.reveal(vm, number).ok
    assert door.add_credential(vm, {**NEW, "username": USERNAME.upper()}).ok
    assert door.add_credential(vm, {**NEW, "username": USERNAME.upper()}).status == 409
    assert door.remove_credential(vm, number).ok
    told = auditor.api.get("/api/audit?entity_type=credential").json()
    assert [row["action"] for row in told["data"]] == [
        "credential.delete",
        "credential.create",
        "credential.reveal",
        "credential.update",
        "credential.create",
    ]
    assert {row["entity_name"] for row in told["data"]} == {"web-01"}
    whole = auditor.api.get("/api/audit?limit=200").text.casefold()
    assert not any(word in whole for word in ("klabauter", CANARY))
    with database.read() as session:
        rows = audit.page(session, auditor.actor, AuditQuery(limit=200)).rows
    assert "klabauter" not in str(rows).casefold()


def test_the_address_names_the_vm_of_the_credential_or_nothing(
    admin: Person, operator: Person, vm: int, number: int
) -> None:
    elsewhere = vm_named(admin, "web-02")
    added(admin, elsewhere, "neighbour", PASSWORD)
    before = row_of(admin, number)
    for method, address in addresses(elsewhere, number):
        if str(number) in address.split("credentials/")[-1].split("/"):
            answer = ask(operator.api, method, address)
            assert (answer.status_code, "klabauter" in answer.text) == (404, False), address
    assert row_of(admin, number) == before


def test_an_operator_of_another_department_sees_every_credential(
    operator: Person, vm: int, number: int
) -> None:
    assert RestDoor(operator).reveal(vm, number).ok
    assert operator.api.get("/api/credentials").json()["total"] == 1


def test_a_change_of_role_counts_from_the_next_request(
    admin: Person, operator: Person, vm: int, number: int
) -> None:
    api, own = operator.api, f"/api/vms/{vm}/credentials/{number}"
    assert api.get(own).status_code == 200
    admin.api.put(f"/api/users/{operator.user_id}", json={"role": "read"})
    for place in ("", "/reveal", "/versions"):
        assert api.get(own + place).status_code == 403


@pytest.fixture
def guest(operator: Person, database: Database) -> Person:
    """An operator who is the guest of another organisation."""
    with database.engine.begin() as connection:
        chosen = update(User).where(User.id == operator.user_id)
        connection.execute(chosen.values(is_guest=True))
    return operator


def test_a_guest_sees_and_changes_credentials_and_reveals_none(
    guest: Person, vm: int, number: int
) -> None:
    door, own = RestDoor(guest), f"/api/vms/{vm}/credentials/{number}"
    assert [row["username"] for row in guest.api.get("/api/credentials").json()["data"]] == [
        USERNAME
    ]
    made_by_guest = door.add_credential(vm, NEW).made
    assert door.change_credential(vm, number, {"notes": "by the guest"}).ok
    assert door.remove_credential(vm, made_by_guest).ok
    for place in ("/reveal", "/versions/1/reveal"):
        for method in ("GET", "POST"):
            answer = guest.api.request(method, own + place)
            assert (answer.status_code, PASSWORD in answer.text) == (403, False)


@pytest.mark.parametrize("settings", [{"oidc_guests_reveal": "on"}], indirect=True)
def test_a_guest_reveals_if_the_setting_says_so(guest: Person, vm: int, number: int) -> None:
    assert guest.api.get(f"/api/vms/{vm}/credentials/{number}/reveal").json() == {
        "password": PASSWORD
    }


def script(person: Person, *scopes: Scope) -> TestClient:
    client = anonymous_client(person.app)
    client.headers["Authorization"] = f"Bearer {made(person, *scopes)[1]}"
    return client


def reached(client: TestClient, vm: int, number: int) -> set[str]:
    """What of credentials a script gets to, in words; the removal comes last."""
    own = f"/api/vms/{vm}/credentials"
    steps = {
        "list": ("GET", "/api/credentials"),
        "of a VM": ("GET", own),
        "one": ("GET", f"{own}/{number}"),
        "versions": ("GET", f"{own}/{number}/versions"),
        "reveal": ("GET", f"{own}/{number}/reveal"),
        "reveal earlier": ("POST", f"{own}/{number}/versions/1/reveal"),
        "add": ("POST", own),
        "change": ("PUT", f"{own}/{number}"),
        "remove": ("DELETE", f"{own}/{number}"),
    }
    answers = {
        name: client.request(method, address, json=NEW if name in {"add", "change"} else None)
        for name, (method, address) in steps.items()
    }
    # The account added has the name that the change asks for.
    assert {answer.status_code for answer in answers.values()} <= {200, 201, 403, 409}
    return {name for name, answer in answers.items() if answer.status_code != 403}


SEEING = {"list", "of a VM", "one", "versions", "reveal", "reveal earlier"}


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ([Scope.CREDENTIALS_REVEAL], SEEING),
        (
            [Scope.CREDENTIALS_REVEAL, Scope.INVENTORY_WRITE],
            SEEING | {"add", "change", "remove"},
        ),
        ([Scope.CREDENTIALS_REVEAL, Scope.INVENTORY_READ], SEEING),
        ([Scope.INVENTORY_WRITE], set()),
        ([Scope.INVENTORY_READ, Scope.AUDIT_READ, Scope.RDP], set()),
    ],
    ids=str,
)
def test_a_script_gets_to_what_its_scopes_open(
    admin: Person, vm: int, number: int, scopes: list[Scope], expected: set[str]
) -> None:
    assert reached(script(admin, *scopes), vm, number) == expected


def test_a_script_reads_user_names_in_lists_of_vms_only_with_the_scope_for_credentials(
    admin: Person, vm: int, number: int
) -> None:
    assert USERNAME not in script(admin, Scope.INVENTORY_READ).get("/api/vms").text
    assert USERNAME not in script(admin, Scope.INVENTORY_WRITE).get("/api/vms").text
    both = script(admin, Scope.INVENTORY_READ, Scope.CREDENTIALS_REVEAL)
    assert both.get("/api/vms").json()["data"][0]["primary_username"] == USERNAME
    alone = script(admin, Scope.CREDENTIALS_REVEAL)
    assert alone.get("/api/vms").status_code == 403
    assert alone.get("/api/credentials").json()["data"][0]["vm_name"] == "web-01"


@pytest.mark.parametrize("settings", [{"reveal_step_up": "all"}], indirect=True)
def test_a_script_reveals_nothing_where_a_proof_is_asked_for(
    admin: Person, vm: int, number: int
) -> None:
    client = script(admin, Scope.CREDENTIALS_REVEAL)
    answer = client.get(f"/api/vms/{vm}/credentials/{number}/reveal")
    assert (answer.status_code, answer.json()["detail"]) == (403, "step_up_required")


def test_a_script_reveals_no_more_than_its_user_may_at_that_moment(
    admin: Person, database: Database, vm: int, number: int
) -> None:
    client = script(admin, Scope.CREDENTIALS_REVEAL)
    assert client.get(f"/api/vms/{vm}/credentials/{number}/reveal").status_code == 200
    with database.engine.begin() as connection:
        connection.execute(update(User).where(User.id == admin.user_id).values(is_guest=True))
    assert client.get(f"/api/vms/{vm}/credentials/{number}").status_code == 200
    assert client.get(f"/api/vms/{vm}/credentials/{number}/reveal").status_code == 403


def test_nobody_without_the_permission_is_told_by_the_operation(
    admin: Person, database: Database, vault: Vault, number: int
) -> None:
    """Reading alone reveals nothing, and revealing alone changes nothing."""
    sees = Actor("x", frozenset({Permission.CREDENTIAL_READ}), user_id=admin.user_id)
    shows = Actor("x", frozenset({Permission.CREDENTIAL_REVEAL}), user_id=admin.user_id)
    with database.work(sees) as work, pytest.raises(Forbidden):
        credentials.reveal(work, vault, Which(number), RevealRequest())
    with database.work(shows) as work, pytest.raises(Forbidden):
        credentials.change(work, vault, Which(number), CredentialPatch(notes="new"))
