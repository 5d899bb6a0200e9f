"""Credentials in the panel: list, form, details, the card on a VM's page, and the reveal."""

from collections.abc import Mapping
from typing import Annotated, Any

from sqladmin import expose
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vmtrak import audit, credentials, inventory
from vmtrak.access import Actor, Permission
from vmtrak.admin.base import Field, View, posted
from vmtrak.admin.events import told
from vmtrak.admin.reports import viewers
from vmtrak.admin.tables import Column, Filter, Sorting, page_table
from vmtrak.audit import Action
from vmtrak.credentials import (
    Credential,
    CredentialPatch,
    CredentialQuery,
    NewCredential,
    RevealRequest,
    Rules,
    Which,
)
from vmtrak.db import Seen, Work
from vmtrak.errors import Invalid, NotFound
from vmtrak.fields import Required, parse
from vmtrak.web import inputs, revealing
from vmtrak.web.state import State, actor_of

_TYPES = (("primary", "Primary"), ("others", "Other"))

_COLUMNS = (
    Column("vm_name", "VM"),
    Column("username", "Account"),
    Column("account_type", "Type"),
    Column("password_changed_at", "Password changed"),
    Column("rotation_due", "Rotation"),
)

_FILTERS = (
    Filter("account_type", "Type", "select", _TYPES),
    Filter("rotation_due", "Due for rotation", "select", (("true", "Yes"), ("false", "No"))),
)


_DONE: Mapping[str, str] = {
    Action.CREDENTIAL_CREATE: "added it",
    Action.CREDENTIAL_UPDATE: "changed it",
    Action.CREDENTIAL_REKEY: "sealed it anew",
    Action.REVEAL: "revealed the password",
    Action.REVEAL_EARLIER: "revealed an earlier password",
    Action.REVEAL_REFUSED: "was refused the password",
}
"""What was done, on the page of what it was done to."""


class NewAccount(NewCredential):
    """As the form gives it: people name the VM, scripts give its number."""

    vm: Annotated[str, Required(128)]


