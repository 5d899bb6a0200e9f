"""People and their tokens, from the server's own terminal."""

import sys
from typing import Any

import click

from vmtrak import logs, schema
from vmtrak.access import SYSTEM, Role, Scope
from vmtrak.accounts import NewToken, NewUser, User, api_tokens, links, second_factor, users
from vmtrak.cli.base import explained, load, main, opened, reachable
from vmtrak.db import Work
from vmtrak.errors import NotFound
from vmtrak.fields import parse


@main.group()
def user() -> None:
    """Add people and reset their access."""


@user.command(name="add")
@click.argument("name")
@click.option("--email", required=True)
@click.option("--role", required=True, type=click.Choice([role.value for role in Role]))
@click.option("--department")
@click.option("--password-stdin", is_flag=True, help="Take the password from standard input.")
@explained
def user_add(
    name: str, email: str, role: str, department: str | None, *, password_stdin: bool
) -> None:
    """Add a user and print a one-time set-up link, unless the password is given."""
    given: dict[str, Any] = {
        "username": name,
        "email": email,
        "role": role,
        "department": department,
    }
    if password_stdin:
        given["password"] = sys.stdin.readline().removesuffix("\n")
    new = parse(NewUser, given)
    loaded = reachable(load())
    logs.configure(loaded.log_dir, level="WARNING")
    with opened(loaded) as database:
        schema.migrate(database)
        with database.work(SYSTEM) as work:
            made = users.add(work, new)
            if password_stdin:
                made.must_change_password = False
                link = None
            else:
                work.flush()
                link = users.link_address(loaded.base_url, links.make(work, "setup", made.id))
    click.echo(link or f"{name} can sign in.")


def _named(work: Work, name: str) -> User:
    found = users.named(work.session, name)
    if found is None:
        message = f"There is no user {name!r}."
        raise NotFound(message)
    return found


@user.command(name="reset")
@click.argument("name")
@click.option("--second-factor", "factor", is_flag=True, help="Take that away, too.")
@explained
def user_reset(name: str, *, factor: bool) -> None:
    """End a user's sessions, take the password away and print a new set-up link."""
    loaded = reachable(load())
    logs.configure(loaded.log_dir, level="WARNING")
    with opened(loaded) as database:
        schema.migrate(database)
        with database.work(SYSTEM) as work:
            found, token = users.reset_link(work, _named(work, name).id)
            if factor:
                second_factor.reset(work, found.id)
    click.echo(users.link_address(loaded.base_url, token))


@main.group(name="token")
def token_group() -> None:
    """Make API tokens for scripts."""


@token_group.command(name="add")
@click.argument("name")
@click.option("--user", "username", required=True, help="Whose token it is.")
@click.option(
    "--scope",
    "scopes",
    required=True,
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What it may do; can be given more than once.",
)
@click.option("--days", default=90, show_default=True, type=click.IntRange(1, 365))
@click.option(
    "--network",
    "networks",
    multiple=True,
    help="From where it works (192.0.2.0/24); can be given more than once. Without: from anywhere.",
)
@explained
def token_add(
    name: str, username: str, scopes: tuple[str, ...], days: int, networks: tuple[str, ...]
) -> None:
    """Make an API token and print it, this once."""
    given = {"name": name, "scopes": scopes, "expires_in_days": days, "allowed_networks": networks}
    new = parse(NewToken, given)
    loaded = load()
    logs.configure(loaded.log_dir, level="WARNING")
    with opened(loaded) as database:
        schema.migrate(database)
        with database.work(SYSTEM) as work:
            _, secret = api_tokens.add_for(work, _named(work, username).id, new)
    click.echo(secret)
