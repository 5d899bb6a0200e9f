"""`vmtrak notify`: who is told, what is printed, and how it ends; with a real mail server."""

import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from click.testing import Result
from sqlalchemy import func, select, update

from tests.conftest import SECRET_KEY
from tests.faults.running import (
    PROGRAM,
    START_SECONDS,
    STOP_SECONDS,
    ask,
    at_once,
    environment,
    run,
    serving,
)
from tests.mail.server import PostOffice, Wait
from vmtrak import inventory
from vmtrak.access import SYSTEM
from vmtrak.accounts import UserPatch, users
from vmtrak.db import Database, now
from vmtrak.inventory import NewVM
from vmtrak.notices import Message, NoticeRun, NotificationLog

TODAY = datetime.now(ZoneInfo("Asia/Kolkata")).date()
PEOPLE = ("ada", "otto")
NOTHING = "Nothing is due that has not been told.\n"

Notify = Callable[..., Result]


@pytest.fixture
def office() -> Iterator[PostOffice]:
    with PostOffice() as office:
        yield office


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """One in which ada and otto want to know, and nothing is due."""
    with closing(Database(database_url)) as database:
        with database.work(SYSTEM) as work:
            for name in PEOPLE:
                user = users.named(work.session, name)
                assert user is not None
                users.change(work, user.id, UserPatch(notify_expiry=True))
        yield database


def where(database: Database, office: PostOffice | None) -> dict[str, str]:
    url = database.url.render_as_string(hide_password=False)
    mail = {
        "VMTRAK_SMTP_HOST": "127.0.0.1",
        "VMTRAK_SMTP_PORT": str(office.port if office else 0),
        "VMTRAK_SMTP_FROM": "vmtrak@vmtrak.example",
    }
    own = {"VMTRAK_DATABASE_URL": url, "VMTRAK_SECRET_KEY": SECRET_KEY, "TZ": "Asia/Kolkata"}
    return own | (mail if office else {})


@pytest.fixture
def notify(database: Database, office: PostOffice, tmp_path: Path) -> Notify:
    def call(*options: str) -> Result:
        return ask(tmp_path, "notify", *options, **where(database, office))

    return call


def add_vm(database: Database, name: str, days: int | None, owner: str | None = None) -> None:
    expiry = None if days is None else TODAY + timedelta(days=days)
    with database.work(SYSTEM) as work:
        inventory.add(work, NewVM(vm_name=name, expiry_date=expiry, owner=owner))


def rows(database: Database) -> tuple[int, ...]:
    with database.read() as session:
        tables = (NoticeRun, Message, NotificationLog)
        return tuple(session.scalar(select(func.count()).select_from(one)) or 0 for one in tables)


def reached(office: PostOffice) -> list[str]:
    return sorted(mail.recipients[0] for mail in office.received)


def test_it_sends_before_it_returns_and_a_second_time_nothing(
    database: Database, notify: Notify, office: PostOffice
) -> None:
    add_vm(database, "web-01", 0, "eve@vmtrak.example")
    add_vm(database, "web-02", 5)
    said = notify()
    assert (said.exit_code, said.stderr) == (0, "")
    assert said.stdout == "3 messages about 2 VMs: 3 sent, 0 failed, 0 waiting\n"
    assert reached(office) == [f"{name}@vmtrak.example" for name in ("ada", "eve", "otto")]
    again = notify()
    assert (again.exit_code, again.stdout, len(office.received)) == (0, NOTHING, 3)
    with database.read() as session:
        runs = session.execute(select(NoticeRun.trigger, NoticeRun.started_by, NoticeRun.day)).all()
    assert [tuple(row) for row in runs] == [("command", "system", TODAY)] * 2


def test_where_nothing_is_due_it_says_so(notify: Notify, office: PostOffice) -> None:
    said = notify()
    assert (said.exit_code, said.stdout, office.connections) == (0, NOTHING, 0)
    assert notify("--dry-run").stdout == f"No recipients would be told what is due on {TODAY}.\n"


def test_a_dry_run_names_everybody_and_changes_nothing(
    database: Database, notify: Notify, office: PostOffice
) -> None:
    for n in range(22):
        add_vm(database, f"web-{n:02}", 3)
    add_vm(database, "db-01", 0, "eve@vmtrak.example")
    add_vm(database, "db-02", -10)
    said = notify("--dry-run")
    assert (said.exit_code, said.stderr) == (0, "")
    lines = said.stdout.splitlines()
    assert lines[0] == "mail  ada <ada@vmtrak.example>: 1 today, 22 soon, 1 overdue"
    assert lines[1:3] == ["    db-01", "    web-00"]
    assert lines[21] == "    and 4 more"
    assert lines[22] == "mail  otto <otto@vmtrak.example>: 1 today, 22 soon, 1 overdue"
    assert lines[44:46] == ["mail  eve@vmtrak.example: 1 today", "    db-01"]
    assert lines[46:] == [f"3 recipients would be told what is due on {TODAY}."]
    assert (rows(database), office.connections) == ((0, 0, 0), 0)


