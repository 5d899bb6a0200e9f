"""What can be done with a hypervisor: add, change, remove, list."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import BigInteger, Subquery, cast, func, select, update
from sqlalchemy.orm import Session

from vmtrak import audit
from vmtrak.access import Actor, Permission
from vmtrak.audit import Action
from vmtrak.db import AnySelect, Seen, Work
from vmtrak.errors import Conflict, NotFound, Stale
from vmtrak.fields import fold, given
from vmtrak.inventory.lists import TALLY, scope, scope_values, sees_all
from vmtrak.inventory.models import VM, Hypervisor, HypervisorPatch, NewHypervisor
from vmtrak.reachability import Target, hypervisor_port

_CONFLICTS = MappingProxyType(
    {"uq_hypervisors_name_key": Conflict("Another hypervisor has this name already.", field="name")}
)

NAMES = ("id", "name")
"""What a person sees of a hypervisor who sees only some of its VMs."""

FIELDS = tuple(
    getattr(Hypervisor, name)
    for name in (
        *NAMES,
        "hostname",
        "type",
        "version",
        "description",
        "status",
        "environment",
        "vcpu",
        "ram_gb",
        "disk_gb",
        "created_at",
        "updated_at",
    )
)


def add(work: Work, new: NewHypervisor) -> Hypervisor:
    """Add a hypervisor. Raises `Conflict` on a name that is taken."""
    work.actor.require(Permission.HYPERVISOR_WRITE)
    row = Hypervisor(**new.model_dump(), created_at=work.moment, updated_at=work.moment)
    row.derive()
    work.session.add(row)
    work.flush(_CONFLICTS)
    _record(work, Action.HYPERVISOR_CREATE, row, audit.snapshot(row))
    return row


def change(work: Work, hypervisor_id: int, patch: HypervisorPatch, seen: Seen = None) -> Hypervisor:
    """Change the fields that the patch sets; raises `Stale` as for a VM."""
    values = given(patch)
    row = locked(work, hypervisor_id, seen)
    for name, value in values.items():
        setattr(row, name, value)
    detail = audit.difference(row)
    if not detail:
        return row
    row.updated_at = work.moment
    row.derive()
    work.flush(_CONFLICTS)
    if "name" in detail:
        _sort_anew(work, row)
    _record(work, Action.HYPERVISOR_UPDATE, row, detail)
    return row


def remove(work: Work, hypervisor_id: int, seen: Seen = None) -> None:
    """Remove a hypervisor; raises `Conflict` while VMs are assigned, also some in the trash."""
    row = locked(work, hypervisor_id, seen)
    live, trashed = _assigned(work.session, row.id)
    if live:
        noun = "VM is" if live == 1 else "VMs are"
        message = f"{live:,} {noun} assigned to this hypervisor."
        raise Conflict(message)
    if trashed:
        noun, them = ("VM is", "it") if trashed == 1 else ("VMs are", "them")
        message = f"{trashed:,} {noun} in the trash and on this hypervisor; purge {them} first."
        raise Conflict(message)
    _record(work, Action.HYPERVISOR_DELETE, row, audit.snapshot(row))
    work.session.delete(row)
    work.flush()


def listed(actor: Actor) -> AnySelect:
    """All hypervisors that the person sees as Core columns with `vm_count`, by name.

    Who sees only some VMs sees the names of their hypervisors and counts only those VMs.
    """
    actor.require(Permission.VM_READ)
    counted = _counted(actor)
    count = func.coalesce(counted.c.vm_count, 0).label("vm_count")
    same = counted.c.hypervisor_id == Hypervisor.id
    joined: AnySelect
    if actor.may(Permission.HYPERVISOR_READ):
        every: AnySelect = select(*FIELDS, Hypervisor.revision, count)
        joined = every.outerjoin_from(Hypervisor, counted, same)
    else:
        joined = select(Hypervisor.id, Hypervisor.name, count).join_from(Hypervisor, counted, same)
    return joined.order_by(Hypervisor.name_key, Hypervisor.id).params(
        {} if sees_all(actor) else scope_values(actor)
    )


def _counted(actor: Actor) -> Subquery:
    """VMs by hypervisor: from the tally for those who see all, else counted among what they see."""
    counted: AnySelect
    if sees_all(actor):
        number = cast(TALLY.c.value, BigInteger).label("hypervisor_id")
        counted = select(number, cast(func.sum(TALLY.c.n), BigInteger).label("vm_count"))
        return (
            counted.where(TALLY.c.dimension == "hypervisor_id").group_by(TALLY.c.value).subquery()
        )
    counted = select(VM.hypervisor_id, func.count().label("vm_count"))
    live = counted.where(VM.deleted_at.is_(None), *scope(actor))
    return live.group_by(VM.hypervisor_id).subquery()


def every(session: Session, actor: Actor) -> list[dict[str, Any]]:
    """All hypervisors that the person sees, as the contract shows them."""
    return [shown(row._asdict()) for row in session.execute(listed(actor))]


def get(session: Session, actor: Actor, hypervisor_id: int) -> dict[str, Any]:
    """One hypervisor as the contract shows it, with its `revision`; `NotFound` if hidden."""
    row = session.execute(listed(actor).where(Hypervisor.id == hypervisor_id)).one_or_none()
    if row is None:
        raise NotFound
    return {**shown(row._asdict()), "revision": row._asdict().get("revision")}


def names(session: Session, actor: Actor) -> list[dict[str, Any]]:
    """The numbers and names of the hypervisors that the person sees."""
    rows = session.execute(_named(actor)).all()
    return [{"id": row.id, "name": row.name} for row in rows]


def _named(actor: Actor) -> AnySelect:
    if not actor.may(Permission.HYPERVISOR_READ):
        return listed(actor)
    return select(Hypervisor.id, Hypervisor.name).order_by(Hypervisor.name_key, Hypervisor.id)


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `listed` as the contract shows it; what the person does not see is null."""
    blank = {column.key: None for column in FIELDS}
    seen = {key: audit.plain(value) for key, value in row.items() if key != "revision"}
    return {**blank, **seen}


