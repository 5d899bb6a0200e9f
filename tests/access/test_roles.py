"""The role matrix: every route of the application, asked by everybody."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from httpx2 import Response
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route
from starlette.testclient import TestClient

from tests.conftest import Person
from vmtrak import admin as panel
from vmtrak import alerts, credentials, inventory
from vmtrak.access import Scope
from vmtrak.accounts import NewToken, NewUser, api_tokens, users
from vmtrak.api import ENDPOINTS
from vmtrak.credentials import NewCredential
from vmtrak.inventory import NewHypervisor, NewVM, hypervisors
from vmtrak.notices import Kind, planning
from vmtrak.notices.recipients import Recipient

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

REMOVING_A_HYPERVISOR = {"DELETE /api/hypervisors/{id}", "POST /admin/hypervisor/delete"}

WITHOUT_HEAD = {f"GET /api{endpoint.path}" for endpoint in ENDPOINTS if endpoint.writes}

WHO = ("anonymous", "reader", "operator", "admin", "auditor")

MATRIX = {
    # anonymous, role read on their own, readwrite, admin, auditor
    "GET /": (307, 307, 307, 307, 307),
    "GET /favicon.ico": (308, 308, 308, 308, 308),
    "GET /static": (200, 200, 200, 200, 200),
    "GET /static/swagger": (200, 200, 200, 200, 200),
    "GET /calendar/{token}.ics": (404, 404, 404, 404, 404),
    "GET /api/health": (200, 200, 200, 200, 200),
    "GET /api/openapi.json": (200, 200, 200, 200, 200),
    "GET /api/docs": (200, 200, 200, 200, 200),
    "POST /api/auth/login": (401, 401, 401, 401, 401),
    "POST /api/auth/refresh": (401, 401, 401, 401, 401),
    "POST /api/auth/logout": (401, 200, 200, 200, 200),
    "GET /api/auth/me": (401, 200, 200, 200, 200),
    "PUT /api/auth/me": (401, 422, 422, 422, 422),
    "GET /api/auth/microsoft": (503, 503, 503, 503, 503),
    "GET /api/auth/microsoft/callback": (503, 503, 503, 503, 503),
    "GET /api/auth/microsoft/logout": (503, 503, 503, 503, 503),
    "POST /api/auth/complete-setup": (401, 403, 403, 403, 403),
    "POST /api/auth/prove": (401, 422, 422, 422, 422),
    "GET /api/auth/second-factor": (401, 200, 200, 200, 200),
    "POST /api/auth/second-factor": (401, 201, 201, 201, 201),
    "POST /api/auth/second-factor/confirm": (401, 422, 422, 422, 422),
    "POST /api/auth/second-factor/recovery-codes": (401, 409, 409, 409, 409),
    "DELETE /api/auth/second-factor": (401, 200, 200, 200, 200),
    "GET /api/auth/calendar": (401, 404, 404, 404, 404),
    "POST /api/auth/calendar": (401, 201, 201, 201, 201),
    "DELETE /api/auth/calendar": (401, 200, 200, 200, 200),
    "POST /api/auth/password": (401, 422, 422, 422, 422),
    "GET /api/auth/sessions": (401, 200, 200, 200, 200),
    "DELETE /api/auth/sessions": (401, 200, 200, 200, 200),
    "DELETE /api/auth/sessions/{id}": (401, 404, 404, 404, 404),
    "GET /api/vms": (401, 200, 200, 200, 200),
    "POST /api/vms": (401, 403, 201, 201, 403),
    "GET /api/vms/hypervisors": (401, 200, 200, 200, 200),
    "GET /api/vms/field-values": (401, 200, 200, 200, 200),
    "GET /api/vms/reachability": (401, 200, 200, 200, 200),
    "GET /api/vms/trash": (401, 403, 403, 200, 403),
    "GET /api/vms/{id}": (401, 200, 200, 200, 200),
    "PUT /api/vms/{id}": (401, 403, 200, 200, 403),
    "DELETE /api/vms/{id}": (401, 403, 200, 200, 403),
    "POST /api/vms/{id}/extend": (401, 403, 200, 200, 403),
    "GET /api/vms/{id}/notices": (401, 403, 200, 200, 200),
    "POST /api/vms/{id}/restore": (401, 403, 403, 200, 403),
    "POST /api/vms/{id}/purge": (401, 403, 403, 200, 403),
    "GET /api/credentials": (401, 403, 200, 200, 403),
    "GET /api/vms/{id}/credentials": (401, 403, 200, 200, 403),
    "POST /api/vms/{id}/credentials": (401, 403, 201, 201, 403),
    "GET /api/vms/{id}/credentials/{cid}": (401, 403, 200, 200, 403),
    "PUT /api/vms/{id}/credentials/{cid}": (401, 403, 200, 200, 403),
    "DELETE /api/vms/{id}/credentials/{cid}": (401, 403, 200, 200, 403),
    "GET /api/vms/{id}/credentials/{cid}/reveal": (401, 403, 200, 200, 403),
    "POST /api/vms/{id}/credentials/{cid}/reveal": (401, 403, 200, 200, 403),
    "GET /api/vms/{id}/credentials/{cid}/viewers": (401, 403, 200, 200, 403),
    "GET /api/vms/{id}/credentials/{cid}/viewers.csv": (401, 403, 200, 200, 403),
    "GET /api/vms/{id}/credentials/{cid}/versions": (401, 403, 200, 200, 403),
    "GET /api/vms/{id}/credentials/{cid}/versions/{version}/reveal": (401, 403, 200, 200, 403),
    "POST /api/vms/{id}/credentials/{cid}/versions/{version}/reveal": (401, 403, 200, 200, 403),
    "GET /api/vms/{id}/rdp": (401, 403, 200, 200, 403),
    "GET /api/vms/{id}/ssh-config": (401, 403, 200, 200, 403),
    "GET /api/hypervisors": (401, 200, 200, 200, 200),
    "POST /api/hypervisors": (401, 403, 201, 201, 403),
    "GET /api/hypervisors/reachability": (401, 200, 200, 200, 200),
    "GET /api/hypervisors/{id}": (401, 200, 200, 200, 200),
    "PUT /api/hypervisors/{id}": (401, 403, 200, 200, 403),
    "DELETE /api/hypervisors/{id}": (401, 403, 200, 200, 403),
    "GET /api/users": (401, 403, 403, 200, 403),
    "POST /api/users": (401, 403, 403, 201, 403),
    "GET /api/users/{id}": (401, 403, 403, 200, 403),
    "PUT /api/users/{id}": (401, 403, 403, 200, 403),
    "DELETE /api/users/{id}": (401, 403, 403, 200, 403),
    "POST /api/users/{id}/reset-password": (401, 403, 403, 200, 403),
    "POST /api/users/{id}/unlock": (401, 403, 403, 200, 403),
    "POST /api/users/{id}/reset-second-factor": (401, 403, 403, 200, 403),
    "GET /api/users/{id}/sessions": (401, 403, 403, 200, 403),
    "POST /api/users/{id}/end-sessions": (401, 403, 403, 200, 403),
    "POST /api/users/{id}/revoke-tokens": (401, 403, 403, 200, 403),
    "GET /api/users/{id}/seen-credentials": (401, 403, 403, 200, 403),
    "GET /api/users/{id}/seen-credentials.csv": (401, 403, 403, 200, 403),
    "POST /api/users/{id}/seen-credentials/mark-rotation": (401, 403, 403, 200, 403),
    "GET /api/alerts": (401, 403, 403, 200, 403),
    "POST /api/alerts/{id}/read": (401, 403, 403, 200, 403),
    "POST /api/alerts/read-all": (401, 403, 403, 200, 403),
    "GET /api/notices": (401, 403, 403, 200, 403),
    "GET /api/notices/due": (401, 403, 403, 200, 403),
    "GET /api/notices/standing": (401, 403, 200, 200, 403),
    "GET /api/notices/{id}": (401, 403, 403, 200, 403),
    "POST /api/notices/{id}/send-again": (401, 403, 403, 409, 403),
    "POST /api/notices/send-again": (401, 403, 403, 200, 403),
    "POST /api/notices/test": (401, 403, 403, 409, 403),
    "GET /api/tokens": (401, 200, 200, 200, 200),
    "POST /api/tokens": (401, 201, 201, 201, 201),
    "DELETE /api/tokens/{id}": (401, 404, 404, 200, 404),
    "GET /api/audit": (401, 403, 403, 200, 200),
    "GET /api/dashboard/stats": (401, 403, 200, 200, 403),
    "POST /api/dashboard/test-notifications": (401, 403, 403, 200, 403),
    "GET /admin/login": (200, 303, 303, 303, 303),
    "POST /admin/login": (401, 401, 401, 401, 401),
    "POST /admin/logout": (303, 303, 303, 303, 303),
    "GET /admin/setup": (200, 200, 200, 200, 200),
    "POST /admin/setup": (404, 404, 404, 404, 404),
    "GET /admin/microsoft": (503, 503, 503, 503, 503),
    "GET /admin/microsoft/signed-out": (503, 503, 503, 503, 503),
    "GET /admin/link": (200, 200, 200, 200, 200),
    "POST /admin/link": (404, 404, 404, 404, 404),
    "GET /admin/complete-setup": (303, 403, 403, 403, 403),
    "POST /admin/complete-setup": (401, 403, 403, 403, 403),
    "GET /admin/session": (303, 204, 204, 204, 204),
    "GET /admin/account/": (303, 200, 200, 200, 200),
    "GET /admin/account/proof": (303, 204, 204, 204, 204),
    "GET /admin/account/prove": (303, 200, 200, 200, 200),
    "POST /admin/account/prove": (401, 422, 422, 422, 422),
    "GET /admin/account/second-factor": (303, 200, 200, 200, 200),
    "POST /admin/account/second-factor/start": (401, 200, 200, 200, 200),
    "POST /admin/account/second-factor/confirm": (401, 422, 422, 422, 422),
    "POST /admin/account/second-factor/recovery-codes": (401, 409, 409, 409, 409),
    "POST /admin/account/second-factor/remove": (401, 303, 303, 303, 303),
    "POST /admin/account/calendar": (401, 303, 303, 303, 303),
    "GET /admin/account/calendar/made": (303, 303, 303, 303, 303),
    "POST /admin/account/calendar/revoke": (401, 303, 303, 303, 303),
    "POST /admin/account/notices": (401, 422, 422, 422, 422),
    "POST /admin/account/password": (401, 422, 422, 422, 422),
    "POST /admin/account/sessions/end": (401, 422, 422, 422, 422),
    "POST /admin/account/sessions/end-all": (401, 303, 303, 303, 303),
    "GET /admin/": (303, 200, 200, 200, 200),
    "GET /admin/vm/list": (303, 200, 200, 200, 200),
    "GET /admin/vm/details/{pk}": (303, 200, 200, 200, 200),
    "POST /admin/vm/rdp/{pk}": (401, 403, 200, 200, 403),
    "GET /admin/vm/ssh-config/{pk}": (303, 403, 200, 200, 403),
    "GET /admin/rdp-help": (303, 403, 200, 200, 403),
    "GET /admin/vm/create": (303, 403, 200, 200, 403),
    "POST /admin/vm/create": (401, 403, 303, 303, 403),
    "GET /admin/vm/edit/{pk}": (303, 403, 200, 200, 403),
    "POST /admin/vm/edit/{pk}": (401, 403, 303, 303, 403),
    "POST /admin/vm/delete": (401, 403, 303, 303, 403),
    "POST /admin/vm/extend/{pk}": (401, 403, 303, 303, 403),
    "GET /admin/vm/suggest": (303, 200, 200, 200, 200),
    "GET /admin/vm/reachability": (303, 200, 200, 200, 200),
    "GET /admin/hypervisor/list": (303, 403, 200, 200, 200),
    "GET /admin/hypervisor/details/{pk}": (303, 403, 200, 200, 200),
    "GET /admin/hypervisor/create": (303, 403, 200, 200, 403),
    "POST /admin/hypervisor/create": (401, 403, 303, 303, 403),
    "GET /admin/hypervisor/edit/{pk}": (303, 403, 200, 200, 403),
    "POST /admin/hypervisor/edit/{pk}": (401, 403, 303, 303, 403),
    "POST /admin/hypervisor/delete": (401, 403, 303, 303, 403),
    "GET /admin/trash/list": (303, 403, 403, 200, 403),
    "GET /admin/trash/details/{pk}": (303, 403, 403, 404, 403),
    "GET /admin/trash/create": (303, 403, 403, 404, 403),
    "POST /admin/trash/create": (401, 403, 403, 404, 403),
    "GET /admin/trash/edit/{pk}": (303, 403, 403, 404, 403),
    "POST /admin/trash/edit/{pk}": (401, 403, 403, 404, 403),
    "POST /admin/trash/delete": (401, 403, 403, 403, 403),
    "POST /admin/trash/restore/{pk}": (401, 403, 403, 303, 403),
    "POST /admin/trash/purge/{pk}": (401, 403, 403, 303, 403),
    "GET /admin/token/list": (303, 200, 200, 200, 200),
    "GET /admin/token/details/{pk}": (303, 404, 404, 200, 404),
    "GET /admin/token/create": (303, 200, 200, 200, 200),
    "POST /admin/token/create": (401, 303, 303, 303, 303),
    "GET /admin/token/made/{pk}": (303, 303, 303, 303, 303),
    "GET /admin/token/edit/{pk}": (303, 404, 404, 404, 404),
    "POST /admin/token/edit/{pk}": (401, 404, 404, 404, 404),
    "POST /admin/token/delete": (401, 404, 404, 303, 404),
    "GET /admin/user/list": (303, 403, 403, 200, 403),
    "GET /admin/user/details/{pk}": (303, 403, 403, 200, 403),
    "GET /admin/user/create": (303, 403, 403, 200, 403),
    "POST /admin/user/create": (401, 403, 403, 303, 403),
    "GET /admin/user/edit/{pk}": (303, 403, 403, 200, 403),
    "POST /admin/user/edit/{pk}": (401, 403, 403, 303, 403),
    "POST /admin/user/delete": (401, 403, 403, 303, 403),
    "POST /admin/user/deactivate/{pk}": (401, 403, 403, 303, 403),
    "POST /admin/user/activate/{pk}": (401, 403, 403, 303, 403),
    "POST /admin/user/unlock/{pk}": (401, 403, 403, 303, 403),
    "POST /admin/user/end-sessions/{pk}": (401, 403, 403, 303, 403),
    "POST /admin/user/revoke-tokens/{pk}": (401, 403, 403, 303, 403),
    "POST /admin/user/reset-second-factor/{pk}": (401, 403, 403, 303, 403),
    "POST /admin/user/reset/{pk}": (401, 403, 403, 200, 403),
    "GET /admin/user/seen/{pk}": (303, 403, 403, 200, 403),
    "POST /admin/user/seen/{pk}/mark": (401, 403, 403, 303, 403),
    "GET /admin/user/seen/{pk}/csv": (303, 403, 403, 200, 403),
    "GET /admin/credential/list": (303, 403, 200, 200, 403),
    "GET /admin/credential/details/{pk}": (303, 403, 200, 200, 403),
    "GET /admin/credential/create": (303, 403, 200, 200, 403),
    "POST /admin/credential/create": (401, 403, 303, 303, 403),
    "GET /admin/credential/edit/{pk}": (303, 403, 200, 200, 403),
    "POST /admin/credential/edit/{pk}": (401, 403, 303, 303, 403),
    "POST /admin/credential/delete": (401, 403, 303, 303, 403),
    "POST /admin/credential/reveal/{pk}": (401, 403, 200, 200, 403),
    "POST /admin/credential/reveal/{pk}/{version}": (401, 403, 200, 200, 403),
    "GET /admin/credential/viewers/{pk}/csv": (303, 403, 200, 200, 403),
    "GET /admin/alert/list": (303, 403, 403, 200, 403),
    "GET /admin/alert/details/{pk}": (303, 403, 403, 404, 403),
    "GET /admin/alert/create": (303, 403, 403, 404, 403),
    "POST /admin/alert/create": (401, 403, 403, 404, 403),
    "GET /admin/alert/edit/{pk}": (303, 403, 403, 404, 403),
    "POST /admin/alert/edit/{pk}": (401, 403, 403, 404, 403),
    "POST /admin/alert/delete": (401, 403, 403, 403, 403),
    "POST /admin/alert/read/{pk}": (401, 403, 403, 303, 403),
    "POST /admin/alert/read-all": (401, 403, 403, 303, 403),
    "GET /admin/notice/list": (303, 403, 403, 200, 403),
    "GET /admin/notice/due": (303, 403, 403, 200, 403),
    "GET /admin/notice/details/{pk}": (303, 403, 403, 200, 403),
    "GET /admin/notice/create": (303, 403, 403, 404, 403),
    "POST /admin/notice/create": (401, 403, 403, 404, 403),
    "GET /admin/notice/edit/{pk}": (303, 403, 403, 404, 403),
    "POST /admin/notice/edit/{pk}": (401, 403, 403, 404, 403),
    "POST /admin/notice/delete": (401, 403, 403, 403, 403),
    "POST /admin/notice/run": (401, 403, 403, 303, 403),
    "POST /admin/notice/test": (401, 403, 403, 409, 403),
    "POST /admin/notice/again/{pk}": (401, 403, 403, 409, 403),
    "POST /admin/notice/again-all": (401, 403, 403, 303, 403),
    "GET /admin/audit/list": (303, 403, 403, 200, 200),
    "GET /admin/audit/details/{pk}": (303, 403, 403, 200, 200),
    "GET /admin/audit/create": (303, 403, 403, 404, 404),
    "POST /admin/audit/create": (401, 403, 403, 404, 404),
    "GET /admin/audit/edit/{pk}": (303, 403, 403, 404, 404),
    "POST /admin/audit/edit/{pk}": (401, 403, 403, 404, 404),
    "POST /admin/audit/delete": (401, 403, 403, 403, 403),
}
"""From the contract's roles. Who is not signed in is led from a page to the sign-in (303)."""

