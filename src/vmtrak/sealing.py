"""Sealing: secrets that have to be shown again one day, encrypted for the place they are kept in.

One cipher, one format: `v1.<key id>.<nonce>.<ciphertext and tag>`, the last two in base64url
without padding. decisions/0012 and 0014 say why; tests/sealing/vectors.json pins it.
"""

import base64
import binascii
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = "v1"
"""Names the cipher, the sizes below and the associated data, all at once: none is negotiable."""

KEY_BYTES = 32
"""AES-256 (RFC 5116, 5.2: AEAD_AES_256_GCM). With 128 bits an attacker who collects values under
many keys breaks one of them sooner; the longer key costs nothing that could be measured here."""

NONCE_BYTES = 12
"""96 bits, the only length that GCM takes as it is (NIST SP 800-38D, 5.2.1.1; RFC 5116, 5.2).

Random, since a counter would come back with a restored backup, and a nonce that is used twice
shows how two texts differ and betrays the key of the tag. SP 800-38D, 8.3 allows 2**32 random
nonces with one key, which keeps the odds of a collision below 2**-32: nobody stores that much.
"""

TAG_BYTES = 16
"""The whole tag. SP 800-38D, 5.2.1.2 and appendix C warn of shorter ones: each bit less doubles
the odds of a forgery. `AESGCM` neither makes nor takes another length."""

_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")
"""No base64url text has a dot, so that the last two dots end the id even if the id has dots."""


class SealingError(Exception):
    """A sealed value cannot be opened. The words name no secret and no part of the value."""


class UnknownKey(SealingError):
    """It was sealed with a key that the ring does not hold (any more)."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"sealed with the key {key_id!r}, which is not in the key ring")
        self.key_id = key_id


class Damaged(SealingError):
    """It is not what was sealed for this place: altered, moved from another row, or cut short."""

    def __init__(self) -> None:
        super().__init__("a sealed value was altered or does not belong to its place")


@dataclass(frozen=True, slots=True, repr=False)
class Sealed:
    """A sealed text. It tells nothing by itself: only a key ring opens it, on purpose."""

    text: str

    def __repr__(self) -> str:
        return "Sealed(•••)"

    def __str__(self) -> str:
        return "•••"

    @property
    def key_id(self) -> str:
        """The key it was sealed with. Raises `Damaged` if it does not say."""
        return _parts(self)[0]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed value is kept; it opens nowhere else.

    `row` is the row's number, or a random key of its own that no other row ever has.
    """

    table: str
    column: str
    row: str


class KeyRing:
    """Keys by id. The first seals, all open; safe to share between threads."""

    def __init__(self, keys: Iterable[tuple[str, bytes]]) -> None:
        """Raise `ValueError` for a ring without a key, a malformed or repeated id, a wrong length.

        The cipher objects are kept: one made anew for each value works at a sixth of the speed.
        """
        pairs = list(keys)
        if not pairs or len(dict(pairs)) < len(pairs):
            message = "a key ring has at least one key, and each id once"
            raise ValueError(message)
        for key_id, key in pairs:
            if not _KEY_ID.fullmatch(key_id) or len(key) != KEY_BYTES:
                message = f"a key has an id of 1 to 32 of A-Z a-z 0-9 . _ - and {KEY_BYTES} bytes"
                raise ValueError(message)
        self._first = pairs[0][0]
        self._ciphers: Mapping[str, AESGCM] = MappingProxyType(
            {key_id: AESGCM(key) for key_id, key in pairs}
        )

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self._ciphers)})"

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys; the first is the one that seals."""
        return tuple(self._ciphers)

    def seal(self, plaintext: str, place: Place) -> Sealed:
        """Seal a text, with the ring's first key, for one place.

        Even text that UTF-8 does not know is taken: what may be kept is for others to say.
        """
        return self.seal_with(self._first, plaintext, place)

    def seal_with(self, key_id: str, plaintext: str, place: Place) -> Sealed:
        """The same with any of the ring's keys."""
        nonce, plain = secrets.token_bytes(NONCE_BYTES), plaintext.encode("utf-8", "surrogatepass")
        box = self._ciphers[key_id].encrypt(nonce, plain, _associated(key_id, place))
        return Sealed(f"{VERSION}.{key_id}.{_encoded(nonce)}.{_encoded(box)}")

    def open(self, sealed: Sealed, place: Place) -> str:
        """The text that was sealed for this place.

        Raises `UnknownKey` or `Damaged`; no part of a text comes out whose tag is wrong.
        """
        key_id, nonce, box = _parts(sealed)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise UnknownKey(key_id)
        try:
            plain = cipher.decrypt(nonce, box, _associated(key_id, place))
        except InvalidTag:
            raise Damaged from None
        return plain.decode("utf-8", "surrogatepass")

    def resealed(self, sealed: Sealed, place: Place) -> Sealed:
        """The same text under the first key. Raises as `open` does."""
        return self.seal(self.open(sealed, place), place)


def _parts(sealed: Sealed) -> tuple[str, bytes, bytes]:
    """Key id, nonce, ciphertext with tag; `Damaged` for anything but the one spelling."""
    head, *encoded = sealed.text.rsplit(".", 2)
    version, _, key_id = head.partition(".")
    known = version == VERSION and _KEY_ID.fullmatch(key_id) is not None
    if not known or len(encoded) != 2:  # noqa: PLR2004 - the nonce and the rest
        raise Damaged
    nonce, box = (_decoded(text) for text in encoded)
    if len(nonce) != NONCE_BYTES or len(box) < TAG_BYTES:
        raise Damaged
    return key_id, nonce, box


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decoded(text: str) -> bytes:
    """Base64 can spell the same bytes in several ways; only what `_encoded` writes is taken."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Damaged from None
    if _encoded(data) != text:
        raise Damaged
    return data


def _associated(key_id: str, place: Place) -> bytes:
    """What the tag covers beside the text, so that a value counts in its own place only.

    Each part comes behind its length in four bytes: without the lengths the table "ab" with the
    column "c" would read as "a" with "bc".
    """
    parts = (VERSION, key_id, place.table, place.column, place.row)
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
