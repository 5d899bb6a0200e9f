"""Its accounts on VMs: their names and notes, how old the passwords are, and who looked at them.

No password stands here: the demonstration makes its own at every start.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

from vmtrak.sample.inventory import RETIRED, Row

TAKEN_IN = 430
"""Days ago when the inventory was entered; no account is older."""

MARKED = 6
"""Days ago when the passwords that a vendor had known were marked for rotation."""

BY_SITE = {"PUN": "prakash.deshpande", "gdn": "lukasz.kowalczyk"}
"""Who looks after a site's machines, by the beginning of their names; else the administrator."""

ADMINISTRATOR = "annelies.devries"
ANALYST = "femke.bakker"


class Account(NamedTuple):
    """`set_days_ago` tells of each of its passwords when it was set, the present one last."""

    vm_name: str
    username: str
    account_type: str
    notes: str | None
    set_days_ago: tuple[int, ...]
    set_by: str


class Look(NamedTuple):
    """Somebody reveals a password; all of a look's accounts at once."""

    days_ago: int
    username: str
    accounts: tuple[Account, ...]
    reason: str | None


# The primary account by operating system, most usual first.
PRIMARIES = {
    "Windows": ("Administrator", "Administrator", r".\hlr-admin"),
    "Linux": ("root", "root", "sysadm"),
    "Other": ("root",),
}
CONTROLLER = r"HARBOURLINE\Administrator"

# Further accounts by application, with what is noted about each of them.
OTHERS: dict[str, tuple[tuple[str, str | None], ...]] = {
    "SAP S/4HANA": (("hlpadm", "Owner of the SAP processes. Stop with sapcontrol first."),),
    "Oracle 19c": (
        ("oracle", "Home and wallet of the database."),
        ("grid", None),
    ),
    "SQL Server": (
        (r"HARBOURLINE\svc_sqlagent", "Runs the jobs. Change it on all replicas, then restart."),
        ("sa", "Disabled. Break glass, see runbook RB-014."),
    ),
    "Data warehouse": (("sa", "Break glass, see runbook RB-014."),),
    "PostgreSQL": (("postgres", "Peer sign-in only; this one is for the console."),),
    "Warehouse management": (("wms", "Also in the deployment pipeline, tell WMS support first."),),
    "EDI": (("svc_edi", "The carriers' AS2 partners know the name, not the account."),),
    "Customs gateway": (("svc_customs", "Two people for a change, see runbook RB-031."),),
    "Backup": (("svc_backup", "Used by the nightly job; tell the backup team before a change."),),
    "Build runner": (("gitlab-runner", None),),
    "GitLab": (("git", None), ("root@web", "Break glass, see runbook RB-007.")),
    "Citrix": ((r"HARBOURLINE\svc_ctx", None),),
    "Payroll": (("vendor", "Locked between visits of the vendor. Ask HR systems."),),
    "Active Directory": (("DSRM", "Directory restore mode. Break glass, see runbook RB-002."),),
}
NOTES = (
    "Break glass, see runbook RB-001.",
    "Console only; SSH for it is off.",
    "Changed by hand after each visit of the vendor.",
    "Not in the directory: works when the domain does not.",
    "Two people for a change, see runbook RB-031.",
)

# When an account's passwords were set, in days ago, and how many of a hundred accounts that is
# so with. Most were entered within half a year, site by site.
HISTORIES: dict[tuple[int, ...], int] = {
    (168,): 20,
    (154,): 16,
    (120,): 16,
    (93,): 14,
    (75,): 12,
    (402,): 4,
    (364,): 3,
    (247,): 3,
    (402, 150): 3,
    (364, 41): 3,
    (247, 5): 2,
    (402, 211, 90): 2,
    (364, 211, 12): 2,
}

REASONS = (
    "CHG-{}, patch window",
    "CHG-{}",
    "INC-{}, does not answer over SSH",
    "INC-{}, disk full",
    "restore test with the backup team",
    None,
)


def accounts(rows: list[Row], seed: int = 2026) -> list[Account]:
    """Return the accounts on most of these VMs; a VM's primary account comes first."""
    rng = random.Random(seed + 2)  # noqa: S311 - a sample, nothing here is secret
    return [
        account for row in rows if rng.randrange(100) < _share(row) for account in _of(row, rng)
    ]


def looks(known: list[Account], seed: int = 2026) -> list[Look]:
    """Return who looked at what in the last eight weeks, in order of time."""
    rng = random.Random(seed + 3)  # noqa: S311 - a sample, nothing here is secret
    days = sorted((rng.randint(1, 56) for _ in range(60)), reverse=True)
    return [look for days_ago in days if (look := _look(days_ago, known, rng))]


def last_look(known: list[Account], most: int) -> Look:
    """Return the look of one who wants to see more accounts than the `most` of an hour."""
    wanted = [one for one in known if one.set_days_ago[-1] > 1 and one.account_type == "others"]
    return Look(1, ANALYST, tuple(wanted[: most + 1]), "moving the service accounts")


def marked(known: list[Account]) -> list[Account]:
    """Return accounts whose passwords were marked for rotation, by reason of a vendor's leaving."""
    return [one for one in known if one.username in {"vendor", "svc_customs"}]


def _share(row: Row) -> int:
    """Of a hundred such VMs so many have accounts here."""
    if row["status"] == "decommissioned":
        return 100 if row["vm_name"] in RETIRED else 0
    return 95 if row["environment"] == "production" else 80


def _of(row: Row, rng: random.Random) -> Iterator[Account]:
    name, application = str(row["vm_name"]), str(row["application"])
    by = BY_SITE.get(name[:3], ADMINISTRATOR)
    usual = PRIMARIES[str(row["os_type"])]
    primary = CONTROLLER if application == "Active Directory" else rng.choice(usual)
    notes = rng.choice((*NOTES, *[None] * 28))
    yield Account(name, primary, "primary", notes, _history(rng), by)
    if row["environment"] == "production":
        for username, about in OTHERS.get(application, ()):
            yield Account(name, username, "others", about, _history(rng), by)


def _history(rng: random.Random) -> tuple[int, ...]:
    return rng.choices(list(HISTORIES), list(HISTORIES.values()))[0]


def _look(days_ago: int, known: list[Account], rng: random.Random) -> Look | None:
    """At a few accounts of one VM that had a password by then."""
    one = rng.choice(known)
    who = one.set_by if rng.randrange(3) else rng.choice((ADMINISTRATOR, ANALYST))
    here = [a for a in known if a.vm_name == one.vm_name and a.set_days_ago[0] > days_ago]
    reason = rng.choice(REASONS)
    number = rng.randrange(2100, 6900)
    return Look(days_ago, who, tuple(here), reason and reason.format(number)) if here else None
