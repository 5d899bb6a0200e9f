"""The keys that seal: which are in use, whether the ring holds them, and sealing anew."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import String, bindparam, delete, func, select, text, update
from sqlalchemy.orm import InstrumentedAttribute, Mapped, Session, mapped_column

from vmtrak import audit, credentials
from vmtrak.access import SYSTEM
from vmtrak.accounts import SecondFactor, second_factor
from vmtrak.audit import Action
from vmtrak.credentials import Credential, CredentialPassword
from vmtrak.credentials.models import place_of
from vmtrak.db import AnySelect, Base, Database, Moment, SealedText, Work
from vmtrak.sealing import Damaged, KeyRing, Place, Sealed, SealingError, UnknownKey

BATCH = 500
"""Rows of one unit of work. On SQLite they take some 15 ms, for which others wait to write; on
PostgreSQL some 40. With 200 of them a run takes twice as long, nearly all of it in pauses."""

PAUSE = 0.1
"""Seconds between two of them: a waiting writer asks for SQLite's lock at least that often."""

ROUNDS = 50
"""How often rows are tried that others hold: five seconds, as long as a writer waits."""

SAMPLES = 10
"""Rows of a key that are tried where no known text tells whether it is the right one."""

KNOWN_TEXT = "sealed with this key"

_NOTE = text(
    "INSERT INTO sealing_keys (key_id, sealed, created_at) VALUES (:key_id, :sealed, :created_at)"
    " ON CONFLICT DO NOTHING"
).bindparams(bindparam("sealed", type_=SealedText()), bindparam("created_at", type_=Moment()))


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


class Use(NamedTuple):
    """How much a key seals; earlier passwords count as well."""

    passwords: int = 0
    factors: int = 0

    def __str__(self) -> str:
        counted = ((self.passwords, "password"), (self.factors, "second factor"))
        some = [f"{n:,} {noun}{'' if n == 1 else 's'}" for n, noun in counted if n]
        return " and ".join(some) or "nothing"


def in_use(session: Session) -> dict[str, Use]:
    """What each key still seals; keys that seal nothing are left out."""
    chosen = select(CredentialPassword.key_id, func.count()).group_by(CredentialPassword.key_id)
    passwords = dict(session.execute(chosen).all())
    factors = second_factor.sealed_with(session)
    keys = sorted({*passwords, *factors})
    return {key: Use(passwords.get(key, 0), factors.get(key, 0)) for key in keys}


def check(work: Work, ring: KeyRing) -> None:
    """Note the ring's keys that are new. Raises `RingError` unless it holds all that are in use."""
    new = {*ring.ids} - set(work.session.scalars(select(SealingKey.key_id)))
    _refuse_unfit(work.session, ring)
    if new:
        _note(work, ring, new)
        # Another process may have noted another key of the same id in the same moment.
        _refuse_unfit(work.session, ring)


def refuse_loss(session: Session) -> None:
    """For a start that has no ring: raise `RingError` if anything is sealed."""
    if lost := lacking(in_use(session), ()):
        raise RingError(lost)


def faults(session: Session, ring: KeyRing) -> list[str]:
    """What is wrong with the ring, in words that go on from its name."""
    used = in_use(session)
    found = [
        lacking(used, ring.ids),
        *(_of_wrong(key_id, used) for key_id in _wrong(session, ring)),
    ]
    return [words for words in found if words]


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


def _refuse_unfit(session: Session, ring: KeyRing) -> None:
    if found := faults(session, ring):
        raise RingError("; it ".join(found))


def _of_wrong(key_id: str, used: Mapping[str, Use]) -> str:
    does = f"seals {used[key_id]}" if key_id in used else "was there before"
    remedy = "put that one back, or give the new key an id of its own"
    return f"holds another key {key_id!r} than the one that {does}; {remedy}"


def _wrong(session: Session, ring: KeyRing) -> list[str]:
    """The ids under which the ring holds another key than the one that has sealed here."""
    chosen = select(SealingKey.key_id, SealingKey.sealed).where(SealingKey.key_id.in_(ring.ids))
    noted = dict(session.execute(chosen).all())
    right = {key_id: _opens(ring, sealed, _place(key_id)) for key_id, sealed in noted.items()}
    right |= {key_id: _opens_some(session, ring, key_id) for key_id in {*ring.ids} - {*noted}}
    return [key_id for key_id in ring.ids if not right[key_id]]


