"""The frame of a list page: columns, filters, pages, as `list.html` shows them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from vmtrak.admin.base import address
from vmtrak.db import Page

LIMITS = (25, 50, 100, 200)


@dataclass(frozen=True, slots=True)
class Filter:
    name: str
    label: str
    type: str
    choices: Sequence[tuple[str, str]] = ()
    suggest: str | None = None


@dataclass(frozen=True, slots=True)
class Column:
    key: str
    label: str
    sort: str | None = None
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Sorting:
    sort: str | None = None
    order: str = "asc"
    search: str | None = None
    hint: str = ""
    shown: dict[str, str] = field(default_factory=dict)


def page_table(  # noqa: PLR0913, PLR0917 - the parts of a list page
    request: Request,
    kind: str,
    title: str,
    page: Page,
    filters: Sequence[Filter] = (),
    columns: Sequence[Column] = (),
    sorting: Sorting | None = None,
    create: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The context `table` for one page of rows; `shown` gives values that the address has not."""
    sorting = sorting or Sorting()
    path = f"/admin/{kind}/list"
    given = {k: v for k, v in request.query_params.items() if v} | {
        name: value for name, value in sorting.shown.items() if value
    }
    given.pop("cursor", None)
    unpaged = {name: value for name, value in given.items() if name != "page"}
    pages = max(1, -(-page.total // page.limit))
    number = min(page.page, pages)
    names = [one.name for one in filters]
    kept = {name: value for name, value in unpaged.items() if name not in [*names, "search"]}
    return {
        "kind": kind,
        "title": title,
        "rows": page.rows,
        "total": page.total,
        "page": number,
        "pages": pages,
        "limit": page.limit,
        "first": (page.page - 1) * page.limit + 1 if page.rows else 0,
        "last": (page.page - 1) * page.limit + len(page.rows),
        "columns": [_column(path, unpaged, one, sorting) for one in columns],
        "prev_href": address(path, {**unpaged, "page": number - 1}) if number > 1 else None,
        "next_href": address(path, {**unpaged, "page": number + 1}) if number < pages else None,
        "page_links": _page_links(path, unpaged, number, pages),
        "limits": [
            {"n": n, "href": address(path, {**unpaged, "limit": n}), "current": n == page.limit}
            for n in LIMITS
        ],
        "search": sorting.search,
        "search_hint": sorting.hint,
        "filters": [_filter(one, given) for one in filters],
        "active": _active(path, unpaged, filters, sorting),
        "clear_href": address(
            path, {k: v for k, v in kept.items() if k in {"sort", "order", "limit"}}
        ),
        "create": create,
        "keep": list(kept.items()),
    }


def _column(path: str, given: dict[str, str], one: Column, sorting: Sorting) -> dict[str, Any]:
    sorted_now = sorting.order if one.sort and one.sort == sorting.sort else None
    turned = "desc" if sorted_now == "asc" else "asc"
    href = address(path, {**given, "sort": one.sort, "order": turned}) if one.sort else None
    return {
        "key": one.key,
        "label": one.label,
        "href": href,
        "sorted": sorted_now,
        "numeric": one.numeric,
    }


def _filter(one: Filter, given: dict[str, str]) -> dict[str, Any]:
    options = [{"value": value, "label": label} for value, label in one.choices]
    return {
        "name": one.name,
        "label": one.label,
        "type": one.type,
        "value": given.get(one.name, ""),
        "options": [{"value": "", "label": "Any"}, *options] if options else [],
        "suggest": one.suggest,
    }


def _active(
    path: str, given: dict[str, str], filters: Sequence[Filter], sorting: Sorting
) -> list[dict[str, str]]:
    labels = {one.name: one.label for one in filters} | {"search": "Search"}
    words = {(one.name, value): label for one in filters for value, label in one.choices}
    return [
        {
            "label": labels.get(name, name.replace("_", " ").capitalize()),
            "value": words.get((name, value), value),
            "clear_href": address(path, {k: v for k, v in given.items() if k != name}),
        }
        for name, value in given.items()
        if name not in {"sort", "order", "limit", "hypervisor_id"}
        and (name != "search" or sorting.search is not None)
    ]


def _page_links(
    path: str, given: dict[str, str], number: int, pages: int
) -> list[dict[str, Any] | None]:
    wanted = sorted({1, pages, *range(max(1, number - 2), min(pages, number + 2) + 1)})
    links: list[dict[str, Any] | None] = []
    for before, n in zip([0, *wanted], wanted, strict=False):
        if n > before + 1:
            links.append(None)
        links.append({"n": n, "href": address(path, {**given, "page": n}), "current": n == number})
    return links
