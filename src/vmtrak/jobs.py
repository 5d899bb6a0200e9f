"""When each of the program's own jobs was done last: any number of workers do it once."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import String, bindparam, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from vmtrak.db import Base, Moment, Work

_NEVER = datetime.fromtimestamp(0, UTC)
_INSERT = text(
    "INSERT INTO job_runs (name, done_at) VALUES (:name, :never) ON CONFLICT DO NOTHING"
).bindparams(bindparam("never", type_=Moment()))


class JobRun(Base):
    """The row is the claim: whoever holds its lock does the job, in the same transaction."""

    __tablename__ = "job_runs"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    done_at: Mapped[datetime] = mapped_column(Moment)


def is_due(session: Session, name: str, every: timedelta, moment: datetime) -> bool:
    """Whether the job is to be done again, for a look that costs no lock."""
    done_at = session.scalar(select(JobRun.done_at).where(JobRun.name == name))
    return done_at is None or _passed(done_at, every, moment)


def claim(work: Work, name: str, every: timedelta) -> JobRun | None:
    """The job's row, locked until the end of this unit of work; None if there is nothing to do.

    That is so when it was done within `every`, or another worker is doing it now. A unit of work
    that fails or is killed gives the claim back untouched.
    """
    work.session.execute(_INSERT, {"name": name, "never": _NEVER})
    run = work.session.get(JobRun, name, with_for_update={"skip_locked": True})
    return run if run is not None and _passed(run.done_at, every, work.moment) else None


def _passed(done_at: datetime, every: timedelta, moment: datetime) -> bool:
    """Far in the future counts as well: a clock that was wrong must not stop a job for years."""
    return abs(moment - done_at) >= every
