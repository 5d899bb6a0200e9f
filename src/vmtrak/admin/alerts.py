"""Alerts to administrators in the panel."""

from collections.abc import Callable
from typing import Any, ClassVar

from sqladmin import expose
from starlette.requests import Request
from starlette.responses import Response

from vmtrak import alerts
from vmtrak.access import Actor, Permission
from vmtrak.admin.base import View, redirect
from vmtrak.admin.tables import page_table
from vmtrak.alerts import Alert, AlertQuery
from vmtrak.errors import NotFound
from vmtrak.web import inputs
from vmtrak.web.state import actor_of


class AlertView(View, model=Alert):
    kind = "alert"
    noun = "alert"
    read = Permission.USERS
    columns: ClassVar = ()

    def table(self, actor: Actor, request: Request) -> dict[str, Any]:
        query = inputs.query(request, AlertQuery, blanks=False)
        with self.state.database.read() as session:
            page = alerts.page(session, actor, query)
            unread = alerts.unread(session, actor)
        return {**page_table(request, "alert", "Alerts", page), "unread": unread}

    def details_of(self, actor: Actor, number: int) -> dict[str, Any]:  # noqa: ARG002 - there is none
        raise NotFound

    @expose("/read/{pk}", methods=["POST"])
    async def read_one(self, request: Request) -> Response:
        number = inputs.number(request.path_params["pk"])
        return await self._done(request, alerts.read, number)

    @expose("/read-all", methods=["POST"])
    async def read_all(self, request: Request) -> Response:
        return await self._done(request, alerts.read_all)

    async def _done(
        self, request: Request, operation: Callable[..., object], *what: int
    ) -> Response:
        await self.state.database.writing(self._written, actor_of(request), operation, *what)
        return redirect("/admin/alert/list", "alert-read")
