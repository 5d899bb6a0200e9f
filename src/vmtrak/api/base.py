"""The seam to Starlette: an endpoint is a row of a table and a few lines of code.

The table says method, address, inputs, answers; routes and the OpenAPI document both come from
it, so that what is documented is what is parsed.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import orjson
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vmtrak.access import Actor, Permission
from vmtrak.db import Page, Seen
from vmtrak.errors import Invalid, Malformed
from vmtrak.fields import parse
from vmtrak.reachability import Target
from vmtrak.web import inputs
from vmtrak.web.state import State, actor_of

M = TypeVar("M", bound=BaseModel)


_ETAG = re.compile(r'"v([0-9]{1,18})"')

JSON_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the API: who, with what, and what is needed to answer."""

    state: State
    request: Request
    actor: Actor
    body: bytes

    def number(self, name: str = "id") -> int:
        """An identifier from the address; raises `Invalid` for what can be none."""
        return inputs.number(self.request.path_params[name], name)

    def query(self, model: type[M]) -> M:
        return inputs.query(self.request, model)

    def json(self, model: type[M]) -> M:
        """The body as an input. Raises `Malformed` for no JSON, `Invalid` for wrong fields."""
        kind = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise HTTPException(415)
        try:
            data = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            message = "The body is not JSON."
            raise Malformed(message) from None
        if not isinstance(data, Mapping):
            raise Invalid({"body": ["must be an object"]})
        return parse(model, data)

    def seen(self) -> Seen:
        """The revisions that `If-Match` allows; None without it. A foreign tag fits no row."""
        given = self.request.headers.get("if-match")
        if given is None or given.strip() == "*":
            return None
        found = (_ETAG.fullmatch(tag.strip()) for tag in given.split(","))
        return {int(tag[1]) for tag in found if tag}


def etag(revision: int) -> str:
    return f'"v{revision}"'


def answer(
    content: Any,  # noqa: ANN401 - whatever JSON can say
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    return Response(
        orjson.dumps(content, option=JSON_OPTIONS), status, headers, media_type="application/json"
    )


def page_answer(page: Page) -> dict[str, Any]:
    """A page of rows as the contract's list."""
    return {
        "data": page.rows,
        "total": page.total,
        "page": page.page,
        "limit": page.limit,
        "next": page.next,
    }


async def probed(
    call: "Call", targets: Callable[[Session, Actor, Collection[int]], list[Target]]
) -> Response:
    """Probe what the person sees of the numbers asked for; the others are not in the answer."""
    numbers = call.query(inputs.Ids).numbers()

    def seen() -> list[Target]:
        with call.state.database.read() as session:
            return targets(session, call.actor, numbers)

    found = await call.state.prober.probe(await call.state.database.reading(seen))
    return answer({str(key): value for key, value in found.items()})


def always(_call: "Call") -> bool:
    return True


Run = Callable[[Call], Response]
RunAsync = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of the table. A plain `run` works in a database thread, an async one on the loop.

    `pages` are the statuses that come as pages, for a browser.
    `quick` tells which reads are so short that on SQLite they are done on the event loop as well.
    `also` is what the actor needs besides `permission`.
    `writes` is for a GET that leaves a trace: it works in a writers' thread, and there is no HEAD.
    `body_optional` lets a request come without a body. `media` is the type of the answer.
    """

    method: str
    path: str
    summary: str
    answers: type[BaseModel] | Any
    run: Run | RunAsync
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    status: int = 200
    errors: tuple[int, ...] = ()
    permission: Permission | None = None
    also: tuple[Permission, ...] = ()
    writes: bool = False
    body_optional: bool = False
    media: str = "application/json"
    open: bool = False
    quick: Callable[[Call], bool] | None = None
    etag: bool = False
    pages: tuple[int, ...] = ()
    tag: str = field(default="")

    @property
    def needs(self) -> frozenset[Permission]:
        """All that the actor must hold."""
        return frozenset(self.also) | ({self.permission} if self.permission else set())


def routes(state: State, endpoints: Sequence[Endpoint]) -> list[Route]:
    """One route per address, so that a wrong method is answered with all that are right."""
    paths: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    return [_route(state, path, methods) for path, methods in paths.items()]


def _route(state: State, path: str, endpoints: Mapping[str, Endpoint]) -> Route:
    route = Route("/api" + path, _dispatch(state, endpoints), methods=list(endpoints))
    if "GET" in endpoints and endpoints["GET"].writes and route.methods:
        route.methods.discard("HEAD")  # which Starlette adds to every GET
    return route


def _dispatch(
    state: State, methods: Mapping[str, Endpoint]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        chosen = methods["GET" if request.method == "HEAD" else request.method]
        actor = actor_of(request)
        for permission in chosen.needs:
            actor.require(permission)
        body = b"" if chosen.method == "GET" else await request.body()
        call = Call(state, request, actor, body)
        return await _run(chosen, call)

    return endpoint


async def _run(endpoint: Endpoint, call: Call) -> Response:
    """Run the endpoint where it belongs: on the event loop, or on a thread to read or to write."""
    if inspect.iscoroutinefunction(endpoint.run):
        return await cast("RunAsync", endpoint.run)(call)
    run, database = cast("Run", endpoint.run), call.state.database
    if endpoint.method != "GET" or endpoint.writes:
        return await database.writing(run, call)
    if endpoint.quick is not None and database.sqlite and endpoint.quick(call):
        return run(call)
    return await database.reading(run, call)
