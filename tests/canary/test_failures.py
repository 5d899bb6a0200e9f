"""A failure while a password lies in a local variable: no trace, no log and no answer has it."""

import faulthandler
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from loguru import logger

from tests.canary.search import SHAPES, holds_canary, leaks
from tests.conftest import CANARY, Person
from vmtrak.db import WorkSession
from vmtrak.sealing import KeyRing

BROKEN = "broken on purpose"


def fail(*_arguments: Any, **_options: Any) -> NoReturn:
    raise RuntimeError(BROKEN)


def sealed_then_failed(keys: KeyRing, plaintext: str, *_more: Any) -> NoReturn:
    text = f"it was {plaintext}"
    raise RuntimeError(BROKEN if text else "")


def opened_then_failed(keys: KeyRing, sealed: Any, place: Any) -> NoReturn:
    plaintext = _open(keys, sealed, place)
    raise RuntimeError(BROKEN if plaintext else "")


_open = KeyRing.open

Ask = Callable[[Person, int, int], Any]


def add_by_rest(person: Person, vm: int, _number: int) -> Any:
    body = {"username": "oracle", "password": SHAPES["quotes"]}
    return person.api.post(f"/api/vms/{vm}/credentials", json=body)


def change_by_rest(person: Person, vm: int, number: int) -> Any:
    body = {"password": SHAPES["format"]}
    return person.api.put(f"/api/vms/{vm}/credentials/{number}", json=body)


def reveal_by_rest(person: Person, vm: int, number: int) -> Any:
    return person.api.post(f"/api/vms/{vm}/credentials/{number}/reveal")


def add_by_form(person: Person, vm: int, _number: int) -> Any:
    named = {"vm": "db1", "username": "oracle", "account_type": "others", "notes": ""}
    form = {**named, "password": SHAPES["quotes"]}
    return person.panel.post(f"/admin/credential/create?vm={vm}", data=form)


def change_by_form(person: Person, _vm: int, number: int) -> Any:
    named = {"vm": "db1", "username": "root", "account_type": "primary", "notes": ""}
    form = {**named, "password": SHAPES["format"], "revision": "1"}
    return person.panel.post(f"/admin/credential/edit/{number}", data=form)


def reveal_in_the_panel(person: Person, _vm: int, number: int) -> Any:
    return person.panel.post(
        f"/admin/credential/reveal/{number}", headers={"Accept": "application/json"}
    )


CHANGES = (add_by_rest, change_by_rest, add_by_form, change_by_form)
REVEALS = (reveal_by_rest, reveal_in_the_panel)
FAILURES = [
    *((ask, KeyRing, "seal", sealed_then_failed) for ask in CHANGES),
    *((ask, KeyRing, "open", opened_then_failed) for ask in (change_by_rest, *REVEALS)),
    *((ask, "vmtrak.audit.record", None, fail) for ask in (*CHANGES, *REVEALS)),
    *((ask, WorkSession, "commit", fail) for ask in (*CHANGES, *REVEALS)),
    (reveal_by_rest, "vmtrak.api.credentials.answer", None, fail),
]


@pytest.mark.parametrize(("ask", "where", "name", "breaks"), FAILURES)
def test_a_failure_with_a_password_in_hand_tells_nobody(
    log_folder: Path,
    kept: tuple[int, int],
    admin: Person,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    ask: Ask,
    where: Any,
    name: str | None,
    breaks: Callable[..., NoReturn],
) -> None:
    _sign_in_first(monkeypatch, admin)
    if name is None:
        monkeypatch.setattr(where, breaks)
    else:
        monkeypatch.setattr(where, name, breaks)
    response = ask(admin, *kept)
    assert response.status_code == 500
    assert not holds_canary(response.content + repr(response.headers).encode())
    printed = capfd.readouterr().err
    assert f"RuntimeError: {BROKEN}" in printed
    assert f"RuntimeError: {BROKEN}" in (log_folder / "vmtrak.log").read_text()
    assert not holds_canary(printed.encode())
    assert leaks(log_folder) == []


def _sign_in_first(monkeypatch: pytest.MonkeyPatch, person: Person) -> None:
    """What breaks next must not break the sign-in."""
    api, panel = person.api, person.panel
    monkeypatch.setattr(Person, "api", property(lambda _: api))
    monkeypatch.setattr(Person, "panel", property(lambda _: panel))


def test_the_dump_of_a_crash_names_functions_and_no_values(tmp_path: Path) -> None:
    password = SHAPES["plain"]
    dump = tmp_path / "dump"
    with dump.open("w") as file:
        faulthandler.dump_traceback(file)
    assert "test_the_dump_of_a_crash" in dump.read_text()
    assert CANARY in password
    assert leaks(tmp_path) == []


def test_loguru_would_print_the_password_if_it_were_told_to_diagnose() -> None:
    """What `diagnose=False` in logs.py is good for."""
    lines: list[str] = []
    sink = logger.add(lines.append, diagnose=True)
    try:
        _give_up("a local secret")
    except RuntimeError:
        logger.exception("It broke")
    logger.remove(sink)
    assert "a local secret" in "".join(lines)


def _give_up(password: str) -> None:
    raise RuntimeError(f"{len(password)}" and BROKEN)
