"""A VM to keep credentials on, both doors, and a look at what is kept."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from starlette.applications import Starlette

from tests.conftest import Person
from tests.doors import DOORS, Door
from vmtrak import credentials, inventory
from vmtrak.audit import AuditEvent
from vmtrak.credentials import Credential, CredentialPassword, NewCredential, Vault, Which
from vmtrak.db import Database
from vmtrak.inventory import NewVM
from vmtrak.settings import Settings

Kept = Callable[[int], dict[int, str]]
Events = Callable[[int], list[tuple[str, dict[str, Any] | None]]]


@pytest.fixture
def settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """The usual settings, and those that a test gives by the names of `Settings`."""
    return settings.model_copy(update=getattr(request, "param", {}))


@pytest.fixture(params=list(DOORS))
def door(request: pytest.FixtureRequest, admin: Person) -> Door:
    """A door, in the hands of an admin, who may do everything."""
    return DOORS[request.param](admin)


@pytest.fixture
def vault(app: Starlette) -> Vault:
    found: Vault = app.state.vmtrak.vault
    return found


def vm_named(person: Person, name: str, **fields: Any) -> int:
    with person.database.work(person.actor) as work:
        return inventory.add(work, NewVM.model_validate({"vm_name": name, **fields})).id


def added(person: Person, vm: int, username: str, password: str, **fields: Any) -> int:
    """The number of a credential that the person has added."""
    new = {"username": username, "password": password, **fields}
    with person.database.work(person.actor) as work:
        vault = person.app.state.vmtrak.vault
        return credentials.add(work, vault, vm, NewCredential.model_validate(new)).id


def row_of(person: Person, number: int) -> dict[str, Any]:
    """A credential as the person reads it."""
    rules = person.app.state.vmtrak.vault.rules
    with person.database.read() as session:
        return credentials.find(session, person.actor, rules, Which(number))


@pytest.fixture
def vm(admin: Person) -> int:
    return vm_named(admin, "web-01", environment="production")


@pytest.fixture
def kept(database: Database, vault: Vault) -> Kept:
    """The passwords of a credential that are kept, opened, by version."""

    def read(number: int) -> dict[int, str]:
        with database.read() as session:
            credential = session.get_one(Credential, number)
            rows = session.scalars(
                select(CredentialPassword).where(CredentialPassword.credential_id == number)
            )
            return {
                row.version: vault.keys.open(row.sealed, credential.place(row.version))
                for row in rows
            }

    return read


@pytest.fixture
def events(database: Database) -> Events:
    """What the trail tells of a credential, in its order."""

    def read(number: int) -> list[tuple[str, dict[str, Any] | None]]:
        with database.read() as session:
            found = session.execute(
                select(AuditEvent.action, AuditEvent.detail)
                .where(AuditEvent.entity_type == "credential", AuditEvent.entity_id == number)
                .order_by(AuditEvent.id)
            )
            return [(action, detail) for action, detail in found]

    return read
