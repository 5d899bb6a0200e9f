"""Signing in with name and password, for both doors; the cookies; where to go next."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote

import anyio
from pydantic import SecretStr
from starlette.requests import Request

from vmtrak.access import Actor
from vmtrak.accounts import (
    SignIn,
    browsers,
    limits,
    passwords,
    second_factor,
    sessions,
    tickets,
)
from vmtrak.accounts.limits import Attempt
from vmtrak.accounts.tickets import Holder
from vmtrak.db import Work
from vmtrak.errors import CodeRequired, NotAuthenticated, TooMany
from vmtrak.web.cookies import CODE_COOKIE, DEVICE_COOKIE
from vmtrak.web.state import State, actor_of

AFTER_SIGN_IN = "/admin/"

WRONG_CODE = "The code is wrong, has been used, or is too old."
TOO_LATE = "That took too long. Please sign in again."

FLOOR = 0.4
"""Seconds from the start of a check to the answer that it failed. The slowest check that a data
set of VMTrak 1.x asks for, bcrypt at cost 12, takes 0.25 s; argon2id takes 0.04 s, and so does the
check for a name that nobody has. The wait hides which of them it was."""

SLOWED_BY = 1.0
"""Seconds that an attempt waits at an address from which too many have failed."""

RETRIES, PAUSE = 100, 0.1
"""How often, and after how many seconds, an attempt asks whether those before it are over."""

_AROUND = frozenset(
    {
        "/admin/account/prove",
        "/admin/login",
        "/admin/logout",
        "/admin/setup",
        "/admin/link",
        "/admin/microsoft",
        "/admin/microsoft/signed-out",
    }
)
"""The panel's pages that nobody wants to come to after a sign-in."""


@dataclass(frozen=True, slots=True)
class Proven:
    """The password was right. Nothing has come of it yet; `accepted` or `withdrawn` is next.

    `new_hash` is to take the place of `password_hash`, which is of an older kind. `browser` is
    the name under which the browser is known from now on.
    """

    user_id: int
    password: SecretStr
    password_hash: str = field(repr=False)
    new_hash: str | None = field(repr=False)
    attempt: Attempt
    browser: str


@asynccontextmanager
async def guess(
    state: State, visitor: Actor, counter: str, address: str | None = None
) -> AsyncIterator[Attempt]:
    """Admit one try at a secret, after the wait that is due; raises `TooMany` if it may not be.

    Counted as a failure from here on. Whoever looks at the secret calls one of `limits.failed`,
    `succeeded` and `withdrawn`, in a unit of work, before or after leaving; at the latest within
    a minute. `counter` says who is guessed at (`limits.of_session` for somebody who is signed in),
    `address` where from, if that counts.
    """
    weight = 0
    async with AsyncExitStack() as turns:
        if address is not None:
            weight = await turns.enter_async_context(paced(state, visitor, counter, address))
        await turns.enter_async_context(state.guesses.turn(counter))
        await _admitted(state, visitor, counter)
        yield Attempt(counter, address, weight)


@asynccontextmanager
async def paced(
    state: State, visitor: Actor, counter: str | None, address: str
) -> AsyncIterator[int]:
    """Count an attempt at its address, after the wait that is due there; what it weighs."""
    async with AsyncExitStack() as turns:
        weight, slowly = await state.database.writing(_arrived, state, visitor, counter, address)
        if slowly:
            await turns.enter_async_context(state.slowed.turn(address))
            await anyio.sleep(SLOWED_BY)
        yield weight


def _arrived(state: State, visitor: Actor, counter: str | None, address: str) -> tuple[int, bool]:
    with state.database.work(visitor) as work:
        return limits.arrived(work, counter, address)


async def _admitted(state: State, visitor: Actor, counter: str) -> None:
    """Wait while other processes look at attempts that may lock the counter."""
    for _ in range(RETRIES):
        if await state.database.writing(_admit, state, visitor, counter):
            return
        await anyio.sleep(PAUSE)
    raise TooMany(1)


def _admit(state: State, visitor: Actor, counter: str) -> bool:
    with state.database.work(visitor) as work:
        return limits.admit(work, counter)


async def prove(state: State, request: Request, given: SignIn) -> Proven:
    """The user whose password, and whose code if the account needs one, these are.

    Raises `NotAuthenticated`, after the same time and in the same words, for an unknown name, a
    wrong password and a closed account; the failure is on record before the answer. Raises
    `CodeRequired` if the code is still owed, and `TooMany` without a look at the password while
    the name, or the browser, is locked.
    """
    database, visitor = state.database, actor_of(request)
    found = await database.reading(sessions.candidate, database, given.username)
    user_id, password_hash = found or (None, None)
    browser = _browser(state, request, user_id, password_hash)
    counter, address = _counted(state, visitor, user_id, given.username, browser)
    secret = given.password.get_secret_value()
    async with guess(state, visitor, counter, address) as attempt:
        right, began = await passwords.in_thread(_timed, secret, password_hash)
        if not right:
            await database.writing(_failed, state, visitor, attempt, given.username)
    if not right or user_id is None or password_hash is None:
        await anyio.sleep(max(0.0, began + FLOOR - time.monotonic()))
        raise NotAuthenticated(sessions.WRONG)
    new_hash = await passwords.in_thread(passwords.renewed, secret, password_hash)
    name = browser or browsers.named()
    proven = Proven(user_id, given.password, password_hash, new_hash, attempt, name)
    await _second_factor(state, visitor, proven, given)
    return proven


