"""What can be done with a VM: add, change, move to the trash, bring back, destroy."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from vmtrak import audit
from vmtrak.access import Actor, Permission
from vmtrak.audit import Action
from vmtrak.db import Page, Seen, Work
from vmtrak.errors import Conflict, Invalid, NotFound, Stale
from vmtrak.fields import Input, fold, given
from vmtrak.inventory.lists import FIELDS, visible
from vmtrak.inventory.models import VM, Environment, Hypervisor, NewVM, VMPatch
from vmtrak.reachability import Target, vm_port

_CONFLICTS = MappingProxyType(
    {"uq_vms_name_key": Conflict("Another VM has this name already.", field="vm_name")}
)


def add(work: Work, new: NewVM) -> VM:
    """Add a VM. Raises `Conflict` on a name that is taken, `Invalid` on an unknown hypervisor."""
    work.actor.require(Permission.VM_WRITE)
    vm = VM(
        **new.model_dump(),
        created_at=work.moment,
        updated_at=work.moment,
        created_by=work.actor.username,
        updated_by=work.actor.username,
    )
    vm.derive(_hypervisor(work, vm.hypervisor_id))
    work.session.add(vm)
    work.flush(_CONFLICTS)
    _record(work, Action.VM_CREATE, vm, audit.snapshot(vm))
    return vm


def change(work: Work, vm_id: int, patch: VMPatch, seen: Seen = None) -> VM:
    """Change the fields that the patch sets.

    `seen` holds the revisions that the person may have seen; raises `Stale` if somebody was faster.
    """
    work.actor.require(Permission.VM_WRITE)
    values = given(patch)
    return saved(work, locked(work, vm_id, seen), values)


def saved(work: Work, vm: VM, values: Mapping[str, Any], reason: str | None = None) -> VM:
    """Give a locked VM these values, with their event; nothing is told of what stays as it is."""
    was = vm.environment
    for name, value in values.items():
        setattr(vm, name, value)
    detail = audit.difference(vm)
    if not detail:
        return vm
    if was == Environment.PRODUCTION != vm.environment:
        vm.left_production_at = work.moment
    vm.updated_at, vm.updated_by = work.moment, work.actor.username
    vm.derive(_hypervisor(work, vm.hypervisor_id))
    work.flush(_CONFLICTS)
    _record(work, Action.VM_UPDATE, vm, detail | ({"reason": reason} if reason else {}))
    return vm


def remove(work: Work, vm_id: int, seen: Seen = None) -> VM:
    """Move a VM to the trash: hidden everywhere else, its name free again, restorable."""
    work.actor.require(Permission.VM_WRITE)
    vm = locked(work, vm_id, seen)
    vm.deleted_at, vm.deleted_by = work.moment, work.actor.username
    work.flush()
    _record(work, Action.VM_DELETE, vm)
    return vm


def restore(work: Work, vm_id: int) -> VM:
    """Bring a VM back from the trash. Raises `Conflict` if its name is taken by now."""
    vm = _trashed(work, vm_id)
    vm.deleted_at = vm.deleted_by = None
    vm.updated_at, vm.updated_by = work.moment, work.actor.username
    work.flush(_CONFLICTS)
    _record(work, Action.VM_RESTORE, vm)
    return vm


def purge(work: Work, vm_id: int) -> None:
    """Destroy a VM that is in the trash. Its number is never given again."""
    vm = _trashed(work, vm_id)
    _record(work, Action.VM_PURGE, vm, audit.snapshot(vm))
    work.session.delete(vm)
    work.flush()


def trash(actor: Actor) -> Select[VM]:
    """The VMs in the trash, latest first; raises `Forbidden` for those who may not look."""
    actor.require(Permission.TRASH)
    return select(VM).where(VM.deleted_at.is_not(None)).order_by(VM.deleted_at.desc(), VM.id.desc())


class TrashQuery(Input):
    page: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1
    limit: Annotated[int, Field(ge=1, le=200)] = 50


def trash_page(session: Session, actor: Actor, query: TrashQuery) -> Page:
    """One page of the trash, latest first."""
    chosen = trash(actor)
    rows = session.execute(
        chosen.with_only_columns(*FIELDS, VM.deleted_at, VM.deleted_by, Hypervisor.name)
        .outerjoin_from(VM, Hypervisor, VM.hypervisor_id == Hypervisor.id)
        .limit(query.limit)
        .offset((query.page - 1) * query.limit)
    )
    counted = select(func.count()).select_from(VM).where(VM.deleted_at.is_not(None))
    total = session.scalar(counted) or 0
    shown_rows = [
        {("hypervisor_name" if k == "name" else k): audit.plain(v) for k, v in row._mapping.items()}
        for row in rows
    ]
    return Page(shown_rows, total, query.page, query.limit, None)


def targets(session: Session, actor: Actor, numbers: Collection[int]) -> list[Target]:
    """What to probe of those VMs that the person sees."""
    seen = visible(actor).where(VM.id.in_(numbers))
    rows = session.execute(seen.with_only_columns(VM.id, VM.ip_address, VM.hostname, VM.os_type))
    return [Target(row.id, row.ip_address, row.hostname, vm_port(row.os_type)) for row in rows]


def shown(vm: VM, hypervisor_name: str | None) -> dict[str, Any]:
    """A loaded VM as the contract shows it."""
    row = {column.key: audit.plain(getattr(vm, column.key)) for column in FIELDS}
    return {**row, "hypervisor_name": hypervisor_name}


def hypervisor_name(work: Work, vm: VM) -> str | None:
    hypervisor = vm.hypervisor_id and work.session.get(Hypervisor, vm.hypervisor_id)
    return hypervisor.name if hypervisor else None


def locked(work: Work, vm_id: int, seen: Seen) -> VM:
    """The VM to change, visible to the actor and locked against others."""
    vm = work.session.scalar(visible(work.actor).where(VM.id == vm_id).with_for_update())
    if vm is None:
        raise NotFound
    if seen is not None and vm.revision not in seen:
        raise Stale
    return vm


def _trashed(work: Work, vm_id: int) -> VM:
    vm = work.session.scalar(trash(work.actor).where(VM.id == vm_id).with_for_update())
    if vm is None:
        raise NotFound
    return vm


def _hypervisor(work: Work, hypervisor_id: int | None) -> Hypervisor | None:
    if hypervisor_id is None:
        return None
    statement = select(Hypervisor).where(Hypervisor.id == hypervisor_id)
    found = work.session.scalar(statement.with_for_update(read=True))
    if found is None:
        raise Invalid({"hypervisor_id": ["there is no such hypervisor"]})
    return found


def _record(work: Work, action: Action, vm: VM, detail: Mapping[str, Any] | None = None) -> None:
    audit.record(
        work,
        action,
        entity_type="vm",
        entity=vm,
        entity_id=vm.id,
        entity_name=vm.vm_name,
        detail=detail,
    )


def named(work: Work, name: str) -> VM:
    """The VM of that name, without regard to case; raises `NotFound`."""
    vm = work.session.scalar(visible(work.actor).where(VM.name_key == fold(name)))
    if vm is None:
        raise NotFound
    return vm


def hypervisor_named(session: Session, name: str) -> int | None:
    """The number of the hypervisor of that name, without regard to case."""
    if "\0" in name:  # no name has one, and PostgreSQL refuses to look for it
        return None
    return session.scalar(select(Hypervisor.id).where(Hypervisor.name_key == fold(name)))