def targets(session: Session, actor: Actor, numbers: Collection[int]) -> list[Target]:
    """What to probe of those hypervisors that the person sees."""
    rows = session.execute(listed(actor).where(Hypervisor.id.in_(numbers)))
    seen = {row.id for row in rows}
    found = session.execute(
        select(Hypervisor.id, Hypervisor.hostname, Hypervisor.type).where(Hypervisor.id.in_(seen))
    )
    return [Target(row.id, None, row.hostname, hypervisor_port(row.type)) for row in found]


def locked(work: Work, hypervisor_id: int, seen: Seen) -> Hypervisor:
    """The hypervisor to change, locked against others."""
    work.actor.require(Permission.HYPERVISOR_WRITE)
    statement = select(Hypervisor).where(Hypervisor.id == hypervisor_id).with_for_update()
    row = work.session.scalar(statement)
    if row is None:
        raise NotFound
    if seen is not None and row.revision not in seen:
        raise Stale
    return row


def suggested(session: Session, actor: Actor, term: str, most: int = 20) -> list[str]:
    """Names that contain the term, of the hypervisors that the person sees."""
    wanted = Hypervisor.name_key.contains(fold(term), autoescape=True)
    return [row.name for row in session.execute(_named(actor).where(wanted).limit(most))]


def _assigned(session: Session, hypervisor_id: int) -> tuple[int, int]:
    statement = select(func.count(), func.count(VM.deleted_at)).where(
        VM.hypervisor_id == hypervisor_id
    )
    every, trashed = session.execute(statement).one()
    return every - trashed, trashed


def _sort_anew(work: Work, row: Hypervisor) -> None:
    """VMs are sorted by the name of their hypervisor; the key follows the new name."""
    work.session.execute(
        update(VM).where(VM.hypervisor_id == row.id).values(hypervisor_key=row.name_key),
        execution_options={"audited": True, "synchronize_session": False},
    )


def _record(
    work: Work, action: Action, row: Hypervisor, detail: Mapping[str, Any] | None = None
) -> None:
    audit.record(
        work,
        action,
        entity_type="hypervisor",
        entity=row,
        entity_id=row.id,
        entity_name=row.name,
        detail=detail,
    )
