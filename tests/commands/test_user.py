"""`vmtrak user`, by which the person at the server gives and takes back access."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.conftest import BASE_URL, PASSWORD, anonymous_client
from tests.faults.running import ask
from vmtrak import app as application
from vmtrak.settings import load

BOB = ("user", "add", "bob", "--email", "bob@vmtrak.example", "--role", "readwrite")
LINK = re.compile(r"http://127\.0\.0\.1:3000/admin/setup#(\S+)\n")


@contextmanager
def visiting(folder: Path) -> Iterator[TestClient]:
    """A client of the application on the folder's database."""
    app = application.build(load({"VMTRAK_DATA_DIR": str(folder)}, None))
    try:
        yield anonymous_client(app)
    finally:
        app.state.vmtrak.database.close()


def audited(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "logs" / "audit.log").read_text().splitlines()]


def test_a_user_with_a_given_password_can_sign_in_at_once(tmp_path: Path) -> None:
    added = ask(tmp_path, *BOB, "--password-stdin", given=f"{PASSWORD}\n")
    assert (added.exit_code, added.stdout) == (0, "bob can sign in.\n")
    [event] = audited(tmp_path)
    assert (event["action"], event["username"]) == ("user.create", "system")
    assert PASSWORD not in json.dumps(event)
    with visiting(tmp_path) as client:
        attempt = {"username": "bob", "password": PASSWORD}
        answer = client.post("/api/auth/login", json=attempt)
        assert answer.status_code == 200
        assert answer.json()["user"]["must_change_password"] is False


def test_a_link_lets_a_new_user_and_one_who_was_reset_set_a_password(tmp_path: Path) -> None:
    added = ask(tmp_path, *BOB)
    assert added.exit_code == 0
    first = LINK.fullmatch(added.stdout)
    assert first is not None
    reset = ask(tmp_path, "user", "reset", "BOB")
    assert reset.exit_code == 0
    second = LINK.fullmatch(reset.stdout)
    assert second is not None
    with visiting(tmp_path) as client:
        client.headers["Origin"] = BASE_URL
        for token, status in ((first[1], 404), (second[1], 303), (second[1], 404)):
            form = {"token": token, "password": PASSWORD}
            assert client.post("/admin/setup", data=form).status_code == status
        attempt = {"username": "bob", "password": PASSWORD}
        assert client.post("/api/auth/login", json=attempt).status_code == 200
    actions = [event["action"] for event in audited(tmp_path)]
    assert actions == ["user.create", "user.password_reset"]


def test_what_is_wrong_is_told_in_one_line(tmp_path: Path) -> None:
    assert ask(tmp_path, *BOB).exit_code == 0
    again = {
        "Another user has this name already.": ("bob", "other@vmtrak.example"),
        "Another user has this e-mail address.": ("other", "BOB@vmtrak.example"),
        "email": ("other", "nobody"),
        "username": ("a\tb", "other@vmtrak.example"),
    }
    for words, (name, email) in again.items():
        refused = ask(tmp_path, "user", "add", name, "--email", email, "--role", "read")
        assert (refused.exit_code, refused.stdout) == (1, ""), words
        assert len(refused.stderr.splitlines()) == 1
        assert words in refused.stderr
    unknown = ask(tmp_path, "user", "reset", "nobody")
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert unknown.stderr == "vmtrak: There is no user 'nobody'.\n"


@pytest.mark.parametrize("given", ["short\n", "", "x" * 257])
def test_a_password_of_a_wrong_length_is_refused_and_not_repeated(
    tmp_path: Path, given: str
) -> None:
    refused = ask(tmp_path, *BOB, "--password-stdin", given=given)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == "vmtrak: password: must have 12 to 256 characters\n"
    assert list(tmp_path.iterdir()) == []
