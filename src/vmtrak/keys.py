"""The keys that seal: which are in use, whether the ring holds them, and sealing anew."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from vmtrak.db import Base, Moment, SealedText
from vmtrak.sealing import Sealed


class SealingKey(Base):
    """A key that has sealed here.

    `sealed` is a known text under it, which tells it from another key of the same id.
    """

    __tablename__ = "sealing_keys"

    key_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    sealed: Mapped[Sealed] = mapped_column(SealedText(4096))
    created_at: Mapped[datetime] = mapped_column(Moment)
