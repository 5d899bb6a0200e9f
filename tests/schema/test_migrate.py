"""A start brings the database to this version's schema, once and whole, or leaves it alone."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine, text

from tests import services
from tests.faults.running import PROGRAM, Server, ask, environment, run
from tests.schema.crashing import migrate, shape
from vmtrak import schema
from vmtrak.db import Database
from vmtrak.schema import SchemaError

ROOT = Path(__file__).parents[2]
AT_ONCE = 6


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without anything in it; the SQLite file does not exist yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'inventory.db'}"
    else:
        with services.fresh_database(request.getfixturevalue("postgres")) as url:
            yield url


@pytest.fixture
def empty(empty_url: str) -> Iterator[Database]:
    database = Database(empty_url)
    yield database
    database.close()


def execute(url: str, *statements: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def bytes_of(url: str) -> bytes | None:
    """The content of a SQLite file; None for another kind of database."""
    path = url.partition("sqlite:///")[2]
    return Path(path).read_bytes() if path else None


def test_an_empty_database_gets_the_schema_once(empty: Database) -> None:
    assert schema.migrate(empty)
    assert schema.current(empty) == schema.head()
    assert not schema.migrate(empty)


def test_the_models_and_the_migrations_tell_the_same(empty: Database) -> None:
    schema.migrate(empty)
    with empty.engine.connect() as connection:
        command.check(schema.config(connection))


@contextmanager
def servers(folder: Path, number: int, **settings: str) -> Iterator[list[Server]]:
    ports = {services.free_port() for _ in range(number)}
    started = [Server(folder, port, **settings) for port in ports]
    try:
        yield started
    finally:
        for server in started:
            server.end()


def migrating(folder: Path, **settings: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [PROGRAM, "migrate"],
        env=environment(folder, **settings),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_of_many_first_starts_at_once_one_migrates_and_all_succeed(
    empty_url: str, tmp_path: Path
) -> None:
    settings = {"VMTRAK_DATABASE_URL": empty_url}
    with servers(tmp_path, AT_ONCE // 2, **settings) as serving:
        commands = [migrating(tmp_path, **settings) for _ in range(AT_ONCE // 2)]
        said = [command.communicate(timeout=120) for command in commands]
        assert [command.returncode for command in commands] == [0] * len(commands), said
        for server in serving:
            server.wait_until_ready()
        assert [server.stop() for server in serving] == [0] * len(serving)
    migrated = ["is now at" in output for output, _ in said]
    migrated += ["migrated the database" in server.errors for server in serving]
    assert migrated.count(True) == 1


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_killed_at_any_statement_the_next_start_completes_it(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    where = str(tmp_path) if kind == "sqlite" else request.getfixturevalue("postgres")
    done = subprocess.run(
        [sys.executable, "-m", "tests.schema.crashing", kind, where],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15


def test_a_power_cut_that_tore_the_log_leaves_all_or_nothing(tmp_path: Path) -> None:
    source, torn = tmp_path / "source.db", tmp_path / "torn.db"
    writer = Database(f"sqlite:///{source}")
    schema.migrate(writer)
    undisturbed = shape(f"sqlite:///{source}")
    log = source.with_name("source.db-wal").read_bytes()
    for tenth in range(11):
        shutil.copy(source, torn)
        torn.with_name("torn.db-wal").write_bytes(log[: len(log) * tenth // 10])
        migrate(f"sqlite:///{torn}")
        assert shape(f"sqlite:///{torn}") == undisturbed, f"{tenth} tenths of the log"
        for part in tmp_path.glob("torn.db*"):
            part.unlink()
    writer.close()


def test_a_database_of_a_newer_version_is_refused_and_left_alone(
    empty_url: str, tmp_path: Path
) -> None:
    migrate(empty_url)
    execute(empty_url, "UPDATE alembic_version SET version_num = '9999'")
    before, whole = shape(empty_url), bytes_of(empty_url)
    refused = run(tmp_path, "serve", "--port", "0", VMTRAK_DATABASE_URL=empty_url)
    assert (refused.returncode, refused.stdout) == (1, "")
    [line] = [line for line in refused.stderr.splitlines() if not line.startswith("{")]
    assert "9999" in line
    assert "newer VMTrak" in line
    migrated = ask(tmp_path, "migrate", VMTRAK_DATABASE_URL=empty_url)
    assert (migrated.exit_code, migrated.stdout) == (1, "")
    assert shape(empty_url) == before
    assert bytes_of(empty_url) == whole


def test_another_programs_database_is_refused_and_left_alone(
    empty_url: str, tmp_path: Path
) -> None:
    execute(empty_url, "CREATE TABLE users (name TEXT)", "INSERT INTO users VALUES ('theirs')")
    whole = bytes_of(empty_url)
    refused = ask(tmp_path, "migrate", VMTRAK_DATABASE_URL=empty_url)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert len(refused.stderr.splitlines()) == 1
    assert "another program" in refused.stderr
    examined = ask(tmp_path, "doctor", VMTRAK_DATABASE_URL=empty_url)
    assert examined.exit_code == 1
    assert "another program" in examined.stdout
    assert bytes_of(empty_url) == whole
    execute(empty_url, "INSERT INTO users VALUES ('still theirs')")


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "letter.db"
    file.write_text("Dear Sir or Madam, " * 100)
    refused = ask(tmp_path, "migrate", VMTRAK_DATABASE_URL=f"sqlite:///{file}")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == "vmtrak: the database does not work: file is not a database\n"
    assert file.read_text() == "Dear Sir or Madam, " * 100


def test_a_migration_that_would_break_references_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'inventory.db'}"
    migrate(url)
    with closing(sqlite3.connect(tmp_path / "inventory.db")) as connection:
        connection.execute(
            "INSERT INTO refresh_tokens (session_id, token_hash, created_at, expires_at) "
            "VALUES (77, 'x', '', '')"
        )
        connection.commit()
    execute(url, "UPDATE alembic_version SET version_num = '0000'")
    monkeypatch.setattr(schema, "known", lambda: {"0000", schema.head()})
    monkeypatch.setattr(command, "upgrade", lambda *_: None)
    database = Database(url)
    with pytest.raises(SchemaError, match="1 broken references"):
        schema.migrate(database)
    database.close()


def test_a_copy_without_its_log_is_whole_after_an_orderly_stop(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'inventory.db'}"
    migrate(url)
    expected = shape(url)
    (tmp_path / "restored").mkdir()
    shutil.copy(tmp_path / "inventory.db", tmp_path / "restored" / "inventory.db")
    assert shape(f"sqlite:///{tmp_path / 'restored' / 'inventory.db'}") == expected
