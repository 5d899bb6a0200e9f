"""Sealing: what was sealed opens in its own place with its own key, and nothing else does."""

import base64
import json
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from vmtrak.sealing import Damaged, KeyRing, Place, Sealed, SealingError, UnknownKey

VECTORS: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("vectors.json").read_text(encoding="utf-8")
)

OLD, NEW = ("2025", bytes(range(32))), ("2026", bytes(range(32, 64)))
PLACE = Place("vm_credentials", "sealed_password", "7")

places = st.builds(Place, st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
any_text = st.text(st.characters(codec=None), max_size=300)


def of(vector: dict[str, Any]) -> tuple[KeyRing, Place, Sealed]:
    ring = KeyRing([(vector["key_id"], bytes.fromhex(vector["key"]))])
    return ring, Place(vector["table"], vector["column"], vector["row"]), Sealed(vector["sealed"])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["note"]))
def test_a_vector_opens(vector: dict[str, Any]) -> None:
    ring, place, sealed = of(vector)
    assert ring.open(sealed, place) == vector["plaintext"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["note"]))
def test_a_vector_is_what_sealing_with_its_nonce_gives(
    vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ring, place, sealed = of(vector)
    monkeypatch.setattr(secrets, "token_bytes", lambda _: bytes.fromhex(vector["nonce"]))
    assert ring.seal(vector["plaintext"], place) == sealed


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["note"]))
def test_a_vector_is_aes_gcm_over_the_lengths_and_parts_of_its_place(
    vector: dict[str, Any],
) -> None:
    """The format written down a second time, from the decision record."""
    head, *encoded = vector["sealed"].rsplit(".", 2)
    version, _, key_id = head.partition(".")
    nonce, box = (base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) for text in encoded)
    parts = (version, key_id, vector["table"], vector["column"], vector["row"])
    lengths_and_parts = b"".join(
        bytes([0, 0, 0, len(part.encode())]) + part.encode() for part in parts
    )
    assert (version, key_id) == ("v1", vector["key_id"])
    assert nonce.hex() == vector["nonce"]
    assert lengths_and_parts.hex() == vector["associated"]
    opened = AESGCM(bytes.fromhex(vector["key"])).decrypt(nonce, box, lengths_and_parts)
    assert opened.decode() == vector["plaintext"]
    assert len(box) == len(opened) + 16


@given(any_text, places)
def test_any_text_comes_back_from_any_place(text: str, place: Place) -> None:
    ring = KeyRing([NEW, OLD])
    assert ring.open(ring.seal(text, place), place) == text


@given(st.text(max_size=60), places, places)
def test_a_value_opens_in_no_other_place(text: str, one: Place, other: Place) -> None:
    ring = KeyRing([NEW])
    sealed = ring.seal(text, one)
    if one != other:
        with pytest.raises(Damaged):
            ring.open(sealed, other)


@pytest.mark.parametrize(
    "other",
    [
        replace(PLACE, row="8"),
        replace(PLACE, row="77"),
        replace(PLACE, table="second_factors"),
        replace(PLACE, column="notes"),
        Place("vm_credentialss", "ealed_password", "7"),
        Place("vm_credentials", "sealed_password7", "7"),
        Place("", "vm_credentialssealed_password", "7"),
    ],
)
def test_a_value_that_was_moved_is_refused(other: Place) -> None:
    ring = KeyRing([NEW])
    sealed = ring.seal("hunter2 hunter2", PLACE)
    with pytest.raises(Damaged):
        ring.open(sealed, other)


@given(st.text(max_size=40), st.data())
def test_a_value_with_one_altered_bit_is_refused(text: str, data: st.DataObject) -> None:
    ring = KeyRing([NEW])
    head, _, encoded = ring.seal(text, PLACE).text.rpartition(".")
    box = bytearray(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    bit = data.draw(st.integers(0, 8 * len(box) - 1))
    box[bit // 8] ^= 1 << bit % 8
    altered = f"{head}.{base64.urlsafe_b64encode(box).rstrip(b'=').decode()}"
    with pytest.raises(Damaged):
        ring.open(Sealed(altered), PLACE)


@given(st.text(max_size=40), st.data())
def test_a_value_with_one_altered_character_is_refused(text: str, data: st.DataObject) -> None:
    ring = KeyRing([NEW])
    sealed = ring.seal(text, PLACE).text
    place = data.draw(st.integers(0, len(sealed) - 1))
    put = data.draw(st.characters(codec="utf-8").filter(lambda each: each != sealed[place]))
    with pytest.raises(SealingError):
        ring.open(Sealed(sealed[:place] + put + sealed[place + 1 :]), PLACE)


@given(st.data())
def test_a_value_that_was_cut_or_grew_is_refused(data: st.DataObject) -> None:
    ring = KeyRing([NEW])
    sealed = ring.seal("correct horse", PLACE).text
    cut = sealed[: data.draw(st.integers(0, len(sealed) - 1))]
    for text in (cut, sealed + data.draw(st.text(min_size=1, max_size=5)), sealed * 2):
        with pytest.raises(SealingError):
            ring.open(Sealed(text), PLACE)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("v1.", "v2.", 1),
        lambda text: text.replace("v1.", "V1.", 1),
        lambda text: text.replace("v1.2026.", "v1..", 1),
        lambda text: text.replace("v1.2026.", "v1.", 1),
        lambda text: text.replace("v1.2026.", f"v1.{'k' * 33}.", 1),
        lambda text: text.replace("v1.2026.", "v1.a key.", 1),
        lambda text: text + "=",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.replace("_", "/").replace("-", "+") + "/",
        lambda _: "",
        lambda _: "v1.2026.",
        lambda _: "v1.2026." + "A" * 36,
        lambda _: f"v1.2026.{'A' * 16}.{'A' * 21}",
        lambda text: text[::-1].replace(".", "", 1)[::-1],
        lambda _: "hunter2",
    ],
)
def test_what_is_no_sealed_value_is_refused(spoil: Any) -> None:
    ring = KeyRing([NEW])
    text = spoil(ring.seal("correct horse", PLACE).text)
    with pytest.raises(Damaged):
        ring.open(Sealed(text), PLACE)


