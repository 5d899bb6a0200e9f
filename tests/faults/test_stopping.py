"""Told to stop, or killed, in the middle of the work: what was confirmed is there afterwards."""

import json
import shutil
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from tests.conftest import SECRET_KEY
from tests.faults.running import Server, access_token, serving

THREADS = 6
ENOUGH = 60
"""Confirmed VMs after which the signal comes."""


@dataclass
class Load:
    """Threads that add VMs until the server is gone."""

    server: Server
    token: str
    confirmed: dict[int, str] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)
    enough: threading.Event = field(default_factory=threading.Event)

    def work(self, index: int) -> None:
        with self.server.client(self.token) as client:
            for step in range(100_000):
                try:
                    answer = client.post("/api/vms", json={"vm_name": f"vm-{index}-{step}"})
                except httpx2.TransportError:  # what then is stored was not answered: it shows
                    return
                self.note(answer)

    def note(self, answer: httpx2.Response) -> None:
        if answer.status_code == 201:
            row = answer.json()
            self.confirmed[row["id"]] = row["vm_name"]
        else:
            self.odd.append(f"{answer.status_code} {answer.text}")
        if len(self.confirmed) >= ENOUGH:
            self.enough.set()


@contextmanager
def load(server: Server, token: str) -> Iterator[Load]:
    made = Load(server, token)
    threads = [threading.Thread(target=made.work, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        assert made.enough.wait(60)
        yield made
    finally:
        server.end()
        for thread in threads:
            thread.join()


@pytest.fixture
def token(sqlite_template: Path, tmp_path: Path) -> str:
    shutil.copy(sqlite_template, tmp_path / "inventory.db")
    return access_token(f"sqlite:///{tmp_path / 'inventory.db'}")


def stored(file: Path) -> tuple[dict[int, str], dict[int, str], dict[int, str]]:
    """The VMs, the names in their audit events, the names in the search index: by number."""
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        vms = dict(connection.execute("SELECT id, vm_name FROM vms"))
        [[tally]] = connection.execute("SELECT sum(n) FROM vm_tally WHERE dimension = 'all'")
        assert tally == len(vms)
        return (
            vms,
            dict(
                connection.execute(
                    "SELECT entity_id, entity_name FROM audit_events WHERE action = 'vm.create'"
                )
            ),
            dict(
                connection.execute(
                    "SELECT s.rowid, v.vm_name FROM vm_search AS s JOIN vms AS v ON v.id = s.rowid "
                    "WHERE vm_search MATCH '\"vm-\"'"
                )
            ),
        )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_answers_what_is_in_flight_and_leaves_one_whole_file(
    token: str, tmp_path: Path, number: signal.Signals
) -> None:
    with serving(tmp_path, VMTRAK_SECRET_KEY=SECRET_KEY) as server, load(server, token) as made:
        assert server.stop(number) == 0
    assert made.odd == []
    log = tmp_path / "inventory.db-wal"
    assert not log.exists() or log.stat().st_size == 0
    alone = tmp_path / "copy.db"
    shutil.copy(tmp_path / "inventory.db", alone)
    vms, events, found = stored(alone)
    assert vms == made.confirmed == events == found
    assert "Traceback" not in server.errors


def test_killed_it_has_kept_everything_that_it_confirmed(token: str, tmp_path: Path) -> None:
    with serving(tmp_path, VMTRAK_SECRET_KEY=SECRET_KEY) as server, load(server, token) as made:
        server.process.kill()
        server.process.wait()
    with serving(tmp_path, VMTRAK_SECRET_KEY=SECRET_KEY) as again, again.client(token) as client:
        total = client.get("/api/vms").json()["total"]
        assert client.post("/api/vms", json={"vm_name": "after"}).status_code == 201
        assert again.stop() == 0
    vms, events, _ = stored(tmp_path / "inventory.db")
    after = max(vms)
    assert vms == events
    assert made.confirmed.items() <= vms.items()
    assert total == len(vms) - 1
    assert after > max(made.confirmed)
    written = [json.loads(line) for line in (tmp_path / "logs/audit.log").read_text().splitlines()]
    told = {line["entity_id"]: line["entity_name"] for line in written}
    assert told.items() <= events.items()
    assert made.confirmed.items() <= told.items()


def test_a_second_server_on_the_same_folder_shares_the_work(token: str, tmp_path: Path) -> None:
    with (
        serving(tmp_path, VMTRAK_SECRET_KEY=SECRET_KEY) as one,
        serving(tmp_path, VMTRAK_SECRET_KEY=SECRET_KEY) as two,
        one.client(token) as here,
        two.client(token) as there,
    ):
        made = here.post("/api/vms", json={"vm_name": "web-01"}).json()
        assert there.get(f"/api/vms/{made['id']}").json() == made
        assert there.post("/api/vms", json={"vm_name": "WEB-01"}).status_code == 409
        assert one.stop() == 0
        assert there.post("/api/vms", json={"vm_name": "web-02"}).status_code == 201
        assert two.stop() == 0
    vms, _, _ = stored(tmp_path / "inventory.db")
    assert sorted(vms.values()) == ["web-01", "web-02"]


def test_it_stops_in_time_though_somebody_holds_the_lock(token: str, tmp_path: Path) -> None:
    with serving(tmp_path, VMTRAK_SECRET_KEY=SECRET_KEY) as server, server.client(token) as client:
        assert client.post("/api/vms", json={"vm_name": "web-01"}).status_code == 201
        with closing(sqlite3.connect(tmp_path / "inventory.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert server.stop() == 0
