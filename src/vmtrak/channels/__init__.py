"""Channels: what notices look like and how they get there. Formats and transports, nothing else."""

from vmtrak.channels.messages import (
    GROUPS,
    Channel,
    Content,
    Delayed,
    Digest,
    Group,
    Line,
    Parcel,
    Refused,
    Sender,
    Trial,
    Unreachable,
    group_of,
    phrase,
    subject,
)

__all__ = [
    "GROUPS",
    "Channel",
    "Content",
    "Delayed",
    "Digest",
    "Group",
    "Line",
    "Parcel",
    "Refused",
    "Sender",
    "Trial",
    "Unreachable",
    "group_of",
    "phrase",
    "subject",
]
