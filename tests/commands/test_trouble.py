"""What goes wrong around the program is told in one line, and `vmtrak doctor` says what to mend."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import services
from tests.faults.running import PROGRAM, environment, run

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


def told(done: "subprocess.CompletedProcess[str]") -> str:
    """The one line that it printed, to standard error, on failing."""
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("vmtrak: ")
    return lines[0]


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A data folder into which nobody but root may write."""
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


def test_a_data_folder_that_cannot_be_written_to_is_one_line(closed: Path) -> None:
    assert "unable to open database file" in told(as_an_ordinary_user(closed, "migrate"))
    assert f"{closed / 'logs'}: Permission denied" in told(as_an_ordinary_user(closed, "serve"))
    examined = as_an_ordinary_user(closed, "doctor")
    assert examined.returncode == 1
    assert f"MEND  data folder: {closed} cannot be written to by this user" in examined.stdout
    assert "Traceback" not in examined.stderr


def test_a_database_that_cannot_be_written_to_is_one_line(tmp_path: Path) -> None:
    assert run(tmp_path, "migrate").returncode == 0
    file = tmp_path / "inventory.db"
    file.chmod(0o400)
    assert "readonly database" in told(as_an_ordinary_user(tmp_path, "migrate"))


def test_a_data_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.touch()
    assert str(file) in told(run(tmp_path, "migrate", VMTRAK_DATA_DIR=str(file)))
    examined = run(tmp_path, "doctor", VMTRAK_DATA_DIR=str(file / "deeper"))
    assert examined.returncode == 1
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
    assert "the database does not work: disk" in told(full)
    assert run(tmp_path, "migrate").stdout == "The database is now at revision 0001.\n"


def test_a_database_server_that_is_away_is_one_line_without_the_password(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://vmtrak:a-real-pw@127.0.0.1:{services.free_port()}/vmtrak"
    line = told(run(tmp_path, "migrate", VMTRAK_DATABASE_URL=url))
    assert "Connection refused" in line
    assert "a-real-pw" not in line
    examined = run(tmp_path, "doctor", VMTRAK_DATABASE_URL=url)
    assert examined.returncode == 1
    assert "MEND  database: PostgreSQL does not answer" in examined.stdout
    assert "a-real-pw" not in examined.stdout + examined.stderr


def test_the_doctor_finds_a_new_and_a_used_folder_well(tmp_path: Path) -> None:
    before = run(tmp_path, "doctor")
    assert before.returncode == 0, before.stdout
    assert run(tmp_path, "migrate").returncode == 0
    (tmp_path / "secret-key").write_text("0123456789abcdefghijklmnopqrstuvwxyz")
    (tmp_path / "secret-key").chmod(0o600)
    after = run(tmp_path, "doctor")
    assert after.returncode == 0
    assert "SQLite at revision" in after.stdout
    assert "no user yet" in after.stdout
    assert {line[:6] for line in (before.stdout + after.stdout).splitlines()} == {"ok    "}
    (tmp_path / "secret-key").chmod(0o644)
    readable = run(tmp_path, "doctor", VMTRAK_BASE_URL="http://vm.example.org")
    assert readable.returncode == 1
    to_mend = [line for line in readable.stdout.splitlines() if line.startswith("MEND  ")]
    assert [line.split()[1] for line in to_mend] == ["secret", "address:"]
    assert "0123456789" not in readable.stdout
