"""Second factors that an earlier version sealed open after the upgrade, which needs no key."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest
from alembic import command
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import select

from tests import services
from tests.keys.stock import SECRET
from vmtrak import db, keys, schema
from vmtrak.access import SYSTEM
from vmtrak.accounts import NewUser, SecondFactor, second_factor, users
from vmtrak.db import Database
from vmtrak.sealing import KeyRing, Sealed

KEY = bytes(range(32))


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
        factor = SecondFactor(user_id=user.id, sealed_secret=Sealed(""), created_at=work.moment)
        work.session.add(factor)
        work.flush()
        factor.sealed_secret, factor.confirmed_at = sealed_formerly(key_id, factor.id), work.moment
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
