"""Whether the key ring fits what is sealed here, and the words for what is wrong with it."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TypeAlias

from sqlalchemy import String, bindparam, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from vmtrak.db import Base, Moment, SealedText, Work
from vmtrak.keys.stores import STORES, Use, in_use
from vmtrak.sealing import KeyRing, Place, Sealed, SealingError

KNOWN_TEXT = "sealed with this key"

_Untold: TypeAlias = Mapping[str, Sealed | None]
"""The ids of which no known text tells that the key is right, each with the one that does not open.

That was sealed with another key, or is damaged; no other text than this is ever written over.
"""

_NOTE = text(
    "INSERT INTO sealing_keys (key_id, sealed, created_at) VALUES (:key_id, :sealed, :created_at)"
    " ON CONFLICT (key_id) DO UPDATE SET sealed = excluded.sealed"
    " WHERE sealing_keys.sealed = :damaged"
).bindparams(
    bindparam("sealed", type_=SealedText()),
    bindparam("damaged", type_=SealedText()),
    bindparam("created_at", type_=Moment()),
)


class RingError(Exception):
    """The key ring does not fit what is sealed here.

    `str(error)` goes on from a name of the ring: what is wrong with it, and what to do.
    """


class SealingKey(Base):
    """A key that has been in the ring here.

    `sealed` is a known text under it, which tells it from another key of the same id.
    """

    __tablename__ = "sealing_keys"

    key_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    sealed: Mapped[Sealed] = mapped_column(SealedText(4096))
    created_at: Mapped[datetime] = mapped_column(Moment)


def check(work: Work, ring: KeyRing) -> None:
    """Note the ring's keys that are new. Raises `RingError` unless it holds all that are in use."""
    untold = _untold(work.session, ring)
    _refuse_unfit(work.session, ring, untold)
    if untold:
        _note(work, ring, untold)
        # Another process may have noted another key of the same id in the same moment.
        _refuse_unfit(work.session, ring, _untold(work.session, ring))


def refuse_loss(session: Session) -> None:
    """For a start that has no ring: raise `RingError` if anything is sealed."""
    if lost := lacking(in_use(session), ()):
        raise RingError(lost)


def faults(session: Session, ring: KeyRing) -> list[str]:
    """What is wrong with the ring, in words that go on from its name."""
    return _faults(session, ring, _untold(session, ring))


def lacking(used: Mapping[str, Use], ids: Sequence[str]) -> str | None:
    """What is to be said of keys that seal something and are not among these."""
    lost = [f"{key_id!r}, which still seals {used[key_id]}" for key_id in used.keys() - {*ids}]
    if not lost:
        return None
    one = len(lost) == 1
    keys, them, they = ("the key", "it", "it seals") if one else ("the keys", "them", "they seal")
    listed = "; ".join(sorted(lost))
    last = " ".join(f"--give-up {key_id}" for key_id in sorted(used.keys() - {*ids}))
    return (
        f"lacks {keys} {listed}; put {them} back, run vmtrak rekey, then leave {them} out; "
        f"as the last resort, vmtrak rekey {last} destroys what {they}"
    )


def _refuse_unfit(session: Session, ring: KeyRing, untold: _Untold) -> None:
    if found := _faults(session, ring, untold):
        raise RingError("; it ".join(found))


def _faults(session: Session, ring: KeyRing, untold: _Untold) -> list[str]:
    used = in_use(session)
    wrong = [key_id for key_id in untold if not _fits(session, ring, key_id, untold[key_id])]
    found = [lacking(used, ring.ids), *(_of_wrong(key_id, used) for key_id in wrong)]
    return [words for words in found if words]


def _of_wrong(key_id: str, used: Mapping[str, Use]) -> str:
    does = f"seals {used[key_id]}" if key_id in used else "was there before"
    remedy = "put that one back, or give the new key an id of its own"
    return f"holds another key {key_id!r} than the one that {does}; {remedy}"


def _untold(session: Session, ring: KeyRing) -> _Untold:
    chosen = select(SealingKey.key_id, SealingKey.sealed).where(SealingKey.key_id.in_(ring.ids))
    noted = dict(session.execute(chosen).all())
    told = {key_id for key_id, sealed in noted.items() if _opens(ring, sealed, _place(key_id))}
    return {key_id: noted.get(key_id) for key_id in ring.ids if key_id not in told}


def _fits(session: Session, ring: KeyRing, key_id: str, noted: Sealed | None) -> bool:
    """Whether the key opens anything of what it sealed, of which some may be damaged."""
    samples = [sample for store in STORES for sample in store.samples(session, key_id)]
    if not samples:
        return noted is None
    return any(_opens(ring, sealed, place) for sealed, place in samples)


def _opens(ring: KeyRing, sealed: Sealed, place: Place) -> bool:
    with suppress(SealingError):
        ring.open(sealed, place)
        return True
    return False


def _place(key_id: str) -> Place:
    return Place(SealingKey.__tablename__, "sealed", key_id)


def _note(work: Work, ring: KeyRing, untold: _Untold) -> None:
    """In the order of the ids, so that two processes never wait for each other."""
    for key_id in sorted(untold):
        sealed = ring.seal_with(key_id, KNOWN_TEXT, _place(key_id))
        values = {"key_id": key_id, "sealed": sealed, "created_at": work.moment}
        work.session.execute(_NOTE, {**values, "damaged": untold[key_id]})


def standing(session: Session, ring: KeyRing) -> list[tuple[bool, str]]:
    """What each key of the ring seals: whether that is well, and the words for it."""
    used, (first, *others) = in_use(session), ring.ids
    return [
        (True, f"{first} seals {used.get(first, Use())}"),
        *((key_id not in used, _of_former(key_id, used)) for key_id in others),
    ]


def _of_former(key_id: str, used: Mapping[str, Use]) -> str:
    if key_id in used:
        return f"{key_id} still seals {used[key_id]}; run vmtrak rekey"
    return f"{key_id} seals nothing and may be left out; older backups may need it"
