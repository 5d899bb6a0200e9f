"""Who is told of which VMs: subscribers of what they see, owners of what is theirs."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import NamedTuple, TypeAlias

from email_validator import EmailNotValidError, ValidatedEmail, validate_email
from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from vmtrak.access import SYSTEM, Permission
from vmtrak.accounts import User, actors
from vmtrak.channels import Channel
from vmtrak.fields import LONGEST_EMAIL, fold
from vmtrak.inventory import VM, Status
from vmtrak.inventory.lists import seen_by
from vmtrak.notices.rules import Rules

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+'=&/-]*@", re.ASCII)
"""What may stand before the @ of an owner. RFC 5321 allows more, in which some mail servers have
seen a program to run, a file, an option or a route."""

_AT_ONCE = 500
"""Names in one IN list."""


class Due(NamedTuple):
    """A VM that may be told of on a day. `stage` is what is to be told of it."""

    vm_id: int
    expiry_date: date
    stage: str
    owner: str | None


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody who is told, over one channel.

    `key` names them for good, `keys` also by what they were known before they had an account.
    """

    key: str
    channel: Channel
    name: str
    user_id: int | None = None
    address: str | None = None
    keys: frozenset[str] = frozenset()

    @classmethod
    def user(cls, user: User) -> "Recipient":
        key = f"user:{user.id}"
        keys = frozenset({key, address_key(user.email)})
        return cls(key, Channel.MAIL, user.username, user.id, user.email, keys)

    @classmethod
    def outsider(cls, address: str) -> "Recipient":
        key = address_key(address)
        return cls(key, Channel.MAIL, address, address=address, keys=frozenset({key}))

    @classmethod
    def of_channel(cls, channel: Channel) -> "Recipient":
        key = f"channel:{channel}"
        return cls(key, channel, channel.value, keys=frozenset({key}))


Pick: TypeAlias = Callable[[Session], list[Due]]
"""Finds out which of the VMs that are due a recipient is to know of, told or not."""

Account: TypeAlias = tuple[bool, Recipient]
"""Whether the account is open, and whose it is."""


def address_key(address: str) -> str:
    return f"address:{fold(address)}"


def due(session: Session, rules: Rules, day: date) -> list[Due]:
    """The active VMs that the day's notices are about, by date and name."""
    first, last = rules.schedule.window(day)
    # No condition on the status: SQLite would walk its index, and with it every active VM.
    found = session.execute(
        select(VM.id, VM.expiry_key, VM.status, VM.owner)
        .where(VM.deleted_at.is_(None), VM.expiry_key.between(first, last))
        .order_by(VM.expiry_key, VM.name_key)
    )
    # Many rows share few dates and owners: each is kept once.
    stages: dict[date, tuple[date, str | None]] = {}
    owners: dict[str | None, str | None] = {}
    vms = []
    for vm_id, expiry, status, owner in found:
        if expiry not in stages:
            stages[expiry] = expiry, rules.schedule.stage(expiry, day)
        same_day, stage = stages[expiry]
        if status == Status.ACTIVE and stage is not None:
            vms.append(Due(vm_id, same_day, stage, owners.setdefault(owner, owner)))
    return vms


def audience(
    session: Session, rules: Rules, day: date, found: list[Due]
) -> list[tuple[Recipient, Pick]]:
    """Each recipient, and how to find which of these VMs they are to know of."""
    told: list[tuple[Recipient, Pick]] = [
        (Recipient.of_channel(channel), _these(found))
        for channel in rules.senders
        if channel is not Channel.MAIL
    ]
    chosen = select(User).where(User.is_active, User.notify_expiry).order_by(User.id)
    subscribers = session.scalars(chosen).all()
    told += [(Recipient.user(user), _seen(rules, day, found, user)) for user in subscribers]
    owners = _owners(session, rules, found, {user.id for user in subscribers})
    return told + [(recipient, _these(vms)) for recipient, vms in owners]


def _these(vms: list[Due]) -> Pick:
    return lambda _: vms


def _owners(
    session: Session, rules: Rules, found: list[Due], subscribed: Collection[int]
) -> Iterator[tuple[Recipient, list[Due]]]:
    """Those who own some of the VMs and are not told of them as subscribers anyway."""
    owned: dict[str, list[Due]] = defaultdict(list)
    for one in found:
        if one.owner is not None:
            owned[one.owner].append(one)
    accounts = _accounts(session, (name for owner in owned for name in names(owner)))
    recipients: dict[str, Recipient] = {}
    theirs: dict[str, list[Due]] = defaultdict(list)
    for owner, vms in owned.items():
        for recipient in _of_owner(owner, accounts, rules.domains):
            if recipient.user_id not in subscribed:
                recipients.setdefault(recipient.key, recipient)
                theirs[recipient.key] += vms
    for key, vms in sorted(theirs.items()):
        yield recipients[key], sorted(vms, key=lambda one: one.expiry_date)


