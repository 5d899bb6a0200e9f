"""Turns: a few at a time for each key, in order of arrival, within one process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from vmtrak.errors import TooMany


class Turns:
    """Lets `at_once` holders of one key go on together and makes the others wait.

    Whoever comes when `waiting` others of the key wait already is refused with `TooMany`.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._at_once = at_once
        self._most = at_once + waiting
        self._queues: dict[str, anyio.Semaphore] = {}
        self._present: dict[str, int] = {}

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        present = self._present.get(key, 0)
        if present >= self._most:
            raise TooMany(1)
        self._present[key] = present + 1
        queue = self._queues.setdefault(key, anyio.Semaphore(self._at_once))
        try:
            async with queue:
                yield
        finally:
            self._present[key] -= 1
            if not self._present[key]:
                del self._present[key], self._queues[key]
