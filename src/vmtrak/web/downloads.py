"""Names of files that people download: safe in any script and on any system."""

import re
import unicodedata
from urllib.parse import quote

LONGEST = 120
"""Bytes of UTF-8. File systems take 255; browsers add to it while loading and for a second copy."""

_FORBIDDEN = re.compile(r'[\\/:*?"<>|]')
_RESERVED = re.compile(
    r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³]) *(?:\.|$)", re.IGNORECASE
)
"""Devices of Windows, whatever follows the first dot (learn.microsoft.com, "Naming Files")."""

_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,10}$")


def attachment(name: str) -> str:
    """The value of `Content-Disposition` for a download of this name (RFC 6266, RFC 8187).

    Every browser of today reads `filename*`; `filename` is for what only knows ASCII.
    """
    whole = _safe(name)
    return f"attachment; filename=\"{_ascii(whole)}\"; filename*=UTF-8''{quote(whole, safe='')}"


def _safe(name: str) -> str:
    """The name without what leads elsewhere, hides something or is refused by a file system.

    Categories C* are control, bidi and other invisible characters, surrogates, private use.
    """
    text = " ".join(unicodedata.normalize("NFC", name).split())
    shown = "".join(one for one in text if unicodedata.category(one)[0] != "C")
    shown = _FORBIDDEN.sub("_", shown).rstrip(" .")
    found = _EXTENSION.search(shown)
    extension = found[0] if found else ""
    stem = shown.removesuffix(extension).strip(" .") or "download"
    stem = f"_{stem}" if _RESERVED.match(stem) else stem
    return _cut(stem, LONGEST - len(extension)).rstrip(" .") + extension


def _cut(text: str, most: int) -> str:
    return text.encode()[:most].decode(errors="ignore")


def _ascii(name: str) -> str:
    """Accents are dropped, other letters become `_`; so does `%`, which some browsers decode."""
    parts = unicodedata.normalize("NFKD", name)
    bare = (one for one in parts if not unicodedata.combining(one))
    return _safe("".join(one if one.isascii() and one != "%" else "_" for one in bare))
