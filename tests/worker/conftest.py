"""Both queues, and a quick clock."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from tests.worker.peers import RedisServer
from vmtrak import worker


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that is not started yet."""
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture(params=["file", "redis"])
def queue_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"sqlite:///{tmp_path / 'queue.db'}"
    server: RedisServer = request.getfixturevalue("redis_server")
    server.start()
    return server.url


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick every second, which is as quick as Huey's scheduler turns."""
    monkeypatch.setattr(worker._Clock, "periodic_task_seconds", 1)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What is logged, traces included; Huey's own words are in `caplog`."""
    lines: list[str] = []
    number = logger.add(lines.append, format="{level} {message}\n{exception}", diagnose=False)
    with caplog.at_level(logging.WARNING, "huey"):
        yield lines
    logger.remove(number)
