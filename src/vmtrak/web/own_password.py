"""Changing one's own password, for both doors: the present one is asked for, and tries count."""

from collections.abc import Callable
from typing import TypeVar

from vmtrak import audit
from vmtrak.access import Actor, Permission
from vmtrak.accounts import PasswordChange, User, limits, passwords, sessions, users
from vmtrak.accounts.limits import Attempt
from vmtrak.audit import Action
from vmtrak.db import Work
from vmtrak.errors import Forbidden, Invalid
from vmtrak.web import sign_in
from vmtrak.web.state import State

R = TypeVar("R")


async def change(
    state: State, actor: Actor, wanted: PasswordChange, renew: Callable[[Work], R]
) -> R:
    """Change the actor's password and go on in a new session, which `renew` makes.

    Raises `Invalid` for a wrong present password, which counts and is on record before the
    answer, and `TooMany` after too many of them.
    """
    database, secret = state.database, wanted.current_password.get_secret_value()
    present = await database.reading(_present, state, actor)
    async with sign_in.guess(state, actor, limits.of_session(actor)) as attempt:
        if not await passwords.in_thread(passwords.matches, secret, present):
            await database.writing(_failed, state, actor, attempt)
            raise Invalid({"current_password": [users.NOT_PRESENT]})
        try:
            return await database.writing(_changed, state, actor, attempt, wanted, present, renew)
        except Invalid:  # it is the new one that will not do
            await database.writing(_withdrawn, state, actor, attempt)
            raise


def _present(state: State, actor: Actor) -> str | None:
    actor.require(Permission.ACCOUNT)
    with state.database.read() as session:
        user = session.get_one(User, actor.user_id)
    if user.sign_in_method != "local":
        raise Forbidden(users.KEPT_ELSEWHERE)
    return user.password_hash


def _failed(state: State, actor: Actor, attempt: Attempt) -> None:
    with state.database.work(actor) as work:
        limits.failed(work, attempt)
        audit.record(
            work,
            Action.PROOF_FAILED,
            entity_type="auth",
            entity_id=actor.user_id,
            entity_name=actor.username,
            detail={"by": "password"},
        )


def _changed(  # noqa: PLR0913, PLR0917 - what one unit of work needs
    state: State,
    actor: Actor,
    attempt: Attempt,
    wanted: PasswordChange,
    present: str | None,
    renew: Callable[[Work], R],
) -> R:
    with state.database.work(actor) as work:
        user = users.change_password(work, wanted, present)
        limits.succeeded(work, attempt)
        if not user.has_second_factor:  # who has one has not shown it here
            sessions.proved(work)
        return renew(work)


def _withdrawn(state: State, actor: Actor, attempt: Attempt) -> None:
    with state.database.work(actor) as work:
        limits.withdrawn(work, attempt)
