"""`vmtrak rekey --give-up`: what a lost key sealed is destroyed, and VMTrak starts again."""

import os
import pty
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import func, select, update
from starlette.applications import Starlette

from tests.access.test_lock_order import until_somebody_waits
from tests.access.test_second_factor import enrol
from tests.conftest import CANARY, SECRET_KEY, Person
from tests.credentials.conftest import added, vm_named
from tests.faults.running import (
    PROGRAM,
    START_SECONDS,
    STOP_SECONDS,
    ask,
    environment,
    run,
    serving,
)
from tests.keys.stock import Stock, lay_in, left, opened, ring, setting
from tests.worker.peers import until
from vmtrak import credentials, keys
from vmtrak.access import SYSTEM
from vmtrak.accounts import RecoveryCode, SecondFactor, User, second_factor
from vmtrak.audit import AuditEvent
from vmtrak.credentials import (
    MASK,
    Credential,
    CredentialPassword,
    CredentialPatch,
    RevealRequest,
    Vault,
    Which,
)
from vmtrak.credentials.changes import locked
from vmtrak.db import Database
from vmtrak.errors import NotFound
from vmtrak.keys import SealingKey
from vmtrak.web.revealing import reveal

WORDS = "No password is kept for this account; set a new one."
ASKED = (
    "Destroy 60 passwords and 5 second factors that the key 'old' sealed? "
    "They cannot be read again."
)
DONE = "old is given up: 60 passwords and 5 second factors destroyed\n"
LOST = {"lost_key": "old", "password": {"from": "•••", "to": None}}
MARKED = {"rotation_marked": {"from": False, "to": True}}

postgresql_only = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

OLD, NEW = f"{CANARY}old", f"{CANARY}new"


@pytest.fixture
def where(database_url: str) -> dict[str, str]:
    """The settings with a ring that has lost the old key."""
    return {
        "VMTRAK_DATABASE_URL": database_url,
        "VMTRAK_CREDENTIAL_KEYS": setting("new"),
        "VMTRAK_SECRET_KEY": SECRET_KEY,
    }


def give_up(folder: Path, where: dict[str, str], *options: str) -> Result:
    return ask(folder, "rekey", "--give-up", "old", *options, **where)


def told(database: Database, action: str) -> list[tuple[int | None, dict[str, Any] | None]]:
    chosen = select(AuditEvent.entity_id, AuditEvent.detail).where(AuditEvent.action == action)
    with database.read() as session:
        return [tuple(row) for row in session.execute(chosen.order_by(AuditEvent.id))]


def noted(database: Database) -> set[str]:
    with database.read() as session:
        return set(session.scalars(select(SealingKey.key_id)))


def reseal(database: Database, store: keys.Store, *numbers: int) -> None:
    """Seal rows with the key "new", as a run does that was ended early."""
    with database.work(SYSTEM) as work:
        sealing = ring("new", "old")
        keys.check(work, sealing)
        assert keys.reseal(work, sealing, store, numbers) == (len(numbers), {})


@pytest.mark.usefixtures("quick")
def test_what_the_lost_key_sealed_is_destroyed_and_the_accounts_stay(
    stock: Stock, kept: Database, tmp_path: Path, where: dict[str, str]
) -> None:
    said = give_up(tmp_path, where, "--yes")
    assert (said.exit_code, said.stdout, said.stderr) == (0, DONE, "")
    assert opened(kept, ring("new")) == {}
    assert noted(kept) == set()
    with kept.read() as session:
        rows = session.scalars(select(Credential).order_by(Credential.id)).all()
    assert len(rows) == 30
    assert all(row.rotation_marked_at and row.rotation_marked_by == "system" for row in rows)
    assert {row.revision for row in rows} == {2}
    expected = {**LOST, **MARKED, "earlier_passwords_destroyed": 1}
    assert told(kept, "credential.update") == [(row.id, expected) for row in rows]
    detail = {"key": "old", "passwords": 60, "second_factors": 5}
    assert told(kept, "credential.key_given_up") == [(None, detail)]


def test_afterwards_the_server_starts(
    stock: Stock, kept: Database, tmp_path: Path, where: dict[str, str]
) -> None:
    assert run(tmp_path, "serve", "--port", "0", **where).returncode == 1
    assert give_up(tmp_path, where, "--yes").exit_code == 0
    with serving(tmp_path, **where) as server:
        assert server.stop() == 0
    assert noted(kept) == {"new"}


def test_without_any_ring_a_new_one_can_be_made_afterwards(
    stock: Stock, tmp_path: Path, where: dict[str, str]
) -> None:
    del where["VMTRAK_CREDENTIAL_KEYS"]
    assert give_up(tmp_path, where, "--yes").exit_code == 0
    assert not (tmp_path / "credential-keys").exists()
    assert ask(tmp_path, "rekey", **where).exit_code == 0
    assert (tmp_path / "credential-keys").exists()


