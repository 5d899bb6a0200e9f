"""Second factors that an earlier version sealed open after the upgrade, which needs no key."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest
from alembic import command
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import insert, select, update

from tests import services
from tests.keys.stock import SECRET
from vmtrak import db, keys, schema
from vmtrak.access import SYSTEM
from vmtrak.accounts import NewUser, SecondFactor, second_factor, users
from vmtrak.db import Database
from vmtrak.sealing import KeyRing, Sealed

KEY = bytes(range(32))
TABLE = SecondFactor.metadata.tables[SecondFactor.__tablename__]


@pytest.fixture(params=["sqlite", "postgresql"])
def before(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database at the revision before credentials."""
    if request.param == "sqlite":
        yield from at_revision_2(f"sqlite:///{tmp_path / 'inventory.db'}")
    else:
        with services.fresh_database(request.getfixturevalue("postgres")) as url:
            yield from at_revision_2(url)


def at_revision_2(url: str) -> Iterator[Database]:
    database = Database(url)
    with schema._locked(database) as connection:
        command.upgrade(schema.config(connection), "0002")
    yield database
    database.close()


def sealed_formerly(key_id: str, number: int) -> Sealed:
    """`v1.<key id>.<nonce, ciphertext and tag in one>`, as revision 2 has it."""
    parts = ("v1", key_id, "second_factors", "sealed_secret", str(number))
    associated = b"".join(len(part).to_bytes(4, "big") + part.encode() for part in parts)
    nonce = bytes(range(number, number + 12))
    box = nonce + AESGCM(KEY).encrypt(nonce, SECRET.encode(), associated)
    return Sealed(f"v1.{key_id}.{base64.urlsafe_b64encode(box).rstrip(b'=').decode()}")


def enrol(database: Database, name: str, key_id: str) -> int:
    with database.work(SYSTEM) as work:
        given = {"username": name, "email": f"{name}@vmtrak.example", "role": "read"}
        user = users.add(work, NewUser.model_validate(given))
        work.flush()
        values = {"user_id": user.id, "sealed_secret": Sealed(""), "created_at": work.moment}
        row = insert(TABLE).values(**values, confirmed_at=work.moment).returning(TABLE.c.id)
        number = work.session.execute(row).scalar_one()
        fill = update(TABLE).where(TABLE.c.id == number)
        work.session.execute(fill.values(sealed_secret=sealed_formerly(key_id, number)))
        return user.id


def test_second_factors_open_after_the_upgrade_and_can_be_sealed_anew(before: Database) -> None:
    ids = ["k", "k-1f2e3d4c", "site.a.2025-11", "..-_", "v1.k"]
    people = [enrol(before, f"p{number}", key_id) for number, key_id in enumerate(ids)]
    assert schema.migrate(before)
    ring = KeyRing([("new", bytes(range(32, 64))), *((key_id, KEY) for key_id in ids)])
    with before.read() as session:
        assert keys.in_use(session) == {key_id: keys.Use(factors=1) for key_id in ids}
    with before.work(SYSTEM) as work:
        keys.check(work, ring)
        for user_id in people:
            assert second_factor.accepts(work, ring, user_id, pyotp.TOTP(SECRET).at(db.now()))
    run = keys.Rekeying(before, ring)
    assert (list(run.batches()), run.damaged) == ([5], [])
    alone = KeyRing([("new", bytes(range(32, 64)))])
    with before.work(SYSTEM) as work:
        keys.check(work, alone)
        for factor in work.session.scalars(select(SecondFactor)):
            assert alone.open(factor.sealed_secret, second_factor.place(factor.id)) == SECRET


@pytest.mark.parametrize("damaged", ["", "x", "v1.k.cut", f"v1.{'k' * 33}.{'A' * 60}", "v1.ключ.A"])
def test_a_damaged_second_factor_is_kept_as_it_is_and_hinders_nothing(
    before: Database, damaged: str
) -> None:
    people = [enrol(before, name, "k") for name in ("ada", "otto")]
    with before.work(SYSTEM) as work:
        spoiled = update(TABLE).where(TABLE.c.user_id == people[0])
        work.session.execute(spoiled.values(sealed_secret=Sealed(damaged)))
    assert schema.migrate(before)
    ring = KeyRing([("new", bytes(range(32, 64))), ("k", KEY)])
    with before.work(SYSTEM) as work:
        keys.check(work, ring)
        assert keys.in_use(work.session) == {"k": keys.Use(factors=1)}
        found = work.session.scalars(select(SecondFactor.sealed_secret).order_by(SecondFactor.id))
        assert next(found).text == damaged
    run = keys.Rekeying(before, ring)
    assert sum(run.batches()) == 2
    assert len(run.damaged) == 1
    with before.work(SYSTEM) as work:
        keys.check(work, KeyRing([("new", bytes(range(32, 64)))]))
