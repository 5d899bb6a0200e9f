"""CSV files hold what was there, and no spreadsheet works anything of it out."""

import csv
import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vmtrak.web.spreadsheets import download, table

often = settings(max_examples=200, deadline=None, database=None)

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
INVISIBLE = ("\u200f", "\u202e", "\ufeff", "\u200b", " ")


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@often
@given(st.lists(st.tuples(TEXT, TEXT), max_size=5))
@example([('a "quoted", word', "two\r\nlines")])
@example([("", "")])
def test_every_text_comes_back_but_for_the_apostrophe(rows: list[tuple[str, str]]) -> None:
    found = read(table(("a", "b"), [{"a": a, "b": b} for a, b in rows]))
    assert found[0] == ["a", "b"]
    assert len(found) == len(rows) + 1
    for row, given_ in zip(found[1:], rows, strict=True):
        assert all(cell in {text, f"'{text}"} for cell, text in zip(row, given_, strict=True))


@often
@given(
    st.lists(st.sampled_from(INVISIBLE), max_size=3),
    st.sampled_from("=+-@＝＋－＠\t\r\n"),  # noqa: RUF001 - wide ones count too
    TEXT,
)
@example([], "=", 'HYPERLINK("http://127.0.0.1/?"&A1)')
@example(["\u200f"], "=", "1+1")
@example([], "-", "2+3+cmd|' /C calc'!A0")
def test_what_begins_as_a_formula_is_text(before: list[str], sign: str, rest: str) -> None:
    text = "".join(before) + sign + rest
    assert read(table(("a",), [{"a": text}]))[1] == [f"'{text}"]


@pytest.mark.parametrize("text", ["web-01", "a=b", "1+1", "x@y.example", "'quoted", "Müller"])
def test_what_is_no_formula_stays_as_it_is(text: str) -> None:
    assert read(table(("a",), [{"a": text}]))[1] == [text]


def test_numbers_flags_and_nothing_are_told_plainly() -> None:
    row = {"number": -3, "yes": True, "no": False, "none": None}
    assert read(table(tuple(row), [row]))[1] == ["-3", "true", "false", ""]


def test_people_get_a_byte_order_mark_and_scripts_none() -> None:
    plain = download("ü.csv", ("name",), [{"name": "Müller"}])
    assert plain.body == "name\r\nMüller\r\n".encode()
    assert download("x.csv", ("name",), [], for_people=True).body == b"\xef\xbb\xbfname\r\n"
    assert plain.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert plain.headers["Content-Disposition"].endswith("filename*=UTF-8''%C3%BC.csv")
