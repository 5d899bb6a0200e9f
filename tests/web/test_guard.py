"""The guard before both doors: other sites' requests, headers, cookies, errors of ours."""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response
from loguru import logger
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.conftest import BASE_URL, PASSWORD, SECRET_KEY, Person, anonymous_client
from vmtrak import app as application
from vmtrak import inventory
from vmtrak.settings import load

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

FOREIGN: tuple[dict[str, str], ...] = (
    {},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": ""},
    {"Sec-Fetch-Site": "cross-site", "Origin": BASE_URL},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "null", "Host": ""},
    {"Origin": ""},
    {"Origin": "http://127.0.0.1:3001"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "http://127.0.0.1:3000.evil.example"},
    {"Origin": "http://evil.example/http://127.0.0.1:3000"},
    {"Origin": "127.0.0.1:3000"},
    {"Origin": "http://["},
    {"Referer": f"{BASE_URL}/admin/vm/list"},
)

WRITES = (
    "/admin/login",
    "/admin/logout",
    "/admin/setup",
    "/admin/link",
    "/admin/complete-setup",
    "/admin/vm/create",
    "/admin/vm/edit/{id}",
    "/admin/vm/delete",
    "/admin/vm/delete?pks={id}",
    "/admin/vm/import",
    "/admin/vm/action/delete-all?pks={id}",
    "/admin/vm/ajax/lookup",
    "/admin/hypervisor/create",
    "/admin/hypervisor/delete?pks=1",
    "/admin/trash/restore/{id}",
    "/admin/trash/purge/{id}",
    "/admin/notice/run",
    "/admin/notice/test",
    "/admin/notice/again/1",
    "/admin/notice/again-all",
    "/admin/account/notices",
    "/admin/user/create",
    "/admin/user/reset/1",
    "/admin/user/deactivate/2",
    "/admin/nothing",
    "/",
)
"""VMTrak's own, and how SQLAdmin's are called where nobody took them out."""

FORM = {"vm_name": "forged", "username": "ada", "password": PASSWORD, "pk": "1", "role": "admin"}

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@pytest.fixture
def vm(operator: Person) -> int:
    number: int = operator.api.post("/api/vms", json={"vm_name": "kept"}).json()["id"]
    return number


def test_the_panel_refuses_what_another_site_started(admin: Person, vm: int) -> None:
    client = admin.panel
    del client.headers["Origin"]
    for headers, path, method in product(FOREIGN, WRITES, ("POST", "DELETE")):
        answer = client.request(method, path.replace("{id}", str(vm)), headers=headers, data=FORM)
        asked = (method, path, headers)
        assert (asked, answer.status_code) == (asked, 403)
        assert "set-cookie" not in answer.headers
    assert client.get("/admin/").status_code == 200
    assert [row["vm_name"] for row in admin.api.get("/api/vms").json()["data"]] == ["kept"]
    assert admin.api.get("/api/vms/trash").json()["total"] == 0
    assert admin.api.get("/api/audit?action=auth.login_failed").json()["total"] == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-origin", "Origin": BASE_URL},
        {"Origin": BASE_URL},
    ],
)
def test_the_panel_takes_what_its_own_pages_send(headers: dict[str, str], admin: Person) -> None:
    client = admin.panel
    del client.headers["Origin"]
    form = {"vm_name": "own", "status": "active", "power_state": "on"}
    assert client.post("/admin/vm/create", data=form, headers=headers).status_code == 303


def test_nothing_changes_by_get(admin: Person, vm: int) -> None:
    client = admin.panel
    for path in (
        "/admin/logout",
        "/admin/vm/delete",
        f"/admin/vm/delete?pk={vm}",
        f"/admin/vm/delete?pks={vm}",
        f"/admin/trash/restore/{vm}",
        f"/admin/trash/purge/{vm}",
        "/admin/user/reset/2",
        "/admin/user/deactivate/2",
        "/admin/user/activate/2",
        "/admin/notice/run",
        "/admin/notice/test?channel=mail",
        "/admin/notice/again/1",
        "/admin/notice/again-all",
        "/admin/account/notices?on=true",
    ):
        for method in ("GET", "HEAD", "OPTIONS"):
            answer = client.request(method, path)
            assert (path, answer.status_code) == (path, 405)
            assert answer.headers["Allow"] == "POST"
    assert client.get("/admin/").status_code == 200
    assert admin.api.get(f"/api/vms/{vm}").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/admin/vm/{id}/notes/download/",
        "/admin/vm/{id}/notes/preview/",
        "/admin/vm/{id}/notes/download",
        "/admin/vm/notes/{id}/download",
        "/admin/vm/export/csv",
        "/admin/vm/export/json",
        "/admin/vm/import",
        "/admin/vm/import/csv",
        "/admin/notice/export/csv",
        "/admin/notice/action/run",
        "/admin/notice/{id}/answer/download",
        "/admin/vm/ajax/lookup?name=hypervisor&term=a",
        "/admin/vm/action/anything?pks={id}",
        "/admin/statics/css/main.css",
        "/admin/nothing/list",
        "/admin/vm/details/{id}/more",
    ],
)
def test_what_sqladmin_brings_along_is_not_there(path: str, admin: Person, vm: int) -> None:
    address = path.replace("{id}", str(vm))
    for method in ("GET", "POST", "DELETE"):
        assert admin.panel.request(method, address).status_code in {404, 405}


