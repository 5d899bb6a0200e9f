"""Alerts to administrators: posted once, read by one for all, unread ones first."""

from collections.abc import Callable

import pytest

from tests.conftest import Person
from vmtrak import alerts
from vmtrak.access import SYSTEM
from vmtrak.alerts import AlertQuery
from vmtrak.db import Database
from vmtrak.errors import Forbidden, Invalid, NotFound

Post = Callable[..., None]


@pytest.fixture
def post(database: Database) -> Post:
    def post(*texts: str, address: str | None = "/admin/user/seen/1") -> None:
        with database.work(SYSTEM) as work:
            for text in texts:
                alerts.post(work, kind="test", key=f"test:{text}", text=text, address=address)

    return post


def listed(person: Person, **query: object) -> list[tuple[str, str | None]]:
    """The texts of a page, and who read them."""
    asked = AlertQuery.model_validate(query)
    with person.database.read() as session:
        rows = alerts.page(session, person.actor, asked).rows
    return [(row["text"], row["read_by"]) for row in rows]


def number(person: Person, text: str) -> int:
    with person.database.read() as session:
        rows = alerts.page(session, person.actor, AlertQuery()).rows
    return next(int(row["id"]) for row in rows if row["text"] == text)


def unread(person: Person) -> int:
    with person.database.read() as session:
        return alerts.unread(session, person.actor)


@pytest.mark.parametrize("door", ["panel", "rest"])
def test_a_alert_that_is_read_goes_behind_the_unread_ones(
    door: str, admin: Person, post: Post
) -> None:
    post("first", "second", "third")
    assert listed(admin) == [("third", None), ("second", None), ("first", None)]
    kind, client = ("/admin/alert", admin.panel) if door == "panel" else ("", admin.api)
    address = f"/read/{number(admin, 'second')}"
    if door == "rest":
        address = f"/api/alerts/{number(admin, 'second')}/read"
    assert client.post(kind + address).status_code == (303 if door == "panel" else 200)
    assert listed(admin) == [("third", None), ("first", None), ("second", "ada")]
    assert unread(admin) == 2
    client.post("/admin/alert/read-all" if door == "panel" else "/api/alerts/read-all")
    assert listed(admin) == [("third", "ada"), ("second", "ada"), ("first", "ada")]
    assert unread(admin) == 0


def test_who_read_it_first_stays(admin: Person, post: Post) -> None:
    post("once")
    with admin.database.work(SYSTEM) as work:
        alerts.read(work, number(admin, "once"))
    with admin.database.work(admin.actor) as work:
        alerts.read(work, number(admin, "once"))
        assert alerts.read_all(work) == 0
    assert listed(admin) == [("once", "system")]


def test_the_same_is_told_once(admin: Person, post: Post) -> None:
    post("again")
    post("again")
    assert listed(admin) == [("again", None)]


def test_pages_and_cursors_walk_through_both_parts(admin: Person, post: Post) -> None:
    post(*(f"n{n}" for n in range(7)))
    for n in (1, 4, 6):
        with admin.database.work(admin.actor) as work:
            alerts.read(work, number(admin, f"n{n}"))
    expected = ["n5", "n3", "n2", "n0", "n6", "n4", "n1"]
    for limit in range(1, 8):
        by_page, by_cursor = [], []
        for page in range(1, 8):
            by_page += [text for text, _ in listed(admin, page=page, limit=limit)]
        cursor = None
        while True:
            found = admin.api.get(
                "/api/alerts", params={"limit": limit, **({"cursor": cursor} if cursor else {})}
            ).json()
            assert (found["total"], found["limit"]) == (7, limit)
            by_cursor += [row["text"] for row in found["data"]]
            cursor = found["next"]
            if cursor is None:
                break
        assert by_page == by_cursor == expected


def test_either_part_can_be_asked_for(admin: Person, post: Post) -> None:
    post("a", "b", "c")
    with admin.database.work(admin.actor) as work:
        alerts.read(work, number(admin, "b"))
    for query, texts in (("true", ["c", "a"]), ("false", ["b"]), ("", ["c", "a", "b"])):
        answer = admin.api.get(f"/api/alerts?unread={query}").json()
        assert [row["text"] for row in answer["data"]] == texts
        assert answer["total"] == len(texts)
    answer = admin.api.get("/api/alerts?unread=true&limit=1").json()
    more = admin.api.get(f"/api/alerts?unread=true&limit=1&cursor={answer['next']}").json()
    assert [row["text"] for row in more["data"]] == ["a"]
    assert more["next"] is None


@pytest.mark.parametrize("cursor", ["1", "new-", "new-0", "read-1e3", "other-1", "new-²"])
def test_a_foreign_cursor_is_refused(cursor: str, admin: Person) -> None:
    with admin.database.read() as session, pytest.raises(Invalid):
        alerts.page(session, admin.actor, AlertQuery(cursor=cursor))


def test_only_administrators_see_and_read_them(
    admin: Person, operator: Person, auditor: Person, post: Post
) -> None:
    post("Somebody is curious.")
    for person in (operator, auditor):
        with admin.database.read() as session:
            for ask in (alerts.unread, alerts.newest):
                with pytest.raises(Forbidden):
                    ask(session, person.actor)
            with pytest.raises(Forbidden):
                alerts.page(session, person.actor, AlertQuery())
        for change in (lambda work: alerts.read(work, 1), alerts.read_all):
            with admin.database.work(person.actor) as work, pytest.raises(Forbidden):
                change(work)
        page = person.panel.get("/admin/").text
        assert "curious" not in page
        assert "/admin/alert/list" not in page
    with admin.database.work(admin.actor) as work, pytest.raises(NotFound):
        alerts.read(work, 999_999)
    assert unread(admin) == 1


def test_the_dashboard_and_the_menu_say_how_many_wait(admin: Person, post: Post) -> None:
    page = admin.panel.get("/admin/").text
    assert "rail-count" not in page
    assert "To the alerts" not in page
    post("The first <script>.")
    page = admin.panel.get("/admin/").text
    assert '<span class="rail-count">1<span class="unseen"> unread</span></span>' in page
    assert '<a href="/admin/user/seen/1"><bdi>The first &lt;script&gt;.</bdi></a>' in page
    post("Another.", address=None)
    page = admin.panel.get("/admin/").text
    assert "<bdi>Another.</bdi>" in page
    assert "And 1 more alert<" in page
    admin.panel.post("/admin/alert/read-all")
    assert "rail-count" not in admin.panel.get("/admin/vm/list").text


def test_the_list_escapes_what_a_alert_says(admin: Person, post: Post) -> None:
    post('"><img src=x onerror=alert(1)>', "\u202eevil")
    page = admin.panel.get("/admin/alert/list").text
    assert "<img" not in page.partition("<main")[2]
    assert "<bdi>\u202eevil</bdi>" in page
