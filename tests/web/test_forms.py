"""Bad input to every page and form of the panel: a page that says so, never an error of ours."""

from collections.abc import Iterator

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from tests.api.test_bad_input import BAD_IDS, BAD_QUERIES, BAD_VM_QUERIES, LEAKS, UNKNOWN_ID
from tests.conftest import BASE_URL, Person

FORMS = (
    "/admin/login",
    "/admin/setup",
    "/admin/link",
    "/admin/vm/create",
    "/admin/vm/edit/1",
    "/admin/hypervisor/create",
    "/admin/user/create",
    "/admin/user/edit/2",
    "/admin/vm/delete",
    "/admin/trash/purge/1",
)

BOUNDARY = "multipart/form-data; boundary=b"


def assert_page(answer: Response, *statuses: int) -> None:
    assert answer.status_code in statuses, (answer.request.url, answer.status_code)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1" in answer.text
    assert not LEAKS.search(answer.text.replace("vmtrak.example", ""))


def part(name: str, value: str, more: str = "") -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value.encode() + b"\r\n"


@pytest.fixture
def client(admin: Person) -> TestClient:
    admin.api.post("/api/vms", json={"vm_name": "kept"})
    return admin.panel


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_is_no_number_gets_a_page(client: TestClient) -> None:
    for number in BAD_IDS:
        for kind in ("vm", "hypervisor", "user", "audit"):
            assert_page(client.get(f"/admin/{kind}/details/{number}"), 422)
        for kind in ("vm", "hypervisor", "user"):
            assert_page(client.get(f"/admin/{kind}/edit/{number}"), 422)
            assert_page(client.get(f"/admin/{kind}/create?from={number}"), 422)
        for path in ("trash/restore", "trash/purge", "user/reset", "user/deactivate"):
            assert_page(client.post(f"/admin/{path}/{number}"), 422)
        if "%" not in number:
            assert_page(client.post("/admin/vm/delete", data={"pk": number}), 422)


def test_the_largest_number_is_nobodys_row(client: TestClient) -> None:
    for kind in ("vm", "hypervisor", "user", "audit"):
        assert_page(client.get(f"/admin/{kind}/details/{UNKNOWN_ID}"), 404)
    for kind in ("vm", "hypervisor", "user"):
        assert_page(client.get(f"/admin/{kind}/edit/{UNKNOWN_ID}"), 404)
        assert_page(client.post(f"/admin/{kind}/edit/{UNKNOWN_ID}", data={"revision": "1"}), 404)
    assert_page(client.post("/admin/vm/delete", data={"pk": UNKNOWN_ID}), 404)
    assert_page(client.post(f"/admin/trash/purge/{UNKNOWN_ID}"), 404)


def test_a_wrong_query_gets_a_page(client: TestClient) -> None:
    for kind in ("vm", "trash", "audit"):
        for query in BAD_QUERIES:
            # An empty field of the filter form says nothing.
            known = not query.endswith("=") and (kind == "vm" or not query.startswith("cursor"))
            if known:
                assert_page(client.get(f"/admin/{kind}/list?{query}"), 422)
    for query in BAD_VM_QUERIES:
        assert_page(client.get(f"/admin/vm/list?{query}"), 422)
    for query in ("ids=abc", "", "ids=" + "9" * 30):
        assert_page(client.get(f"/admin/vm/reachability?{query}"), 422)
    for query in ("field=notes", "", "field=owner&field=owner", "field=owner&term=" + "t" * 129):
        assert_page(client.get(f"/admin/vm/suggest?{query}"), 422)


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_form_that_nobody_would_send_gets_a_page(path: str, client: TestClient) -> None:
    refused = (400, 401, 404, 409, 412, 422)
    for body, kind in forms():
        answer = client.post(path, content=body, headers={"Content-Type": kind})
        if answer.status_code != 303:
            assert_page(answer, *refused)
    large = b"vm_name=" + b"x" * 10_000_000
    kind = "application/x-www-form-urlencoded"
    if path != "/admin/trash/purge/1":
        assert_page(client.post(path, content=large, headers={"Content-Type": kind}), 413)
    assert client.get("/admin/").status_code == 200


