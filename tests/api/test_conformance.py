"""Requests generated from the document: no 500, and no answer that it does not describe."""

from typing import Any

import pytest
import requests
import schemathesis
from httpx2 import Response
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks
from starlette.testclient import TestClient

from tests.conftest import BASE_URL, CANARY, Person
from vmtrak import credentials, inventory
from vmtrak.api import ENDPOINTS
from vmtrak.api.document import openapi
from vmtrak.credentials import NewCredential
from vmtrak.inventory import NewHypervisor, NewVM, hypervisors

Operation = APIOperation[Any, Any, Any, Any]
AnyCase = Case[Operation]

SCHEMA = schemathesis.openapi.from_dict(openapi(ENDPOINTS))
OPERATIONS: dict[str, Operation] = {
    found.ok().label: found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)
}

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

bounded = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def send(client: TestClient, case: AnyCase) -> Response:
    prepared = requests.Request(**case.as_transport_kwargs(base_url=BASE_URL)).prepare()
    assert prepared.method
    assert prepared.url
    path = prepared.url.removeprefix(BASE_URL)
    body = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body
    assert body is None or isinstance(body, bytes)
    headers = {
        name.encode(): value.encode() if isinstance(value, str) else value
        for name, value in prepared.headers.items()
        if name != "Authorization"
    }
    answer: Response = client.request(prepared.method, path, headers=headers, content=body)
    return answer


def takes(operation: Operation) -> bool:
    """Whether there is any input that could be wrong."""
    raw = operation.definition.raw
    return bool(raw.get("parameters") or raw.get("requestBody"))


def check(client: TestClient, operation: Operation, mode: GenerationMode) -> None:
    @bounded
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: AnyCase) -> None:
        # Where no provider is set up, as here, every sign-in over it answers 503, as documented.
        chosen = CHECKS[1:] if operation.path.startswith("/api/auth/microsoft") else CHECKS
        case.validate_response(send(client, case), checks=chosen)

    run()


@pytest.fixture
def filled(operator: Person) -> None:
    """Some rows with the small numbers that generated requests ask for."""
    with operator.database.work(operator.actor) as work:
        for n in range(3):
            home = hypervisors.add(work, NewHypervisor(name=f"hv-{n}"))
            vm = inventory.add(work, NewVM(vm_name=f"vm-{n}", hypervisor_id=home.id))
            for name in ("root", "backup"):
                new = {"username": name, "password": f"{CANARY}{n}"}
                vault = operator.app.state.vmtrak.vault
                credentials.add(work, vault, vm.id, NewCredential.model_validate(new))
            gone = inventory.add(work, NewVM(vm_name=f"gone-{n}"))
            inventory.remove(work, gone.id)


@pytest.mark.parametrize("label", OPERATIONS)
def test_an_admin_gets_only_answers_that_the_document_describes(
    label: str, filled: None, admin: Person
) -> None:
    check(admin.api, OPERATIONS[label], GenerationMode.POSITIVE)


@pytest.mark.parametrize("label", [label for label, found in OPERATIONS.items() if takes(found)])
def test_bad_requests_get_only_answers_that_the_document_describes(
    label: str, filled: None, admin: Person
) -> None:
    check(admin.api, OPERATIONS[label], GenerationMode.NEGATIVE)


@pytest.mark.parametrize("label", OPERATIONS)
def test_a_stranger_gets_only_answers_that_the_document_describes(
    label: str, filled: None, anonymous: TestClient
) -> None:
    check(anonymous, OPERATIONS[label], GenerationMode.POSITIVE)
