"""Expiry notices over REST, with a real mail server: sent, refused, tried again, told of."""

import threading
import time
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import anyio
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.conftest import SECRET_KEY, Later, Person
from tests.faults.running import access_token, at_once, serving
from tests.mail.server import PostOffice, Wait
from vmtrak import inventory
from vmtrak.access import Scope
from vmtrak.accounts import NewToken, api_tokens
from vmtrak.inventory import NewVM
from vmtrak.notices import Trigger, planning
from vmtrak.settings import Settings
from vmtrak.web import delivering
from vmtrak.web.delivering import deliver

RUN = "/api/dashboard/test-notifications"
NOBODY = 999_999
NOTHING = "Nothing is due that has not been told."
OFF = "Mail is off: set VMTRAK_SMTP_HOST first."


@pytest.fixture
def office() -> Iterator[PostOffice]:
    with PostOffice() as office:
        yield office


@pytest.fixture
def settings(settings: Settings, office: PostOffice) -> Settings:
    mail = {"smtp_host": "127.0.0.1", "smtp_port": office.port}
    return settings.model_copy(update={**mail, "smtp_from": "vmtrak@vmtrak.example"})


@pytest.fixture
def no_mail(app: Starlette) -> None:
    app.state.vmtrak.delivery.rules.senders.clear()


@pytest.fixture
def api(admin: Person) -> TestClient:
    return admin.api


def add_vm(admin: Person, name: str, expiry: date, owner: str | None = None) -> int:
    with admin.database.work(admin.actor) as work:
        return inventory.add(work, NewVM(vm_name=name, expiry_date=expiry, owner=owner)).id


def subscribe(*people: Person) -> None:
    for person in people:
        answer = person.api.put("/api/auth/me", json={"notify_expiry": True})
        assert answer.json()["notify_expiry"] is True


@pytest.fixture
def vms(admin: Person, operator: Person, today: date) -> tuple[int, int]:
    """Two VMs that are due; ada and otto are told of both, Eve of the one that is hers."""
    subscribe(admin, operator)
    hers = add_vm(admin, "web-01", today, "eve@vmtrak.example")
    return hers, add_vm(admin, "web-02", today + timedelta(days=5))


def told(answer: httpx2.Response) -> tuple[bool, str, int, int]:
    body = answer.json()
    assert (answer.status_code, body.keys()) == (200, {"ok", "message", "sent", "failed"}), body
    return body["ok"], body["message"], body["sent"], body["failed"]


def rows(api: TestClient, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"/api/notices{query}").json()["data"]
    return found


@pytest.mark.usefixtures("vms")
def test_a_run_tells_what_it_sent_and_a_second_one_sends_nothing(
    api: TestClient, office: PostOffice
) -> None:
    assert told(api.post(RUN)) == (
        True,
        "3 messages about 2 VMs: 3 sent, 0 failed, 0 waiting",
        3,
        0,
    )
    reached = sorted(mail.recipients for mail in office.received)
    assert reached == [(f"{name}@vmtrak.example",) for name in ("ada", "eve", "otto")]
    assert told(api.post(RUN)) == (True, NOTHING, 0, 0)
    assert len(office.received) == 3


@pytest.mark.usefixtures("vms")
def test_what_a_server_refuses_has_failed_with_its_answer_until_it_is_sent_again(
    api: TestClient, office: PostOffice
) -> None:
    office.refuse["otto@vmtrak.example"] = "550 5.1.1 No such mailbox"
    words = "3 messages about 2 VMs: 2 sent, 1 failed, 0 waiting"
    assert told(api.post(RUN)) == (False, words, 2, 1)
    [failed] = rows(api, "?state=failed")
    assert (failed["recipient"], failed["vms"], failed["attempts"]) == ("otto", 2, 1)
    assert "550" in failed["answer"]
    assert "No such mailbox" in failed["answer"]
    office.refuse.clear()
    again = api.post(f"/api/notices/{failed['id']}/send-again").json()
    assert (again["state"], again["sent_to"]) == ("sent", "otto@vmtrak.example")
    assert [vm["vm_name"] for vm in again["vms_told"]] == ["web-01", "web-02"]
    refused = api.post(f"/api/notices/{failed['id']}/send-again")
    assert (refused.status_code, len(office.to("otto@vmtrak.example"))) == (409, 1)
    assert api.post(f"/api/notices/{NOBODY}/send-again").status_code == 404


