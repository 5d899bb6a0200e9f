"""Step-up: showing again who is there, before what takes more than being signed in.

An API token belongs to no session and never gets past `require`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import SecretStr

from vmtrak import audit
from vmtrak.access import Actor, Permission
from vmtrak.accounts import ProofOfIdentity, User, limits, passwords, second_factor, sessions
from vmtrak.accounts.limits import Attempt
from vmtrak.audit import Action
from vmtrak.db import Work
from vmtrak.errors import Conflict, Invalid
from vmtrak.web import sign_in
from vmtrak.web.state import State

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a person can prove who they are: a code or the password.

    `here` is False for those who do it at the provider.
    """

    here: bool
    code: bool
    password_hash: str | None = field(repr=False)

    @property
    def name(self) -> str:
        """The field of `ProofOfIdentity` that is wanted."""
        return "code" if self.code else "password"


def wanted(state: State, actor: Actor) -> Wanted:
    """What the actor would have to show."""
    actor.require(Permission.ACCOUNT)
    with state.database.read() as session:
        user = session.get_one(User, actor.user_id)
    return Wanted(user.sign_in_method == "local", user.has_second_factor, user.password_hash)


async def prove(
    state: State, actor: Actor, given: ProofOfIdentity, renew: Callable[[Work], R]
) -> R:
    """Check the proof and go on in a new session, which `renew` makes; returns what it does.

    Raises `Invalid` for a wrong proof, which counts and is on record before the answer, `TooMany`
    after too many of them, `Conflict` for somebody who signs in over the provider.
    """
    want = await state.database.reading(wanted, state, actor)
    if not want.here:
        message = "You sign in over the provider; prove there who you are."
        raise Conflict(message)
    shown = given.code if want.code else given.password
    if shown is None:
        raise Invalid({want.name: ["is required"]})
    async with sign_in.guess(state, actor, limits.of_session(actor)) as attempt:
        right = want.code or await passwords.in_thread(
            passwords.matches, shown.get_secret_value(), want.password_hash
        )
        done = await state.database.writing(
            _settle, state, actor, attempt, want, shown, renew, right=right
        )
    if done is None:
        raise Invalid({want.name: [second_factor.WRONG if want.code else "is wrong"]})
    return done[0]


def _settle(  # noqa: PLR0913, PLR0917 - what one unit of work needs
    state: State,
    actor: Actor,
    attempt: Attempt,
    want: Wanted,
    shown: SecretStr,
    renew: Callable[[Work], R],
    *,
    right: bool,
) -> tuple[R] | None:
    with state.database.work(actor) as work:
        if not (right and _fits(work, state, want, shown)):
            limits.failed(work, attempt)
            _record(work, Action.PROOF_FAILED, want)
            return None
        limits.succeeded(work, attempt)
        _record(work, Action.PROVED, want)
        sessions.proved(work)
        return (renew(work),)


def _fits(work: Work, state: State, want: Wanted, shown: SecretStr) -> bool:
    """Whether the code counts, or the password that was right a moment ago still is."""
    user_id = work.actor.user_id or 0
    if want.code:
        return second_factor.accepts(work, state.vault.keys, user_id, shown.get_secret_value())
    return passwords.settle(work, user_id, shown, want.password_hash or "", None)


def _record(work: Work, action: Action, want: Wanted) -> None:
    actor = work.actor
    audit.record(
        work,
        action,
        entity_type="auth",
        entity_id=actor.user_id,
        entity_name=actor.username,
        detail={"by": want.name},
    )