def _of_owner(
    owner: str, accounts: Mapping[str, list[Account]], domains: Collection[str]
) -> list[Recipient]:
    """Whom an owner's name means: users, else an address; nobody if the account is closed."""
    users = {account for name in names(owner) for account in accounts.get(name, [])}
    if users:
        return [recipient for is_open, recipient in users if is_open]
    address = owner_address(owner, domains)
    if address is None or not _is_free(address, accounts):
        return []
    return [Recipient.outsider(address)]


def reached(session: Session, rules: Rules, owner: str) -> bool:
    """Whether somebody is told of a VM as its owner, if that is the owner's name."""
    return bool(_of_owner(owner, _accounts(session, names(owner)), rules.domains))


def may_be_told(session: Session, address: str) -> bool:
    """Whether the address is no account's, or that of one which is open."""
    return _is_free(address, _accounts(session, names(address)))


def _is_free(address: str, accounts: Mapping[str, list[Account]]) -> bool:
    named = {account for name in names(address) for account in accounts.get(name, [])}
    theirs = {address_key(name) for name in names(address)}
    return not named or any(is_open and theirs & whose.keys for is_open, whose in named)


def accounts_of(session: Session, address: str) -> list[Account]:
    """The accounts, closed ones too, that have this address or its name."""
    found = _accounts(session, names(address))
    return list({account for accounts in found.values() for account in accounts})


def names(owner: str) -> set[str]:
    """How a user may be called whom an owner's name means: as it is, and as accounts keep it."""
    found = _parsed(owner)
    return {fold(owner)} if found is None else {fold(owner), fold(found.normalized)}


def owner_address(owner: str, domains: Collection[str] = ()) -> str | None:
    """The e-mail address that an owner's name is, all of it; None if it is none.

    One bare address of letters that every mail server takes: no display name, no list, no quoted
    part, no route, no line break, and nothing that a header or the SMTP dialogue could read as
    more than one address. `domains` limits it to these. It takes the name as it was written:
    without regard to case, some letters become others, and the address somebody else's.
    """
    found = _parsed(owner)
    if found is None or found.ascii_email is None or not _PLAIN.match(found.ascii_email):
        return None
    return found.ascii_email if not domains or found.ascii_domain.lower() in domains else None


def _parsed(owner: str) -> ValidatedEmail | None:
    if "@" not in owner or len(owner) > LONGEST_EMAIL:
        return None
    try:
        return validate_email(
            owner, check_deliverability=False, test_environment=True, allow_smtputf8=False
        )
    except EmailNotValidError:
        return None


def is_address(address: str | None) -> bool:
    """Whether mail can go there. Accounts from elsewhere may have something else as theirs."""
    if address is None or len(address) > LONGEST_EMAIL:
        return False
    try:
        validate_email(address, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        return False
    return True


def sees_all(user: User) -> bool:
    return actors.actor_of(user, SYSTEM).may(Permission.VM_READ_ALL)


def sees(user: User) -> ColumnElement[bool]:
    """The condition under which the user sees a VM."""
    return seen_by(actors.actor_of(user, SYSTEM))


def _accounts(session: Session, names: Iterable[str]) -> Mapping[str, list[Account]]:
    """The users, closed accounts too, who have these names or addresses, by them."""
    accounts: dict[str, list[Account]] = defaultdict(list)
    for some in _batches(dict.fromkeys(names)):
        chosen = select(User).where(or_(User.username_key.in_(some), User.email_key.in_(some)))
        for user in session.scalars(chosen.order_by(User.id)):
            for key in {user.username_key, user.email_key}:
                accounts[key].append((user.is_active, Recipient.user(user)))
    return {key: list(dict.fromkeys(found)) for key, found in accounts.items()}


def _batches(names: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(names)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


def _seen(rules: Rules, day: date, found: list[Due], user: User) -> Pick:
    """Those of the VMs that the user sees."""
    if sees_all(user):
        return _these(found)
    first, last = rules.schedule.window(day)
    # What is seen is asked of the few that are due: OFFSET keeps both databases from starting
    # with everything that the person sees.
    window = (
        select(VM.id, sees(user).label("seen"))
        .where(VM.deleted_at.is_(None), VM.expiry_key.between(first, last))
        .offset(0)
        .subquery()
    )

    def seen(session: Session) -> list[Due]:
        numbers = set(session.scalars(select(window.c.id).where(window.c.seen)))
        return [one for one in found if one.vm_id in numbers]

    return seen
