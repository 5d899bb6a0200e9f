"""VMs in the panel: list, form, details, trash."""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Annotated, Any, ClassVar

from sqladmin import expose
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vmtrak import audit, credentials, inventory
from vmtrak.access import Actor, Permission
from vmtrak.admin import connections, extensions
from vmtrak.admin.base import Field, View, posted, redirect
from vmtrak.admin.credentials import card, counts
from vmtrak.admin.events import told
from vmtrak.admin.notices import card as notices_card
from vmtrak.admin.tables import Column, Filter, Sorting, page_table
from vmtrak.db import Seen, Work
from vmtrak.errors import Conflict, Invalid, NotFound
from vmtrak.fields import LARGEST_ID, Input, Text, parse
from vmtrak.inventory import (
    VM,
    Environment,
    Extension,
    Missing,
    NewVM,
    OsType,
    PowerState,
    Status,
    VMPatch,
    VMQuery,
    statistics,
)
from vmtrak.reachability import Target
from vmtrak.web import inputs
from vmtrak.web.errors import status_of
from vmtrak.web.state import actor_of

SUGGEST = "/admin/vm/suggest?field="

_COLUMNS = (
    Column("status", "Status", "status"),
    Column("vm_name", "Name", "vm_name"),
    Column("ip_address", "IP address", "ip_address"),
    Column("hypervisor_name", "Hypervisor", "hypervisor_name"),
    Column("environment", "Environment", "environment"),
    Column("owner", "Owner", "owner"),
    Column("expiry_date", "Expiry", "expiry_date"),
    Column("power_state", "Power", "power_state"),
)


def titled(text: str) -> str:
    """The text with its first letter large; `capitalize` would make the others small."""
    return text[:1].upper() + text[1:]


def choices(kind: Iterable[Any]) -> list[tuple[str, str]]:
    return [(one.value, titled(one.value.replace("_", " "))) for one in kind]


def options(kind: Iterable[Any], *, blank: bool = True) -> list[dict[str, str]]:
    found = [{"value": value, "label": label} for value, label in choices(kind)]
    return [{"value": "", "label": "—"}, *found] if blank else found


_FILTERS = (
    Filter("environment", "Environment", "select", choices(Environment)),
    Filter("status", "Status", "select", choices(Status)),
    Filter("power_state", "Power", "select", choices(PowerState)),
    Filter("hypervisor", "Hypervisor", "suggest", suggest=SUGGEST + "hypervisor"),
    Filter("department", "Department", "suggest", suggest=SUGGEST + "department"),
    Filter("owner", "Owner", "suggest", suggest=SUGGEST + "owner"),
    Filter("expiring_in", "Expires in (days)", "number"),
    Filter("missing", "Lacking", "select", choices(Missing)),
)


class PanelQuery(VMQuery):
    """The list's query; people name the hypervisor where scripts give its number."""

    hypervisor: Annotated[str | None, Text(128)] = None


class Suggest(Input):
    field: Annotated[str | None, Text(32)] = None
    term: Annotated[str | None, Text(128)] = None


def expiry(day: str | date | None, today: date) -> dict[str, Any]:
    """The date of expiry with how near it is."""
    if day is None:
        return {"date": None, "days": None, "level": "none"}
    end = day if isinstance(day, date) else date.fromisoformat(day)
    days = (end - today).days
    bounds = ((0, "overdue"), (1, "today"), (8, "week"), (31, "month"))
    level = next((name for bound, name in bounds if days < bound), "later")
    return {"date": end.isoformat(), "days": days, "level": level}


def with_expiry(row: Mapping[str, Any], today: date) -> dict[str, Any]:
    shown = {name: audit.plain(value) for name, value in row.items()}
    return {**shown, "expiry": expiry(row["expiry_date"], today)}


