"""The token stands in the address, and comes out of VMTrak's own hands nowhere."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import httpx2
import pytest
from starlette.testclient import TestClient

from tests.calendars.conftest import made
from tests.conftest import SECRET_KEY, Person
from tests.faults.running import Server, access_token, serving
from vmtrak import logs, notices
from vmtrak.accounts.models import digest
from vmtrak.errors import Unavailable

BROKEN = "broken on purpose"

SHAPES = ("{}.ics", "{}", "{}/", "/{}.ics", "{}.ics?then=1", "x/{}.ics", "{}.ICS", "{}.ics/more")
"""How an address may be mistyped or cut; with each the token must not stay behind."""


def token_of(where: str) -> str:
    return where.rpartition("/")[2].removesuffix(".ics")


def holds(texts: list[str], token: str) -> bool:
    """Whether one of the texts has a fourth of the token, or of the hash that it is kept as."""
    parts = [secret[at : at + 12] for secret in (token, digest(token)) for at in (4, 16, 28)]
    return any(part in text for text in texts for part in parts)


def everything_below(folder: Path) -> list[str]:
    return [each.read_text(errors="replace") for each in folder.rglob("*") if each.is_file()]


def ask_in_every_way(client: TestClient | httpx2.Client, token: str) -> list[httpx2.Response]:
    answers: list[Any] = []
    for shape in SHAPES:
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            for accept in ("text/html", "application/json", "*/*"):
                headers = {"Accept": accept, "Origin": str(client.base_url)}
                address = f"/calendar/{shape.format(token)}"
                answers.append(client.request(method, address, headers=headers))
    return answers


def bug(*_arguments: Any, **_options: Any) -> NoReturn:
    raise RuntimeError(BROKEN)


def trouble(*_arguments: Any, **_options: Any) -> NoReturn:
    raise Unavailable


@pytest.mark.parametrize(("failure", "status"), [(None, 200), (bug, 500), (trouble, 503)])
def test_no_log_event_or_page_shows_it_whatever_happens(
    failure: Callable[..., NoReturn] | None,
    status: int,
    reader: Person,
    admin: Person,
    program: TestClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    token = token_of(made(reader))
    logs.configure(tmp_path / "own-logs", json=True, level="DEBUG")
    if failure:
        monkeypatch.setattr(notices.calendars, "of", failure)
    try:
        answers = ask_in_every_way(program, token)
    finally:
        logs.configure(None)
    assert status in {answer.status_code for answer in answers}
    told = [answer.text + repr(answer.headers) for answer in answers if not answer.is_success]
    assert len(told) > 10
    assert not holds(told, token)
    written = everything_below(tmp_path / "own-logs")
    assert any(" failed" in text for text in written) == (failure is not None)
    assert any(BROKEN in text for text in written) == (failure is bug)
    assert not holds([*written, *capfd.readouterr()], token)
    assert not holds([admin.api.get("/api/audit?limit=200").text], token)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_server_that_fails_writes_it_nowhere(database_url: str, tmp_path: Path) -> None:
    """The token goes over the wire; then a table is missing, which is a bug to the program."""
    with serving(tmp_path, VMTRAK_SECRET_KEY=SECRET_KEY) as server:
        token = new_token(server, database_url)
        with server.client() as client:
            assert client.get(f"/calendar/{token}.ics").status_code == 200
            break_table(tmp_path)
            answers = ask_in_every_way(client, token)
        assert server.stop() == 0
    assert 500 in {answer.status_code for answer in answers}
    assert not holds([answer.text for answer in answers], token)
    written = [server.errors, server.output, *everything_below(tmp_path / "logs")]
    assert any("GET /calendar/-.ics failed" in text for text in written)
    assert not holds(written, token)


def new_token(server: Server, database_url: str) -> str:
    with server.client(access_token(database_url, "reader")) as client:
        answer = client.post("/api/auth/calendar", json={})
        return token_of(answer.json()["address"])


def break_table(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "inventory.db")) as connection:
        connection.execute("ALTER TABLE calendar_feeds RENAME TO elsewhere")
        connection.commit()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_search_finds_a_token_that_was_written(reader: Person, tmp_path: Path) -> None:
    token = token_of(made(reader))
    for secret in (token, digest(token)):
        (tmp_path / "a.log").write_text(f"GET /calendar/{secret}.ics")
        assert holds(everything_below(tmp_path), token)
