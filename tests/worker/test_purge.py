"""What has expired is taken out by a job, once an hour, whichever queue carries it."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from tests.conftest import Later, Person
from tests.worker.peers import done_at, until, working
from vmtrak import worker
from vmtrak.access import SYSTEM
from vmtrak.accounts import actors, links
from vmtrak.accounts.models import OneTimeLink, RefreshToken, SignedIn
from vmtrak.db import Base, Database, Work
from vmtrak.worker import Job

DAY = 86_400


def count(database: Database, model: type[Base]) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


@pytest.mark.usefixtures("quick")
def test_what_has_expired_goes_and_what_lives_stays(
    operator: Person, database: Database, database_url: str, queue_url: str, later: Later
) -> None:
    old = operator.api
    assert old.get("/api/auth/me").status_code == 200
    with database.work(SYSTEM) as work:
        links.make(work, "setup", operator.user_id)
    later(30 * DAY)
    living = operator.panel
    kinds = (SignedIn, RefreshToken, OneTimeLink)
    assert [count(database, kind) for kind in kinds] == [2, 1, 1]
    with working(database_url, queue_url):
        until(lambda: done_at(database))
    assert [count(database, kind) for kind in kinds] == [1, 0, 0]
    assert living.get("/admin/").status_code == 200


@pytest.mark.usefixtures("quick")
def test_it_is_done_again_when_the_hour_is_over_and_not_before(
    database: Database,
    database_url: str,
    queue_url: str,
    later: Later,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticks = []

    def tick(work: Work) -> bool:
        ticks.append(work)
        return False

    monkeypatch.setattr(worker, "JOBS", (*worker.JOBS, Job("tick", timedelta(0), tick)))
    with working(database_url, queue_url):
        until(lambda: ticks)
        first = done_at(database)
    later(3_500)
    ticks.clear()
    with working(database_url, queue_url):
        until(lambda: len(ticks) > 1)
        assert done_at(database) == first is not None
        later(100)
        until(lambda: done_at(database) != first)


@pytest.mark.usefixtures("quick")
def test_more_than_fits_into_one_unit_of_work_goes_in_several(
    operator: Person,
    database: Database,
    database_url: str,
    queue_url: str,
    later: Later,
    told: list[str],
) -> None:
    with database.work(actors.visitor("127.0.0.1", None)) as work:
        for _ in range(1_100):
            links.make(work, "setup", operator.user_id)
    later(30 * DAY)
    with working(database_url, queue_url):
        until(lambda: done_at(database))
    assert count(database, OneTimeLink) == 0
    assert sum("purged" in line for line in told) == 3
