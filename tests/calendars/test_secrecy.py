"""The token stands in the address, and comes out of VMTrak's own hands nowhere."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, unquote

import httpx2
import pytest
from starlette.testclient import TestClient

from tests.calendars.conftest import made
from tests.conftest import SECRET_KEY, Person
from tests.faults.running import Server, access_token, serving
from vmtrak import logs, notices
from vmtrak.accounts.models import digest
from vmtrak.errors import Unavailable
from vmtrak.web.calendars import hide

BROKEN = "broken on purpose"

SHAPES = (
    "/calendar/{}.ics",
    "/calendar/{}",
    "/calendar/{}/",
    "/calendar//{}.ics",
    "/calendar/{}.ics?then=1",
    "/calendar/x/{}.ics",
    "/calendar/{}.ICS",
    "/calendar/{}.ics/more",
    "/admin/calendar/{}.ics",
    "/admin/vm/list?search={}",
    "//calendar/{}.ics",
    "/Calendar/{}.ics",
    "/%63alendar/{}.ics",
    "/api/calendar/{}.ics",
    "/{}",
    "/static/{}.ics",
)
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
    origin = str(client.base_url).rstrip("/")
    escaped = token.replace("_", "%5F", 1), token.replace("vmc_", "%2576mc_")
    for shape, spelled in [*product(SHAPES, [token]), *product(SHAPES[8:10], escaped)]:
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            for accept in ("text/html", "application/json", "*/*"):
                headers = {"Accept": accept, "Origin": origin}
                address = f"{origin}{shape.format(spelled)}"
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


TOKEN = "vmc_" + "aZ09-_x" * 6 + "y"


@pytest.mark.parametrize("cut", [0, 1, 11])
@pytest.mark.parametrize("times", [0, 1, 2, 3])
@pytest.mark.parametrize("where", ["/{}.ics", "/admin/calendar/{}", "/{0}/{0}", "/é/{}/%zz"])
def test_nothing_is_left_of_a_token_however_it_is_escaped_or_cut(
    where: str, times: int, cut: int
) -> None:
    token = TOKEN[: len(TOKEN) - cut]
    for _ in range(times):
        token = "".join(f"%{ord(one):02X}" for one in token) if "%" not in token else quote(token)
    sent = where.format(token).encode()
    scope = {"path": unquote(sent.decode()), "raw_path": sent, "query_string": b"search=" + sent}
    hide(scope)
    left = where.format(*"--").encode()
    assert scope == {
        "path": unquote(left.decode()),
        "raw_path": left,
        "query_string": b"search=" + left,
    }


def test_a_name_that_only_begins_like_a_token_is_left_alone() -> None:
    query = b"search=vmc_cluster-node-03.example.org&sort=vmc_name"
    scope = {"path": "/admin/vm/list", "raw_path": b"/admin/vm/list", "query_string": query}
    before = dict(scope)
    hide(scope)
    assert scope == before


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