def forms() -> Iterator[tuple[bytes, str]]:
    plain = "application/x-www-form-urlencoded"
    yield b"", plain
    yield b"&&=&", plain
    yield b"vm_name=%ff%00%ed%a0%80&username=%00&password=%00&token=%00&pk=%00", plain
    yield b"vm_name=a&vm_name=b&username=a&username=b&token=a&token=b&pk=a&pk=b", plain
    yield b"&".join(b"f%d=1" % n for n in range(3_000)), plain
    yield b"{}", "application/json"
    yield b"x", "text/plain"
    yield b"x", ""
    yield b"x", BOUNDARY
    yield b"x", "multipart/form-data"
    yield part("vm_name", "a"), BOUNDARY
    for name in ("vm_name", "username", "token", "pk"):
        yield part(name, "content", '; filename="a.txt"') + b"--b--\r\n", BOUNDARY
        for charset in ("unicode_escape", "undefined", "punycode", "utf-16", "zlib", "idna"):
            yield part(name, "\\ud800") + b"--b--\r\n", f"{BOUNDARY}; charset={charset}"


def test_what_was_typed_is_shown_again_and_never_as_markup(client: TestClient) -> None:
    nasty = "<script>alert(1)</script>\"'&{{ 7*7 }}"
    form = {"vm_name": "", "notes": nasty, "owner": nasty, "hypervisor": nasty, nasty: nasty}
    answer = client.post("/admin/vm/create", data=form)
    assert_page(answer, 422)
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text
    assert "{{ 7*7 }}" in answer.text
    form = {"vm_name": nasty, "notes": nasty, "owner": nasty, "status": "active"}
    made = client.post("/admin/vm/create", data={**form, "power_state": "on"})
    for path in (made.headers["Location"], "/admin/vm/list", "/admin/audit/list", "/admin/"):
        assert "<script>alert" not in client.get(path).text
    for path in ("/admin/vm/list", "/admin/login"):
        shown = client.get(path, params={"search": nasty, "next": f"/admin/{nasty}"})
        assert "<script>alert" not in shown.text


def test_a_vm_with_a_wrong_value_is_refused_on_its_form(client: TestClient) -> None:
    for field, value in (
        ("vm_name", ""),
        ("vm_name", "a\r\nb"),
        ("vm_name", "KEPT"),
        ("hypervisor", "nowhere"),
        ("expiry_date", "2027-02-31"),
        ("vcpu", "0"),
        ("vcpu", "9" * 30),
        ("ram_gb", "lots"),
        ("ip_address", "10.0.0.256"),
        ("environment", "moon"),
        ("notes", "a\0b"),
    ):
        form = {"vm_name": "new", "status": "active", "power_state": "on", field: value}
        answer = client.post("/admin/vm/create", data=form)
        assert (field, answer.status_code) == (field, 409 if value == "KEPT" else 422)
        assert 'aria-invalid="true"' in answer.text
    assert client.get("/admin/vm/list").text.count("/admin/vm/details/") >= 1


def test_an_edit_needs_the_revision_that_the_form_showed(client: TestClient) -> None:
    for revision in ("", "abc", "0", "-1", "2", "9" * 30, "\N{ARABIC-INDIC DIGIT ONE}"):
        form = {"vm_name": "changed", "revision": revision, "status": "active", "power_state": "on"}
        answer = client.post("/admin/vm/edit/1", data=form)
        assert (revision, answer.status_code) == (revision, 412)
    assert client.get("/admin/vm/edit/1").text.count('value="kept"') == 1


def test_an_address_outside_the_panel_gets_a_page(client: TestClient) -> None:
    for path in (
        "/admin/nothing",
        "/admin/vm",
        "/admin/vm/list/x",
        "/admin//",
        "/admin/vm/nothing",
    ):
        assert_page(client.get(path), 404)
    for path in ("/nothing", "/api", "/ADMIN/"):
        assert_page(client.get(path), 401)
    for path in (
        "/static/nothing",
        "/static/%00",
        "/static/%2e%2e/base.py",
        "/static/" + "a" * 5_000,
    ):
        assert_page(client.get(path), 404)
    assert client.get("/admin").headers["Location"] == f"{BASE_URL}/admin/"
