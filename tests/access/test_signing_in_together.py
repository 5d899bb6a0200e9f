"""Checking passwords is work; nobody else waits for it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

import httpx2

from tests.conftest import PASSWORD, PEOPLE, SECRET_KEY
from tests.faults.running import access_token, serving

CLIENTS = 8
ANSWERS = 40


def sign_in_until(stop: threading.Event, address: str, username: str) -> list[int]:
    """The statuses of one client's sign-ins, one after the other; at least one."""
    given = {"username": username, "password": PASSWORD}
    with httpx2.Client(base_url=address, timeout=60) as client:
        statuses = [client.post("/api/auth/login", json=given).status_code]
        while not stop.is_set():
            statuses.append(client.post("/api/auth/login", json=given).status_code)
    return statuses


def test_other_requests_are_answered_while_eight_clients_sign_in(
    database_url: str, tmp_path: Path
) -> None:
    """Counted, not timed: on the event loop eight checks would come before every other answer."""
    settings = {"VMTRAK_SECRET_KEY": SECRET_KEY, "VMTRAK_DATABASE_URL": database_url}
    names = cycle(str(person["username"]) for person in PEOPLE.values())
    stop = threading.Event()
    with (
        serving(tmp_path, **settings) as server,
        server.client(access_token(database_url)) as client,
        ThreadPoolExecutor(CLIENTS) as threads,
    ):
        loops = [
            threads.submit(sign_in_until, stop, server.address, name)
            for name, _ in zip(names, range(CLIENTS), strict=False)
        ]
        try:
            for _ in range(ANSWERS // 2):
                assert client.get("/api/health").status_code == 200
                assert client.get("/api/vms").status_code == 200
        finally:
            stop.set()
        signed_in = [status for loop in loops for status in loop.result()]
    assert set(signed_in) == {200}
    assert CLIENTS <= len(signed_in) < CLIENTS + 2 * ANSWERS
