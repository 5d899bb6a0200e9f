"""What docs/operations.md says of webhooks is so: the receiver there works, and the event."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests import services
from tests.webhooks.conftest import SECRET, Open
from tests.webhooks.parcels import line, parcel, trial
from tests.webhooks.peer import Answer, Peer
from vmtrak.channels import Channel, Refused
from vmtrak.channels.webhooks import Hook, Poster, signed
from vmtrak.notices import outbox

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def section() -> str:
    _, found = PAGE.read_text().split("\n## Webhooks, Teams and Slack\n")
    return found.split("\n## ")[0]


def block(kind: str) -> str:
    [found] = re.findall(rf"^```{kind}\n(.*?)^```$", section(), re.MULTILINE | re.DOTALL)
    return str(found)


@contextmanager
def receiver(secret: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The program of the page: its address, and itself."""
    port = services.free_port()
    environment = {**os.environ, "VMTRAK_WEBHOOK_SECRET": secret, "PORT": str(port)}
    command = [sys.executable, "-c", block("python")]
    program = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    url = f"http://127.0.0.1:{port}/"
    try:
        _wait_for(url)
        yield url, program
    finally:
        program.terminate()
        program.wait()
        assert program.stdout
        program.stdout.close()


def _wait_for(url: str) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            assert httpx2.post(url, content=b"{}").status_code == 401
        except httpx2.ConnectError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the receiver does not start")


@pytest.mark.parametrize("secret", [SECRET, "a passphrase of thirty-two bytes, at least"])
def test_the_receiver_takes_what_is_signed_and_does_it_once(secret: str) -> None:
    with receiver(secret) as (url, program):
        sender = Poster(Hook(Channel.WEBHOOK, url, secret))
        for _ in range(2):
            assert sender.send(parcel(line(0, "a"), line(1, "b"))) == "HTTP 200"
        sender.send(parcel(line(0, "c"), uid="f" * 32))
        sender.close()
        program.terminate()
        assert program.stdout
        assert program.stdout.read().splitlines() == [
            "expiry.digest 2026-11-22 ['a', 'b']",
            "expiry.digest 2026-11-22 ['c']",
        ]


def test_the_receiver_refuses_what_is_forged_or_old() -> None:
    body, now = b'{"type":"test"}', int(time.time())
    genuine = signed(SECRET, "x", now, body)
    with receiver(SECRET) as (url, _):
        forged = Poster(Hook(Channel.WEBHOOK, url, "another passphrase of thirty-two bytes"))
        with pytest.raises(Refused, match="HTTP 401"):
            forged.send(trial())
        forged.close()
        for headers, content in (
            (genuine, b'{"type":"Test"}'),
            ({**genuine, "webhook-id": "y"}, body),
            ({**genuine, "webhook-timestamp": str(now + 1)}, body),
            (signed(SECRET, "x", now - 600, body), body),
            ({}, body),
        ):
            assert httpx2.post(url, content=content, headers=headers).status_code == 401


def shape(value: object) -> object:
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    return [shape(value[0])] if isinstance(value, list) else type(value)


def test_an_event_has_the_shape_that_is_shown(poster: Open, peer: Peer) -> None:
    shown = json.loads(block("json"))
    poster(peer.url).send(parcel(line(0, owner="ada@example.org"), more=2))
    sent = peer.posted[0].json
    assert shape(sent) == shape(shown)
    assert list(sent) == list(shown)
    assert shown["total"] == len(shown["vms"]) + shown["more"] == sum(shown["counts"].values())


def test_a_secret_made_as_told_is_taken() -> None:
    done = subprocess.run(
        ["sh", "-c", block("sh")], capture_output=True, text=True, check=True, timeout=20
    )
    headers = signed(done.stdout.strip(), "x", 1, b"")
    assert headers["webhook-signature"].startswith("v1,")


def test_the_pauses_that_are_told_are_those_of_the_outbox() -> None:
    told = "20 seconds, 2, 5, 15 and 30 minutes, 1, 2 and 4 hours"
    assert told in section()
    seconds = [pause.total_seconds() for pause in outbox.PAUSES]
    assert seconds == [20, 120, 300, 900, 1800, 3600, 7200, 14400]


@pytest.mark.parametrize("status", [408, 425, 429])
def test_the_statuses_that_are_told_are_tried_again(status: int, poster: Open, peer: Peer) -> None:
    assert f"{status}" in section()
    peer.answers = [Answer(status)]
    with pytest.raises(Exception, match=rf"^HTTP {status} ") as caught:
        poster(peer.url).send(trial())
    assert type(caught.value).__name__ == "Delayed"
