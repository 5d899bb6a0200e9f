"""The sample's accounts on VMs: realistic, of every age, with passwords made at the start."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import func, select

from vmtrak import demo, sample
from vmtrak.alerts import Alert
from vmtrak.audit import Action, AuditEvent
from vmtrak.credentials import Credential, CredentialPassword, CredentialReveal, Rules
from vmtrak.db import Database, now
from vmtrak.inventory import VM
from vmtrak.sample import Account
from vmtrak.sealing import KEY_BYTES, KeyRing, Place

TODAY = date(2026, 11, 22)
KEYS = KeyRing([("k", bytes(KEY_BYTES))])
ROTATION_DAYS = 180
"""What the demonstration sets."""

WRITERS = frozenset(
    str(person["username"])
    for person in sample.people()
    if person["role"] in {"admin", "readwrite"}
)


@pytest.fixture(scope="module")
def known() -> list[Account]:
    return sample.accounts(sample.vms(TODAY))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    path = tmp_path_factory.mktemp("demo") / "inventory.db"
    with closing(Database(f"sqlite:///{path}")) as database:
        demo.fill(database, TODAY, KEYS)
        yield database


def passwords(database: Database) -> list[str]:
    chosen = select(Credential.row_key, CredentialPassword.version, CredentialPassword.sealed)
    chosen = chosen.join(Credential, Credential.id == CredentialPassword.credential_id)
    with database.read() as session:
        rows = session.execute(chosen).all()
    places = [Place("credential_passwords", "sealed", f"{row[0]}/{row[1]}") for row in rows]
    return [KEYS.open(row.sealed, place) for row, place in zip(rows, places, strict=True)]


def test_most_vms_have_accounts_and_no_vm_has_one_twice(known: list[Account]) -> None:
    assert 0.8 * 412 < len({one.vm_name for one in known}) < 412
    names = [(one.vm_name, one.username.casefold()) for one in known]
    assert len(set(names)) == len(names)


def test_each_vm_has_one_primary_account_first_and_a_few_have_others(known: list[Account]) -> None:
    kinds: dict[str, list[str]] = defaultdict(list)
    for one in known:
        kinds[one.vm_name].append(one.account_type)
    assert all(of_vm == ["primary", *["others"] * (len(of_vm) - 1)] for of_vm in kinds.values())
    assert 60 < sum(one.account_type == "others" for one in known) < 150


def test_windows_is_administered_by_other_names_than_linux(known: list[Account]) -> None:
    kinds = {str(row["vm_name"]): row["os_type"] for row in sample.vms(TODAY)}
    primary = {(kinds[one.vm_name], one.username) for one in known if one.account_type == "primary"}
    assert ("Windows", "Administrator") in primary
    assert ("Linux", "root") in primary
    assert not {name for kind, name in primary if kind == "Windows"} & {"root", "sysadm"}


def test_some_notes_break_the_glass_and_none_tells_a_password(known: list[Account]) -> None:
    notes = [one.notes for one in known if one.notes]
    assert 60 < len(notes) < len(known) / 2
    assert any("Break glass, see runbook" in note for note in notes)
    text = " ".join(notes).casefold()
    assert not any(word in text for word in ("password", "passwd", "pwd", "token", "{"))


def test_some_are_due_and_some_were_changed_before(known: list[Account]) -> None:
    ages = [one.set_days_ago for one in known]
    assert all(sorted(age, reverse=True) == list(age) for age in ages)
    assert max(age[0] for age in ages) < sample.TAKEN_IN
    assert 0.05 < sum(age[-1] >= ROTATION_DAYS for age in ages) / len(ages) < 0.2
    assert {len(age) for age in ages} == {1, 2, 3}


def test_several_people_looked_at_what_was_there_by_then(known: list[Account]) -> None:
    looks = sample.looks(known)
    assert [look.days_ago for look in looks] == sorted((w.days_ago for w in looks), reverse=True)
    assert {look.username for look in looks} == WRITERS
    assert all(one.set_days_ago[0] > look.days_ago for look in looks for one in look.accounts)
    assert {look.reason is None for look in looks} == {True, False}


def test_the_same_seed_gives_the_same_accounts_and_looks(known: list[Account]) -> None:
    assert sample.accounts(sample.vms(TODAY)) == known
    assert sample.looks(known) == sample.looks(known)
    assert sample.accounts(sample.vms(TODAY), seed=7) != known


def test_the_demonstration_has_all_of_them_and_the_trash_keeps_its_own(
    filled: Database, known: list[Account]
) -> None:
    with filled.read() as session:
        found = session.execute(select(Credential.username, VM.vm_name, VM.deleted_at).join(VM))
        rows = found.all()
    assert {(row.vm_name, row.username) for row in rows} == {
        (one.vm_name, one.username) for one in known
    }
    assert {row.vm_name for row in rows if row.deleted_at} == set(sample.retired())


def test_its_passwords_are_many_random_and_made_anew_each_time(
    filled: Database, known: list[Account], tmp_path: Path
) -> None:
    made = passwords(filled)
    assert len(made) == sum(len(one.set_days_ago) for one in known)
    assert {len(password) for password in made} == {20}
    assert len(set(made)) == len(made)
    with closing(Database(f"sqlite:///{tmp_path / 'again.db'}")) as again:
        demo.fill(again, TODAY, KEYS)
        assert not set(passwords(again)) & set(made)


def test_its_reports_have_something_to_show(filled: Database) -> None:
    old = Rules(rotation_days=ROTATION_DAYS).too_old(now())
    with filled.read() as session:

        def count(*terms: object) -> int:
            return session.scalar(select(func.count()).select_from(Credential).where(*terms)) or 0  # type: ignore[arg-type]

        assert count(Credential.password_changed_at <= old) > 20
        assert count(Credential.rotation_marked_at.is_not(None)) > 2
        assert count(Credential.version > 1) > 30
        people = session.scalars(select(CredentialReveal.user_id).distinct()).all()
        alert = session.scalars(select(Alert)).one()
    assert len(people) == len(WRITERS)
    assert (alert.kind, alert.read_at) == ("reveal_limit", None)
    assert alert.text.startswith("femke.bakker ")


def test_its_trail_is_in_the_order_of_time(filled: Database) -> None:
    with filled.read() as session:
        chosen = select(AuditEvent.created_at, AuditEvent.action).order_by(AuditEvent.id)
        rows = session.execute(chosen).all()
    assert all(before.created_at <= after.created_at for before, after in pairwise(rows))
    assert {Action.CREDENTIAL_CREATE, Action.CREDENTIAL_UPDATE, Action.REVEAL} <= {
        row.action for row in rows
    }
