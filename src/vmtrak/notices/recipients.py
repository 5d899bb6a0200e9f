"""Who is told of which VMs: subscribers of what they see, owners of what is theirs."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import NamedTuple

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from vmtrak.access import SYSTEM, Actor, Permission
from vmtrak.accounts import User, actors
from vmtrak.channels import Channel
from vmtrak.fields import LAST, fold
from vmtrak.inventory import VM, Status, visible
from vmtrak.notices.rules import Rules

_AT_ONCE = 500
"""Names in one IN list."""


class Due(NamedTuple):
    """A VM that may be told of on a day. `stage` is what is to be told of it."""

    vm_id: int
    expiry_date: date
    stage: str
    owner_key: str


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
        keys = frozenset({key, _address_key(user.email)})
        return cls(key, Channel.MAIL, user.username, user.id, user.email, keys)

    @classmethod
    def outsider(cls, address: str) -> "Recipient":
        key = _address_key(address)
        return cls(key, Channel.MAIL, address, address=address, keys=frozenset({key}))

    @classmethod
    def of_channel(cls, channel: Channel) -> "Recipient":
        key = f"channel:{channel}"
        return cls(key, channel, channel.value, keys=frozenset({key}))


def _address_key(address: str) -> str:
    return f"address:{fold(address)}"


def due(session: Session, rules: Rules, day: date) -> list[Due]:
    """The active VMs that the day's notices are about, by date and name."""
    first, last = rules.schedule.window(day)
    found = session.execute(
        select(VM.id, VM.expiry_key, VM.owner_key)
        .where(VM.deleted_at.is_(None), VM.status == Status.ACTIVE)
        .where(VM.expiry_key.between(first, last))
        .order_by(VM.expiry_key, VM.name_key)
    )
    return [
        Due(vm_id, expiry, stage, owner)
        for vm_id, expiry, owner in found
        if (stage := rules.schedule.stage(expiry, day)) is not None
    ]


def told_of(
    session: Session, rules: Rules, day: date, found: list[Due]
) -> Iterator[tuple[Recipient, list[Due]]]:
    """Each recipient with the VMs among these that they are to know of, told or not."""
    for channel in rules.senders:
        if channel is not Channel.MAIL:
            yield Recipient.of_channel(channel), found
    chosen = select(User).where(User.is_active, User.notify_expiry).order_by(User.id)
    subscribers = session.scalars(chosen).all()
    for user in subscribers:
        yield Recipient.user(user), _seen(session, rules, day, found, user)
    yield from _owners(session, rules, found, {user.id for user in subscribers})


def _owners(
    session: Session, rules: Rules, found: list[Due], subscribed: Collection[int]
) -> Iterator[tuple[Recipient, list[Due]]]:
    """Those who own some of the VMs and are not told of them as subscribers anyway."""
    owned: dict[str, list[Due]] = defaultdict(list)
    for one in found:
        if one.owner_key != LAST:
            owned[one.owner_key].append(one)
    users = _users_among(session, owned)
    theirs: dict[Recipient, list[Due]] = defaultdict(list)
    for key, vms in sorted(owned.items()):
        user = users.get(key)
        if user is not None:
            if user.is_active and user.id not in subscribed:
                theirs[Recipient.user(user)] += vms
        elif (address := owner_address(key, rules.domains)) is not None:
            theirs[Recipient.outsider(address)] += vms
    for recipient, vms in theirs.items():
        yield recipient, sorted(vms, key=lambda one: one.expiry_date)


def owner_address(owner: str, domains: Collection[str] = ()) -> str | None:
    """The e-mail address that an owner's name is, all of it; None if it is none.

    One bare address of letters that every mail server takes: no display name, no list, no quoted
    part, no route, no line break, and nothing that a header or the SMTP dialogue could read as
    more than one address. `domains` limits it to these.
    """
    try:
        found = validate_email(
            owner, check_deliverability=False, test_environment=True, allow_smtputf8=False
        )
    except EmailNotValidError:
        return None
    address = found.ascii_email
    if address is None:
        return None
    return address if not domains or found.ascii_domain.lower() in domains else None


def actor_of(user: User) -> Actor:
    """The user as an actor, by whom the program finds out what they see."""
    return actors.actor_of(user, SYSTEM)


def _users_among(session: Session, keys: Iterable[str]) -> Mapping[str, User]:
    """The users, closed accounts too, whom these owners name, by the name used."""
    users: dict[str, User] = {}
    for some in _batches(keys):
        chosen = select(User).where(or_(User.username_key.in_(some), User.email_key.in_(some)))
        for user in session.scalars(chosen):
            users |= dict.fromkeys((user.username_key, user.email_key), user)
    return users


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(keys)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


def _seen(session: Session, rules: Rules, day: date, found: list[Due], user: User) -> list[Due]:
    """Those of the VMs that the user sees."""
    actor = actor_of(user)
    if actor.may(Permission.VM_READ_ALL):
        return found
    first, last = rules.schedule.window(day)
    chosen = visible(actor).with_only_columns(VM.id)
    seen = set(session.scalars(chosen.where(VM.expiry_key.between(first, last))))
    return [one for one in found if one.vm_id in seen]