async def holder(state: State, request: Request) -> Holder | None:
    """The user who gave the right password a page before; None if that is too long ago."""
    ticket = request.cookies.get(CODE_COOKIE, "")
    return await state.database.reading(tickets.holder, state.database, state.rules, ticket)


async def prove_code(state: State, request: Request, held: Holder, code: str) -> Proven:
    """The user who gave the right password a page before, and now the code.

    Raises `NotAuthenticated` if the code is wrong, `TooMany` without a look at it while the
    account, or the browser, is locked.
    """
    visitor, user_id, password_hash = actor_of(request), held.user_id, held.password_hash
    browser = _browser(state, request, user_id, password_hash)
    counter, address = _counted(state, visitor, user_id, held.username, browser)
    async with guess(state, visitor, counter, address) as attempt:
        name = browser or browsers.named()
        proven = Proven(user_id, SecretStr(""), password_hash, None, attempt, name)
        right = await state.database.writing(
            _takes_code, state, visitor, proven, held.username, code
        )
    if not right:
        raise NotAuthenticated(WRONG_CODE)
    return proven


async def _second_factor(state: State, visitor: Actor, proven: Proven, given: SignIn) -> None:
    """Raise `CodeRequired` or `NotAuthenticated` unless the account needs no code or this one fits.

    Whoever comes this far knows the password, so that the refusal may speak of the code.
    """
    database = state.database
    if not await database.reading(second_factor.in_force, database, proven.user_id):
        return
    if given.code is None:
        raise CodeRequired(await database.writing(_code_owed, state, visitor, proven))
    code = given.code.get_secret_value()
    if not await database.writing(_takes_code, state, visitor, proven, given.username, code):
        raise NotAuthenticated(WRONG_CODE)


def _code_owed(state: State, visitor: Actor, proven: Proven) -> str:
    """A ticket for the password. It counts as no failure, and forgets none of those before."""
    with state.database.work(visitor) as work:
        _settled(work, proven)
        limits.withdrawn(work, proven.attempt)
    return tickets.issue(state.rules, proven.user_id, proven.new_hash or proven.password_hash)


def _takes_code(state: State, visitor: Actor, proven: Proven, username: str, code: str) -> bool:
    with state.database.work(visitor) as work:
        if second_factor.accepts(work, state.vault.keys, proven.user_id, code):
            return True
        limits.failed(work, proven.attempt)
        sessions.sign_in_failed(work, username, {"by": "code"})
        return False


def _counted(
    state: State, visitor: Actor, user_id: int | None, username: str, browser: str | None
) -> tuple[str, str | None]:
    """The counter of an attempt, and the address if that counts: a known browser has its own."""
    if browser and user_id:
        return limits.of_browser(user_id, browser), None
    counter = limits.of_account(user_id, username, state.rules.secret)
    return counter, limits.of_address(visitor.ip_address)


def _browser(
    state: State, request: Request, user_id: int | None, password_hash: str | None
) -> str | None:
    token = request.cookies.get(DEVICE_COOKIE)
    if not token:
        return None
    # For a name that nobody has, too: how long the reading of a cookie takes would tell them apart.
    return browsers.recognised(state.rules, token, user_id, password_hash)


def _timed(password: str, password_hash: str | None) -> tuple[bool, float]:
    """Whether the password fits, and when the check began: how long it waited tells nothing."""
    began = time.monotonic()
    return passwords.matches(password, password_hash), began


def _failed(state: State, visitor: Actor, attempt: Attempt, username: str) -> None:
    with state.database.work(visitor) as work:
        limits.failed(work, attempt)
        sessions.sign_in_failed(work, username)


def accepted(work: Work, proven: Proven) -> None:
    """Let a right password count, in the unit of work that starts the session, before it does.

    Raises `NotAuthenticated` if another password was set in the meantime.
    """
    _settled(work, proven)
    limits.succeeded(work, proven.attempt)


def _settled(work: Work, proven: Proven) -> None:
    if not passwords.settle(
        work, proven.user_id, proven.password, proven.password_hash, proven.new_hash
    ):
        raise NotAuthenticated(sessions.WRONG)


def own_path(target: str | None) -> str:
    """The address to go on to: one of the panel's own pages, or the first of them."""
    target = target or ""
    path = unquote(target.partition("?")[0])
    own = (
        target.startswith("/admin/")
        and path not in _AROUND
        and target.isprintable()
        # What a browser would shorten or turn round may lead out of the panel.
        and not any(part in path for part in ("//", "\\", "/.", "#"))
    )
    return target if own else AFTER_SIGN_IN


def device(state: State, proven: Proven) -> str:
    """By which the browser is known from now on."""
    password_hash = proven.new_hash or proven.password_hash
    return browsers.issue(state.rules, proven.user_id, password_hash, proven.browser)
