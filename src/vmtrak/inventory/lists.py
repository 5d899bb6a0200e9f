"""Finding VMs: which a person sees, pages, cursors, totals, suggestions.

Lists answer at a cost that does not grow with the inventory: each offered sort has an index,
totals come from a tally that the database keeps, search goes through trigrams. What is left
to decide per request is which one condition leads, because SQLite's planner does not know
how many rows a value has; `_plan` asks the tally.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any

import orjson
from pydantic import BeforeValidator, Field
from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    UnaryExpression,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    or_,
    select,
    table,
    true,
    tuple_,
)
from sqlalchemy.sql.operators import custom_op

from vmtrak.access import Actor, Permission
from vmtrak.db import AnySelect, Database, Moment, Page, Prepared
from vmtrak.errors import Invalid
from vmtrak.fields import LARGEST_ID, LAST, Day, Input, Reference, Text, blank_to_none, fold, whole
from vmtrak.inventory.models import (
    GROUPS,
    NEVER,
    SORTS,
    VM,
    Environment,
    Hypervisor,
    PowerState,
    Status,
)

FEW = 2_000
"""So many rows are sorted faster than an index is walked past everything else."""

TRIGRAM = 3
"""Shorter words are not in the trigram index; they are searched for by reading."""

NOBODY = "\U0010fffe"
"""Equals no key: stands in where the actor has no e-mail or no department."""

TALLY = Table(
    "vm_tally",
    MetaData(),
    Column("dimension", String),
    Column("value", String),
    Column("environment_key", String),
    Column("status", String),
    Column("power_state", String),
    Column("n", Integer),
)
_SEARCH = table("vm_search", column("rowid"), column("vm_search"))
_MATCH = _SEARCH.c.vm_search.op("MATCH")(bindparam("match", type_=String))
_FIRST_MATCHES = Prepared(
    select(_SEARCH.c.rowid).where(_MATCH).limit(bindparam("limit", type_=Integer))
)
_ALL_MATCHES = Prepared(select(func.count()).select_from(_SEARCH).where(_MATCH))

_CREDENTIALS = table(
    "credentials",
    column("vm_id", BigInteger),
    column("account_type", String),
    column("username", String),
)

FIELDS = tuple(
    getattr(VM, name)
    for name in (
        "id",
        "vm_name",
        "vm_tag",
        "description",
        "hypervisor_id",
        "cluster",
        "datacenter",
        "os_type",
        "os_version",
        "hostname",
        "ip_address",
        "vlan",
        "mac_address",
        "vcpu",
        "ram_gb",
        "disk_gb",
        "power_state",
        "environment",
        "status",
        "owner",
        "department",
        "application",
        "expiry_date",
        "notes",
        "created_at",
        "updated_at",
        "created_by",
        "updated_by",
    )
)


class Sort(StrEnum):
    VM_NAME = "vm_name"
    IP_ADDRESS = "ip_address"
    HYPERVISOR_NAME = "hypervisor_name"
    ENVIRONMENT = "environment"
    STATUS = "status"
    POWER_STATE = "power_state"
    OWNER = "owner"
    DEPARTMENT = "department"
    EXPIRY_DATE = "expiry_date"
    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"


class Order(StrEnum):
    ASC = "asc"
    DESC = "desc"


class Missing(StrEnum):
    OWNER = "owner"
    EXPIRY_DATE = "expiry_date"
    ENVIRONMENT = "environment"
    DEPARTMENT = "department"
    HYPERVISOR = "hypervisor"


_Optional = BeforeValidator(blank_to_none)


class VMQuery(Input):
    """What a list of VMs can be asked for."""

    search: Annotated[str | None, Text(200)] = None
    environment: Annotated[Environment | None, _Optional] = None
    status: Annotated[Status | None, _Optional] = None
    power_state: Annotated[PowerState | None, _Optional] = None
    department: Annotated[str | None, Text(128)] = None
    hypervisor_id: Reference = None
    owner: Annotated[str | None, Text(256)] = None
    expiring_in: Annotated[int | None, Field(ge=0, le=36_500), _Optional] = None
    expires_from: Day = None
    expires_to: Day = None
    missing: Annotated[Missing | None, _Optional] = None
    page: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    sort: Annotated[Sort | None, _Optional] = None
    order: Order = Order.ASC
    cursor: Annotated[str | None, Text(2_000)] = None

    @property
    def sorted_by(self) -> Sort:
        """What was asked for; else what expires comes soonest first, all the rest by name."""
        about_expiry = (self.expiring_in, self.expires_from, self.expires_to)
        soonest = any(value is not None for value in about_expiry)
        return self.sort or (Sort.EXPIRY_DATE if soonest else Sort.VM_NAME)


@dataclass(frozen=True, slots=True)
class _Cursor:
    sort: str
    order: str
    key: str
    id: int
    page: int

    def encode(self) -> str:
        values = [self.sort, self.order, self.key, self.id, self.page]
        return base64.urlsafe_b64encode(orjson.dumps(values)).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> "_Cursor":
        try:
            padded = text + "=" * (-len(text) % 4)
            sort, order, key, row, page = orjson.loads(base64.urlsafe_b64decode(padded))
        except (ValueError, TypeError, binascii.Error):
            raise _bad_cursor() from None
        right = (
            isinstance(sort, str)
            and sort in SORTS
            and isinstance(order, str)
            and order in set(Order)
            and isinstance(key, str)
            and _readable(SORTS[sort].type.python_type, key)
            and type(row) is int
            and type(page) is int
            and 0 < row <= LARGEST_ID
            and 0 < page <= LARGEST_ID
        )
        if not right:
            raise _bad_cursor()
        return cls(sort, order, key, row, page)


def _bad_cursor() -> Invalid:
    return Invalid({"cursor": ["is not one that this list gave"]})


def _readable(kind: type, key: str) -> bool:
    """Whether the database can read the key as what the list is sorted by."""
    if not issubclass(kind, date):
        return "\0" not in key
    text = key.replace("Z", "+00:00")
    try:
        same = kind.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
    return same and (kind is date or text.endswith("+00:00"))


def sees_all(actor: Actor) -> bool:
    return actor.may(Permission.VM_READ_ALL)


def scope(actor: Actor) -> tuple[ColumnElement[bool], ...]:
    """The conditions under which a person sees a VM, bound by `scope_values`."""
    if sees_all(actor):
        return ()
    return (_own(),)


def seen_by(actor: Actor) -> ColumnElement[bool]:
    """The condition under which a person sees a VM, with its values, for use in a larger one."""
    return true() if sees_all(actor) else _own(scope_values(actor))


def _own(values: Mapping[str, str] | None = None) -> ColumnElement[bool]:
    def me(name: str) -> BindParameter[str]:
        return (
            bindparam(name, type_=String) if not values else bindparam(name, values[name], String)
        )

    return or_(
        VM.owner_key == me("me_username"),
        VM.owner_key == me("me_email"),
        VM.department_key == me("me_department"),
    )


def scope_values(actor: Actor) -> dict[str, str]:
    return {
        "me_username": fold(actor.username),
        "me_email": fold(actor.email) if actor.email else NOBODY,
        "me_department": fold(actor.department) if actor.department else NOBODY,
    }


def visible(actor: Actor) -> Select[VM]:
    """The VMs that a person sees, as rows to change; none that is in the trash."""
    actor.require(Permission.VM_READ)
    statement = select(VM).where(VM.deleted_at.is_(None), *scope(actor))
    return statement if sees_all(actor) else statement.params(scope_values(actor))


@dataclass(frozen=True, slots=True)
class _Shape:
    """All that decides a statement's text; the values are bound when it runs."""

    filters: tuple[str, ...] = ()
    words: int = 0
    search: str | None = None
    own: bool = False
    lead: str | None = None
    sort: str = "vm_name"
    descending: bool = False
    mode: str = "first"
    hints: bool = False
    accounts: bool = False
    document: str | None = None


