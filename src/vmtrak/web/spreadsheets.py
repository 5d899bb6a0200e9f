"""Tables as CSV files (RFC 4180) that are read by scripts and opened in spreadsheets."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from starlette.responses import Response

from vmtrak.web.downloads import attachment

MEDIA_TYPE = "text/csv"

_BEGINS_A_FORMULA = frozenset("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - the wide ones count in Excel
"""owasp.org, "CSV Injection"."""


def download(
    name: str,
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    *,
    for_people: bool = False,
) -> Response:
    """The rows as a file of that name with these columns, in UTF-8.

    A person opens it by a double click, and Excel then takes UTF-8 for the code page of the
    machine unless a byte order mark says otherwise. To a script, which is told the encoding by
    the header, the mark would be part of the first column's name: so only people get it.
    """
    encoding = "utf-8-sig" if for_people else "utf-8"
    return Response(
        table(columns, rows).encode(encoding),
        headers={"Content-Disposition": attachment(name)},
        media_type=f"{MEDIA_TYPE}; charset=utf-8",
    )


def table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([_cell(row[column]) for column in columns] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> str:  # noqa: ANN401 - whatever a row holds
    """The text of a cell. One that would be a formula gets an apostrophe before it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return "" if value is None else str(value)
    return f"'{value}" if _is_formula(value) else value


def _is_formula(text: str) -> bool:
    """Whether a spreadsheet might work it out. Invisible characters and blanks may stand before."""
    seen = (one for one in text if unicodedata.category(one) != "Cf" and one != " ")
    return text[:1] in _BEGINS_A_FORMULA or next(seen, "") in _BEGINS_A_FORMULA
