"""Hypervisors in the panel."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from vmtrak import audit, inventory
from vmtrak.access import Actor, Permission
from vmtrak.admin.base import Field, View, address
from vmtrak.admin.events import told
from vmtrak.admin.tables import Column, page_table
from vmtrak.admin.vms import options, with_expiry
from vmtrak.db import Page, Seen, Work
from vmtrak.inventory import (
    Environment,
    Hypervisor,
    HypervisorPatch,
    HypervisorType,
    NewHypervisor,
    Status,
    VMQuery,
    hypervisors,
)

_COLUMNS = (
    Column("name", "Name"),
    Column("type", "Type"),
    Column("hostname", "Host name"),
    Column("status", "Status"),
    Column("environment", "Environment"),
    Column("vcpu", "vCPU", numeric=True),
    Column("ram_gb", "RAM (GB)", numeric=True),
    Column("disk_gb", "Disk (GB)", numeric=True),
    Column("vm_count", "VMs", numeric=True),
)


def every(rows: list[dict[str, Any]]) -> Page:
    """All rows as one page: there are as many hypervisors as fit on a screen or two."""
    return Page(rows, len(rows), 1, max(1, len(rows)))


class HypervisorView(View, model=Hypervisor):
    kind = "hypervisor"
    noun = "hypervisor"
    read = Permission.HYPERVISOR_READ
    write = Permission.HYPERVISOR_WRITE
    new_input = NewHypervisor
    patch_input = HypervisorPatch

    def table(self, actor: Actor, request: Request) -> dict[str, Any]:
        with self.state.database.read() as session:
            rows = hypervisors.every(session, actor)
        may = self.may_write(actor)
        create = {"href": "/admin/hypervisor/create", "label": "Add a hypervisor"} if may else None
        return page_table(
            request, "hypervisor", "Hypervisors", every(rows), (), _COLUMNS, create=create
        )

    def details_of(self, actor: Actor, number: int) -> dict[str, Any]:
        database, today = self.state.database, self.state.today()
        with database.read() as session:
            row = hypervisors.get(session, actor, number)
            history = told(session, audit.history(session, "hypervisor", number))
        page = inventory.page(database, actor, VMQuery(hypervisor_id=number), today)
        return {
            "title": row["name"],
            "hypervisor": row,
            "vms": [with_expiry(vm, today) for vm in page.rows],
            "vm_count": page.total,
            "vms_href": address("/admin/vm/list", {"hypervisor": row["name"]}),
            "history": history,
            "may_edit": self.may_write(actor),
            "edit_href": f"/admin/hypervisor/edit/{number}",
        }

    def current(self, actor: Actor, number: int) -> dict[str, Any]:
        with self.state.database.read() as session:
            return hypervisors.get(session, actor, number)

    def heading(self, values: Mapping[str, Any] | None) -> str:
        return f"Edit {values.get('name') or 'hypervisor'}" if values else "Add a hypervisor"

    def sections(self, actor: Actor, *, new: bool) -> list[tuple[str, list[Field]]]:
        del actor, new
        return [
            (
                "Identity",
                [
                    Field("name", "Name", required=True, maxlength=128, mono=True),
                    Field("hostname", "Host name", maxlength=253, mono=True),
                    Field("description", "Description", "textarea", maxlength=1024),
                ],
            ),
            (
                "Platform",
                [
                    Field("type", "Type", "select", options=options(HypervisorType)),
                    Field("version", "Version", maxlength=128),
                ],
            ),
            (
                "State",
                [
                    Field("status", "Status", "select", options=options(Status, blank=False)),
                    Field("environment", "Environment", "select", options=options(Environment)),
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
        ]

    def changed_since(self, number: int, steps: int) -> list[dict[str, Any]]:
        with self.state.database.read() as session:
            return told(session, audit.history(session, "hypervisor", number, steps))

    def insert(self, work: Work, new: NewHypervisor) -> int:
        return hypervisors.add(work, new).id

    def update(self, work: Work, number: int, patch: HypervisorPatch, seen: int | None) -> bool:
        return hypervisors.change(work, number, patch, {seen or -1}).revision != seen

    def delete(self, work: Work, number: int, seen: Seen) -> str:
        hypervisors.remove(work, number, seen)
        return "removed"
