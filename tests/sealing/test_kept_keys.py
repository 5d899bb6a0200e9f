"""The key ring that an installation keeps: made once, for the owner alone, and missed when lost."""

import base64
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PASSWORD
from tests.faults.running import ask
from vmtrak import app as application
from vmtrak.access import SYSTEM
from vmtrak.accounts import actors, second_factor, trail, users
from vmtrak.audit import Action
from vmtrak.sealing import KeyRing
from vmtrak.settings import Settings, SettingsError, load

KEY = base64.b64encode(bytes(range(32))).decode()
BOB = ("user", "add", "bob", "--email", "bob@vmtrak.example", "--role", "readwrite")


def read(folder: Path, **given: str) -> Settings:
    return load({"VMTRAK_DATA_DIR": str(folder), **given}, None)


def test_the_first_start_makes_a_ring_and_later_ones_keep_it(tmp_path: Path) -> None:
    settings, path = read(tmp_path / "data"), tmp_path / "data" / "credential-keys"
    [(key_id, key)] = settings.sealing_keys()
    assert re.fullmatch("k-[0-9a-f]{8}", key_id)
    assert len(key) == 32
    assert settings.sealing_keys() == ((key_id, key),)
    assert path.read_text() == f"{key_id}:{base64.b64encode(key).decode()}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["credential-keys"]


def test_two_installations_get_different_keys_under_different_ids(tmp_path: Path) -> None:
    rings = [read(tmp_path / name).sealing_keys()[0] for name in "ab"]
    assert rings[0][0] != rings[1][0]
    assert rings[0][1] != rings[1][1]


def test_a_ring_that_is_set_is_used_in_its_order_and_no_file_is_made(tmp_path: Path) -> None:
    other = base64.b64encode(bytes(range(32, 64))).decode()
    settings = read(tmp_path / "data", VMTRAK_CREDENTIAL_KEYS=f"new:{KEY}, old:{other}")
    assert KeyRing(settings.sealing_keys()).ids == ("new", "old")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "content", ["", "x", "k:short", KEY, f"k:{KEY},k:{KEY}", f"k:{'A' * 43}=", "k:\xff"]
)
def test_a_kept_file_that_holds_no_ring_is_refused_and_left_alone(
    content: str, tmp_path: Path
) -> None:
    (tmp_path / "credential-keys").write_bytes(content.encode("latin-1"))
    with pytest.raises(SettingsError, match=r"^VMTRAK_CREDENTIAL_KEYS: ") as refused:
        read(tmp_path).sealing_keys()
    assert KEY not in str(refused.value)
    assert refused.value.__cause__ is None
    assert (tmp_path / "credential-keys").read_bytes() == content.encode("latin-1")


def test_processes_that_start_at_once_end_up_with_one_ring(tmp_path: Path) -> None:
    program = (
        "import sys; from vmtrak.settings import load; print(flush=True); sys.stdin.read();"
        "print(load({'VMTRAK_DATA_DIR': sys.argv[1]}, None).sealing_keys())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "data")]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe) for _ in range(4)]
    for process in processes:
        assert process.stdout
        process.stdout.readline()  # ready: all of them wait at the line before the key
    for process in processes:
        assert process.stdin
        process.stdin.close()
        process.stdin = None
    rings = {process.communicate(timeout=60)[0] for process in processes}
    assert rings == {f"{read(tmp_path / 'data').sealing_keys()}\n".encode()}


def test_a_data_folder_that_cannot_keep_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"^VMTRAK_DATA_DIR: .* credential-keys "):
        read(tmp_path / "file" / "data").sealing_keys()


@pytest.fixture
def enrolled(tmp_path: Path) -> Path:
    """A data folder in which bob has a second factor."""
    assert ask(tmp_path, *BOB, "--password-stdin", given=f"{PASSWORD}\n").exit_code == 0
    state = application.make_state(read(tmp_path))
    with state.database.work(SYSTEM) as work:
        bob = users.named(work.session, "bob")
        assert bob is not None
        work.actor = actors.actor_of(bob, work.actor)
        second_factor.start(work, state.vault.keys, "here")
        bob.has_second_factor = True
        trail.record(work, Action.FACTOR_ADDED, bob)
    state.database.close()
    return tmp_path


def test_the_doctor_misses_a_key_that_sealed_something(enrolled: Path) -> None:
    well = ask(enrolled, "doctor")
    [(key_id, _)] = read(enrolled).sealing_keys()
    assert f"ok    key ring: {key_id} seals 1 second factor\n" in well.stdout
    lost = f"MEND  key ring: it lacks the key '{key_id}', which still seals 1 second factor; "
    other = ask(enrolled, "doctor", VMTRAK_CREDENTIAL_KEYS=f"other:{KEY}")
    assert lost in other.stdout
    (enrolled / "credential-keys").unlink()
    gone = ask(enrolled, "doctor")
    assert lost in gone.stdout
    assert not (enrolled / "credential-keys").exists()


def test_the_person_at_the_server_takes_a_lost_second_factor_away(enrolled: Path) -> None:
    assert ask(enrolled, "user", "reset", "bob").exit_code == 0
    assert has_factor(enrolled)
    assert ask(enrolled, "user", "reset", "bob", "--second-factor").exit_code == 0
    assert not has_factor(enrolled)


def has_factor(folder: Path) -> bool:
    state = application.make_state(read(folder))
    try:
        with state.database.read() as session:
            bob = users.named(session, "bob")
            assert bob is not None
            return bob.has_second_factor
    finally:
        state.database.close()
