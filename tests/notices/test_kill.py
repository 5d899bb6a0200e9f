"""A worker killed with SIGKILL: its successor tells everybody what they have not been told."""

from pathlib import Path

import pytest

from tests.mail.server import PostOffice
from tests.notices.hasty import POINTS
from tests.notices.programs import copies, fill, once_each, until_all_is_out, worker
from vmtrak.db import Database

UNNOTED = "after the dialogue, before its outcome is noted"


KILLS = [(point, "sqlite") for point in POINTS] + [(UNNOTED, "postgresql")]


@pytest.mark.parametrize(("point", "database_url"), KILLS, indirect=["database_url"])
def test_killed_anywhere_each_person_is_told_once(
    database: Database, database_url: str, tmp_path: Path, point: str
) -> None:
    fill(database)
    queue_url = f"sqlite:///{tmp_path / 'queue.db'}"
    with PostOffice() as office:
        with worker(tmp_path, office, database_url, queue_url, point):
            until_all_is_out(database)
        told = copies(office)
        numbers = {mail.message_id for mail in office.received}
    repeated = [count for count in told.values() if count > 1]
    assert told.keys() == once_each().keys()
    assert len(numbers) == len(told)
    assert repeated == ([2] if point == UNNOTED else [])
