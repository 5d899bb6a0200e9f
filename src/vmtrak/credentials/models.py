"""The tables of credentials: who may sign in to a VM, the passwords, and who has seen them."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from sqlalchemy import ColumnElement, ForeignKey, Index, String, exists, text
from sqlalchemy.orm import Mapped, mapped_column

from vmtrak.accounts import User
from vmtrak.audit import Audited
from vmtrak.db import Base, Identifier, Key, Moment, SealedText
from vmtrak.fields import fold
from vmtrak.inventory import VM
from vmtrak.sealing import Place, Sealed

SEALED_LENGTH = 4096
"""512 characters of four bytes each, tag, nonce and key id take 2,806 characters."""


class AccountType(StrEnum):
    PRIMARY = "primary"
    OTHERS = "others"


class Credential(Audited, Base):
    """An account on a VM. Its user name and notes are for those who may see credentials only.

    `row_key` is random and never given again: passwords are sealed for it, so that none opens
    under another credential. `version` numbers the present password, the first one being 1.
    """

    __tablename__ = "credentials"
    __audit_silent__: ClassVar[frozenset[str]] = frozenset(
        {
            "id",
            "row_key",
            "username_key",
            "version",
            "password_changed_at",
            "password_changed_by",
            "rotation_marked_at",
            "rotation_marked_by",
            "created_at",
            "updated_at",
            "created_by",
            "updated_by",
            "revision",
        }
    )
    __audit_sealed__: ClassVar[frozenset[str]] = frozenset({"username", "notes"})

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    vm_id: Mapped[int] = mapped_column(ForeignKey(VM.id, ondelete="RESTRICT"))
    row_key: Mapped[str] = mapped_column(String(32))
    username: Mapped[str] = mapped_column(String(256))
    account_type: Mapped[str] = mapped_column(String(16))
    notes: Mapped[str | None] = mapped_column(String(4096))
    version: Mapped[int] = mapped_column()
    password_changed_at: Mapped[datetime] = mapped_column(Moment)
    password_changed_by: Mapped[str] = mapped_column(String(256))
    rotation_marked_at: Mapped[datetime | None] = mapped_column(Moment)
    rotation_marked_by: Mapped[str | None] = mapped_column(String(256))
    created_at: Mapped[datetime] = mapped_column(Moment)
    updated_at: Mapped[datetime] = mapped_column(Moment)
    created_by: Mapped[str] = mapped_column(String(256))
    updated_by: Mapped[str] = mapped_column(String(256))
    username_key: Mapped[str] = mapped_column(Key)
    revision: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": revision}  # noqa: RUF012 - SQLAlchemy's own declaration
    __table_args__ = (
        Index("uq_credentials_vm_id_username_key", "vm_id", "username_key", unique=True),
        Index(
            "uq_credentials_vm_id",
            "vm_id",
            unique=True,
            sqlite_where=text("account_type = 'primary'"),
            postgresql_where=text("account_type = 'primary'"),
        ),
        Index(None, "password_changed_at"),
        {"sqlite_autoincrement": True},
    )

    def derive(self) -> None:
        self.username_key = fold(self.username)

    def place(self, version: int) -> Place:
        """Where one of its passwords is kept."""
        return place_of(self.row_key, version)


def place_of(row_key: str, version: int) -> Place:
    """Where a password is kept: the credential's random key and the version, not its number."""
    return Place("credential_passwords", "sealed", f"{row_key}/{version}")


class CredentialPassword(Base):
    """A sealed password, the present one of its credential or an earlier one.

    `key_id` repeats what `sealed` says, so that the rows of a key can be counted.
    """

    __tablename__ = "credential_passwords"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    credential_id: Mapped[int] = mapped_column(ForeignKey(Credential.id, ondelete="CASCADE"))
    version: Mapped[int] = mapped_column()
    sealed: Mapped[Sealed] = mapped_column(SealedText(SEALED_LENGTH))
    key_id: Mapped[str] = mapped_column(String(32), index=True)
    set_at: Mapped[datetime] = mapped_column(Moment)
    set_by: Mapped[str] = mapped_column(String(256))
    set_by_id: Mapped[int | None] = mapped_column(ForeignKey(User.id), index=True)

    __table_args__ = (
        Index(
            "uq_credential_passwords_credential_id_version",
            "credential_id",
            "version",
            unique=True,
        ),
        {"sqlite_autoincrement": True},
    )


def has_password() -> ColumnElement[bool]:
    """The condition under which a credential's present password is kept: its key may be lost."""
    return exists().where(
        CredentialPassword.credential_id == Credential.id,
        CredentialPassword.version == Credential.version,
    )


class CredentialReveal(Base):
    """That somebody was shown a password.

    `credential_id` is no foreign key: whoever destroys a credential gets no reveal back by it.
    """

    __tablename__ = "credential_reveals"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    credential_id: Mapped[int] = mapped_column(Identifier)
    version: Mapped[int] = mapped_column()
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id))
    revealed_at: Mapped[datetime] = mapped_column(Moment)

    __table_args__ = (
        Index(None, "user_id", "revealed_at"),
        Index(None, "credential_id", "version", "user_id"),
        {"sqlite_autoincrement": True},
    )
