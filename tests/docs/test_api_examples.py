"""The examples of the REST page work, in their order, and answer what the page shows."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vmtrak.access import ROLES, Role
from vmtrak.api import ENDPOINTS
from vmtrak.api.base import Endpoint
from vmtrak.audit import Action
from vmtrak.inventory import Missing, Sort

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
PASSWORD = "correct horse battery staple"
START_SECONDS = 60
MARK = "=== end of a block ==="
MORE = "…"
VARYING = {
    "accessToken",
    "address",
    "at",
    "created_at",
    "day",
    "deleted_at",
    "expires_at",
    "expiry_date",
    "first_at",
    "finished_at",
    "hint",
    "last_at",
    "last_seen_at",
    "late",
    "next",
    "next_run_at",
    "password_changed_at",
    "proved_at",
    "recovery_codes",
    "request_id",
    "secret",
    "set_at",
    "started_at",
    "token",
    "updated_at",
    "uptime",
    "uri",
    "version",
}


def blocks() -> list[tuple[str, str | None]]:
    """Each command of the page with the answer shown below it, if there is one."""
    found = re.findall(r"^```(bash|json)\n(.+?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    pairs: list[tuple[str, str | None]] = []
    for kind, text in found:
        if kind == "bash":
            pairs.append((text, None))
        else:
            command, shown = pairs.pop()
            assert shown is None, f"two answers in a row: {text}"
            pairs.append((command, text))
    return pairs


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """The address of a new installation that has the administrator of the page."""
    port = free_port()
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("VMTRAK_")},
        "VMTRAK_DATA_DIR": str(folder / "data"),
        "VMTRAK_LOG_DIR": str(folder / "logs"),
        "VMTRAK_PORT": str(port),
        "VMTRAK_NOTICE_TIME": "23:59",  # so that the daily run does not come between
    }
    vmtrak = str(Path(sys.executable).with_name("vmtrak"))
    add = [vmtrak, "user", "add", "ada", "--email", "ada@example.org", "--role", "admin"]
    add.append("--password-stdin")
    subprocess.run(add, input=f"{PASSWORD}\n", text=True, env=environ, cwd=folder, check=True)
    with serving([vmtrak, "serve"], environ, folder):
        address = f"http://127.0.0.1:{port}"
        wait_for(address)
        yield address


@contextmanager
def serving(command: list[str], environ: dict[str, str], folder: Path) -> Iterator[None]:
    with (folder / "out").open("w") as out:
        process = subprocess.Popen(command, env=environ, cwd=folder, stdout=out, stderr=out)
        try:
            yield
        finally:
            process.terminate()
            assert process.wait(START_SECONDS) == 0


def wait_for(address: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{address}/api/health", timeout=5).close()  # noqa: S310 - ours
        except OSError:
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="module")
def answers(server: str, folder: Path) -> list[str]:
    """What each block wrote, from one run of them all."""
    bash = shutil.which("bash")
    assert bash, "the examples are for bash"
    script = "".join(f"{command}\necho\necho '{MARK}'\n" for command, _ in blocks())
    done = subprocess.run(
        [bash, "-euo", "pipefail", "-c", script],
        env={"PATH": os.environ["PATH"], "VMTRAK": server, "NO_PROXY": "127.0.0.1"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr
    return done.stdout.split(MARK)[:-1]


def differences(shown: Any, given: Any, at: str = "") -> list[str]:
    """Where an answer is not what the page shows; values that vary count by their kind."""
    name = at.rpartition(".")[2]
    if isinstance(shown, dict) and isinstance(given, dict):
        names = shown.keys() - {MORE}
        unlike = [f"{at}: lacks {n}" for n in sorted(names - given.keys())]
        if MORE not in shown:
            unlike += [f"{at}: does not show {n}" for n in sorted(given.keys() - names)]
        both = sorted(names & given.keys())
        return unlike + [d for n in both for d in differences(shown[n], given[n], f"{at}.{n}")]
    if isinstance(shown, list) and isinstance(given, list) and len(shown) == len(given):
        pairs = enumerate(zip(shown, given, strict=True))
        return [d for n, (one, other) in pairs for d in differences(one, other, f"{at}[{n}]")]
    alike = type(shown) is type(given) if name in VARYING else shown == given
    return [] if alike else [f"{at}: shown {shown!r}, given {given!r}"]


def test_the_examples_answer_what_the_page_shows(answers: list[str]) -> None:
    unlike = {
        command: found
        for (command, shown), given in zip(blocks(), answers, strict=True)
        if shown and (found := differences(json.loads(shown), json.loads(given)))
    }
    assert unlike == {}


def test_a_difference_would_be_noticed() -> None:
    assert differences({"a": 1, "next": "x"}, {"a": 1, "next": "y"}) == []
    assert differences({"a": [1, 2]}, {"a": [1]}) == [".a: shown [1, 2], given [1]"]
    assert differences({"a": 1}, {"a": 1, "b": 2}) == [": does not show b"]
    assert differences({"a": 1, MORE: MORE}, {"a": 1, "b": 2}) == []
    assert differences({"a": None, "next": "x"}, {"next": None}) == [
        ": lacks a",
        ".next: shown 'x', given None",
    ]


def who(endpoint: Endpoint) -> str:
    if endpoint.open:
        return "anyone"
    may = [role.value for role in Role if endpoint.needs <= ROLES[role]]
    return "every role" if len(may) == len(Role) else ", ".join(may)


def test_the_table_of_endpoints_is_the_programs_own() -> None:
    rows = re.findall(r"^\| `([A-Z]+ /api\S+)` \| (.+) \|$", PAGE, re.MULTILINE)
    expected = {f"{one.method} /api{one.path}": who(one) for one in ENDPOINTS}
    assert len(rows) == len(expected)
    assert dict(rows) == expected


def test_the_page_names_every_action_and_every_sort() -> None:
    named = {word for code in re.findall(r"`([^`\n]+)`", PAGE) for word in code.split(", ")}
    assert {action.value for action in Action} <= named
    assert {sort.value for sort in Sort} <= named
    assert {one.value for one in Missing} <= named
