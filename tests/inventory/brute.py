"""What a list must say, worked out the slow way in Python."""

import ipaddress
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from typing import Any

from sqlalchemy import select, text

from vmtrak.access import Actor
from vmtrak.db import Database
from vmtrak.fields import LAST, parse
from vmtrak.inventory import VM, Hypervisor, VMQuery, lists

Row = Mapping[str, Any]


def folded(value: str) -> str:
    once = unicodedata.normalize("NFC", value).casefold()
    return unicodedata.normalize("NFC", once)


def living(database: Database) -> list[dict[str, Any]]:
    """Every VM outside the trash with the name of its hypervisor."""
    statement = select(VM, Hypervisor.name).outerjoin(Hypervisor, VM.hypervisor_id == Hypervisor.id)
    names = [*(column.key for column in lists.FIELDS)]
    with database.read() as session:
        found = session.execute(statement.where(VM.deleted_at.is_(None))).all()
    return [
        {**{name: getattr(vm, name) for name in names}, "hypervisor_name": hypervisor}
        for vm, hypervisor in found
    ]


def sees(actor: Actor, row: Row) -> bool:
    if lists.sees_all(actor):
        return True
    me = {folded(one) for one in (actor.username, actor.email) if one}
    owned = row["owner"] is not None and folded(row["owner"]) in me
    return owned or same(row["department"], actor.department)


def same(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and folded(one) == folded(other)


def matches(row: Row, term: str | None) -> bool:
    searched = [row[name] for name in ("vm_name", "hostname", "ip_address", "owner")]
    texts = [folded(value) for value in searched if value]
    return all(any(word in one for one in texts) for word in folded(term or "").split())


def expires(row: Row, first: date | None, last: date | None) -> bool:
    day = row["expiry_date"]
    if first is None and last is None:
        return True
    return day is not None and (first or date.min) <= day <= (last or date.max)


def fits(row: Row, asked: Row, today: date) -> bool:
    exact = ("environment", "status", "power_state", "hypervisor_id")
    alike = ("department", "owner")
    lacking = {"hypervisor": "hypervisor_id"}
    within = asked.get("expiring_in")
    missing: str | None = asked.get("missing")
    empty = missing and row[lacking.get(missing, missing)] is None
    return bool(
        all(row[name] == asked[name] for name in exact if name in asked)
        and all(same(row[name], asked[name]) for name in alike if name in asked)
        and (missing is None or empty)
        and (within is None or expires(row, today, today + timedelta(days=within)))
        and expires(row, asked.get("expires_from"), asked.get("expires_to"))
        and matches(row, asked.get("search"))
    )


def key_of(sort: str) -> Callable[[Row], Any]:
    """Nothing comes last; addresses go by number, IPv4 first; text by its folded form."""

    def key(row: Row) -> Any:
        value = row[sort]
        if value is None:
            return (1, (), row["id"])
        if sort == "ip_address":
            address = ipaddress.ip_address(value)
            return (0, (address.version, int(address)), row["id"])
        return (0, folded(value) if isinstance(value, str) else value, row["id"])

    return key


def expected(database: Database, actor: Actor, asked: Row, today: date) -> list[int]:
    rows = [row for row in living(database) if sees(actor, row) and fits(row, asked, today)]
    by_expiry = asked.keys() & {"expiring_in", "expires_from", "expires_to"}
    sort = asked.get("sort") or ("expiry_date" if by_expiry else "vm_name")
    rows.sort(key=key_of(sort), reverse=asked.get("order") == "desc")
    return [row["id"] for row in rows]


def by_pages(database: Database, actor: Actor, asked: Row, today: date) -> Iterator[int]:
    number = 1
    while True:
        page = lists.page(database, actor, parse(VMQuery, {**asked, "page": number}), today)
        assert page.page == number
        yield from (row["id"] for row in page.rows)
        if page.next is None:
            return
        number += 1


def by_cursor(database: Database, actor: Actor, asked: Row, today: date) -> Iterator[int]:
    step: dict[str, Any] = {}
    while True:
        page = lists.page(database, actor, parse(VMQuery, {**asked, **step}), today)
        yield from (row["id"] for row in page.rows)
        if page.next is None:
            return
        step = {"cursor": page.next}


def totals(database: Database, actor: Actor, asked: Row, today: date) -> tuple[int, int]:
    """The total as the list says it, and as the operation for it does."""
    query = parse(VMQuery, dict(asked))
    page = lists.page(database, actor, query, today)
    return page.total, lists.total(database, actor, query, today)


def tally(database: Database) -> Counter[tuple[str, ...]]:
    columns = "dimension, value, environment_key, status, power_state"
    statement = text(f"SELECT {columns}, sum(n) FROM vm_tally GROUP BY {columns}")  # noqa: S608 - constants
    with database.read() as session:
        return Counter(
            {tuple(row[:5]): int(row[5]) for row in session.execute(statement) if row[5]}
        )


def recount(database: Database) -> Counter[tuple[str, ...]]:
    """What the tally must say."""
    counted: Counter[tuple[str, ...]] = Counter()
    for row in living(database):
        state = (row["environment"] or LAST, row["status"], row["power_state"])
        department = folded(row["department"]) if row["department"] else LAST
        counted[("all", "", *state)] += 1
        counted[("department", department, *state)] += 1
        if row["hypervisor_id"] is not None:
            counted[("hypervisor_id", str(row["hypervisor_id"]), *state)] += 1
    return counted
