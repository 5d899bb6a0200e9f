"""A token says by itself that it is one, so that leaked ones are found and typos cost nothing."""

import re
import string
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Person
from tests.tokens.conftest import made
from vmtrak.accounts import actors, api_tokens
from vmtrak.accounts.access_tokens import SessionRules
from vmtrak.db import Database
from vmtrak.errors import Unavailable

SECURITY = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
LETTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
KNOWN = "vmt_" + "0" * 43 + "2CZclj"
"""A change of the format would make tokens of before worthless."""

bodies = st.text(LETTERS, min_size=43, max_size=43)


def checked(body: str) -> str:
    """The token around these random characters, worked out from what the documents say."""
    number, digits = zlib.crc32(body.encode()), ""
    while number:
        number, digit = number // 62, number % 62
        digits = LETTERS[digit] + digits
    return f"vmt_{body}{digits.rjust(6, '0')}"


def test_a_new_token_has_the_form_that_scanners_are_told(operator: Person) -> None:
    [pattern] = re.findall(r"^(vmt_\[.+)$", SECURITY, re.MULTILINE)
    _, secret = made(operator)
    assert re.fullmatch(pattern, secret)
    assert re.findall(pattern, f'export TOKEN="{secret}"\n') == [secret]
    assert secret == checked(secret[4:-6])
    assert len(secret) == 53


def test_the_format_stays_what_it_is() -> None:
    assert checked("0" * 43) == KNOWN
    assert api_tokens.is_genuine(KNOWN)


@given(bodies)
def test_every_token_of_the_form_with_its_checksum_is_genuine(body: str) -> None:
    assert api_tokens.is_genuine(checked(body))


@given(bodies, st.integers(4, 52), st.sampled_from(LETTERS))
def test_one_wrong_character_is_always_noticed(body: str, place: int, letter: str) -> None:
    token = checked(body)
    mistyped = token[:place] + letter + token[place + 1 :]
    assert api_tokens.is_genuine(mistyped) == (mistyped == token)


@given(st.one_of(st.text(), st.text(LETTERS).map("vmt_".__add__)))
def test_no_other_text_is_genuine(text: str) -> None:
    assert api_tokens.is_genuine(text) == (len(text) == 53 and text == checked(text[4:-6]))


@given(bodies, st.sampled_from(["\n", " ", "\x00", "é", "٣"]))
def test_what_stands_around_a_token_is_not_passed_over(body: str, more: str) -> None:
    token = checked(body)
    assert not api_tokens.is_genuine(token + more)
    assert not api_tokens.is_genuine(more + token)


def test_a_wrong_checksum_is_refused_without_asking_the_database(tmp_path: Path) -> None:
    nowhere = Database(f"sqlite:///{tmp_path / 'no such folder' / 'inventory.db'}")
    rules, visitor = SessionRules.of(b"k" * 32, 15, 7), actors.visitor(None, None)
    wrong = KNOWN[:-1] + "k"
    assert api_tokens.by_token(nowhere, rules, wrong, visitor) is None
    with pytest.raises(Unavailable):
        api_tokens.by_token(nowhere, rules, KNOWN, visitor)
    nowhere.close()