@pytest.mark.usefixtures("vms")
def test_all_that_failed_is_sent_again_at_once(api: TestClient, office: PostOffice) -> None:
    for name in ("ada", "otto"):
        office.refuse[f"{name}@vmtrak.example"] = "550 5.1.1 No such mailbox"
    assert told(api.post(RUN))[2:] == (1, 2)
    office.refuse.clear()
    assert api.post("/api/notices/send-again").json() == {"ok": True, "again": 2}
    assert {row["state"] for row in rows(api)} == {"sent", "waiting"}
    api.post(RUN)  # delivers what waits, as the worker does
    assert {row["state"] for row in rows(api)} == {"sent"}
    assert len(office.received) == 3
    assert api.post("/api/notices/send-again").json() == {"ok": True, "again": 0}


@pytest.mark.usefixtures("vms")
def test_while_the_server_is_down_messages_wait_and_nobody_is_told_twice(
    api: TestClient, office: PostOffice, later: Later
) -> None:
    office.stop()
    words = "3 messages about 2 VMs: 0 sent, 0 failed, 3 waiting"
    assert told(api.post(RUN)) == (True, words, 0, 0)
    assert all(row["next_attempt_at"] > row["created_at"] for row in rows(api))
    assert api.get("/api/notices/standing").json()["waiting"] == 3
    office.start()
    later(60)
    assert told(api.post(RUN)) == (True, NOTHING, 0, 0)
    assert len(office.received) == 3
    assert {(row["state"], row["next_attempt_at"]) for row in rows(api)} == {("sent", None)}


@pytest.mark.usefixtures("vms", "no_mail")
def test_while_mail_is_off_notices_are_kept_and_everything_says_so(
    api: TestClient, office: PostOffice
) -> None:
    words = "Mail is off; 3 notices are kept in the panel."
    assert told(api.post(RUN)) == (True, words, 0, 0)
    standing = api.get("/api/notices/standing").json()
    assert (standing["mail"], standing["channels"], standing["kept"]) == (False, [], 3)
    kept = rows(api, "?state=kept")[0]["id"]
    for path in ("/api/notices/test", f"/api/notices/{kept}/send-again"):
        answer = api.post(path)
        assert (answer.status_code, answer.json()["detail"]) == (409, OFF)
    assert api.post("/api/notices/send-again").json()["again"] == 0
    assert office.connections == 0


def test_a_test_message_goes_to_whom_asks_for_it(api: TestClient, office: PostOffice) -> None:
    for body in (None, {}, {"channel": ""}, {"channel": "mail"}):
        row = api.post("/api/notices/test", json=body).json()
        assert (row["kind"], row["state"], row["sent_to"]) == ("test", "sent", "ada@vmtrak.example")
        assert (row["recipient"], row["vms"], row["vms_told"]) == ("ada", 0, [])
    assert len(office.to("ada@vmtrak.example")) == 4
    off = api.post("/api/notices/test", json={"channel": "slack"})
    assert (off.status_code, "VMTRAK_SLACK_URL" in off.json()["detail"]) == (409, True)
    wrong = api.post("/api/notices/test", json={"channel": "pigeon"})
    assert (wrong.status_code, [*wrong.json()["details"]]) == (422, ["channel"])
    assert api.post("/api/notices/test", content=b"[]").status_code == 415
    assert len(rows(api)) == 4


def test_a_test_message_tells_why_it_did_not_go_out(api: TestClient, office: PostOffice) -> None:
    office.refuse["ada@vmtrak.example"] = "550 5.7.1 Not from here"
    refused = api.post("/api/notices/test").json()
    assert (refused["state"], "Not from here" in refused["answer"]) == ("failed", True)
    office.stop()
    waiting = api.post("/api/notices/test").json()
    assert (waiting["state"], waiting["attempts"]) == ("waiting", 1)
    assert waiting["answer"]


def test_what_is_due_is_told_before_it_is_sent(
    api: TestClient, vms: tuple[int, int], today: date, admin: Person
) -> None:
    def due(query: str = "") -> dict[str, Any]:
        found: dict[str, Any] = api.get(f"/api/notices/due{query}").json()
        return found

    found = due()
    assert found["day"] == today.isoformat()
    assert {row["recipient"]: row["vms"] for row in found["data"]} == {
        "ada": 2,
        "otto": 2,
        "eve@vmtrak.example": 1,
    }
    [ada] = [row for row in found["data"] if row["user_id"] == admin.user_id]
    assert ada["groups"] == {"today": 1, "tomorrow": 0, "soon": 1, "overdue": 0}
    assert (ada["first"], ada["channel"]) == (["web-01", "web-02"], "mail")
    api.post(RUN)
    assert due() == {"day": today.isoformat(), "data": []}
    assert rows(api)[0]["run_id"] == 1, "a look is no run"
    tomorrow = due(f"?day={today + timedelta(days=4)}")
    assert [row["first"] for row in tomorrow["data"]] == [["web-02"], ["web-02"]]
    assert vms


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31", "1970-01-01", "2999-02-28"])
def test_no_day_of_the_calendar_is_too_far_to_look_at(
    api: TestClient, admin: Person, day: str
) -> None:
    subscribe(admin)
    with admin.database.work(admin.actor) as work:
        inventory.add(work, NewVM(vm_name="for ever"))
    answer = api.get(f"/api/notices/due?day={day}")
    assert (answer.status_code, answer.json()) == (200, {"day": day, "data": []})


