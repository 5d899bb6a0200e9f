"""Which passwords may be chosen, and how they are kept: argon2id, and bcrypt until it is used."""

import time
from pathlib import Path
from typing import Any

import argon2
import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import text
from starlette.testclient import TestClient
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from tests.conftest import PASSWORD, Person, anonymous_client
from tests.faults.running import ask
from vmtrak.access import SYSTEM
from vmtrak.accounts import FirstAdmin, NewUser, User, links, passwords, users
from vmtrak.db import Database
from vmtrak.errors import Invalid
from vmtrak.fields import parse

GOOD = "quite another secret"

DOORS = ("rest", "panel")

COMMON = (
    "passwordpassword",
    "PasswordPassword",
    "Password1234!",
    "P@ssw0rd1234",
    "123456789012",
    "qwertyuiop12",
    "QWERTYuiop12",
    "1q2w3e4r5t6y",
    "aaaaaaaaaaaa",
    "abcdefghijkl",
    "congratulations",
    "Welcome12345",
    "iloveyou2026!",
    "Summer2026!!",
    "letmeinletmein!",
    "administrator1",
    "vmtrak-admin1",
    "vmtrakvmtrak",
    "ｐａｓｓｗｏｒｄ１２３４",  # noqa: RUF001 - as wide letters are typed
    "x" * 256,
)

OWN = (
    "ada.lovelace@example.org",
    "AdaLovelace2026!",
    "lovelace-ada-lovelace",
    "adaadaadaada",
    "Lovelace.example",
)


def sign_in(client: TestClient, door: str, username: str, password: str) -> int:
    """The status of an attempt at the door; who comes in reads 200."""
    given = {"username": username, "password": password}
    if door == "rest":
        return client.post("/api/auth/login", json=given).status_code
    client.headers["Origin"] = str(client.base_url)
    status = client.post("/admin/login", data=given).status_code
    return 200 if status == 303 else status


def put(database: Database, user_id: int, password_hash: str) -> None:
    """Give a user a hash, as a data set that was taken over brings one."""
    with database.engine.begin() as connection:
        connection.execute(
            text("UPDATE users SET password_hash = :kept WHERE id = :id"),
            {"kept": password_hash, "id": user_id},
        )


def kept(database: Database, user_id: int) -> tuple[str, int]:
    """The hash, and the revision of the row."""
    with database.read() as session:
        user = session.get_one(User, user_id)
    return str(user.password_hash), user.revision


def bcrypted(password: str, cost: int = 5, kind: str = "2b") -> str:
    made = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(cost)).decode()
    return made.replace("$2b$", f"${kind}$", 1)


@pytest.mark.parametrize("password", COMMON)
def test_a_common_password_is_too_easy_to_guess(password: str) -> None:
    assert passwords.weakness(password, "ada", "ada@example.org") is not None


@pytest.mark.parametrize("password", OWN)
def test_a_password_made_of_ones_own_name_is_refused(password: str) -> None:
    reason = passwords.weakness(password, "ada.lovelace", "ada.lovelace@example.org")
    assert reason == "must not be made of the name or the e-mail address"
    assert passwords.weakness("otto", "otto") == reason


@pytest.mark.parametrize(
    "password",
    [
        PASSWORD,
        GOOD,
        "ada likes horses a lot",
        "kX9#mQ2$vL7p",
        "приходите завтра утром",
        "x" * 100 + "kX9#mQ2$vL7p-and-some-more-that-nobody-knows",
    ],
)
def test_a_password_that_nobody_expects_is_fine(password: str) -> None:
    assert passwords.weakness(password, "ada", "ada@example.org") is None


def test_more_than_three_thousand_common_ones_of_the_right_length_ship_and_are_refused() -> None:
    """OWASP ASVS 5.0, 6.2.4."""
    listed = {word for words in FREQUENCY_LISTS.values() for word in words if len(word) >= 12}
    assert len(listed) > 3000
    assert [word for word in listed if passwords.weakness(word) is None] == []


