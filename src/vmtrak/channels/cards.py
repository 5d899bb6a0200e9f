"""What Teams and Slack are sent: an Adaptive Card, Block Kit blocks, never more than they take.

Names and owners of VMs are other people's text. Nothing in them may become a link, a mention or
formatting.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

import orjson

from vmtrak.channels.messages import (
    GROUPS,
    Digest,
    Group,
    Line,
    Parcel,
    Trial,
    group_of,
    phrase,
    subject,
)

LARGEST_CARD = 20_000
"""Bytes of a message for Teams. Microsoft says 28 kB, "about"; others found theirs refused from
21 kB on (the Ruby gem msteams_hermes), and Teams adds to what it is given."""

MOST_BLOCKS = 50
LONGEST_TEXT = 3_000
LONGEST_HEADER = 150
"""Slack's limits: blocks in a message, characters in a section's text and in a header's."""

LARGEST_BLOCKS = 10_000
"""Characters of all blocks together as JSON. Slack documents no such limit and refuses blocks of
about 13,200, some of 11,400 (slackapi/bolt-js, issues 2509 and 2867: msg_blocks_too_long)."""

_LONGEST_TITLE = 150
_LONGEST_NAME = 80
_LONGEST_OWNER = 60

_TEST = "Expiry notices of VMTrak will come to this channel."

Message = dict[str, Any]


def vm_address(parcel: Parcel, line: Line) -> str:
    """The VM's own page."""
    return f"{parcel.base_url}/admin/vm/details/{line.vm_id}"


def list_address(parcel: Parcel) -> str:
    """The list of the digest's VMs; where it does not name them all, of all active ones."""
    content = parcel.content
    if isinstance(content, Trial):
        return f"{parcel.base_url}/admin/"
    query = {"status": "active", "sort": "expiry_date"}
    if content.lines and len(content.lines) == content.total:
        days = [line.expiry_date.isoformat() for line in content.lines]
        query |= {"expires_from": min(days), "expires_to": max(days)}
    return f"{parcel.base_url}/admin/vm/list?{urlencode(query)}"


def teams(parcel: Parcel) -> Message:
    """A message for a workflow of Teams that posts a card (Adaptive Cards 1.4)."""
    return _fullest(parcel, lambda lines: _card_message(parcel, lines), _fits_teams)


def slack(parcel: Parcel) -> Message:
    """A message for an incoming webhook of Slack; `text` is what notifications show."""
    return _fullest(parcel, lambda lines: _slack_message(parcel, lines), _fits_slack)


def _fullest(
    parcel: Parcel, made: Callable[[Sequence[Line]], Message], fits: Callable[[Message], bool]
) -> Message:
    """The message with as many lines of the digest as there is room for."""
    lines = parcel.content.lines if isinstance(parcel.content, Digest) else ()
    # The search ends at a number that was tried and fits, or at none.
    counts = range(1, len(lines) + 1)
    return made(lines[: bisect_left(counts, x=True, key=lambda n: not fits(made(lines[:n])))])


def _sections(
    content: Digest, lines: Sequence[Line]
) -> Iterator[tuple[Group, str, list[Line], str | None]]:
    """Each group that has VMs: heading, those of its lines that are shown, words for the others."""
    for group, heading in GROUPS.items():
        count = content.counts.get(group, 0)
        if not count:
            continue
        shown = [line for line in lines if group_of(line.days) is group]
        left = count - len(shown)
        more = f"and {left:,} more" if shown else f"{left:,} on the list"
        yield group, f"{heading} ({count:,})", shown, more if left else None


def _about(line: Line) -> str:
    """What stands behind the name: the date, how far away it is, and whose the VM is."""
    words = [line.expiry_date.isoformat(), phrase(line.days)]
    return " · ".join([*words, *filter(None, [_plain(line.owner or "", _LONGEST_OWNER)])])


def _name(line: Line) -> str:
    return _plain(line.vm_name, _LONGEST_NAME) or f"VM {line.vm_id}"


_JOINERS = "\u200c\u200d"
"""Without them words of some scripts are misspelt; they are not printable to Python."""


def _plain(text: str, most: int) -> str:
    """The text in one line, without what controls a terminal or turns the reading direction."""
    shown = "".join(c if c.isprintable() or c in _JOINERS else " " for c in text)
    line = " ".join(shown.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


# Teams. A TextBlock reads Markdown, and its clients do not agree on how it is escaped
# (microsoft/AdaptiveCards, issue 5590). A RichTextBlock reads none, so whatever is not our own
# words stands in one. A link in a TextRun is lost on some clients (issue 9100), so what opens the
# VM's page is the container around its line.


def _fits_teams(message: Message) -> bool:
    return len(orjson.dumps(message)) <= LARGEST_CARD


def _card_message(parcel: Parcel, lines: Sequence[Line]) -> Message:
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": list(_card_body(parcel, lines)),
        "actions": [_opens(list_address(parcel), "Open in VMTrak")],
    }
    attachment = {
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": None,
        "content": card,
    }
    return {"type": "message", "attachments": [attachment]}


