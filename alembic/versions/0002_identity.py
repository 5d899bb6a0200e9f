"""Identity: how people sign in, second factors, API tokens, and limits against guessing."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(20), "sqlite")


def _moment(name: str, *, null: bool = True) -> sa.Column:
    return sa.Column(name, _MOMENT, nullable=null)


def _text(name: str, length: int, *, null: bool = False) -> sa.Column:
    return sa.Column(name, sa.String(length), nullable=null)


def _flag(name: str) -> sa.Column:
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())


def _table_of_users(name: str, *columns: sa.Column) -> None:
    """A table whose rows belong to users and go with them."""
    op.create_table(
        name,
        sa.Column("id", _ID, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("id", name=f"pk_{name}"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=f"fk_{name}_user_id", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
    )


def upgrade() -> None:
    _users()
    _sessions()
    _tokens()
    _proofs()
    op.create_table(
        "sign_in_limits",
        _text("key", 128),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("pending", sa.Integer(), nullable=False),
        _moment("last_failed_at", null=False),
        _moment("blocked_until"),
        sa.PrimaryKeyConstraint("key", name="pk_sign_in_limits"),
    )
    op.create_index("ix_sign_in_limits_last_failed_at", "sign_in_limits", ["last_failed_at"])
    op.create_table(
        "job_runs",
        _text("name", 64),
        _moment("done_at", null=False),
        sa.PrimaryKeyConstraint("name", name="pk_job_runs"),
    )


def _users() -> None:
    for column in (
        sa.Column("sign_in_method", sa.String(16), nullable=False, server_default="local"),
        _text("awaits_subject", 256, null=True),
        _flag("awaits_email"),
        _flag("is_guest"),
        _flag("second_factor_required"),
        _flag("has_second_factor"),
        _moment("last_seen_at"),
    ):
        op.add_column("users", column)
    newest = "(SELECT max(created_at) FROM sessions WHERE sessions.user_id = users.id)"
    op.execute(f"UPDATE users SET last_seen_at = {newest}")


def _sessions() -> None:
    """Whoever is signed in stays so; a proof of identity is due before what needs one."""
    op.add_column(
        "sessions", sa.Column("method", sa.String(16), nullable=False, server_default="password")
    )
    some = "1970-01-01T00:00:00Z"
    op.add_column(
        "sessions", sa.Column("last_seen_at", _MOMENT, nullable=False, server_default=some)
    )
    now = "strftime('%Y-%m-%dT%H:%M:%SZ', 'now')"
    if op.get_bind().dialect.name != "sqlite":
        now = "date_trunc('second', now())"
    op.execute(f"UPDATE sessions SET last_seen_at = {now}")
    op.add_column("sessions", _text("last_ip_address", 64, null=True))
    op.add_column("sessions", _moment("proved_at"))
    op.add_column("sessions", _text("provider_sid", 256, null=True))
    op.create_index("ix_sessions_provider_sid", "sessions", ["provider_sid"])
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])
    op.create_index("ix_refresh_tokens_expires_at", "refresh_tokens", ["expires_at"])


def _tokens() -> None:
    _table_of_users(
        "api_tokens",
        _text("name", 128),
        _text("hint", 8),
        _text("token_hash", 64),
        _text("scopes", 256),
        _text("allowed_networks", 2048),
        _moment("created_at", null=False),
        _moment("expires_at", null=False),
        _moment("revoked_at"),
        _moment("last_used_at"),
        _text("last_used_ip_address", 64, null=True),
    )
    op.create_index("uq_api_tokens_token_hash", "api_tokens", ["token_hash"], unique=True)
    op.create_index("ix_api_tokens_user_id", "api_tokens", ["user_id"])


def _proofs() -> None:
    _table_of_users(
        "identities",
        _text("issuer", 512),
        _text("subject", 256),
        _moment("created_at", null=False),
    )
    op.create_index("uq_identities_user_id", "identities", ["user_id"], unique=True)
    op.create_index(
        "uq_identities_issuer_subject", "identities", ["issuer", "subject"], unique=True
    )
    _table_of_users(
        "second_factors",
        _text("sealed_secret", 2048),
        _moment("confirmed_at"),
        sa.Column("last_step", sa.BigInteger(), nullable=True),
        _moment("created_at", null=False),
    )
    op.create_index("ix_second_factors_user_id", "second_factors", ["user_id"])
    in_force = sa.text("confirmed_at IS NOT NULL")
    op.create_index(
        "uq_second_factors_in_force",
        "second_factors",
        ["user_id"],
        unique=True,
        sqlite_where=in_force,
        postgresql_where=in_force,
    )
    _table_of_users("recovery_codes", _text("code_hash", 64), _moment("used_at"))
    op.create_index("ix_recovery_codes_user_id", "recovery_codes", ["user_id"])
