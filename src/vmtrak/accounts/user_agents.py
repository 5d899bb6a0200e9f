"""A browser or a program in words, from the header that it sends: for people to recognise theirs.

The header says what it likes, so that nothing is decided by it; a list of patterns that grows
every month would tell nobody more.
"""

import re

_PROGRAMS = (
    # Chrome's offspring name Chrome too, and every browser names Safari: the order decides.
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("Firefox", "Firefox"),
    ("FxiOS", "Firefox"),
    ("CriOS", "Chrome"),
    ("Chrom", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Macintosh", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)
_FIRST_WORD = re.compile(r"[A-Za-z][\w.-]{0,39}")


def told(user_agent: str | None) -> str:
    """Such as "Firefox on Windows", "curl" or "Unknown device"."""
    text = user_agent or ""
    program = _first(_PROGRAMS, text) if text.startswith("Mozilla/") else None
    system = _first(_SYSTEMS, text)
    if program and system:
        return f"{program} on {system}"
    word = _FIRST_WORD.match(text)
    return program or (word[0] if word and word[0] != "Mozilla" else None) or "Unknown device"


def _first(names: tuple[tuple[str, str], ...], text: str) -> str | None:
    return next((word for mark, word in names if mark in text), None)
