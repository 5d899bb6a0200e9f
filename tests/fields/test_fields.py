"""The rules of single values, where a property says more than a table."""

import ipaddress
import math
import unicodedata
from datetime import date
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from vmtrak.accounts import Setup
from vmtrak.accounts.inputs import SignIn
from vmtrak.errors import Invalid
from vmtrak.fields import LAST, address_key, fold, parse, same
from vmtrak.inventory import NewVM

often = settings(max_examples=150, deadline=None, database=None)


def made(name: str, value: object) -> Any:
    return getattr(parse(NewVM, {"vm_name": "vm", name: value}), name)


def refused(name: str, value: object) -> list[str]:
    with pytest.raises(Invalid) as told:
        made(name, value)
    assert set(told.value.fields) == {name}
    return told.value.fields[name]


@often
@given(st.text(max_size=300))
@example("\x1cname\x1f")
@example("a\r\n")
@example("\ud800")
def test_a_name_is_kept_trimmed_or_refused_and_never_altered(text: str) -> None:
    try:
        kept = made("vm_name", text)
    except Invalid:
        assert refused("vm_name", text)
        return
    assert kept == text.strip()
    assert 1 <= len(kept) <= 128
    assert not any(
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in kept
    )


@often
@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_notes_hold_line_breaks_in_one_form(text: str) -> None:
    try:
        kept = made("notes", text)
    except Invalid:
        return
    if kept is not None:
        assert "\r" not in kept
        assert made("notes", kept) == kept
        assert kept.split("\n") == text.strip().replace("\r\n", "\n").replace("\r", "\n").split(
            "\n"
        )


@often
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists))
def test_whatever_json_holds_no_field_takes_what_it_cannot_keep(value: Any) -> None:
    for name in ("vm_name", "vcpu", "ram_gb", "ip_address", "mac_address", "expiry_date", "status"):
        try:
            kept = made(name, value)
        except Invalid as error:
            assert set(error.fields) == {name}  # noqa: PT017 - both outcomes are right
        else:
            assert kept is None or made(name, kept) == kept


@often
@given(st.floats())
def test_an_amount_is_a_finite_number_above_nothing(value: float) -> None:
    if 0 < value <= 1_000_000_000:
        assert made("ram_gb", value) == value
        assert made("ram_gb", str(value)) == value
    else:
        assert refused("ram_gb", value)
        assert refused("ram_gb", str(value))


@often
@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_means_the_same_typed_or_as_json(value: float) -> None:
    for name in ("vcpu", "ram_gb"):
        # Beyond 64 bits JSON's numbers are read as floats.
        number = float(value) if abs(value) >= 2**64 else value
        assert outcome(name, number) == outcome(name, str(value)), name


def outcome(name: str, value: object) -> object:
    try:
        return made(name, value)
    except Invalid as error:
        return error.fields[name]


def test_a_whole_amount_is_shown_without_a_point() -> None:
    kept = made("ram_gb", "16.0")
    assert (kept, type(kept)) == (16, int)
    assert not math.isnan(made("disk_gb", 0.1))


@often
@given(st.ip_addresses())
def test_an_address_is_kept_in_its_one_short_form(address: Any) -> None:
    assert made("ip_address", f" {address.exploded.upper()} ") == str(address)


@often
@given(st.lists(st.ip_addresses(), min_size=2, max_size=6))
def test_addresses_sort_by_number(addresses: list[Any]) -> None:
    by_number = sorted(addresses, key=lambda one: (one.version, int(one)))
    assert sorted(addresses, key=lambda one: address_key(str(one))) == by_number
    assert all(address_key(str(one)) < address_key(None) == LAST for one in addresses)


@often
@given(st.text("0123456789.:abcdef%/ ", max_size=40))
def test_no_other_text_is_an_address(text: str) -> None:
    try:
        ipaddress.ip_address(text.strip())
        right = "%" not in text
    except ValueError:
        right = not text.strip()
    assert (outcome("ip_address", text) != ["must be an IPv4 or IPv6 address"]) == right


