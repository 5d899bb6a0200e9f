"""Canary passwords of several shapes, and every spelling in which they might come out."""

import base64
import gzip
import html
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import quote, quote_plus

from tests.conftest import CANARY

SHAPES = {
    "plain": f"{CANARY}Tr0ub4dor&3",
    "unicode": f"{CANARY}Blåbærgrød пароль 密碼 🔑",
    "quotes": f"""{CANARY}'";--\\`$(x)""",
    "format": f"{CANARY}%s%(x)s{{0}}{{password!r}}%n",
    "markup": f"{CANARY}<red>&amp;</red><!--",
    "blanks": f"  {CANARY}tab\tand blank ",
    "lines": f"{CANARY}one\ntwo\r\nthree",
    "long": CANARY + "".join(chr(0x21 + n % 94) for n in range(512 - len(CANARY))),
}
"""Passwords as people and programs make them."""


@cache
def spellings(secret: str) -> frozenset[bytes]:
    """As text of several encodings, escaped for several languages, in hexadecimal and base64."""
    escaped = {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        html.escape(secret),
        quote(secret),
        quote_plus(secret),
    }
    plain = secret.encode()
    wide = {secret.encode(code) for code in ("utf-16-le", "utf-16-be", "utf-32-le")}
    encoded = {text.encode() for text in escaped} | wide
    digits = {form for data in (plain, *wide) for form in (data.hex(), data.hex().upper())}
    coded = {form for data in (plain, *wide) for form in _base64(data)}
    return frozenset(encoded | {text.encode() for text in digits | coded})


def _base64(data: bytes) -> Iterator[str]:
    """What is the same wherever the data begins within a longer text, in both alphabets."""
    for before in range(3):
        text = base64.b64encode(bytes(before) + data).decode()
        core = text[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        yield core
        yield core.replace("+", "-").replace("/", "_")


@cache
def _all_spellings() -> frozenset[bytes]:
    """Of the beginning that all share, and of each as a whole."""
    return frozenset(form for one in (CANARY, *SHAPES.values()) for form in spellings(one))


def holds_canary(data: bytes) -> bool:
    return any(form in data for form in _all_spellings())


def leaks(folder: Path) -> list[str]:
    """The files in the folder that hold a canary; what is compressed is read as well."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [str(path.relative_to(folder)) for path in files if holds_canary(content(path))]


def content(path: Path) -> bytes:
    data = path.read_bytes()
    return data + gzip.decompress(data) if path.suffix == ".gz" else data
