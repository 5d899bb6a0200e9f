"""The composition root: everything is wired here, and nothing else happens here."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from pathlib import Path

from loguru import logger
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import vmtrak.admin
import vmtrak.api
from vmtrak.accounts import SessionRules
from vmtrak.admin import Panel
from vmtrak.api import api_routes
from vmtrak.db import Database
from vmtrak.errors import Unavailable, VmtrakError
from vmtrak.reachability import Prober
from vmtrak.settings import Settings
from vmtrak.web.errors import problem
from vmtrak.web.guard import Guard
from vmtrak.web.state import State, request_id_of


def build(settings: Settings, *, probing: bool = True) -> Starlette:
    """The application on a database that has been migrated. Its life closes the database.

    Without `probing` no VM is ever connected to: invented addresses may be somebody's.
    """
    state = make_state(settings, probing=probing)
    panel = Panel(state)
    refuse = _refuse(panel)
    app = Starlette(
        routes=[
            Route("/", _to_panel),
            Route("/favicon.ico", _favicon),
            *api_routes(state),
            Mount("/static/swagger", _static(vmtrak.api.__file__)),
            Mount("/static", _static(vmtrak.admin.__file__)),
            panel.mount(),
        ],
        middleware=[Middleware(Guard, state=state, refuse=refuse)],
        exception_handlers={VmtrakError: refuse, HTTPException: refuse},
        lifespan=_life(state),
    )
    app.state.vmtrak = state
    return app


def make_state(settings: Settings, *, probing: bool = True) -> State:
    zone = settings.timezone
    return State(
        database=Database(settings.database_url),
        rules=SessionRules.of(
            settings.signing_key(), settings.access_token_minutes, settings.refresh_token_days
        ),
        prober=Prober(probing=probing),
        today=lambda: datetime.now(zone).date(),
        secure_cookies=settings.secure_cookies,
        base_url=settings.base_url,
    )


def _life(state: State) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def life(_app: Starlette) -> AsyncIterator[None]:
        async with state.presence.kept(state.database):
            yield
        state.database.close()

    return life


def _refuse(panel: Panel) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def refuse(request: Request, error: Exception) -> Response:
        if isinstance(error, Unavailable):  # its words send an administrator to the log
            logger.opt(exception=error).error("{} {} failed", request.method, request.url.path)
        if request.url.path.startswith("/api/"):
            return problem(error, request_id_of(request))
        return await panel.error_page(request, error)

    return refuse


def _static(module: str | None) -> StaticFiles:
    return StaticFiles(directory=Path(module or "").parent / "static")


async def _to_panel(_request: Request) -> Response:
    return RedirectResponse("/admin/", 307)


async def _favicon(_request: Request) -> Response:
    return RedirectResponse("/static/favicon.svg", 308)
