"""Pages before and around being signed in: sign-in, set-up, one-time links, sign-out."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vmtrak.access import Actor
from vmtrak.accounts import FirstAdmin, NewPassword, Setup, SignIn, links, sessions, users
from vmtrak.admin.base import Field, Panel, Typed, filled, posted, redirect
from vmtrak.errors import Conflict, Forbidden, Invalid, NotAuthenticated, NotFound
from vmtrak.fields import parse
from vmtrak.web import sign_in
from vmtrak.web.errors import status_of
from vmtrak.web.guard import SAFE
from vmtrak.web.state import State, actor_of

_USERNAME = ("username", "User name", "text", "username")
_EMAIL = ("email", "E-mail", "email", "email")
_PASSWORD = ("password", "New password", "password", "new-password")


def _fields(*wanted: tuple[str, str, str, str]) -> list[Field]:
    return [
        Field(
            name,
            label,
            kind,
            required=True,
            autocomplete=autocomplete,
            help="12 to 256 characters" if kind == "password" else None,
        )
        for name, label, kind, autocomplete in wanted
    ]


class SignInPages:
    """The pages that need no view, in the panel's templates."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.state: State = panel.state

    def routes(self) -> list[Route]:
        return [
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/logout", self.logout, methods=["POST"]),
            Route("/setup", self.setup, methods=["GET", "POST"]),
            Route("/link", self.link, methods=["GET", "POST"]),
            Route("/complete-setup", self.complete_setup, methods=["GET", "POST"]),
        ]

    async def login(self, request: Request) -> Response:
        target = sign_in.own_path(request.query_params.get("next"))
        if request.method in SAFE:
            if actor_of(request).user_id is not None:
                return redirect(target)
            return await self._login_page(request, {"next": target})
        form = await posted(request)
        target = sign_in.own_path(form.get("next"))
        try:
            user_id = await sign_in.prove(self.state, request, parse(SignIn, form))
        except (Invalid, NotAuthenticated) as error:
            words = sessions.WRONG if isinstance(error, Invalid) else str(error)
            context = {"next": target, "username": form.get("username", "")[:128], "error": words}
            return await self._login_page(request, context, 401)
        return await self._start(request, user_id, target)

    async def _login_page(
        self, request: Request, context: dict[str, Any], status: int = 200
    ) -> Response:
        around = {"title": "Sign in", "error": None, "username": ""}
        return await self.panel.render(request, "login.html", {**around, **context}, status)

    async def _start(
        self, request: Request, user_id: int, target: str, done: str | None = None
    ) -> Response:
        token = await self.state.database.writing(
            self._session, actor_of(request), user_id, request.headers.get("user-agent")
        )
        response = redirect(target, done)
        sign_in.set_panel_cookie(response, self.state, token)
        return response

    def _session(self, visitor: Actor, user_id: int, agent: str | None) -> str:
        with self.state.database.work(visitor) as work:
            return sessions.sign_in_panel(work, user_id, agent)

    async def logout(self, request: Request) -> Response:
        if actor_of(request).session_id is not None:
            await self.state.database.writing(self._end, actor_of(request))
        response = redirect("/admin/login", "signed-out")
        sign_in.clear_panel_cookie(response, self.state)
        return response

    def _end(self, actor: Actor) -> None:
        with self.state.database.work(actor) as work:
            sessions.sign_out(work)

    async def setup(self, request: Request) -> Response:
        """Set up the first administrator, or one's own account, over a one-time link.

        The token is in the address behind #, so the first page does not know it: it asks which
        kind of link this is by posting it without any field.
        """
        if request.method in SAFE:
            return await self._setup_page(request, "link", [], Typed({}))
        form = await posted(request)
        token = form.get("token", "").strip()
        purpose, username = await self.state.database.reading(
            links.find, self.state.database, token
        )
        if purpose not in {"first", "setup"}:
            raise NotFound(links.SPENT)
        first = purpose == "first"
        wanted = (_USERNAME, _EMAIL, _PASSWORD) if first else (_PASSWORD,)
        if username:
            form["username"] = username
        if "password" not in form:
            return await self._setup_page(request, "fields", _fields(*wanted), Typed(form), token)
        try:
            user_id = await self.state.database.writing(self._set_up, request, form, first=first)
        except (Invalid, Conflict) as error:
            typed = _wrong(form, error)
            return await self._setup_page(
                request, "fields", _fields(*wanted), typed, token, status_of(error)
            )
        return await self._start(request, user_id, sign_in.AFTER_SIGN_IN, "password")

    def _set_up(self, request: Request, form: dict[str, str], *, first: bool) -> int:
        with self.state.database.work(actor_of(request)) as work:
            if first:
                return users.add_first(work, form["token"], parse(FirstAdmin, form)).id
            return users.set_up(work, form["token"], parse(NewPassword, form)).id

    async def _setup_page(  # noqa: PLR0913, PLR0917 - the parts of the page
        self,
        request: Request,
        step: str,
        fields: list[Field],
        typed: Typed,
        token: str = "",
        status: int = 200,
    ) -> Response:
        context = {
            "title": "Set up your account",
            "state": step,
            "token": token,
            "username": typed.values.get("username") if len(fields) == 1 else None,
            "fields": filled([("", fields)], typed)[0]["fields"],
            "errors": list(typed.top),
        }
        return await self.panel.render(request, "setup.html", context, status)

    async def link(self, request: Request) -> Response:
        """Sign in over a one-time link. The GET changes nothing; its page posts the token."""
        if request.method in SAFE:
            return await self.panel.render(
                request, "sign_in_link.html", {"title": "Sign in", "errors": []}
            )
        form = await posted(request)
        token = await self.state.database.writing(
            self._by_link,
            actor_of(request),
            form.get("token", ""),
            request.headers.get("user-agent"),
        )
        response = redirect(sign_in.AFTER_SIGN_IN)
        sign_in.set_panel_cookie(response, self.state, token)
        return response

    def _by_link(self, visitor: Actor, token: str, agent: str | None) -> str:
        with self.state.database.work(visitor) as work:
            return sessions.sign_in_by_link(work, token, agent)

    async def complete_setup(self, request: Request) -> Response:
        """Change e-mail address and password before anything else works."""
        actor = actor_of(request)
        if not actor.must_change_password:
            raise Forbidden
        if request.method in SAFE:
            return await self._password_page(request, Typed({"email": actor.email}))
        form = await posted(request)
        try:
            await self.state.database.writing(self._complete, actor, form)
        except (Invalid, Conflict) as error:
            return await self._password_page(request, _wrong(form, error), status_of(error))
        return redirect(sign_in.AFTER_SIGN_IN, "password")

    def _complete(self, actor: Actor, form: dict[str, str]) -> None:
        with self.state.database.work(actor) as work:
            users.complete_setup(work, parse(Setup, form))

    async def _password_page(self, request: Request, typed: Typed, status: int = 200) -> Response:
        fields = filled([("", _fields(_EMAIL, _PASSWORD))], typed)[0]["fields"]
        context = {"title": "Set your password", "fields": fields, "errors": list(typed.top)}
        return await self.panel.render(request, "password.html", context, status)


def _wrong(form: dict[str, str], error: Invalid | Conflict) -> Typed:
    if isinstance(error, Invalid):
        return Typed(form, error.fields)
    return Typed(form, {error.field: [str(error)]} if error.field else {}, (str(error),))
