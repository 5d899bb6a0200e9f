"""What goes wrong around the program is told in one line, and `vmtrak doctor` says what to mend."""

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

from tests import services
from tests.faults.running import PROGRAM, ask, environment
from vmtrak import schema

START_OF_MIGRATE = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))"
UNPRIVILEGED = (
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
)


def as_an_ordinary_user(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command for which the permissions of files count, even if the tests are run by root."""
    return subprocess.run(
        [*(UNPRIVILEGED if os.geteuid() == 0 else ()), PROGRAM, *arguments],
        env=environment(folder),
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def told(status: int, output: str, errors: str) -> str:
    """The one line that a command printed, to standard error, on failing."""
    assert (status, output) == (1, ""), errors
    lines = [line for line in errors.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, errors
    assert lines[0].startswith("vmtrak: ")
    return lines[0]


def told_outside(done: "subprocess.CompletedProcess[str]") -> str:
    return told(done.returncode, done.stdout, done.stderr)


def told_inside(done: Result) -> str:
    return told(done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A data folder into which nobody but root may write."""
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


def test_a_data_folder_that_cannot_be_written_to_is_one_line(closed: Path) -> None:
    line = told_outside(as_an_ordinary_user(closed, "migrate"))
    assert line == f"vmtrak: {closed} cannot be written to by this user. Nothing was changed."
    examined = as_an_ordinary_user(closed, "doctor")
    assert examined.returncode == 1
    assert f"MEND  data folder: {closed} cannot be written to by this user" in examined.stdout
    assert "Traceback" not in examined.stderr


def test_files_that_a_start_by_another_account_left_are_named(tmp_path: Path) -> None:
    assert ask(tmp_path, "migrate").exit_code == 0
    file = tmp_path / "inventory.db"
    file.chmod(0o400)
    assert f"{file} cannot be written to" in told_outside(as_an_ordinary_user(tmp_path, "serve"))


def test_a_data_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.touch()
    assert str(file) in told_inside(ask(tmp_path, "migrate", VMTRAK_DATA_DIR=str(file)))
    examined = ask(tmp_path, "doctor", VMTRAK_DATA_DIR=str(file / "deeper"))
    assert examined.exit_code == 1
    assert f"{file / 'deeper'} cannot be made" in examined.stdout


def test_a_full_disk_is_one_line_and_the_next_start_completes(tmp_path: Path) -> None:
    program = f"{START_OF_MIGRATE}; from vmtrak.cli import main; main(['migrate'])"
    full = subprocess.run(
        [sys.executable, "-c", program],
        env={k: v for k, v in environment(tmp_path).items() if not k.startswith("COVERAGE")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "the database does not work: disk" in told_outside(full)
    assert ask(tmp_path, "migrate").stdout == f"The database is now at revision {schema.head()}.\n"


def test_a_database_server_that_is_away_is_one_line_without_the_password(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://vmtrak:a-real-pw@127.0.0.1:{services.free_port()}/vmtrak"
    line = told_inside(ask(tmp_path, "migrate", VMTRAK_DATABASE_URL=url))
    assert "Connection refused" in line
    assert "a-real-pw" not in line
    examined = ask(tmp_path, "doctor", VMTRAK_DATABASE_URL=url)
    assert examined.exit_code == 1
    assert "MEND  database: PostgreSQL does not answer" in examined.stdout
    assert "a-real-pw" not in examined.output


def test_the_doctor_finds_a_new_and_a_used_folder_well(tmp_path: Path) -> None:
    before = ask(tmp_path, "doctor")
    assert before.exit_code == 0, before.stdout
    assert ask(tmp_path, "migrate").exit_code == 0
    (tmp_path / "secret-key").write_text("0123456789abcdefghijklmnopqrstuvwxyz")
    (tmp_path / "secret-key").chmod(0o600)
    after = ask(tmp_path, "doctor")
    assert after.exit_code == 0
    assert "SQLite at revision" in after.stdout
    assert "no administrator yet" in after.stdout
    assert {line[:6] for line in (before.stdout + after.stdout).splitlines()} == {"ok    "}
    (tmp_path / "secret-key").chmod(0o644)
    readable = ask(tmp_path, "doctor", VMTRAK_BASE_URL="http://vm.example.org")
    assert readable.exit_code == 1
    to_mend = [line for line in readable.stdout.splitlines() if line.startswith("MEND  ")]
    assert [line.split()[1] for line in to_mend] == ["secret", "address:"]
    assert "0123456789" not in readable.stdout


def test_the_doctor_notices_a_damaged_file(tmp_path: Path) -> None:
    assert ask(tmp_path, "migrate").exit_code == 0
    file = tmp_path / "inventory.db"
    content = bytearray(file.read_bytes())
    third = len(content) // 3 // 4096 * 4096
    content[third : third + 8192] = b"\xff" * 8192
    file.write_bytes(content)
    examined = ask(tmp_path, "doctor")
    assert examined.exit_code == 1
    [line] = [line for line in examined.stdout.splitlines() if line.startswith("MEND  ")]
    assert "damaged" in line


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        (".", "data folder"),
        ("inventory.db", "database files"),
        ("queue.db", "database files"),
        ("secret-key", "secret key"),
        ("credential-keys", "key ring"),
    ],
)
@pytest.mark.parametrize("mode", [0o040, 0o004, 0o022])
def test_the_doctor_names_what_others_can_read_and_the_mode_that_mends_it(
    tmp_path: Path, name: str, subject: str, mode: int
) -> None:
    assert ask(tmp_path, "migrate").exit_code == 0
    (tmp_path / "secret-key").write_text("0123456789abcdefghijklmnopqrstuvwxyz")
    key = base64.b64encode(bytes(range(32))).decode()
    (tmp_path / "credential-keys").write_text(f"first:{key}")
    for file in ("queue.db", "secret-key", "credential-keys"):
        (tmp_path / file).touch()
        (tmp_path / file).chmod(0o600)
    assert ask(tmp_path, "doctor").exit_code == 0
    path = tmp_path / name
    path.chmod(path.stat().st_mode | mode)
    examined = ask(tmp_path, "doctor")
    assert examined.exit_code == 1
    [line] = [line for line in examined.stdout.splitlines() if line.startswith("MEND  ")]
    assert line.startswith(f"MEND  {subject}: others can ")
    assert f" {path}; chmod " in line
    path.chmod(int(line.split()[-3], 8))
    assert ask(tmp_path, "doctor").exit_code == 0