@often
@given(st.binary(min_size=6, max_size=6))
def test_a_mac_address_has_four_ways_to_be_written_and_one_to_be_kept(number: bytes) -> None:
    kept = number.hex(":")
    dotted = ".".join(number.hex()[at : at + 4] for at in (0, 4, 8))
    for written in (kept, number.hex("-").upper(), dotted, number.hex().upper(), f" {kept} "):
        assert made("mac_address", written) == kept


@often
@given(st.dates())
def test_a_day_is_written_in_one_way(day: date) -> None:
    assert made("expiry_date", day.isoformat()) == day
    assert refused("expiry_date", day.isoformat() + "T00:00:00Z")
    assert refused("expiry_date", day.strftime("%d.%m.%Y"))


def test_days_that_no_calendar_has_are_refused() -> None:
    for text in (
        "2027-02-29",
        "2027-02-30",
        "2027-02-31",
        "2027-04-31",
        "2027-00-10",
        "2027-13-01",
    ):
        assert refused("expiry_date", text) == ["is not a date of the calendar"]


@often
@given(st.text(max_size=20), st.text(max_size=20))
@example("STRASSE", "straße")
@example("É", "e\u0301")
@example("ΑΣ", "ας")
@example("İ", "i\u0307")
def test_names_compare_without_case_and_without_regard_to_how_accents_are_coded(
    one: str, other: str
) -> None:
    assert fold(one) == fold(fold(one))
    assert fold(one) == fold(unicodedata.normalize("NFD", one))
    assert same(one, f"  {one} ")
    assert same(one, other) == same(other, one)


def test_names_that_people_take_for_one_are_one() -> None:
    for one, other in (("STRASSE", "straße"), ("É", "e\u0301"), ("ΑΣ", "ας"), ("Ǆ", "ǆ")):
        assert same(one, other), (one, other)
    assert not same("e", "é")


@pytest.mark.parametrize("name", ["username", "password"])
def test_what_is_no_text_or_too_long_is_told_in_plain_words(name: str) -> None:
    told = []
    for value in ("x" * 1_001, ["x"]):
        with pytest.raises(Invalid) as refusal:
            parse(SignIn, {"username": "ada", "password": "x", name: value})
        told.append(refusal.value.fields)
    assert told == [{name: ["must be at most 1,000 characters"]}, {name: ["must be text"]}]


def test_every_wrong_field_is_named_at_once() -> None:
    wrong = {"vm_name": "", "vcpu": "x", "ram_gb": -1, "ip_address": "y", "status": "gone"}
    with pytest.raises(Invalid) as told:
        parse(NewVM, wrong)
    assert set(told.value.fields) == set(wrong)
    assert all(told.value.fields.values())


@pytest.mark.parametrize("blank", ["\u3164", "\u115f \u1160", "\u2800", "\u200b\ufeff", "\u034f"])
def test_what_nobody_sees_is_as_good_as_nothing(blank: str) -> None:
    assert made("notes", blank) is None
    assert refused("vm_name", blank) == ["is required"]
    assert refused("vm_name", f"vm{blank}") == ["must not contain invisible characters"]


@pytest.mark.parametrize("address", ["it@corp.local", "it@vmtrak.test", "it@vmtrak.example"])
def test_addresses_that_are_known_only_within_a_company_are_addresses(address: str) -> None:
    assert Setup.model_validate({"email": address, "password": "x" * 12}).email == address


@pytest.mark.parametrize("address", ["it@localhost", "it@vmtrak.invalid", "it@vmtrak", "it@.local"])
def test_what_can_be_nobody_s_address_is_none(address: str) -> None:
    with pytest.raises(ValidationError):
        Setup.model_validate({"email": address, "password": "x" * 12})
