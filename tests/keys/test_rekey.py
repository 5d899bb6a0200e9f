"""`vmtrak rekey`: everything moves to the first key, whatever happens meanwhile."""

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import select, text

from tests.conftest import SECRET_KEY
from tests.faults.running import (
    PROGRAM,
    START_SECONDS,
    STOP_SECONDS,
    Server,
    access_token,
    ask,
    environment,
    run,
    serving,
)
from tests.keys.stock import Stock, lay_in, left, opened, ring, setting, spoil
from tests.worker.peers import until
from vmtrak import keys
from vmtrak.access import SYSTEM
from vmtrak.audit import AuditEvent
from vmtrak.credentials import Credential, CredentialPassword
from vmtrak.db import Database
from vmtrak.keys import rekeying

ROOT = Path(__file__).parents[2]
DONE = (
    "new seals 60 passwords and 5 second factors\n"
    "old seals nothing and may be left out; older backups may need it\n"
)

sqlite_only = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
postgresql_only = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def where(database_url: str) -> dict[str, str]:
    """The settings with the new key first."""
    return {
        "VMTRAK_DATABASE_URL": database_url,
        "VMTRAK_CREDENTIAL_KEYS": setting("new", "old"),
        "VMTRAK_SECRET_KEY": SECRET_KEY,
    }


def told(database: Database) -> list[dict[str, Any] | None]:
    """The details of the trail's events of sealing anew."""
    chosen = select(AuditEvent.detail).where(AuditEvent.action == "credential.rekey")
    with database.read() as session:
        return list(session.scalars(chosen.order_by(AuditEvent.id)))


def versions_of_rows(database: Database) -> list[tuple[Any, ...]]:
    """What an ETag is made of, and who changed a row when."""
    chosen = select(
        Credential.id, Credential.revision, Credential.updated_at, Credential.password_changed_at
    )
    with database.read() as session:
        return sorted(tuple(row) for row in session.execute(chosen))


def started(folder: Path, where: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [PROGRAM, "rekey"],
        env=environment(folder, **where),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.usefixtures("quick")
def test_everything_moves_to_the_first_key(
    stock: Stock, kept: Database, tmp_path: Path, where: dict[str, str]
) -> None:
    before = versions_of_rows(kept)
    said = ask(tmp_path, "rekey", **where)
    assert (said.exit_code, said.stdout, said.stderr) == (0, DONE, "")
    assert opened(kept, ring("new")) == stock
    assert versions_of_rows(kept) == before
    assert told(kept) == [{"to": "new", "rows": {"old": 65}}]
    where["VMTRAK_CREDENTIAL_KEYS"] = setting("new")
    left_out = ask(tmp_path, "rekey", **where)
    assert (left_out.exit_code, left_out.stdout) == (0, DONE.partition("old")[0])


def test_a_run_that_finds_nothing_to_do_changes_nothing(
    stock: Stock, kept: Database, tmp_path: Path, where: dict[str, str]
) -> None:
    with kept.read() as session:
        before = session.scalars(select(CredentialPassword.sealed)).all()
    said = ask(tmp_path, "rekey", **{**where, "VMTRAK_CREDENTIAL_KEYS": setting("old")})
    assert (said.exit_code, said.stdout) == (0, "old seals 60 passwords and 5 second factors\n")
    assert told(kept) == []
    with kept.read() as session:
        assert session.scalars(select(CredentialPassword.sealed)).all() == before


@pytest.mark.usefixtures("quick")
def test_the_trail_counts_each_former_key(
    stock: Stock, database_url: str, kept: Database, tmp_path: Path, where: dict[str, str]
) -> None:
    lay_in(database_url, 3, "third")
    where["VMTRAK_CREDENTIAL_KEYS"] = setting("new", "old", "third")
    assert ask(tmp_path, "rekey", **where).exit_code == 0
    assert told(kept) == [{"to": "new", "rows": {"old": 65, "third": 6}}]
    assert left(kept, "new") == 71


@pytest.mark.usefixtures("quick")
def test_what_does_not_open_is_named_and_stops_nothing(
    stock: Stock, kept: Database, tmp_path: Path, where: dict[str, str]
) -> None:
    for table, column in (("credential_passwords", "sealed"), ("second_factors", "sealed_secret")):
        spoil(kept, table, column, 2)
    said = ask(tmp_path, "rekey", **where)
    assert said.exit_code == 1
    assert said.stdout == (
        "new seals 59 passwords and 4 second factors\n"
        "old still seals 1 password and 1 second factor; run vmtrak rekey\n"
    )
    words = re.sub(r"(of user|of credential) \d+", r"\1 N", said.stderr)
    assert words == (
        "vmtrak: altered or moved, so that they do not open: second_factors 2 (of user N), "
        "credential_passwords 2 (password 2 of credential N)\n"
    )


@pytest.mark.usefixtures("quick")
def test_a_factor_that_names_no_key_is_damaged_as_well(
    stock: Stock, kept: Database, tmp_path: Path, where: dict[str, str]
) -> None:
    with kept.work(SYSTEM) as work:
        work.session.execute(
            text("UPDATE second_factors SET sealed_secret = 'x', key_id = '' WHERE id = 1")
        )
    said = ask(tmp_path, "rekey", **where)
    assert said.exit_code == 1
    assert "second_factors 1 (of user" in said.stderr
    assert left(kept) == 0


def test_interrupted_it_ends_between_two_batches_and_can_be_run_again(
    database_url: str, kept: Database, tmp_path: Path, where: dict[str, str]
) -> None:
    stock = lay_in(database_url, 2_000)
    with started(tmp_path, where) as process:
        until(lambda: left(kept, "new") > 0)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=STOP_SECONDS)
    assert process.returncode == 1
    assert "\nold still seals " in output
    done = 4_005 - left(kept)
    assert 0 < done < 4_005
    assert errors.splitlines()[-1] == (
        f"vmtrak: interrupted after {done:,} of 4,005 rows; run it again for the rest"
    )
    assert opened(kept, ring("new", "old")) == stock
    assert run(tmp_path, "rekey", **where).returncode == 0
    assert left(kept) == 0
    assert opened(kept, ring("new")) == stock


