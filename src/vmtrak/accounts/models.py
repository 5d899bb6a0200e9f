"""Users, sessions, refresh tokens, one-time links, and the inputs that make and change users."""

import unicodedata
from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, SecretStr, WithJsonSchema
from sqlalchemy import Boolean, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from vmtrak.access import Role
from vmtrak.audit import Audited
from vmtrak.db import Base, Identifier, Key, Moment
from vmtrak.fields import Input, Required, RequiredEmail, Text, blank_to_none, fold, wrong

PASSWORD_LEAST, PASSWORD_MOST = 12, 256


class User(Audited, Base):
    __tablename__ = "users"
    __audit_silent__: ClassVar[frozenset[str]] = frozenset(
        {"id", "username_key", "email_key", "revision", "created_at", "updated_at"}
    )
    __audit_sealed__: ClassVar[frozenset[str]] = frozenset({"password_hash"})

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    username: Mapped[str] = mapped_column(String(128))
    email: Mapped[str] = mapped_column(String(320))
    password_hash: Mapped[str | None] = mapped_column(String(256))
    role: Mapped[str] = mapped_column(String(16))
    department: Mapped[str | None] = mapped_column(String(128))
    is_active: Mapped[bool] = mapped_column(Boolean)
    must_change_password: Mapped[bool] = mapped_column(Boolean)
    notify_expiry: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[datetime] = mapped_column(Moment)
    updated_at: Mapped[datetime] = mapped_column(Moment)
    username_key: Mapped[str] = mapped_column(Key)
    email_key: Mapped[str] = mapped_column(Key)
    revision: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": revision}  # noqa: RUF012 - SQLAlchemy's own declaration
    __table_args__ = (
        Index("uq_users_username_key", "username_key", unique=True),
        Index("uq_users_email_key", "email_key", unique=True),
        {"sqlite_autoincrement": True},
    )

    def derive(self) -> None:
        self.username_key = fold(self.username)
        self.email_key = fold(self.email)


class SignedIn(Base):
    """One sign-in: a browser at the panel, or a client of the REST interface."""

    __tablename__ = "sessions"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(8))
    token_hash: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)
    ip_address: Mapped[str | None] = mapped_column(String(64))
    user_agent: Mapped[str | None] = mapped_column(String(256))

    __table_args__ = (
        Index("uq_sessions_token_hash", "token_hash", unique=True),
        {"sqlite_autoincrement": True},
    )


class RefreshToken(Base):
    """One link of a session's chain of refresh tokens, kept as its SHA-256."""

    __tablename__ = "refresh_tokens"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    session_id: Mapped[int] = mapped_column(ForeignKey(SignedIn.id, ondelete="CASCADE"), index=True)
    token_hash: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment)
    used_at: Mapped[datetime | None] = mapped_column(Moment)

    __table_args__ = (
        Index("uq_refresh_tokens_token_hash", "token_hash", unique=True),
        {"sqlite_autoincrement": True},
    )


class OneTimeLink(Base):
    """A link that works once, to set up an account or to sign in; no user: the first admin."""

    __tablename__ = "one_time_links"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"), index=True)
    purpose: Mapped[str] = mapped_column(String(16))
    token_hash: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment)
    used_at: Mapped[datetime | None] = mapped_column(Moment)

    __table_args__ = (
        Index("uq_one_time_links_token_hash", "token_hash", unique=True),
        {"sqlite_autoincrement": True},
    )


def _password(value: object) -> object:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if not isinstance(value, str):
        raise wrong("must be text")
    if not PASSWORD_LEAST <= len(value) <= PASSWORD_MOST:
        raise wrong(f"must have {PASSWORD_LEAST} to {PASSWORD_MOST} characters")
    if not value.isascii() and any(unicodedata.category(each) == "Cs" for each in value):
        raise wrong("contains a character that cannot be stored")
    return value


Password = Annotated[
    SecretStr,
    BeforeValidator(_password),
    WithJsonSchema(
        {
            "type": "string",
            "format": "password",
            "minLength": PASSWORD_LEAST,
            "maxLength": PASSWORD_MOST,
        }
    ),
]


def _username(value: object) -> object:
    if isinstance(value, str) and any(character.isspace() for character in value.strip()):
        raise wrong("must not contain spaces")
    return value


def _given(value: object) -> object:
    if blank_to_none(value) is None:
        raise wrong("must not be empty")
    return value


Username = Annotated[str, BeforeValidator(_username), Required(128)]
GivenRole = Annotated[Role, BeforeValidator(_given)]
GivenFlag = Annotated[bool, BeforeValidator(_given)]


class NewUser(Input):
    """A user to be added; who has no password gets a one-time set-up link."""

    username: Username
    email: RequiredEmail
    role: GivenRole
    department: Annotated[str | None, Text(128)] = None
    password: Password | None = None


class UserPatch(Input):
    """Changes to a user: only the fields set count."""

    email: RequiredEmail = ""
    role: GivenRole = Role.READ
    department: Annotated[str | None, Text(128)] = None
    is_active: GivenFlag = True
    notify_expiry: GivenFlag = False


class FirstAdmin(Input):
    """What the first administrator gives over the set-up link."""

    username: Username
    email: RequiredEmail
    password: Password


class Setup(Input):
    """What a person gives to finish the set-up of their own account."""

    email: RequiredEmail
    password: Password


class NewPassword(Input):
    password: Password


class PasswordReset(Input):
    new_password: Password


class SignIn(Input):
    """A sign-in with name and password. Any text may be tried."""

    username: Annotated[str, Field(max_length=1_000)]
    password: Annotated[SecretStr, Field(max_length=1_000)]
