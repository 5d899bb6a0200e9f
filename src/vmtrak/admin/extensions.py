"""Extending a VM from its page: the panel behind the button, and what it shows when refused."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from vmtrak import inventory
from vmtrak.admin.base import Field, Typed, filled
from vmtrak.admin.events import word
from vmtrak.errors import Conflict, Invalid
from vmtrak.inventory import Status

BLANK = Typed({})


def card(vm: Mapping[str, Any], today: date, typed: Typed = BLANK) -> dict[str, Any] | None:
    """What the page of a VM offers; None where nothing could be extended.

    With `typed`, what was refused, it stands open and says why.
    """
    present = date.fromisoformat(vm["expiry_date"]) if vm["expiry_date"] else None
    start, last = max(present or today, today), inventory.furthest(today)
    refused = typed is not BLANK
    if not refused and (vm["status"] == Status.DECOMMISSIONED or start >= last):
        return None
    [reason, until] = filled([("", _fields(start, last))], typed)[0]["fields"]
    days = [each for each in inventory.OFFERED if each <= (last - start).days]
    return {
        "action": f"/admin/vm/extend/{vm['id']}",
        "expected": vm["expiry_date"] or "",
        "choices": [{"days": each, "date": start + timedelta(days=each)} for each in days],
        "from_today": start == today and present != today,
        "reason": reason,
        "until": until,
        "errors": list(typed.top),
        "open": refused,
    }


def _fields(start: date, last: date) -> list[Field]:
    first = min(start, last - timedelta(days=1)) + timedelta(days=1)
    return [
        Field("reason", "Reason, kept in the history", maxlength=256, autocomplete="off"),
        Field("until", "Or until", "date", min=first.isoformat(), max=last.isoformat()),
    ]


def chosen(form: Mapping[str, str]) -> dict[str, str]:
    """What the button that was pressed says: that with a number of days means no date."""
    return {**form, "until": ""} if form.get("days") else dict(form)


def refused(form: Mapping[str, str], error: Invalid | Conflict) -> Typed:
    """What was typed, with what is wrong with it beside its field, or above where it has none."""
    errors = error.fields if isinstance(error, Invalid) else {}
    top = [f"{word(name)}: {', '.join(why)}" for name, why in errors.items() if name not in _TYPED]
    if not errors:
        top = [str(error)]
    return Typed(form, errors, tuple(top))


_TYPED = {"until", "reason"}
