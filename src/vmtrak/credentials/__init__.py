"""Credentials: accounts on VMs, their sealed passwords, and who has seen them."""

from vmtrak.credentials.changes import add, change, may_write, purge_vm, remove
from vmtrak.credentials.inputs import (
    MASK,
    CredentialPatch,
    NewCredential,
    RevealRequest,
)
from vmtrak.credentials.models import (
    AccountType,
    Credential,
    CredentialPassword,
    CredentialReveal,
)
from vmtrak.credentials.reveals import reveal
from vmtrak.credentials.rules import Rules, Vault, Which

__all__ = [
    "MASK",
    "AccountType",
    "Credential",
    "CredentialPassword",
    "CredentialPatch",
    "CredentialReveal",
    "NewCredential",
    "RevealRequest",
    "Rules",
    "Vault",
    "Which",
    "add",
    "change",
    "may_write",
    "purge_vm",
    "remove",
    "reveal",
]