def test_bad_input_is_refused_and_named(api: TestClient) -> None:
    for address, name in (
        ("/api/notices/due?day=2026-02-30", "day"),
        ("/api/notices/due?day=today", "day"),
        ("/api/notices?state=lost", "state"),
        ("/api/notices?channel=pigeon", "channel"),
        ("/api/notices?day=yesterday", "day"),
        ("/api/notices?limit=201", "limit"),
        ("/api/notices?page=0", "page"),
        ("/api/notices?cursor=x", "cursor"),
        ("/api/notices/0", "id"),
        ("/api/notices/x", "id"),
        ("/api/vms/x/notices", "id"),
    ):
        answer = api.get(address)
        assert (address, answer.status_code, [*answer.json()["details"]]) == (address, 422, [name])
    assert api.get(f"/api/notices/{NOBODY}").status_code == 404
    assert api.get("/api/notices?state=&channel=&day=").status_code == 200


@pytest.mark.usefixtures("vms")
def test_the_list_is_newest_first_and_walks_on(api: TestClient, today: date) -> None:
    api.post(RUN)
    everything = rows(api)
    assert [row["id"] for row in everything] == [3, 2, 1]
    first = api.get("/api/notices?limit=2").json()
    assert (first["total"], [row["id"] for row in first["data"]]) == (3, [3, 2])
    rest = api.get(f"/api/notices?limit=2&cursor={first['next']}").json()
    assert ([row["id"] for row in rest["data"]], rest["next"]) == ([1], None)
    assert rows(api, "?limit=2&page=2") == rest["data"]
    assert rows(api, f"?day={today}&channel=mail&state=sent") == everything
    assert rows(api, f"?day={today - timedelta(days=1)}") == []
    one = api.get("/api/notices/1").json()
    assert {name: value for name, value in one.items() if name != "vms_told"} == everything[-1]


def test_of_a_vm_it_is_told_who_was_told(
    api: TestClient,
    vms: tuple[int, int],
    auditor: Person,
    reader: Person,
    operator: Person,
    today: date,
) -> None:
    api.post(RUN)
    of_hers = api.get(f"/api/vms/{vms[0]}/notices").json()
    assert {row["recipient"] for row in of_hers} == {"ada", "otto", "eve@vmtrak.example"}
    assert {(row["notice_type"], row["expiry_date"]) for row in of_hers} == {
        ("0d", today.isoformat())
    }
    for person in (auditor, operator):
        assert person.api.get(f"/api/vms/{vms[0]}/notices").json() == of_hers
    assert reader.api.get(f"/api/vms/{vms[0]}/notices").status_code == 403
    assert api.get(f"/api/vms/{NOBODY}/notices").status_code == 404
    assert api.delete(f"/api/vms/{vms[0]}").status_code == 200
    assert api.get(f"/api/vms/{vms[0]}/notices").status_code == 404


def test_how_notices_stand_is_told_without_names(
    api: TestClient, vms: tuple[int, int], operator: Person, today: date
) -> None:
    before = operator.api.get("/api/notices/standing").json()
    assert (before["mail"], before["last_run"], before["waiting"]) == (True, None, 0)
    api.post(RUN)
    after = operator.api.get("/api/notices/standing").json()
    run = after["last_run"]
    assert (run["day"], run["trigger"], run["started_by"]) == (today.isoformat(), "person", "ada")
    assert (run["vms"], run["messages"]) == (len(vms), 3)


def test_one_turns_ones_own_notices_on_and_off(api: TestClient, reader: Person) -> None:
    turns: tuple[bool | str, ...] = (True, True, False, False, "true")
    for on in turns:
        answer = reader.api.put("/api/auth/me", json={"notify_expiry": on, "role": "admin"})
        shown = answer.json()
        assert (shown["notify_expiry"], shown["role"]) == (on in {True, "true"}, "read")
    events = api.get(f"/api/audit?entity_type=user&entity_id={reader.user_id}").json()["data"]
    changes = [event["detail"] for event in events if event["action"] == "user.update"]
    began, ended = {"from": False, "to": True}, {"from": True, "to": False}
    assert changes == [{"notify_expiry": one} for one in (began, ended, began)]
    for wrong in ({}, {"notify_expiry": None}, {"notify_expiry": ""}, {"notify_expiry": "perhaps"}):
        answer = reader.api.put("/api/auth/me", json=wrong)
        assert (answer.status_code, [*answer.json()["details"]]) == (422, ["notify_expiry"])


