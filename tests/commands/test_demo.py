"""`vmtrak demo` leaves nothing behind, however it ends."""

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.faults.running import PROGRAM, START_SECONDS, STOP_SECONDS, environment

GREETING = re.compile(r"(http://\S+)/admin/link#(\S+)\n")


@contextmanager
def demo(folder: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """A demonstration whose temporary folder is within `folder`; killed at the end if need be."""
    (folder / "tmp").mkdir()
    process = subprocess.Popen(
        [PROGRAM, "demo", "--port", "0", *options],
        env={**environment(folder, TMPDIR=str(folder / "tmp")), "PYTHONUNBUFFERED": "1"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def left(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path != folder / "tmp"]


def test_the_check_starts_looks_and_leaves_nothing(tmp_path: Path) -> None:
    with demo(tmp_path, "--check") as process:
        output, errors = process.communicate(timeout=START_SECONDS)
    assert (process.returncode, output) == (0, "The demonstration works.\n"), errors
    assert "Traceback" not in errors
    assert left(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_while_it_fills_its_inventory_it_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    with demo(tmp_path) as process:
        deadline = time.monotonic() + START_SECONDS
        while not list(tmp_path.glob("tmp/*/data/inventory.db")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        output, errors = process.communicate(timeout=STOP_SECONDS)
    assert (process.returncode, output) == (0, "")
    assert "Traceback" not in errors
    assert left(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_its_link_signs_in_once_and_stopping_it_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    with demo(tmp_path) as process:
        assert process.stdout is not None
        greeting = iter(process.stdout)
        found = next(match for line in greeting if (match := GREETING.search(line)))
        address, form = found[1], {"token": found[2]}
        assert "leaves nothing behind" in [*map(str.strip, (next(greeting) for _ in range(3)))][2]
        with httpx2.Client(base_url=address, headers={"Origin": address}) as client:
            assert client.post("/admin/link", data=form).status_code == 303
            assert client.get("/admin/").status_code == 200
            assert client.post("/admin/link", data=form).status_code == 404
        process.send_signal(number)
        _, errors = process.communicate(timeout=STOP_SECONDS)
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert left(tmp_path) == []