QUERIES = {
    "/api/vms/field-values": "?field=owner",
    "/api/vms/reachability": "?ids=999999",
    "/api/hypervisors/reachability": "?ids=999999",
    "/admin/vm/suggest": "?field=owner",
    "/admin/vm/reachability": "?ids=999999",
    "/static": "/favicon.svg",
    "/static/swagger": "/docs.css",
}

PASSWORD = "a password nobody has yet"

number = count(1)


@dataclass(frozen=True)
class Things:
    """Rows to ask for: fresh ones, since some of what is asked destroys them."""

    vm: int
    trash: int
    hypervisor: int
    user: int
    token: int
    credential: int
    vm_name: str
    audit: int = 1
    auth: int = 999_999_999
    """Nobody's session."""
    alert: int = 1
    notice: int = 1

    def of(self, path: str) -> int:
        if path.endswith(("/restore", "/purge")):
            return self.trash
        words = {
            "vms": "vm",
            "hypervisors": "hypervisor",
            "users": "user",
            "tokens": "token",
            "alerts": "alert",
            "notices": "notice",
        }
        word = f"{path}//".split("/")[2]
        found: int = getattr(self, words.get(word, word), 1)
        return found


@pytest.fixture
def things(admin: Person) -> Iterator[Things]:
    return iter(lambda: fresh(admin), None)