class VMView(View, model=VM):
    kind = "vm"
    noun = "VM"
    read = Permission.VM_READ
    write = Permission.VM_WRITE
    new_input = NewVM
    patch_input = VMPatch
    save_as = True

    def table(self, actor: Actor, request: Request) -> dict[str, Any]:
        asked = inputs.query(request, PanelQuery, blanks=False)
        query, name = self._resolved(actor, asked)
        today = self.state.today()
        page = inventory.page(self.state.database, actor, query, today)
        sorting = Sorting(
            asked.sorted_by,
            asked.order,
            asked.search or "",
            "name, host name, address, owner",
            {"hypervisor": name or ""},
        )
        may = actor.may(Permission.VM_WRITE)
        create = {"href": "/admin/vm/create", "label": "Add a VM"} if may else None
        table = page_table(
            request, "vm", "Virtual machines", page, _FILTERS, _COLUMNS, sorting, create
        )
        held = counts(self.state, actor, [row["id"] for row in page.rows]) if may else {}
        rows = [
            {**with_expiry(row, today), "accounts": held.get(row["id"], 0)} for row in page.rows
        ]
        return {**table, "rows": rows}

    def _resolved(self, actor: Actor, asked: PanelQuery) -> tuple[VMQuery, str | None]:
        """The query with the hypervisor's number for its name, and the name for its number."""
        query: VMQuery = asked
        name: str | None = asked.hypervisor
        if name is None and asked.hypervisor_id is None:
            return query, None
        with self.state.database.read() as session:
            seen = inventory.hypervisors.names(session, actor)
        if name is not None:
            number = next(
                (one["id"] for one in seen if inventory.same(one["name"], name)), LARGEST_ID
            )
            return query.model_copy(update={"hypervisor_id": number}), name
        found = next((one["name"] for one in seen if one["id"] == asked.hypervisor_id), None)
        return query, found

    def details_of(self, actor: Actor, number: int) -> dict[str, Any]:
        row = self._row(actor, number)
        row.pop("revision")
        everything = actor.may(Permission.VM_READ_ALL)
        history = []
        if everything:
            with self.state.database.read() as session:
                history = told(session, audit.history(session, "vm", number))
        more = f"/admin/audit/list?entity_type=vm&entity_id={number}"
        vm = with_expiry(row, self.state.today())
        return {
            "title": row["vm_name"],
            "vm": {**vm, "deleted_at": None},
            "extend": extensions.card(vm, self.state.today()) if self.may_write(actor) else None,
            "history": history,
            "history_more_href": more if actor.may(Permission.AUDIT_READ) else None,
            "may_see_history": everything,
            "may_edit": actor.may(Permission.VM_WRITE),
            "edit_href": f"/admin/vm/edit/{number}",
            "duplicate_href": f"/admin/vm/create?from={number}",
            "credentials": card(self.state, actor, row),
            "connect": connections.card(self.state, actor, number),
            "notices": notices_card(self.state, actor, row),
        }

    def _row(self, actor: Actor, number: int) -> dict[str, Any]:
        row = inventory.find(self.state.database, actor, number)
        if row is None:
            raise NotFound
        return row

    def current(self, actor: Actor, number: int) -> dict[str, Any]:
        row = self._row(actor, number)
        return {**{k: audit.plain(v) for k, v in row.items()}, "hypervisor": row["hypervisor_name"]}

    def heading(self, values: Mapping[str, Any] | None) -> str:
        return f"Edit {values.get('vm_name') or 'VM'}" if values else "Add a VM"

    def sections(self, actor: Actor, *, new: bool) -> list[tuple[str, list[Field]]]:
        del new
        return _sections(accounts=actor.may(Permission.CREDENTIAL_READ))

    def translated(self, data: dict[str, Any]) -> dict[str, Any]:
        """The hypervisor by its number; for a name that none has, a number that none has."""
        if "hypervisor" not in data:
            return data
        name = data.pop("hypervisor").strip()
        data["hypervisor_id"] = None
        if name:
            with self.state.database.read() as session:
                number = inventory.hypervisor_named(session, name)
            data["hypervisor_id"] = number or LARGEST_ID
        return data

    def changed_since(self, number: int, steps: int) -> list[dict[str, Any]]:
        with self.state.database.read() as session:
            return told(session, audit.history(session, "vm", number, steps))

    def insert(self, work: Work, new: NewVM) -> int:
        return inventory.add(work, new).id

    def update(self, work: Work, number: int, patch: VMPatch, seen: int | None) -> bool:
        vm = inventory.change(work, number, patch, {seen or -1})
        return vm.revision != seen

    def delete(self, work: Work, number: int, seen: Seen) -> str:
        inventory.remove(work, number, seen)
        return "trashed"

    @expose("/extend/{pk}", methods=["POST"])
    async def extend(self, request: Request) -> Response:
        actor = actor_of(request)
        actor.require(Permission.VM_WRITE)
        number, form = inputs.number(request.path_params["pk"]), await posted(request)
        try:
            extension = parse(Extension, extensions.chosen(form))
            done = await self.state.database.writing(
                self._written, actor, self._extended, number, extension
            )
        except (Invalid, Conflict) as error:
            return await self._not_extended(request, number, form, error)
        return redirect(f"/admin/vm/details/{number}", done)

    def _extended(self, work: Work, number: int, extension: Extension) -> str:
        vm = inventory.extend(work, number, extension, self.state.today())
        return f"extended.{vm.expiry_date}" if vm.updated_at == work.moment else "unchanged"

    async def _not_extended(
        self, request: Request, number: int, form: Mapping[str, str], error: Invalid | Conflict
    ) -> Response:
        """The page as it is now, with what was typed and why nothing came of it."""
        context = await self.state.database.reading(self.details_of, actor_of(request), number)
        typed = extensions.refused(form, error)
        context["extend"] = extensions.card(context["vm"], self.state.today(), typed)
        return await self.panel.render(request, "vm_details.html", context, status_of(error))

    @expose("/suggest")
    async def suggest(self, request: Request) -> Response:
        asked = inputs.query(request, Suggest, blanks=False)
        found = await self.state.database.reading(self._suggested, actor_of(request), asked)
        return JSONResponse({"results": found})

    def _suggested(self, actor: Actor, asked: Suggest) -> list[str]:
        term = asked.term or ""
        with self.state.database.read() as session:
            if asked.field == "hypervisor":
                return inventory.hypervisors.suggested(session, actor, term)
            if asked.field == "vm":
                return self._named(actor, term)
            return statistics.suggestions(session, actor, asked.field or "", term)[:20]

    def _named(self, actor: Actor, term: str) -> list[str]:
        query = VMQuery(search=term or None, limit=20)
        page = inventory.page(self.state.database, actor, query, self.state.today())
        return [row["vm_name"] for row in page.rows]

    @expose("/reachability")
    async def reachability(self, request: Request) -> Response:
        numbers = inputs.query(request, inputs.Ids).numbers()
        database = self.state.database
        targets = await database.reading(self._targets, actor_of(request), numbers)
        return JSONResponse(await self.state.prober.probe(targets))

    def _targets(self, actor: Actor, numbers: list[int]) -> list[Target]:
        with self.state.database.read() as session:
            return inventory.targets(session, actor, numbers)


