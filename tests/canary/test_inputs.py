"""A password on its way in shows in nothing that is made of the input, and in no statement."""

import copy
import json
import logging
import pickle
from collections.abc import Mapping

import pytest
from loguru import logger
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette

from tests.canary.search import SHAPES, holds_canary
from tests.conftest import CANARY, Person
from vmtrak import credentials
from vmtrak.accounts import NewUser
from vmtrak.credentials import CredentialPatch, NewCredential, RevealRequest, Which
from vmtrak.db import Database
from vmtrak.fields import parse
from vmtrak.inventory import NewVM, add

INPUTS: dict[type[BaseModel], Mapping[str, object]] = {
    NewCredential: {"username": "root"},
    CredentialPatch: {},
}


@pytest.mark.parametrize("model", INPUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_that_is_printed_of_an_input_holds_its_password(
    model: type[BaseModel], shape: str
) -> None:
    made = parse(model, {**INPUTS[model], "password": SHAPES[shape]})
    printed = [
        repr(made),
        str(made),
        f"{made!r:>10} {made.__dict__}",
        repr(made.model_dump()),
        made.model_dump_json(),
        json.dumps(made.model_dump(mode="json")),
        json.dumps(made.model_dump(), default=str),
        repr(list(made)),
        repr(copy.deepcopy(made)),
    ]
    assert not holds_canary("\n".join(printed).encode())


@pytest.mark.parametrize("model", INPUTS)
def test_an_input_with_a_password_is_not_pickled(model: type[BaseModel]) -> None:
    """A queue or a cache that pickles would keep the password in the clear."""
    made = parse(model, {**INPUTS[model], "password": SHAPES["plain"]})
    with pytest.raises(TypeError, match="holds a password") as caught:
        pickle.dumps(made)
    assert not holds_canary(str(caught.value).encode())


@pytest.mark.parametrize(
    "given",
    [
        {"username": "", "password": SHAPES["plain"]},
        {"username": "root", "password": SHAPES["plain"] * 40},
        {"username": "root", "password": [SHAPES["plain"]]},
        {"username": "root", "password": {"is": SHAPES["plain"]}},
        {"username": "root", "password": SHAPES["plain"].encode()},
        {"username": "root", "password": "x", "account_type": SHAPES["plain"]},
    ],
)
@pytest.mark.parametrize("model", INPUTS)
def test_what_is_said_of_wrong_input_does_not_repeat_it(
    model: type[BaseModel], given: Mapping[str, object]
) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(given)
    assert not holds_canary(f"{caught.value!r} {caught.value}".encode())


def test_the_same_goes_for_the_passwords_of_people() -> None:
    given = {"username": "", "email": "no", "role": "read", "password": SHAPES["plain"] * 40}
    with pytest.raises(ValidationError) as caught:
        NewUser.model_validate(given)
    assert not holds_canary(f"{caught.value!r} {caught.value}".encode())


def test_no_statement_is_logged_with_its_values_even_when_all_are_logged(
    app: Starlette, database: Database, admin: Person, caplog: pytest.LogCaptureFixture
) -> None:
    vault = app.state.vmtrak.vault
    new = parse(NewCredential, {"username": "root", "password": SHAPES["plain"]})
    patch = parse(CredentialPatch, {"password": SHAPES["quotes"]})
    with caplog.at_level(logging.DEBUG, "sqlalchemy"):
        with database.work(admin.actor) as work:
            vm = add(work, NewVM(vm_name="db1"))
            which = Which(credentials.add(work, vault, vm.id, new).id)
        with database.work(admin.actor) as work:
            credentials.change(work, vault, which, patch)
        with database.work(admin.actor) as work:
            assert CANARY in str(credentials.reveal(work, vault, which, RevealRequest()))
    assert "INSERT INTO credential_passwords" in caplog.text
    assert not holds_canary(caplog.text.encode())


def test_actors_works_keys_and_the_state_print_no_password_and_no_key(
    app: Starlette, database: Database, admin: Person
) -> None:
    state, lines = app.state.vmtrak, list[str]()
    sink = logger.add(lines.append, format="{message}")
    with database.work(admin.actor) as work:
        new = parse(NewCredential, {"username": "root", "password": SHAPES["plain"]})
        vm = add(work, NewVM(vm_name="db1"))
        made = credentials.add(work, state.vault, vm.id, new)
        logger.info("{!r} {!r} {!r}", work, work.actor, work.session.new)
        logger.info("{!r} {!r} {!r} {!r}", made, state.vault, state.vault.keys, state)
    logger.remove(sink)
    printed = "".join(lines)
    assert not holds_canary(printed.encode())
    assert "0123456789abcdef" not in printed
