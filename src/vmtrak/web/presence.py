"""When sessions, API tokens and calendar addresses were used last, written down in batches.

A write for each request would make every reader wait for the one writer; a write for each
`EVERY` seconds tells people the same.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import anyio
from loguru import logger

from vmtrak.access import SYSTEM, Actor
from vmtrak.accounts import api_tokens, calendar_feeds, sessions
from vmtrak.accounts.sessions import Sighting
from vmtrak.db import Database, now
from vmtrak.errors import VmtrakError

EVERY = 15
"""Seconds; a process that is killed forgets no more than this."""


class Presence:
    """Collects who was there; `kept` writes it down as long as the application lives."""

    def __init__(self) -> None:
        self._sessions: dict[int, Sighting] = {}
        self._tokens: dict[int, Sighting] = {}
        self._feeds: dict[int, datetime] = {}

    def note(self, actor: Actor) -> None:
        seen = Sighting(now(), actor.ip_address)
        if actor.token_id is not None:
            self._tokens[actor.token_id] = seen
        elif actor.session_id is not None:
            self._sessions[actor.session_id] = seen

    def note_feed(self, feed_id: int) -> None:
        self._feeds[feed_id] = now()

    def write(self, database: Database) -> None:
        """Write down what was collected; what cannot be written now is kept for the next time."""
        of_sessions, self._sessions = self._sessions, {}
        of_tokens, self._tokens = self._tokens, {}
        of_feeds, self._feeds = self._feeds, {}
        if not of_sessions and not of_tokens and not of_feeds:
            return
        try:
            with database.work(SYSTEM) as work:
                sessions.note_seen(work, of_sessions)
                api_tokens.note_used(work, of_tokens)
                calendar_feeds.note_used(work, of_feeds)
        except VmtrakError as error:
            self._sessions = of_sessions | self._sessions
            self._tokens = of_tokens | self._tokens
            self._feeds = of_feeds | self._feeds
            logger.warning("cannot write down who was there: {}", error)

    @asynccontextmanager
    async def kept(self, database: Database) -> AsyncIterator[None]:
        """Write every `EVERY` seconds while the body runs, and once more at its end."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write_again_and_again, database)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
        self.write(database)

    async def _write_again_and_again(self, database: Database) -> None:
        while True:
            await anyio.sleep(EVERY)
            try:
                await database.writing(self.write, database)
            except VmtrakError as error:
                logger.warning("cannot write down who was there: {}", error)
            except Exception:  # noqa: BLE001 - a bug here is no reason to stop serving
                logger.exception("writing down who was there failed")