def test_the_id_is_free_for_another_key(
    stock: Stock, kept: Database, tmp_path: Path, where: dict[str, str]
) -> None:
    assert give_up(tmp_path, where, "--yes").exit_code == 0
    other = setting("third").replace("third", "old")
    assert ask(tmp_path, "rekey", **{**where, "VMTRAK_CREDENTIAL_KEYS": other}).exit_code == 0
    assert noted(kept) == {"old"}


def test_several_keys_are_given_up_at_once(
    stock: Stock, database_url: str, kept: Database, tmp_path: Path, where: dict[str, str]
) -> None:
    lay_in(database_url, 2, "third")
    again = ("--give-up", "third", "--give-up", "old", "--yes")
    said = give_up(tmp_path, where, *again)
    assert said.stdout == f"{DONE}third is given up: 4 passwords destroyed\n"
    assert opened(kept, ring("new")) == {}
    assert [detail and detail["key"] for _, detail in told(kept, "credential.key_given_up")] == [
        "old",
        "third",
    ]


def test_an_earlier_password_is_lost_alone_and_so_is_a_present_one(
    stock: Stock, kept: Database, tmp_path: Path, where: dict[str, str]
) -> None:
    with kept.read() as session:
        chosen = select(CredentialPassword).order_by(
            CredentialPassword.credential_id, CredentialPassword.version
        )
        rows = session.scalars(chosen.limit(4)).all()
    first, second = rows[1], rows[2]  # a present password, and the earlier one of another
    reseal(kept, keys.STORES[1], first.id, second.id)
    assert give_up(tmp_path, where, "--yes").exit_code == 0
    remaining = [("passwords", row.credential_id, row.version) for row in (first, second)]
    assert opened(kept, ring("new")) == {row: stock[row] for row in remaining}
    events = dict(told(kept, "credential.update"))
    assert events[first.credential_id] == {"lost_key": "old", "earlier_passwords_destroyed": 1}
    assert events[second.credential_id] == {**LOST, **MARKED}
    with kept.read() as session:
        marked = select(Credential.id).where(Credential.rotation_marked_at.is_(None))
        assert session.scalars(marked).all() == [first.credential_id]


def test_second_factors_end_as_by_a_reset(
    stock: Stock, kept: Database, tmp_path: Path, where: dict[str, str]
) -> None:
    """Of the first two people one has only begun with a factor of the lost key."""
    with kept.work(SYSTEM) as work:
        factors = work.session.scalars(select(SecondFactor).order_by(SecondFactor.user_id)).all()
        people = [factor.user_id for factor in factors]
        everybody = update(User).execution_options(audited=True)
        work.session.execute(everybody.values(has_second_factor=True))
        for user_id in people[:2]:
            work.session.add(RecoveryCode(user_id=user_id, code_hash=f"{user_id:064}"))
        begun = SecondFactor(user_id=people[1], created_at=work.moment)
        begun.keep(factors[0].sealed_secret)
        work.session.add(begun)
    numbers = [factor.id for factor in factors]
    reseal(kept, keys.STORES[0], numbers[1])
    assert give_up(tmp_path, where, "--yes").exit_code == 0
    with kept.read() as session:
        assert session.scalars(select(SecondFactor.id)).all() == [numbers[1]]
        assert session.scalars(select(RecoveryCode.user_id)).all() == [people[1]]
        having = select(User.id).where(User.has_second_factor)
        assert session.scalars(having).all() == [people[1]]
    removed = told(kept, "auth.second_factor_removed")
    assert removed == [(user_id, None) for user_id in (people[0], *people[2:])]


# Asked first, and refused


