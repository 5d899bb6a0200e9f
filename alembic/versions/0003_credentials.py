"""Credentials of VMs, sealed; who was shown them; notices to administrators."""

import re

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(20), "sqlite")
_KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_FORMERLY_SEALED = re.compile(
    r"(?P<head>v1\.(?P<key_id>[A-Za-z0-9._-]{1,32}))\.(?P<nonce>[\w-]{16})(?P<box>[\w-]+)", re.ASCII
)
"""The 12 bytes of a nonce take 16 characters of base64."""


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
    _name_keys_of_factors()


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


def _name_keys_of_factors() -> None:
    """Bring sealed secrets into the format of this version; it takes no key to do so.

    A dot parts the nonce from the rest, and the key has a column of its own. A damaged text stays
    as it is and names none.
    """
    key_id = sa.Column("key_id", sa.String(32), nullable=False, server_default="")
    op.add_column("second_factors", key_id)
    op.create_index("ix_second_factors_key_id", "second_factors", ["key_id"])
    factors = sa.table("second_factors", *map(sa.column, ("id", "sealed_secret", "key_id")))
    connection = op.get_bind()
    for row in connection.execute(sa.select(factors.c.id, factors.c.sealed_secret)).all():
        found = _FORMERLY_SEALED.fullmatch(row.sealed_secret)
        if found is None:
            continue
        fresh = {"sealed_secret": "{head}.{nonce}.{box}".format(**found.groupdict())}
        named = sa.update(factors).where(factors.c.id == row.id)
        connection.execute(named.values(key_id=found["key_id"], **fresh))
