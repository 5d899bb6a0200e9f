"""There is always an administrator, also when two of them fall out."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError

import pytest
from sqlalchemy import select

from tests.conftest import Person
from vmtrak.access import Actor, Role
from vmtrak.accounts import User, UserPatch, users
from vmtrak.errors import Conflict, Unavailable


def demote(who: Person, actor: Actor, number: int) -> bool:
    try:
        with who.database.work(actor) as work:
            users.change(work, number, UserPatch(role=Role.READ))
    except (Conflict, Unavailable):
        return False
    return True


def test_the_last_administrator_stays(admin: Person) -> None:
    client, path = admin.api, f"/api/users/{admin.user_id}"
    for answer in (
        client.put(path, json={"role": "read"}),
        client.put(path, json={"is_active": False}),
        client.delete(path),
        admin.panel.post(f"/admin/user/deactivate/{admin.user_id}"),
        admin.panel.post("/admin/user/delete", data={"pk": str(admin.user_id)}),
    ):
        assert answer.status_code == 409
    assert client.get("/api/users").status_code == 200


def test_two_administrators_cannot_demote_each_other_at_once(
    admin: Person, operator: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    with admin.database.work(admin.actor) as work:
        users.change(work, operator.user_id, UserPatch(role=Role.ADMIN))
    both, keep = Barrier(2, timeout=0.5), users._keep_an_admin

    def wait_for_the_other(*arguments: object) -> None:
        with suppress(BrokenBarrierError):  # the other waits for a lock, as it should
            both.wait()
        keep(*arguments)  # type: ignore[arg-type]  # handed through as they came

    monkeypatch.setattr(users, "_keep_an_admin", wait_for_the_other)
    pairs = [(admin.actor, operator.user_id), (operator.actor, admin.user_id)]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda pair: demote(admin, *pair), pairs))
    assert sorted(done) == [False, True]
    with admin.database.read() as session:
        left = [user.role for user in session.scalars(select(User))]
    assert left.count(Role.ADMIN) == 1
