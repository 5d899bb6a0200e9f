"""Credentials of VMs, sealed; who was shown them; notices to administrators."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(20), "sqlite")
_KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_NONCE = 16
"""Characters of base64 that the 12 bytes of a nonce take."""


def _moment(name: str, *, null: bool = False) -> sa.Column:
    return sa.Column(name, _MOMENT, nullable=null)


def _text(name: str, length: int, *, null: bool = False) -> sa.Column:
    return sa.Column(name, sa.String(length), nullable=null)


def _number(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer(), nullable=False)


def _table(name: str, *parts: sa.Column | sa.Constraint) -> None:
    op.create_table(
        name,
        sa.Column("id", _ID, nullable=False),
        *parts,
        sa.PrimaryKeyConstraint("id", name=f"pk_{name}"),
        sqlite_autoincrement=True,
    )


def upgrade() -> None:
    op.add_column("vms", _moment("left_production_at", null=True))
    _credentials()
    _passwords()
    _reveals()
    _table(
        "notices",
        _text("key", 128),
        _text("kind", 32),
        _text("text", 512),
        _text("address", 256, null=True),
        _moment("created_at"),
        _moment("read_at", null=True),
        _text("read_by", 256, null=True),
        sa.UniqueConstraint("key", name="uq_notices_key"),
    )
    op.create_index("ix_notices_read_at", "notices", ["read_at"])
    op.create_table(
        "sealing_keys",
        _text("key_id", 32),
        _text("sealed", 4096),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("key_id", name="pk_sealing_keys"),
    )
    _part_nonces()


def _credentials() -> None:
    _table(
        "credentials",
        sa.Column("vm_id", _ID, nullable=False),
        _text("row_key", 32),
        _text("username", 256),
        _text("account_type", 16),
        _text("notes", 4096, null=True),
        _number("version"),
        _moment("password_changed_at"),
        _text("password_changed_by", 256),
        _moment("rotation_marked_at", null=True),
        _text("rotation_marked_by", 256, null=True),
        _moment("created_at"),
        _moment("updated_at"),
        _text("created_by", 256),
        _text("updated_by", 256),
        sa.Column("username_key", _KEY, nullable=False),
        _number("revision"),
        sa.ForeignKeyConstraint(
            ["vm_id"], ["vms.id"], name="fk_credentials_vm_id", ondelete="RESTRICT"
        ),
    )
    op.create_index(
        "uq_credentials_vm_id_username_key", "credentials", ["vm_id", "username_key"], unique=True
    )
    primary = sa.text("account_type = 'primary'")
    op.create_index(
        "uq_credentials_vm_id",
        "credentials",
        ["vm_id"],
        unique=True,
        sqlite_where=primary,
        postgresql_where=primary,
    )
    op.create_index("ix_credentials_password_changed_at", "credentials", ["password_changed_at"])


def _passwords() -> None:
    table = "credential_passwords"
    _table(
        table,
        sa.Column("credential_id", _ID, nullable=False),
        _number("version"),
        _text("sealed", 4096),
        _text("key_id", 32),
        _moment("set_at"),
        _text("set_by", 256),
        sa.Column("set_by_id", _ID, nullable=True),
        sa.ForeignKeyConstraint(
            ["credential_id"],
            ["credentials.id"],
            name=f"fk_{table}_credential_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["set_by_id"], ["users.id"], name=f"fk_{table}_set_by_id"),
    )
    op.create_index(
        f"uq_{table}_credential_id_version", table, ["credential_id", "version"], unique=True
    )
    op.create_index(f"ix_{table}_key_id", table, ["key_id"])
    op.create_index(f"ix_{table}_set_by_id", table, ["set_by_id"])


def _reveals() -> None:
    table = "credential_reveals"
    _table(
        table,
        sa.Column("credential_id", _ID, nullable=False),
        _number("version"),
        sa.Column("user_id", _ID, nullable=False),
        _moment("revealed_at"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=f"fk_{table}_user_id"),
    )
    op.create_index(f"ix_{table}_user_id_revealed_at", table, ["user_id", "revealed_at"])
    op.create_index(
        f"ix_{table}_credential_id_version_user_id",
        table,
        ["credential_id", "version", "user_id"],
    )


def _part_nonces() -> None:
    """Put the dot behind the nonce that the format has from now on; it takes no key to do so."""
    factors = sa.table("second_factors", sa.column("id"), sa.column("sealed_secret"))
    connection = op.get_bind()
    for row in connection.execute(sa.select(factors)).all():
        head, _, rest = row.sealed_secret.rpartition(".")
        parted = f"{head}.{rest[:_NONCE]}.{rest[_NONCE:]}"
        connection.execute(
            sa.update(factors).where(factors.c.id == row.id).values(sealed_secret=parted)
        )
