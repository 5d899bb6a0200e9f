"""VMTrak that is gone in the middle of a reveal: `python -m tests.credentials.dying WHEN serve …`.

WHEN is "before" the commit or "after" it.
"""

import os
import signal
import sys
from collections.abc import Mapping

from vmtrak import logs
from vmtrak.cli import main
from vmtrak.credentials import reveals


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_after_reveal(event: Mapping[str, object]) -> None:
    """The audit file gets its line between the commit and the answer."""
    if event["action"] == "credential.reveal":
        die()


if __name__ == "__main__":
    when, *arguments = sys.argv[1:]
    if when == "before":
        reveals._count = die
    else:
        logs.audit_line = die_after_reveal
    main(arguments)
