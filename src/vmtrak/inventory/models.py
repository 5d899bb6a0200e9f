"""VM and Hypervisor, what is derived from their fields, and their inputs."""

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator
from sqlalchemy import Date, Double, ForeignKey, Index, Numeric, String
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeEngine

from vmtrak.audit import Audited
from vmtrak.db import Base, Identifier, Key, Moment
from vmtrak.fields import (
    LAST,
    Address,
    Amount,
    Count,
    Day,
    Input,
    Mac,
    Reference,
    Required,
    Text,
    address_key,
    blank_to_none,
    fold,
    wrong,
)

NEVER = date.max
"""Sorts a VM without an expiry date after every date."""


class OsType(StrEnum):
    WINDOWS = "Windows"
    LINUX = "Linux"
    OTHER = "Other"


class PowerState(StrEnum):
    ON = "on"
    OFF = "off"
    SUSPENDED = "suspended"
    UNKNOWN = "unknown"


class Environment(StrEnum):
    PRODUCTION = "production"
    STAGING = "staging"
    DEVELOPMENT = "development"
    TEST = "test"


class Status(StrEnum):
    ACTIVE = "active"
    INACTIVE = "inactive"
    DECOMMISSIONED = "decommissioned"


class HypervisorType(StrEnum):
    VSPHERE = "VMware vSphere"
    PROXMOX = "Proxmox"
    HYPERV = "Hyper-V"
    KVM = "KVM"
    OTHER = "Other"


_Quantity: TypeEngine[Any] = Double().with_variant(Numeric(asdecimal=False), "sqlite")
"""A double; SQLite's NUMERIC keeps 16 as 16 where REAL would make it 16.0."""


class Hypervisor(Audited, Base):
    __tablename__ = "hypervisors"
    __audit_silent__: ClassVar[frozenset[str]] = frozenset(
        {"id", "name_key", "revision", "created_at", "updated_at"}
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    hostname: Mapped[str | None] = mapped_column(String(253))
    type: Mapped[str | None] = mapped_column(String(32))
    version: Mapped[str | None] = mapped_column(String(128))
    description: Mapped[str | None] = mapped_column(String(1024))
    status: Mapped[str] = mapped_column(String(16))
    environment: Mapped[str | None] = mapped_column(String(16))
    vcpu: Mapped[int | None]
    ram_gb: Mapped[float | None] = mapped_column(_Quantity)
    disk_gb: Mapped[float | None] = mapped_column(_Quantity)
    created_at: Mapped[datetime] = mapped_column(Moment)
    updated_at: Mapped[datetime] = mapped_column(Moment)
    name_key: Mapped[str] = mapped_column(Key)
    revision: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": revision}  # noqa: RUF012 - SQLAlchemy's own declaration
    __table_args__ = (
        Index("uq_hypervisors_name_key", "name_key", unique=True),
        {"sqlite_autoincrement": True},
    )

    def derive(self) -> None:
        self.name_key = fold(self.name)


class VM(Audited, Base):
    """A virtual machine. The columns from `name_key` on follow from the others, see `derive`."""

    __tablename__ = "vms"
    __audit_silent__: ClassVar[frozenset[str]] = frozenset(
        {
            "id",
            "created_at",
            "updated_at",
            "created_by",
            "updated_by",
            "deleted_at",
            "deleted_by",
            "left_production_at",
            "revision",
            "name_key",
            "ip_key",
            "hypervisor_key",
            "environment_key",
            "owner_key",
            "department_key",
            "expiry_key",
            "search_text",
        }
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    vm_name: Mapped[str] = mapped_column(String(128))
    vm_tag: Mapped[str | None] = mapped_column(String(64))
    description: Mapped[str | None] = mapped_column(String(1024))
    hypervisor_id: Mapped[int | None] = mapped_column(
        ForeignKey(Hypervisor.id, ondelete="RESTRICT")
    )
    cluster: Mapped[str | None] = mapped_column(String(128))
    datacenter: Mapped[str | None] = mapped_column(String(128))
    os_type: Mapped[str | None] = mapped_column(String(16))
    os_version: Mapped[str | None] = mapped_column(String(128))
    hostname: Mapped[str | None] = mapped_column(String(253))
    ip_address: Mapped[str | None] = mapped_column(String(45))
    vlan: Mapped[str | None] = mapped_column(String(64))
    mac_address: Mapped[str | None] = mapped_column(String(17))
    vcpu: Mapped[int | None]
    ram_gb: Mapped[float | None] = mapped_column(_Quantity)
    disk_gb: Mapped[float | None] = mapped_column(_Quantity)
    power_state: Mapped[str] = mapped_column(String(16))
    environment: Mapped[str | None] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16))
    owner: Mapped[str | None] = mapped_column(String(256))
    department: Mapped[str | None] = mapped_column(String(128))
    application: Mapped[str | None] = mapped_column(String(128))
    expiry_date: Mapped[date | None] = mapped_column(Date)
    notes: Mapped[str | None] = mapped_column(String(4096))
    created_at: Mapped[datetime] = mapped_column(Moment)
    updated_at: Mapped[datetime] = mapped_column(Moment)
    created_by: Mapped[str] = mapped_column(String(256))
    updated_by: Mapped[str] = mapped_column(String(256))
    deleted_at: Mapped[datetime | None] = mapped_column(Moment)
    deleted_by: Mapped[str | None] = mapped_column(String(256))
    left_production_at: Mapped[datetime | None] = mapped_column(Moment)
    revision: Mapped[int] = mapped_column()
    name_key: Mapped[str] = mapped_column(Key)
    ip_key: Mapped[str] = mapped_column(Key)
    hypervisor_key: Mapped[str] = mapped_column(Key)
    environment_key: Mapped[str] = mapped_column(Key)
    owner_key: Mapped[str] = mapped_column(Key)
    department_key: Mapped[str] = mapped_column(Key)
    expiry_key: Mapped[date] = mapped_column(Date)
    search_text: Mapped[str] = mapped_column(String)

    __mapper_args__ = {"version_id_col": revision}  # noqa: RUF012 - SQLAlchemy's own declaration

    def derive(self, hypervisor: Hypervisor | None) -> None:
        """Fill the sort and search columns. `hypervisor` is the one of `hypervisor_id`."""
        self.name_key = fold(self.vm_name)
        self.ip_key = address_key(self.ip_address)
        self.hypervisor_key = hypervisor.name_key if hypervisor else LAST
        self.environment_key = self.environment or LAST
        self.owner_key = fold(self.owner) if self.owner else LAST
        self.department_key = fold(self.department) if self.department else LAST
        self.expiry_key = self.expiry_date or NEVER
        searched = (self.vm_name, self.hostname, self.ip_address, self.owner)
        self.search_text = "\n".join(fold(text) for text in searched if text)


