"""The tables of expiry notices: runs, the outbox's messages, and who was told of what."""

from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import Date, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from vmtrak.accounts import User
from vmtrak.db import Base, Identifier, Moment
from vmtrak.inventory import VM


class Trigger(StrEnum):
    """What started a run: the clock, somebody over the panel or REST, or `vmtrak notify`."""

    SCHEDULE = "schedule"
    PERSON = "person"
    COMMAND = "command"


class Kind(StrEnum):
    """What a message is: the digest of one day, or a test."""

    EXPIRY = "expiry"
    TEST = "test"


class State(StrEnum):
    """Where a message stands.

    Waiting ones are sent, or tried again, when their time comes. Kept ones were planned while
    mail was off. Dropped ones had nothing to tell any more when their turn came.
    """

    WAITING = "waiting"
    SENT = "sent"
    FAILED = "failed"
    KEPT = "kept"
    DROPPED = "dropped"


class NoticeRun(Base):
    """One planning of a day's notices. `scheduled_for` is set on the daily run, one for a day."""

    __tablename__ = "notice_runs"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    day: Mapped[date] = mapped_column(Date)
    scheduled_for: Mapped[date | None] = mapped_column(Date, unique=True)
    trigger: Mapped[str] = mapped_column(String(16))
    started_by: Mapped[str] = mapped_column(String(256))
    started_at: Mapped[datetime] = mapped_column(Moment)
    finished_at: Mapped[datetime | None] = mapped_column(Moment)
    vms: Mapped[int] = mapped_column(default=0)
    messages: Mapped[int] = mapped_column(default=0)

    __table_args__ = ({"sqlite_autoincrement": True},)


class Message(Base):
    """A message of the outbox. What a digest tells stands in its rows of `notification_log`.

    `recipient` names who gets it, whatever their address is by now: `user:7`,
    `address:ada@vmtrak.example`, `channel:slack`. `uid` makes the Message-ID, the same at each
    attempt. `digest_key` lets a recipient have one digest a day. `lease` is the attempt that is
    being made; others leave the message alone until `leased_until`. `answer` is what the server,
    or whatever stood in the way, said last.
    """

    __tablename__ = "messages"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    uid: Mapped[str] = mapped_column(String(32), unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    channel: Mapped[str] = mapped_column(String(16))
    recipient: Mapped[str] = mapped_column(String(400))
    user_id: Mapped[int | None] = mapped_column(ForeignKey(User.id), index=True)
    address: Mapped[str | None] = mapped_column(String(320))
    day: Mapped[date] = mapped_column(Date)
    digest_key: Mapped[str | None] = mapped_column(String(440), unique=True)
    run_id: Mapped[int | None] = mapped_column(ForeignKey(NoticeRun.id), index=True)
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(Moment)
    next_attempt_at: Mapped[datetime] = mapped_column(Moment)
    give_up_at: Mapped[datetime] = mapped_column(Moment)
    leased_until: Mapped[datetime | None] = mapped_column(Moment)
    lease: Mapped[str | None] = mapped_column(String(32))
    ended_at: Mapped[datetime | None] = mapped_column(Moment)
    sent_to: Mapped[str | None] = mapped_column(String(320))
    subject: Mapped[str | None] = mapped_column(String(256))
    vms: Mapped[int] = mapped_column(default=0)
    answer: Mapped[str | None] = mapped_column(String(1024))

    __table_args__ = (
        Index(None, "state", "next_attempt_at"),
        Index(None, "state", "id"),
        {"sqlite_autoincrement": True},
    )


class NotificationLog(Base):
    """A recipient has been, or is to be, told of a VM's expiry. The constraint forbids a second.

    `notice_type` is the stage: `7d`, `1d`, `0d`, or `overdue-1w` to `overdue-4w`.
    """

    __tablename__ = "notification_log"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    vm_id: Mapped[int] = mapped_column(ForeignKey(VM.id, ondelete="CASCADE"), index=True)
    notice_type: Mapped[str] = mapped_column(String(16))
    expiry_date: Mapped[date] = mapped_column(Date, index=True)
    recipient: Mapped[str] = mapped_column(String(400))
    message_id: Mapped[int] = mapped_column(ForeignKey(Message.id, ondelete="CASCADE"), index=True)

    __table_args__ = (
        UniqueConstraint(
            "recipient",
            "expiry_date",
            "vm_id",
            "notice_type",
            name="uq_notification_log_recipient_expiry_date_vm_id_notice_type",
        ),
        {"sqlite_autoincrement": True},
    )
