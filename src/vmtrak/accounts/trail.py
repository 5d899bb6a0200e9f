"""The events that tell of an account."""

from collections.abc import Mapping
from typing import Any

from vmtrak import audit
from vmtrak.accounts.models import User
from vmtrak.audit import Action
from vmtrak.db import Work


def record(work: Work, action: Action, user: User, detail: Mapping[str, Any] | None = None) -> None:
    """Add the event to the unit of work; the user has been flushed and has a number."""
    audit.record(
        work,
        action,
        entity_type="user",
        entity=user,
        entity_id=user.id,
        entity_name=user.username,
        detail=detail,
    )
