"""When what is told: the stages before and after an expiry date, and the hour of the day."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

WEEK = 7
WEEKS = 4
"""Overdue VMs are told of once a week, for so many weeks."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """`days` are the thresholds, days before expiry; `at` is the hour of the notices in `zone`."""

    days: tuple[int, ...]
    at: time
    zone: ZoneInfo

    def today(self, moment: datetime) -> date:
        return moment.astimezone(self.zone).date()

    def instant(self, day: date) -> datetime:
        """When the notices of the day go out, in UTC.

        An hour that the clocks skip counts as if they had not yet been moved, one that they
        repeat counts the first time (PEP 495, fold=0). If they skip the end of the day, it counts
        as if they had been moved, so that the day has one.
        """
        moment = datetime.combine(day, self.at, self.zone).astimezone(UTC)
        if self.today(moment) == day:
            return moment
        return datetime.combine(day, self.at.replace(fold=1), self.zone).astimezone(UTC)

    def due(self, moment: datetime) -> date | None:
        """The day whose notices should be out at that moment, if its hour has come."""
        day = self.today(moment)
        return day if moment >= self.instant(day) else None

    def window(self, day: date) -> tuple[date, date]:
        """The first and the last expiry date that the day's notices can be about.

        The last day of the calendar is none of them: it stands for VMs that do not expire.
        """
        first = max(day.toordinal() - WEEKS * WEEK, date.min.toordinal())
        last = min(day.toordinal() + max(self.days), date.max.toordinal() - 1)
        return date.fromordinal(first), date.fromordinal(last)

    def stage(self, expiry: date, day: date) -> str | None:
        """What is to be told on that day of a VM with this expiry date; None: nothing.

        The stage is the nearest threshold that has been reached, so that after an outage what
        was missed is told once. Whether it has been told already, the log knows.
        """
        left = (expiry - day).days
        if left < -WEEKS * WEEK:
            return None
        if left <= -WEEK:
            return f"overdue-{-left // WEEK}w"
        reached = [threshold for threshold in self.days if threshold >= left]
        return f"{min(reached)}d" if reached else None
