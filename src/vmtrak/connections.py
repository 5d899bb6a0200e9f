"""Ways to a VM: the RDP file, the section of an OpenSSH configuration, and what a page offers.

Whoever has `Permission.RDP` sees every VM, but for those in the trash. None of it holds a password.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from vmtrak import audit, rdp, ssh
from vmtrak.access import Actor, Permission
from vmtrak.audit import Action
from vmtrak.credentials import AccountType, Credential
from vmtrak.db import Work
from vmtrak.errors import Conflict, NotFound
from vmtrak.fields import Input, Visible
from vmtrak.hosts import host_of
from vmtrak.inventory import VM, OsType


class SshRequest(Input):
    """As whom to connect: without `user` the primary account, with an empty one nobody named."""

    user: Annotated[str | None, Visible(256)] = None


class RdpRequest(SshRequest):
    port: Annotated[int, Field(ge=1, le=65535)] = rdp.USUAL_PORT


@dataclass(frozen=True, slots=True)
class Download:
    """A file and the name to save it under."""

    name: str
    content: bytes


def rdp_file(work: Work, rules: rdp.Rules, vm_id: int, asked: RdpRequest) -> Download:
    """The RDP file of a VM, on record.

    Raises `Conflict` where the VM has no address, `Unavailable` if it cannot be signed and should.
    """
    vm = _vm(work.session, work.actor, vm_id)
    user = _user(work.session, work.actor, vm_id, asked)
    content = rdp.file(_host(vm), asked.port, user, rules, work.moment)
    audit.record(
        work,
        Action.RDP_DOWNLOAD,
        entity_type="vm",
        entity_id=vm_id,
        entity_name=vm.vm_name,
        detail={"signed": rules.signer is not None, "port": asked.port},
    )
    return Download(f"{vm.vm_name}.rdp", content)


def ssh_section(session: Session, actor: Actor, vm_id: int, asked: SshRequest) -> str:
    """A section for ~/.ssh/config. Not on record: who gets it reads all of it on the VM's page."""
    vm = _vm(session, actor, vm_id)
    user = _user(session, actor, vm_id, asked)
    return ssh.section(ssh.alias_of(vm.vm_name, vm_id), _host(vm), user)


def offered(session: Session, actor: Actor, vm_id: int) -> dict[str, Any] | None:
    """What the VM's page offers: RDP, or SSH for Linux; None for who may neither.

    `accounts` has a row per account that the person may know, and one for none (None).
    """
    if not actor.may(Permission.RDP):
        return None
    vm = _vm(session, actor, vm_id)
    host = host_of(vm.ip_address, vm.hostname)
    linux = vm.os_type == OsType.LINUX
    names = [*_usernames(session, actor, vm_id), None] if host else []
    alias = ssh.alias_of(vm.vm_name, vm_id)
    rows = [_ssh_row(alias, host or "", name) if linux else {"user": name} for name in names]
    return {"kind": "ssh" if linux else "rdp", "host": host, "accounts": rows}


def _ssh_row(alias: str, host: str, user: str | None) -> dict[str, Any]:
    fits = user is None or ssh.can_hold(user)
    section = ssh.section(alias, host, user) if fits else None
    return {"user": user, "link": ssh.link(host, user), "section": section}


def _vm(session: Session, actor: Actor, vm_id: int) -> Any:  # noqa: ANN401 - a row of columns
    actor.require(Permission.RDP)
    chosen = select(VM.vm_name, VM.ip_address, VM.hostname, VM.os_type)
    row = session.execute(chosen.where(VM.id == vm_id, VM.deleted_at.is_(None))).one_or_none()
    if row is None:
        raise NotFound
    return row


def _host(vm: Any) -> str:  # noqa: ANN401 - a row of columns
    host = host_of(vm.ip_address, vm.hostname)
    if host is None:
        message = "This VM has no IP address, and no host name that could be one to connect to."
        raise Conflict(message)
    return host


def _user(session: Session, actor: Actor, vm_id: int, asked: SshRequest) -> str | None:
    if "user" in asked.model_fields_set:
        return asked.user
    primary = _usernames(session, actor, vm_id, only=AccountType.PRIMARY)
    return primary[0] if primary else None


def _usernames(
    session: Session, actor: Actor, vm_id: int, only: AccountType | None = None
) -> list[str]:
    """The accounts of a VM, the primary first; none for who may not see credentials."""
    if not actor.may(Permission.CREDENTIAL_READ):
        return []
    primary_first = Credential.account_type == AccountType.PRIMARY
    chosen = select(Credential.username).where(Credential.vm_id == vm_id)
    if only is not None:
        chosen = chosen.where(Credential.account_type == only)
    chosen = chosen.order_by(primary_first.desc(), Credential.username_key)
    return list(session.scalars(chosen))
