"""Sealed rows by the thousand, and what they must open to."""

import base64
import secrets
from typing import TypeAlias

from sqlalchemy import insert, select, text

from vmtrak import inventory, keys
from vmtrak.access import SYSTEM
from vmtrak.accounts import SecondFactor, User, second_factor
from vmtrak.credentials import Credential, CredentialPassword
from vmtrak.credentials.models import place_of
from vmtrak.db import Database, Work
from vmtrak.inventory import NewVM
from vmtrak.sealing import KeyRing, Sealed

Stock: TypeAlias = dict[tuple[str, int, int], str]
"""What is sealed, by table, number of the credential or of the factor, and version."""

KEYS = {"old": bytes(range(32)), "new": bytes(range(32, 64)), "third": bytes(range(64, 96))}
SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


def ring(*ids: str) -> KeyRing:
    return KeyRing([(key_id, KEYS[key_id]) for key_id in ids])


def setting(*ids: str) -> str:
    """The ring as the setting spells it."""
    return ",".join(f"{key_id}:{base64.b64encode(KEYS[key_id]).decode()}" for key_id in ids)


def lay_in(url: str, credentials: int, key_id: str = "old") -> Stock:
    """Add two passwords for each credential, and a second factor for everybody who has none.

    One key seals them all. Half of the credentials are those of a VM in the trash.
    """
    database = Database(url)
    with database.work(SYSTEM) as work:
        sealing = ring(key_id, *(keys.in_use(work.session).keys() - {key_id}))
        keys.check(work, sealing)
        _add_factors(work, sealing)
        _add_passwords(work, sealing, credentials)
    found = opened(database, sealing)
    database.close()
    return found


def opened(database: Database, sealing: KeyRing) -> Stock:
    """Everything that is sealed; raises unless all of it opens."""
    passwords = select(Credential.row_key, CredentialPassword).join_from(
        Credential, CredentialPassword
    )
    found: Stock = {}
    with database.read() as session:
        for row_key, row in session.execute(passwords):
            where = ("passwords", row.credential_id, row.version)
            found[where] = sealing.open(row.sealed, place_of(row_key, row.version))
            assert row.key_id == row.sealed.key_id
        for factor in session.scalars(select(SecondFactor)):
            where = ("factors", factor.id, 0)
            found[where] = sealing.open(factor.sealed_secret, second_factor.place(factor.id))
            assert factor.key_id == factor.sealed_secret.key_id
    return found


def left(database: Database, key_id: str = "old") -> int:
    """How many rows a key still seals."""
    with database.read() as session:
        return sum(keys.in_use(session).get(key_id, ()))


def _add_factors(work: Work, sealing: KeyRing) -> None:
    lacking = select(User.id).where(User.id.not_in(select(SecondFactor.user_id)))
    for user_id in work.session.scalars(lacking).all():
        factor = SecondFactor(user_id=user_id, sealed_secret=Sealed(""), created_at=work.moment)
        work.session.add(factor)
        work.flush()
        factor.confirmed_at = work.moment
        factor.keep(sealing.seal(SECRET, second_factor.place(factor.id)))


def _add_passwords(work: Work, sealing: KeyRing, number: int) -> None:
    vms = [inventory.add(work, NewVM(vm_name=secrets.token_hex(8))) for _ in range(2)]
    work.flush()
    inventory.remove(work, vms[1].id)
    accounts = [_account(work, vms[n % 2].id, n) for n in range(number)]
    work.session.execute(insert(Credential).execution_options(audited=True), accounts)
    chosen = select(Credential.id, Credential.row_key).where(
        Credential.vm_id.in_([vm.id for vm in vms])
    )
    rows = [
        _password(work, sealing, row.id, row.row_key, version)
        for row in work.session.execute(chosen).all()
        for version in (1, 2)
    ]
    work.session.execute(insert(CredentialPassword), rows)


def _account(work: Work, vm_id: int, number: int) -> dict[str, object]:
    return {
        "vm_id": vm_id,
        "row_key": secrets.token_hex(16),
        "username": f"u{number}",
        "username_key": f"u{number}",
        "account_type": "others",
        "version": 2,
        "revision": 1,
        **dict.fromkeys(("created_by", "updated_by", "password_changed_by"), "ada"),
        **dict.fromkeys(("created_at", "updated_at", "password_changed_at"), work.moment),
    }


def _password(
    work: Work, sealing: KeyRing, credential_id: int, row_key: str, version: int
) -> dict[str, object]:
    # Few different characters: the tests' watch for passwords passes over such short ones.
    sealed = sealing.seal(f"{credential_id}-{version}", place_of(row_key, version))
    return {
        "credential_id": credential_id,
        "version": version,
        "sealed": sealed,
        "key_id": sealed.key_id,
        "set_at": work.moment,
        "set_by": "ada",
    }


def spoil(database: Database, table: str, column: str, number: int) -> None:
    """Alter the last character of a sealed value."""
    with database.work(SYSTEM) as work:
        sealed = work.session.scalar(text(f"SELECT {column} FROM {table} WHERE id = {number}"))  # noqa: S608 - ours
        spoiled = sealed[:-1] + ("A" if sealed[-1] != "A" else "Q")
        change = text(f"UPDATE {table} SET {column} = :text WHERE id = {number}")  # noqa: S608 - ours
        work.session.execute(change, {"text": spoiled})
