"""Users in the panel."""

from collections.abc import Mapping
from typing import Any

from sqladmin import expose
from starlette.requests import Request
from starlette.responses import Response

from vmtrak import audit
from vmtrak.access import Actor, Permission, Role
from vmtrak.accounts import NewUser, User, UserPatch, links, users
from vmtrak.admin.base import Field, View, redirect
from vmtrak.admin.events import told
from vmtrak.admin.hypervisors import every
from vmtrak.admin.tables import Column, page_table
from vmtrak.admin.vms import SUGGEST, options
from vmtrak.db import Work, iso, now
from vmtrak.web import inputs
from vmtrak.web.state import actor_of

_COLUMNS = (
    Column("username", "Name"),
    Column("email", "E-mail"),
    Column("role", "Role"),
    Column("department", "Department"),
    Column("is_active", "Active"),
    Column("notify_expiry", "Notices"),
    Column("created_at", "Since"),
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
        create = {"href": "/admin/user/create", "label": "Add a user"}
        return page_table(request, "user", "Users", every(rows), (), _COLUMNS, create=create)

    def details_of(self, actor: Actor, number: int) -> dict[str, Any]:
        with self.state.database.read() as session:
            row = users.get(session, actor, number)
            history = told(session, audit.history(session, "user", number))
        return {
            "title": row["username"],
            "user": row,
            "history": history,
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
            "Signs in over the provider, recognised once by the e-mail address",
            "checkbox",
            help="For who signs in with Microsoft: the first sign-in claims this account",
        )
        awaits_subject = Field(
            "awaits_subject",
            "Or recognised once by this object id",
            maxlength=256,
            mono=True,
            autocomplete="off",
            help="The exact oid in Entra ID, sub elsewhere",
        )
        active = Field("is_active", "Active", "checkbox")
        notices = Field("notify_expiry", "Gets expiry notices", "checkbox")
        account = [name, email, password] if new else [email]
        access = [role, department] if new else [role, department, active, notices]
        provider = [awaits_email, awaits_subject]
        return [("Account", account), ("Access", access), ("Sign-in over the provider", provider)]

    def changed_since(self, number: int, steps: int) -> list[dict[str, Any]]:
        with self.state.database.read() as session:
            return told(session, audit.history(session, "user", number, steps))

    def insert(self, work: Work, new: NewUser) -> int:
        return users.add(work, new).id

    def update(self, work: Work, number: int, patch: UserPatch, seen: int | None) -> bool:
        return users.change(work, number, patch, {seen or -1}).revision != seen

    def delete(self, work: Work, number: int) -> str:
        users.deactivate(work, number)
        return "deactivated"

    @expose("/deactivate/{pk}", methods=["POST"])
    async def deactivate(self, request: Request) -> Response:
        number = inputs.number(request.path_params["pk"])
        await self.state.database.writing(
            self._written, actor_of(request), users.deactivate, number
        )
        return redirect(f"/admin/user/details/{number}", "deactivated")

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
