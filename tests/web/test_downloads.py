"""The names of downloads: whatever a VM or a person is called, the file's name does no harm."""

import re
import unicodedata
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vmtrak.web.downloads import LONGEST, attachment

often = settings(max_examples=300, deadline=None, database=None)

_VALUE = re.compile(r"attachment; filename=\"([^\"\\]*)\"; filename\*=UTF-8''([A-Za-z0-9%._~-]+)")
_DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    port + n for port in ("COM", "LPT") for n in "0123456789¹²³"
}


def names(name: str) -> tuple[str, str]:
    """The fallback in ASCII and the name itself, as a browser reads them."""
    found = _VALUE.fullmatch(attachment(name))
    assert found, attachment(name)
    return found[1], unquote(found[2], errors="strict")


@often
@given(st.text(max_size=300))
@example("CON")
@example("con .rdp")
@example("\uff23\uff2f\uff2e.rdp")
@example("../../etc/passwd")
@example("..\\..\\boot.ini")
@example("a\r\nSet-Cookie: x=1")
@example('a"; filename=evil.exe; x="')
@example("\u202egnp.exe")
@example("\ud800.csv")
@example("%2e%2e%2fx")
@example("\u2105\uff0f\uff1a")
@example("x" * 400 + ".rdp")
@example("कं" * 200 + ".csv")
@example("." * 5)
def test_any_name_becomes_one_that_every_system_takes(name: str) -> None:
    fallback, whole = names(name)
    assert fallback.isascii()
    assert "%" not in fallback
    for kept in (fallback, whole):
        assert kept
        assert len(kept.encode()) <= LONGEST
        assert not set(kept) & set('\\/:*?"<>|')
        assert all(unicodedata.category(one)[0] != "C" for one in kept)
        assert kept.strip(" .") == kept
        assert kept.partition(".")[0].rstrip().upper() not in _DEVICES


@often
@given(st.text(max_size=300), st.sampled_from(["rdp", "csv", "txt"]))
@example("", "rdp")
@example("...", "csv")
@example("x" * 500, "rdp")
@example("nul", "txt")
def test_the_kind_of_file_stays(stem: str, kind: str) -> None:
    assert all(kept.endswith(f".{kind}") for kept in names(f"{stem}.{kind}"))


@pytest.mark.parametrize(
    ("name", "fallback", "whole"),
    [
        ("web-01.rdp", "web-01.rdp", "web-01.rdp"),
        ("Müller GmbH.rdp", "Muller GmbH.rdp", "Müller GmbH.rdp"),
        ("दिल्ली-01.rdp", "_____-01.rdp", "दिल्ली-01.rdp"),
        ("数据库.csv", "___.csv", "数据库.csv"),
        ("a/b: c.csv", "a_b_ c.csv", "a_b_ c.csv"),
        ("aux.rdp", "_aux.rdp", "_aux.rdp"),
        ("\u200f=x.csv", "=x.csv", "=x.csv"),
        ("", "download", "download"),
    ],
)
def test_a_name_is_kept_as_far_as_it_can_be(name: str, fallback: str, whole: str) -> None:
    assert names(name) == (fallback, whole)
