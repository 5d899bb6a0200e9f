"""What stands in a person's calendar: the expiry dates of VMs that they see."""

from datetime import date, timedelta

from sqlalchemy.orm import Session

from vmtrak.access import Actor
from vmtrak.channels.calendars import Calendar, Expiry
from vmtrak.fields import fold
from vmtrak.inventory import VM, Status, visible

BEFORE, AHEAD = timedelta(days=28), timedelta(days=731)
"""For how long what is past stays, and how far the calendar looks ahead: two years."""

MOST = 2_000
"""VMs in a calendar. Where there are more, one more event says so, on the day of the next one."""

_COLUMNS = (
    VM.id,
    VM.vm_name,
    VM.ip_address,
    VM.environment,
    VM.owner,
    VM.department,
    VM.expiry_key,
    VM.updated_at,
    VM.revision,
)


def of(session: Session, actor: Actor, base_url: str, today: date, *, owned_only: bool) -> Calendar:
    """The actor's calendar."""
    found = events(session, actor, today, owned_only=owned_only)
    name = "Expiry dates of my VMs" if owned_only else "VM expiry dates"
    rest_from = found[MOST].expiry_date if len(found) > MOST else None
    return Calendar(name, base_url, tuple(found[:MOST]), rest_from)


def events(session: Session, actor: Actor, today: date, *, owned_only: bool) -> list[Expiry]:
    """The active VMs that the actor sees, or owns, and that expire in these years, soonest first.

    There is one more than `MOST` of them if there are more.
    """
    chosen = visible(actor).with_only_columns(*_COLUMNS)
    # Said this way SQLite has no index for it; it would walk every active VM.
    chosen = chosen.where(VM.status.not_in([one for one in Status if one != Status.ACTIVE]))
    chosen = chosen.where(VM.expiry_key.between(today - BEFORE, today + AHEAD))
    if owned_only:
        names = {fold(name) for name in (actor.username, actor.email) if name}
        chosen = chosen.where(VM.owner_key.in_(names))
    rows = session.execute(chosen.order_by(VM.expiry_key, VM.id).limit(MOST + 1))
    return [Expiry(*row) for row in rows]
