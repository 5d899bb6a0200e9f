"""`vmtrak token add`, by which the person at the server gives a script its token."""

import json
from pathlib import Path

import pytest

from tests.conftest import anonymous_client
from tests.faults.running import ask
from vmtrak import app as application
from vmtrak.accounts import api_tokens
from vmtrak.settings import load

ROBOT = ("user", "add", "robot", "--email", "robot@vmtrak.example", "--role", "readwrite")
ADD = ("token", "add", "nightly report", "--user", "robot", "--scope", "inventory:read")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the database of an installation that has one user, `robot`."""
    added = ask(tmp_path, *ROBOT, "--password-stdin", given="a password that nobody has\n")
    assert added.exit_code == 0
    return tmp_path


def status(folder: Path, secret: str, method: str = "GET", address: str = "127.0.0.1") -> int:
    app = application.build(load({"VMTRAK_DATA_DIR": str(folder)}, None))
    try:
        client = anonymous_client(app)
        headers = {"Authorization": f"Bearer {secret}", "X-Forwarded-For": address}
        body = {"vm_name": "by-robot"} if method == "POST" else None
        return client.request(method, "/api/vms", headers=headers, json=body).status_code
    finally:
        app.state.vmtrak.database.close()


def test_the_token_is_all_that_is_printed_and_it_works(folder: Path) -> None:
    added = ask(folder, *ADD)
    assert (added.exit_code, added.stderr) == (0, "")
    secret = added.stdout.removesuffix("\n")
    assert api_tokens.is_genuine(secret)
    assert (status(folder, secret), status(folder, secret, "POST")) == (200, 403)


def test_scopes_and_networks_may_be_given_more_than_once(folder: Path) -> None:
    networks = ("--network", "192.0.2.0/24", "--network", "2001:db8::/32")
    added = ask(folder, *ADD, "--scope", "inventory:write", "--days", "365", *networks)
    secret = added.stdout.strip()
    for address in ("192.0.2.9", "2001:db8::9"):
        assert status(folder, secret, address=address) == 200
    assert status(folder, secret, "POST", "192.0.2.9") == 201
    assert status(folder, secret) == 403


def test_the_trail_tells_who_made_it_and_not_what_it_is(folder: Path) -> None:
    secret = ask(folder, *ADD).stdout.strip()
    log = (folder / "logs" / "audit.log").read_text()
    event = json.loads(log.splitlines()[-1])
    assert (event["action"], event["username"]) == ("token.create", "system")
    assert event["detail"]["username"] == "robot"
    assert secret not in log
    assert secret[4:-6] not in (folder / "logs" / "vmtrak.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--user", "nobody"), "There is no user 'nobody'."),
        (("--scope", "audit:read"), "the role readwrite does not cover audit:read"),
        (("--network", "example.org"), "'example.org' is no network"),
        (("--network", ""), "is no network"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    arguments: tuple[str, ...], words: str, folder: Path
) -> None:
    refused = ask(folder, *ADD, *arguments)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert words in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--scope", "everything"),
        ("--days", "0"),
        ("--days", "366"),
        ("--days", "soon"),
        ("--forever",),
    ],
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    refused = ask(tmp_path, *ADD, *arguments)
    assert (refused.exit_code, refused.stdout) == (2, "")


@pytest.mark.parametrize("missing", ["--user", "--scope"])
def test_user_and_scope_have_to_be_named(missing: str, tmp_path: Path) -> None:
    at = ADD.index(missing)
    refused = ask(tmp_path, *ADD[:at], *ADD[at + 2 :])
    assert refused.exit_code == 2
    assert missing in refused.stderr
