"""What becomes of a password that somebody types into another field, as docs/security.md says it.

It is kept as what that field is: VMTrak cannot know better. But it goes no further than that.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import Person
from vmtrak.db import Database

STRAY = "strayed-Pa55word"

SEES_ACCOUNTS = ("/api/vms/{vm}/credentials", "/api/credentials", "/admin/credential/list")
SEES_THE_TRAIL = (
    "/api/audit",
    "/admin/audit/list",
    "/api/audit?entity_type=credential",
)


def pages(person: Person, kept: tuple[int, int], *paths: str) -> str:
    vm, number = kept
    texts = []
    for path in paths:
        client = person.api if path.startswith("/api") else person.panel
        answer = client.get(path.format(vm=vm, id=number))
        assert answer.status_code == 200, answer.text
        texts.append(answer.text)
    return "\n".join(texts)


def written(folder: Path) -> str:
    return "\n".join(path.read_text() for path in folder.iterdir())


@pytest.mark.parametrize("field", ["username", "notes"])
def test_a_name_or_a_note_is_seen_with_the_account_and_never_in_the_trail(
    log_folder: Path, kept: tuple[int, int], admin: Person, auditor: Person, field: str
) -> None:
    vm, number = kept
    changed = admin.api.put(f"/api/vms/{vm}/credentials/{number}", json={field: STRAY})
    assert changed.json()[field] == STRAY
    assert STRAY in pages(admin, kept, *SEES_ACCOUNTS[:2], "/admin/credential/details/{id}")
    assert admin.api.delete(f"/api/vms/{vm}/credentials/{number}").status_code == 200
    told = pages(auditor, kept, *SEES_THE_TRAIL, "/admin/vm/details/{vm}")
    assert "credential.update" in told
    assert STRAY not in told
    assert "credential.delete" in written(log_folder)
    assert STRAY not in written(log_folder)


def test_a_reason_is_seen_in_the_trail_and_its_copy_and_nowhere_else(
    log_folder: Path, kept: tuple[int, int], admin: Person, auditor: Person
) -> None:
    vm, number = kept
    asked = admin.api.post(f"/api/vms/{vm}/credentials/{number}/reveal", json={"reason": STRAY})
    assert asked.status_code == 200
    assert STRAY in pages(auditor, kept, "/api/audit")
    assert STRAY in (log_folder / "audit.log").read_text()
    assert STRAY not in (log_folder / "vmtrak.log").read_text()
    assert STRAY not in pages(admin, kept, *SEES_ACCOUNTS)


@pytest.mark.parametrize("field", ["account_type", "rotation_marked"])
def test_what_no_field_takes_is_refused_and_neither_kept_nor_repeated(
    log_folder: Path, kept: tuple[int, int], admin: Person, auditor: Person, field: str
) -> None:
    vm, number = kept
    refused = admin.api.put(f"/api/vms/{vm}/credentials/{number}", json={field: STRAY})
    assert refused.status_code == 422
    assert list(refused.json()["details"]) == [field]
    assert STRAY not in refused.text
    assert STRAY not in pages(admin, kept, *SEES_ACCOUNTS)
    assert STRAY not in pages(auditor, kept, *SEES_THE_TRAIL)
    assert STRAY not in written(log_folder)


def test_what_somebody_searches_for_is_kept_nowhere(
    log_folder: Path, kept: tuple[int, int], database: Database, admin: Person
) -> None:
    for path in (*SEES_ACCOUNTS[1:], "/api/vms", "/admin/vm/list", "/api/audit"):
        client = admin.api if path.startswith("/api") else admin.panel
        assert client.get(path, params={"search": STRAY}).status_code == 200
    assert STRAY not in written(log_folder)
    if database.sqlite:
        with closing(sqlite3.connect(str(database.url.database))) as connection:
            assert STRAY not in "\n".join(connection.iterdump())
