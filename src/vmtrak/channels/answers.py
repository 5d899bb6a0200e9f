"""What another program answered, made fit to be shown to people and to be kept."""

from collections.abc import Iterable

LONGEST = 1000

_HIDDEN = "•••"


def shown(answer: bytes, secrets: Iterable[str] = ()) -> str:
    """The answer in one line, at most `LONGEST` characters of it, without any of the secrets.

    Whatever is no text becomes a question mark, as do control characters.
    """
    text = answer.decode(errors="replace")
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else "?" for c in line)[:LONGEST]
