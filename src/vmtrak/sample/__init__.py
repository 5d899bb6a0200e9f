"""The sample inventory of `vmtrak demo`: Harbourline, a logistics company that does not exist."""

from vmtrak.sample.accounts import (
    ADMINISTRATOR,
    MARKED,
    TAKEN_IN,
    Account,
    Look,
    accounts,
    last_look,
    looks,
    marked,
)
from vmtrak.sample.inventory import Row, edits, hypervisors, people, retired, vms

__all__ = [
    "ADMINISTRATOR",
    "MARKED",
    "TAKEN_IN",
    "Account",
    "Look",
    "Row",
    "accounts",
    "edits",
    "hypervisors",
    "last_look",
    "looks",
    "marked",
    "people",
    "retired",
    "vms",
]
