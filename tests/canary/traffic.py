"""Everything that people and scripts do with passwords, right and wrong, over both doors."""

import json
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx2

from tests.canaries import REVEAL
from tests.canary.search import SHAPES, holds_canary
from tests.conftest import PEOPLE, SECRET_KEY
from tests.faults.running import START_SECONDS, Server
from vmtrak.accounts import actors, sessions, users
from vmtrak.accounts.access_tokens import SessionRules
from vmtrak.db import Database
from vmtrak.web.guard import PANEL_COOKIE

ACCOUNT = "svc_of_the_canary"
"""Begins every account's name: what is found by it shows that the search read the right thing."""

WRONGLY = [SHAPES[shape] for shape in ("plain", "unicode", "quotes", "markup")]
"""What is sent wrongly, too: the shapes that differ most in how they are written."""

ADDRESSES = (
    "/api/vms",
    f"/api/vms?search={ACCOUNT}",
    "/api/vms/{vm}",
    "/api/vms/{vm}/credentials",
    "/api/vms/{vm}/credentials/{id}",
    "/api/vms/{vm}/credentials/{id}/versions",
    "/api/vms/{vm}/credentials/{id}/viewers",
    "/api/vms/{vm}/credentials/{id}/viewers.csv",
    "/api/vms/{vm}/credentials/{id}/nothing",
    f"/api/vms/{{vm}}/rdp?user={ACCOUNT}",
    f"/api/vms/{{vm}}/ssh-config?user={ACCOUNT}",
    "/api/credentials",
    f"/api/credentials?search={ACCOUNT}&limit=1",
    "/api/credentials?rotation_due=true",
    "/api/users/1/seen-credentials",
    "/api/users/1/seen-credentials.csv",
    "/api/users",
    "/api/audit?limit=200",
    "/api/audit?entity_type=credential",
    "/api/alerts",
    "/api/notices",
    "/api/notices/due",
    "/api/notices/standing",
    "/api/notices/1",
    "/api/vms/{vm}/notices",
    "/api/dashboard/stats",
    "/api/auth/calendar",
    "/calendar/{id}.ics",
    "/admin/account/",
    "/admin/account/calendar/made",
    "/api/trash",
    "/api/health",
    "/api/openapi.json",
    "/api/docs",
    "/admin/",
    "/admin/vm/list",
    "/admin/vm/details/{vm}",
    "/admin/vm/edit/{vm}",
    "/admin/vm/ssh-config/{vm}",
    "/admin/vm/rdp/{vm}",
    "/admin/rdp-help",
    "/admin/credential/list",
    f"/admin/credential/list?search={ACCOUNT}",
    "/admin/credential/details/{id}",
    "/admin/credential/edit/{id}",
    "/admin/credential/create?vm={vm}",
    "/admin/credential/reveal/{id}",
    "/admin/credential/viewers/{id}/csv",
    "/admin/user/seen/1",
    "/admin/user/seen/1/csv",
    "/admin/user/details/1",
    "/admin/audit/list",
    "/admin/audit/details/10",
    "/admin/trash/list",
    "/admin/alert/list",
    "/admin/notice/list",
    "/admin/notice/due",
    "/admin/notice/details/1",
)
"""What is read of a VM and its credential; a few are wrong on purpose."""


@dataclass(frozen=True)
class Answer:
    asked: str
    status: int
    headers: str
    body: bytes

    @property
    def is_reveal(self) -> bool:
        return REVEAL.fullmatch(self.asked.partition(" ")[2]) is not None

    @property
    def leaks(self) -> bool:
        """Whether it holds a canary where none may be."""
        body = b"" if self.is_reveal and self.status == 200 else self.body
        return holds_canary(self.headers.encode() + b"\n" + body)


@dataclass
class Visitor:
    """Somebody who is signed in at both doors of a running server; all that they get is kept."""

    server: Server
    url: str
    person: str
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        token, session = _signed_in(self.url, str(PEOPLE[self.person]["username"]))
        self._rest = self._client({"Authorization": f"Bearer {token}"})
        self._panel = self._client({"Origin": self.server.address})
        self._panel.cookies.set(PANEL_COOKIE, session, domain="127.0.0.1", path="/admin")

    def _client(self, headers: dict[str, str]) -> httpx2.Client:
        hooks: Any = {"response": [self._keep]}
        return httpx2.Client(
            base_url=self.server.address, headers=headers, timeout=START_SECONDS, event_hooks=hooks
        )

    def _keep(self, response: httpx2.Response) -> None:
        body = response.read()
        asked = f"{response.request.method} {response.request.url.path}"
        headers = repr(response.headers.raw)
        self.answers.append(Answer(asked, response.status_code, headers, body))

    def close(self) -> None:
        self._rest.close()
        self._panel.close()

    def ask(self, method: str, path: str, **sent: Any) -> httpx2.Response:
        client = self._rest if path.startswith("/api/") else self._panel
        return client.request(method, path, **sent)

    def ask_unknown(self, method: str, path: str, **sent: Any) -> httpx2.Response:
        """The same without saying who asks."""
        with self._client({"Origin": self.server.address}) as client:
            return client.request(method, path, **sent)