def test_without_a_terminal_nothing_is_done_unless_it_is_told_to(
    stock: Stock, kept: Database, tmp_path: Path, where: dict[str, str]
) -> None:
    said = give_up(tmp_path, where)
    assert (said.exit_code, said.stdout) == (2, "")
    assert f"Error: {ASKED} Without a terminal, --yes says so.\n" in said.stderr
    assert opened(kept, ring("old")) == stock
    assert told(kept, "credential.key_given_up") == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("new",), "The key 'new' is in the key ring; run vmtrak rekey without --give-up."),
        (("old", "--give-up", "new"), "The key 'new' is in the key ring"),
        (("third",), "The key 'third' seals nothing; there is nothing to give up."),
        (("old", "--give-up", "third"), "The key 'third' seals nothing"),
    ],
)
def test_a_key_that_is_not_lost_is_refused(
    stock: Stock,
    kept: Database,
    tmp_path: Path,
    where: dict[str, str],
    options: tuple[str, ...],
    words: str,
) -> None:
    said = ask(tmp_path, "rekey", "--yes", "--give-up", *options, **where)
    assert (said.exit_code, said.stdout) == (2, "")
    assert words in said.stderr
    assert opened(kept, ring("old")) == stock


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1), ("", 1)])
def test_on_a_terminal_it_asks_with_the_numbers(
    stock: Stock, kept: Database, tmp_path: Path, where: dict[str, str], answer: str, status: int
) -> None:
    typing, terminal = pty.openpty()
    with subprocess.Popen(
        [PROGRAM, "rekey", "--give-up", "old"],
        env=environment(tmp_path, **where, TERM="dumb"),
        cwd=tmp_path,
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.write(typing, f"{answer}\n".encode())
        output, errors = process.communicate(timeout=START_SECONDS)
    os.close(terminal)
    os.close(typing)
    assert process.returncode == status, errors
    assert f"{ASKED} [y/N]: " in output + errors
    if status:
        assert "vmtrak: nothing was destroyed\n" in errors
        assert opened(kept, ring("old")) == stock
    else:
        assert output.endswith(DONE)
        assert opened(kept, ring("new")) == {}


# Ended early


def test_interrupted_it_ends_between_two_batches_and_can_be_run_again(
    database_url: str, kept: Database, tmp_path: Path, where: dict[str, str]
) -> None:
    lay_in(database_url, 3_000)
    with subprocess.Popen(
        [PROGRAM, "rekey", "--give-up", "old", "--yes"],
        env=environment(tmp_path, **where),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        until(lambda: left(kept) < 6_005)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=STOP_SECONDS)
    rest = left(kept)
    assert (process.returncode, output) == (1, "")
    assert 0 < rest < 6_005
    assert errors.splitlines()[-1] == (
        f"vmtrak: interrupted after {6_005 - rest:,} of 6,005 rows; run it again for the rest"
    )
    assert noted(kept) == {"old"}
    assert give_up(tmp_path, where, "--yes").exit_code == 0
    assert (left(kept), noted(kept)) == (0, set())
    assert len(told(kept, "credential.update")) == 3_000
    sums = [(detail or {})["passwords"] for _, detail in told(kept, "credential.key_given_up")]
    assert sums == [6_000, rest]


# Beside others


@postgresql_only
def test_who_changes_a_password_and_gives_their_name_to_it_is_in_nobodys_way(
    database: Database, admin: Person, vault: Vault
) -> None:
    """They hold the credential and go on to themselves, whose factor is lost as well."""
    enrol(admin, vault.keys)
    number = added(admin, vm_named(admin, "web-01"), "root", OLD)
    lost = dict.fromkeys(vault.keys.ids, keys.Use(1, 1))
    with ThreadPoolExecutor(1) as pool:
        with database.work(admin.actor) as work:
            locked(work, Which(number))
            run = pool.submit(lambda: list(keys.GivingUp(database, lost).batches()))
            until_somebody_waits(database)
            patch = CredentialPatch.model_validate({"password": NEW})
            credentials.change(work, vault, Which(number), patch)
        assert run.result(10) == [1, 2]


@postgresql_only
def test_people_whom_others_hold_are_passed_over_and_done_later(
    stock: Stock, kept: Database
) -> None:
    with ThreadPoolExecutor(1) as pool, kept.work(SYSTEM) as work:
        held = select(User).where(User.id.in_(select(SecondFactor.user_id))).limit(2)
        assert len(work.session.scalars(held.with_for_update()).all()) == 2
        assert pool.submit(forget, kept, 9).result(10) == 3
    assert forget(kept, 1) == 1
    assert forget(kept, 9) == 1


@postgresql_only
def test_people_who_are_at_work_are_not_waited_for(stock: Stock, kept: Database) -> None:
    """A row that names a person holds them against their end only."""
    with ThreadPoolExecutor(1) as pool, kept.work(SYSTEM) as work:
        named = select(User).with_for_update(read=True, key_share=True)
        work.session.scalars(named).all()
        assert pool.submit(forget, kept, 9).result(10) == 5


def forget(database: Database, most: int) -> int:
    with database.work(SYSTEM) as work:
        return second_factor.forget(work, "old", most)


# A credential without a password


@pytest.fixture
def vault(app: Starlette) -> Vault:
    found: Vault = app.state.vmtrak.vault
    return found


@pytest.fixture
def bare(app: Starlette, admin: Person, operator: Person, vault: Vault) -> int:
    """A credential that two people knew, whose passwords are destroyed."""
    vm = vm_named(admin, "web-01")
    number = added(admin, vm, "root", OLD, notes="Ask first.")
    reveal(app.state.vmtrak, operator.actor, Which(number), RevealRequest())
    lost = {key_id: keys.Use(1) for key_id in vault.keys.ids}
    assert sum(keys.GivingUp(admin.database, lost).batches()) == 1
    return number


def path(person: Person, number: int) -> str:
    with person.database.read() as session:
        return f"/api/vms/{session.get_one(Credential, number).vm_id}/credentials/{number}"


def change(person: Person, vault: Vault, number: int, password: str) -> None:
    with person.database.work(person.actor) as work:
        patch = CredentialPatch.model_validate({"password": password})
        credentials.change(work, vault, Which(number), patch)


def test_over_rest_it_is_listed_with_null_and_is_not_revealed(admin: Person, bare: int) -> None:
    api, address = admin.api, path(admin, bare)
    row = api.get(address).json()
    assert (row["username"], row["notes"], row["password"]) == ("root", "Ask first.", None)
    assert (row["rotation_due"], row["rotation_marked"]) == (True, True)
    assert api.get(address.rpartition("/")[0]).json() == [row]
    assert api.get("/api/credentials?rotation_due=true").json()["data"] == [row]
    assert api.get(f"{address}/versions").json() == []
    for refused in (api.post(f"{address}/reveal"), api.get(f"{address}/reveal")):
        assert (refused.status_code, refused.json()["detail"]) == (404, WORDS)
    assert api.post(f"{address}/versions/1/reveal").status_code == 404
    assert api.get(f"{address}/versions").json() == []
    with pytest.raises(NotFound), admin.database.read() as session:
        credentials.versions(session, admin.actor, Which(bare + 1))


def test_nobody_knows_a_password_that_is_not_kept(
    admin: Person, operator: Person, bare: int
) -> None:
    api = admin.api
    assert api.get(f"{path(admin, bare)}/viewers").json() == []
    for person in (admin, operator):
        assert api.get(f"/api/users/{person.user_id}/seen-credentials").json() == []
        with admin.database.read() as session:
            assert credentials.seen_count(session, admin.actor, person.user_id) == 0


def test_a_row_sent_back_as_it_was_read_changes_nothing(admin: Person, bare: int) -> None:
    api, address = admin.api, path(admin, bare)
    read = api.get(address)
    sent = api.put(address, json=read.json(), headers={"If-Match": read.headers["etag"]})
    assert (sent.status_code, sent.json()) == (200, read.json())
    assert sent.headers["etag"] == read.headers["etag"]


def test_a_new_password_is_set_as_ever(admin: Person, vault: Vault, bare: int) -> None:
    api, address = admin.api, path(admin, bare)
    changed = api.put(address, json={"password": OLD}).json()
    assert (changed["password"], changed["rotation_marked"]) == (MASK, False)
    assert api.post(f"{address}/reveal").json() == {"password": OLD}
    [version] = api.get(f"{address}/versions").json()
    assert (version["version"], version["present"]) == (2, True)
    _, detail = told(admin.database, "credential.update")[-1]
    assert detail is not None
    assert detail["password"] == {"from": None, "to": "•••"}
    change(admin, vault, bare, NEW)
    assert [row["version"] for row in api.get(f"{address}/versions").json()] == [3, 2]
    assert [row["username"] for row in api.get(f"{address}/viewers").json()] == ["ada"]


def test_the_panel_says_so_and_offers_no_reveal(admin: Person, bare: int) -> None:
    panel, vm = admin.panel, path(admin, bare).split("/")[3]
    details = panel.get(f"/admin/credential/details/{bare}").text
    for text in (panel.get(f"/admin/vm/details/{vm}").text, details):
        assert WORDS in text
        assert "data-reveal=" not in text
    assert "No password is kept that anybody could know." in details
    assert "none is kept" in panel.get("/admin/credential/list").text
    refused = panel.post(f"/admin/credential/reveal/{bare}", headers={"Accept": "application/json"})
    assert (refused.status_code, refused.json()["detail"]) == (404, WORDS)
    trail = panel.get("/admin/audit/list?action=credential.key_given_up").text
    assert "gave up a lost key" in trail


def test_the_panel_shows_an_earlier_password_that_is_left(admin: Person, vault: Vault) -> None:
    number = added(admin, vm_named(admin, "web-02"), "root", OLD)
    change(admin, vault, number, NEW)
    with admin.database.work(SYSTEM) as work:
        newest = update(CredentialPassword).where(CredentialPassword.version == 2)
        work.session.execute(newest.values(key_id="gone"))
    list(keys.GivingUp(admin.database, {"gone": keys.Use(1)}).batches())
    text = admin.panel.get(f"/admin/credential/details/{number}").text
    assert WORDS in text
    assert f'data-reveal="/admin/credential/reveal/{number}/1"' in text
    assert f'data-reveal="/admin/credential/reveal/{number}"' not in text
    with admin.database.read() as session:
        assert session.scalar(select(func.count()).select_from(CredentialPassword)) == 1
