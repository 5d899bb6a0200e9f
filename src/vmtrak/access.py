"""Who may do what: the permissions, the four roles, and the actor every operation is given."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
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
    CREDENTIAL_REVEAL = "credential:reveal"
    RDP = "rdp"
    TRASH = "trash"
    USERS = "users"
    AUDIT_READ = "audit:read"
    STATISTICS = "statistics"
    ACCOUNT = "account"
    """One's own password, second factor, sessions and API tokens."""


class Role(StrEnum):
    READ = "read"
    READWRITE = "readwrite"
    ADMIN = "admin"
    AUDITOR = "auditor"


_P = Permission
_READ = frozenset({_P.VM_READ, _P.ACCOUNT})
_READWRITE = _READ | {
    _P.VM_READ_ALL,
    _P.VM_WRITE,
    _P.HYPERVISOR_READ,
    _P.HYPERVISOR_WRITE,
    _P.CREDENTIAL_READ,
    _P.CREDENTIAL_REVEAL,
    _P.RDP,
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


class Scope(StrEnum):
    """What an API token may be allowed to do; never more than its user may."""

    INVENTORY_READ = "inventory:read"
    INVENTORY_WRITE = "inventory:write"
    CREDENTIALS_REVEAL = "credentials:reveal"
    RDP = "rdp"
    AUDIT_READ = "audit:read"


_LOOK = frozenset({_P.VM_READ, _P.VM_READ_ALL, _P.HYPERVISOR_READ, _P.STATISTICS})

SCOPES = MappingProxyType(
    {
        Scope.INVENTORY_READ: _LOOK,
        Scope.INVENTORY_WRITE: _LOOK | {_P.VM_WRITE, _P.HYPERVISOR_WRITE},
        Scope.CREDENTIALS_REVEAL: frozenset({_P.CREDENTIAL_READ, _P.CREDENTIAL_REVEAL}),
        Scope.RDP: frozenset({_P.RDP}),
        Scope.AUDIT_READ: frozenset({_P.AUDIT_READ}),
    }
)
"""Writing includes reading: the answer to a change is the row. No scope reaches users, tokens,
the trash or one's own account."""


def permissions(
    role: Role, *, may_reveal: bool = True, scopes: Iterable[Scope] | None = None
) -> frozenset[Permission]:
    """What a role allows, less what guests may not reveal, within the scopes of an API token."""
    allowed = ROLES[role]
    if not may_reveal:
        allowed -= {Permission.CREDENTIAL_REVEAL, Permission.RDP}
    if scopes is not None:
        allowed &= frozenset().union(*(SCOPES[scope] for scope in scopes))
    return allowed


_TOO_NARROW = "The scopes of this token or the role of its user do not allow this."


@dataclass(frozen=True, slots=True)
class Actor:
    """The person (or the program itself) on whose behalf an operation runs.

    `user_id` is None for the program itself and for a visitor whose sign-in failed; `token_id`
    is the API token's that the request came with. `proved_at` is when the person last showed who
    they are in this session, `must_enrol` whether the second factor that is required of them is
    due before anything else.
    """

    username: str
    permissions: frozenset[Permission]
    user_id: int | None = None
    email: str | None = None
    role: Role | None = None
    department: str | None = None
    session_id: int | None = None
    token_id: int | None = None
    must_change_password: bool = False
    factor_required: bool = False
    must_enrol: bool = False
    is_guest: bool = False
    sign_in_method: str = "local"
    proved_at: datetime | None = None
    ip_address: str | None = None
    request_id: str | None = None

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions

    def require(self, permission: Permission) -> None:
        """Raise `Forbidden` unless the actor holds the permission."""
        if not self.may(permission):
            raise Forbidden(_TOO_NARROW if self.token_id is not None else None)


SYSTEM = Actor(username="system", permissions=frozenset(Permission))
"""The program itself: start-up, commands on the server's own terminal, the sample inventory."""