def test_who_is_refused_is_named_with_the_servers_answer(
    database: Database, notify: Notify, office: PostOffice
) -> None:
    add_vm(database, "web-01", 1)
    office.refuse["ada@vmtrak.example"] = "550 5.1.1 No such mailbox"
    said = notify()
    assert said.exit_code == 1
    failed, summary = said.stdout.splitlines()
    assert failed.startswith("failed   mail  ada: ")
    assert "No such mailbox" in failed
    assert summary == "2 messages about 1 VM: 1 sent, 1 failed, 0 waiting"
    assert said.stderr == "vmtrak: not everything is sent\n"
    assert reached(office) == ["otto@vmtrak.example"]


def test_while_the_server_is_down_it_says_when_it_is_tried_again(
    database: Database, notify: Notify, office: PostOffice
) -> None:
    add_vm(database, "web-01", 1)
    office.stop()
    said = notify()
    assert said.exit_code == 1
    *waiting, summary = said.stdout.splitlines()
    assert summary == "2 messages about 1 VM: 0 sent, 0 failed, 2 waiting"
    for line, name in zip(waiting, PEOPLE, strict=True):
        assert line.startswith(f"waiting  mail  {name}: ")
        assert f"; tried again from {TODAY:%Y}-" in line
        assert line.endswith(" IST on")
    office.start()
    with database.work(SYSTEM) as work:
        work.session.execute(update(Message).values(next_attempt_at=now()))
    again = notify()
    assert (again.exit_code, again.stdout) == (
        0,
        f"{NOTHING}Of earlier messages, 2 were sent.\n",
    )
    assert reached(office) == [f"{name}@vmtrak.example" for name in PEOPLE]


def test_while_mail_is_off_notices_are_kept(database: Database, tmp_path: Path) -> None:
    add_vm(database, "web-01", 1)
    look = ask(tmp_path, "notify", "--dry-run", **where(database, None))
    assert "Mail is off: what is for mail would be kept in the panel.\n" in look.stdout
    said = ask(tmp_path, "notify", **where(database, None))
    assert (said.exit_code, said.stdout) == (0, "Mail is off; 2 notices are kept in the panel.\n")


def test_the_notices_of_another_day_tell_the_days_that_are_left_today(
    database: Database, notify: Notify, office: PostOffice
) -> None:
    add_vm(database, "web-01", 9)
    assert notify().stdout == NOTHING
    later = str(TODAY + timedelta(days=2))
    assert "ada <ada@vmtrak.example>: 1 soon" in notify("--date", later, "--dry-run").stdout
    assert notify("--date", later).stdout.startswith("2 messages about 1 VM: 2 sent")
    text = office.received[0].message.get_body(("plain",))
    assert text is not None
    assert "in 9 days" in text.get_content()
    assert notify("--date", later).stdout == NOTHING


@pytest.mark.parametrize("day", [date.min, date.max])
def test_no_day_is_too_far_and_what_never_expires_is_never_told(
    database: Database, notify: Notify, day: date
) -> None:
    add_vm(database, "for ever", None)
    for option in ("--dry-run", "--date"):
        said = notify("--date", day.isoformat(), *([option] if option == "--dry-run" else []))
        assert said.exit_code == 0
    assert rows(database) == (1, 0, 0)


def test_a_dry_run_does_not_migrate(tmp_path: Path) -> None:
    said = ask(tmp_path, "notify", "--dry-run")
    assert (said.exit_code, said.stdout) == (1, "")
    assert "run vmtrak migrate first" in said.stderr


def test_two_at_the_same_moment_and_a_server_send_each_message_once(
    database: Database, office: PostOffice, tmp_path: Path
) -> None:
    for n in range(12):
        add_vm(database, f"web-{n:02}", 2, f"owner-{n}@vmtrak.example")
    own = where(database, office)
    with serving(tmp_path, **own):
        done = at_once(2, lambda _: run(tmp_path, "notify", **own))
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 2
    office.wait_for(14)
    assert len(reached(office)) == len(set(reached(office))) == 14


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_between_two_messages(
    database: Database, office: PostOffice, tmp_path: Path, number: signal.Signals
) -> None:
    add_vm(database, "web-01", 1)
    office.next("DOT", Wait(1))
    own = where(database, office)
    process = subprocess.Popen(
        [PROGRAM, "notify"],
        env=environment(tmp_path, **own),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        office.wait_for(1, START_SECONDS)
        process.send_signal(number)
        said, wrong = process.communicate(timeout=STOP_SECONDS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1
    assert said.splitlines() == [
        "waiting  mail  otto: not tried yet",
        "2 messages about 1 VM: 1 sent, 0 failed, 1 waiting",
    ]
    assert wrong == "vmtrak: interrupted; not everything is sent\n"
    assert ask(tmp_path, "notify", **own).stdout == f"{NOTHING}Of earlier messages, 1 was sent.\n"
    assert reached(office) == [f"{name}@vmtrak.example" for name in PEOPLE]


def test_on_a_terminal_another_day_is_asked_for_first(
    database: Database, office: PostOffice, tmp_path: Path
) -> None:
    add_vm(database, "one", 3)
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "wb", buffering=0) as terminal, os.fdopen(theirs, "rb") as given:
        terminal.write(b"n\n")
        ended = subprocess.run(
            [PROGRAM, "notify", "--date", (TODAY + timedelta(days=2)).isoformat()],
            env=environment(tmp_path, **where(database, office)),
            cwd=tmp_path,
            stdin=given,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
    assert ended.returncode == 1
    assert "is not today" in ended.stderr
    assert "nothing was planned" in ended.stderr
    assert office.received == []
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(NoticeRun)) == 0
