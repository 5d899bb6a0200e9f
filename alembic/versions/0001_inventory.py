"""The inventory, its accounts and its audit trail.

Beside the tables of the models the database keeps, through triggers:

- `vm_tally`, how many VMs there are by state, by department and by hypervisor, so that a list
  can say its total without counting;
- `vm_search` (SQLite), the trigram index of `vms.search_text`;
- the promise that an audit row is never changed.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(20), "sqlite")
_QUANTITY = sa.Double().with_variant(sa.Numeric(asdecimal=False), "sqlite")
_DETAIL = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def _column(name: str, kind: sa.types.TypeEngine, *, null: bool = False) -> sa.Column:
    return sa.Column(name, kind, nullable=null)


def _text(name: str, length: int, *, null: bool = True) -> sa.Column:
    return sa.Column(name, sa.String(length), nullable=null)


def _table(name: str, *columns: sa.schema.SchemaItem) -> None:
    op.create_table(
        name,
        sa.Column("id", _ID, nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("id", name=f"pk_{name}"),
        sqlite_autoincrement=True,
    )


def _reference(table: str, column: str, target: str, ondelete: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column], [f"{target}.id"], name=f"fk_{table}_{column}", ondelete=ondelete
    )


def upgrade() -> None:
    _accounts()
    _inventory()
    _audit()
    if op.get_bind().dialect.name == "sqlite":
        _sqlite()
    else:
        _postgresql()


def _accounts() -> None:
    _table(
        "users",
        _text("username", 128, null=False),
        _text("email", 320, null=False),
        _text("password_hash", 256),
        _text("role", 16, null=False),
        _text("department", 128),
        _column("is_active", sa.Boolean()),
        _column("must_change_password", sa.Boolean()),
        _column("notify_expiry", sa.Boolean()),
        _column("created_at", _MOMENT),
        _column("updated_at", _MOMENT),
        _column("username_key", _KEY),
        _column("email_key", _KEY),
        _column("revision", sa.Integer()),
    )
    op.create_index("uq_users_username_key", "users", ["username_key"], unique=True)
    op.create_index("uq_users_email_key", "users", ["email_key"], unique=True)
    _table(
        "sessions",
        _column("user_id", _ID),
        _text("kind", 8, null=False),
        _text("token_hash", 64, null=False),
        _column("created_at", _MOMENT),
        _column("expires_at", _MOMENT),
        _column("ended_at", _MOMENT, null=True),
        _text("ip_address", 64),
        _text("user_agent", 256),
        _reference("sessions", "user_id", "users", "CASCADE"),
    )
    op.create_index("uq_sessions_token_hash", "sessions", ["token_hash"], unique=True)
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    _table(
        "refresh_tokens",
        _column("session_id", _ID),
        _text("token_hash", 64, null=False),
        _column("created_at", _MOMENT),
        _column("expires_at", _MOMENT),
        _column("used_at", _MOMENT, null=True),
        _reference("refresh_tokens", "session_id", "sessions", "CASCADE"),
    )
    op.create_index("uq_refresh_tokens_token_hash", "refresh_tokens", ["token_hash"], unique=True)
    op.create_index("ix_refresh_tokens_session_id", "refresh_tokens", ["session_id"])
    _table(
        "one_time_links",
        _column("user_id", _ID, null=True),
        _text("purpose", 16, null=False),
        _text("token_hash", 64, null=False),
        _column("created_at", _MOMENT),
        _column("expires_at", _MOMENT),
        _column("used_at", _MOMENT, null=True),
        _reference("one_time_links", "user_id", "users", "CASCADE"),
    )
    op.create_index("uq_one_time_links_token_hash", "one_time_links", ["token_hash"], unique=True)
    op.create_index("ix_one_time_links_user_id", "one_time_links", ["user_id"])


def _inventory() -> None:
    _table(
        "hypervisors",
        _text("name", 128, null=False),
        _text("hostname", 253),
        _text("type", 32),
        _text("version", 128),
        _text("description", 1024),
        _text("status", 16, null=False),
        _text("environment", 16),
        _column("vcpu", sa.Integer(), null=True),
        _column("ram_gb", _QUANTITY, null=True),
        _column("disk_gb", _QUANTITY, null=True),
        _column("created_at", _MOMENT),
        _column("updated_at", _MOMENT),
        _column("name_key", _KEY),
        _column("revision", sa.Integer()),
    )
    op.create_index("uq_hypervisors_name_key", "hypervisors", ["name_key"], unique=True)
    _table(
        "vms",
        _text("vm_name", 128, null=False),
        _text("vm_tag", 64),
        _text("description", 1024),
        _column("hypervisor_id", _ID, null=True),
        _text("cluster", 128),
        _text("datacenter", 128),
        _text("os_type", 16),
        _text("os_version", 128),
        _text("hostname", 253),
        _text("ip_address", 45),
        _text("vlan", 64),
        _text("mac_address", 17),
        _column("vcpu", sa.Integer(), null=True),
        _column("ram_gb", _QUANTITY, null=True),
        _column("disk_gb", _QUANTITY, null=True),
        _text("power_state", 16, null=False),
        _text("environment", 16),
        _text("status", 16, null=False),
        _text("owner", 256),
        _text("department", 128),
        _text("application", 128),
        _column("expiry_date", sa.Date(), null=True),
        _text("notes", 4096),
        _column("created_at", _MOMENT),
        _column("updated_at", _MOMENT),
        _text("created_by", 256, null=False),
        _text("updated_by", 256, null=False),
        _column("deleted_at", _MOMENT, null=True),
        _text("deleted_by", 256),
        _column("revision", sa.Integer()),
        _column("name_key", _KEY),
        _column("ip_key", _KEY),
        _column("hypervisor_key", _KEY),
        _column("environment_key", _KEY),
        _column("owner_key", _KEY),
        _column("department_key", _KEY),
        _column("expiry_key", sa.Date()),
        _column("search_text", sa.String()),
        _reference("vms", "hypervisor_id", "hypervisors", "RESTRICT"),
    )
    live = sa.text("deleted_at IS NULL")
    trashed = sa.text("deleted_at IS NOT NULL")
    op.create_index(
        "uq_vms_name_key",
        "vms",
        ["name_key"],
        unique=True,
        sqlite_where=live,
        postgresql_where=live,
    )
    for sort in (
        "name_key",
        "ip_key",
        "hypervisor_key",
        "environment_key",
        "status",
        "power_state",
        "owner_key",
        "department_key",
        "expiry_key",
        "created_at",
        "updated_at",
    ):
        op.create_index(
            f"ix_vms_{sort}", "vms", [sort, "id"], sqlite_where=live, postgresql_where=live
        )
    for group in ("environment_key", "status", "power_state", "department_key", "hypervisor_id"):
        op.create_index(
            f"ix_vms_{group}_by_name",
            "vms",
            [group, "name_key", "id"],
            sqlite_where=live,
            postgresql_where=live,
        )
    op.create_index(
        "ix_vms_deleted_at",
        "vms",
        ["deleted_at"],
        sqlite_where=trashed,
        postgresql_where=trashed,
    )
    op.create_index("ix_vms_hypervisor_id", "vms", ["hypervisor_id"])


def _audit() -> None:
    _table(
        "audit_events",
        _column("user_id", _ID, null=True),
        _text("username", 256, null=False),
        _text("action", 64, null=False),
        _text("entity_type", 32, null=False),
        _column("entity_id", _ID, null=True),
        _text("entity_name", 256),
        _column("detail", _DETAIL, null=True),
        _text("ip_address", 64),
        _text("request_id", 64),
        _column("created_at", _MOMENT),
    )
    for columns in (["entity_type", "entity_id"], ["user_id"], ["action"], ["created_at"]):
        name = "ix_audit_events_" + "_".join([*columns, "id"])
        op.create_index(name, "audit_events", [*columns, "id"])


_TALLY_COLUMNS = "dimension, value, environment_key, status, power_state, n"


def _sqlite() -> None:
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_events_no_{verb.lower()} BEFORE {verb} ON audit_events "
            "BEGIN SELECT RAISE(ABORT, 'audit events are never changed'); END"
        )
    # REPLACE would remove the row it takes the place of without asking the trigger above.
    op.execute(
        "CREATE TRIGGER audit_events_no_replace BEFORE INSERT ON audit_events "
        "WHEN EXISTS (SELECT 1 FROM audit_events WHERE id = new.id) "
        "BEGIN SELECT RAISE(ABORT, 'audit events are never changed'); END"
    )
    op.execute(
        "CREATE TABLE vm_tally (dimension TEXT NOT NULL, value TEXT NOT NULL, "
        "environment_key TEXT NOT NULL, status TEXT NOT NULL, power_state TEXT NOT NULL, "
        "n INTEGER NOT NULL, "
        "PRIMARY KEY (dimension, value, environment_key, status, power_state)) WITHOUT ROWID"
    )
    # The searched text is folded already, hence case_sensitive: nothing is to be folded again.
    op.execute(
        "CREATE VIRTUAL TABLE vm_search USING fts5("
        "search_text, content='vms', content_rowid='id', tokenize='trigram case_sensitive 1')"
    )
    watched = (
        "search_text, deleted_at, environment_key, status, power_state, "
        "department_key, hypervisor_id"
    )
    op.execute(
        "CREATE TRIGGER vms_counted_insert AFTER INSERT ON vms WHEN new.deleted_at IS NULL "
        f"BEGIN {_sqlite_enter()} END"
    )
    op.execute(
        "CREATE TRIGGER vms_counted_delete AFTER DELETE ON vms WHEN old.deleted_at IS NULL "
        f"BEGIN {_sqlite_leave()} END"
    )
    # BEFORE, because of two triggers of one kind SQLite may run either first, and what leaves the
    # search index after the new text has entered takes the words of both with it.
    op.execute(
        f"CREATE TRIGGER vms_counted_update_leave BEFORE UPDATE OF {watched} ON vms "
        f"WHEN old.deleted_at IS NULL BEGIN {_sqlite_leave()} END"
    )
    op.execute(
        f"CREATE TRIGGER vms_counted_update_enter AFTER UPDATE OF {watched} ON vms "
        f"WHEN new.deleted_at IS NULL BEGIN {_sqlite_enter()} END"
    )


def _dimensions(row: str) -> tuple[tuple[str, str], ...]:
    return (
        ("all", "''"),
        ("department", f"{row}.department_key"),
        ("hypervisor_id", f"CAST({row}.hypervisor_id AS TEXT)"),
    )


def _sqlite_enter() -> str:
    counts = "".join(
        f"INSERT INTO vm_tally ({_TALLY_COLUMNS}) SELECT '{dimension}', {value}, "
        "new.environment_key, new.status, new.power_state, 1 "
        f"WHERE {value} IS NOT NULL ON CONFLICT DO UPDATE SET n = n + 1; "
        for dimension, value in _dimensions("new")
    )
    return counts + "INSERT INTO vm_search (rowid, search_text) VALUES (new.id, new.search_text);"


def _sqlite_leave() -> str:
    counts = "".join(
        f"UPDATE vm_tally SET n = n - 1 WHERE dimension = '{dimension}' AND value = {value} "
        "AND environment_key = old.environment_key AND status = old.status "
        "AND power_state = old.power_state; "
        for dimension, value in _dimensions("old")
    )
    return counts + (
        "INSERT INTO vm_search (vm_search, rowid, search_text) "
        "VALUES ('delete', old.id, old.search_text);"
    )


def _postgresql() -> None:
    op.execute(
        "CREATE FUNCTION audit_events_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION 'audit events are never changed'; END$$"
    )
    op.execute(
        "CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE "
        "ON audit_events FOR EACH STATEMENT EXECUTE FUNCTION audit_events_refuse()"
    )
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    op.execute(
        "CREATE INDEX ix_vms_search ON vms USING gin (search_text gin_trgm_ops) "
        "WHERE deleted_at IS NULL"
    )
    op.execute(
        'CREATE TABLE vm_tally (dimension TEXT NOT NULL, value TEXT COLLATE "C" NOT NULL, '
        'environment_key TEXT COLLATE "C" NOT NULL, status TEXT NOT NULL, '
        "power_state TEXT NOT NULL, n BIGINT NOT NULL)"
    )
    op.execute("CREATE INDEX ix_vm_tally ON vm_tally (dimension, value)")
    op.execute(_PG_TALLY)
    for verb, tables in (
        ("INSERT", "NEW TABLE AS entered"),
        ("DELETE", "OLD TABLE AS gone"),
        ("UPDATE", "OLD TABLE AS gone NEW TABLE AS entered"),
    ):
        function = _PG_COUNT.format(verb=verb.lower(), rows=_PG_ROWS[verb])
        op.execute(function)
        op.execute(
            f"CREATE TRIGGER vms_counted_{verb.lower()} AFTER {verb} ON vms REFERENCING {tables} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION vms_count_{verb.lower()}()"
        )


# Writers only ever add lines, so that none waits for another; one in about a hundred, if nobody
# else is at it, sums them up. A reader sees the sum either way.
_PG_TALLY = """
CREATE FUNCTION vm_tally_sum_up() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF random() < 0.01 AND pg_try_advisory_xact_lock(hashtext('vm_tally')) THEN
    WITH gone AS (DELETE FROM vm_tally RETURNING *)
    INSERT INTO vm_tally
    SELECT dimension, value, environment_key, status, power_state, sum(n) FROM gone
    GROUP BY 1, 2, 3, 4, 5 HAVING sum(n) <> 0;
  END IF;
END$$
"""

_PG_COUNT = """
CREATE FUNCTION vms_count_{verb}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO vm_tally
  SELECT d.dimension, d.value, r.environment_key, r.status, r.power_state, sum(r.n)
  FROM ({rows}) AS r
  CROSS JOIN LATERAL (VALUES ('all', ''), ('department', r.department_key),
    ('hypervisor_id', r.hypervisor_id::text)) AS d (dimension, value)
  WHERE d.value IS NOT NULL
  GROUP BY 1, 2, 3, 4, 5 HAVING sum(r.n) <> 0;
  PERFORM vm_tally_sum_up();
  RETURN NULL;
END$$
"""

_PG_ENTERED = "SELECT *, 1 AS n FROM entered WHERE deleted_at IS NULL"
_PG_GONE = "SELECT *, -1 AS n FROM gone WHERE deleted_at IS NULL"
_PG_ROWS = {
    "INSERT": _PG_ENTERED,
    "DELETE": _PG_GONE,
    "UPDATE": f"{_PG_ENTERED} UNION ALL {_PG_GONE}",
}
