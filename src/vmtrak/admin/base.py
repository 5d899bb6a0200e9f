"""The seam to SQLAdmin: its mounting, menu of views and templates, without what is unsafe in it.

`Panel` keeps the addresses and takes the way from each to the template into its own hands:
parse, unit of work, operation, render. What decisions/0004 lists is thereby closed.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, cast
from urllib.parse import urlencode

from sqladmin import Admin, ModelView
from sqladmin.authentication import AuthenticationBackend
from sqladmin.authorization import AuthorizationBackend
from sqlalchemy.orm import sessionmaker
from starlette.applications import Starlette
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route

import vmtrak
from vmtrak import alerts
from vmtrak.access import Actor, Permission
from vmtrak.accounts import actors
from vmtrak.db import ReadSession, Seen, Work
from vmtrak.errors import (
    Conflict,
    Forbidden,
    Invalid,
    Malformed,
    NotAuthenticated,
    NotFound,
    Stale,
    StepUpRequired,
    Unavailable,
)
from vmtrak.fields import Input, parse
from vmtrak.web import inputs
from vmtrak.web.errors import extra_headers, status_of, words_of
from vmtrak.web.guard import SAFE
from vmtrak.web.state import State, actor_of, request_id_of

HERE = Path(__file__).parent
FLASH_COOKIE = "vmtrak_done"

DONE: Mapping[str, str] = {
    "created": "Added.",
    "saved": "Saved.",
    "unchanged": "Nothing was changed.",
    "extended": "Extended: the VM expires on {} now.",
    "removed": "Removed.",
    "trashed": "Moved to the trash.",
    "restored": "Brought back from the trash.",
    "purged": "Destroyed.",
    "deactivated": "The account is closed and its sessions have ended.",
    "activated": "The account is open again.",
    "revoked": "The token is revoked and no longer works.",
    "calendar-revoked": "The calendar address is revoked and no longer works.",
    "unlocked": "The account is open to attempts again.",
    "their-sessions-ended": "All sessions of the account have ended.",
    "tokens-revoked": "All API tokens of the account and its calendar address are revoked.",
    "factor-reset": "The second factor is gone; a password is enough until another is set up.",
    "signed-out": "You have signed out.",
    "password": "Your password is set.",
    "password-changed": "Your password is changed, and your other sessions have ended.",
    "factor-removed": "Your second factor is removed, and its recovery codes have ended.",
    "rotation-marked": "Marked for rotation: whoever may see credentials finds them as due.",
    "alert-read": "Marked as read.",
    "notices-run": "Today's notices are planned; what became of each stands here.",
    "notices-failed": "Not everything could be planned; the log tells why. What could stands here.",
    "notices-go-on": "Planning goes on, and the worker sends the rest.",
    "notices-none": "There is nothing new to tell anybody today.",
    "notice-again": "It was tried again; what came of it stands here.",
    "notices-again": "Messages being tried again: {}. What comes of each stands here.",
    "subscribed": "From now on you are told by mail of all VMs that you see.",
    "unsubscribed": "From now on you are told by mail of your own VMs only.",
    "proved": "That is you. Now go on with what you wanted to do.",
    "session-ended": "The session has ended.",
    "sessions-ended": "Your other sessions have ended.",
}
"""What a page says about the step before it. The cookie carries the key, and a date or a number."""


class Gate(AuthenticationBackend):
    """SQLAdmin's question whether somebody has signed in; the guard has found out already."""

    def __init__(self) -> None:
        self.middlewares = []

    async def authenticate(self, request: Request) -> bool:
        if actor_of(request).user_id is None:
            raise NotAuthenticated
        return True


class Deny(AuthorizationBackend):
    """SQLAdmin's question whether somebody may; it allows by default, this asks the actor."""

    def has_permission(
        self, request: Request, identity: str, action: str, obj: object = None
    ) -> bool:
        del action, obj
        view = VIEWS.get(identity)
        return view is not None and actor_of(request).may(view.read)