def card(state: State, actor: Actor, vm: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the page of a VM shows of its credentials; None for who may not see them."""
    if not actor.may(Permission.CREDENTIAL_READ):
        return None
    with state.database.read() as session:
        rows = credentials.of_vm(session, actor, state.vault.rules, vm["id"])
        asks = reveals(session, actor, state.vault.rules, vm["id"])
    return {
        "rows": rows,
        "reveals": asks,
        "may_write": credentials.may_write(actor),
        "add_href": f"/admin/credential/create?vm={vm['id']}",
    }


def reveals(session: Session, actor: Actor, rules: Rules, vm_id: int) -> dict[str, bool]:
    """Whether the person may reveal on this VM, and must say why."""
    may = actor.may(Permission.CREDENTIAL_REVEAL)
    production = credentials.in_production(session, actor, vm_id)
    return {"may": may, "reason": rules.wants_reason(production=production)}


def counts(state: State, actor: Actor, vm_ids: list[int]) -> dict[int, int]:
    """How many credentials the VMs have, as far as the person may know."""
    if not actor.may(Permission.CREDENTIAL_READ):
        return {}
    with state.database.read() as session:
        return credentials.counted(session, actor, vm_ids)


class CredentialView(View, model=Credential):
    kind = "credential"
    noun = "account"
    read = Permission.CREDENTIAL_READ
    new_input = NewAccount
    patch_input = CredentialPatch

    @property
    def rules(self) -> Rules:
        return self.state.vault.rules

    def may_write(self, actor: Actor) -> bool:
        return credentials.may_write(actor)

    def table(self, actor: Actor, request: Request) -> dict[str, Any]:
        query = inputs.query(request, CredentialQuery, blanks=False)
        with self.state.database.read() as session:
            page = credentials.page(session, actor, self.rules, query)
        sorting = Sorting(search=query.search or "", hint="VM name, account name")
        add = {"href": "/admin/credential/create", "label": "Add an account"}
        create = add if self.may_write(actor) else None
        return page_table(
            request, "credential", "Credentials", page, _FILTERS, _COLUMNS, sorting, create
        )

    def details_of(self, actor: Actor, number: int) -> dict[str, Any]:
        which = Which(number)
        with self.state.database.read() as session:
            row = credentials.find(session, actor, self.rules, which)
            kept = credentials.versions(session, actor, which)
            knowing = viewers(session, actor, number)
            events = told(session, audit.history(session, "credential", number))
            asks = reveals(session, actor, self.rules, row["vm_id"])
        history = [{**one, "action_label": _DONE.get(one["action"], "")} for one in events]
        vm = inventory.find(self.state.database, actor, row["vm_id"])
        if vm is None:
            raise NotFound
        more = f"/admin/audit/list?entity_type=credential&entity_id={number}"
        return {
            "title": f"{row['username']} on {row['vm_name']}",
            "credential": row,
            "vm": vm,
            "present": next((one for one in kept if one["present"]), None),
            "earlier": [one for one in kept if not one["present"]],
            "reveals": asks,
            "rotation_days": self.rules.rotation_days,
            "viewers": knowing,
            "history": history,
            "history_more_href": more if actor.may(Permission.AUDIT_READ) else None,
            "may_edit": self.may_write(actor),
        }

    def current(self, actor: Actor, number: int) -> dict[str, Any]:
        with self.state.database.read() as session:
            row = credentials.find(session, actor, self.rules, Which(number))
        del row["password"]
        return {**row, "vm": row["vm_name"]}

    def heading(self, values: Mapping[str, Any] | None) -> str:
        return f"Edit {values.get('username') or 'account'}" if values else "Add an account"

    def template(self, actor: Actor, request: Request) -> Mapping[str, Any]:
        """The VM from whose page the form was opened."""
        if "vm" not in request.query_params:
            return {}
        number = inputs.number(request.query_params["vm"], "vm")
        vm = inventory.find(self.state.database, actor, number)
        if vm is None:
            raise NotFound
        return {"vm": vm["vm_name"]}

    def origin(self, request: Request) -> str | None:
        number = request.query_params.get("vm", "")
        return f"/admin/vm/details/{number}#credentials" if inputs.is_number(number) else None

    def sections(self, actor: Actor, *, new: bool) -> list[tuple[str, list[Field]]]:
        del actor
        return [("Account", _account(new=new)), ("Password", _password(new=new))]

    def changed_since(self, number: int, steps: int) -> list[dict[str, Any]]:
        changed = Action.CREDENTIAL_UPDATE
        with self.state.database.read() as session:
            return told(session, audit.history(session, "credential", number, steps, changed))

    def insert(self, work: Work, new: NewAccount) -> int:
        try:
            vm = inventory.named(work, new.vm)
        except NotFound:
            raise Invalid({"vm": ["is the name of no VM"]}) from None
        return credentials.add(work, self.state.vault, vm.id, new).id

    def update(self, work: Work, number: int, patch: CredentialPatch, seen: int | None) -> bool:
        which = Which(number)
        changed = credentials.change(work, self.state.vault, which, patch, {seen or -1})
        return changed.revision != seen

    def delete(self, work: Work, number: int, seen: Seen) -> str:
        credentials.remove(work, Which(number), seen)
        return "purged"

    @expose("/reveal/{pk}", methods=["POST"])
    async def reveal(self, request: Request) -> Response:
        return await self._revealed(request, Which(inputs.number(request.path_params["pk"])))

    @expose("/reveal/{pk}/{version}", methods=["POST"])
    async def reveal_earlier(self, request: Request) -> Response:
        number = inputs.number(request.path_params["pk"])
        version = inputs.number(request.path_params["version"], "version")
        return await self._revealed(request, Which(number, version=version))

    async def _revealed(self, request: Request, which: Which) -> Response:
        """The password, for the page's own script: it stands in no page and in no cache."""
        asked = parse(RevealRequest, await posted(request))
        password = await self.state.database.writing(
            revealing.reveal, self.state, actor_of(request), which, asked
        )
        return JSONResponse({"password": password}, headers={"Cache-Control": "no-store"})


def _account(*, new: bool) -> list[Field]:
    usual = [{"value": "", "label": "As it fits"}] if new else []
    types = [{"value": value, "label": label} for value, label in _TYPES]
    return [
        Field(
            "vm",
            "VM",
            "suggest" if new else "text",
            required=new,
            maxlength=128,
            suggest="/admin/vm/suggest?field=vm",
            readonly=not new,
        ),
        Field(
            "username",
            "Account name",
            required=True,
            maxlength=256,
            mono=True,
            autocomplete="off",
            foreign=True,
            sealed=True,
        ),
        Field(
            "account_type",
            "Type",
            "select",
            options=usual + types,
            help="Primary if the VM has none yet, else other" if new else None,
        ),
        Field("notes", "Notes", "textarea", maxlength=4096, sealed=True),
    ]


def _password(*, new: bool) -> list[Field]:
    password = Field(
        "password",
        "Password" if new else "New password",
        "password",
        required=new,
        mono=True,
        autocomplete="new-password",
        foreign=True,
        help=None if new else "Left blank, the password stays as it is.",
    )
    marked = Field(
        "rotation_marked",
        "Marked for rotation",
        "checkbox",
        help="The password is to be changed, however old it is. A new one takes the mark away.",
    )
    return [password] if new else [password, marked]
