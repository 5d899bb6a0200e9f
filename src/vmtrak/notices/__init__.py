"""Expiry notices: who is told of which VM, once; and the outbox from which they are delivered."""

from vmtrak.notices import calendars, digests, lists, outbox, planning, recipients, trials
from vmtrak.notices.delivery import Delivery
from vmtrak.notices.models import (
    Kind,
    Message,
    NoticeRun,
    NotificationLog,
    State,
    Trigger,
)
from vmtrak.notices.rules import Rules
from vmtrak.notices.schedule import Schedule

__all__ = [
    "Delivery",
    "Kind",
    "Message",
    "NoticeRun",
    "NotificationLog",
    "Rules",
    "Schedule",
    "State",
    "Trigger",
    "calendars",
    "digests",
    "lists",
    "outbox",
    "planning",
    "recipients",
    "trials",
]
