"""Credentials: accounts on VMs, their sealed passwords, and who has seen them."""

from vmtrak.credentials.changes import add, change, forget, may_write, purge_vm, remove
from vmtrak.credentials.inputs import (
    MASK,
    CredentialPatch,
    NewCredential,
    RevealRequest,
)
from vmtrak.credentials.lists import (
    CredentialQuery,
    counted,
    find,
    in_production,
    of_vm,
    page,
    usernames,
    versions,
)
from vmtrak.credentials.models import (
    AccountType,
    Credential,
    CredentialPassword,
    CredentialReveal,
)
from vmtrak.credentials.reveals import reveal
from vmtrak.credentials.rotation import due
from vmtrak.credentials.rules import Rules, Vault, Which
from vmtrak.credentials.seen import mark_seen, seen_by, seen_count, viewers

__all__ = [
    "MASK",
    "AccountType",
    "Credential",
    "CredentialPassword",
    "CredentialPatch",
    "CredentialQuery",
    "CredentialReveal",
    "NewCredential",
    "RevealRequest",
    "Rules",
    "Vault",
    "Which",
    "add",
    "change",
    "counted",
    "due",
    "find",
    "forget",
    "in_production",
    "mark_seen",
    "may_write",
    "of_vm",
    "page",
    "purge_vm",
    "remove",
    "reveal",
    "seen_by",
    "seen_count",
    "usernames",
    "versions",
    "viewers",
]
