"""One's own account: who one is, the password, the sessions; and whether one is still signed in."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vmtrak.access import Actor, Permission
from vmtrak.accounts import PasswordChange, Subscription, User, calendar_feeds, sessions, users
from vmtrak.admin.base import Field, Panel, Typed, filled, posted, redirect
from vmtrak.errors import Conflict, Invalid, TooMany
from vmtrak.fields import parse
from vmtrak.web import cookies, inputs, own_password
from vmtrak.web.errors import extra_headers, problem, status_of
from vmtrak.web.state import State, actor_of, request_id_of

HOME = "/admin/account/"

METHODS = {"password": "password", "link": "one-time link", "microsoft": "provider"}


class AccountPages:
    """The pages about oneself, which need no view."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.state: State = panel.state

    def routes(self) -> list[Route]:
        return [
            Route("/session", self.session),
            Route("/account/", self.account),
            Route("/account/password", self.password, methods=["POST"]),
            Route("/account/notices", self.subscribe, methods=["POST"]),
            Route("/account/sessions/end", self.end, methods=["POST"]),
            Route("/account/sessions/end-all", self.end_others, methods=["POST"]),
        ]

    async def session(self, request: Request) -> Response:
        """204 while the person is signed in whose page asks (`person`), before it sends a form."""
        actor, person = actor_of(request), request.query_params.get("person")
        if person in {None, str(actor.user_id)}:
            return Response(status_code=204)
        message = f"In another tab {actor.username} has signed in."
        return problem(Conflict(message), request_id_of(request))

    async def account(self, request: Request) -> Response:
        return await self._page(request, Typed({}))

    async def _page(
        self, request: Request, typed: Typed, error: Exception | None = None
    ) -> Response:
        actor = actor_of(request)
        context = await self.state.database.reading(self._shown, actor)
        fields = filled([("", _password_fields())], typed)[0]["fields"]
        status = status_of(error) if error else 200
        response = await self.panel.render(
            request,
            "account.html",
            {"title": "Your account", "fields": fields, "errors": list(typed.top), **context},
            status,
        )
        response.headers.update(extra_headers(error) if error else {})
        return response

    def _shown(self, actor: Actor) -> dict[str, Any]:
        actor.require(Permission.ACCOUNT)
        with self.state.database.read() as session:
            user = session.get_one(User, actor.user_id)
            rows = sessions.of(session, actor, user.id)
            calendar = calendar_feeds.standing(session, actor)
        return {
            "user": users.shown(user),
            "mail_is_on": self.state.delivery.rules.mail_is_on,
            "sessions": [{**row, "method_label": METHODS[row["method"]]} for row in rows],
            "calendar": calendar,
            "others": sum(not row["current"] for row in rows),
        }

    async def password(self, request: Request) -> Response:
        form = await posted(request)
        try:
            change = parse(PasswordChange, form)
            actor = actor_of(request)
            token = await own_password.change(self.state, actor, change, sessions.renew_panel)
        except (Invalid, TooMany) as error:
            return await self._page(request, _refused(error), error)
        response = redirect(HOME, "password-changed")
        cookies.set_panel(response, self.state, token)
        return response

    async def subscribe(self, request: Request) -> Response:
        on = parse(Subscription, await posted(request)).notify_expiry
        await self.state.database.writing(self._subscribe, actor_of(request), on=on)
        return redirect(HOME, "subscribed" if on else "unsubscribed")

    def _subscribe(self, actor: Actor, *, on: bool) -> None:
        with self.state.database.work(actor) as work:
            users.subscribe(work, on=on)

    async def end(self, request: Request) -> Response:
        number = inputs.number((await posted(request)).get("id", ""))
        await self.state.database.writing(self._end, actor_of(request), number)
        return redirect(HOME, "session-ended")

    def _end(self, actor: Actor, number: int) -> None:
        with self.state.database.work(actor) as work:
            sessions.end(work, number)

    async def end_others(self, request: Request) -> Response:
        await self.state.database.writing(self._end_others, actor_of(request))
        return redirect(HOME, "sessions-ended")

    def _end_others(self, actor: Actor) -> None:
        with self.state.database.work(actor) as work:
            sessions.end_others(work)


def _password_fields() -> list[Field]:
    present = Field(
        "current_password",
        "Present password",
        "password",
        required=True,
        autocomplete="current-password",
    )
    new = Field(
        "new_password",
        "New password",
        "password",
        required=True,
        autocomplete="new-password",
        help="12 to 256 characters",
    )
    return [present, new]


def _refused(error: Invalid | TooMany) -> Typed:
    if isinstance(error, Invalid):
        return Typed({}, error.fields)
    return Typed({}, top=(str(error),))
