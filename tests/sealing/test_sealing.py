"""Sealing: what was sealed opens in its own place with its own key, and nothing else does."""

import base64
import json
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM
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
    version, _, key_id = vector["sealed"].rsplit(".", 2)[0].partition(".")
    nonce, box = decoded(Sealed(vector["sealed"]))
    parts = (version, key_id, vector["table"], vector["column"], vector["row"])
    lengths_and_parts = b"".join(
        bytes([0, 0, 0, len(part.encode())]) + part.encode() for part in parts
    )
    assert (version, key_id) == ("v1", vector["key_id"])
    assert nonce.hex() == vector["nonce"]
    assert lengths_and_parts.hex() == vector["associated"]
    opened = by_hand(bytes.fromhex(vector["key"]), nonce, box, lengths_and_parts)
    assert opened.decode() == vector["plaintext"]
    assert len(box) == len(opened) + 16
    # The last two parts of a value opened by another way than the one that sealed it.
    again = KeyRing([(key_id, bytes.fromhex(vector["key"]))]).seal(opened.decode(), of(vector)[1])
    nonce, box = decoded(again)
    assert by_hand(bytes.fromhex(vector["key"]), nonce, box, lengths_and_parts) == opened


def by_hand(key: bytes, nonce: bytes, box: bytes, associated: bytes) -> bytes:
    """AES in Galois/counter mode out of its parts, the tag being told apart here."""
    mode = GCM(nonce, box[-16:], min_tag_length=16)
    opening = Cipher(AES(key), mode).decryptor()
    opening.authenticate_additional_data(associated)
    return opening.update(box[:-16]) + opening.finalize()


def decoded(sealed: Sealed) -> tuple[bytes, bytes]:
    """Nonce, and ciphertext with tag."""
    nonce, box = sealed.text.rsplit(".", 2)[1:]
    return unpadded(nonce), unpadded(box)


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


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
def test_a_value_with_altered_bits_in_nonce_text_or_tag_is_refused(
    text: str, data: st.DataObject
) -> None:
    ring = KeyRing([NEW])
    sealed = ring.seal(text, PLACE)
    parts = [bytearray(part) for part in decoded(sealed)]
    sizes = [len(part) for part in parts]
    assert sizes == [12, len(text.encode()) + 16]
    byte = data.draw(st.integers(0, sum(sizes) - 1))
    part, at = (0, byte) if byte < sizes[0] else (1, byte - sizes[0])
    parts[part][at] ^= data.draw(st.integers(1, 255))
    altered = ".".join((sealed.text.rsplit(".", 2)[0], *(encoded(bytes(each)) for each in parts)))
    with pytest.raises(Damaged):
        ring.open(Sealed(altered), PLACE)


@given(st.text(max_size=40), st.data())
def test_a_value_under_a_key_with_one_altered_bit_is_refused(
    text: str, data: st.DataObject
) -> None:
    sealed, other = KeyRing([NEW]).seal(text, PLACE), bytearray(NEW[1])
    bit = data.draw(st.integers(0, 8 * len(other) - 1))
    other[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Damaged):
        KeyRing([(NEW[0], bytes(other))]).open(sealed, PLACE)


@given(st.text(max_size=40), st.from_regex(r"[A-Za-z0-9._-]{1,32}", fullmatch=True))
def test_a_value_under_another_id_of_the_same_key_is_refused(text: str, key_id: str) -> None:
    sealed = KeyRing([NEW]).seal(text, PLACE)
    renamed = Sealed(sealed.text.replace(f"v1.{NEW[0]}.", f"v1.{key_id}.", 1))
    ring = KeyRing([(key_id, NEW[1])])
    if key_id == NEW[0]:
        assert ring.open(renamed, PLACE) == text
    else:
        with pytest.raises(Damaged):
            ring.open(renamed, PLACE)


@given(st.text(max_size=40), st.from_regex(r"[^.]{1,4}", fullmatch=True))
def test_a_value_of_another_version_is_refused(text: str, version: str) -> None:
    ring = KeyRing([NEW])
    sealed = ring.seal(text, PLACE).text
    if version != "v1":
        with pytest.raises(Damaged):
            ring.open(Sealed(version + sealed[2:]), PLACE)


@given(
    st.text(max_size=20),
    places,
    st.sampled_from(["table", "column", "row"]),
    st.text(max_size=30),
)
def test_a_value_opens_nowhere_where_one_part_of_its_place_differs(
    text: str, place: Place, part: str, other: str
) -> None:
    ring = KeyRing([NEW])
    sealed, elsewhere = ring.seal(text, place), replace(place, **{part: other})
    if elsewhere != place:
        with pytest.raises(Damaged):
            ring.open(sealed, elsewhere)


def test_two_values_do_not_lend_each_other_their_parts() -> None:
    ring = KeyRing([NEW])
    one, other = (ring.seal("correct horse", PLACE).text.rsplit(".", 2) for _ in range(2))
    for mixed in ((one[0], one[1], other[2]), (one[0], other[1], one[2])):
        with pytest.raises(Damaged):
            ring.open(Sealed(".".join(mixed)), PLACE)


def test_any_key_of_the_ring_seals_when_it_is_named() -> None:
    ring = KeyRing([NEW, OLD])
    sealed = ring.seal_with("2025", "correct horse", PLACE)
    assert KeyRing([OLD]).open(sealed, PLACE) == "correct horse"


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
    new = ring.resealed(old, PLACE)
    assert new.key_id == "2026"
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