def test_the_api_refuses_a_browser_of_another_site(operator: Person) -> None:
    client = operator.api
    for headers in FOREIGN:
        expected = 403 if {"Origin", "Sec-Fetch-Site"} & headers.keys() else 422
        answer = client.post("/api/vms", json={}, headers=headers)
        assert (headers, answer.status_code) == (headers, expected)
        if expected == 403:
            assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "https:evil.example",
        "http://[",
        "//[",
        "javascript:alert(1)",
        "evil.example",
        "/",
        "/api/vms",
        "/admin",
        "/adminevil",
        "/admin/../..//evil.example",
        "/admin/%2e%2e/%2E%2e//evil.example",
        "/admin/..",
        "/admin//evil.example",
        "/admin/\\..\\..\\evil",
        "/admin/\r\nSet-Cookie: a=b",
        "/admin/\t/evil",
        "/admin/\u2028x",
        "/admin/\x00",
        " /admin/",
        "",
    ],
)
def test_signing_in_leads_to_no_address_but_the_panels(
    target: str, anonymous: TestClient, operator: Person
) -> None:
    anonymous.headers["Origin"] = BASE_URL
    form = {"username": "otto", "password": PASSWORD, "next": target}
    assert anonymous.post("/admin/login", data=form).headers["Location"] == "/admin/"
    again = operator.panel.get("/admin/login", params={"next": target})
    assert again.headers["Location"] == "/admin/"


@pytest.mark.parametrize("target", ["/admin/vm/details/7", "/admin/vm/list?search=a//b&page=2"])
def test_signing_in_leads_back_to_where_one_wanted_to_go(
    target: str, anonymous: TestClient
) -> None:
    led = anonymous.get(target, headers={"Accept": "text/html"})
    page = anonymous.get(led.headers["Location"])
    shown = page.text.partition('name="next" value="')[2].partition('"')[0]
    assert shown.replace("&amp;", "&") == target
    form = {"username": "otto", "password": PASSWORD, "next": target}
    done = anonymous.post("/admin/login", data=form, headers={"Origin": BASE_URL})
    assert done.headers["Location"] == target


def answers(admin: Person, anonymous: TestClient, vm: int) -> Iterator[Response]:
    """One answer of every kind."""
    panel, api = admin.panel, admin.api
    for path in ("/admin/", f"/admin/vm/details/{vm}", "/admin/vm/create", "/admin/vm/details/99"):
        yield panel.get(path)
    yield panel.get("/admin/vm/details/abc")
    yield panel.get("/admin/vm/list?page=0")
    yield panel.post("/admin/vm/create", data={"vm_name": ""})
    yield panel.post("/admin/vm/create", data={"vm_name": "x"})
    yield panel.post("/admin/vm/create", content=b"x" * 2_000_000)
    yield panel.delete("/admin/")
    for path in ("/", "/nothing", "/admin", "/admin/login", "/admin/", "/favicon.ico"):
        yield anonymous.get(path)
    for path in ("/static/favicon.svg", "/static/nothing", "/static/swagger/docs.js"):
        yield anonymous.get(path)
    for path in ("/api/openapi.json", "/api/docs", "/api/health", "/api/vms", "/api/nothing"):
        yield anonymous.get(path)
        yield api.get(path)
    yield anonymous.post("/admin/login")
    yield api.post("/api/vms", json={})
    yield api.post("/api/vms", content=b"x" * 2_000_000)
    yield api.request("TRACE", "/api/vms")


def test_every_answer_has_the_security_headers(
    admin: Person, anonymous: TestClient, vm: int
) -> None:
    statuses = set()
    for answer in answers(admin, anonymous, vm):
        address = str(answer.request.url)
        statuses.add(answer.status_code)
        found = {name: answer.headers.get(name) for name in HEADERS}
        assert (address, found) == (address, HEADERS)
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "server" not in answer.headers
        if "/static/" not in address:
            assert "no-store" in answer.headers["cache-control"], address
    assert statuses >= {200, 303, 307, 401, 403, 404, 405, 413, 422}


def test_no_page_has_inline_script_or_style(admin: Person, anonymous: TestClient, vm: int) -> None:
    for answer in answers(admin, anonymous, vm):
        if answer.headers.get("content-type", "").startswith("text/html"):
            page = answer.text.lower()
            for inline in ("<script>", " style=", " onclick=", " onload=", "javascript:", "<style"):
                assert inline not in page, (answer.request.url, inline)
            assert "http://" not in page.replace("http://www.w3.org/", "").replace(BASE_URL, "")
            assert "https://" not in page