def fresh(admin: Person) -> Things:
    n, rules = next(number), admin.app.state.vmtrak.delivery.rules
    with admin.database.work(admin.actor) as work:
        home = hypervisors.add(work, NewHypervisor(name=f"home-{n}"))
        vm = inventory.add(
            work,
            NewVM(
                vm_name=f"vm-{n}",
                department="Finance",
                hypervisor_id=home.id,
                ip_address="192.0.2.1",  # for documentation: nothing asks whether it answers
            ),
        )
        trashed = inventory.add(work, NewVM(vm_name=f"trashed-{n}"))
        inventory.remove(work, trashed.id)
        user = users.add(work, NewUser.model_validate(person(n)))
        new = NewToken(name=f"token-{n}", scopes=[Scope.INVENTORY_READ])
        token, _ = api_tokens.add_for(work, user.id, new)
        account = NewCredential.model_validate({"username": f"root-{n}", "password": PASSWORD})
        credential = credentials.add(work, admin.app.state.vmtrak.vault, vm.id, account)
        alerts.post(work, kind="test", key=f"test:{n}", text="Look at this.")
        message = planning.new_message(
            work, rules, Recipient.user(user), work.moment.date(), Kind.TEST
        )
    return Things(
        vm=vm.id,
        trash=trashed.id,
        hypervisor=home.id,
        user=user.id,
        token=token.id,
        credential=credential.id,
        vm_name=vm.vm_name,
        notice=message.id,
    )


