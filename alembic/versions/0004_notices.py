"""Expiry notices, their outbox, calendar feeds; what administrators are told is named alerts."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(20), "sqlite")
_ALERTS = "id, key, kind, text, address, created_at, read_at, read_by"


def _moment(name: str, *, null: bool = False) -> sa.Column:
    return sa.Column(name, _MOMENT, nullable=null)


def _text(name: str, length: int, *, null: bool = False) -> sa.Column:
    return sa.Column(name, sa.String(length), nullable=null)


def _number(name: str, *, null: bool = False) -> sa.Column:
    return sa.Column(name, sa.Integer(), nullable=null)


def _day(name: str, *, null: bool = False) -> sa.Column:
    return sa.Column(name, sa.Date(), nullable=null)


def _table(name: str, *parts: sa.Column | sa.Constraint) -> None:
    op.create_table(
        name,
        sa.Column("id", _ID, nullable=False),
        *parts,
        sa.PrimaryKeyConstraint("id", name=f"pk_{name}"),
        sqlite_autoincrement=True,
    )


def upgrade() -> None:
    _alerts()
    _runs()
    _messages()
    _log()
    _feeds()


def _alerts() -> None:
    _table(
        "alerts",
        _text("key", 128),
        _text("kind", 32),
        _text("text", 512),
        _text("address", 256, null=True),
        _moment("created_at"),
        _moment("read_at", null=True),
        _text("read_by", 256, null=True),
        sa.UniqueConstraint("key", name="uq_alerts_key"),
    )
    op.create_index("ix_alerts_read_at", "alerts", ["read_at"])
    op.execute(f"INSERT INTO alerts ({_ALERTS}) SELECT {_ALERTS} FROM notices ORDER BY id")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "SELECT setval(pg_get_serial_sequence('alerts', 'id'),"
            " (SELECT coalesce(max(id), 0) + 1 FROM alerts), false)"
        )
    op.drop_table("notices")


def _runs() -> None:
    _table(
        "notice_runs",
        _day("day"),
        _day("scheduled_for", null=True),
        _text("trigger", 16),
        _text("started_by", 256),
        _moment("started_at"),
        _moment("finished_at", null=True),
        _number("vms"),
        _number("messages"),
        sa.UniqueConstraint("scheduled_for", name="uq_notice_runs_scheduled_for"),
    )


def _messages() -> None:
    _table(
        "messages",
        _text("uid", 32),
        _text("kind", 16),
        _text("channel", 16),
        _text("recipient", 400),
        sa.Column("user_id", _ID, nullable=True),
        _text("address", 320, null=True),
        _day("day"),
        _text("digest_key", 440, null=True),
        sa.Column("run_id", _ID, nullable=True),
        _text("state", 16),
        _number("attempts"),
        _moment("created_at"),
        _moment("next_attempt_at"),
        _moment("give_up_at"),
        _moment("leased_until", null=True),
        _text("lease", 32, null=True),
        _moment("ended_at", null=True),
        _text("sent_to", 320, null=True),
        _text("subject", 256, null=True),
        _number("vms"),
        _text("answer", 1024, null=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_messages_user_id"),
        sa.ForeignKeyConstraint(["run_id"], ["notice_runs.id"], name="fk_messages_run_id"),
        sa.UniqueConstraint("uid", name="uq_messages_uid"),
        sa.UniqueConstraint("digest_key", name="uq_messages_digest_key"),
    )
    op.create_index("ix_messages_state_next_attempt_at", "messages", ["state", "next_attempt_at"])
    op.create_index("ix_messages_state_id", "messages", ["state", "id"])
    op.create_index("ix_messages_user_id", "messages", ["user_id"])
    op.create_index("ix_messages_run_id", "messages", ["run_id"])


def _log() -> None:
    table = "notification_log"
    _table(
        table,
        sa.Column("vm_id", _ID, nullable=False),
        _text("notice_type", 16),
        _day("expiry_date"),
        _text("recipient", 400),
        sa.Column("message_id", _ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["vm_id"], ["vms.id"], name=f"fk_{table}_vm_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.id"], name=f"fk_{table}_message_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint(
            "recipient",
            "expiry_date",
            "vm_id",
            "notice_type",
            name=f"uq_{table}_recipient_expiry_date_vm_id_notice_type",
        ),
    )
    op.create_index(f"ix_{table}_vm_id", table, ["vm_id"])
    op.create_index(f"ix_{table}_message_id", table, ["message_id"])
    op.create_index(f"ix_{table}_expiry_date", table, ["expiry_date"])


def _feeds() -> None:
    table = "calendar_feeds"
    _table(
        table,
        sa.Column("user_id", _ID, nullable=False),
        _text("token_hash", 64),
        sa.Column("owned_only", sa.Boolean(), nullable=False),
        _moment("created_at"),
        _moment("last_used_at", null=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=f"fk_{table}_user_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("user_id", name=f"uq_{table}_user_id"),
        sa.UniqueConstraint("token_hash", name=f"uq_{table}_token_hash"),
    )
