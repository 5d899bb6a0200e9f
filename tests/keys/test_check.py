"""A start with a key ring that does not fit what is sealed ends there, and says what to do."""

import base64
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select, update

from tests.faults.running import PROGRAM, STOP_SECONDS, ask, at_once, environment, run, serving
from tests.keys.stock import KEYS, Stock, opened, ring, setting, spoil
from tests.worker.peers import until
from vmtrak import keys
from vmtrak.access import SYSTEM
from vmtrak.db import Database
from vmtrak.keys import RingError, SealingKey
from vmtrak.sealing import KeyRing, Sealed

MUCH = "60 passwords and 5 second factors"
REMEDY = (
    "put it back, run vmtrak rekey, then leave it out; "
    "as the last resort, vmtrak rekey --give-up old destroys what it seals"
)

every_start = pytest.mark.parametrize("command", ["serve --port 0", "worker", "rekey"])


def noted(database: Database) -> set[str]:
    with database.read() as session:
        return set(session.scalars(select(SealingKey.key_id)))


def known_text(database: Database) -> str:
    with database.read() as session:
        return session.scalars(select(SealingKey.sealed)).one().text


def check(database: Database, sealing: KeyRing) -> None:
    with database.work(SYSTEM) as work:
        keys.check(work, sealing)


def forget_notes(database: Database) -> None:
    """As a database is that an earlier version has kept."""
    with database.work(SYSTEM) as work:
        work.session.execute(delete(SealingKey))


def begun(folder: Path, command: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """A start that ends by itself; only one that has bound an address needs its own process."""
    if command.startswith("serve"):
        return run(folder, *command.split(), **settings)
    done = ask(folder, command, **settings)
    return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)


@every_start
def test_a_start_without_a_key_that_is_in_use_is_refused(
    stock: Stock, kept: Database, database_url: str, tmp_path: Path, command: str
) -> None:
    where = {"VMTRAK_DATABASE_URL": database_url, "VMTRAK_CREDENTIAL_KEYS": setting("new")}
    refused = begun(tmp_path, command, **where)
    assert (refused.returncode, refused.stdout) == (1, "")
    words = (
        f"vmtrak: VMTRAK_CREDENTIAL_KEYS lacks the key 'old', which still seals {MUCH}; {REMEDY}"
    )
    assert refused.stderr.splitlines()[-1] == words
    assert "Traceback" not in refused.stderr
    assert noted(kept) == {"old"}
    assert opened(kept, ring("old")) == stock


def test_several_lost_keys_are_told_in_one_line(stock: Stock, kept: Database) -> None:
    with kept.work(SYSTEM) as work:
        keys.reseal(work, ring("third", "old"), keys.STORES[0], range(1, 2))
    with pytest.raises(RingError) as refused:
        check(kept, ring("new"))
    assert str(refused.value) == (
        "lacks the keys 'old', which still seals 60 passwords and 4 second factors; "
        "'third', which still seals 1 second factor; "
        "put them back, run vmtrak rekey, then leave them out; "
        "as the last resort, vmtrak rekey --give-up old --give-up third destroys what they seal"
    )


@every_start
def test_a_lost_key_file_is_missed_and_no_other_is_made_in_its_place(
    stock: Stock, database_url: str, tmp_path: Path, command: str
) -> None:
    refused = begun(tmp_path, command, VMTRAK_DATABASE_URL=database_url)
    assert refused.returncode == 1
    file = tmp_path / "credential-keys"
    words = f"vmtrak: {file} lacks the key 'old', which still seals {MUCH}; {REMEDY}"
    assert refused.stderr.splitlines()[-1] == words
    assert not file.exists()


@every_start
def test_another_key_of_the_same_id_is_refused(
    stock: Stock, database_url: str, tmp_path: Path, command: str
) -> None:
    other = f"old:{base64.b64encode(KEYS['new']).decode()}"
    where = {"VMTRAK_DATABASE_URL": database_url, "VMTRAK_CREDENTIAL_KEYS": other}
    refused = begun(tmp_path, command, **where)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.splitlines()[-1] == (
        "vmtrak: VMTRAK_CREDENTIAL_KEYS holds another key 'old' than the one that seals "
        f"{MUCH}; put that one back, or give the new key an id of its own"
    )


def test_that_holds_before_the_key_has_sealed_anything(kept: Database) -> None:
    check(kept, ring("old"))
    with pytest.raises(RingError, match=r"^holds another key 'old' than the one that was there"):
        check(kept, KeyRing([("old", KEYS["new"])]))
    check(kept, ring("old"))


def test_every_key_of_the_ring_is_noted_once(kept: Database) -> None:
    check(kept, ring("new", "old"))
    check(kept, ring("third", "new", "old"))
    assert noted(kept) == {"new", "old", "third"}
    for key_id in ("new", "old", "third"):
        with pytest.raises(RingError):
            check(kept, KeyRing([(key_id, bytes(range(100, 132)))]))


def test_a_database_of_before_is_taken_with_the_key_that_it_needs(
    stock: Stock, kept: Database
) -> None:
    forget_notes(kept)
    with pytest.raises(RingError, match=f"^holds another key 'old' than the one that seals {MUCH}"):
        check(kept, KeyRing([("old", KEYS["new"])]))
    assert noted(kept) == set()
    check(kept, ring("new", "old"))
    assert noted(kept) == {"new", "old"}


