"""How many sessions one user can have at a time."""

from sqlalchemy import func, select

from tests.conftest import Later, Person
from vmtrak.accounts import SignedIn, actors, sessions


def test_the_session_not_seen_for_longest_makes_room(operator: Person, later: Later) -> None:
    oldest = operator.panel
    later(60)
    for _ in range(sessions.MOST - 1):
        with operator.database.work(actors.visitor("127.0.0.1", None)) as work:
            sessions.sign_in_panel(work, operator.user_id, "tests")
    assert oldest.get("/admin/").status_code == 200
    later(60)
    assert operator.api.get("/api/auth/me").status_code == 200
    assert oldest.get("/admin/").status_code == 303
    with operator.database.read() as session:
        living = select(func.count()).where(SignedIn.ended_at.is_(None))
        assert session.scalar(living.select_from(SignedIn)) == sessions.MOST
