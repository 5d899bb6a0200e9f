"""Logs: one event is one line, at the right place, readable by the right people only."""

import fcntl
import gzip
import json
import logging
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loguru import logger

from vmtrak import logs

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
anything_per_example = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Give the standard library's root logger back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    yield
    logger.remove()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "logs"
    logs.configure(path, json=True)
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    """Read as the most generous reader would: every kind of line end counts."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def event(folder: Path) -> dict[str, Any]:
    return lines(folder / "vmtrak.log")[-1]


def log_with_exception(error: Exception) -> None:
    secret_in_a_local_variable = "hunter2"
    try:
        raise error
    except type(error):
        logger.exception("It broke")
    assert secret_in_a_local_variable


# The lines


def test_an_event_is_a_json_line(folder: Path) -> None:
    logger.bind(rows=3).info("Imported {}", "a list")
    line = event(folder)
    assert TIME.fullmatch(line.pop("time"))
    assert line == {"level": "INFO", "logger": __name__, "message": "Imported a list", "rows": 3}


def test_times_are_utc(folder: Path) -> None:
    before = datetime.now(UTC)
    logger.info("now")
    written = datetime.fromisoformat(event(folder)["time"])
    assert before <= written <= datetime.now(UTC)


def test_request_and_person_are_on_every_line_inside_the_block(folder: Path) -> None:
    with logs.bound(request_id="r1", username="asha", department=None):
        logger.info("inside")
    logger.info("outside")
    inside, outside = lines(folder / "vmtrak.log")
    assert (inside["request_id"], inside["username"]) == ("r1", "asha")
    assert "department" not in inside
    assert "request_id" not in outside


def test_a_field_cannot_take_the_place_of_the_line_s_own(folder: Path) -> None:
    logger.bind(level="DEBUG", message="forged", event="kept").warning("real")
    line = event(folder)
    assert (line["level"], line["message"]) == ("WARNING", "real")
    assert (line["level_"], line["message_"], line["event"]) == ("DEBUG", "forged", "kept")


def test_an_exception_is_written_without_local_variables(folder: Path) -> None:
    log_with_exception(ValueError("bad\nvalue"))
    text = (folder / "vmtrak.log").read_text()
    assert text.count("\n") == 1
    assert "hunter2" not in text
    assert event(folder)["exception"].endswith("ValueError: bad\nvalue\n")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (date(2026, 11, 22), "2026-11-22"),
        (datetime(2026, 11, 22, 8, 30, tzinfo=UTC), "2026-11-22T08:30:00Z"),
        (Decimal("1.50"), "1.50"),
        (10**30, 10**30),
        (Path("/srv"), "/srv"),
        ({1: "one"}, {"1": "one"}),
        ("\udcff", "\udcff"),
    ],
)
def test_fields_of_any_type_are_written(value: object, written: object, folder: Path) -> None:
    logger.bind(value=value).info("x")
    assert event(folder)["value"] == written


@anything_per_example
@given(message=st.text(), value=st.text())
@pytest.mark.parametrize("as_json", [True, False])
def test_no_text_can_forge_a_line(
    as_json: bool,  # noqa: FBT001 - a parameter of the test
    message: str,
    value: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(tmp_path, json=as_json)
    capsys.readouterr()
    logger.bind(value=value).info(message.replace("{", "{{").replace("}", "}}"))
    logger.bind(value=value).opt(raw=False).info("{}", message)
    assert event(tmp_path)["value"] == value
    assert event(tmp_path)["message"] == message
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize("text", ["<red>a</red>", "</", "{0}", "{extra[_line]}", "{", "\\<"])
@pytest.mark.parametrize("as_json", [True, False])
def test_markup_and_braces_are_only_text(
    text: str,
    as_json: bool,  # noqa: FBT001 - a parameter of the test
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(None, json=as_json)
    logger.bind(value=text).info(text)
    assert text in capsys.readouterr().err.replace("\\\\", "\\")


# Standard error


def test_what_is_no_terminal_gets_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(None)
    logger.info("hello")
    assert json.loads(capsys.readouterr().err)["message"] == "hello"


@pytest.mark.parametrize("colours", [True, False])
def test_a_terminal_gets_coloured_text(
    colours: bool,  # noqa: FBT001 - a parameter of the test
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("CI", "FORCE_COLOR", "PYCHARM_HOSTED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "" if colours else "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    logs.configure(None)
    logger.bind(request_id="r1").info("hello\x1b[31m")
    text = capsys.readouterr().err
    assert "hello\\x1b[31m request_id=r1" in text
    assert ("\x1b[" in text) is colours


def test_the_text_of_an_exception_cannot_forge_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(None, json=False)
    log_with_exception(ValueError("bad\n12:00:00 INFO forged\x1b[2K"))
    first, *rest = capsys.readouterr().err.splitlines()
    assert "It broke" in first
    assert all(line.startswith("    ") for line in rest)
    assert rest[-1] == "    12:00:00 INFO forged\\x1b[2K"


def test_events_below_the_level_are_dropped(tmp_path: Path) -> None:
    logs.configure(tmp_path, json=True, level="WARNING")
    logger.info("small")
    logging.getLogger("some.library").info("small")
    assert (tmp_path / "vmtrak.log").read_text() == ""


def test_configuring_again_leaves_no_second_sink(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(folder, json=True)
    logger.info("once")
    assert len(lines(folder / "vmtrak.log")) == 1
    assert capsys.readouterr().err.count("once") == 1


def test_an_event_that_cannot_be_written_does_not_break_the_caller(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Full:
        def __str__(self) -> str:
            raise OSError(28, "No space left on device")

    logs.configure(None, json=True)
    logger.bind(value=Full()).info("still here")
    logger.info("and on")
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["message"] == "and on"


# The audit file


def test_an_audit_line_is_the_event_and_nothing_else(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"id": 7, "action": "vm.update", "detail": {"name": {"from": "a", "to": "b\nc"}}}
    with logs.bound(request_id="r1"):
        logs.audit_line(row)
    assert lines(folder / "audit.log") == [row]
    assert (folder / "vmtrak.log").read_text() == ""
    assert capsys.readouterr().err == ""


def test_ordinary_events_stay_out_of_the_audit_file(folder: Path) -> None:
    logger.info("ordinary")
    logger.bind(audit=False).info("ordinary")
    assert (folder / "audit.log").read_text() == ""
    assert len(lines(folder / "vmtrak.log")) == 2


def test_audit_lines_do_not_depend_on_the_level(tmp_path: Path) -> None:
    logs.configure(tmp_path, json=True, level="CRITICAL")
    logs.audit_line({"id": 1})
    assert lines(tmp_path / "audit.log") == [{"id": 1}]


def test_without_a_folder_an_audit_line_goes_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(None, json=True)
    logs.audit_line({"id": 1})
    assert capsys.readouterr().err == ""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@anything_per_example
@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_any_event_comes_back_as_it_was(folder: Path, row: dict[str, object]) -> None:
    logs.audit_line(row)
    assert lines(folder / "audit.log")[-1] == row


# The files


def packed(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.stem}.*.log.gz"))


def fill(name: str, count: int) -> None:
    for number in range(count):
        if name == "audit.log":
            logs.audit_line({"number": number, "padding": "x" * 100})
        else:
            logger.bind(number=number).info("x" * 100)


@pytest.mark.parametrize("name", ["vmtrak.log", "audit.log"])
def test_a_full_file_is_rotated_and_compressed(name: str, tmp_path: Path) -> None:
    logs.configure(tmp_path, json=True, rotate_at=1000)
    fill(name, 20)
    old = [gzip.decompress(path.read_bytes()) for path in packed(tmp_path / name)]
    assert 1 < len(old) <= logs.KEEP
    assert all(len(text) <= 1000 for text in old)
    whole = b"".join([*old, (tmp_path / name).read_bytes()])
    assert [json.loads(line)["number"] for line in whole.splitlines()] == list(range(20))


@pytest.mark.parametrize("name", ["vmtrak.log", "audit.log"])
def test_five_old_files_are_kept(name: str, tmp_path: Path) -> None:
    logs.configure(tmp_path, json=True, rotate_at=300)
    fill(name, 40)
    assert len(packed(tmp_path / name)) == logs.KEEP == 5
    newest = gzip.decompress(packed(tmp_path / name)[-1].read_bytes())
    assert json.loads(newest.splitlines()[-1])["number"] >= 37
    assert {path.name.partition(".")[0] for path in tmp_path.iterdir()} == {"vmtrak", "audit"}


def test_files_are_rotated_at_ten_megabytes() -> None:
    assert logs.ROTATE_AT == "10 MB"


def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    previous = os.umask(0)
    try:
        logs.configure(folder, json=True, rotate_at=300)
        fill("vmtrak.log", 5)
        fill("audit.log", 5)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(packed(folder / "audit.log")) > 0
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_file_that_cannot_be_compressed_is_kept_and_no_line_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(logs, "_pack", full)
    logs.configure(tmp_path, json=True, rotate_at=300)
    fill("audit.log", 6)
    texts = [path.read_text() for path in sorted(tmp_path.glob("audit.*.log"))]
    whole = "".join([*texts, (tmp_path / "audit.log").read_text()])
    assert [json.loads(line)["number"] for line in whole.splitlines()] == list(range(6))


def test_a_folder_may_have_braces_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "{time}"
    logs.configure(folder, json=True, rotate_at=300)
    fill("audit.log", 4)
    assert packed(folder / "audit.log")
    assert list(tmp_path.iterdir()) == [folder]


def test_lines_go_on_in_a_new_file_when_somebody_moves_the_old_one(folder: Path) -> None:
    logs.audit_line({"id": 1})
    (folder / "audit.log").rename(folder / "moved")
    logs.audit_line({"id": 2})
    assert lines(folder / "audit.log") == [{"id": 2}]


def test_an_audit_line_waits_for_the_process_whose_turn_it_is(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    writer = threading.Thread(target=logs.audit_line, args=({"id": 1},))
    writer.start()
    writer.join(0.2)
    assert (folder / "audit.log").read_text() == ""
    os.close(handle)
    writer.join(10)
    assert lines(folder / "audit.log") == [{"id": 1}]


def test_processes_that_write_at_once_lose_no_audit_line(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from vmtrak import logs\n"
        "logs.KEEP = 1000\n"
        "logs.configure(Path(sys.argv[1]), rotate_at=2000)\n"
        "print(flush=True); sys.stdin.read()\n"
        "for n in range(150): logs.audit_line({'who': sys.argv[2], 'n': n, 'pad': 'x' * 50})\n"
    )
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), who], stdin=pipe, stdout=pipe
        )
        for who in "abc"
    ]
    for process in processes:
        assert process.stdout
        process.stdout.readline()
    for process in processes:
        process.communicate(timeout=60)
    old = [gzip.decompress(path.read_bytes()) for path in packed(tmp_path / "audit.log")]
    rows = [json.loads(x) for text in old for x in text.splitlines()]
    rows += lines(tmp_path / "audit.log")
    assert sorted((row["who"], row["n"]) for row in rows) == [
        (who, n) for who in "abc" for n in range(150)
    ]


# The standard library's logging


def test_libraries_log_into_the_same_file(folder: Path) -> None:
    logging.getLogger("some.library").warning("Lost %s", "contact")
    line = event(folder)
    assert (line["logger"], line["level"]) == ("some.library", "WARNING")
    assert line["message"] == "Lost contact"


@pytest.mark.parametrize("name", ["uvicorn.error", "uvicorn.access", "sqladmin", "alembic.x"])
def test_handlers_of_their_own_are_taken_from_the_libraries(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library = logging.getLogger(name)
    library.addHandler(logging.StreamHandler(sys.stderr))
    library.propagate = False
    logs.configure(tmp_path, json=True)
    library.error("once")
    assert capsys.readouterr().err.count("once") == 1
    assert event(tmp_path)["logger"] == name


def test_the_exception_of_a_library_is_kept(folder: Path) -> None:
    error = ValueError("inside a library")
    logging.getLogger("some.library").error("failed", exc_info=error)
    assert "ValueError: inside a library" in event(folder)["exception"]


def test_levels_of_a_library_s_own_are_kept_by_number(folder: Path) -> None:
    logging.getLogger("some.library").log(35, "between")
    assert event(folder)["level"] == "Level 35"


def test_braces_from_a_library_are_only_text(folder: Path) -> None:
    logging.getLogger("some.library").warning("{0} <red>")
    assert event(folder)["message"] == "{0} <red>"


@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
def test_sql_statements_are_never_logged(level: str, tmp_path: Path) -> None:
    logs.configure(tmp_path, json=True, level=level)
    logging.getLogger("sqlalchemy.engine.Engine").info("SELECT 'hunter2'")
    assert (tmp_path / "vmtrak.log").read_text() == ""


def test_a_library_s_broken_message_does_not_break_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(tmp_path, json=True)  # here, since pytest's own handler would raise
    logging.getLogger("some.library").warning("%d", "no number")
    logging.getLogger("some.library").warning("next")
    assert [line["message"] for line in lines(tmp_path / "vmtrak.log")] == ["next"]
    assert "Logging error" in capsys.readouterr().err
