"""Extending a VM: its expiry date is put off, with a reason if there is one to tell."""

from datetime import date, timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from vmtrak.access import Permission
from vmtrak.db import Seen, Work
from vmtrak.errors import Conflict, Invalid
from vmtrak.fields import Day, Input, Text, as_number, wrong
from vmtrak.inventory.models import VM, Status
from vmtrak.inventory.vms import locked, saved

OFFERED = (30, 90, 180)
"""The numbers of days that people choose from; scripts may have a rhythm of their own."""

MOST_DAYS = 730
"""Two years: more is a slip of the keyboard, and where it is meant a date says so."""

YEARS = 5
"""A VM that is to stay for longer than that has no date, rather than one nobody will remember."""


class Extension(Input):
    """Either `days` more or `until` a date.

    The reason is optional: were it required, people in a hurry would type a full stop, and who
    extended what and when stands in the trail anyway. `expected` is the expiry date that was
    seen, null for none; if it is sent and no longer true, nothing is extended.
    """

    days: Annotated[int | None, Field(gt=0, le=MOST_DAYS), BeforeValidator(as_number)] = None
    until: Annotated[Day, Field(validate_default=True)] = None
    reason: Annotated[str | None, Text(256), Field(description="kept in the audit trail")] = None
    expected: Annotated[Day, Field(description="the expiry date that was seen")] = None

    @field_validator("until")
    @classmethod
    def _one_of_the_two(cls, until: date | None, info: ValidationInfo) -> date | None:
        if "days" not in info.data:  # it is wrong itself
            return until
        if (until is None) == (info.data["days"] is None):
            raise wrong("is required, or a number of days" if until is None else _BOTH)
        return until


_BOTH = "must not be given along with a number of days"


def extend(work: Work, vm_id: int, extension: Extension, today: date, seen: Seen = None) -> VM:
    """Put off the expiry date of a VM. To put it off to the date that it has changes nothing.

    Raises `Conflict` for a VM that is decommissioned, and if its expiry date is not the expected
    one, so that a button that was pressed twice extends once; `Stale` as in `change`.
    """
    work.actor.require(Permission.VM_WRITE)
    vm = locked(work, vm_id, seen)
    if vm.status == Status.DECOMMISSIONED:
        raise Conflict(_RETIRED)
    if "expected" in extension.model_fields_set and vm.expiry_date != extension.expected:
        raise Conflict(_overtaken(vm.expiry_date), field="expected")
    end = _end(vm.expiry_date, extension, today)
    return saved(work, vm, {"expiry_date": end}, extension.reason)


_RETIRED = "This VM is decommissioned. Give it another status before you extend it."


def _overtaken(present: date | None) -> str:
    now = f"The VM expires on {present}" if present else "The VM has no expiry date"
    return f"{now} now: that was changed in the meantime. Nothing was extended."


def _end(present: date | None, extension: Extension, today: date) -> date:
    if extension.days is not None:
        return later(present, extension.days, today)
    until = extension.until or today
    if until <= today:
        raise Invalid({"until": [f"must be after today, {today}"]})
    if until > furthest(today):
        raise Invalid({"until": [f"must be at most {furthest(today)}, {YEARS} years ahead"]})
    if present and until < present:
        why = f"must not be before {present}; edit the VM to let it expire earlier"
        raise Invalid({"until": [why]})
    return until


def later(present: date | None, days: int, today: date) -> date:
    """The date so many days after the present one, or after today if that is past or missing.

    Raises `Invalid` for a date too far ahead.
    """
    start = max(present or today, today)
    if days > (furthest(today) - start).days:
        raise Invalid({"days": [f"would go beyond {furthest(today)}, {YEARS} years ahead"]})
    return start + timedelta(days=days)


def furthest(today: date) -> date:
    """The last date to which a VM may be extended."""
    leap_day = (today.month, today.day) == (2, 29)
    return today.replace(year=today.year + YEARS, day=28 if leap_day else today.day)
