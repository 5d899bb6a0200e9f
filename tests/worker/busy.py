"""VMTrak with one job that takes long: it says when it has begun, waits, and writes.

python -m tests.worker.busy FOLDER SECONDS GRACE serve --port 0
"""

import sys
import time
from datetime import timedelta
from pathlib import Path

from sqlalchemy import text

from vmtrak import cli, worker
from vmtrak.db import Work
from vmtrak.worker import Job


def main(folder: Path, seconds: int, grace: int, *command: str) -> None:
    def step(work: Work) -> bool:
        work.session.execute(text("DELETE FROM sessions"))
        (folder / "begun").touch()
        time.sleep(seconds)
        return False

    worker.JOBS = (Job("purge", timedelta(hours=1), step),)
    cli.serving.GRACE_SECONDS = grace
    cli.main(command)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