def person(n: int) -> dict[str, str]:
    return {"username": f"user-{n}", "email": f"user-{n}@vmtrak.example", "role": "read"}


def emptied(admin: Person, things: Things) -> None:
    """Take the VM off the hypervisor, which may be removed then."""
    with admin.database.work(admin.actor) as work:
        inventory.change(work, things.vm, inventory.VMPatch(hypervisor_id=None))


def revision(api: TestClient, things: Things, path: str) -> str:
    """What a form that was just opened would say."""
    if path.startswith("/admin/credential/"):
        address = f"/api/vms/{things.vm}/credentials/{things.credential}"
        return str(api.get(address).headers["ETag"]).strip('"v')
    word = {"vm": "vms", "hypervisor": "hypervisors", "user": "users"}.get(path.split("/")[2])
    if word is None:
        return ""
    tag: str = api.get(f"/api/{word}/{things.of(path)}").headers["ETag"]
    return tag.strip('"v')


def body(path: str) -> dict[str, Any]:
    """What each operation wants, in the names of both doors; the rest is ignored."""
    n = next(number)
    return {
        **person(n),
        "vm_name": f"new-{n}",
        "name": f"new-{n}",
        "status": "active",
        "power_state": "on",
        "department": "Finance",
        "password": PASSWORD,
        "new_password": PASSWORD,
        "token": "no such token",
        "choice": "owned",
        "days": 30,
        **({"scopes": ["inventory:read"]} if path.startswith("/api") else {}),
        "scopes.inventory:read": "true",
    }


