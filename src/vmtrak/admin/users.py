"""Users in the panel."""

from collections.abc import Callable, Mapping
from typing import Any

from sqladmin import expose
from starlette.requests import Request
from starlette.responses import Response

from vmtrak import audit
from vmtrak.access import Actor, Permission, Role
from vmtrak.accounts import (
    NewUser,
    TokenQuery,
    TokenState,
    User,
    UserPatch,
    api_tokens,
    calendar_feeds,
    limits,
    links,
    second_factor,
    sessions,
    users,
)
from vmtrak.admin.account import METHODS
from vmtrak.admin.base import Field, View, redirect
from vmtrak.admin.events import told
from vmtrak.admin.hypervisors import every
from vmtrak.admin.reports import known
from vmtrak.admin.tables import Column, page_table
from vmtrak.admin.vms import SUGGEST, options
from vmtrak.db import Seen, Work, iso, now
from vmtrak.web import inputs
from vmtrak.web.state import actor_of

_COLUMNS = (
    Column("username", "Name"),
    Column("email", "E-mail"),
    Column("role", "Role"),
    Column("department", "Department"),
    Column("is_active", "Active"),
    Column("sign_in", "Sign-in"),
    Column("notify_expiry", "Notices"),
    Column("last_seen_at", "Last seen"),
)


