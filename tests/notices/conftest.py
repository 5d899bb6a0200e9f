"""A scene on each database."""

import pytest

from tests.notices.scene import Clock, Scene
from vmtrak.db import Database


@pytest.fixture
def scene(database: Database, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Half past eight on a Monday morning; mail goes to a post that keeps it."""
    clock = Clock()
    clock.rule(monkeypatch)
    return Scene.on(database, clock)