@given(st.text(min_size=12, max_size=256), st.text(max_size=20), st.text(max_size=20))
def test_no_text_upsets_the_check(password: str, username: str, email: str) -> None:
    assert passwords.weakness(password, username, email) in {
        None,
        "must not be made of the name or the e-mail address",
        "is too easy to guess; take several words that nobody expects together",
    }


@pytest.mark.parametrize(
    "password", ["4@8({[<369!1|70$5+%2" * 13, "a" * 256, "1.1.2020" * 32, "p4ssw0rd@" * 28]
)
def test_what_is_long_and_awkward_is_checked_in_no_time(password: str) -> None:
    began = time.process_time()
    passwords.weakness(password[:256], "otto")
    assert time.process_time() - began < 3


# Everywhere a password is set


def refused(answer: Any, field: str = "password") -> None:
    assert answer.status_code == 422
    assert [*answer.json()["details"]] == [field]
    assert "too easy to guess" in answer.json()["details"][field][0]


def test_the_rest_interface_takes_no_common_password(admin: Person, operator: Person) -> None:
    new = {"username": "nora", "email": "nora@vmtrak.example", "role": "read"}
    refused(admin.api.post("/api/users", json={**new, "password": COMMON[0]}))
    before = kept(admin.database, operator.user_id)
    path = f"/api/users/{operator.user_id}/reset-password"
    refused(admin.api.post(path, json={"new_password": COMMON[1]}), "new_password")
    assert kept(admin.database, operator.user_id) == before


def test_nobody_finishes_the_set_up_with_a_common_password(admin: Person) -> None:
    new = {"username": "nora", "email": "nora@vmtrak.example", "role": "read"}
    assert admin.api.post("/api/users", json={**new, "password": PASSWORD}).status_code == 201
    client = anonymous_client(admin.app)
    given = {"username": "nora", "password": PASSWORD}
    token = client.post("/api/auth/login", json=given).json()["accessToken"]
    client.headers["Authorization"] = f"Bearer {token}"
    path = "/api/auth/complete-setup"
    refused(client.post(path, json={"email": new["email"], "password": "Welcome12345"}))
    own = client.post(path, json={"email": new["email"], "password": "nora@vmtrak.example"})
    assert own.json()["details"]["password"] == [
        "must not be made of the name or the e-mail address"
    ]
    done = client.post(path, json={"email": new["email"], "password": GOOD})
    assert done.status_code == 200


def test_nobody_changes_their_password_to_a_common_one(operator: Person) -> None:
    given = {"current_password": PASSWORD, "new_password": "Welcome12345"}
    refused(operator.api.post("/api/auth/password", json=given), "new_password")


def test_a_set_up_link_stays_good_until_the_password_is_a_good_one(
    admin: Person, operator: Person
) -> None:
    with admin.database.work(admin.actor) as work:
        _, token = users.reset_link(work, operator.user_id)
    visitor = anonymous_client(admin.app)
    visitor.headers["Origin"] = str(visitor.base_url)
    page = visitor.post("/admin/setup", data={"token": token, "password": "Welcome12345"})
    assert (page.status_code, "too easy to guess" in page.text) == (422, True)
    assert "Welcome12345" not in page.text
    assert visitor.post("/admin/setup", data={"token": token, "password": GOOD}).status_code == 303


def test_the_first_administrator_takes_no_common_password(database: Database) -> None:
    with database.engine.begin() as connection:
        for table in ("refresh_tokens", "sessions", "one_time_links", "users"):
            connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608 - the names are above
    with database.work(SYSTEM) as work:
        token = links.make(work, "first", None)
    given = {"username": "ada", "email": "ada@example.org", "password": "Welcome12345"}
    first = parse(FirstAdmin, given)
    with pytest.raises(Invalid) as raised, database.work(SYSTEM) as work:
        users.add_first(work, token, first)
    assert [*raised.value.fields] == ["password"]


