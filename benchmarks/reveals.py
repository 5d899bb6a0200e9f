"""Measure revealing: `python -m benchmarks.reveals`; `--help` tells the rest.

One `vmtrak serve` on SQLite. Each client keeps its connection and asks in turns for one VM and for
the password of a credential on it; a bare commit of one row on the same disk stands beside them.
"""

import argparse
import asyncio
import base64
import itertools
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from loguru import logger
from sqlalchemy import insert, select

from benchmarks import inventory, servers, sign_ins
from vmtrak.access import SYSTEM, Role
from vmtrak.accounts import NewUser, actors, sessions, users
from vmtrak.accounts.access_tokens import SessionRules
from vmtrak.credentials import AccountType, Credential, CredentialPassword
from vmtrak.db import Database, now
from vmtrak.inventory import VM
from vmtrak.sealing import KeyRing, Place

PEOPLE = 50
"""So that the hourly count has a few hundred rows for each, and not all of them for one."""

CONNECTIONS = (1, 4, 16)
REVEALING = 8
"""Clients that do nothing but reveal while others ask for their own."""

KEY_ID, KEY = "bench", bytes(range(32))

Times = list[float]
"""Milliseconds."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Sample:
    """What is asked for: numbers of VMs with those of their credentials, on behalf of whom."""

    port: int
    pairs: tuple[tuple[int, int], ...]
    tokens: tuple[str, ...]

    def requests(self) -> Iterator[tuple[bytes, bytes]]:
        """For one VM and for its password, again and again."""
        chance = random.Random(7)
        for token in itertools.cycle(self.tokens):
            vm, credential = chance.choice(self.pairs)
            one = f"/api/vms/{vm}"
            yield _request(one, token), _request(f"{one}/credentials/{credential}/reveal", token)


def main() -> None:
    options = _options()
    logger.remove()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        url = f"sqlite:///{folder / 'inventory.db'}"
        database = Database(url)
        inventory.make(database, options.vms)
        pairs, tokens = _add_credentials(database), _add_people(database)
        database.close()
        with servers.running(servers.vmtrak, _environment(url, folder)) as (port, _):
            sample = Sample(port, pairs, tokens)
            print(f"\n## Revealing; {options.vms:,} VMs on SQLite\n")
            _compare(sample, folder, options)
            _tell_meanwhile(sample, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reveals", description=__doc__)
    parser.add_argument("--vms", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=1_000, help="of requests in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the database is to be, on which disk")
    return parser.parse_args()


def _environment(url: str, folder: Path) -> dict[str, str]:
    return {
        **servers.environment(url, folder),
        "VMTRAK_CREDENTIAL_KEYS": f"{KEY_ID}:{base64.b64encode(KEY).decode()}",
        "VMTRAK_REVEALS_PER_HOUR": "1000000",
    }


def _add_credentials(database: Database) -> tuple[tuple[int, int], ...]:
    """One for each VM; the numbers of both."""
    ring, moment = KeyRing([(KEY_ID, KEY)]), now()
    people = {"created_by": "bench", "updated_by": "bench", "password_changed_by": "bench"}
    times = dict.fromkeys(("created_at", "updated_at", "password_changed_at"), moment)
    with database.read() as session:
        numbers = list(session.scalars(select(VM.id)))
    accounts, passwords = [], []
    for number in numbers:
        row = {"id": number, "vm_id": number, "row_key": f"{number:032x}", "version": 1}
        account = {"username": "root", "username_key": "root", "revision": 1}
        accounts.append({**row, **account, "account_type": AccountType.PRIMARY, **people, **times})
        place = Place(CredentialPassword.__tablename__, "sealed", f"{row['row_key']}/1")
        sealed = ring.seal(f"a password of VM {number}", place)
        kept = {"credential_id": number, "version": 1, "sealed": sealed, "key_id": KEY_ID}
        passwords.append({**kept, "set_at": moment, "set_by": "bench"})
    with database.engine.execution_options(vmtrak_writes=True).begin() as connection:
        connection.execute(insert(Credential), accounts)
        connection.execute(insert(CredentialPassword), passwords)
    return tuple((number, number) for number in numbers)


def _add_people(database: Database) -> tuple[str, ...]:
    """Access tokens of operators that outlive the benchmark."""
    rules = SessionRules.of(servers.KEY.encode(), 600, 7)
    tokens = []
    for number in range(PEOPLE):
        given = {"username": f"bench-{number}", "email": f"bench-{number}@vmtrak.example"}
        with database.work(SYSTEM) as work:
            user = users.add(work, NewUser.model_validate({**given, "role": Role.READWRITE}))
            user.must_change_password = False
        with database.work(actors.visitor(servers.HOST, None)) as work:
            tokens.append(sessions.sign_in_api(work, user.id, rules, "benchmark").access)
    return tuple(tokens)


def _compare(sample: Sample, folder: Path, options: argparse.Namespace) -> None:
    print("Milliseconds: median, 95 %; medians of the rounds.\n")
    print("| connections | one VM | reveal | reveal to one VM, 95 % | bare commit |")
    print("|---|---|---|---|---|")
    for connections in CONNECTIONS:
        rounds = [_round(sample, folder, connections, options) for _ in range(options.rounds)]
        reads, reveals, commits = zip(*rounds, strict=True)
        ratio = statistics.median(
            _part(reveal, 0.95) / _part(read, 0.95)
            for read, reveal in zip(reads, reveals, strict=True)
        )
        print(
            f"| {connections} | {_told(reads)} | {_told(reveals)} | {ratio:.2f} "
            f"| {_told(commits)} |",
            flush=True,
        )


def _round(
    sample: Sample, folder: Path, connections: int, options: argparse.Namespace
) -> tuple[Times, Times, Times]:
    """How long one VM, a reveal and a bare commit took."""
    reads, reveals = asyncio.run(_load(sample, connections, options.pairs))
    return reads, reveals, _commits(folder, options.pairs)


async def _load(sample: Sample, connections: int, pairs: int) -> tuple[Times, Times]:
    wanted = itertools.islice(sample.requests(), pairs)
    reads, reveals = Times(), Times()

    async def client() -> None:
        async with _connected(sample.port) as streams:
            for one, reveal in wanted:
                reads.append(await _timed(streams, one))
                reveals.append(await _timed(streams, reveal))

    await asyncio.gather(*(client() for _ in range(connections)))
    return reads, reveals


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection(servers.HOST, port)
    yield reader, writer
    writer.close()
    await writer.wait_closed()


async def _timed(streams: Streams, request: bytes) -> float:
    reader, writer = streams
    started = time.perf_counter()
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    taken = (time.perf_counter() - started) * 1_000
    if not head.startswith(b"HTTP/1.1 200"):
        sys.exit(f"benchmarks: {request.split()[1].decode()} was refused\n{body.decode()}")
    return taken


def _request(path: str, token: str) -> bytes:
    lines = (f"GET {path} HTTP/1.1", f"Host: {servers.HOST}", f"Authorization: Bearer {token}")
    return "\r\n".join((*lines, "", "")).encode()


def _commits(folder: Path, count: int) -> Times:
    """One row and one commit each, as the product commits, without anything around it."""
    found = Times()
    with closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS bare (id INTEGER PRIMARY KEY, text TEXT)")
        for _ in range(count):
            started = time.perf_counter()
            connection.execute("INSERT INTO bare (text) VALUES ('one row')")
            found.append((time.perf_counter() - started) * 1_000)
    return found


def _tell_meanwhile(sample: Sample, options: argparse.Namespace) -> None:
    """How long others wait while clients do nothing but reveal."""
    for path in ("/api/health", f"/api/vms/{sample.pairs[0][0]}"):
        found, rate = asyncio.run(_meanwhile(sample, path, options.rounds))
        told = sign_ins.described(found)
        print(f"While {REVEALING} clients reveal ({rate:,.0f}/s) {path}: {told} ms.")


async def _meanwhile(sample: Sample, path: str, seconds: int) -> tuple[Times, float]:
    """What an answer took others (milliseconds), and the reveals per second."""
    end, done, found = time.monotonic() + seconds, 0, Times()
    wanted, asked = sample.requests(), _request(path, sample.tokens[0])

    async def reveal() -> None:
        nonlocal done
        async with _connected(sample.port) as streams:
            while time.monotonic() < end:
                await _timed(streams, next(wanted)[1])
                done += 1

    async def ask() -> None:
        async with _connected(sample.port) as streams:
            while time.monotonic() < end:
                found.append(await _timed(streams, asked))
                await asyncio.sleep(0.02)

    await asyncio.gather(ask(), *(reveal() for _ in range(REVEALING)))
    return found, done / seconds


def _told(rounds: Sequence[Times]) -> str:
    shares = ([_part(times, share) for times in rounds] for share in (0.5, 0.95))
    return ", ".join(f"{statistics.median(found):.2f}" for found in shares)


def _part(times: Times, share: float) -> float:
    return sorted(times)[int(len(times) * share)]


if __name__ == "__main__":
    main()