LOOKS = ("/api/notices", "/api/notices/due", "/api/notices/1")
DEEDS = (RUN, "/api/notices/test", "/api/notices/send-again", "/api/notices/1/send-again")


def test_no_scope_of_a_token_reaches_notices_but_what_goes_with_reading_vms(
    api: TestClient, admin: Person, anonymous: TestClient, vms: tuple[int, int], office: PostOffice
) -> None:
    new = NewToken(name="everything", scopes=list(Scope))
    with admin.database.work(admin.actor) as work:
        _, secret = api_tokens.add_for(work, admin.user_id, new)
    anonymous.headers["Authorization"] = f"Bearer {secret}"
    refused = [anonymous.get(path) for path in LOOKS] + [anonymous.post(path) for path in DEEDS]
    refused.append(anonymous.put("/api/auth/me", json={"notify_expiry": False}))
    assert {answer.status_code for answer in refused} == {403}
    for path in ("/api/notices/standing", f"/api/vms/{vms[0]}/notices"):
        assert anonymous.get(path).status_code == 200
    assert (rows(api), office.connections) == ([], 0)


def test_a_server_that_answers_slowly_holds_up_no_request_for_long(
    app: Starlette, admin: Person, today: date, vms: tuple[int, int], office: PostOffice
) -> None:
    """Eight at once wait no longer than they may, and each message goes out once."""
    office.next("MAIL", Wait(3))
    state = app.state.vmtrak
    rules = state.delivery.rules
    planning.run_now(state.database, rules, admin.actor, today, Trigger.PERSON)

    async def eight() -> float:
        began = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(deliver, state, 0.5)
        return time.monotonic() - began

    assert anyio.run(eight) < 2
    # The others see at their next look that nobody waits for them any more.
    office.until(lambda: sum(each.name == "delivery" for each in threading.enumerate()) == 1)
    office.until(lambda: len(office.received) >= 1)
    anyio.run(deliver, state)
    assert len(office.received) == len({mail.recipients for mail in office.received}) == 3
    assert vms


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.usefixtures("vms")
def test_scripts_that_ask_at_the_same_moment_send_each_message_once(
    settings: Settings, office: PostOffice
) -> None:
    token = access_token(settings.database_url, "admin")
    mail = {"VMTRAK_SMTP_HOST": "127.0.0.1", "VMTRAK_SMTP_PORT": str(office.port)}
    own = {"VMTRAK_SECRET_KEY": SECRET_KEY, "TZ": str(settings.timezone)}
    with (
        serving(settings.data_dir, **own, **mail) as server,
        server.client(token) as client,
    ):
        answers = at_once(6, lambda _: client.post(RUN))
    assert {answer.status_code for answer in answers} == {200}
    reached = sorted(mail.recipients[0] for mail in office.received)
    assert reached == [f"{name}@vmtrak.example" for name in ("ada", "eve", "otto")]


@pytest.mark.usefixtures("vms")
def test_a_run_that_could_not_plan_for_somebody_says_so_at_every_door(
    api: TestClient, admin: Person, office: PostOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = planning._digest

    def broken(work: Any, rules: Any, run: Any, recipient: Any, vms: Any) -> None:
        if recipient.name == "otto":
            message = "an invented bug"
            raise RuntimeError(message)
        real(work, rules, run, recipient, vms)

    monkeypatch.setattr(planning, "_digest", broken)
    answer = told(api.post(RUN))
    words = "Planning failed for 1 recipient; the log tells why. "
    assert answer == (False, f"{words}2 messages about 2 VMs: 2 sent, 0 failed, 0 waiting", 2, 0)
    assert told(api.post(RUN)) == (False, words + NOTHING, 0, 0)
    panel = admin.panel
    page = panel.get(panel.post("/admin/notice/run").headers["location"])
    assert "Not everything could be planned" in page.text
    monkeypatch.undo()
    assert told(api.post(RUN))[2] == 1
    assert len(office.received) == 3


@pytest.mark.usefixtures("vms")
def test_a_run_that_takes_too_long_goes_on_without_the_request(
    api: TestClient, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "SECONDS", 0.3)
    real, released = planning._tell, threading.Event()

    def slow(*arguments: Any) -> None:
        assert released.wait(20)
        real(*arguments)

    monkeypatch.setattr(planning, "_tell", slow)
    answer = told(api.post(RUN))
    assert answer == (True, f"Planning goes on, and the worker sends the rest. {NOTHING}", 0, 0)
    released.set()
    deadline = time.monotonic() + 20
    while api.get("/api/notices/standing").json()["last_run"]["finished_at"] is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(rows(api)) == 3