SORTS = {
    "vm_name": VM.name_key,
    "ip_address": VM.ip_key,
    "hypervisor_name": VM.hypervisor_key,
    "environment": VM.environment_key,
    "status": VM.status,
    "power_state": VM.power_state,
    "owner": VM.owner_key,
    "department": VM.department_key,
    "expiry_date": VM.expiry_key,
    "created_at": VM.created_at,
    "updated_at": VM.updated_at,
}
"""What a list may be sorted by, and the indexed column that says the order."""

GROUPS = {
    "environment": VM.environment_key,
    "status": VM.status,
    "power_state": VM.power_state,
    "department": VM.department_key,
    "hypervisor_id": VM.hypervisor_id,
}
"""Filters by one exact value. Each has an index in the default order of the list."""

_LIVE: dict[str, Any] = {
    "sqlite_where": VM.deleted_at.is_(None),
    "postgresql_where": VM.deleted_at.is_(None),
}

Index("uq_vms_name_key", VM.name_key, unique=True, **_LIVE)
for _column in SORTS.values():
    Index(f"ix_vms_{_column.key}", _column, VM.id, **_LIVE)
for _column in GROUPS.values():
    Index(f"ix_vms_{_column.key}_by_name", _column, VM.name_key, VM.id, **_LIVE)
Index(
    "ix_vms_deleted_at",
    VM.deleted_at,
    sqlite_where=VM.deleted_at.is_not(None),
    postgresql_where=VM.deleted_at.is_not(None),
)
Index("ix_vms_hypervisor_id", VM.hypervisor_id)


def _default(value: str) -> BeforeValidator:
    return BeforeValidator(lambda given: value if blank_to_none(given) is None else given)


def _given(value: object) -> object:
    if blank_to_none(value) is None:
        raise wrong("must not be empty")
    return value


_Optional = BeforeValidator(blank_to_none)


class _VMFields(Input):
    vm_tag: Annotated[str | None, Text(64)] = None
    description: Annotated[str | None, Text(1024, lines=True)] = None
    hypervisor_id: Reference = None
    cluster: Annotated[str | None, Text(128)] = None
    datacenter: Annotated[str | None, Text(128)] = None
    os_type: Annotated[OsType | None, _Optional] = None
    os_version: Annotated[str | None, Text(128)] = None
    hostname: Annotated[str | None, Text(253)] = None
    ip_address: Address = None
    vlan: Annotated[str | None, Text(64)] = None
    mac_address: Mac = None
    vcpu: Count = None
    ram_gb: Amount = None
    disk_gb: Amount = None
    environment: Annotated[Environment | None, _Optional] = None
    owner: Annotated[str | None, Text(256)] = None
    department: Annotated[str | None, Text(128)] = None
    application: Annotated[str | None, Text(128)] = None
    expiry_date: Day = None
    notes: Annotated[str | None, Text(4096, lines=True)] = None


class NewVM(_VMFields):
    """A VM to be added."""

    vm_name: Annotated[str, Required(128)]
    power_state: Annotated[PowerState, _default("unknown")] = PowerState.UNKNOWN
    status: Annotated[Status, _default("active")] = Status.ACTIVE


class VMPatch(_VMFields):
    """Changes to a VM: only the fields set count."""

    vm_name: Annotated[str, Required(128)] = ""
    power_state: Annotated[PowerState, BeforeValidator(_given)] = PowerState.UNKNOWN
    status: Annotated[Status, BeforeValidator(_given)] = Status.ACTIVE


class _HypervisorFields(Input):
    hostname: Annotated[str | None, Text(253)] = None
    type: Annotated[HypervisorType | None, _Optional] = None
    version: Annotated[str | None, Text(128)] = None
    description: Annotated[str | None, Text(1024, lines=True)] = None
    environment: Annotated[Environment | None, _Optional] = None
    vcpu: Count = None
    ram_gb: Amount = None
    disk_gb: Amount = None


class NewHypervisor(_HypervisorFields):
    """A hypervisor to be added."""

    name: Annotated[str, Required(128)]
    status: Annotated[Status, _default("active")] = Status.ACTIVE


class HypervisorPatch(_HypervisorFields):
    """Changes to a hypervisor: only the fields set count."""

    name: Annotated[str, Required(128)] = ""
    status: Annotated[Status, BeforeValidator(_given)] = Status.ACTIVE
