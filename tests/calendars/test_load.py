"""A calendar of very many VMs keeps nobody from using VMTrak, however often it is asked for."""

import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import UTC, date, datetime
from typing import Any

import anyio
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.calendars.conftest import AddVM, made, names
from tests.conftest import BASE_URL, Person
from vmtrak import inventory
from vmtrak.channels.calendars import Calendar, Expiry
from vmtrak.inventory import VMPatch
from vmtrak.web.calendars import Texts


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """In which threads texts and tags are made, by what is made."""
    seen: dict[str, list[str]] = {"text": [], "tag": []}
    text, tag = Calendar.text, vars(Calendar)["tag"].fget

    def noted_text(calendar: Calendar) -> bytes:
        seen["text"].append(threading.current_thread().name)
        return text(calendar)

    def noted_tag(calendar: Calendar) -> str:
        seen["tag"].append(threading.current_thread().name)
        return str(tag(calendar))

    monkeypatch.setattr(Calendar, "text", noted_text)
    monkeypatch.setattr(Calendar, "tag", property(noted_tag))
    return seen


def test_no_text_is_written_for_who_has_it_or_wants_only_the_headers(
    add_vm: AddVM, operator: Person, program: TestClient, threads: dict[str, list[str]]
) -> None:
    add_vm("web-01")
    where = made(operator)
    head = program.head(where)
    known = program.get(where, headers={"If-None-Match": head.headers["etag"]})
    assert (head.status_code, known.status_code) == (200, 304)
    assert "content-length" not in head.headers
    assert threads["text"] == []
    assert program.get(where).headers["etag"] == head.headers["etag"]
    assert len(threads["text"]) == 1


def test_neither_text_nor_tag_is_made_where_requests_are_taken(
    operator: Person, program: TestClient, threads: dict[str, list[str]]
) -> None:
    program.get(made(operator))
    assert (len(threads["text"]), len(threads["tag"])) == (1, 1)
    made_in = threads["text"] + threads["tag"]
    assert all(name.startswith("AnyIO worker thread") for name in made_in)


def test_people_who_see_the_same_share_one_text_until_something_changes(
    add_vm: AddVM,
    operator: Person,
    auditor: Person,
    reader: Person,
    program: TestClient,
    threads: dict[str, list[str]],
) -> None:
    number = add_vm("web-01", owner="otto")
    everything, alike, own = made(operator), made(auditor), made(reader)
    for _ in range(2):
        assert names(program, everything) == names(program, alike) == ["web-01"]
        assert names(program, own) == []
    assert len(threads["text"]) == 2
    with operator.database.work(operator.actor) as work:
        inventory.change(work, number, VMPatch(vm_name="web-02"))
    assert names(program, everything) == ["web-02"]
    assert len(threads["text"]) == 3


def test_of_many_requests_for_one_address_few_wait_and_the_others_are_told_to_come_back(
    app: Starlette, add_vm: AddVM, operator: Person, auditor: Person
) -> None:
    add_vm("web-01")
    flooded, other = made(operator), made(auditor)
    answers: list[httpx2.Response] = []

    async def flood() -> None:
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(base_url=BASE_URL, transport=transport) as client:

            async def ask(method: str, where: str) -> None:
                answers.append(await client.request(method, where))

            await together(ask, [("HEAD", flooded), ("GET", flooded)] * 6 + [("GET", other)])
            said = Counter((one.request.url.path, one.status_code) for one in answers)
            assert said == {(flooded, 200): 5, (flooded, 429): 7, (other, 200): 1}
            assert (await client.get(flooded)).status_code == 200

    anyio.run(flood)
    refused = [one for one in answers if one.status_code == 429]
    assert {one.headers["retry-after"] for one in refused} == {"1"}


async def together(
    call: Callable[[str, str], Coroutine[Any, Any, None]], arguments: list[tuple[str, str]]
) -> None:
    async with anyio.create_task_group() as group:
        for each in arguments:
            group.start_soon(call, *each)


def calendar_of(number: int) -> Calendar:
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    vm = Expiry(number, "x" * 100, None, None, None, None, date(2027, 1, 1), moment, 1)
    return Calendar("x", BASE_URL, (vm,))


def test_kept_texts_take_no_more_room_than_they_may(threads: dict[str, list[str]]) -> None:
    size = len(calendar_of(1).text())
    texts = Texts(most=2 * size)
    threads["text"].clear()

    async def written(number: int) -> bool:
        before = len(threads["text"])
        text = await texts.of(calendar_of(number), str(number))
        assert f"UID:vm-{number}@".encode() in text
        return len(threads["text"]) > before

    async def ask() -> list[bool]:
        return [await written(number) for number in (1, 2, 1, 3, 1, 2)]

    assert anyio.run(ask) == [True, True, False, True, False, True]


def test_a_text_that_is_too_large_to_be_kept_is_given_all_the_same() -> None:
    one = calendar_of(1)
    assert anyio.run(Texts(most=10).of, one, one.tag) == one.text()