def _sections(*, accounts: bool) -> list[tuple[str, list[Field]]]:
    return [
        (
            "Identity",
            [
                Field("vm_name", "Name", required=True, maxlength=128, mono=True),
                Field("vm_tag", "Tag", maxlength=64),
                Field(
                    "application",
                    "Application",
                    "suggest",
                    maxlength=128,
                    suggest=SUGGEST + "application",
                ),
                Field("description", "Description", "textarea", maxlength=1024),
            ],
        ),
        (
            "Infrastructure",
            [
                Field(
                    "hypervisor",
                    "Hypervisor",
                    "suggest",
                    maxlength=128,
                    suggest=SUGGEST + "hypervisor",
                ),
                Field("cluster", "Cluster", maxlength=128),
                Field("datacenter", "Data centre", maxlength=128),
            ],
        ),
        (
            "Operating system",
            [
                Field("os_type", "OS type", "select", options=options(OsType)),
                Field(
                    "os_version",
                    "OS version",
                    "suggest",
                    maxlength=128,
                    suggest=SUGGEST + "os_version",
                ),
            ],
        ),
        (
            "Network",
            [
                Field("hostname", "Host name", maxlength=253, mono=True),
                Field("ip_address", "IP address", maxlength=45, mono=True),
                Field("vlan", "VLAN", maxlength=64),
                Field("mac_address", "MAC address", maxlength=17, mono=True),
            ],
        ),
        (
            "Resources",
            [
                Field("vcpu", "vCPU", "number", min="1", step="1"),
                Field("ram_gb", "RAM (GB)", "number", min="0", step="any"),
                Field("disk_gb", "Disk (GB)", "number", min="0", step="any"),
            ],
        ),
        (
            "State",
            [
                Field("environment", "Environment", "select", options=options(Environment)),
                Field(
                    "status",
                    "Status",
                    "select",
                    options=options(Status, blank=False),
                    help=_RETIRED if accounts else None,
                ),
                Field("power_state", "Power", "select", options=_power_states()),
            ],
        ),
        (
            "Ownership",
            [
                Field(
                    "owner",
                    "Owner",
                    "suggest",
                    maxlength=256,
                    suggest=SUGGEST + "owner",
                    help="A user name or an e-mail address, so that the owner sees the VM",
                ),
                Field(
                    "department",
                    "Department",
                    "suggest",
                    maxlength=128,
                    suggest=SUGGEST + "department",
                ),
            ],
        ),
        ("Lifecycle", [Field("expiry_date", "Expiry date", "date")]),
        ("Notes", [Field("notes", "Notes", "textarea", maxlength=4096)]),
    ]


_RETIRED = (
    "Decommissioned: its credentials stay sealed with it and can be revealed, until it is destroyed"
)


def _power_states() -> list[dict[str, str]]:
    first = [{"value": "unknown", "label": "Unknown"}]
    return first + [one for one in options(PowerState, blank=False) if one["value"] != "unknown"]


class TrashView(View, model=VM):
    kind = "trash"
    noun = "VM"
    read = Permission.TRASH
    columns: ClassVar = ()

    def table(self, actor: Actor, request: Request) -> dict[str, Any]:
        query = inputs.query(request, inventory.TrashQuery, blanks=False)
        with self.state.database.read() as session:
            page = inventory.trash_page(session, actor, query)
        held = counts(self.state, actor, [row["id"] for row in page.rows])
        table = page_table(request, "trash", "Trash", page)
        rows = [{**row, "accounts": held.get(row["id"], 0)} for row in page.rows]
        return {**table, "rows": rows}

    def details_of(self, actor: Actor, number: int) -> dict[str, Any]:  # noqa: ARG002 - there is none
        raise NotFound

    @expose("/restore/{pk}", methods=["POST"])
    async def restore(self, request: Request) -> Response:
        number = inputs.number(request.path_params["pk"])
        await self.state.database.writing(
            self._written, actor_of(request), inventory.restore, number
        )
        return redirect(f"/admin/vm/details/{number}", "restored")

    @expose("/purge/{pk}", methods=["POST"])
    async def purge(self, request: Request) -> Response:
        number = inputs.number(request.path_params["pk"])
        await self.state.database.writing(
            self._written, actor_of(request), credentials.purge_vm, number
        )
        return redirect("/admin/trash/list", "purged")
