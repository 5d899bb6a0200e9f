"""The JSON that the database makes of a page is the JSON of the rows."""

from datetime import date
from typing import Any

import orjson
import pytest
from starlette.applications import Starlette

from tests.conftest import Person
from vmtrak import credentials, inventory
from vmtrak.api.base import JSON_OPTIONS
from vmtrak.credentials import NewCredential
from vmtrak.db import Database
from vmtrak.inventory import NewHypervisor, NewVM, VMQuery

AWKWARD: list[dict[str, Any]] = [
    {"vm_name": "plain", "department": "Finance"},
    {"vm_name": 'quo"te\\back/slash', "notes": "line\nbreak\ttab", "owner": "Żółw <ż@x>"},
    {"vm_name": "größe-😀", "ram_gb": 0.5, "disk_gb": 16, "vcpu": 4, "expiry_date": "2027-02-28"},
    {"vm_name": "{}[],:", "description": "'; --", "ip_address": "2001:db8::1"},
    {"vm_name": "big", "ram_gb": 1_000_000_000, "disk_gb": 1.25, "environment": "test"},
]


@pytest.fixture
def filled(app: Starlette, database: Database, operator: Person) -> Database:
    vault = app.state.vmtrak.vault
    with database.work(operator.actor) as work:
        host = inventory.hypervisors.add(work, NewHypervisor(name='host "7"'))
        for number, fields in enumerate(AWKWARD):
            given = {**fields, "hypervisor_id": host.id if number % 2 else None}
            vm = inventory.add(work, NewVM.model_validate(given))
            if number % 2:
                new = {"username": f'ż"\\{number} 😀', "password": "a password"}
                credentials.add(work, vault, vm.id, NewCredential.model_validate(new))
                new["username"] = "another"
                credentials.add(work, vault, vm.id, NewCredential.model_validate(new))
    return database


@pytest.mark.parametrize("query", [{}, {"limit": 2}, {"search": "i"}, {"sort": "expiry_date"}])
def test_a_document_says_what_the_rows_say(
    filled: Database, operator: Person, today: date, query: dict[str, object]
) -> None:
    asked = VMQuery.model_validate(query)
    page = inventory.page(filled, operator.actor, asked, today)
    document = orjson.loads(inventory.page_document(filled, operator.actor, asked, today))
    rows = orjson.loads(orjson.dumps(page.rows, option=JSON_OPTIONS))
    assert document["data"] == rows
    assert [list(row) for row in document["data"]] == [list(row) for row in rows]
    assert (document["total"], document["page"]) == (page.total, page.page)
    assert (document["limit"], document["next"]) == (page.limit, page.next)


def test_who_may_see_credentials_reads_the_primary_user_name_in_the_list(
    filled: Database, operator: Person, today: date
) -> None:
    rows = inventory.page(filled, operator.actor, VMQuery(), today).rows
    named = {row["vm_name"]: row["primary_username"] for row in rows}
    odd = {fields["vm_name"]: f'ż"\\{n} 😀' for n, fields in enumerate(AWKWARD) if n % 2}
    assert named == {fields["vm_name"]: odd.get(fields["vm_name"]) for fields in AWKWARD}


def test_who_may_not_see_credentials_gets_no_place_for_them(
    filled: Database, auditor: Person, reader: Person, today: date
) -> None:
    for person, sees in ((auditor, len(AWKWARD)), (reader, 1)):
        text = inventory.page_document(filled, person.actor, VMQuery(), today)
        rows = inventory.page(filled, person.actor, VMQuery(), today).rows
        assert len(orjson.loads(text)["data"]) == len(rows) == sees
        assert b"primary_username" not in text
        assert all("primary_username" not in row for row in rows)