def _signed_in(url: str, username: str) -> tuple[str, str]:
    """An access token and the value of a session cookie."""
    rules = SessionRules.of(SECRET_KEY.encode(), 60, 7)
    somebody = actors.visitor("127.0.0.1", None)
    with closing(Database(url)) as database:
        with database.work(somebody) as work:
            user = users.named(work.session, username)
            assert user is not None
            tokens = sessions.sign_in_api(work, user.id, rules, "tests")
        with database.work(somebody) as work:
            return tokens.access, sessions.sign_in_panel(work, user.id, "tests")


def add_vm(visitor: Visitor, name: str) -> int:
    fields = {"vm_name": name, "os_type": "Windows", "ip_address": "127.0.0.9"}
    number: int = visitor.ask("POST", "/api/vms", json=fields).json()["id"]
    return number


def add_all(visitor: Visitor, vm: int) -> dict[str, int]:
    """One credential of each shape, every other one by the form; their numbers by shape."""
    made = {}
    for turn, (shape, password) in enumerate(SHAPES.items()):
        fields = {"username": f"{ACCOUNT}_{shape}", "password": password}
        if turn % 2:
            answer = visitor.ask("POST", f"/api/vms/{vm}/credentials", json=fields)
            assert answer.status_code == 201, answer.text
        else:
            name = visitor.ask("GET", f"/api/vms/{vm}").json()["vm_name"]
            form = {**fields, "vm": name, "account_type": "others", "notes": ""}
            answer = visitor.ask("POST", f"/admin/credential/create?vm={vm}", data=form)
            assert answer.status_code == 303, answer.text
        rows = visitor.ask("GET", f"/api/vms/{vm}/credentials").json()
        [made[shape]] = [row["id"] for row in rows if row["username"] == fields["username"]]
    return made


def reveal_all(visitor: Visitor, vm: int, made: dict[str, int]) -> dict[str, list[str]]:
    """What every way to reveal answers, by shape."""
    told = {}
    for shape, number in made.items():
        rest = f"/api/vms/{vm}/credentials/{number}"
        ways = (
            visitor.ask("POST", f"{rest}/reveal", json={"reason": "CHG-1"}),
            visitor.ask("POST", f"{rest}/versions/1/reveal"),
            visitor.ask("GET", f"{rest}/reveal?reason=CHG-2"),
            visitor.ask("POST", f"/admin/credential/reveal/{number}", data={"reason": "CHG-3"}),
            visitor.ask("POST", f"/admin/credential/reveal/{number}/1"),
        )
        told[shape] = [way.json()["password"] for way in ways]
    return told


def change_all(visitor: Visitor, vm: int, made: dict[str, int]) -> None:
    """Each gets the next one's password, over the form, and its own again, over REST."""
    passwords = [*SHAPES.values()]
    following = dict(zip(SHAPES, passwords[1:] + passwords[:1], strict=True))
    for shape, number in made.items():
        row = visitor.ask("GET", f"/api/vms/{vm}/credentials/{number}")
        form = {
            "username": row.json()["username"],
            "account_type": row.json()["account_type"],
            "notes": "changed",
            "password": following[shape],
            "revision": row.headers["etag"].strip('"v'),
        }
        changed = visitor.ask("POST", f"/admin/credential/edit/{number}", data=form)
        assert changed.status_code == 303, changed.text
        again = {"password": SHAPES[shape]}
        answer = visitor.ask("PUT", f"/api/vms/{vm}/credentials/{number}", json=again)
        assert answer.status_code == 200, answer.text


def remove_some(visitor: Visitor, vm: int, made: dict[str, int]) -> None:
    numbers = [*made.values()]
    visitor.ask("DELETE", f"/api/vms/{vm}/credentials/{numbers[0]}")
    visitor.ask("POST", "/admin/credential/delete", data={"pk": str(numbers[1])})


def read_all(visitor: Visitor, vm: int, made: dict[str, int]) -> None:
    number = next(iter(made.values()))
    for address in ADDRESSES:
        path = address.format(vm=vm, id=number)
        visitor.ask("GET", path)
        visitor.ask("HEAD", path)
        visitor.ask_unknown("GET", path)
    for user in (ACCOUNT, "u" * 300):
        visitor.ask("POST", f"/admin/vm/rdp/{vm}", data={"user": user})