def _opens(ring: KeyRing, sealed: Sealed, place: Place) -> bool:
    with suppress(SealingError):
        ring.open(sealed, place)
        return True
    return False


def _opens_some(session: Session, ring: KeyRing, key_id: str) -> bool:
    """Whether it opens anything of what it sealed, of which some may be damaged."""
    found = (
        (row.sealed, store.place(row))
        for store in STORES
        for row in session.execute(store.rows)
        if _key_of(row.sealed) == key_id
    )
    samples = list(islice(found, SAMPLES))
    return not samples or any(_opens(ring, sealed, place) for sealed, place in samples)


def _place(key_id: str) -> Place:
    return Place(SealingKey.__tablename__, "sealed", key_id)


def _note(work: Work, ring: KeyRing, new: Iterable[str]) -> None:
    """In the order of the ids, so that two processes never wait for each other."""
    for key_id in sorted(new):
        sealed = ring.seal_with(key_id, KNOWN_TEXT, _place(key_id))
        values = {"key_id": key_id, "sealed": sealed, "created_at": work.moment}
        work.session.execute(_NOTE, values)


# What is sealed, and sealing it anew


@dataclass(frozen=True, slots=True)
class Store:
    """A table of sealed values.

    `rows` selects each row's `id`, its `sealed` value and what `place` and `name` make use of.
    `stale` gives the numbers, upwards, of the rows that are not sealed with this key.
    """

    number: InstrumentedAttribute[int]
    rows: AnySelect
    stale: Callable[[Session, str], Sequence[int]]
    place: Callable[[Any], Place]
    name: Callable[[Any], str]
    values: Callable[[Sealed], dict[str, Any]]


def _stale_passwords(session: Session, key_id: str) -> Sequence[int]:
    chosen = select(CredentialPassword.id).where(CredentialPassword.key_id != key_id)
    return session.scalars(chosen.order_by(CredentialPassword.id)).all()


def _stale_factors(session: Session, key_id: str) -> Sequence[int]:
    chosen = select(SecondFactor.id, SecondFactor.sealed_secret).order_by(SecondFactor.id)
    return [number for number, sealed in session.execute(chosen) if _key_of(sealed) != key_id]


def _key_of(sealed: Sealed) -> str | None:
    with suppress(Damaged):
        return sealed.key_id
    return None


_PASSWORDS = Store(
    number=CredentialPassword.id,
    rows=select(
        CredentialPassword.id,
        CredentialPassword.sealed,
        CredentialPassword.version,
        Credential.id.label("credential_id"),
        Credential.row_key,
    ).join(Credential, Credential.id == CredentialPassword.credential_id),
    stale=_stale_passwords,
    place=lambda row: place_of(row.row_key, row.version),
    name=lambda row: (
        f"credential_passwords {row.id} (password {row.version} of credential {row.credential_id})"
    ),
    values=lambda sealed: {"sealed": sealed, "key_id": sealed.key_id},
)
_FACTORS = Store(
    number=SecondFactor.id,
    rows=select(SecondFactor.id, SecondFactor.sealed_secret.label("sealed"), SecondFactor.user_id),
    stale=_stale_factors,
    place=lambda row: second_factor.place(row.id),
    name=lambda row: f"second_factors {row.id} (of user {row.user_id})",
    values=lambda sealed: {"sealed_secret": sealed},
)
STORES = (_FACTORS, _PASSWORDS)


def reseal(
    work: Work, ring: KeyRing, store: Store, numbers: Sequence[int]
) -> tuple[int, dict[int, str]]:
    """Seal these rows with the ring's first key: how many; the names, by number, of damaged ones.

    Rows that others hold are passed over: who waits for nobody is in nobody's way for long.
    """
    chosen = store.rows.where(store.number.in_(numbers)).order_by(store.number)
    locked = chosen.with_for_update(of=store.number.class_, skip_locked=True)
    fresh, damaged = [], {}
    for row in work.session.execute(locked).all():
        try:
            if not ring.is_current(row.sealed):
                sealed = ring.resealed(row.sealed, store.place(row))
                fresh.append({"id": row.id, **store.values(sealed)})
        except Damaged:
            damaged[row.id] = store.name(row)
        except UnknownKey:  # of a process with another ring, started meanwhile
            continue
    if fresh:
        work.session.execute(update(store.number.class_), fresh)
    return len(fresh), damaged


