"""Where events go: standard error, `vmtrak.log` and `audit.log`, always one line per event."""

import gzip
import json as stdlib_json
import logging
import os
import re
import shutil
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from loguru import logger

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from loguru import Record

ROTATE_AT = "10 MB"
KEEP = 5
# Loguru fills a template and parses colours in it, so text from outside must never be part of
# the template: it goes into this field, and the template names the field.
_LINE = "_line"
_EVENT = "_event"
_LIBRARIES = ("uvicorn", "sqladmin", "sqlalchemy", "alembic")


def configure(
    log_dir: Path | None,
    *,
    json: bool | None = None,
    level: str = "INFO",
    rotate_at: str | int = ROTATE_AT,
) -> None:
    """Set up every sink anew. With `json` None a terminal gets text, all else JSON lines.

    Raises OSError when the directory or a file in it cannot be made.
    """
    logger.remove()
    _add_stderr(level, as_json=not sys.stderr.isatty() if json is None else json)
    _audit_turn.directory = log_dir
    if log_dir is not None:
        log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _add_file(log_dir / "vmtrak.log", level, rotate_at, audit=False)
        # Which events are audited is not a matter of how talkative the log is: every level.
        _add_file(log_dir / "audit.log", 0, rotate_at, audit=True)
    _route_standard_library(level)


def audit_line(event: Mapping[str, object]) -> None:
    """Append the event to `audit.log`, exactly as it is. Never raises over a full disk."""
    with _audit_turn():
        logger.bind(audit=True, **{_EVENT: dict(event)}).info("audit")


def bound(**fields: object) -> AbstractContextManager[None]:
    """Give every event inside the block these fields, such as `request_id` and `username`."""
    known = {name: value for name, value in fields.items() if value is not None}
    return logger.contextualize(**known)


# Sinks. For all of them: diagnose=False, since it prints local variables, and among those are
# passwords; backtrace=False, since frames above the handler only repeat the framework;
# catch=True, since the work is committed by then and a full disk must not turn it into an error
# for the person: loguru reports the failure on standard error instead.


def _add_stderr(level: str, *, as_json: bool) -> None:
    logger.add(
        sys.stderr,
        level=level,
        format=_json_line if as_json else _human_line,
        filter=lambda record: not _is_audit(record),
        # None: loguru looks whether it is a terminal; it does not look at NO_COLOR.
        colorize=False if as_json or os.environ.get("NO_COLOR") else None,
        diagnose=False,
        backtrace=False,
        catch=True,
    )


def _add_file(path: Path, level: str | int, rotate_at: str | int, *, audit: bool) -> None:
    logger.add(
        str(path).replace("{", "{{").replace("}", "}}"),  # loguru would fill in {fields}
        level=level,
        format=_json_line,
        filter=lambda record: _is_audit(record) is audit,
        rotation=rotate_at,
        retention=KEEP,
        compression=_compress,
        # Several processes write the same file: look, before each line, whether another one
        # has rotated it away.
        watch=True,
        opener=_private,
        encoding="utf-8",
        colorize=False,
        diagnose=False,
        backtrace=False,
        catch=True,
    )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _compress(name: str) -> None:
    """Loguru's own "gz" leaves a file that everybody may read, and loses the line if it fails."""
    path = Path(name)
    try:
        _pack(path, path.with_name(f"{path.name}.gz"))
        path.unlink()
    except OSError as error:  # the plain file stays, and counts as one of those kept
        sys.stderr.write(f"vmtrak: a rotated log stays uncompressed: {error.strerror}\n")


def _pack(path: Path, packed: Path) -> None:
    draft = packed.with_name(f"{packed.name}.part")
    with (
        path.open("rb") as plain,
        open(draft, "wb", opener=_private) as file,
        gzip.open(file, "wb") as target,
    ):
        shutil.copyfileobj(plain, target)
    draft.rename(packed)


class _AuditTurn:
    """One process at a time writes `audit.log`.

    Without it a line written between another process's renaming and compressing is lost. The
    lock is on the directory, so no lock file lies about for the retention to count.
    """

    directory: Path | None = None

    def __call__(self) -> AbstractContextManager[None]:
        if self.directory is None or sys.platform == "win32":
            return nullcontext()
        return self._locked(self.directory)

    @contextmanager
    def _locked(self, directory: Path) -> Iterator[None]:
        try:
            handle = os.open(directory, os.O_RDONLY)  # one each: threads exclude each other too
        except OSError:  # the directory is gone; the sink says so or makes it anew
            yield
            return
        try:
            if sys.platform != "win32":
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


_audit_turn = _AuditTurn()


# Lines


def _is_audit(record: "Record") -> bool:
    return record["extra"].get("audit") is True


def _json_line(record: "Record") -> str:
    event = record["extra"].get(_EVENT) if _is_audit(record) else None
    record["extra"][_LINE] = _dump(_fields(record) if event is None else event)
    return "{extra[_line]}\n"


def _human_line(record: "Record") -> str:
    extra = "".join(f" {name}={value}" for name, value in _extra(record).items())
    text = _visible(record["message"] + extra)
    trace = "".join(f"\n    {_visible(line)}" for line in _trace(record).splitlines())
    record["extra"][_LINE] = text + trace
    return "<green>{time:HH:mm:ss.SSS}</green> <level>{level: <8}</level> {extra[_line]}\n"


def _fields(record: "Record") -> dict[str, object]:
    line: dict[str, object] = {
        "time": record["time"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "level": record["level"].name,
        "logger": record["name"],
        "message": record["message"],
    }
    if record["exception"] is not None:
        line["exception"] = _trace(record)
    for name, value in _extra(record).items():
        line[f"{name}_" if name in line else name] = value
    return line


def _extra(record: "Record") -> dict[str, object]:
    return {
        str(name): value
        for name, value in record["extra"].items()
        if name not in {_LINE, _EVENT, "audit"}
    }


def _trace(record: "Record") -> str:
    if record["exception"] is None:
        return ""
    return "".join(traceback.format_exception(*record["exception"]))


def _visible(text: str) -> str:
    """Escape what could start a new line, command a terminal or turn the reading direction."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# JSON leaves these alone, yet some readers end a line at them and terminals obey some.
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029]")


def _dump(value: object) -> str:
    try:
        options = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z
        text = orjson.dumps(value, default=str, option=options).decode()
    except orjson.JSONEncodeError:  # a lone surrogate, an integer above 64 bits
        return stdlib_json.dumps(value, default=str)
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


# Standard library


class _Intercept(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._hand_over(record)
        except Exception:  # noqa: BLE001 - a broken message must not break the caller
            self.handleError(record)

    def _hand_over(self, record: logging.LogRecord) -> None:
        def named(event: "Record") -> None:
            event["name"] = record.name

        level = record.levelname if record.levelname in _LEVELS else record.levelno
        source = logger.patch(named).opt(exception=record.exc_info)
        source.log(level, record.getMessage())


_LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})


def _route_standard_library(level: str) -> None:
    logging.basicConfig(handlers=[_Intercept()], level=logger.level(level).no, force=True)
    names: Mapping[str, Any] = logging.root.manager.loggerDict
    for name in {*_LIBRARIES, *(n for n in names if n.split(".")[0] in _LIBRARIES)}:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    # At INFO it logs every statement, and at DEBUG the rows that come back.
    logging.getLogger("sqlalchemy").setLevel(logging.WARNING)
    # At INFO they explain their own workings at every start, and one of them every minute. And
    # httpx2 writes down every address it asks: those of webhooks are keys.
    for name in ("alembic", "huey", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)
