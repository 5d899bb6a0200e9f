"""One's own calendar address: made on the page of the account, shown once, revoked."""

from enum import StrEnum

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vmtrak.access import Actor
from vmtrak.accounts import calendar_feeds
from vmtrak.admin.account import HOME
from vmtrak.admin.base import Panel, posted, proof_first, redirect
from vmtrak.fields import Input, parse
from vmtrak.web import calendars
from vmtrak.web.state import State, actor_of

MADE = "/admin/account/calendar/made"

COOKIE = "vmtrak_new_calendar"
"""Carries a new token over to the page that shows its address, and is gone then."""

COOKIE_SECONDS = 60


class Choice(StrEnum):
    OWNED = "owned"
    ALL = "all"


class Chosen(Input):
    """Which VMs are to stand in the calendar."""

    choice: Choice


class CalendarPages:
    """The forms of the calendar card, and the page that shows a new address."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.state: State = panel.state

    def routes(self) -> list[Route]:
        return [
            Route("/account/calendar", self.make, methods=["POST"]),
            Route("/account/calendar/made", self.made),
            Route("/account/calendar/revoke", self.revoke, methods=["POST"]),
        ]

    async def make(self, request: Request) -> Response:
        """Make an address and go on to the page that shows it.

        A page that answered the form itself would make another when it is loaded again.
        """
        actor = actor_of(request)
        if proof := proof_first(actor, HOME):
            return proof
        choice = parse(Chosen, await posted(request)).choice
        token = await self.state.database.writing(
            self._make, actor, owned_only=choice is Choice.OWNED
        )
        response = redirect(MADE)
        response.set_cookie(
            COOKIE,
            token,
            max_age=COOKIE_SECONDS,
            path=MADE,
            secure=self.state.secure_cookies,
            httponly=True,
            samesite="strict",
        )
        return response

    def _make(self, actor: Actor, *, owned_only: bool) -> str:
        with self.state.database.work(actor) as work:
            return calendar_feeds.make(work, owned_only=owned_only)[1]

    async def made(self, request: Request) -> Response:
        """Show a new address to who has just made it; from then on lead to the account."""
        token = request.cookies.get(COOKIE, "")
        if not await self.state.database.reading(self._is_new, actor_of(request), token):
            return redirect(HOME)
        context = {
            "title": "Your calendar address",
            "address": calendars.address(self.state.base_url, token),
        }
        response = await self.panel.render(request, "calendar_made.html", context)
        response.delete_cookie(
            COOKIE, path=MADE, secure=self.state.secure_cookies, httponly=True, samesite="strict"
        )
        return response

    def _is_new(self, actor: Actor, token: str) -> bool:
        with self.state.database.read() as session:
            return calendar_feeds.belongs(session, actor, token)

    async def revoke(self, request: Request) -> Response:
        await self.state.database.writing(self._revoke, actor_of(request))
        return redirect(HOME, "calendar-revoked")

    def _revoke(self, actor: Actor) -> None:
        with self.state.database.work(actor) as work:
            calendar_feeds.revoke(work)
