"""The database: engine, units of work, read sessions, and statements prepared for hot reads."""

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar

import anyio
import anyio.to_thread
from sqlalchemy import (
    BigInteger,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Integer,
    MetaData,
    Select,
    String,
    TypeDecorator,
    UpdateBase,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.types import TypeEngine

from vmtrak.access import Actor
from vmtrak.errors import Conflict, Unavailable
from vmtrak.sealing import Sealed

P = ParamSpec("P")
R = TypeVar("R")

AnySelect: TypeAlias = "Select[*tuple[Any, ...]]"
"""A SELECT of whatever columns."""

Seen = Collection[int] | None
"""The revisions of a row on which a change may build; None for any."""

BUSY_TIMEOUT = 5_000
"""Milliseconds for which a statement waits for another writer before the door answers 503."""

QUEUE = 10
"""Seconds for which a write waits for its turn behind others, which may wait for the file."""

FAREWELL = 1_000
"""The same for the last act, so that another process's lock does not hold up the end."""

_TROUBLE = ("disk is full", "disk I/O error", "readonly database", "unable to open database file")
"""What SQLite says when the machine is at fault, and not the statement."""

_WRITES = "vmtrak_writes"

Identifier = BigInteger().with_variant(Integer, "sqlite")
"""SQLite gives AUTOINCREMENT to INTEGER PRIMARY KEY only."""

Key = String().with_variant(String(collation="C"), "postgresql")
"""Text that sorts by code point in both databases, so that a cursor means the same in both."""


class Moment(TypeDecorator[datetime]):
    """A time in UTC, to the second, as the contract shows it: SQLite keeps that very text."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        return datetime

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(20))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ANN401 - text or time, by dialect
        if value is None:
            return None
        moment = value.astimezone(UTC).replace(microsecond=0)
        return iso(moment) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ANN401, ARG002 - as above
        if isinstance(value, str):
            return datetime.fromisoformat(value)
        return None if value is None else value.astimezone(UTC)


class SealedText(TypeDecorator[Sealed]):
    """A sealed value: the column only wraps it, and a key ring opens it where it is needed."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Sealed | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - the base class gives the signature
        return None if value is None else value.text

    def process_result_value(self, value: str | None, dialect: Dialect) -> Sealed | None:  # noqa: ARG002 - the same
        return None if value is None else Sealed(value)


def now() -> datetime:
    """The present second in UTC."""
    return datetime.now(UTC).replace(microsecond=0)


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class WorkSession(Session):
    """The session of a unit of work; `audit` watches what its commits contain."""


class ReadSession(Session):
    """A session that refuses to write."""


@event.listens_for(ReadSession, "before_flush")
def _refuse_to_flush(session: Session, *_: object) -> None:
    if session.new or session.dirty or session.deleted:
        message = "a read session was asked to write"
        raise AssertionError(message)


class Work:
    """One unit of work: a session, who asked for it, and what is to happen once it is committed."""

    def __init__(
        self, connection: Connection, session: WorkSession, actor: Actor, moment: datetime
    ) -> None:
        self.session = session
        self.actor = actor
        self.moment = moment
        self._connection = connection
        self._afterwards: list[Callable[[], None]] = []

    def after_commit(self, call: Callable[[], None]) -> None:
        self._afterwards.append(call)

    def flush(self, conflicts: Mapping[str, Conflict] | None = None) -> None:
        """Send what is pending; a violated constraint becomes the Conflict that is named for it."""
        try:
            self.session.flush()
        except IntegrityError as error:
            raise conflict(error, conflicts or {}) from error

    def rows(self, prepared: "Prepared", parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run a prepared statement in this transaction; the session learns nothing of it."""
        if not self._connection.in_transaction():  # after a failed flush all is rolled back
            message = "this unit of work has failed already"
            raise AssertionError(message)
        return prepared.rows(self._connection.connection, self._connection.dialect, parameters)

    def _committed(self) -> None:
        for call in self._afterwards:
            call()


def conflict(error: IntegrityError, conflicts: Mapping[str, Conflict]) -> Exception:
    """The Conflict for the constraint that was violated; the error itself if none is foreseen.

    PostgreSQL reports the constraint's name, SQLite the columns, from which the naming
    convention gives the name.
    """
    found = conflicts.get(_violated(error))
    # A new one each time: an exception that is raised again keeps every frame of the times before.
    return Conflict(str(found), found.field) if found else error


def _violated(error: IntegrityError) -> str:
    diagnosis = getattr(error.orig, "diag", None)
    if diagnosis is not None:
        return diagnosis.constraint_name or ""
    columns = str(error.orig).removeprefix("UNIQUE constraint failed: ").split(", ")
    return "_".join(["uq", columns[0].partition(".")[0], *(c.rpartition(".")[2] for c in columns)])


@dataclass(frozen=True, slots=True)
class Page:
    """One page of rows as dictionaries; `next` is the cursor to go on with, None at the end."""

    rows: list[dict[str, Any]]
    total: int
    page: int
    limit: int
    next: str | None = None


class Prepared:
    """A SELECT or INSERT compiled once and run through the driver itself.

    Building and running a Core statement costs about as much as answering a whole bare
    request; the one row and the one page that scripts ask for all day skip it. Values go in and
    come out as the driver has them: a time goes in as `iso` writes it.
    """

    def __init__(self, statement: "AnySelect | UpdateBase") -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {}
        self.columns = tuple(str(key) for key, _ in statement.exported_columns.items())

    def sql(self, dialect: Dialect) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        """The SQL, the parameter names by position (SQLite), and the fixed parameters."""
        found = self._compiled.get(dialect.name)
        if found is None:
            compiled = self._statement.compile(
                dialect=dialect, compile_kwargs={"render_postcompile": True}
            )
            names = tuple(getattr(compiled, "positiontup", None) or ())
            fixed = {k: v for k, v in compiled.params.items() if v is not None}
            found = self._compiled[dialect.name] = (str(compiled), names, fixed)
        return found

    def rows(
        self,
        connection: Any,  # noqa: ANN401 - the driver's own
        dialect: Dialect,
        parameters: Mapping[str, Any],
    ) -> list[tuple[Any, ...]]:
        """What it gives on a connection of the driver."""
        sql, names, fixed = self.sql(dialect)
        values: Any = {**fixed, **parameters}
        if names:
            values = [values.get(name) for name in names]
        cursor = connection.cursor()
        cursor.execute(sql, values)
        return list(cursor.fetchall()) if cursor.description else []


class Database:
    """Opens units of work and reads on one database. Safe to share between threads."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(url) if self.sqlite else _postgresql_engine(url)
        self._writing = self.engine.execution_options(**{_WRITES: True})
        self._read = sessionmaker(
            self.engine, class_=ReadSession, expire_on_commit=False, autoflush=False
        )
        driver: Any = self.engine.dialect.dbapi
        self._driver_error: type[Exception] = driver.OperationalError
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._readers: anyio.CapacityLimiter | None = None
        self._writers: anyio.CapacityLimiter | None = None

    @contextmanager
    def work(self, actor: Actor) -> Iterator[Work]:
        """One transaction that may write: leaving it commits, an exception rolls back."""
        try:
            with (
                self._writing.begin() as connection,
                WorkSession(connection, expire_on_commit=False, autoflush=False) as session,
            ):
                work = Work(connection, session, actor, now())
                yield work
                work.flush()
                session.commit()
        except (OperationalError, self._driver_error) as error:
            raise self._explained(error) from error
        work._committed()  # noqa: SLF001 - the two classes are one mechanism

    @contextmanager
    def read(self) -> Iterator[ReadSession]:
        """A session for reading; it sees one snapshot and refuses to flush."""
        try:
            with self._read() as session:
                yield session
        except OperationalError as error:
            raise self._explained(error) from error

    def rows(self, prepared: Prepared, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run a prepared statement on this thread's own reading connection."""
        try:
            return self._rows(prepared, parameters)
        except (OperationalError, self._driver_error) as error:
            raise self._explained(error) from error

    def _rows(self, prepared: Prepared, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        if self.sqlite:
            return prepared.rows(self._reading_connection(), self.engine.dialect, parameters)
        connection = self.engine.raw_connection()
        try:
            return prepared.rows(connection, self.engine.dialect, parameters)
        finally:
            connection.close()

    def dicts(self, prepared: Prepared, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The rows as dictionaries in the order of the statement's columns."""
        columns = prepared.columns
        return [dict(zip(columns, row, strict=True)) for row in self.rows(prepared, parameters)]

    def _reading_connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                str(self.url.database),
                isolation_level=None,
                check_same_thread=False,
                cached_statements=512,
            )
            _pragmas(connection)
            connection.execute("PRAGMA query_only=ON")
            self._local.connection = connection
            with self._lock:
                self._opened.append(connection)
        return connection

    async def reading(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a reading call on one of the few database threads.

        On SQLite two: the driver lets the interpreter lock go at every row, so more threads
        only wait for each other. A writer that waits for the file's lock never takes one.
        """
        if self._readers is None:
            self._readers = anyio.CapacityLimiter(2 if self.sqlite else 10)
        return await anyio.to_thread.run_sync(lambda: call(*args, **kwargs), limiter=self._readers)

    async def writing(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a writing call on a thread for writers: SQLite has one writer at a time anyway.

        Raises `Unavailable` if its turn does not come within `QUEUE` seconds.
        """
        if self._writers is None:
            self._writers = anyio.CapacityLimiter(1 if self.sqlite else 10)
        turn = object()
        try:
            with anyio.fail_after(QUEUE):
                await self._writers.acquire_on_behalf_of(turn)
        except TimeoutError:
            raise Unavailable from None
        try:
            return await anyio.to_thread.run_sync(lambda: call(*args, **kwargs))
        finally:
            self._writers.release_on_behalf_of(turn)

    def check(self) -> None:
        """Raise unless the database answers."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")

    def close(self) -> None:
        """Give everything back; on SQLite the write-ahead log is written into the file first."""
        if self.sqlite:
            with self._lock:
                for connection in self._opened:
                    connection.close()
                self._opened.clear()
        self.engine.dispose()
        if self.sqlite:
            _checkpoint(Path(str(self.url.database)))

    def _explained(self, error: Exception) -> Exception:
        """`Unavailable` for what time or an administrator mends; else the error: it is a bug."""
        words = str(getattr(error, "orig", None) or error)
        if "database is locked" in words:
            return Unavailable()
        if not self.sqlite or any(trouble in words for trouble in _TROUBLE):
            message = "The database does not work at the moment; an administrator can tell why."
            return Unavailable(message)
        return error


def _checkpoint(file: Path) -> None:
    """Over a plain connection, in nobody's way: what cannot be done now is done later."""
    if file.exists():
        patience = FAREWELL / 1000
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(file, patience, isolation_level=None)) as connection,
        ):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        connect_args={"isolation_level": None, "check_same_thread": False},
        pool_size=4,
        max_overflow=8,
    )
    event.listen(engine, "connect", lambda connection, _record: _pragmas(connection))
    event.listen(engine, "begin", _begin)
    return engine


def _pragmas(connection: sqlite3.Connection) -> None:
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT}",
        "journal_mode=WAL",
        "foreign_keys=ON",
        # FULL: a commit that was confirmed, and with it its audit row, survives a power cut.
        "synchronous=FULL",
        "cache_size=-32768",
        "mmap_size=268435456",
        "temp_store=MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Any) -> None:  # noqa: ANN401 - SQLAlchemy's Connection
    """Take the write lock at once where a write may follow a read."""
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql_engine(url: str) -> Engine:
    return create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        hide_parameters=True,
        pool_size=10,
        max_overflow=10,
        pool_pre_ping=True,
        connect_args={"options": "-c timezone=UTC"},
    )