def test_it_can_be_killed_at_any_moment(
    database_url: str, kept: Database, tmp_path: Path, where: dict[str, str]
) -> None:
    stock, rest = lay_in(database_url, 1_000), [2_005]
    while rest[-1]:
        with started(tmp_path, where) as process:
            until(lambda: left(kept) < rest[-1])
            process.kill()
        rest.append(left(kept))
        assert opened(kept, ring("new", "old")) == stock
    assert len(rest) > 3
    finished = run(tmp_path, "rekey", **where)
    assert (finished.returncode, finished.stdout.splitlines()[1]) == (0, DONE.splitlines()[1])
    assert opened(kept, ring("new")) == stock
    assert len(told(kept)) == len(rest) - 1


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_killed_at_twenty_points_everything_opens_and_a_second_run_finishes(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server = "-" if kind == "sqlite" else request.getfixturevalue("postgres")
    killing = subprocess.run(
        [sys.executable, "-m", "tests.keys.crashing", kind, server, str(tmp_path)],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert killing.returncode == 0, killing.stderr[-2_000:]
    rest = [int(number) for number in killing.stdout.splitlines()[-1].split()]
    assert len(rest) == 20
    assert rest == sorted(rest, reverse=True)
    assert len(set(rest)) > 6


def test_two_runs_at_once_share_the_work(
    database_url: str, kept: Database, tmp_path: Path, where: dict[str, str]
) -> None:
    stock = lay_in(database_url, 1_500)
    with started(tmp_path, where) as one, started(tmp_path, where) as other:
        ended = [process.communicate(timeout=START_SECONDS) for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], ended
    assert left(kept) == 0
    assert opened(kept, ring("new")) == stock


def test_a_terminal_sees_how_far_it_is(stock: Stock, tmp_path: Path, where: dict[str, str]) -> None:
    shown, terminal = pty.openpty()
    with subprocess.Popen(
        [PROGRAM, "rekey"],
        env=environment(tmp_path, **where, TERM="xterm"),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
    ) as process:
        assert process.wait(START_SECONDS) == 0
    os.close(terminal)
    written = os.read(shown, 65_536).decode()
    os.close(shown)
    assert re.search(r"Sealing anew +\[#+\] +100%", written), written


# Beside others


@postgresql_only
@pytest.mark.usefixtures("quick")
def test_rows_that_others_hold_are_passed_over_and_done_later(
    stock: Stock, kept: Database, tmp_path: Path, where: dict[str, str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(rekeying, "ROUNDS", 2)
    with kept.work(SYSTEM) as work:
        held = select(CredentialPassword).where(CredentialPassword.id.in_([3, 50]))
        assert len(work.session.scalars(held.with_for_update()).all()) == 2
        said = ask(tmp_path, "rekey", **where)
    assert said.exit_code == 1
    assert "old still seals 2 passwords; run vmtrak rekey\n" in said.stdout
    assert said.stderr == (
        "vmtrak: others hold some rows, or go on sealing with an earlier key; run it again\n"
    )
    assert ask(tmp_path, "rekey", **where).stdout == DONE
    assert opened(kept, ring("new")) == stock


@pytest.mark.usefixtures("quick")
def test_what_another_ring_seals_meanwhile_is_told_and_left_alone(
    stock: Stock,
    database_url: str,
    kept: Database,
    tmp_path: Path,
    where: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = keys.Rekeying.batches

    def overtaken(self: keys.Rekeying) -> Any:
        lay_in(database_url, 1, "third")
        return real(self)

    monkeypatch.setattr(keys.Rekeying, "batches", overtaken)
    said = ask(tmp_path, "rekey", **where)
    assert said.exit_code == 1
    assert said.stdout.endswith(
        "VMTRAK_CREDENTIAL_KEYS lacks the key 'third', which still seals 2 passwords; "
        "put it back, run vmtrak rekey, then leave it out; "
        "as the last resort, vmtrak rekey --give-up third destroys what it seals\n"
    )
    assert (left(kept, "third"), left(kept, "old")) == (2, 0)
    assert opened(kept, ring("new", "third")).items() >= stock.items()


@dataclass
class Busy:
    """Somebody who changes a password of their own and looks at it, again and again."""

    server: Server
    token: str
    address: str
    over: Event

    def work(self, index: int) -> list[str]:
        """The passwords that were given, until it is over."""
        given = [f"pw-{index}-0"]
        new = {"username": f"busy{index}", "password": given[0], "account_type": "others"}
        with self.server.client(self.token) as client:
            made = client.post(self.address, json=new)
            assert made.status_code == 201, made.text
            address = f"{self.address}/{made.json()['id']}"
            while not self.over.is_set():
                shown = client.post(f"{address}/reveal", json={})
                assert shown.json() == {"password": given[-1]}, shown.text
                given.append(f"pw-{index}-{len(given)}")
                changed = client.put(address, json={"password": given[-1]})
                assert changed.status_code == 200, changed.text
        return given


def test_beside_a_live_server_no_change_and_no_password_is_lost(
    database_url: str, kept: Database, tmp_path: Path, where: dict[str, str]
) -> None:
    stock = lay_in(database_url, 1_500)
    where |= {"VMTRAK_REVEALS_PER_HOUR": "100000", "VMTRAK_CREDENTIAL_VERSIONS": "100"}
    with serving(tmp_path, **where) as server, ThreadPoolExecutor(4) as threads:
        token = access_token(database_url)
        with server.client(token) as client:
            vm_id = client.post("/api/vms", json={"vm_name": "busy"}).json()["id"]
        people = Busy(server, token, f"/api/vms/{vm_id}/credentials", Event())
        working = [threads.submit(people.work, index) for index in range(4)]
        until(lambda: left(kept, "new") > 4)
        sealing = run(tmp_path, "rekey", **where)
        people.over.set()
        given = [each.result(START_SECONDS) for each in working]
        assert server.stop() == 0
    assert "Traceback" not in server.errors
    assert (sealing.returncode, left(kept)) == (0, 0), sealing.stderr
    found = opened(kept, ring("new"))
    assert found.items() >= stock.items()
    assert histories(found.keys() - stock.keys(), found) == sorted(each[-101:] for each in given)
    assert min(map(len, given)) > 3


def histories(rows: Iterable[tuple[str, int, int]], found: Stock) -> list[list[str]]:
    """The passwords of each credential, in their order."""
    kept: dict[int, list[str]] = {}
    for row in sorted(rows):
        kept.setdefault(row[1], []).append(found[row])
    return sorted(kept.values())
