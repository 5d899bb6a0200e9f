"""Delivers what is in the outbox, one message at a time over one connection for each channel."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from loguru import logger

from vmtrak import db
from vmtrak.access import SYSTEM
from vmtrak.channels import Channel, Delayed, Parcel, Refused, Sender, Unreachable, subject
from vmtrak.db import Database, Work
from vmtrak.errors import Unavailable
from vmtrak.notices import digests, outbox
from vmtrak.notices.digests import Letter
from vmtrak.notices.models import Message, State
from vmtrak.notices.rules import Rules

PAUSES = (0.5, 1, 2, 4, 8)
"""Seconds between the tries to write down what became of a message."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Safe to share between threads: in one process one of them delivers at a time."""

    database: Database
    rules: Rules
    busy: threading.Lock = field(default_factory=threading.Lock)

    def run(self, stopping: threading.Event, *, wait: bool = False) -> Counter[State]:
        """Try every message whose time has come; how many ended in which state.

        While another thread is at it, this one does nothing unless it is to `wait` for its turn.
        """
        outcome: Counter[State] = Counter()
        if not self.busy.acquire(blocking=wait):
            return outcome
        try:
            for channel in self.rules.senders:
                self._channel(channel, stopping, outcome)
        finally:
            self.busy.release()
        return outcome

    def _channel(
        self, channel: Channel, stopping: threading.Event, outcome: Counter[State]
    ) -> None:
        sender: Sender | None = None
        try:
            while not stopping.is_set():
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
        today = self.rules.schedule.today(db.now())
        with self.database.read() as session:
            letter = digests.letter(session, self.rules, message, today)
        return self._send(sender, message, letter)

    def _send(self, sender: Sender, message: Message, letter: Letter) -> State:
        if letter.content is None:
            return self._noted(partial(outbox.dropped, message=message, untold=letter.untold))
        parcel = Parcel(message.uid, letter.address, letter.content, self.rules.base_url)
        message.subject, message.sent_to = subject(letter.content), letter.address
        try:
            answer = sender.send(parcel)
        except Refused as error:
            note = partial(outbox.refused, answer=str(error))
        except Delayed as error:
            note = partial(outbox.delayed, answer=str(error))
        except Unreachable as error:
            note = partial(outbox.unreachable, answer=str(error))
        except Exception:  # noqa: BLE001 - a bug in one message must not hold up the others
            logger.exception("message {} could not be made or sent", message.id)
            note = partial(outbox.delayed, answer="An error within VMTrak; its log tells more.")
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