RETYPE = "Type it again: a password is never sent back into a page."

PROVE = "Show at /admin/account/prove, in another tab, that it is you; then send this again."

VIEWS: dict[str, type["View"]] = {}


@dataclass(slots=True)
class Field:
    """One field of a form, as `form.html` shows it.

    A `foreign` field holds what is not the person's own: password managers are to keep away, and
    a password can be made up. The trail does not tell the values of a `sealed` one, so the form
    itself carries what it `was`.
    """

    name: str
    label: str
    type: str = "text"
    required: bool = False
    maxlength: int | None = None
    options: list[dict[str, str]] = field(default_factory=list)
    help: str | None = None
    suggest: str | None = None
    mono: bool = False
    step: str | None = None
    min: str | None = None
    max: str | None = None
    autocomplete: str | None = None
    foreign: bool = False
    readonly: bool = False
    sealed: bool = False
    was: Any = ""
    value: Any = ""
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Typed:
    """What a person typed into a form and how it was refused, to show the form again."""

    values: Mapping[str, Any]
    errors: Mapping[str, list[str]] = field(default_factory=dict)
    top: tuple[str, ...] = ()
    revision: int | None = None
    conflict: dict[str, Any] | None = None


class View(ModelView):
    """A kind of row in the panel: declarations, and the operations that its forms call."""

    kind: ClassVar[str]
    noun: ClassVar[str]
    read: ClassVar[Permission]
    write: ClassVar[Permission | None] = None
    save_words: ClassVar[str] = "Save"
    needs_proof: ClassVar[bool] = False
    """Whether a new row takes a recent proof of identity."""
    new_input: ClassVar[type[Input] | None] = None
    patch_input: ClassVar[type[Input] | None] = None
    can_export = False
    can_import = False

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        VIEWS[cls.kind] = cls

    panel: "Panel"
    """Its own; SQLAdmin notes one on the class, where a second application takes its place."""

    @property
    def state(self) -> State:
        return self.panel.state

    def is_accessible(self, request: Request) -> bool:
        return actor_of(request).may(self.read)

    def may_write(self, actor: Actor) -> bool:
        return self.write is not None and actor.may(self.write)

    def table(self, actor: Actor, request: Request) -> dict[str, Any]:
        """The context of the list page. Runs in a database thread, as all of the following."""
        raise NotImplementedError

    def details_of(self, actor: Actor, number: int) -> dict[str, Any]:
        """The context of the details page; raises `NotFound`."""
        raise NotImplementedError

    def current(self, actor: Actor, number: int) -> dict[str, Any]:
        """The row's values for its form, with `revision`; raises `NotFound`."""
        raise NotImplementedError

    def sections(self, actor: Actor, *, new: bool) -> list[tuple[str, list[Field]]]:
        """The form's fields, section by section."""
        raise NotImplementedError

    def heading(self, values: Mapping[str, Any] | None) -> str:
        """The title of the form; None for a new row."""
        raise NotImplementedError

    def template(self, actor: Actor, request: Request) -> Mapping[str, Any]:
        """The values that a new row starts with: blank, or those of the row to duplicate."""
        source = request.query_params.get("from")
        return self.current(actor, inputs.number(source, "from")) if source else {}

    def origin(self, request: Request) -> str | None:  # noqa: ARG002 - most have none
        """The page that the form for a new row belongs to, if its address names one."""
        return None

    def translated(self, data: dict[str, Any]) -> dict[str, Any]:
        """Form values in the names of the input, where the two differ."""
        return data

    def changed_since(self, number: int, steps: int) -> list[dict[str, Any]]:
        """The last `steps` events of the row, for telling what somebody else changed."""
        raise NotImplementedError

    def insert(self, work: Work, new: Any) -> int:  # noqa: ANN401 - the view's own input
        raise NotImplementedError

    def update(self, work: Work, number: int, patch: Any, seen: int | None) -> bool:  # noqa: ANN401
        """Change the row; False if the form changed nothing."""
        raise NotImplementedError

    def delete(self, work: Work, number: int, seen: Seen) -> str:
        """Remove the row and name what was done, as a key of `DONE`.

        `seen` is the revision that the page showed which asks for it, None where it does not say.
        """
        raise NotImplementedError

    async def insert_model(self, request: Request, data: dict[str, Any]) -> int:
        """Parse, open a unit of work, call the operation; SQLAdmin would write by itself."""
        assert self.new_input is not None  # noqa: S101 - views without it have no form
        new = parse(self.new_input, data)
        return await self.state.database.writing(self._written, actor_of(request), self.insert, new)

    async def update_model(self, request: Request, pk: str, data: dict[str, Any]) -> bool:
        """As `insert_model`; raises `Stale` if the row is no longer the one the form showed."""
        assert self.patch_input is not None  # noqa: S101 - views without it have no form
        patch = parse(self.patch_input, data)
        seen = _revision(data.get("revision"))
        return await self.state.database.writing(
            self._written, actor_of(request), self.update, inputs.number(pk), patch, seen
        )

    async def delete_model(self, request: Request, pk: Any) -> Any:  # noqa: ANN401 - as SQLAdmin's
        return await self.delete_models(request, [inputs.number(pk)], None)

    async def delete_models(self, request: Request, numbers: list[int], seen: Seen) -> str:
        """Remove all of these rows or none; what was done, as a key of `DONE`."""
        actor = actor_of(request)
        done: str = await self.state.database.writing(
            self._written, actor, self._delete_each, numbers, seen
        )
        return done

    def _delete_each(self, work: Work, numbers: list[int], seen: Seen) -> str:
        return [self.delete(work, number, seen) for number in sorted(numbers)][-1]

    async def made(self, request: Request, number: int) -> Response | None:  # noqa: ARG002 - most need none
        """A page to show once after a row was added, instead of going on."""
        return None

    def _written(self, actor: Actor, operation: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401
        with self.state.database.work(actor) as work:
            return operation(work, *arguments)


def _revision(given: object) -> int | None:
    """The revision that a form showed; one that fits no row if it does not say."""
    text = str(given or "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1  # noqa: PLR2004


class Panel(Admin):
    """The admin panel."""

    def __init__(self, state: State, views: list[type[View]], home: Callable[..., Any]) -> None:
        self.state = state
        self.home = home
        super().__init__(
            Starlette(),
            session_maker=sessionmaker(state.database.engine, class_=ReadSession),
            base_url="/admin",
            title="VMTrak",
            templates_dir=str(HERE / "templates"),
            authentication_backend=Gate(),
            authorization_backend=Deny(),
        )
        self.templates.env.globals["static"] = _static_addresses()
        self.templates.env.trim_blocks = True
        self.templates.env.lstrip_blocks = True
        self.admin.router.routes = [
            Route("/", self.index, name="index"),
            Route("/{identity}/list", self.list, name="list"),
            Route("/{identity}/create", self.create, name="create", methods=["GET", "POST"]),
            Route("/{identity}/details/{pk}", self.details, name="details"),
            Route("/{identity}/edit/{pk}", self.edit, name="edit", methods=["GET", "POST"]),
            Route("/{identity}/delete", self.delete, name="delete", methods=["POST"]),
        ]
        for view in views:
            self.add_view(view)

    def add_view(self, view: Any) -> None:  # noqa: ANN401 - SQLAdmin's signature is narrower
        """Register a view under its own kind, which is what its addresses say."""
        view.identity = view.kind
        super().add_view(view)
        cast("View", self.views[-1]).panel = self

    def mount(self) -> Mount:
        """The routes without SQLAdmin's own error pages: errors go to the one place for them."""
        return Mount("/admin", app=self.admin.router, name="admin")

    async def index(self, request: Request) -> Response:
        context = await self.state.database.reading(self.home, self.state, actor_of(request))
        return await self.render(request, "dashboard.html", {"title": "Dashboard", **context})

    async def list(self, request: Request) -> Response:
        view = self._view(request)
        table = await self.state.database.reading(view.table, actor_of(request), request)
        context = {"title": table["title"], "table": table}
        return await self.render(request, f"{view.kind}_list.html", context)

    async def details(self, request: Request) -> Response:
        view, number = self._view(request), inputs.number(request.path_params["pk"])
        context = await self.state.database.reading(view.details_of, actor_of(request), number)
        return await self.render(request, f"{view.kind}_details.html", context)

    async def create(self, request: Request) -> Response:
        view, actor = self._view(request), actor_of(request)
        self._require_form(view, actor, view.new_input)
        if request.method in SAFE:
            if view.needs_proof and (proof := proof_first(actor, request.url.path)):
                return proof
            values = await self.state.database.reading(view.template, actor, request)
            return await self._form(request, view, None, Typed(values))
        form = await posted(request)
        try:
            if view.needs_proof:
                actors.require_proof(actor)
            data = await self.state.database.reading(view.translated, _plain(view, actor, form))
            number = await view.insert_model(request, data)
        except (Invalid, Conflict, StepUpRequired) as error:
            return await self._form(request, view, None, _refused(form, error), error)
        page = await view.made(request, number)
        return page or _after_saving(view, form, number, "created", request)

    async def edit(self, request: Request) -> Response:
        view, actor = self._view(request), actor_of(request)
        self._require_form(view, actor, view.patch_input)
        number = inputs.number(request.path_params["pk"])
        row = await self.state.database.reading(view.current, actor, number)
        if request.method in SAFE:
            return await self._form(request, view, number, Typed(row, revision=row["revision"]))
        form = await posted(request)
        new = form.get("save") == "new" and view.new_input is not None
        try:
            data = _plain(view, actor, form, edited=row)
            data = await self.state.database.reading(view.translated, data)
            if new:
                made = await view.insert_model(request, data)
                return _after_saving(view, form, made, "created", request)
            changed = await view.update_model(request, str(number), data)
        except Stale as error:
            typed = await self.state.database.reading(_overtaken, view, actor, number, form)
            return await self._form(request, view, number, typed, error)
        except (Invalid, Conflict) as error:
            typed = _refused(form, error, _revision(form.get("revision")))
            return await self._form(request, view, number, typed, error)
        return _after_saving(view, form, number, "saved" if changed else "unchanged", request)

    async def delete(self, request: Request) -> Response:
        view = self._view(request)
        if not view.may_write(actor_of(request)):
            raise Forbidden
        form = await read_form(request)
        numbers = form.getlist("pk")
        if not numbers:
            raise Invalid({"pk": ["is required"]})
        chosen = [inputs.number(str(number)) for number in dict.fromkeys(numbers)]
        seen = {_revision(form["revision"]) or -1} if "revision" in form else None
        done = await view.delete_models(request, chosen, seen)
        return redirect(f"/admin/{view.kind}/list", done)

    def _view(self, request: Request) -> View:
        """The view that the address names; `Forbidden` where the actor may not look."""
        view = cast("View", self._find_model_view(request.path_params["identity"]))
        actor_of(request).require(view.read)
        return view

    def _require_form(self, view: View, actor: Actor, wanted: type[Input] | None) -> None:
        if wanted is None:
            raise HTTPException(404)
        if not view.may_write(actor):
            raise Forbidden

    async def _form(
        self,
        request: Request,
        view: View,
        number: int | None,
        typed: Typed,
        error: Exception | None = None,
    ) -> Response:
        actor, new = actor_of(request), number is None
        heading = view.heading(None if new else typed.values)
        sections = view.sections(actor, new=new)
        form = {
            "action": _create_address(view, request)
            if new
            else f"/admin/{view.kind}/edit/{number}",
            "kind": view.kind,
            "heading": heading,
            "sections": filled(sections, typed),
            "errors": list(typed.top),
            "revision": typed.revision,
            "conflict": typed.conflict,
            "save": view.save_words,
            "prove": new and view.needs_proof,
            "goes_on": view.patch_input is not None,
            "save_as_new": not new and view.new_input is not None and view.save_as,
            "cancel_href": view.origin(request)
            or f"/admin/{view.kind}/" + ("list" if new else f"details/{number}"),
            "new": new,
        }
        status = status_of(error) if error else 200
        return await self.render(request, "form.html", {"title": heading, "form": form}, status)

    async def render(
        self, request: Request, name: str, context: Mapping[str, Any], status: int = 200
    ) -> Response:
        """A page with what every page needs around it."""
        actor = actor_of(request)
        done = _done_words(request.cookies.get(FLASH_COOKIE, ""))
        notes = [{"level": "success", "text": done}] if done else []
        around = {
            "person": actor if actor.user_id else None,
            "provider": self.state.oidc.registration.name if self.state.oidc else None,
            "menu": _menu(actor, request.url.path, await self._unread(actor)),
            "flash": notes,
            "version": vmtrak.__version__,
            "path": request.url.path,
        }
        response = await self.templates.TemplateResponse(
            request, name, {**around, **context}, status
        )
        if notes:
            response.delete_cookie(FLASH_COOKIE, path="/admin")
        return response

    async def _unread(self, actor: Actor) -> int:
        """How many alerts wait for the actor. A page that tells of trouble does without."""
        if not actor.may(Permission.USERS):
            return 0
        try:
            return await self.state.database.reading(self._count_unread, actor)
        except Unavailable:
            return 0

    def _count_unread(self, actor: Actor) -> int:
        with self.state.database.read() as session:
            return alerts.unread(session, actor)

    async def error_page(self, request: Request, error: Exception) -> Response:
        """An error as a page."""
        status = status_of(error)
        context = {
            "title": HEADINGS.get(status, "That did not work"),
            "status": status,
            "heading": HEADINGS.get(status, "That did not work"),
            "message": words_of(error),
            "request_id": request_id_of(request)
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR
            else None,
            "unsent": status == HTTPStatus.UNAUTHORIZED and request.method not in SAFE,
        }
        response = await self.render(request, "error.html", context, status)
        response.headers.update(extra_headers(error))
        return response


HEADINGS: Mapping[int, str] = {
    400: "That cannot be read",
    401: "Sign in first",
    403: "Not for your role",
    404: "Not found",
    405: "Not that way",
    409: "That collides",
    412: "Overtaken",
    413: "Too large",
    422: "That cannot be right",
    429: "Slow down",
    500: "Our fault",
    503: "In a moment",
}

ALERTS = "Alerts"

_MENU = (
    ("Dashboard", "/admin/", "dashboard", Permission.VM_READ),
    ("VMs", "/admin/vm/list", "vm", Permission.VM_READ),
    ("Hypervisors", "/admin/hypervisor/list", "hypervisor", Permission.HYPERVISOR_READ),
    ("Credentials", "/admin/credential/list", "lock", Permission.CREDENTIAL_READ),
    ("Trash", "/admin/trash/list", "trash", Permission.TRASH),
    ("API tokens", "/admin/token/list", "key", Permission.ACCOUNT),
    ("Users", "/admin/user/list", "user", Permission.USERS),
    ("Notices", "/admin/notice/list", "mail", Permission.USERS),
    (ALERTS, "/admin/alert/list", "bell", Permission.USERS),
    ("Audit trail", "/admin/audit/list", "audit", Permission.AUDIT_READ),
)


def _menu(actor: Actor, path: str, unread: int) -> list[dict[str, Any]]:
    return [
        {
            "label": label,
            "href": href,
            "icon": icon,
            "unread": unread if label == ALERTS else 0,
            "active": path == href
            or (href != "/admin/" and path.startswith(href.removesuffix("list"))),
        }
        for label, href, icon, permission in _MENU
        if actor.may(permission)
    ]


def proof_first(actor: Actor, back: str) -> Response | None:
    """The way to the page that asks for a proof of identity, if one is due, and from there back."""
    try:
        actors.require_proof(actor)
    except StepUpRequired:
        return redirect(f"/admin/account/prove?{urlencode({'next': back})}")
    return None


def _done_words(done: str) -> str | None:
    """What a page says for a key of `DONE`, behind which a full stop and its value may stand."""
    key, _, value = done.partition(".")
    try:
        return DONE[key].format(_done_value(value) if value else "")
    except (KeyError, ValueError):  # not from here
        return None


def _done_value(value: str) -> str:
    """A number of at most six digits, or a date; `ValueError` else."""
    if re.fullmatch("[0-9]{1,6}", value):
        return f"{int(value):,}"
    return date.fromisoformat(value).isoformat()


def redirect(address: str, done: str | None = None) -> Response:
    """Go on to a page, which says what was done: a key of `DONE`, and a value if it takes one."""
    response = RedirectResponse(address, 303)
    if done:
        response.set_cookie(
            FLASH_COOKIE, done, max_age=30, path="/admin", httponly=True, samesite="lax"
        )
    return response


def address(path: str, parameters: Mapping[str, Any]) -> str:
    kept = {name: value for name, value in parameters.items() if value not in (None, "")}
    return f"{path}?{urlencode(kept)}" if kept else path


def filled(sections: list[tuple[str, list[Field]]], typed: Typed) -> list[dict[str, Any]]:
    """The sections with what was typed and what is wrong with it."""
    for _, fields in sections:
        for one in fields:
            value = typed.values.get(one.name)
            if one.type == "choices":
                one.value = _ticked(one, typed.values)
            elif one.type == "checkbox":
                one.value = value in (True, "true", "on")
            elif one.type != "password":
                one.value = "" if value is None else f"{value}"
            elif value:
                one.help, one.required = RETYPE, True  # or a generated one would be lost
            one.was = typed.values.get(f"was.{one.name}", one.value)
            one.errors = list(typed.errors.get(one.name, []))
    return [{"title": title, "hint": None, "fields": fields} for title, fields in sections]


async def posted(request: Request) -> dict[str, str]:
    """A form's fields as text; `Invalid` for a file or for a field that is there twice."""
    return texts(await read_form(request))


async def read_form(request: Request) -> FormData:
    """The form that was posted. Raises `Malformed` for an encoding that no browser sends."""
    try:
        async with request.form() as form:
            for name, value in form.multi_items():
                f"{name}{value}".encode()
    except UnicodeError:
        raise Malformed from None
    return form


def texts(form: FormData) -> dict[str, str]:
    items = form.multi_items()
    names = [name for name, _ in items]
    wrong = {name for name, value in items if not isinstance(value, str) or names.count(name) > 1}
    if wrong:
        raise Invalid({name: ["must be given once, as text"] for name in sorted(wrong)})
    return {name: str(value) for name, value in items}


def _plain(
    view: View, actor: Actor, form: Mapping[str, str], edited: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The form's values by field; an unticked box says no, a blank password says nothing.

    Nor does a box that is as it was: it must not undo what follows from another field.
    """
    data: dict[str, Any] = {"revision": form.get("revision")}
    for _, fields in view.sections(actor, new=edited is None):
        for one in fields:
            if one.type == "choices":
                data[one.name] = _ticked(one, form)
            elif one.type == "checkbox":
                ticked = one.name in form
                if edited is None or ticked != edited[one.name]:
                    data[one.name] = ticked
            elif one.name in form and not (one.type == "password" and not form[one.name]):
                data[one.name] = form[one.name]
    return data


def _ticked(one: Field, form: Mapping[str, Any]) -> list[str]:
    """Which boxes of a group are ticked: each has a name of its own, a form's names are unique."""
    values = [option["value"] for option in one.options]
    return [value for value in values if f"{one.name}.{value}" in form]


def _refused(form: Mapping[str, str], error: Exception, revision: int | None = None) -> Typed:
    if isinstance(error, Invalid):
        fields = {_form_name(name): why for name, why in error.fields.items()}
    elif isinstance(error, Conflict) and error.field:
        fields = {error.field: [str(error)]}
    else:
        fields = {}
    words = PROVE if isinstance(error, StepUpRequired) else str(error)
    top = () if fields and "body" not in fields else (words,)
    return Typed(form, fields, top, revision)


def _overtaken(view: View, actor: Actor, number: int, form: Mapping[str, str]) -> Typed:
    """Somebody else was faster: what they changed, beside what this person typed.

    A field that this person left alone takes the other's value, so that saving anyway undoes
    nothing by accident.
    """
    row = view.current(actor, number)
    seen = _revision(form.get("revision")) or 0
    steps = row["revision"] - seen if 0 < seen < row["revision"] else 1
    events = view.changed_since(number, steps)
    if not events:
        raise NotFound
    fields = {one.name: one for _, group in view.sections(actor, new=False) for one in group}
    changes = {
        name: _compared(fields[name], form, row, *values)
        for name, values in _between(events).items()
        if name in fields
    }
    left = {name: row.get(name) for name, change in changes.items() if change["yours"] is None}
    typed = {**form, **left, **{f"was.{name}": row.get(name) for name in changes}}
    conflict = {
        "by": events[0]["username"],
        "at": events[0]["created_at"],
        "changes": list(changes.values()),
    }
    return Typed(typed, revision=row["revision"], conflict=conflict)


def _compared(
    one: Field, form: Mapping[str, str], row: Mapping[str, Any], was: str | None, theirs: str | None
) -> dict[str, Any]:
    """A field that somebody else changed; `yours` is None if this person left it alone."""
    said = _said(one, form)
    if one.type == "password":
        theirs, yours = "another one", "another one" if said else None
    else:
        if one.sealed:
            was, theirs = form.get(f"was.{one.name}", "").replace("\r\n", "\n"), row[one.name]
        yours = None if said == (was or None) else said or ""
    return {"label": one.label, "was": was, "theirs": theirs, "yours": yours}


def _between(events: list[dict[str, Any]]) -> dict[str, tuple[str | None, str | None]]:
    """By field, its value before the oldest of these events and after the newest, in words."""
    found: dict[str, tuple[str | None, str | None]] = {}
    for event in reversed(events):
        for change in event["changes"]:
            name = _form_name(change["name"])
            found[name] = (found.get(name, (change["from"],))[0], change["to"])
    return found


def _said(one: Field, form: Mapping[str, str]) -> str | None:
    """A form's value as an event would put it; None for an empty one."""
    if one.type == "checkbox":
        return "yes" if one.name in form else "no"
    return form.get(one.name, "").replace("\r\n", "\n").strip() or None


def _form_name(name: str) -> str:
    return "hypervisor" if name == "hypervisor_id" else name


def _after_saving(
    view: View, form: Mapping[str, str], number: int, done: str, request: Request
) -> Response:
    """Where the button that was pressed leads."""
    places = {
        "continue": f"/admin/{view.kind}/edit/{number}",
        "another": _create_address(view, request),
    }
    usual = view.origin(request) or f"/admin/{view.kind}/details/{number}"
    return redirect(places.get(form.get("save", ""), usual), done)


def _create_address(view: View, request: Request) -> str:
    kept = request.query_params if view.origin(request) else {}
    return address(f"/admin/{view.kind}/create", kept)


def _static_addresses() -> Callable[[str], str]:
    """Addresses of static files that change with their content, so that they may be kept."""
    known: dict[str, str] = {}

    def static(name: str) -> str:
        if name not in known:
            content = (HERE / "static" / name).read_bytes()
            known[name] = f"/static/{name}?v={hashlib.sha256(content).hexdigest()[:12]}"
        return known[name]

    return static