def test_the_command_line_takes_no_common_password(tmp_path: Path) -> None:
    arguments = ("user", "add", "bob", "--email", "bob@example.org", "--role", "read")
    done = ask(tmp_path, *arguments, "--password-stdin", given="Welcome12345\n")
    assert done.exit_code == 1
    assert done.stderr.startswith("vmtrak: password: is too easy to guess")


# How they are kept


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", ["2a", "2b", "2y"])
def test_a_bcrypt_hash_signs_in_once_and_is_replaced(
    kind: str, door: str, anonymous: TestClient, operator: Person
) -> None:
    put(operator.database, operator.user_id, bcrypted(GOOD, kind=kind))
    _, revision = kept(operator.database, operator.user_id)
    assert sign_in(anonymous, door, "otto", PASSWORD) == 401
    assert kept(operator.database, operator.user_id)[0].startswith(f"${kind}$")
    assert sign_in(anonymous, door, "otto", GOOD) == 200
    replaced, same = kept(operator.database, operator.user_id)
    assert replaced.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert same == revision
    assert sign_in(anonymous_client(operator.app), door, "otto", GOOD) == 200
    assert kept(operator.database, operator.user_id)[0] == replaced


def test_bcrypt_looked_at_72_bytes_and_argon2_looks_at_all(
    anonymous: TestClient, operator: Person
) -> None:
    long = "ü" * 30 + "twelve bytes and many more behind"
    put(operator.database, operator.user_id, bcrypted(long))
    assert sign_in(anonymous, "rest", "otto", long) == 200
    assert sign_in(anonymous_client(operator.app), "rest", "otto", long[:-1]) == 401
    assert sign_in(anonymous_client(operator.app), "rest", "otto", long) == 200


@pytest.mark.parametrize(
    "broken", ["$2b$15$" + "a" * 53, "$2b$12$short", "$2b$", "$2b$xx$" + "a" * 53, "", "*", "é"]
)
def test_a_hash_that_cannot_be_checked_opens_nothing(
    broken: str, anonymous: TestClient, operator: Person
) -> None:
    put(operator.database, operator.user_id, broken)
    began = time.process_time()
    assert sign_in(anonymous, "rest", "otto", PASSWORD) == 401
    assert time.process_time() - began < 2


@pytest.mark.parametrize("door", DOORS)
def test_an_argon2_hash_of_other_parameters_is_made_anew(
    door: str, anonymous: TestClient, operator: Person
) -> None:
    older = argon2.PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1)
    put(operator.database, operator.user_id, older.hash(GOOD))
    assert sign_in(anonymous, door, "otto", GOOD) == 200
    assert "m=19456,t=2,p=1" in kept(operator.database, operator.user_id)[0]


def test_renewing_a_hash_spoils_no_password_that_was_set_in_between(operator: Person) -> None:
    database, old = operator.database, bcrypted(GOOD)
    put(database, operator.user_id, old)
    with database.work(SYSTEM) as work:
        users.reset_password(work, operator.user_id, "set in the meantime")
    present = kept(database, operator.user_id)
    renewed = passwords.renewed(GOOD, old)
    with database.work(SYSTEM) as work:
        assert not passwords.settle(work, operator.user_id, SecretStr(GOOD), old, renewed)
    assert kept(database, operator.user_id) == present


def test_two_sign_ins_that_renew_one_hash_both_count(operator: Person) -> None:
    database, old = operator.database, bcrypted(GOOD)
    put(database, operator.user_id, old)
    renewed = [passwords.renewed(GOOD, old) for _ in range(2)]
    for each in renewed:
        with database.work(SYSTEM) as work:
            assert passwords.settle(work, operator.user_id, SecretStr(GOOD), old, each)
    assert kept(database, operator.user_id)[0] == renewed[0]


def test_a_user_may_be_added_without_a_password(database: Database) -> None:
    new = {"username": "nora", "email": "nora@vmtrak.example", "role": "read"}
    with database.work(SYSTEM) as work:
        assert users.add(work, NewUser.model_validate(new)).password_hash is None
