"""What a provider in trouble answers instead of the right response."""

from collections.abc import AsyncIterator

import anyio
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from tests.oidc.provider import Trouble


def status(code: int) -> Trouble:
    async def trouble(_request: Request, _right: Response) -> Response:
        return Response("Internal Server Error", code, media_type="text/html")

    return trouble


def body(content: bytes, media_type: str = "application/json") -> Trouble:
    async def trouble(_request: Request, _right: Response) -> Response:
        return Response(content, media_type=media_type)

    return trouble


async def hang(request: Request, right: Response) -> Response:
    """Say nothing until the client has gone."""
    while not await request.is_disconnected():  # noqa: ASYNC110 - Starlette has no event for it
        await anyio.sleep(0.02)
    return right


async def drip(request: Request, _right: Response) -> Response:
    """One byte at a time without end, so that no single read takes long."""

    async def drops() -> AsyncIterator[bytes]:
        while not await request.is_disconnected():
            yield b" "
            await anyio.sleep(0.1)

    return StreamingResponse(drops(), media_type="application/json")


async def flood(request: Request, _right: Response) -> Response:
    """A body without end."""

    async def waves() -> AsyncIterator[bytes]:
        while not await request.is_disconnected():
            yield b" " * 65_536

    return StreamingResponse(waves(), media_type="application/json")


async def moved(_request: Request, _right: Response) -> Response:
    """A redirect to what is right, with another path."""
    return RedirectResponse("/moved", 302)
