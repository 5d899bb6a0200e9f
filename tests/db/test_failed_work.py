"""A unit of work that has failed writes nothing any more."""

from contextlib import suppress

import pytest
from sqlalchemy import func, select

from tests.conftest import Person
from vmtrak import audit, inventory
from vmtrak.audit import Action, AuditEvent
from vmtrak.db import Database
from vmtrak.errors import Conflict
from vmtrak.inventory import NewVM


def add_twice_and_record(database: Database, person: Person) -> None:
    """A caller that takes a refused row for granted and goes on."""
    with database.work(person.actor) as work:
        inventory.add(work, NewVM(vm_name="db-01"))
        with suppress(Conflict):
            inventory.add(work, NewVM(vm_name="DB-01"))
        audit.record(work, Action.VM_UPDATE, entity_type="vm")


def test_after_a_refused_row_no_event_is_written_outside_the_transaction(
    database: Database, operator: Person
) -> None:
    with pytest.raises(AssertionError, match="failed already"):
        add_twice_and_record(database, operator)
    with database.read() as session:
        events = select(func.count()).where(AuditEvent.entity_type == "vm")
        assert session.scalar(events) == 0