def test_base64_that_spells_the_same_bytes_otherwise_is_refused() -> None:
    ring = KeyRing([NEW])
    sealed = ring.seal("four", PLACE).text  # 32 bytes: the last character carries 4 bits of 6
    last = sealed[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    again = sealed[:-1] + alphabet[alphabet.index(last) ^ 1]
    padded = [f"{text.rpartition('.')[2]}=" for text in (sealed, again)]
    assert base64.urlsafe_b64decode(padded[0]) == base64.urlsafe_b64decode(padded[1])
    with pytest.raises(Damaged):
        ring.open(Sealed(again), PLACE)


def test_a_key_that_is_not_there_is_named_and_another_of_the_same_name_does_not_open() -> None:
    sealed = KeyRing([OLD]).seal("correct horse", PLACE)
    with pytest.raises(UnknownKey, match="'2025'") as unknown:
        KeyRing([NEW]).open(sealed, PLACE)
    assert unknown.value.key_id == "2025"
    with pytest.raises(Damaged):
        KeyRing([("2025", NEW[1])]).open(sealed, PLACE)


def test_the_first_key_seals_and_all_open() -> None:
    before, ring = KeyRing([OLD]), KeyRing([NEW, OLD])
    sealed = before.seal("correct horse", PLACE)
    assert sealed.key_id == "2025"
    assert ring.open(sealed, PLACE) == "correct horse"
    assert ring.seal("correct horse", PLACE).key_id == "2026"
    assert ring.ids == ("2026", "2025")


def test_a_value_under_an_old_key_is_sealed_anew_with_the_first() -> None:
    ring = KeyRing([NEW, OLD])
    old = KeyRing([OLD]).seal("correct horse", PLACE)
    assert not ring.is_current(old)
    new = ring.resealed(old, PLACE)
    assert ring.is_current(new)
    assert KeyRing([NEW]).open(new, PLACE) == "correct horse"


def test_an_id_may_hold_dots() -> None:
    ring = KeyRing([("site.a.2026-11", NEW[1])])
    sealed = ring.seal("correct horse", PLACE)
    assert sealed.key_id == "site.a.2026-11"
    assert ring.open(sealed, PLACE) == "correct horse"


def test_the_same_text_is_never_sealed_the_same() -> None:
    ring = KeyRing([NEW])
    assert len({ring.seal("correct horse", PLACE).text for _ in range(500)}) == 500


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [NEW, NEW],
        [("2026", bytes(16))],
        [("2026", bytes(33))],
        [("", NEW[1])],
        [("a key", NEW[1])],
        [("k" * 33, NEW[1])],
        [("2026\n", NEW[1])],
    ],
)
def test_a_ring_of_unfit_keys_is_refused_without_naming_them(
    keys: list[tuple[str, bytes]],
) -> None:
    with pytest.raises(ValueError, match=r"^a key") as refused:
        KeyRing(keys)
    assert not any(key.hex() in str(refused.value) for _, key in keys)


def test_neither_a_sealed_value_nor_a_ring_shows_what_it_holds() -> None:
    ring = KeyRing([NEW])
    sealed = ring.seal("correct horse", PLACE)
    shown = [repr(sealed), str(sealed), f"{sealed}", f"{sealed!r:>20}", repr([sealed]), repr(ring)]
    encoded = sealed.text.rpartition(".")[2]
    secret = base64.b64encode(NEW[1]).decode()
    assert not any(hidden in text for text in shown for hidden in (encoded, secret, "horse"))
    with pytest.raises(TypeError):
        json.dumps(sealed)


def test_no_error_shows_what_was_sealed() -> None:
    ring = KeyRing([NEW])
    sealed = ring.seal("correct horse", PLACE)
    for place, wrong in ((replace(PLACE, row="8"), ring), (PLACE, KeyRing([OLD]))):
        with pytest.raises(SealingError) as refused:
            wrong.open(sealed, place)
        assert sealed.text.rpartition(".")[2] not in f"{refused.value}{refused.value!r}"
        assert refused.value.__cause__ is None
