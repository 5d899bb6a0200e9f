"""Who knows which passwords: the page of a person, the card of a credential, and the files."""

from typing import Any

from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vmtrak import credentials
from vmtrak.access import Actor, Permission
from vmtrak.accounts import users
from vmtrak.admin.base import Panel, redirect
from vmtrak.credentials import Which
from vmtrak.web import inputs, reports
from vmtrak.web.state import State, actor_of

MOST = 500
"""Rows on a person's page; the file has them all."""


def viewers(session: Session, actor: Actor, number: int) -> dict[str, Any]:
    """What `credential_viewers.html` shows, as `viewers`; raises `NotFound`."""
    return {
        "rows": credentials.viewers(session, actor, Which(number)),
        "csv_href": f"/admin/credential/viewers/{number}/csv",
        "linked": actor.may(Permission.USERS),
    }


def known(session: Session, actor: Actor, user_id: int) -> int | None:
    """How many present passwords a person knows; None for who may not learn that."""
    if not actor.may(Permission.CREDENTIAL_READ):
        return None
    return credentials.seen_count(session, actor, user_id)


class ReportPages:
    """The pages that no view has."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.state: State = panel.state

    def routes(self) -> list[Route]:
        return [
            Route("/user/seen/{pk}", self.seen),
            Route("/user/seen/{pk}/mark", self.mark, methods=["POST"]),
            Route("/user/seen/{pk}/csv", self.seen_file),
            Route("/credential/viewers/{pk}/csv", self.viewers_file),
        ]

    async def seen(self, request: Request) -> Response:
        context = await self.state.database.reading(self._seen, actor_of(request), _number(request))
        return await self.panel.render(request, "user_seen.html", context)

    def _seen(self, actor: Actor, number: int) -> dict[str, Any]:
        with self.state.database.read() as session:
            rows = credentials.seen_by(session, actor, self.state.vault.rules, number)
            user = users.get(session, actor, number)
        return {
            "title": f"Passwords known to {user['username']}",
            "user": user,
            "rows": rows[:MOST],
            "total": len(rows),
            "unmarked": sum(not row["rotation_marked"] for row in rows),
            "may_mark": credentials.may_write(actor),
            "is_self": number == actor.user_id,
        }

    async def mark(self, request: Request) -> Response:
        number = _number(request)
        await self.state.database.writing(self._mark, actor_of(request), number)
        return redirect(f"/admin/user/seen/{number}", "rotation-marked")

    def _mark(self, actor: Actor, number: int) -> None:
        with self.state.database.work(actor) as work:
            credentials.mark_seen(work, number)

    async def seen_file(self, request: Request) -> Response:
        return await self.state.database.reading(
            reports.seen_file, self.state, actor_of(request), _number(request), for_people=True
        )

    async def viewers_file(self, request: Request) -> Response:
        which = Which(_number(request))
        return await self.state.database.reading(
            reports.viewers_file, self.state, actor_of(request), which, for_people=True
        )


def _number(request: Request) -> int:
    return inputs.number(request.path_params["pk"])
