"""Revealing a password, the same way at both doors: first on record, then shown."""

from vmtrak import credentials
from vmtrak.access import Actor
from vmtrak.credentials import RevealRequest, Which
from vmtrak.errors import TooMany
from vmtrak.web.state import State


def reveal(state: State, actor: Actor, which: Which, asked: RevealRequest) -> str:
    """The password, once the event that tells of it is committed. Raises as the operation does."""
    with state.database.work(actor) as work:
        outcome = credentials.reveal(work, state.vault, which, asked)
    if isinstance(outcome, TooMany):
        raise outcome
    return outcome
