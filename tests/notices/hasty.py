"""VMTrak in a hurry, that may be gone at some point: `python -m tests.notices.hasty POINT worker`.

POINT is "never" or one of those below: then a child dies there, and afterwards its parent does the
same without dying. What takes minutes takes seconds there.
"""

import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from vmtrak import cli, worker
from vmtrak.channels.smtp import Mailer
from vmtrak.notices import outbox, planning

POINTS: dict[str, tuple[object, str, int]] = {
    "after a message's row, before those of the log": (planning, "_rows", 1),
    "half way through the recipients": (planning, "_tell", 3),
    "before the run is finished": (planning, "_finish", 1),
    "before the dialogue": (Mailer, "send", 2),
    "after the dialogue, before its outcome is noted": (outbox, "sent", 2),
}
"""Where it dies: instead of the n-th call of that function."""


def dying(where: object, name: str, at: int) -> None:
    real, calls = getattr(where, name), [0]

    def call(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)

    setattr(where, name, call)


def main(point: str, *command: str) -> None:
    setattr(worker._Clock, "periodic_task_seconds", 1)  # noqa: B010 - Huey's classes have no types
    if point in POINTS:
        planning.ABANDONED = outbox.LEASE = timedelta(seconds=3)
        if os.fork() == 0:
            dying(*POINTS[point])
        else:
            _, status = os.wait()
            assert os.WTERMSIG(status) == signal.SIGKILL
    main_command: Callable[..., None] = cli.main
    main_command(command)


if __name__ == "__main__":
    main(*sys.argv[1:])
