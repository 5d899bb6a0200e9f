"""Revealing, step by step: who may, which one, a proof, a reason; and what stays on record."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.conftest import Later, Person
from tests.credentials.conftest import Events, added, vm_named
from tests.faults.running import at_once
from tests.tokens.conftest import client_at, made
from vmtrak import audit, credentials, inventory
from vmtrak.access import Actor, Permission, Scope
from vmtrak.accounts import users
from vmtrak.accounts.actors import PROOF_COUNTS
from vmtrak.audit import AuditEvent
from vmtrak.credentials import CredentialPatch, CredentialReveal, RevealRequest, Which
from vmtrak.db import Database, now
from vmtrak.errors import (
    Forbidden,
    Invalid,
    NotFound,
    StepUpRequired,
    TooMany,
    VmtrakError,
)
from vmtrak.inventory import VMPatch
from vmtrak.web import revealing
from vmtrak.web.state import State

SECRET = "not to be read by chance"
CHANGES = 20

Reveal = Callable[..., str]


@pytest.fixture
def number(admin: Person, vm: int) -> int:
    """A credential on a VM in production."""
    return added(admin, vm, "root", SECRET)


@pytest.fixture
def reveal(operator: Person) -> Reveal:
    """Reveals as a door does, under the rules that are given."""

    def reveal(
        which: Which, why: str | None = None, actor: Actor | None = None, **rules: Any
    ) -> str:
        state: State = operator.app.state.vmtrak
        vault = replace(state.vault, rules=replace(state.vault.rules, **rules))
        asked = RevealRequest(reason=why)
        return revealing.reveal(replace(state, vault=vault), actor or operator.actor, which, asked)

    return reveal


def proved(person: Person, ago: timedelta = timedelta(0)) -> Actor:
    return replace(person.actor, proved_at=now() - ago)


def reveals(database: Database) -> list[tuple[int, int, int]]:
    """Credential, version and user of each reveal that counts."""
    row = CredentialReveal
    chosen = select(row.credential_id, row.version, row.user_id).order_by(row.id)
    with database.read() as session:
        return [(number, version, user) for number, version, user in session.execute(chosen)]


def test_each_step_refuses_before_the_next_is_asked(
    operator: Person, reader: Person, auditor: Person, number: int, events: Events, reveal: Reveal
) -> None:
    which, missing = Which(number), Which(number + 1)
    assert reveal(which) == SECRET
    before = events(number)
    strict = {"step_up": "all", "reason": "required", "per_hour": 1}
    known = proved(operator)
    guest = replace(
        operator.actor, permissions=operator.actor.permissions - {Permission.CREDENTIAL_REVEAL}
    )
    refusals: list[tuple[type[VmtrakError], Which, Actor]] = [
        (Forbidden, missing, reader.actor),
        (Forbidden, missing, auditor.actor),
        (Forbidden, missing, guest),
        (NotFound, missing, operator.actor),
        (StepUpRequired, which, operator.actor),
        (Invalid, which, known),
    ]
    for error, asked, actor in refusals:
        with pytest.raises(error) as told:
            reveal(asked, None, actor, **strict)
        assert type(told.value) is error
    assert events(number) == before
    with pytest.raises(TooMany):
        reveal(which, "ticket 7", known, **strict)
    assert events(number)[len(before) :] == [("credential.reveal_refused", {"limit": 1})]
    assert reveal(which, "ticket 7", known, **{**strict, "per_hour": 2}) == SECRET
    assert reveals(operator.database) == [(number, 1, operator.user_id)] * 2


EVERYWHERE = frozenset({"production", "test", None})
IN_PRODUCTION = frozenset({"production"})
NOWHERE: frozenset[str | None] = frozenset()

environments = pytest.mark.parametrize("environment", ["production", "test", None])


@environments
@pytest.mark.parametrize(
    ("setting", "asked_for"),
    [("off", NOWHERE), ("production", IN_PRODUCTION), ("all", EVERYWHERE)],
)
def test_a_proof_is_asked_for_where_the_setting_says(
    operator: Person,
    reveal: Reveal,
    setting: str,
    asked_for: frozenset[str | None],
    environment: str | None,
) -> None:
    vm = vm_named(operator, "app-01", environment=environment)
    which = Which(added(operator, vm, "root", SECRET))
    assert reveal(which, actor=proved(operator), step_up=setting) == SECRET
    for actor in (operator.actor, proved(operator, PROOF_COUNTS + timedelta(seconds=5))):
        if environment in asked_for:
            with pytest.raises(StepUpRequired):
                reveal(which, actor=actor, step_up=setting)
        else:
            assert reveal(which, actor=actor, step_up=setting) == SECRET


@environments
@pytest.mark.parametrize(
    ("setting", "asked_for"),
    [("optional", NOWHERE), ("production", IN_PRODUCTION), ("required", EVERYWHERE)],
)
def test_a_reason_is_asked_for_where_the_setting_says_and_blank_is_none(
    operator: Person,
    reveal: Reveal,
    events: Events,
    setting: str,
    asked_for: frozenset[str | None],
    environment: str | None,
) -> None:
    vm = vm_named(operator, "app-01", environment=environment)
    which = Which(added(operator, vm, "root", SECRET))
    for blank in (None, "", " \t "):
        if environment in asked_for:
            with pytest.raises(Invalid) as told:
                reveal(which, blank, reason=setting)
            assert told.value.fields == {"reason": ["is required"]}
        else:
            assert reveal(which, blank, reason=setting) == SECRET
            assert events(which.number)[-1] == ("credential.reveal", {"version": 1})
    assert reveal(which, "  ticket 7 ", reason=setting) == SECRET
    told_why = {"version": 1, "reason": "ticket 7"}
    assert events(which.number)[-1] == ("credential.reveal", told_why)


@pytest.mark.parametrize("environment", ["staging", None])
def test_whoever_takes_a_vm_out_of_production_gets_round_nothing_by_it(
    operator: Person, vm: int, number: int, reveal: Reveal, later: Later, environment: str | None
) -> None:
    with operator.database.work(operator.actor) as work:
        inventory.change(work, vm, VMPatch.model_validate({"environment": environment}))
    later(23 * 3600)
    with pytest.raises(StepUpRequired):
        reveal(Which(number), step_up="production")
    with pytest.raises(Invalid, match="reason"):
        reveal(Which(number), reason="production")
    later(3600)
    assert reveal(Which(number), step_up="production", reason="production") == SECRET


@pytest.mark.parametrize("settings", [{"reveal_step_up": "all"}], indirect=True)
def test_a_sign_in_is_a_proof_and_an_api_token_never_is(
    operator: Person, vm: int, number: int
) -> None:
    address = f"/api/vms/{vm}/credentials/{number}/reveal"
    script = client_at(operator.app, made(operator, Scope.CREDENTIALS_REVEAL)[1])
    assert operator.api.get(address).json() == {"password": SECRET}
    assert operator.panel.post(f"/admin/credential/reveal/{number}").json() == {"password": SECRET}
    refused = script.get(address)
    assert (refused.status_code, refused.json()["detail"]) == (403, "step_up_required")
    assert SECRET not in refused.text


@pytest.mark.parametrize("kind", ["rest", "panel"])
def test_both_doors_tell_why_and_let_nobody_keep_the_answer(
    operator: Person, vm: int, number: int, events: Events, kind: str
) -> None:
    if kind == "rest":
        address = f"/api/vms/{vm}/credentials/{number}/reveal"
        answer = operator.api.post(address, json={"reason": "ticket 7"})
    else:
        address = f"/admin/credential/reveal/{number}"
        answer = operator.panel.post(address, data={"reason": "ticket 7"})
    assert answer.json() == {"password": SECRET}
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert "etag" not in answer.headers
    assert events(number)[-1] == ("credential.reveal", {"version": 1, "reason": "ticket 7"})


def test_the_event_names_vm_number_and_version_and_nothing_that_is_secret(
    operator: Person, vm: int, number: int, database: Database
) -> None:
    assert operator.api.get(f"/api/vms/{vm}/credentials/{number}/reveal?reason=why").is_success
    with database.read() as session:
        chosen = select(AuditEvent).where(AuditEvent.action == "credential.reveal")
        event = audit.shown(session.scalars(chosen).one())
    assert len(event.pop("request_id")) == 16
    del event["id"], event["created_at"]
    assert event == {
        "user_id": operator.user_id,
        "username": "otto",
        "action": "credential.reveal",
        "entity_type": "credential",
        "entity_id": number,
        "entity_name": "web-01",
        "detail": {"version": 1, "reason": "why"},
        "ip_address": "127.0.0.1",
    }


def test_each_earlier_version_is_an_event_of_its_own_kind(
    operator: Person, number: int, events: Events, reveal: Reveal
) -> None:
    for password in ("second", "third"):
        change(operator, number, password)
    before = len(events(number))
    shown = [reveal(Which(number, version=version)) for version in (None, 3, 2, 1)]
    assert shown == ["third", "third", "second", SECRET]
    assert events(number)[before:] == [
        ("credential.reveal", {"version": 3}),
        ("credential.reveal", {"version": 3}),
        ("credential.reveal_earlier", {"version": 2}),
        ("credential.reveal_earlier", {"version": 1}),
    ]
    assert [version for _, version, _ in reveals(operator.database)] == [3, 3, 2, 1]


@pytest.mark.parametrize("version", [0, 2, 2**53 - 1])
def test_a_version_that_is_not_there_is_no_entry(
    number: int, reveal: Reveal, events: Events, version: int
) -> None:
    before = events(number)
    with pytest.raises(NotFound):
        reveal(Which(number, version=version))
    assert events(number) == before


def test_a_credential_is_found_on_its_own_vm_only(
    operator: Person, vm: int, number: int, reveal: Reveal
) -> None:
    other = vm_named(operator, "web-02")
    assert reveal(Which(number, vm)) == SECRET
    with pytest.raises(NotFound):
        reveal(Which(number, other))
    with operator.database.work(operator.actor) as work:
        inventory.remove(work, vm)
    for which in (Which(number), Which(number, vm), Which(number, vm, 1)):
        with pytest.raises(NotFound):
            reveal(which)


def test_what_is_shown_is_the_version_that_the_event_names(
    operator: Person, vm: int, reveal: Reveal, events: Events
) -> None:
    """One person changes the password again and again while others look at it."""
    number = added(operator, vm, "changing", "password 1")

    def take_part(index: int) -> list[tuple[str, str]]:
        if index:
            whys = [f"{index}-{turn}" for turn in range(CHANGES)]
            return [(why, reveal(Which(number), why, per_hour=1_000)) for why in whys]
        for version in range(2, CHANGES + 2):
            change(operator, number, f"password {version}")
        return []

    shown = dict(pair for pairs in at_once(4, take_part) for pair in pairs)
    told = {
        detail["reason"]: f"password {detail['version']}"
        for action, detail in events(number)
        if action == "credential.reveal" and detail
    }
    assert len(told) == 3 * CHANGES
    assert shown == told


def test_whose_account_was_closed_meanwhile_is_shown_nothing(
    admin: Person, operator: Person, vm: int, reveal: Reveal, database: Database
) -> None:
    """The request was let in before; the report of what a leaver knows comes after the closing."""
    number = added(admin, vm, "left", SECRET)
    let_in = operator.actor
    with database.work(admin.actor) as work:
        users.deactivate(work, operator.user_id)
    with pytest.raises(Forbidden):
        reveal(Which(number), actor=let_in)
    assert reveals(database) == []


def change(person: Person, number: int, password: str) -> None:
    patch = CredentialPatch.model_validate({"password": password})
    with person.database.work(person.actor) as work:
        credentials.change(work, person.app.state.vmtrak.vault, Which(number), patch)
