"""Tokens by client credentials: how long they are kept, and what is told of failures."""

import json
import threading
from collections.abc import Iterator

import pytest

from tests.mail.tokens import CLIENT_SECRET, Provider, running
from tests.services import free_port
from vmtrak.channels import Unreachable, tokens
from vmtrak.channels.tokens import Grant, Tokens


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running() as provider:
        yield provider


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept(provider: Provider, clock: Clock) -> Tokens:
    return Tokens(provider.grant, clock)


def refusal(kept: Tokens) -> str:
    with pytest.raises(Unreachable) as caught:
        kept.get()
    words = str(caught.value)
    assert words.isprintable()
    return words.partition("/token: ")[2]


def test_a_token_is_used_until_two_minutes_before_its_end(kept: Tokens, clock: Clock) -> None:
    assert (kept.get(), kept.get()) == ("t1", "t1")
    clock.now += 3600 - 121
    assert kept.get() == "t1"
    clock.now += 1
    assert kept.get() == "t2"


@pytest.mark.parametrize("life", ["3600", 3600.0])
def test_the_life_of_a_token_may_be_written_in_several_ways(
    provider: Provider, kept: Tokens, clock: Clock, life: object
) -> None:
    provider.life = life
    kept.get()
    clock.now += 3400
    assert kept.get() == "t1"


@pytest.mark.parametrize("life", [None, "soon", [], 10, -1, float("nan")])
def test_a_token_whose_life_is_short_or_not_told_is_good_for_now(
    provider: Provider, kept: Tokens, clock: Clock, life: object
) -> None:
    provider.life = life
    assert kept.get() == "t1"
    clock.now += 301
    assert kept.get() == "t2"


def test_a_token_that_is_forgotten_is_fetched_again(kept: Tokens) -> None:
    known = [kept.kept]
    kept.get()
    known.append(kept.kept)
    kept.forget()
    known.append(kept.kept)
    assert known == [False, True, False]
    assert kept.get() == "t2"


def test_what_the_provider_says_is_told_without_the_secret(
    provider: Provider, kept: Tokens
) -> None:
    told = f"AADSTS7000215: Invalid client secret.\r\nTrace ID: 1 \x1b[31m {CLIENT_SECRET}"
    provider.status = 401
    provider.answer = json.dumps({"error": "invalid_client", "error_description": told}).encode()
    assert refusal(kept) == (
        "invalid_client: AADSTS7000215: Invalid client secret. Trace ID: 1 ?[31m •••"
    )


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (500, b"<html>oops", "HTTP status 500"),
        (302, b"", "HTTP status 302"),
        (400, b'{"error": 7}', "HTTP status 400"),
        (200, b"no JSON", "the answer holds no token"),
        (200, b"[]", "the answer holds no token"),
        (200, b'{"access_token": 7}', "the answer holds no token"),
        (200, b'{"access_token": "a b"}', "the answer holds no token"),
        (200, b'{"access_token": "a\\u0001auth"}', "the answer holds no token"),
        (200, b"[" * 60_000, "the answer holds no token"),
        (200, b"x" * 70_000, "the answer cannot be read"),
    ],
)
def test_an_answer_that_is_none_is_told_as_such(
    provider: Provider, kept: Tokens, status: int, answer: bytes, words: str
) -> None:
    provider.status, provider.answer = status, answer
    assert refusal(kept) == words


def test_no_redirect_is_followed(provider: Provider, kept: Tokens) -> None:
    provider.status, provider.headers = 307, {"Location": "/elsewhere"}
    assert refusal(kept) == "HTTP status 307"
    assert len(provider.asked) == 1


def test_a_provider_that_is_away_is_told_as_such() -> None:
    url = f"http://127.0.0.1:{free_port()}/token"
    assert "connection" in refusal(Tokens(Grant(url, "a", "b", "c"))).lower()


def test_a_provider_that_is_silent_is_given_up(
    provider: Provider, kept: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.silent = threading.Event()
    monkeypatch.setattr(tokens, "PATIENCE", 0.3)
    assert refusal(kept) == "no whole answer within 0.3 seconds"


def test_a_grant_does_not_show_its_secret(provider: Provider) -> None:
    assert CLIENT_SECRET not in repr(provider.grant)
