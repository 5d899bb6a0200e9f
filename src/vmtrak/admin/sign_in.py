"""Pages before and around being signed in: sign-in, set-up, one-time links, sign-out."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vmtrak.access import Actor
from vmtrak.accounts import (
    FirstAdmin,
    NewPassword,
    Setup,
    SignIn,
    links,
    sessions,
    tickets,
    users,
)
from vmtrak.admin.base import Field, Panel, Typed, filled, posted, redirect
from vmtrak.errors import (
    CodeRequired,
    Conflict,
    Forbidden,
    Invalid,
    NotAuthenticated,
    NotFound,
    TooMany,
    VmtrakError,
)
from vmtrak.fields import parse
from vmtrak.web import cookies, sign_in
from vmtrak.web.errors import extra_headers, for_scripts, status_of
from vmtrak.web.guard import SAFE
from vmtrak.web.sign_in import Proven
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
        if "code" in form and "password" not in form:
            return await self._code(request, form["code"], target)
        try:
            proven = await sign_in.prove(self.state, request, parse(SignIn, form))
        except CodeRequired as error:
            if _in_place(request):
                raise
            return await self._code_page(request, target, ticket=error.ticket)
        except (Invalid, NotAuthenticated, TooMany) as error:
            return await self._refused(request, form, target, error)
        return await self._finish(request, proven, target)

    async def _code(self, request: Request, code: str, target: str) -> Response:
        """The second page of a sign-in with a second factor."""
        holder = await sign_in.holder(self.state, request)
        if holder is None:
            response = await self._login_page(
                request, {"next": target, "error": sign_in.TOO_LATE}, 401
            )
            cookies.clear_code(response, self.state)
            return response
        try:
            proven = await sign_in.prove_code(self.state, request, holder, code)
        except (NotAuthenticated, TooMany) as error:
            return await self._code_page(request, target, error)
        response = await self._finish(request, proven, target)
        cookies.clear_code(response, self.state)
        return response

    async def _code_page(
        self,
        request: Request,
        target: str,
        error: VmtrakError | None = None,
        ticket: str | None = None,
    ) -> Response:
        context = {"title": "Enter your code", "next": target, "error": error and str(error)}
        status = status_of(error) if error else 200
        response = await self.panel.render(request, "code.html", context, status)
        response.headers.update(extra_headers(error) if error else {})
        if ticket:
            cookies.set_code(response, self.state, ticket)
        return response

    async def _finish(self, request: Request, proven: Proven, target: str) -> Response:
        token = await self.state.database.writing(
            self._signed_in, actor_of(request), proven, request.headers.get("user-agent")
        )
        response = Response(status_code=204) if _in_place(request) else redirect(target)
        cookies.set_panel(response, self.state, token)
        cookies.set_device(response, self.state, sign_in.device(self.state, proven))
        return response

    def _signed_in(self, visitor: Actor, proven: Proven, agent: str | None) -> str:
        with self.state.database.work(visitor) as work:
            sign_in.accepted(work, proven)
            return sessions.sign_in_panel(work, proven.user_id, agent)

    async def _refused(
        self, request: Request, form: dict[str, str], target: str, error: VmtrakError
    ) -> Response:
        """The sign-in page again, with what was typed but the password."""
        words = sessions.WRONG if isinstance(error, Invalid) else str(error)
        if _in_place(request):
            raise NotAuthenticated(words) if isinstance(error, Invalid) else error
        context = {"next": target, "username": form.get("username", "")[:128], "error": words}
        status = 429 if isinstance(error, TooMany) else 401
        response = await self._login_page(request, context, status)
        if isinstance(error, TooMany):
            response.headers.update(extra_headers(error))
        return response

    async def _login_page(
        self, request: Request, context: dict[str, Any], status: int = 200
    ) -> Response:
        oidc = self.state.oidc
        around = {
            "title": "Sign in",
            "error": None,
            "username": "",
            "provider": oidc.registration.name if oidc else None,
        }
        return await self.panel.render(request, "login.html", {**around, **context}, status)

    async def _start(
        self, request: Request, user_id: int, target: str, done: str | None = None
    ) -> Response:
        token = await self.state.database.writing(
            self._session, actor_of(request), user_id, request.headers.get("user-agent")
        )
        response = redirect(target, done)
        cookies.set_panel(response, self.state, token)
        return response

    def _session(self, visitor: Actor, user_id: int, agent: str | None) -> str:
        with self.state.database.work(visitor) as work:
            return sessions.sign_in_panel(work, user_id, agent)

    async def logout(self, request: Request) -> Response:
        actor = actor_of(request)
        if actor.session_id is not None:
            await self.state.database.writing(self._end, actor)
        over_provider = self.state.oidc is not None and actor.sign_in_method == "microsoft"
        target = "/admin/microsoft/signed-out" if over_provider else "/admin/login"
        response = redirect(target, "signed-out")
        cookies.clear_panel(response, self.state)
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
            user_id, ticket = await self.state.database.writing(
                self._set_up, request, form, first=first
            )
        except (Invalid, Conflict) as error:
            typed = _wrong(form, error)
            return await self._setup_page(
                request, "fields", _fields(*wanted), typed, token, status_of(error)
            )
        if ticket:
            return await self._code_page(request, sign_in.AFTER_SIGN_IN, ticket=ticket)
        return await self._start(request, user_id, sign_in.AFTER_SIGN_IN, "password")

    def _set_up(
        self, request: Request, form: dict[str, str], *, first: bool
    ) -> tuple[int, str | None]:
        """The user, and a ticket for the password if a code is owed beside it."""
        with self.state.database.work(actor_of(request)) as work:
            if first:
                return users.add_first(work, form["token"], parse(FirstAdmin, form)).id, None
            user = users.set_up(work, form["token"], parse(NewPassword, form))
        owed = user.has_second_factor
        ticket = tickets.issue(self.state.rules, user.id, user.password_hash or "")
        return user.id, ticket if owed else None

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
        cookies.set_panel(response, self.state, token)
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


def _in_place(request: Request) -> bool:
    """Whether a page's script signs in, which goes on by itself."""
    return for_scripts(request.url.path, request.headers.get("accept", ""))


def _wrong(form: dict[str, str], error: Invalid | Conflict) -> Typed:
    if isinstance(error, Invalid):
        return Typed(form, error.fields)
    return Typed(form, {error.field: [str(error)]} if error.field else {}, (str(error),))
