"""Where sealed values are kept, and which keys seal them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from vmtrak.accounts import SecondFactor, second_factor
from vmtrak.credentials import Credential, CredentialPassword
from vmtrak.credentials.models import place_of
from vmtrak.db import AnySelect
from vmtrak.sealing import Place, Sealed

SAMPLES = 10
"""Rows of a table that are tried where no known text tells whether a key is the right one."""


class Use(NamedTuple):
    """How much a key seals; earlier passwords count as well."""

    passwords: int = 0
    factors: int = 0

    def __str__(self) -> str:
        counted = ((self.passwords, "password"), (self.factors, "second factor"))
        some = [f"{n:,} {noun}{'' if n == 1 else 's'}" for n, noun in counted if n]
        return " and ".join(some) or "nothing"


@dataclass(frozen=True, slots=True)
class Store:
    """A table of sealed values, each in the column of this name, its key's id in `key_id`.

    `rows` selects each row's `id`, its `sealed` value and what `place` and `name` make use of.
    """

    table: type[CredentialPassword | SecondFactor]
    column: str
    rows: AnySelect
    place: Callable[[Any], Place]
    name: Callable[[Any], str]

    def counts(self, session: Session) -> dict[str, int]:
        """How many rows each key seals; those that name no key are not counted."""
        key_id = self.table.key_id
        chosen = select(key_id, func.count()).where(key_id != "").group_by(key_id)
        return dict(session.execute(chosen).all())

    def stale(self, session: Session, key_id: str) -> Sequence[int]:
        """The numbers, upwards, of the rows that are not sealed with this key."""
        chosen = select(self.table.id).where(self.table.key_id != key_id)
        return session.scalars(chosen.order_by(self.table.id)).all()

    def samples(self, session: Session, key_id: str) -> list[tuple[Sealed, Place]]:
        """Some of what the key seals."""
        some = self.rows.where(self.table.key_id == key_id).limit(SAMPLES)
        return [(row.sealed, self.place(row)) for row in session.execute(some)]


_PASSWORDS = Store(
    table=CredentialPassword,
    column="sealed",
    rows=select(
        CredentialPassword.id,
        CredentialPassword.sealed,
        CredentialPassword.version,
        Credential.id.label("credential_id"),
        Credential.row_key,
    ).join(Credential, Credential.id == CredentialPassword.credential_id),
    place=lambda row: place_of(row.row_key, row.version),
    name=lambda row: (
        f"credential_passwords {row.id} (password {row.version} of credential {row.credential_id})"
    ),
)
_FACTORS = Store(
    table=SecondFactor,
    column="sealed_secret",
    rows=select(SecondFactor.id, SecondFactor.sealed_secret.label("sealed"), SecondFactor.user_id),
    place=lambda row: second_factor.place(row.id),
    name=lambda row: f"second_factors {row.id} (of user {row.user_id})",
)
STORES = (_FACTORS, _PASSWORDS)


def in_use(session: Session) -> dict[str, Use]:
    """What each key still seals; keys that seal nothing are left out."""
    passwords, factors = _PASSWORDS.counts(session), _FACTORS.counts(session)
    keys = sorted({*passwords, *factors})
    return {key: Use(passwords.get(key, 0), factors.get(key, 0)) for key in keys}