@dataclass(frozen=True, slots=True)
class _Ask:
    """A query taken apart: which conditions, with which values."""

    filters: dict[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    scope: dict[str, str] = field(default_factory=dict)

    @property
    def long(self) -> list[str]:
        """The words that the trigram index knows."""
        return [word for word in self.words if len(word) >= TRIGRAM]

    def values(self) -> dict[str, Any]:
        words = {f"word{at}": _pattern(word) for at, word in enumerate(self.words)}
        match = " ".join(_quoted(word) for word in self.long)
        return {**self.filters, **words, "match": match, **self.scope}

    def cover(self) -> str:
        """Trigrams that every match has, each letter of a word in one of them.

        Half as dear as the words themselves, whose overlapping trigrams are compared place by
        place; what has the trigrams but not the word is left out by reading the row.
        """
        parts = [word[at : at + TRIGRAM] for word in self.long for at in _steps(len(word))]
        return " ".join(_quoted(part) for part in dict.fromkeys(parts))


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to go about a query on SQLite: which condition leads, and what the search found.

    `search` is "ids" where the index found few rows, whose numbers `ids` holds as JSON; "index"
    where it found many, which are better read in the order of the list.
    """

    lead: str | None = None
    search: str | None = None
    ids: tuple[int, ...] = ()


def _steps(length: int) -> list[int]:
    return [*range(0, length - TRIGRAM, TRIGRAM), length - TRIGRAM]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _pattern(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _ask(actor: Actor, query: VMQuery, today: date) -> _Ask:
    values: dict[str, Any] = {
        "environment": query.environment,
        "status": query.status,
        "power_state": query.power_state,
        "department": fold(query.department) if query.department else None,
        "hypervisor_id": query.hypervisor_id,
        "owner": fold(query.owner) if query.owner else None,
    }
    first, last = query.expires_from, query.expires_to
    if query.expiring_in is not None:
        first = max(first or today, today)
        until = today + timedelta(days=min(query.expiring_in, (NEVER - today).days - 1))
        last = min(last or until, until)
    values["expires_from"] = first.isoformat() if first else None
    if first or last:
        # NEVER stands for VMs without a date, which are in no range.
        last = min(last or NEVER, NEVER - timedelta(days=1))
    values["expires_to"] = last.isoformat() if last else None
    if query.missing:
        name = "missing_" + query.missing
        values[name] = NEVER.isoformat() if query.missing == Missing.EXPIRY_DATE else LAST
    return _Ask(
        filters={name: value for name, value in values.items() if value is not None},
        words=tuple(fold(query.search).split()) if query.search else (),
        scope={} if sees_all(actor) else scope_values(actor),
    )


_CONDITIONS: dict[str, Any] = {
    **GROUPS,
    "owner": VM.owner_key,
    "missing_owner": VM.owner_key,
    "missing_expiry_date": VM.expiry_key,
    "missing_environment": VM.environment_key,
    "missing_department": VM.department_key,
    "missing_hypervisor": VM.hypervisor_key,
    "expires_from": VM.expiry_key,
    "expires_to": VM.expiry_key,
}


def _condition(name: str, *, hidden: bool) -> ColumnElement[bool]:
    """The condition of one filter; `hidden` keeps SQLite from choosing an index for it."""
    subject = _CONDITIONS[name]
    value = bindparam(name, type_=subject.type)
    shown: ColumnElement[Any] = (
        UnaryExpression(subject, operator=custom_op("+"), type_=subject.type) if hidden else subject
    )
    if name == "expires_from":
        return shown >= value
    return shown <= value if name == "expires_to" else shown == value


def _conditions(shape: _Shape) -> list[ColumnElement[bool]]:
    terms: list[ColumnElement[bool]] = [VM.deleted_at.is_(None)]
    for name in shape.filters:
        leads = shape.lead == name or (shape.lead == "expires" and name.startswith("expires"))
        terms.append(_condition(name, hidden=shape.hints and not leads))
    if shape.own:
        terms.append(_own())
    if shape.search == "ids":
        found = func.json_each(bindparam("ids", type_=String)).table_valued("value")
        terms.append(VM.id.in_(select(found.c.value)))
    elif shape.search == "index":
        terms.append(VM.id.in_(select(_SEARCH.c.rowid).where(_MATCH)))
    terms.extend(
        VM.search_text.like(bindparam(f"word{at}", type_=String), escape="\\")
        for at in range(shape.words)
    )
    return terms


_HYPERVISOR_NAME = Hypervisor.name.label("hypervisor_name")

_PRIMARY_USERNAME = (
    select(_CREDENTIALS.c.username)
    # The index of primary accounts serves only a condition that is written out.
    .where(_CREDENTIALS.c.vm_id == VM.id, literal_column("account_type = 'primary'"))
    .correlate(VM)
    .scalar_subquery()
    .label("primary_username")
)


def _columns(*, accounts: bool) -> tuple[Any, ...]:
    """What a list shows; `accounts` is for those who may see credentials."""
    return (*FIELDS, _HYPERVISOR_NAME, *((_PRIMARY_USERNAME,) if accounts else ()))


def _document(dialect: str, columns: tuple[Any, ...]) -> ColumnElement[str]:
    """A row as JSON, made by the database: a page of rows never becomes Python objects.

    The text is what `orjson` would make of `_row`; a test holds the two together.
    """
    pairs: list[Any] = []
    for subject in columns:
        pairs += [literal_column(f"'{subject.key}'"), _as_json(subject, dialect)]
    if dialect == "sqlite":
        return func.json_object(*pairs, type_=String).label("document")
    return cast(func.json_build_object(*pairs), String).label("document")


def _as_json(subject: Any, dialect: str) -> Any:  # noqa: ANN401 - any column
    if dialect == "sqlite" or not isinstance(subject.type, Moment):
        return subject
    template: ColumnElement[str] = literal_column('\'YYYY-MM-DD"T"HH24:MI:SS"Z"\'')
    return func.to_char(func.timezone(literal_column("'UTC'"), subject), template)


@lru_cache(maxsize=2_048)
def _page_statement(shape: _Shape) -> Prepared:
    key = SORTS[shape.sort]
    order = (key.desc(), VM.id.desc()) if shape.descending else (key.asc(), VM.id.asc())
    columns = _columns(accounts=shape.accounts)
    shown = [_document(shape.document, columns)] if shape.document else columns
    rows: AnySelect = select(*shown, VM.id.label("row_id"), key.label("sort_key"))
    joined = rows.outerjoin_from(VM, Hypervisor, VM.hypervisor_id == Hypervisor.id)
    limit = bindparam("limit", type_=Integer)
    if shape.mode == "offset":
        # Skipping is done in the index alone; only the rows of the page are read.
        ids = select(VM.id).where(*_conditions(shape)).order_by(*order)
        chosen = ids.limit(limit).offset(bindparam("offset", type_=Integer)).subquery()
        return Prepared(joined.join(chosen, chosen.c.id == VM.id).order_by(*order))
    statement = joined.where(*_conditions(shape))
    if shape.mode == "cursor":
        here = tuple_(key, VM.id)
        after = tuple_(
            bindparam("after_key", type_=key.type), bindparam("after_id", type_=BigInteger)
        )
        statement = statement.where(here < after if shape.descending else here > after)
    return Prepared(statement.order_by(*order).limit(limit))


@lru_cache(maxsize=2_048)
def _count_statement(shape: _Shape, most: int | None) -> Prepared:
    if most is None:
        return Prepared(select(func.count()).select_from(VM).where(*_conditions(shape)))
    some = select(VM.id).where(*_conditions(shape)).limit(most).subquery()
    return Prepared(select(func.count()).select_from(some))


@lru_cache(maxsize=64)
def _tally_statement(names: tuple[str, ...]) -> Prepared:
    dimension = next((n for n in names if n in {"department", "hypervisor_id"}), "all")
    terms = [TALLY.c.dimension == dimension]
    columns = {
        "environment": TALLY.c.environment_key,
        "status": TALLY.c.status,
        "power_state": TALLY.c.power_state,
    }
    terms.extend(
        columns.get(name, TALLY.c.value) == bindparam(name, type_=String) for name in names
    )
    return Prepared(select(func.coalesce(func.sum(TALLY.c.n), 0)).where(*terms))


def _tallied(names: tuple[str, ...]) -> bool:
    """The tally knows state by department and state by hypervisor, not by both."""
    return set(names) <= GROUPS.keys() and not {"department", "hypervisor_id"} <= set(names)


def _one(database: Database, statement: Prepared, values: Mapping[str, Any]) -> int:
    return int(database.rows(statement, values)[0][0])


def _tally(database: Database, names: tuple[str, ...], values: Mapping[str, Any]) -> int:
    given = {name: str(values[name]) for name in names}
    return _one(database, _tally_statement(names), given)


def _few(database: Database, ask: _Ask, name: str) -> int:
    """How many rows one filter has: exactly where the tally knows, else up to FEW + 1."""
    if name in GROUPS:
        return _tally(database, (name,), ask.filters)
    names = (
        tuple(n for n in ask.filters if n.startswith("expires")) if name == "expires" else (name,)
    )
    shape = _Shape(filters=names, lead=name, hints=True)
    return _one(database, _count_statement(shape, FEW + 1), ask.values())


def _plan(database: Database, ask: _Ask, sort: str) -> _Plan:
    """Choose the leading condition. PostgreSQL's planner has statistics and chooses itself."""
    if not database.sqlite or ask.scope:
        return _Plan(search="index" if ask.long and database.sqlite else None)
    names = list(dict.fromkeys("expires" if n.startswith("expires") else n for n in ask.filters))
    found = {name: _few(database, ask, name) for name in names}
    lead = min(found, key=found.__getitem__, default=None)
    if ask.long:
        most = min(FEW, found[lead]) if lead else FEW
        rows = database.rows(_FIRST_MATCHES, {"match": ask.cover(), "limit": most + 1})
        if len(rows) <= most:
            return _Plan(search="ids", ids=tuple(row[0] for row in rows))
    search = "index" if ask.long else None
    if lead is None or found[lead] <= FEW:
        return _Plan(lead, search)
    # Too many to sort: walk the index of the order instead, which for names starts with the group.
    by_name = [name for name in names if name in GROUPS]
    if sort == "vm_name" and by_name:
        return _Plan(min(by_name, key=found.__getitem__), search)
    return _Plan("expires" if sort == "expiry_date" and "expires" in found else None, search)


def _values(ask: _Ask, plan: _Plan) -> dict[str, Any]:
    return {**ask.values(), "ids": orjson.dumps(plan.ids).decode()}


def _count(database: Database, ask: _Ask, plan: _Plan) -> int:
    names = tuple(sorted(ask.filters))
    if not ask.scope and not ask.words and _tallied(names):
        return _tally(database, names, ask.filters)
    only_long = not ask.scope and not names and len(ask.long) == len(ask.words)
    if only_long and plan.search == "index":
        return _one(database, _ALL_MATCHES, ask.values())
    shape = _Shape(
        filters=names,
        words=len(ask.words),
        search=plan.search,
        own=bool(ask.scope),
        lead=plan.lead,
        hints=plan.lead is not None or plan.search == "ids",
    )
    return _one(database, _count_statement(shape, None), _values(ask, plan))


def total(database: Database, actor: Actor, query: VMQuery, today: date) -> int:
    """How many VMs of those that the person sees the query is about."""
    actor.require(Permission.VM_READ)
    ask = _ask(actor, query, today)
    return _count(database, ask, _plan(database, ask, Sort.VM_NAME))


def page(database: Database, actor: Actor, query: VMQuery, today: date) -> Page:
    """One page of the VMs that the person sees.

    Each has its `primary_username`, or null, for those who may see credentials.
    """
    rows, found = _read(database, actor, query, today, documents=False)
    names = [column.key for column in _columns(accounts=_sees_accounts(actor))]
    return replace(found, rows=[_row(dict(zip(names, row, strict=False))) for row in rows])


def page_document(database: Database, actor: Actor, query: VMQuery, today: date) -> bytes:
    """The same page as the contract's JSON."""
    rows, found = _read(database, actor, query, today, documents=True)
    data = ",".join([row[0] for row in rows])
    frame = {"total": found.total, "page": found.page, "limit": found.limit, "next": found.next}
    return b'{"data":[' + data.encode() + b"]," + orjson.dumps(frame)[1:]


def _sees_accounts(actor: Actor) -> bool:
    return actor.may(Permission.CREDENTIAL_READ)


def _read(
    database: Database, actor: Actor, query: VMQuery, today: date, *, documents: bool
) -> tuple[list[tuple[Any, ...]], Page]:
    """The rows of the page as the statement's columns, and the page around them."""
    actor.require(Permission.VM_READ)
    ask = _ask(actor, query, today)
    cursor = _Cursor.decode(query.cursor) if query.cursor else None
    sort, order = (cursor.sort, cursor.order) if cursor else (query.sorted_by, query.order)
    plan = _plan(database, ask, sort)
    number = cursor.page if cursor else query.page
    offset = 0 if cursor else (query.page - 1) * query.limit
    if offset and offset >= (count := _count(database, ask, plan)):
        return [], Page([], count, number, query.limit, None)
    shape = _Shape(
        filters=tuple(sorted(ask.filters)),
        words=len(ask.words),
        # What many rows match is found sooner by reading in the order of the list.
        search=plan.search if plan.search == "ids" else None,
        own=bool(ask.scope),
        lead=plan.lead,
        sort=sort,
        descending=order == Order.DESC,
        mode="cursor" if cursor else "offset" if offset else "first",
        hints=database.sqlite and not ask.scope,
        accounts=_sees_accounts(actor),
        document=database.engine.dialect.name if documents else None,
    )
    values = {**_values(ask, plan), "limit": query.limit + 1, "offset": offset}
    if cursor:
        values |= {"after_key": cursor.key, "after_id": cursor.id}
    rows = database.rows(_page_statement(shape), values)
    alone = not offset and not cursor and len(rows) <= query.limit
    count = len(rows) if alone else _count(database, ask, plan)
    following = _following(rows, query.limit, sort, order, number)
    return rows[: query.limit], Page([], count, number, query.limit, following)


def _following(
    rows: list[tuple[Any, ...]], limit: int, sort: str, order: str, number: int
) -> str | None:
    """The cursor behind the page; every statement ends in the row's number and its sort key."""
    if len(rows) <= limit:
        return None
    row, key = rows[limit - 1][-2:]
    text = key if isinstance(key, str) else key.isoformat()
    return _Cursor(sort, order, text, row, number + 1).encode()


def _row(row: dict[str, Any]) -> dict[str, Any]:
    row["ram_gb"] = whole(row["ram_gb"])
    row["disk_gb"] = whole(row["disk_gb"])
    return row


def _one_statement(*, own: bool) -> Prepared:
    statement = select(*FIELDS, Hypervisor.name.label("hypervisor_name"), VM.revision)
    joined = statement.outerjoin_from(VM, Hypervisor, VM.hypervisor_id == Hypervisor.id)
    terms = [VM.id == bindparam("id", type_=BigInteger), VM.deleted_at.is_(None)]
    return Prepared(joined.where(*terms, *((_own(),) if own else ())))


_ONE = _one_statement(own=False)
_OWN_ONE = _one_statement(own=True)


def find(database: Database, actor: Actor, vm_id: int) -> dict[str, Any] | None:
    """One VM as the contract shows it, with its `revision`; None if the person sees no such VM."""
    actor.require(Permission.VM_READ)
    if sees_all(actor):
        rows = database.dicts(_ONE, {"id": vm_id})
    else:
        rows = database.dicts(_OWN_ONE, {"id": vm_id, **scope_values(actor)})
    return _row(rows[0]) if rows else None
