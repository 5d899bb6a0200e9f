"""What can be done with a credential: add, change, remove; and what becomes of a VM's."""

import secrets
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from vmtrak import audit, inventory
from vmtrak.access import Actor, Permission
from vmtrak.audit import SEALED, Action
from vmtrak.credentials.inputs import MASK, CredentialPatch, NewCredential
from vmtrak.credentials.models import AccountType, Credential, CredentialPassword
from vmtrak.credentials.rules import Vault, Which
from vmtrak.db import Seen, Work
from vmtrak.errors import Conflict, NotFound, Stale
from vmtrak.fields import given
from vmtrak.inventory import VM
from vmtrak.sealing import Sealed, SealingError

_CONFLICTS = MappingProxyType(
    {
        "uq_credentials_vm_id_username_key": Conflict(
            "This VM has an account of this name already.", field="username"
        ),
        "uq_credentials_vm_id": Conflict(
            "This VM has a primary account already; make that one another account first.",
            field="account_type",
        ),
    }
)

_ROW_KEY_BYTES = 16
"""128 random bits: no two rows ever have the same key, in whatever database."""


def may_write(actor: Actor) -> bool:
    return actor.may(Permission.VM_WRITE) and actor.may(Permission.CREDENTIAL_READ)


def require_write(actor: Actor) -> None:
    """Changing a credential takes both: the inventory's writing and the sight of credentials."""
    actor.require(Permission.CREDENTIAL_READ)
    actor.require(Permission.VM_WRITE)


def add(work: Work, vault: Vault, vm_id: int, new: NewCredential) -> Credential:
    """Add a credential. Raises `NotFound` without such a VM, `Conflict` on a name that is taken."""
    require_write(work.actor)
    vm = _vm(work, vm_id)
    credential = Credential(
        vm_id=vm.id,
        row_key=secrets.token_hex(_ROW_KEY_BYTES),
        username=new.username,
        account_type=new.account_type or _usual_type(work.session, vm.id),
        notes=new.notes,
        version=0,
        created_at=work.moment,
        updated_at=work.moment,
        created_by=work.actor.username,
        updated_by=work.actor.username,
    )
    credential.derive()
    _number_password(work, credential)
    work.session.add(credential)
    work.flush(_CONFLICTS)
    _keep(work, vault, credential, new.password.get_secret_value())
    _record(work, Action.CREDENTIAL_CREATE, credential, vm.vm_name, audit.snapshot(credential))
    return credential


def change(
    work: Work,
    vault: Vault,
    which: Which,
    patch: CredentialPatch,
    seen: Seen = None,
) -> Credential:
    """Change the fields that the patch sets; a new password makes the present one an earlier one.

    A row that is sent back as it was read brings its old mark along, which a new password ends
    all the same. Raises `Stale` as `inventory.change` does.
    """
    require_write(work.actor)
    values = given(patch)
    password, marked = values.pop("password", None), values.pop("rotation_marked", None)
    credential, vm_name = locked(work, which, seen)
    was_marked = credential.rotation_marked_at is not None
    for name, value in values.items():
        setattr(credential, name, value)
    detail = audit.difference(credential)
    if password is not None:
        detail |= _change_password(work, vault, credential, password.get_secret_value())
    if marked is not None and marked != was_marked:
        detail |= _mark(work, credential, marked=marked)
    if not detail:
        return credential
    credential.updated_at, credential.updated_by = work.moment, work.actor.username
    credential.derive()
    work.flush(_CONFLICTS)
    _record(work, Action.CREDENTIAL_UPDATE, credential, vm_name, detail)
    return credential


def remove(work: Work, which: Which, seen: Seen = None) -> Credential:
    """Destroy a credential with all its passwords."""
    require_write(work.actor)
    credential, vm_name = locked(work, which, seen)
    _destroy(work, credential, vm_name)
    return credential


def purge_vm(work: Work, vm_id: int) -> int:
    """Destroy a VM that is in the trash, and its credentials with it; how many those were."""
    work.actor.require(Permission.TRASH)
    # The VM first: whoever adds a credential holds it, and what they added is seen after that.
    trashed = select(VM).where(VM.id == vm_id, VM.deleted_at.is_not(None))
    vm = work.session.scalar(trashed.with_for_update())
    if vm is None:
        raise NotFound
    chosen = select(Credential).where(Credential.vm_id == vm_id).order_by(Credential.id)
    found = work.session.scalars(chosen.with_for_update()).all()
    for credential in found:
        _destroy(work, credential, vm.vm_name)
    inventory.purge(work, vm_id)
    return len(found)


def forget(work: Work, key_id: str, most: int) -> int:
    """Destroy what a lost key sealed of so many credentials; how many passwords that was.

    Those of VMs in the trash are part of it. Who loses the present one is marked for rotation.
    """
    require_write(work.actor)
    sealed = select(CredentialPassword.credential_id).where(CredentialPassword.key_id == key_id)
    chosen = select(Credential, VM.vm_name).join(VM, VM.id == Credential.vm_id)
    some = sealed.order_by(CredentialPassword.credential_id).limit(most)
    chosen = chosen.where(Credential.id.in_(some)).order_by(Credential.id)
    found = work.session.execute(chosen.with_for_update(of=Credential)).all()
    lost = _delete_sealed(work.session, key_id, [credential.id for credential, _ in found])
    for credential, vm_name in found:
        _lose(work, credential, vm_name, lost[credential.id], key_id)
    work.flush()
    return sum(map(len, lost.values()))


