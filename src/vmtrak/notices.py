"""Notices: what administrators are to know. A notice is a row of the same commit as its cause."""

from datetime import datetime

from sqlalchemy import String, insert, select
from sqlalchemy.orm import Mapped, mapped_column

from vmtrak.db import Base, Identifier, Moment, Work


class Notice(Base):
    """`key` says what the notice is about, so that nobody is told the same twice."""

    __tablename__ = "notices"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    key: Mapped[str] = mapped_column(String(128), unique=True)
    kind: Mapped[str] = mapped_column(String(32))
    text: Mapped[str] = mapped_column(String(512))
    address: Mapped[str | None] = mapped_column(String(256))
    created_at: Mapped[datetime] = mapped_column(Moment)
    read_at: Mapped[datetime | None] = mapped_column(Moment, index=True)
    read_by: Mapped[str | None] = mapped_column(String(256))

    __table_args__ = ({"sqlite_autoincrement": True},)


def post(work: Work, *, kind: str, key: str, text: str, address: str | None = None) -> None:
    """Tell the administrators, unless a notice with this key has done so.

    The caller holds a lock under which no other unit of work posts the same key.
    """
    if work.session.scalar(select(Notice.id).where(Notice.key == key)) is None:
        values = {"kind": kind, "key": key, "text": text, "address": address}
        work.session.execute(insert(Notice).values(**values, created_at=work.moment))