def err_over_rest(visitor: Visitor, vm: int, number: int) -> None:
    """Every way to send a password wrongly, as scripts do."""
    many, one = f"/api/vms/{vm}/credentials", f"/api/vms/{vm}/credentials/{number}"
    for secret in WRONGLY:
        new = {"username": "new", "password": secret}
        for body in _wrong(secret):
            visitor.ask("POST", many, json=body)
            visitor.ask("PUT", one, json=body)
        for body in (secret, [secret], *({"reason": r} for r in (secret * 40, [secret], 1))):
            visitor.ask("POST", f"{one}/reveal", json=body)
        for content in _malformed(secret):
            typed = {"Content-Type": "application/json"}
            visitor.ask("POST", many, content=content, headers=typed)
            visitor.ask("PUT", one, content=content, headers=typed)
        visitor.ask("POST", many, data=new)
        visitor.ask("POST", many, content=json.dumps(new), headers={"Content-Type": "text/plain"})
        visitor.ask("POST", many, json={**new, "username": f"{ACCOUNT}_PLAIN"})
        visitor.ask("POST", many, json={**new, "username": "2nd", "account_type": "primary"})
        visitor.ask("PUT", one, json=new, headers={"If-Match": '"v999"'})
        visitor.ask("POST", "/api/vms/999999/credentials", json=new)
        visitor.ask("PUT", f"/api/vms/{vm}/credentials/999999", json=new)
        visitor.ask("PATCH", one, json=new)
        visitor.ask("HEAD", f"{one}/reveal")
        visitor.ask("POST", many, json=new, headers={"Origin": "https://elsewhere.example"})
        visitor.ask_unknown("POST", many, json=new)
        visitor.ask("POST", "/api/vms", json={"vm_name": "", "password": secret})
        visitor.ask("POST", "/api/auth/login", json={"username": "ada", "password": secret})


def err_over_forms(visitor: Visitor, vm: int, number: int) -> None:
    """The same as people do."""
    add, edit = f"/admin/credential/create?vm={vm}", f"/admin/credential/edit/{number}"
    for secret in WRONGLY:
        form = {"vm": "vm-of-nobody", "username": "new", "password": secret, "revision": "1"}
        taken = {"vm": "canary-1", "username": f"{ACCOUNT}_PLAIN"}
        for wrong in (
            {},
            {"vm": "canary-1", "username": ""},
            {"username": "u" * 257},
            {"account_type": "neither"},
            {"account_type": secret},
            {"revision": secret},
            {"password": secret * 40},
            {"notes": "n" * 5000},
            {**taken, "account_type": "others"},
            {**taken, "username": "2nd", "account_type": "primary"},
        ):
            visitor.ask("POST", add, data={**form, **wrong})
            visitor.ask("POST", edit, data={**form, **wrong})
        visitor.ask("POST", add, files={"password": ("a.txt", secret.encode())})
        visitor.ask("POST", add, json=form)
        visitor.ask("POST", add, data={**form, "notes": "n" * 1_200_000})
        visitor.ask("POST", "/admin/credential/edit/999999", data=form)
        visitor.ask("POST", f"/admin/credential/reveal/{number}", data={"reason": secret * 40})
        visitor.ask("POST", add, data=form, headers={"Origin": "https://elsewhere.example"})
        visitor.ask_unknown("POST", add, data=form)


def _wrong(secret: str) -> tuple[Any, ...]:
    """JSON that is no new credential."""
    return (
        {"password": secret, "username": ""},
        {"password": secret, "username": "u" * 257},
        {"password": secret, "username": "nul\0"},
        {"password": secret, "username": 7},
        {"password": secret, "username": "u", "notes": ["x"]},
        {"password": secret, "username": "u", "account_type": "neither"},
        {"password": secret, "username": "u", "account_type": {"is": secret}},
        {"password": secret, "username": "u", "rotation_marked": secret},
        {"password": "x", "username": "", "account_type": secret},
        {"password": secret * 40, "username": "u"},
        {"password": [secret], "username": "u"},
        {"password": {"is": secret}, "username": ""},
        [secret],
        secret,
    )


def _malformed(secret: str) -> tuple[bytes, ...]:
    """No JSON at all, or more than is read."""
    text = json.dumps(secret).encode()
    return (
        b'{"username": "u", "password": ' + text,
        b'{"username": "u", "password": ' + text + b", }",
        b'{"password": ' + text + b', "username": NaN}',
        b'{"password": "\xff' + secret.encode() + b'"}',
        b"password=" + secret.encode("utf-16"),
        b'{"password": ' + text + b', "notes": "' + b"n" * 1_200_000 + b'"}',
    )


_numbers = count()
"""So that no account is refused for its name."""


def fail(visitor: Visitor, vm: int, number: int) -> list[int]:
    """What asks for a password or gives one where something is broken below; the statuses."""
    rest, form = f"/api/vms/{vm}/credentials", {"vm": "canary-1", "account_type": "others"}
    statuses = []
    for secret in SHAPES.values():
        new = {"username": f"{ACCOUNT}_{next(_numbers)}", "password": secret}
        statuses += [
            visitor.ask("POST", rest, json=new).status_code,
            visitor.ask("PUT", f"{rest}/{number}", json={"password": secret}).status_code,
            visitor.ask("POST", f"{rest}/{number}/reveal").status_code,
            visitor.ask("POST", f"/admin/credential/create?vm={vm}", data=form | new).status_code,
            visitor.ask("POST", f"/admin/credential/reveal/{number}").status_code,
        ]
    return statuses
