"""The search itself finds what it is meant to find: a search that misses proves nothing."""

import base64
import gzip
import html
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from tests.canary.search import SHAPES, holds_canary, leaks

WRITERS: dict[str, Callable[[str], bytes]] = {
    "utf-8": str.encode,
    "utf-16": lambda text: text.encode("utf-16"),
    "json": lambda text: json.dumps({"password": text}).encode(),
    "json in json": lambda text: json.dumps(json.dumps([text], ensure_ascii=False)).encode(),
    "python": lambda text: repr({"password": text}).encode(),
    "html": lambda text: f'<input value="{html.escape(text)}">'.encode(),
    "address": lambda text: f"/admin?password={quote(text)}".encode(),
    "form": lambda text: urlencode({"password": text}).encode(),
    "hexadecimal": lambda text: text.encode().hex().upper().encode(),
    "base64": lambda text: base64.b64encode(text.encode()),
    "base64 within": lambda text: base64.urlsafe_b64encode(b"a credential: " + text.encode()),
    "base64 of utf-16": lambda text: base64.b64encode(b"\0" + text.encode("utf-16-le") + b"end"),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("written", WRITERS)
def test_every_shape_is_found_however_it_is_written(shape: str, written: str) -> None:
    assert holds_canary(b"before " + WRITERS[written](SHAPES[shape]) + b" after")


def test_files_of_all_folders_are_read_and_compressed_ones_unpacked(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "clean").write_text("kanarienvögel, many of them")
    (tmp_path / "logs" / "audit.log.gz").write_bytes(gzip.compress(SHAPES["plain"].encode()))
    (tmp_path / "inventory.db").write_bytes(b"\0\1" + SHAPES["unicode"].encode() + b"\2")
    assert leaks(tmp_path) == ["inventory.db", "logs/audit.log.gz"]