def _card_body(parcel: Parcel, lines: Sequence[Line]) -> Iterator[Message]:
    title = _plain(subject(parcel.content), _LONGEST_TITLE)
    yield _rich(_run(title, size="Large", weight="Bolder"))
    if isinstance(parcel.content, Trial):
        yield {"type": "TextBlock", "text": _TEST, "wrap": True}
        return
    for group, heading, shown, more in _sections(parcel.content, lines):
        color = {"color": "Attention"} if group is Group.OVERDUE else {}
        text = {"type": "TextBlock", "text": heading, "weight": "Bolder", "separator": True}
        yield text | color
        yield from (_row(parcel, line) for line in shown)
        if more:
            yield {"type": "TextBlock", "text": more, "isSubtle": True, "spacing": "Small"}


def _row(parcel: Parcel, line: Line) -> Message:
    text = _rich(_run(_name(line), color="Accent"), _run(f" · {_about(line)}"))
    opens = _opens(vm_address(parcel, line))
    return {"type": "Container", "spacing": "Small", "items": [text], "selectAction": opens}


def _rich(*runs: Message) -> Message:
    return {"type": "RichTextBlock", "inlines": list(runs)}


def _run(text: str, **style: str) -> Message:
    return {"type": "TextRun", "text": _inert(text), **style}


def _opens(address: str, title: str | None = None) -> Message:
    action = {"type": "Action.OpenUrl", "url": address}
    return action if title is None else {**action, "title": title}


_WORD_JOINER = "\u2060"
_ANGLE = "\u2039"  # a quotation mark that looks like <
_ACTIVE = re.compile(r"(?<=[{$])(?=\{)|(?<=&)(?=#?\w+;)")


def _inert(text: str) -> str:
    """The text without what clients or flows look for in any text of a card.

    That is `<at>` for a mention, `{{DATE(…)}}`, `${…}` of templates, and entities such as `&lt;`.
    """
    return _ACTIVE.sub(_WORD_JOINER, text.replace("<", _ANGLE))


# Slack.


def _fits_slack(message: Message) -> bool:
    blocks = message["blocks"]
    return len(blocks) <= MOST_BLOCKS and _length(orjson.dumps(blocks).decode()) <= LARGEST_BLOCKS


def _length(text: str) -> int:
    """Characters as JavaScript counts them, which is never fewer than by any other way."""
    return len(text.encode("utf-16-le")) // 2


def _slack_message(parcel: Parcel, lines: Sequence[Line]) -> Message:
    title = _plain(subject(parcel.content), LONGEST_HEADER // 2)
    header = {"type": "plain_text", "text": _hushed(_inert(title)), "emoji": False}
    where = _link(list_address(parcel), "Open in VMTrak")
    texts = _slack_texts(parcel, lines)
    return {
        "text": _mrkdwn(title),
        "blocks": [
            {"type": "header", "text": header},
            *({"type": "section", "text": _text(text)} for text in texts),
            {"type": "context", "elements": [_text(where)]},
        ],
    }


def _text(text: str) -> Message:
    """`verbatim`: Slack is to make no links or mentions of its own from plain words."""
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _slack_texts(parcel: Parcel, lines: Sequence[Line]) -> Iterator[str]:
    if isinstance(parcel.content, Trial):
        yield _TEST
        return
    for _, heading, shown, more in _sections(parcel.content, lines):
        rows = [
            f"• {_link(vm_address(parcel, one), _name(one))} · {_mrkdwn(_about(one))}"
            for one in shown
        ]
        yield from _packed([f"*{heading}*", *rows, *filter(None, [more])])


def _packed(rows: Sequence[str]) -> Iterator[str]:
    """The rows in as few texts as they fit into."""
    text = rows[0]
    for row in rows[1:]:
        longer = f"{text}\n{row}"
        if _length(longer) > LONGEST_TEXT:
            yield text
            text = row
        else:
            text = longer
    yield text


def _link(address: str, label: str) -> str:
    return f"<{_escaped(address)}|{_mrkdwn(label.replace('|', '¦'))}>"


def _escaped(text: str) -> str:
    """The three characters that Slack gives a meaning to, as it wants them."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_FORMATTING = re.compile(r"(?<![^\W_])[*_~]|[*_~](?![^\W_])|`")
_LOOKS_LIKE = {"*": "\u2217", "_": "\uff3f", "~": "\u223c", "`": "\u02cb"}
_CALL = re.compile(r"(?<!\w)@(?=(?:here|channel|everyone)\b)", re.IGNORECASE)


def _mrkdwn(text: str) -> str:
    """The text as it stands, in a place where Slack reads mrkdwn.

    Slack knows no way to escape its formatting: where one of its characters could begin or end
    some, another one that looks like it takes its place. Within a word, as in `db_prod`, it stays.
    """
    calm = _FORMATTING.sub(lambda found: _LOOKS_LIKE[found[0]], text)
    return _escaped(_hushed(calm))


def _hushed(text: str) -> str:
    """The text without a call for everybody in a channel."""
    return _CALL.sub(f"@{_WORD_JOINER}", text)