class UserView(View, model=User):
    kind = "user"
    noun = "user"
    read = Permission.USERS
    write = Permission.USERS
    new_input = NewUser
    patch_input = UserPatch

    def table(self, actor: Actor, request: Request) -> dict[str, Any]:
        with self.state.database.read() as session:
            rows = users.every(session, actor)
            locked = limits.locked(session, actor, now())
        for row in rows:
            row["locked_until"] = audit.plain(locked.get(row["id"]))
        create = {"href": "/admin/user/create", "label": "Add a user"}
        return page_table(request, "user", "Users", every(rows), (), _COLUMNS, create=create)

    def details_of(self, actor: Actor, number: int) -> dict[str, Any]:
        with self.state.database.read() as session:
            row = users.get(session, actor, number)
            row["locked_until"] = audit.plain(limits.locked(session, actor, now()).get(number))
            history = told(session, audit.history(session, "user", number))
            alive = sessions.of(session, actor, number)
            working = TokenQuery(user_id=number, state=TokenState.WORKING)
            tokens = api_tokens.every(session, actor, working)
            calendar = calendar_feeds.standing(session, actor, number)
            passwords = known(session, actor, number)
        return {
            "title": row["username"],
            "user": row,
            "history": history,
            "sessions": [{**one, "method_label": METHODS[one["method"]]} for one in alive],
            "tokens": tokens,
            "calendar": calendar,
            "tokens_href": f"/admin/token/list?user_id={number}",
            "known": passwords,
            "seen_href": f"/admin/user/seen/{number}",
            "edit_href": f"/admin/user/edit/{number}",
            "is_self": number == actor.user_id,
        }

    def current(self, actor: Actor, number: int) -> dict[str, Any]:
        with self.state.database.read() as session:
            return users.get(session, actor, number)

    def heading(self, values: Mapping[str, Any] | None) -> str:
        return f"Edit {values.get('username') or 'user'}" if values else "Add a user"

    def sections(self, actor: Actor, *, new: bool) -> list[tuple[str, list[Field]]]:
        del actor
        name = Field(
            "username", "User name", required=True, maxlength=128, mono=True, autocomplete="off"
        )
        email = Field("email", "E-mail", "email", required=True, maxlength=320, autocomplete="off")
        password = Field(
            "password",
            "First password",
            "password",
            autocomplete="new-password",
            help="To be changed at the first sign-in. Leave it blank to get a set-up link.",
        )
        role = Field(
            "role",
            "Role",
            "select",
            required=True,
            options=options(Role, blank=False),
            value="read",
        )
        department = Field(
            "department",
            "Department",
            "suggest",
            maxlength=128,
            suggest=SUGGEST + "department",
            help="Role read sees the VMs of the department",
        )
        awaits_email = Field(
            "awaits_email",
            "Whoever signs in with this e-mail address takes the account over",
            "checkbox",
            help="Once, at the first sign-in with Microsoft; a password ends with it",
        )
        awaits_subject = Field(
            "awaits_subject",
            "Or whoever has this object id",
            maxlength=256,
            mono=True,
            autocomplete="off",
            help="The exact oid in Entra ID, sub elsewhere",
        )
        active = Field("is_active", "Active", "checkbox")
        notices = Field("notify_expiry", "Gets expiry notices", "checkbox")
        factor = Field(
            "second_factor_required",
            "Must have a second factor",
            "checkbox",
            help="Who has none sets it up before anything else. The provider sees to its own",
        )
        account = [name, email, password] if new else [email]
        access = [role, department] if new else [role, department, active, notices, factor]
        provider = [awaits_email, awaits_subject]
        return [
            ("Account", account),
            ("Access", access),
            ("First sign-in with Microsoft", provider),
        ]

    def changed_since(self, number: int, steps: int) -> list[dict[str, Any]]:
        with self.state.database.read() as session:
            return told(session, audit.history(session, "user", number, steps))

    def insert(self, work: Work, new: NewUser) -> int:
        return users.add(work, new).id

    def update(self, work: Work, number: int, patch: UserPatch, seen: int | None) -> bool:
        return users.change(work, number, patch, {seen or -1}).revision != seen

    def delete(self, work: Work, number: int, seen: Seen) -> str:
        users.deactivate(work, number, seen)
        return "deactivated"

    @expose("/deactivate/{pk}", methods=["POST"])
    async def deactivate(self, request: Request) -> Response:
        return await self._done(request, users.deactivate, "deactivated")

    @expose("/unlock/{pk}", methods=["POST"])
    async def unlock(self, request: Request) -> Response:
        return await self._done(request, limits.unlock, "unlocked")

    @expose("/end-sessions/{pk}", methods=["POST"])
    async def end_sessions(self, request: Request) -> Response:
        return await self._done(request, users.end_sessions, "their-sessions-ended")

    @expose("/revoke-tokens/{pk}", methods=["POST"])
    async def revoke_tokens(self, request: Request) -> Response:
        return await self._done(request, api_tokens.revoke_all, "tokens-revoked")

    @expose("/reset-second-factor/{pk}", methods=["POST"])
    async def reset_second_factor(self, request: Request) -> Response:
        return await self._done(request, second_factor.reset, "factor-reset")

    async def _done(
        self, request: Request, operation: Callable[[Work, int], object], done: str
    ) -> Response:
        number = inputs.number(request.path_params["pk"])
        await self.state.database.writing(self._written, actor_of(request), operation, number)
        return redirect(f"/admin/user/details/{number}", done)

    @expose("/activate/{pk}", methods=["POST"])
    async def activate(self, request: Request) -> Response:
        number = inputs.number(request.path_params["pk"])
        patch = UserPatch(is_active=True)
        await self.state.database.writing(
            self._written, actor_of(request), users.change, number, patch
        )
        return redirect(f"/admin/user/details/{number}", "activated")

    @expose("/reset/{pk}", methods=["POST"])
    async def reset(self, request: Request) -> Response:
        return await self._link_page(request, inputs.number(request.path_params["pk"]))

    async def made(self, request: Request, number: int) -> Response | None:
        """Who was added without a password needs a link to set one, or awaits the provider."""
        form = await request.form()
        if any(form.get(name) for name in ("password", "awaits_email", "awaits_subject")):
            return None
        return await self._link_page(request, number)

    async def _link_page(self, request: Request, number: int) -> Response:
        user, token = await self.state.database.writing(
            self._written, actor_of(request), users.reset_link, number
        )
        context = {
            "title": "Set-up link",
            "username": user.username,
            "link": users.link_address(self.state.base_url, token),
            "expires_at": iso(now() + links.LIFETIME),
        }
        return await self.panel.render(request, "user_link.html", context)
