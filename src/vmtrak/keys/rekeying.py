"""Sealing anew with the ring's first key, and giving up what a lost key has sealed."""

import time
from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import delete, update

from vmtrak import audit, credentials
from vmtrak.access import SYSTEM
from vmtrak.accounts import second_factor
from vmtrak.audit import Action
from vmtrak.db import Database, Work
from vmtrak.keys.ring import SealingKey
from vmtrak.keys.stores import STORES, Store, Use, in_use
from vmtrak.sealing import Damaged, KeyRing, UnknownKey

BATCH = 500
"""Rows of one unit of work. On SQLite they take some 15 ms, for which others wait to write; on
PostgreSQL some 40. With 200 of them a run takes twice as long, nearly all of it in pauses."""

PEOPLE = 20
"""People whose second factors are destroyed in one unit of work, which holds them meanwhile."""

PAUSE = 0.1
"""Seconds between two of them: a waiting writer asks for SQLite's lock at least that often."""

ROUNDS = 50
"""How often rows are tried that others hold: five seconds, as long as a writer waits."""


def reseal(
    work: Work, ring: KeyRing, store: Store, numbers: Sequence[int]
) -> tuple[int, dict[int, str]]:
    """Seal these rows with the ring's first key: how many; the names, by number, of damaged ones.

    Rows that others hold are passed over: who waits for nobody is in nobody's way for long.
    """
    table = store.table
    chosen = store.rows.where(table.id.in_(numbers), table.key_id != ring.ids[0])
    locked = chosen.order_by(table.id).with_for_update(of=table, skip_locked=True)
    fresh, damaged = [], {}
    for row in work.session.execute(locked).all():
        try:
            sealed = ring.resealed(row.sealed, store.place(row))
            fresh.append({"id": row.id, store.column: sealed, "key_id": sealed.key_id})
        except Damaged:
            damaged[row.id] = store.name(row)
        except UnknownKey:  # of a process with another ring, started meanwhile
            continue
    if fresh:
        work.session.execute(update(table), fresh)
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
        """Never people and credentials: who changes a password holds that and then themselves."""
        with self._database.work(SYSTEM) as work:
            use = in_use(work.session).get(key_id, Use())
            if key_id not in self._recorded:
                _record_loss(work, key_id, use)
            if use.factors:
                done = second_factor.forget(work, key_id, PEOPLE)
            else:
                done = credentials.forget(work, key_id, BATCH)
            if key_id not in in_use(work.session):
                work.session.execute(delete(SealingKey).where(SealingKey.key_id == key_id))
        self._recorded.add(key_id)
        return done


def _record_loss(work: Work, key_id: str, use: Use) -> None:
    """In the first batch's commit, as with a run that seals anew."""
    detail = {"key": key_id, "passwords": use.passwords, "second_factors": use.factors}
    audit.record(work, Action.KEY_GIVEN_UP, entity_type="credential", detail=detail)
