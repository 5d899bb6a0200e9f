"""Delivers what is in the outbox, one message at a time over one connection for each channel."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from loguru import logger

from vmtrak import db
from vmtrak.access import SYSTEM
from vmtrak.channels import (
    Channel,
    Delayed,
    Digest,
    Parcel,
    Refused,
    Sender,
    Unreachable,
    subject,
)
from vmtrak.db import Database, Work
from vmtrak.errors import Unavailable
from vmtrak.notices import digests, outbox
from vmtrak.notices.digests import Letter
from vmtrak.notices.models import Message, State
from vmtrak.notices.recipients import is_address
from vmtrak.notices.rules import Rules

PAUSES = (0.5, 1, 2, 4, 8)
"""Seconds between the tries to write down what became of a message."""

_MOMENT = 0.1
"""Seconds between two looks whether it is worth while to go on waiting."""


def _locks() -> dict[Channel, threading.Lock]:
    return {channel: threading.Lock() for channel in Channel}


@dataclass(frozen=True, slots=True)
class Delivery:
    """Safe to share between threads: in one process one of them delivers over each channel."""

    database: Database
    rules: Rules
    busy: dict[Channel, threading.Lock] = field(default_factory=_locks)
    ending: threading.Event = field(default_factory=threading.Event)
    """Set at the end of the program: no other message is begun."""

    def run(self, stopping: threading.Event, *, wait: bool = False) -> Counter[State]:
        """Try every message whose time has come; how many ended in which state.

        A channel over which another thread delivers is left to it, unless this one is to `wait`
        for its turn. So a slow mail server does not hold up the other channels.
        """
        outcome: Counter[State] = Counter()
        for channel in self._due():
            if channel not in self.rules.senders:
                with self.database.work(SYSTEM) as work:
                    outcome[State.KEPT] += outbox.shelve(work, channel)
            elif self._has_turn(channel, stopping, wait=wait):
                try:
                    self._channel(channel, stopping, outcome)
                finally:
                    self.busy[channel].release()
        return outcome

    def finish(self, patience: float) -> None:
        """Begin no other message, and wait so many seconds for what is being sent."""
        self.ending.set()
        deadline = time.monotonic() + patience
        for lock in self.busy.values():
            if lock.acquire(timeout=max(deadline - time.monotonic(), 0)):
                lock.release()

    def _due(self) -> list[Channel]:
        with self.database.read() as session:
            due = outbox.due_channels(session, db.now())
        return [channel for channel in Channel if channel in due]

    def _has_turn(self, channel: Channel, stopping: threading.Event, *, wait: bool) -> bool:
        """Whether it is this thread's turn; nobody waits for it once `stopping` is set."""
        while not self.busy[channel].acquire(timeout=_MOMENT):
            if not wait or stopping.is_set():
                return False
        return True

    def _channel(
        self, channel: Channel, stopping: threading.Event, outcome: Counter[State]
    ) -> None:
        sender: Sender | None = None
        try:
            while not stopping.is_set() and not self.ending.is_set():
                with self.database.work(SYSTEM) as work:
                    message = outbox.claim(work, channel)
                if message is None:
                    break
                sender = sender or self.rules.senders[channel]()
                outcome[self._deliver(sender, message)] += 1
        finally:
            if sender is not None:
                sender.close()

    def _deliver(self, sender: Sender, message: Message) -> State:
        """Try one message, and note what became of it before anything else is tried."""
        try:
            letter = self._letter(message)
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - a bug in one message must not hold up the others
            return self._stumbled(message)
        return self._send(sender, message, letter)

    def _letter(self, message: Message) -> Letter:
        today = self.rules.schedule.today(db.now())
        with self.database.read() as session:
            if not self.database.sqlite:  # whose reads see one snapshot anyway
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            return digests.letter(session, self.rules, message, today)

    def _stumbled(self, message: Message) -> State:
        logger.exception("message {} could not be made or sent", message.id)
        words = "An error within VMTrak; its log tells more."
        return self._noted(partial(outbox.delayed, message=message, answer=words))

    def _send(self, sender: Sender, message: Message, letter: Letter) -> State:
        if letter.content is None:
            return self._noted(partial(outbox.dropped, message=message, untold=letter.untold))
        parcel = Parcel(message.uid, letter.address, letter.content, self.rules.base_url)
        message.subject, message.sent_to = subject(letter.content), letter.address
        message.vms = letter.content.total if isinstance(letter.content, Digest) else 0
        try:
            answer = _sent(sender, message.channel, parcel)
        except (Refused, Delayed, Unreachable) as error:
            words = "message {} was not sent over {}: {}"
            logger.warning(words, message.id, message.channel, error)
            note = partial(_NOTES[type(error)], answer=str(error))
        except Exception:  # noqa: BLE001 - as above
            return self._stumbled(message)
        else:
            note = partial(outbox.sent, answer=answer, untold=letter.untold)
        return self._noted(partial(note, message=message))

    def _noted(self, note: Callable[[Work], State]) -> State:
        """Write down what became of a message; what is not written down is sent again."""
        for pause in PAUSES:
            try:
                with self.database.work(SYSTEM) as work:
                    return note(work)
            except Unavailable:
                logger.warning("the outcome of a message is not on record yet; trying again")
                time.sleep(pause)
        with self.database.work(SYSTEM) as work:
            return note(work)


_NOTES: Mapping[type[Exception], Callable[..., State]] = {
    Refused: outbox.refused,
    Delayed: outbox.delayed,
    Unreachable: outbox.unreachable,
}


def _sent(sender: Sender, channel: str, parcel: Parcel) -> str:
    if channel == Channel.MAIL and not is_address(parcel.address):
        raise Refused("Their account has no address to which mail can go.")
    return sender.send(parcel)
