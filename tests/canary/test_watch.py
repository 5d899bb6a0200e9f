"""The watch over the whole test run bites: what leaks in any test is found at its end."""

import logging
from collections.abc import Callable, Iterator

import httpx2
import pytest
from loguru import logger
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.canaries import DISTINCT, canaries, watch
from tests.conftest import CANARY, anonymous_client
from vmtrak.credentials import CredentialPassword
from vmtrak.sealing import KEY_BYTES, KeyRing, Place

SECRET = f'{CANARY}"grün" & <weit>'
REVEALS = (
    "/api/vms/1/credentials/2/reveal",
    "/api/vms/1/credentials/2/versions/3/reveal",
    "/admin/credential/reveal/2",
    "/admin/credential/reveal/2/3",
)

Leaked = Callable[[], list[str]]


@pytest.fixture
def leaked() -> Iterator[Leaked]:
    """Gives, and takes away, what the watch has found, so that this test does not fail of it."""

    def found() -> list[str]:
        places, canaries.found = canaries.found, []
        return places

    yield found
    assert canaries.found == []


def answering(response: Response, *paths: str) -> Starlette:
    async def answer(request: Request) -> Response:
        await request.body()
        return response

    return Starlette(routes=[Route(path, answer, methods=["GET", "POST"]) for path in paths])


@pytest.mark.parametrize(
    "response",
    [
        PlainTextResponse(SECRET),
        JSONResponse({"detail": f"{SECRET} is too long"}),
        PlainTextResponse("kanarienvogel-&quot;gr&#252;n&quot;"),
    ],
)
def test_an_answer_that_holds_a_canary_is_found(leaked: Leaked, response: Response) -> None:
    anonymous_client(answering(response, "/api/vms")).get("/api/vms")
    assert leaked() == ["the body of GET /api/vms"]


def test_a_header_that_holds_a_canary_is_found_even_at_a_reveal(leaked: Leaked) -> None:
    response = PlainTextResponse(headers={"ETag": CANARY})
    anonymous_client(answering(response, *REVEALS)).get(REVEALS[0])
    assert leaked() == [f"the headers of GET {REVEALS[0]}"]


@pytest.mark.parametrize("path", REVEALS)
def test_a_reveal_may_answer_with_a_password(leaked: Leaked, path: str) -> None:
    response = anonymous_client(answering(PlainTextResponse(SECRET), *REVEALS)).post(path)
    assert response.text == SECRET
    assert leaked() == []


def test_a_password_without_the_prefix_is_known_once_it_was_sealed(leaked: Leaked) -> None:
    keys = KeyRing([("k", bytes(KEY_BYTES))])
    keys.seal("sesame, open up", Place(CredentialPassword.__tablename__, "sealed", "row/1"))
    anonymous_client(answering(PlainTextResponse("sesame, open up"), "/")).get("/")
    assert leaked() == ["the body of GET /"]


@pytest.mark.parametrize("form", [False, True])
def test_a_password_that_was_refused_is_known_as_well(leaked: Leaked, *, form: bool) -> None:
    path = "/admin/credential/create" if form else "/api/vms/1/credentials"
    app = answering(PlainTextResponse("not so: pröbe=12345"), path)
    body = {"username": "root", "password": "pröbe=12345"}
    client = anonymous_client(app)
    client.post(path, data=body) if form else client.post(path, json=body)
    assert leaked() == [f"the body of POST {path}"]


def test_a_body_in_parts_is_read_as_a_whole(leaked: Leaked) -> None:
    async def in_parts(_scope: Scope, _receive: Receive, send: Send) -> None:
        parts = [SECRET[:9].encode(), SECRET[9:].encode()]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part, more in zip(parts, (True, False), strict=True):
            message = {"type": "http.response.body", "body": part, "more_body": more}
            await send(message)

    app = Starlette()
    app.mount("/parts", in_parts)
    anonymous_client(app).get("/parts/")
    assert leaked() == ["the body of GET /parts/"]


def test_a_server_of_its_own_is_read_by_whoever_asks_it(leaked: Leaked) -> None:
    def told(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(500, text=SECRET)

    with httpx2.Client(transport=httpx2.MockTransport(told)) as client:
        client.get("http://127.0.0.1/api/vms")
    assert leaked() == ["the body of GET /api/vms"]


def test_events_of_both_logs_are_read_with_their_fields_and_their_tracebacks(
    leaked: Leaked,
) -> None:
    sink = logger.add(lambda _line: None)
    logger.info("it was {}", SECRET)
    logger.bind(password=SECRET).info("it was what the field says")
    try:
        int(SECRET)
    except ValueError:
        logger.exception("it is in the traceback")
    logger.remove(sink)
    logging.getLogger("sqlalchemy.engine").error("[parameters: %s]", (SECRET,))
    found = leaked()
    assert found[:3] == [f"a log: {__name__}"] * 3
    assert "a log: sqlalchemy.engine" in found[3:]  # and again, where a command has led it to ours


def test_what_is_too_short_to_be_told_from_chance_is_not_looked_for(leaked: Leaked) -> None:
    canaries.plant("1" * 500)
    canaries.plant("a" * (DISTINCT - 1))
    anonymous_client(answering(PlainTextResponse("1" * 600), "/")).get("/")
    assert leaked() == []


def test_the_end_of_a_test_that_leaked_fails() -> None:
    watched = watch()
    next(watched)
    canaries.look("the body of GET /", SECRET)
    with pytest.raises(pytest.fail.Exception, match="came out: the body of GET /"):
        next(watched)
    canaries.start()


def test_every_test_is_watched(request: pytest.FixtureRequest) -> None:
    assert {"watching", "no_password_comes_out"} <= set(request.fixturenames)
