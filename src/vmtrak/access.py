"""Who may do what: the permissions, the four roles, and the actor every operation is given."""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from vmtrak.errors import Forbidden


class Permission(StrEnum):
    VM_READ = "vm:read"
    VM_READ_ALL = "vm:read-all"
    VM_WRITE = "vm:write"
    HYPERVISOR_READ = "hypervisor:read"
    HYPERVISOR_WRITE = "hypervisor:write"
    CREDENTIAL_READ = "credential:read"
    TRASH = "trash"
    USERS = "users"
    AUDIT_READ = "audit:read"
    STATISTICS = "statistics"


class Role(StrEnum):
    READ = "read"
    READWRITE = "readwrite"
    ADMIN = "admin"
    AUDITOR = "auditor"


_P = Permission
_READ = frozenset({_P.VM_READ})
_READWRITE = _READ | {
    _P.VM_READ_ALL,
    _P.VM_WRITE,
    _P.HYPERVISOR_READ,
    _P.HYPERVISOR_WRITE,
    _P.CREDENTIAL_READ,
    _P.STATISTICS,
}

ROLES = MappingProxyType(
    {
        Role.READ: _READ,
        Role.READWRITE: _READWRITE,
        Role.ADMIN: _READWRITE | {_P.TRASH, _P.USERS, _P.AUDIT_READ},
        Role.AUDITOR: _READ | {_P.VM_READ_ALL, _P.HYPERVISOR_READ, _P.AUDIT_READ},
    }
)


@dataclass(frozen=True, slots=True)
class Actor:
    """The person (or the program itself) on whose behalf an operation runs.

    `user_id` is None for the program itself and for a visitor whose sign-in failed.
    """

    username: str
    permissions: frozenset[Permission]
    user_id: int | None = None
    email: str | None = None
    role: Role | None = None
    department: str | None = None
    session_id: int | None = None
    must_change_password: bool = False
    ip_address: str | None = None
    request_id: str | None = None

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions

    def require(self, permission: Permission) -> None:
        """Raise `Forbidden` unless the actor holds the permission."""
        if not self.may(permission):
            raise Forbidden


SYSTEM = Actor(username="system", permissions=frozenset(Permission))
"""The program itself: start-up, commands on the server's own terminal, the sample inventory."""
