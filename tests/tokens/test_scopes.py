"""What each scope opens: every endpoint is asked with a token of each."""

import re

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from tests.conftest import Person
from tests.tokens.conftest import Script
from vmtrak.access import ROLES, SCOPES, Permission, Role, Scope
from vmtrak.accounts import api_tokens
from vmtrak.api import ENDPOINTS
from vmtrak.api.base import Endpoint

sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""What is asked is decided before any database: one of them will do."""

FOR_EVERYBODY = {"GET /auth/me"}
"""Needs somebody, and no permission: a token may ask whose it is."""

NEVER = {
    Permission.ACCOUNT,
    Permission.USERS,
    Permission.TRASH,
}
"""What no scope gives."""

CLOSED = [endpoint for endpoint in ENDPOINTS if not endpoint.open]


def name(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.path}"


def ask(client: TestClient, endpoint: Endpoint) -> Response:
    """A request that changes nothing: rows that are not there, a body that is no input."""
    path = "/api" + re.sub(r"{\w+}", "999999999", endpoint.path)
    return client.request(endpoint.method, path, json={} if endpoint.body else None)


def opened(client: TestClient) -> set[str]:
    """The endpoints that do not refuse a client; whatever else they say of its request."""
    answers = {name(endpoint): ask(client, endpoint).status_code for endpoint in CLOSED}
    assert set(answers.values()) & {401, 500} == set()
    return {endpoint for endpoint, status in answers.items() if status != 403}


def expected(allowed: frozenset[Permission]) -> set[str]:
    return {name(each) for each in CLOSED if each.needs and each.needs <= allowed} | FOR_EVERYBODY


def test_every_endpoint_names_its_permission() -> None:
    assert {name(each) for each in CLOSED if each.permission is None} == FOR_EVERYBODY


def test_no_scope_gives_what_is_never_for_scripts() -> None:
    assert not frozenset().union(*SCOPES.values()) & NEVER
    assert set(SCOPES) == set(Scope)


@sqlite
@pytest.mark.parametrize("scope", Scope)
def test_a_scope_opens_its_endpoints_and_no_other(
    scope: Scope, admin: Person, script: Script
) -> None:
    assert opened(script(admin, scope)) == expected(SCOPES[scope])


@sqlite
@pytest.mark.parametrize("role", Role)
def test_all_scopes_together_open_no_more_than_the_role(
    role: Role, admin: Person, operator: Person, script: Script
) -> None:
    admin.api.put(f"/api/users/{operator.user_id}", json={"role": role.value})
    covered = [scope for scope in Scope if api_tokens.NEEDS[scope] in ROLES[role]]
    given = frozenset().union(*(SCOPES[scope] for scope in covered))
    assert opened(script(operator, *covered)) == expected(given & ROLES[role])


@sqlite
def test_reading_changes_nothing(admin: Person, script: Script) -> None:
    for scope in (Scope.INVENTORY_READ, Scope.AUDIT_READ):
        methods = {each.partition(" ")[0] for each in opened(script(admin, scope))}
        assert methods == {"GET"}


@sqlite
def test_a_token_opens_nothing_that_concerns_its_own_user_or_others(
    admin: Person, script: Script
) -> None:
    endpoints = opened(script(admin, *Scope))
    reached = {each.split()[1].split("/")[1] for each in endpoints}
    assert reached <= {"vms", "credentials", "hypervisors", "audit", "dashboard", "auth", "notices"}
    # Figures for a monitoring system, and nobody's messages.
    assert {each for each in endpoints if "/notices" in each} == {
        "GET /notices/standing",
        "GET /vms/{id}/notices",
    }
    assert {each for each in opened(script(admin, *Scope)) if "/auth" in each} == FOR_EVERYBODY


@sqlite
def test_two_scopes_open_what_each_opens(admin: Person, script: Script) -> None:
    both = opened(script(admin, Scope.INVENTORY_READ, Scope.AUDIT_READ))
    assert both == expected(SCOPES[Scope.INVENTORY_READ] | SCOPES[Scope.AUDIT_READ])


@sqlite
def test_a_refusal_says_what_is_missing_is_not_the_sign_in(admin: Person, script: Script) -> None:
    answer = script(admin, Scope.AUDIT_READ).get("/api/vms")
    assert (answer.status_code, answer.headers.get("WWW-Authenticate")) == (403, None)
