"""The tables of accounts: users, how they prove who they are, their sessions and tokens."""

import hashlib
from datetime import datetime
from typing import ClassVar

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from vmtrak.audit import Audited
from vmtrak.db import Base, Identifier, Key, Moment, SealedText
from vmtrak.fields import fold
from vmtrak.sealing import Sealed


def digest(token: str) -> str:
    """Tokens are random, so that a plain SHA-256 keeps them safe at rest."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class User(Audited, Base):
    """`sign_in_method` is "local" or "microsoft", which stands for any OIDC provider.

    `awaits_subject` (the provider's exact identifier) and `awaits_email` mark an account that its
    person has yet to claim at the first sign-in over the provider.
    """

    __tablename__ = "users"
    __audit_silent__: ClassVar[frozenset[str]] = frozenset(
        {
            "id",
            "username_key",
            "email_key",
            "revision",
            "created_at",
            "updated_at",
            "last_seen_at",
        }
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
    sign_in_method: Mapped[str] = mapped_column(String(16), default="local")
    awaits_subject: Mapped[str | None] = mapped_column(String(256))
    awaits_email: Mapped[bool] = mapped_column(Boolean, default=False)
    is_guest: Mapped[bool] = mapped_column(Boolean, default=False)
    second_factor_required: Mapped[bool] = mapped_column(Boolean, default=False)
    has_second_factor: Mapped[bool] = mapped_column(Boolean, default=False)
    last_seen_at: Mapped[datetime | None] = mapped_column(Moment)
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
    """One sign-in: a browser at the panel, or a client of the REST interface.

    `method` is "password", "link" or "microsoft"; `proved_at` is when the person last showed who
    they are, by the sign-in itself or by a step-up; `provider_sid` is the OIDC claim `sid`.
    """

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
    method: Mapped[str] = mapped_column(String(16))
    last_seen_at: Mapped[datetime] = mapped_column(Moment)
    last_ip_address: Mapped[str | None] = mapped_column(String(64))
    proved_at: Mapped[datetime | None] = mapped_column(Moment)
    provider_sid: Mapped[str | None] = mapped_column(String(256), index=True)

    __table_args__ = (
        Index("uq_sessions_token_hash", "token_hash", unique=True),
        Index(None, "expires_at"),
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
        Index(None, "expires_at"),
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


class ApiToken(Audited, Base):
    """A token with which a script acts for its user, kept as its SHA-256.

    `scopes` and `allowed_networks` are separated by single spaces; no networks: from anywhere.
    `hint` is the token's last four characters, by which its owner recognises it.
    """

    __tablename__ = "api_tokens"
    __audit_silent__: ClassVar[frozenset[str]] = frozenset(
        {"id", "user_id", "created_at", "last_used_at", "last_used_ip_address"}
    )
    __audit_sealed__: ClassVar[frozenset[str]] = frozenset({"token_hash"})

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(128))
    hint: Mapped[str] = mapped_column(String(8))
    token_hash: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[str] = mapped_column(String(256))
    allowed_networks: Mapped[str] = mapped_column(String(2048))
    created_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)
    last_used_at: Mapped[datetime | None] = mapped_column(Moment)
    last_used_ip_address: Mapped[str | None] = mapped_column(String(64))

    __table_args__ = (
        Index("uq_api_tokens_token_hash", "token_hash", unique=True),
        {"sqlite_autoincrement": True},
    )


class CalendarFeed(Audited, Base):
    """A person's calendar address, kept as the SHA-256 of its token.

    `owned_only` leaves out VMs that the person sees without owning them.
    """

    __tablename__ = "calendar_feeds"
    __audit_silent__: ClassVar[frozenset[str]] = frozenset(
        {"id", "user_id", "created_at", "last_used_at"}
    )
    __audit_sealed__: ClassVar[frozenset[str]] = frozenset({"token_hash"})

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"), unique=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    owned_only: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(Moment)
    last_used_at: Mapped[datetime | None] = mapped_column(Moment)

    __table_args__ = ({"sqlite_autoincrement": True},)


class Identity(Base):
    """Who a user is to an OIDC provider.

    `issuer` is the tenant's id for Entra ID, else the issuer's URL; `subject` is `oid` or `sub`.
    """

    __tablename__ = "identities"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"))
    issuer: Mapped[str] = mapped_column(String(512))
    subject: Mapped[str] = mapped_column(String(256))
    created_at: Mapped[datetime] = mapped_column(Moment)

    __table_args__ = (
        Index("uq_identities_user_id", "user_id", unique=True),
        Index("uq_identities_issuer_subject", "issuer", "subject", unique=True),
        {"sqlite_autoincrement": True},
    )


_IN_FORCE = text("confirmed_at IS NOT NULL")


class SecondFactor(Base):
    """A user's TOTP secret, sealed; in force once `confirmed_at` is set.

    Beside the one in force there may be one that is yet to take its place. `last_step` is the
    newest time step whose code was taken: no code counts twice (RFC 6238, 5.2). `key_id` repeats
    what the sealed text says, so that the rows of a key are found; it is empty if none is named.
    """

    __tablename__ = "second_factors"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"))
    sealed_secret: Mapped[Sealed] = mapped_column(SealedText(2048))
    key_id: Mapped[str] = mapped_column(String(32), index=True, server_default="")
    confirmed_at: Mapped[datetime | None] = mapped_column(Moment)
    last_step: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(Moment)

    __table_args__ = (
        Index(None, "user_id"),
        Index(
            "uq_second_factors_in_force",
            "user_id",
            unique=True,
            sqlite_where=_IN_FORCE,
            postgresql_where=_IN_FORCE,
        ),
        {"sqlite_autoincrement": True},
    )

    def keep(self, sealed: Sealed) -> None:
        self.sealed_secret, self.key_id = sealed, sealed.key_id


class RecoveryCode(Base):
    """A code that stands in once for a lost second factor, kept as its SHA-256."""

    __tablename__ = "recovery_codes"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"), index=True)
    code_hash: Mapped[str] = mapped_column(String(64))
    used_at: Mapped[datetime | None] = mapped_column(Moment)

    __table_args__ = ({"sqlite_autoincrement": True},)


class SignInLimit(Base):
    """How many sign-ins failed in a row for an account, an address or a known browser.

    `key` says which, without naming anybody: names that nobody has are counted, too. `pending`
    counts attempts that are being checked, each a failure until it is known to be right;
    `last_failed_at` is when the newest of either kind began.
    """

    __tablename__ = "sign_in_limits"

    key: Mapped[str] = mapped_column(String(128), primary_key=True)
    failures: Mapped[int] = mapped_column()
    pending: Mapped[int] = mapped_column()
    last_failed_at: Mapped[datetime] = mapped_column(Moment, index=True)
    blocked_until: Mapped[datetime | None] = mapped_column(Moment)
