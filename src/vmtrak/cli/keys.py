"""`vmtrak rekey`: other keys for what is sealed."""

import sys
import threading
from collections.abc import Iterable, Mapping

import click

from vmtrak import keys, logs, schema
from vmtrak.cli.base import explained, fail, load, main, opened, ring_of, told_to_stop
from vmtrak.db import Database
from vmtrak.keys import GivingUp, Rekeying, Use
from vmtrak.sealing import KeyRing
from vmtrak.settings import Settings


@main.command()
@click.option(
    "--give-up",
    "lost",
    multiple=True,
    metavar="KEY_ID",
    help="Instead, destroy what this key sealed, which is lost; can be given more than once.",
)
@click.option("--yes", is_flag=True, help="Give up without asking.")
@explained
def rekey(lost: tuple[str, ...], *, yes: bool) -> None:
    """Seal all passwords and second factors with the key ring's first key, beside a live server."""
    if lost:
        _give_up(lost, yes=yes)
    elif yes:
        message = "--yes goes with --give-up."
        raise click.UsageError(message)
    else:
        _rekey()


def _rekey() -> None:
    stop = told_to_stop()
    loaded = load()
    logs.configure(loaded.log_dir, level="WARNING")
    with opened(loaded) as database:
        schema.migrate(database)
        ring = ring_of(loaded, database)
        run = Rekeying(database, ring)
        done = _worked_off(run, stop, "Sealing anew")
        finished = _tell_standing(loaded, database, ring)
    if stop.is_set() and not finished:
        fail(f"interrupted after {done:,} of {run.rows:,} rows; run it again for the rest")
    if run.damaged:
        fail(f"altered or moved, so that they do not open: {', '.join(run.damaged)}")
    if not finished:
        fail("others hold some rows, or go on sealing with an earlier key; run it again")


def _worked_off(run: Rekeying | GivingUp, stop: threading.Event, label: str) -> int:
    """Do batches to the end or until a signal; how many rows that were."""
    done, terminal = 0, sys.stderr.isatty()
    with click.progressbar(
        length=run.rows, label=label, file=sys.stderr, hidden=not terminal
    ) as bar:
        for rows in run.batches():
            done += rows
            bar.update(rows)
            if stop.is_set():
                break
    return done


def _tell_standing(loaded: Settings, database: Database, ring: KeyRing) -> bool:
    """Print what each key seals; whether only the first one seals anything."""
    with database.read() as session:
        standing, unfit = keys.standing(session, ring), keys.faults(session, ring)
    for _, words in standing:
        click.echo(words)
    for words in unfit:  # another process came with another ring meanwhile
        click.echo(f"{loaded.ring_name} {words}")
    return not unfit and all(well for well, _ in standing)


def _give_up(lost: Iterable[str], *, yes: bool) -> None:
    """Destroy what the lost keys sealed. It takes no key, so it works without any ring."""
    loaded = load()
    logs.configure(loaded.log_dir, level="WARNING")
    with opened(loaded) as database:
        schema.migrate(database)
        held = [key_id for key_id, _ in loaded.sealing_keys()] if loaded.has_ring else []
        sealed = _sealed_with(database, held, lost)
        _ask(sealed, yes=yes)
        stop = told_to_stop()  # from here on: who is asked may end it with Ctrl-C
        run = GivingUp(database, sealed)
        done = _worked_off(run, stop, "Destroying")
    if done < run.rows and stop.is_set():
        fail(f"interrupted after {done:,} of {run.rows:,} rows; run it again for the rest")
    for key_id, use in sealed.items():
        click.echo(f"{key_id} is given up: {use} destroyed")


def _sealed_with(database: Database, held: Iterable[str], lost: Iterable[str]) -> dict[str, Use]:
    """What each of the lost keys seals; refuses those that are in the ring or seal nothing."""
    with database.read() as session:
        used = keys.in_use(session)
    for key_id in lost:
        if key_id in held:
            message = f"The key {key_id!r} is in the key ring; run vmtrak rekey without --give-up."
            raise click.UsageError(message)
        if key_id not in used:
            message = f"The key {key_id!r} seals nothing; there is nothing to give up."
            raise click.UsageError(message)
    return {key_id: used[key_id] for key_id in lost}


def _ask(sealed: Mapping[str, Use], *, yes: bool) -> None:
    if yes:
        return
    much = ", and ".join(f"{use} that the key {key_id!r} sealed" for key_id, use in sealed.items())
    question = f"Destroy {much}? They cannot be read again."
    if not sys.stdin.isatty():
        message = f"{question} Without a terminal, --yes says so."
        raise click.UsageError(message)
    if not click.confirm(question, err=True):
        fail("nothing was destroyed")