class Rekeying:
    """One run over all that is not sealed with the ring's first key.

    Each batch is a unit of work of its own; what is done is not to be done again, so a run may
    end anywhere. `damaged` names what does not open.
    """

    def __init__(self, database: Database, ring: KeyRing) -> None:
        self._database, self._ring = database, ring
        self._damaged: dict[Store, dict[int, str]] = {store: {} for store in STORES}
        self._recorded = False
        self.rows = sum(len(numbers) for _, numbers in self._left())

    @property
    def damaged(self) -> list[str]:
        return [name for found in self._damaged.values() for name in found.values()]

    def batches(self) -> Iterator[int]:
        """Do the next batch; how many rows that were. Between two of them others have a turn."""
        for _ in range(ROUNDS):
            left = self._left()
            if not left:
                return
            for store, numbers in left:
                yield self._batch(store, numbers)
                time.sleep(PAUSE)

    def _left(self) -> list[tuple[Store, Sequence[int]]]:
        with self._database.read() as session:
            stale = {store: store.stale(session, self._ring.ids[0]) for store in STORES}
        return [
            (store, numbers[start : start + BATCH])
            for store, found in stale.items()
            for numbers in [[n for n in found if n not in self._damaged[store]]]
            for start in range(0, len(numbers), BATCH)
        ]

    def _batch(self, store: Store, numbers: Sequence[int]) -> int:
        with self._database.work(SYSTEM) as work:
            before = {} if self._recorded else in_use(work.session)
            done, damaged = reseal(work, self._ring, store, numbers)
            if done and not self._recorded:
                _record(work, self._ring, before)
        self._recorded |= bool(done)
        self._damaged[store] |= damaged
        return done + len(damaged)


def _record(work: Work, ring: KeyRing, before: Mapping[str, Use]) -> None:
    """In the commit of a run's first rows: a run that is killed later is in the trail as well."""
    first = ring.ids[0]
    rows = {key_id: sum(use) for key_id, use in before.items() if key_id != first}
    detail = {"to": first, "rows": rows}
    audit.record(work, Action.CREDENTIAL_REKEY, entity_type="credential", detail=detail)


class GivingUp:
    """One run that destroys what these keys have sealed, which are lost for good.

    Each batch is a unit of work of its own, so a run may end anywhere, and another does the rest.
    """

    def __init__(self, database: Database, lost: Mapping[str, Use]) -> None:
        self._database, self._lost = database, lost
        self._recorded: set[str] = set()
        self.rows = sum(map(sum, lost.values()))

    def batches(self) -> Iterator[int]:
        """Do the next batch; how many rows that were."""
        for key_id in self._lost:
            while self._seals(key_id):
                yield self._batch(key_id)
                time.sleep(PAUSE)

    def _seals(self, key_id: str) -> bool:
        with self._database.read() as session:
            return key_id in in_use(session)

    def _batch(self, key_id: str) -> int:
        with self._database.work(SYSTEM) as work:
            if key_id not in self._recorded:
                _record_loss(work, key_id)
            done = second_factor.forget(work, key_id, BATCH)
            done += credentials.forget(work, key_id, BATCH)
            if key_id not in in_use(work.session):
                work.session.execute(delete(SealingKey).where(SealingKey.key_id == key_id))
        self._recorded.add(key_id)
        return done


def _record_loss(work: Work, key_id: str) -> None:
    """In the first batch's commit, as with a run that seals anew."""
    use = in_use(work.session).get(key_id, Use())
    detail = {"key": key_id, "passwords": use.passwords, "second_factors": use.factors}
    audit.record(work, Action.KEY_GIVEN_UP, entity_type="credential", detail=detail)


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