def cookies_of(app: Starlette) -> dict[str, str]:
    """The cookies that both doors set when somebody signs in, by name."""
    client = anonymous_client(app)
    client.headers["Origin"] = BASE_URL
    form = {"username": "otto", "password": PASSWORD}
    given = [client.post("/admin/login", data=form), client.post("/api/auth/login", json=form)]
    lines = [line for answer in given for line in answer.headers.get_list("set-cookie")]
    return {line.partition("=")[0]: line.partition(";")[2] for line in lines}


def test_cookies_are_for_their_door_alone(app: Starlette) -> None:
    found = cookies_of(app)
    assert set(found) == {"vmtrak_session", "refreshToken", "vmtrak_device"}
    for name, path, site in (
        ("vmtrak_device", "/", "strict"),
        ("vmtrak_session", "/admin", "lax"),
        ("refreshToken", "/api/auth", "strict"),
    ):
        words = {word.strip().lower() for word in found[name].split(";")}
        assert {"httponly", f"path={path}", f"samesite={site}"} <= words
        assert "secure" not in words
        assert not any(word.startswith("domain") for word in words)


@pytest.fixture
def secure_app(database_url: str, tmp_path: Path) -> Iterator[Starlette]:
    given = {
        "VMTRAK_DATA_DIR": str(tmp_path),
        "VMTRAK_DATABASE_URL": database_url,
        "VMTRAK_BASE_URL": "https://vmtrak.example",
        "VMTRAK_SECRET_KEY": SECRET_KEY,
    }
    made = application.build(load(given, None))
    yield made
    made.state.vmtrak.database.close()


def test_under_https_cookies_are_secure(secure_app: Starlette) -> None:
    for line in cookies_of(secure_app).values():
        assert "secure" in line.lower()
    answer = anonymous_client(secure_app).get("/admin/login")
    assert "max-age=" in answer.headers["strict-transport-security"]


@pytest.mark.parametrize("other", ['{"a":1}', "a b=c", '"', "é=é", "a[]=(b)", "a=\\", ";;="])
def test_strange_cookies_of_others_do_not_sign_anybody_out(other: str, operator: Person) -> None:
    client = operator.panel
    token = client.cookies["vmtrak_session"]
    client.cookies.clear()
    header = {b"Cookie": f"{other}; vmtrak_session={token}; {other}".encode()}
    assert client.get("/admin/", headers=header).status_code == 200


def boom(*_: object, **__: object) -> None:
    message = "SELECT password FROM users -- /etc/passwd hunter2"
    raise RuntimeError(message)


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    records: list[Any] = []
    sink = logger.add(lambda message: records.append(message.record), level="ERROR")
    yield records
    logger.remove(sink)


Asked = Callable[[Person], Response]


@pytest.mark.parametrize(
    "ask",
    [
        lambda someone: someone.api.get("/api/vms/hypervisors"),
        lambda someone: someone.api.post("/api/vms", json={"vm_name": "x"}),
        lambda someone: someone.panel.get("/admin/vm/list"),
        lambda someone: someone.panel.post("/admin/vm/create", data={"vm_name": "x"}),
        lambda someone: someone.panel.post("/admin/vm/delete", data={"pk": "1"}),
    ],
    ids=["list", "add", "list page", "form", "delete"],
)
def test_an_error_of_ours_is_logged_whole_and_told_by_its_number(
    ask: Asked, operator: Person, monkeypatch: pytest.MonkeyPatch, logged: list[Any]
) -> None:
    for name in ("page", "add", "remove"):
        monkeypatch.setattr(inventory, name, boom)
    monkeypatch.setattr(inventory.hypervisors, "names", boom)
    answer = ask(operator)
    assert answer.status_code == 500
    number = logged[-1]["extra"]["request_id"]
    assert number in answer.text
    assert "RuntimeError" in repr(logged[-1]["exception"])
    for word in ("RuntimeError", "SELECT", "hunter2", "passwd", "Traceback", "inventory", ".py"):
        assert word not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


def test_a_refusal_is_not_logged_as_an_error(operator: Person, logged: list[Any]) -> None:
    operator.api.get("/api/vms/99")
    operator.panel.get("/admin/user/list")
    assert logged == []


@pytest.mark.parametrize("host", ["evil.example", "[", "evil.example/api/", "a b", "x?", "x:99999"])
def test_a_strange_host_does_no_harm(host: str, operator: Person) -> None:
    panel, api = operator.panel, operator.api
    assert (
        panel.get("/admin/nothing", headers={"Host": host}).headers["content-type"][:9]
        == "text/html"
    )
    answer = api.get("/api/nothing", headers={"Host": host})
    assert answer.headers["content-type"] == "application/problem+json"
    assert panel.get("/admin/", headers={"Host": host}).status_code == 200