def walk(routes: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Method and address of every route, the kinds of rows in the place of {identity}."""
    for route in routes:
        if isinstance(route, Mount) and route.routes:
            yield from walk(route.routes, prefix + route.path)
        elif isinstance(route, Mount):
            yield "GET", prefix + route.path
        else:
            assert isinstance(route, Route), route
            for method in sorted((route.methods or set()) - {"HEAD"}):
                for kind in [view.kind for view in panel.VIEWS]:
                    yield method, (prefix + route.path).replace("{identity}", kind)


def ask(
    client: TestClient, method: str, path: str, things: Things, form: dict[str, Any]
) -> Response:
    address = path.replace("{id}", str(things.of(path))).replace("{pk}", str(things.of(path)))
    address = address.replace("{cid}", str(things.credential)).replace("{version}", "1")
    address += QUERIES.get(path, "")
    if method not in {"POST", "PUT"}:
        return client.request(method, address)
    if path.startswith("/api"):
        return client.request(method, address, json=form)
    return client.request(
        method, address, data={**form, "pk": str(things.of(path)), "vm": things.vm_name}
    )


def client_of(people: dict[str, Person], anonymous: TestClient, who: str, path: str) -> TestClient:
    """A client for the door of that path, whose requests come from the panel's own pages."""
    if who == "anonymous":
        anonymous.headers["Origin"] = str(anonymous.base_url)
        return anonymous
    return people[who].api if path.startswith("/api") else people[who].panel


def test_every_route_has_its_row_in_the_matrix(app: Starlette) -> None:
    found = {f"{method} {path}" for method, path in walk(app.routes)}
    listed = {f"{endpoint.method} /api{endpoint.path}" for endpoint in ENDPOINTS}
    assert listed <= found
    assert found == set(MATRIX)


@pytest.mark.parametrize("who", WHO)
def test_a_role_may_what_the_contract_says(
    who: str,
    admin: Person,
    people: dict[str, Person],
    anonymous: TestClient,
    things: Iterator[Things],
) -> None:
    wrong, kept = [], next(things)
    for row, expected in MATRIX.items():
        method, path = row.split()
        target, form = kept if method == "GET" else next(things), body(path)
        if row in REMOVING_A_HYPERVISOR:
            emptied(admin, target)
        if "/edit/" in path:
            form["revision"] = revision(admin.api, target, path)
        client = client_of(people, anonymous, who, path)
        answer = ask(client, method, path, target, form)
        if answer.status_code != expected[WHO.index(who)]:
            wrong.append((row, answer.status_code, answer.text[:200]))
        if answer.status_code == 303 and who == "anonymous" and row != "POST /admin/logout":
            assert answer.headers["Location"].startswith("/admin/login?next=%2Fadmin"), row
    assert wrong == []


@pytest.mark.parametrize("who", WHO)
def test_head_is_refused_where_get_is(
    who: str, people: dict[str, Person], anonymous: TestClient, things: Iterator[Things]
) -> None:
    target = next(things)
    for row, expected in MATRIX.items():
        method, path = row.split()
        if method == "GET":
            client = client_of(people, anonymous, who, path)
            answer = ask(client, "HEAD", path, target, {})
            refused = row in WITHOUT_HEAD and who != "anonymous"
            wanted = 405 if refused else expected[WHO.index(who)]
            assert (row, answer.status_code) == (row, wanted)
            assert answer.content == b""


@pytest.mark.parametrize("who", ["reader", "operator", "auditor"])
def test_a_refused_request_changes_nothing(
    who: str, admin: Person, people: dict[str, Person], things: Iterator[Things]
) -> None:
    target = next(things)
    before = everything(admin)
    for row, expected in MATRIX.items():
        method, path = row.split()
        if expected[WHO.index(who)] == 403:
            client = people[who].api if path.startswith("/api") else people[who].panel
            ask(client, method, path, target, body(path))
    assert everything(admin) == before


def everything(admin: Person) -> list[object]:
    api = admin.api
    events = api.get("/api/audit?limit=200").json()["data"]
    changes = [event for event in events if event["entity_type"] != "auth"]
    lists = ("/api/vms", "/api/vms/trash", "/api/credentials", "/api/hypervisors", "/api/users")
    return [changes, *(api.get(path).json() for path in lists)]


def test_a_session_cookie_does_not_open_the_api(operator: Person, things: Iterator[Things]) -> None:
    client, target = operator.panel, next(things)
    token = client.cookies["vmtrak_session"]
    client.cookies.set("vmtrak_session", token, domain="127.0.0.1", path="/")
    client.cookies.set("refreshToken", token, domain="127.0.0.1", path="/")
    for row, expected in MATRIX.items():
        method, path = row.split()
        if path.startswith("/api") and expected[0] == 401:
            answer = ask(client, method, path, target, body(path))
            assert (row, answer.status_code) == (row, 401)


def test_a_bearer_token_does_not_open_the_panel(operator: Person, things: Iterator[Things]) -> None:
    client, target = operator.api, next(things)
    client.headers["Origin"] = str(client.base_url)
    for row, expected in MATRIX.items():
        method, path = row.split()
        if path.startswith("/admin"):
            answer = ask(client, method, path, target, body(path))
            assert (row, answer.status_code) == (row, expected[0])
