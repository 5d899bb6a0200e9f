"""From VMs that expire to what the channels get: each digest once, whatever goes wrong."""

import threading
from collections import Counter
from datetime import date, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from starlette.applications import Starlette

from tests.conftest import BASE_URL, Later, Person
from tests.webhooks.conftest import SECRET
from tests.webhooks.peer import SECRET_PATH, SECRET_WORDS, Answer, Handler, Peer, Posted
from vmtrak import inventory
from vmtrak.audit import AuditEvent
from vmtrak.channels import Channel
from vmtrak.inventory import NewVM
from vmtrak.notices import Delivery, planning, trials
from vmtrak.notices.models import Message, State, Trigger
from vmtrak.settings import Settings

CHANNELS = (Channel.WEBHOOK, Channel.TEAMS, Channel.SLACK)
DUE = {"now-01": 0, "next-01": 1, "week-01": 7, "late-01": -8}
NOT_DUE = {"far-01": 40, "gone-01": -40}


@pytest.fixture
def settings(settings: Settings, peer: Peer) -> Settings:
    """With all three channels, each at an address of its own, and without mail."""
    urls = {f"{one}_url": SecretStr(f"{peer.url}/{one}") for one in CHANNELS}
    return settings.model_copy(update={**urls, "webhook_secret": SecretStr(SECRET)})


@pytest.fixture
def delivery(app: Starlette) -> Delivery:
    found: Delivery = app.state.vmtrak.delivery
    return found


@pytest.fixture
def numbers(admin: Person, today: date) -> dict[str, int]:
    """VMs that are due, VMs that are not, and one that would be due but is not active."""
    found = {}
    with admin.database.work(admin.actor) as work:
        for name, days in {**DUE, **NOT_DUE, "off-01": 0}.items():
            status = "inactive" if name == "off-01" else "active"
            expiry = today + timedelta(days=days)
            new = {"vm_name": name, "status": status, "expiry_date": expiry}
            found[name] = inventory.add(work, NewVM.model_validate(new)).id
    return found


def run(delivery: Delivery, admin: Person, today: date) -> Counter[State]:
    planning.run_now(delivery.database, delivery.rules, admin.actor, today, Trigger.PERSON)
    return delivery.run(threading.Event(), wait=True)


def to(peer: Peer, channel: Channel) -> list[Posted]:
    return [one for one in peer.posted if one.path == f"{SECRET_PATH}/{channel}"]


def by_channel(admin: Person) -> dict[str, Message]:
    with admin.database.read() as session:
        found = session.scalars(select(Message).where(Message.channel != Channel.MAIL))
        return {one.channel: one for one in found}


def test_each_channel_gets_one_digest_of_all_vms_that_are_due(
    delivery: Delivery, admin: Person, today: date, numbers: dict[str, int], peer: Peer
) -> None:
    for _ in range(2):
        run(delivery, admin, today)
    for channel in CHANNELS:
        [posted] = to(peer, channel)
        told = posted.body.decode()
        assert [name for name in numbers if name in told] == list(DUE)
        for name in DUE:
            assert f"{BASE_URL}/admin/vm/details/{numbers[name]}" in told
    sent = by_channel(admin)
    assert {one.state for one in sent.values()} == {State.SENT}
    assert {one.answer for one in sent.values()} == {"HTTP 200 ok"}


def test_the_links_of_a_digest_lead_where_they_say(
    delivery: Delivery, admin: Person, today: date, numbers: dict[str, int], peer: Peer
) -> None:
    run(delivery, admin, today)
    event: dict[str, Any] = to(peer, Channel.WEBHOOK)[0].json
    panel = admin.panel
    for vm in event["vms"]:
        shown = panel.get(vm["url"].removeprefix(BASE_URL))
        assert shown.status_code == 200
        assert vm["vm_name"] in shown.text
    shown = panel.get(event["url"].removeprefix(BASE_URL))
    assert shown.status_code == 200
    assert {name for name in numbers if f">{name}<" in shown.text} == set(DUE)


def test_what_was_delayed_comes_later_with_the_same_id(
    delivery: Delivery,
    admin: Person,
    today: date,
    numbers: dict[str, int],
    peer: Peer,
    later: Later,
) -> None:
    peer.answers = [Answer(503, b"busy")]
    outcome = run(delivery, admin, today)
    assert (outcome[State.WAITING], outcome[State.SENT]) == (1, 2)
    assert by_channel(admin)["webhook"].answer == "HTTP 503 Service Unavailable: busy"
    later(30)
    assert delivery.run(threading.Event(), wait=True)[State.SENT] == 1
    first, second = to(peer, Channel.WEBHOOK)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


def test_one_channel_that_fails_takes_nothing_from_the_others(
    delivery: Delivery, admin: Person, today: date, numbers: dict[str, int], peer: Peer
) -> None:
    def hang_up(handler: Handler) -> None:
        handler.close_connection = True

    peer.answers = [hang_up, Answer(404, f"no {SECRET_PATH}/teams".encode())]
    run(delivery, admin, today)
    sent = by_channel(admin)
    assert {name: one.state for name, one in sent.items()} == {
        "webhook": State.WAITING,
        "teams": State.FAILED,
        "slack": State.SENT,
    }
    assert str(sent["webhook"].answer).startswith(f"{peer.address}: ")
    assert sent["teams"].answer == "HTTP 404 Not Found: no /•••"


def test_neither_the_outbox_nor_the_trail_holds_an_address(
    delivery: Delivery, admin: Person, today: date, numbers: dict[str, int], peer: Peer
) -> None:
    answer = Answer(400, f"no {SECRET_PATH} here".encode())
    peer.answers = [answer] * 3
    run(delivery, admin, today)
    with admin.database.read() as session:
        kept = [str(vars(one)) for one in session.scalars(select(Message))]
        kept += [str(vars(one)) for one in session.scalars(select(AuditEvent))]
    assert "HTTP 400 Bad Request" in "".join(kept)
    assert [word for word in SECRET_WORDS if word in "".join(kept)] == []


def test_a_test_message_comes_to_the_channel_for_which_it_was_asked(
    delivery: Delivery, admin: Person, peer: Peer
) -> None:
    for channel in CHANNELS:
        with admin.database.work(admin.actor) as work:
            trials.send(work, delivery.rules, channel)
        assert delivery.run(threading.Event(), wait=True) == {State.SENT: 1}
        assert peer.posted[-1].path == f"{SECRET_PATH}/{channel}"
    assert to(peer, Channel.WEBHOOK)[0].json["type"] == "test"
    assert "a test message" in to(peer, Channel.TEAMS)[0].body.decode()
    assert "a test message" in to(peer, Channel.SLACK)[0].body.decode()
