"""`vmtrak notify`: a day's notices by hand."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date, datetime
from typing import Any

import click

from vmtrak import app, logs, schema
from vmtrak.access import SYSTEM
from vmtrak.channels import Channel
from vmtrak.cli.base import explained, fail, load, main, opened, reachable, told_to_stop
from vmtrak.db import Database, now
from vmtrak.notices import Delivery, Rules, State, Trigger, lists, outcomes, planning
from vmtrak.notices.outcomes import Unsent
from vmtrak.notices.planning import Plan


@main.command()
@click.option(
    "--date",
    "when",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="Tell what is due on that day; without it, today.",
)
@click.option("--dry-run", is_flag=True, help="Only say who would be told of what.")
@explained
def notify(when: datetime | None, *, dry_run: bool) -> None:
    """Plan the notices of VMs that expire and deliver them before it returns."""
    stop = told_to_stop()
    loaded = reachable(load())
    rules = app.notice_rules(loaded)
    logs.configure(loaded.log_dir, level="ERROR")  # what was not sent it prints itself
    day = when.date() if when else rules.schedule.today(now())
    with opened(loaded) as database:
        if dry_run:
            _foretell(database, rules, day)
            return
        _ask(rules, day)
        schema.migrate(database)
        plan = planning.run_now(database, rules, SYSTEM, day, Trigger.COMMAND)
        ended = _delivered(database, rules, plan, stop)
        unsent = _tell_outcome(database, rules, plan, ended)
    if unsent or plan.failed:
        words = "interrupted; " if stop.is_set() else ""
        fail(f"{words}not everything is sent")


def _ask(rules: Rules, day: date) -> None:
    """A mistyped year would use up what people are to be told then."""
    if day == rules.schedule.today(now()) or not sys.stdin.isatty():
        return
    question = f"{day} is not today. What is told now counts as told on that day. Go on?"
    if not click.confirm(question, err=True):
        fail("nothing was planned")


NAMED = 20
"""VMs that a dry run names for each recipient."""


def _foretell(database: Database, rules: Rules, day: date) -> None:
    """Print what a run of the day would send; nothing is written, not even a schema."""
    if schema.current(database) != schema.head():
        fail("the database is not at this version's schema; run vmtrak migrate first")
    with database.read() as session:
        rows = lists.due(session, SYSTEM, rules, day, None, named=NAMED)
    for row in rows:
        click.echo("\n    ".join([_heading(row), *row["first"], *_rest(row)]))
    if not rules.mail_is_on and any(row["channel"] == Channel.MAIL for row in rows):
        click.echo("Mail is off: what is for mail would be kept in the panel.")
    number = f"{len(rows):,}" if rows else "No"
    people = "recipient" if len(rows) == 1 else "recipients"
    click.echo(f"{number} {people} would be told what is due on {day}.")


def _heading(row: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{count:,} {group}" for group, count in row["groups"].items() if count)
    known = row["user_id"] is not None
    address = f" <{row['address']}>" if known else ""
    return f"{row['channel']}  {row['recipient']}{address}: {counts}"


def _rest(row: Mapping[str, Any]) -> list[str]:
    more = row["vms"] - len(row["first"])
    return [f"and {more:,} more"] if more else []


def _delivered(
    database: Database, rules: Rules, plan: Plan, stop: threading.Event
) -> Counter[State]:
    """Deliver in another thread, so that this one shows how far it is and hears signals."""
    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(_deliver, database, rules, plan, stop)
        _show_progress(database, plan, ended)
        return ended.result()


OTHERS = 60
"""Seconds to wait for another process that is sending one of the messages."""


def _deliver(database: Database, rules: Rules, plan: Plan, stop: threading.Event) -> Counter[State]:
    """Deliver what is in the outbox, until nobody has one of the plan's messages in hand."""
    delivery, ended = Delivery(database, rules), Counter[State]()
    patience = time.monotonic() + OTHERS
    while not stop.is_set():
        ended += delivery.run(stop, wait=True)
        with database.read() as session:
            busy = outcomes.in_hand(session, plan, now())
        if not busy or time.monotonic() > patience:
            break
        time.sleep(0.2)
    return ended


def _show_progress(database: Database, plan: Plan, ended: "Future[Counter[State]]") -> None:
    terminal = sys.stderr.isatty() and plan.messages > 0
    with click.progressbar(
        length=plan.messages, label="Sending", file=sys.stderr, hidden=not terminal
    ) as bar:
        while not ended.done():
            time.sleep(0.1)
            if terminal:
                with database.read() as session:
                    outcome = outcomes.of(session, SYSTEM, plan)
                bar.update(plan.messages - outcome.waiting - bar.pos)


def _tell_outcome(
    database: Database, rules: Rules, plan: Plan, ended: Counter[State]
) -> list[Unsent]:
    """Print what became of the run's messages; those that were to be sent and are not."""
    with database.read() as session:
        outcome = outcomes.of(session, SYSTEM, plan)
        unsent = outcomes.unsent(session, SYSTEM, plan)
    for one in unsent:
        click.echo(f"{one.state:<7}  {one.channel}  {one.recipient}: {_why(one, rules)}")
    click.echo(outcome.words)
    earlier = ended[State.SENT] - outcome.sent
    if earlier > 0:
        click.echo(f"Of earlier messages, {earlier:,} {'was' if earlier == 1 else 'were'} sent.")
    return unsent


def _why(one: Unsent, rules: Rules) -> str:
    """The server's answer on one line, and when the message is tried again."""
    words = " ".join((one.answer or "not tried yet").split())
    answer = "".join(each if each.isprintable() else "?" for each in words)
    if one.state is State.FAILED or one.answer is None:
        return answer
    again = one.next_attempt_at.astimezone(rules.schedule.zone)
    return f"{answer}; tried again from {again:%Y-%m-%d %H:%M:%S %Z} on"