def _delete_sealed(session: Session, key_id: str, numbers: list[int]) -> dict[int, set[int]]:
    """Delete what the key sealed of these credentials; the versions, by credential."""
    gone = session.execute(
        delete(CredentialPassword)
        .where(CredentialPassword.key_id == key_id, CredentialPassword.credential_id.in_(numbers))
        .returning(CredentialPassword.credential_id, CredentialPassword.version),
        execution_options={"synchronize_session": False},
    )
    lost: defaultdict[int, set[int]] = defaultdict(set)
    for row in gone:
        lost[row.credential_id].add(row.version)
    return lost


def _lose(work: Work, credential: Credential, vm_name: str, lost: set[int], key_id: str) -> None:
    if not lost:  # somebody who has the key was quicker
        return
    detail: dict[str, Any] = {"lost_key": key_id}
    if credential.version in lost:
        detail |= {"password": {"from": SEALED, "to": None}}
        detail |= _mark(work, credential, marked=True)
    if earlier := len(lost - {credential.version}):
        detail["earlier_passwords_destroyed"] = earlier
    credential.updated_at, credential.updated_by = work.moment, work.actor.username
    _record(work, Action.CREDENTIAL_UPDATE, credential, vm_name, detail)


def locked(work: Work, which: Which, seen: Seen = None) -> tuple[Credential, str]:
    """The credential to change, locked against others, and the name of its VM.

    Whoever may see credentials sees every VM, but for those in the trash.
    """
    work.actor.require(Permission.CREDENTIAL_READ)
    chosen = select(Credential, VM.vm_name).join(VM, VM.id == Credential.vm_id)
    chosen = chosen.where(Credential.id == which.number, VM.deleted_at.is_(None))
    if which.vm_id is not None:
        chosen = chosen.where(Credential.vm_id == which.vm_id)
    found = work.session.execute(chosen.with_for_update(of=Credential)).one_or_none()
    if found is None:
        raise NotFound
    credential, vm_name = found
    if seen is not None and credential.revision not in seen:
        raise Stale
    return credential, vm_name


def _vm(work: Work, vm_id: int) -> VM:
    """The VM, which nobody changes, removes or adds an account to until this unit of work ends."""
    chosen = select(VM).where(VM.id == vm_id, VM.deleted_at.is_(None))
    vm = work.session.scalar(chosen.with_for_update(key_share=True))
    if vm is None:
        raise NotFound
    return vm


def _usual_type(session: Session, vm_id: int) -> AccountType:
    primary = select(Credential.id).where(
        Credential.vm_id == vm_id, Credential.account_type == AccountType.PRIMARY
    )
    return AccountType.OTHERS if session.scalar(primary) else AccountType.PRIMARY


def _change_password(
    work: Work, vault: Vault, credential: Credential, password: str
) -> dict[str, Any]:
    """Put a new password in the place of the present one; the change as the trail tells it.

    One that was used before is marked for rotation: others may know it from then.
    """
    kept = _kept(work.session, credential)
    same = _same(work, vault, credential, kept, password)
    if password == MASK or credential.version in same:
        return {}
    had_one = credential.version in kept
    _number_password(work, credential)
    _keep(work, vault, credential, password)
    work.session.execute(
        delete(CredentialPassword).where(
            CredentialPassword.credential_id == credential.id,
            CredentialPassword.version < credential.version - vault.rules.versions,
        )
    )
    return {
        "password": {"from": SEALED if had_one else None, "to": SEALED},
        **_mark(work, credential, marked=bool(same)),
    }


def _kept(session: Session, credential: Credential) -> dict[int, Sealed]:
    chosen = select(CredentialPassword.version, CredentialPassword.sealed)
    chosen = chosen.where(CredentialPassword.credential_id == credential.id)
    return {row.version: row.sealed for row in session.execute(chosen)}


def _same(
    work: Work, vault: Vault, credential: Credential, kept: Mapping[int, Sealed], password: str
) -> set[int]:
    """The versions that hold this very password.

    None for who may not reveal, who could find out by guessing; a value that does not open is no
    password, and another may be put in its place.
    """
    if not work.actor.may(Permission.CREDENTIAL_REVEAL):
        return set()
    found = set()
    for version, sealed in kept.items():
        with suppress(SealingError):
            if vault.keys.open(sealed, credential.place(version)) == password:
                found.add(version)
    return found


def _number_password(work: Work, credential: Credential) -> None:
    credential.version += 1
    credential.password_changed_at = work.moment
    credential.password_changed_by = work.actor.username


def _keep(work: Work, vault: Vault, credential: Credential, password: str) -> None:
    sealed = vault.keys.seal(password, credential.place(credential.version))
    work.session.add(
        CredentialPassword(
            credential_id=credential.id,
            version=credential.version,
            sealed=sealed,
            key_id=sealed.key_id,
            set_at=work.moment,
            set_by=work.actor.username,
            set_by_id=work.actor.user_id,
        )
    )
    work.flush()


def _mark(work: Work, credential: Credential, *, marked: bool) -> dict[str, Any]:
    """Mark or unmark it for rotation; the change as the trail tells it, if there is one."""
    before = credential.rotation_marked_at is not None
    if before == marked:
        return {}
    credential.rotation_marked_at = work.moment if marked else None
    credential.rotation_marked_by = work.actor.username if marked else None
    return {"rotation_marked": {"from": before, "to": marked}}


def _destroy(work: Work, credential: Credential, vm_name: str) -> None:
    _record(work, Action.CREDENTIAL_DELETE, credential, vm_name, audit.snapshot(credential))
    work.session.delete(credential)
    work.flush()


def _record(
    work: Work, action: Action, credential: Credential, vm_name: str, detail: Mapping[str, Any]
) -> None:
    """Auditors read the trail and may not know the accounts: it names the VM and the number."""
    audit.record(
        work,
        action,
        entity_type="credential",
        entity=credential,
        entity_id=credential.id,
        entity_name=vm_name,
        detail=detail,
    )
