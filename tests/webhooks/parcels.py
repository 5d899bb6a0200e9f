"""Digests to post: one by hand, and any that hypothesis can think of."""

from collections import Counter
from datetime import date, timedelta

from hypothesis import strategies as st

from vmtrak.channels import Digest, Line, Parcel, Trial, group_of

DAY = date(2026, 11, 22)
BASE_URL = "https://vm.example.org"
UID = "9f1c0c5e6d1f4b0a8c3e2d7b5a4f6e10"


def line(days: int, name: str = "build-07", number: int = 17, owner: str | None = None) -> Line:
    expiry = DAY + timedelta(days=days)
    return Line(number, name, "192.0.2.17", "Production", owner, expiry, days)


def parcel(*lines: Line, more: int = 0, uid: str = UID) -> Parcel:
    """A digest of these lines; `more` VMs of their last line's group are only counted."""
    counts = Counter(group_of(one.days) for one in lines)
    counts[group_of(lines[-1].days)] += more
    return Parcel(uid, None, Digest(DAY, lines, counts), BASE_URL)


def trial() -> Parcel:
    return Parcel(UID, None, Trial(DAY, ""), BASE_URL)


SMUGGLED = st.sampled_from(
    [
        "<!channel>",
        "<!here|x>",
        "@here",
        "@Everyone",
        "<@U024BE7LH>",
        "<#C123|x>",
        "<!subteam^S1>",
        "<https://evil.example|login>",
        "[login](https://evil.example)",
        "![x](https://evil.example/x.png)",
        "<at>Ada</at>",
        "&lt;at&gt;Ada&lt;/at&gt;",
        "{{DATE(2026-11-22T06:00:00Z, SHORT)}}",
        "{{{x",
        "${title}",
        "**bold**",
        "*bold*",
        "_it_",
        "~no~",
        "```",
        "`code`",
        "db_prod_01",
        "a|b",
        "\n- item",
        "\r\n# head",
        "> quote",
        "\u202eexe",
        "\u2028",
        "\x00\x1b[31m",
        "&amp;",
        "R&D",
        "स्‍त",
        "🖥",
    ]
)

NAMES = st.lists(SMUGGLED | st.text(max_size=12), min_size=1, max_size=6).map("".join)

LINES = st.builds(
    line,
    st.integers(-28, 365),
    NAMES | st.just("&" * 255) | st.just("🖥" * 255),
    st.integers(1, 2**31),
    st.none() | NAMES | st.just("<" * 255),
)


def _in_order(lines: list[Line]) -> list[Line]:
    return sorted(lines, key=lambda one: (one.days < 0, one.expiry_date))


PARCELS = st.builds(
    lambda lines, copies, more: parcel(*_in_order(lines * copies)[:200], more=more),
    st.lists(LINES, min_size=1, max_size=12),
    st.integers(1, 20),
    st.integers(0, 5_000),
)