@pytest.mark.parametrize("text", ["", "x", None])
def test_a_damaged_known_text_is_made_anew_with_a_key_that_opens_what_it_sealed(
    stock: Stock, kept: Database, text: str | None
) -> None:
    damaged = Sealed(known_text(kept)[:-1] + "!" if text is None else text)
    with kept.work(SYSTEM) as work:
        work.session.execute(update(SealingKey).values(sealed=damaged))
    with pytest.raises(RingError, match=f"^holds another key 'old' than the one that seals {MUCH}"):
        check(kept, KeyRing([("old", KEYS["new"])]))
    assert known_text(kept) == damaged.text
    with kept.read() as session:
        assert keys.faults(session, ring("old")) == []
    at_once(2, lambda _: check(kept, ring("old")))
    fresh = known_text(kept)
    check(kept, ring("old"))
    assert known_text(kept) == fresh != damaged.text


def test_where_a_key_sealed_nothing_its_known_text_alone_tells(kept: Database) -> None:
    check(kept, ring("old"))
    with kept.work(SYSTEM) as work:
        work.session.execute(update(SealingKey).values(sealed=Sealed("x")))
    with pytest.raises(RingError, match=r"^holds another key 'old' than the one that was there"):
        check(kept, ring("old"))


def test_one_damaged_value_does_not_make_a_key_the_wrong_one(stock: Stock, kept: Database) -> None:
    forget_notes(kept)
    spoil(kept, "second_factors", "sealed_secret", 1)
    check(kept, ring("old"))
    with pytest.raises(RingError):
        check(kept, KeyRing([("old", KEYS["new"])]))


def test_starts_at_the_same_moment_all_pass(database_url: str, kept: Database) -> None:
    def start(index: int) -> None:
        database = Database(database_url)
        check(database, ring("new", "old") if index % 2 else ring("old", "new"))
        database.close()

    at_once(6, start)
    assert noted(kept) == {"new", "old"}


def test_of_two_keys_of_one_id_at_the_same_moment_one_is_refused(
    database_url: str, kept: Database
) -> None:
    def start(index: int) -> bool:
        database = Database(database_url)
        try:
            check(database, KeyRing([("same", bytes(range(index, index + 32)))]))
        except RingError:
            return False
        finally:
            database.close()
        return True

    assert sorted(at_once(4, start)) == [False, False, False, True]
    with kept.read() as session:
        assert session.scalar(select(func.count()).select_from(SealingKey)) == 1


def test_a_ring_that_fits_serves_works_and_is_kept(tmp_path: Path) -> None:
    with serving(tmp_path, "--no-worker") as server:
        assert server.stop() == 0
    first = (tmp_path / "credential-keys").read_text()
    with subprocess.Popen(
        [PROGRAM, "worker"], env=environment(tmp_path), cwd=tmp_path, stderr=subprocess.DEVNULL
    ) as worker:
        until((tmp_path / "queue.db").exists)
        worker.terminate()
        assert worker.wait(STOP_SECONDS) == 0
    assert (tmp_path / "credential-keys").read_text() == first
    key_id = first.partition(":")[0]
    assert ask(tmp_path, "rekey").stdout == f"{key_id} seals nothing\n"


# The doctor


def examined(folder: Path, **settings: str) -> list[str]:
    said = ask(folder, "doctor", **settings)
    assert "Traceback" not in said.output
    return [line for line in said.stdout.splitlines() if " key ring: " in line]


def test_the_doctor_tells_what_each_key_seals(
    stock: Stock, database_url: str, tmp_path: Path
) -> None:
    where = {"VMTRAK_DATABASE_URL": database_url}
    given = "ok    key ring: given by the settings"
    assert examined(tmp_path, **where, VMTRAK_CREDENTIAL_KEYS=setting("old", "third")) == [
        given,
        f"ok    key ring: old seals {MUCH}",
        "ok    key ring: third seals nothing and may be left out; older backups may need it",
    ]
    assert examined(tmp_path, **where, VMTRAK_CREDENTIAL_KEYS=setting("new", "old")) == [
        given,
        "ok    key ring: new seals nothing",
        f"MEND  key ring: old still seals {MUCH}; run vmtrak rekey",
    ]


def test_the_doctor_misses_a_key_and_tells_a_wrong_one(
    stock: Stock, database_url: str, tmp_path: Path
) -> None:
    where = {"VMTRAK_DATABASE_URL": database_url}
    lost = f"MEND  key ring: it lacks the key 'old', which still seals {MUCH}; {REMEDY}"
    assert lost in examined(tmp_path, **where, VMTRAK_CREDENTIAL_KEYS=setting("new"))
    assert lost in examined(tmp_path, **where)
    assert not (tmp_path / "credential-keys").exists()
    other = f"old:{base64.b64encode(KEYS['new']).decode()}"
    assert (
        f"MEND  key ring: it holds another key 'old' than the one that seals {MUCH}; "
        "put that one back, or give the new key an id of its own"
    ) in examined(tmp_path, **where, VMTRAK_CREDENTIAL_KEYS=other)
