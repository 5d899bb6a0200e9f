"""The panel's pages of API tokens: a new one is shown once, a refused form keeps what was typed."""

import re

import pytest
from starlette.testclient import TestClient

from tests.conftest import Later, Person
from tests.tokens.conftest import made
from vmtrak.access import Scope
from vmtrak.accounts import api_tokens

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

FORM = {"name": "nightly report", "scopes.inventory:read": "true", "expires_in_days": "30"}
DAY = 24 * 60 * 60


def make(client: TestClient, **fields: str) -> str:
    """Send the form; returns the address that it leads to."""
    answer = client.post("/admin/token/create", data={**FORM, **fields})
    assert answer.status_code == 303
    address: str = answer.headers["Location"]
    return address


def secret_in(page: str) -> str:
    [found] = set(api_tokens.FORM.findall(page))
    return str(found)


def test_a_new_token_is_shown_once(operator: Person) -> None:
    client = operator.panel
    address = make(client)
    page = client.get(address)
    assert page.headers["Cache-Control"] == "no-store"
    assert api_tokens.is_genuine(secret_in(page.text))
    elsewhere = address.replace("/made/", "/details/")
    for _ in range(2):
        again = client.get(address)
        assert (again.status_code, again.text) == (303, "")
        assert again.headers["Location"] == elsewhere
    details = client.get(elsewhere).text
    assert api_tokens.FORM.findall(details) == []
    assert len(operator.api.get("/api/tokens").json()) == 1


def test_the_cookie_that_carries_it_is_for_that_page_alone(operator: Person) -> None:
    client = operator.panel
    answer = client.post("/admin/token/create", data=FORM)
    [cookie] = [c for c in answer.headers.get_list("set-cookie") if "vmtrak_new_token" in c]
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert attributes == {"httponly", "max-age=60", "path=/admin/token/made", "samesite=strict"}
    shown = client.get(answer.headers["Location"])
    [gone] = [c for c in shown.headers.get_list("set-cookie") if "vmtrak_new_token" in c]
    assert "max-age=0" in gone.lower()
    assert "path=/admin/token/made" in gone.lower()


def test_nobody_is_shown_a_token_that_is_not_theirs(operator: Person, admin: Person) -> None:
    number, secret = made(operator)
    other, _ = made(admin)
    for person, asked, given in (
        (admin, number, secret),
        (operator, other, secret),
        (operator, number, "vmt_guessed"),
        (operator, 999_999, secret),
    ):
        client = person.panel
        client.cookies.set("vmtrak_new_token", given, domain="127.0.0.1", path="/admin/token/made")
        answer = client.get(f"/admin/token/made/{asked}")
        assert (asked, answer.status_code, answer.text) == (asked, 303, "")


def test_a_refused_form_keeps_what_was_typed(operator: Person) -> None:
    answer = operator.panel.post(
        "/admin/token/create",
        data={
            "name": "nightly report",
            "scopes.rdp": "true",
            "expires_in_days": "400",
            "allowed_networks": "192.0.2.0/24\r\nnonsense",
        },
    )
    assert answer.status_code == 422
    assert 'value="nightly report"' in answer.text
    assert 'value="400"' in answer.text
    assert "192.0.2.0/24\nnonsense</textarea>" in answer.text.replace("\r\n", "\n")
    ticked = re.findall(r'name="scopes\.([\w:]+)" value="true" checked', answer.text)
    assert ticked == ["rdp"]
    assert "&#39;nonsense&#39; is no network" in answer.text
    assert "must be at most 365" in answer.text


def test_the_form_offers_what_the_role_covers(people: dict[str, Person]) -> None:
    offered = {
        who: re.findall(
            r'name="scopes\.([\w:]+)"', people[who].panel.get("/admin/token/create").text
        )
        for who in ("reader", "auditor", "operator", "admin")
    }
    assert offered == {
        "reader": ["inventory:read"],
        "auditor": ["inventory:read", "audit:read"],
        "operator": ["inventory:read", "inventory:write", "credentials:reveal", "rdp"],
        "admin": list(Scope),
    }


def test_a_scope_that_the_form_does_not_offer_is_passed_over(reader: Person) -> None:
    answer = reader.panel.post("/admin/token/create", data={**FORM, "scopes.audit:read": "true"})
    assert answer.status_code == 303
    [row] = reader.api.get("/api/tokens").json()
    assert row["scopes"] == ["inventory:read"]


def test_networks_may_be_written_with_commas_or_on_lines(operator: Person) -> None:
    make(operator.panel, allowed_networks=" 192.0.2.1,\r\n10.0.0.0/8 ,, ::1\r\n")
    [row] = operator.api.get("/api/tokens").json()
    assert row["allowed_networks"] == ["192.0.2.1/32", "10.0.0.0/8", "::1/128"]


def test_the_list_says_whether_a_token_works(operator: Person, later: Later) -> None:
    made(operator, name="short", expires_in_days=1)
    made(operator, name="long", expires_in_days=2)
    number, _ = made(operator, name="ended", expires_in_days=365)
    operator.api.delete(f"/api/tokens/{number}")
    later(DAY)
    client = operator.panel
    for state, name in (("working", "long"), ("expired", "short"), ("revoked", "ended")):
        page = client.get(f"/admin/token/list?state={state}").text
        assert re.findall(r'/admin/token/details/\d+">(\w+)</a>', page) == [name]
    page = client.get("/admin/token/list").text
    assert re.findall(r'/admin/token/details/\d+">(\w+)</a>', page) == ["long", "ended", "short"]
    assert client.get("/admin/token/list?state=sleeping").status_code == 422


def test_an_administrator_sees_everybodys_and_finds_a_users(
    admin: Person, operator: Person, reader: Person
) -> None:
    for person in (operator, reader, admin):
        made(person, name=f"of-{person.username}")
    client = admin.panel
    assert client.get("/admin/token/list").text.count("/admin/token/details/") == 3
    page = client.get(f"/admin/token/list?username={reader.username}").text
    assert re.findall(r">(of-\w+)</a>", page) == ["of-rita"]
    own = operator.panel.get("/admin/token/list?username=rita").text
    assert re.findall(r">(of-\w+)</a>", own) == []
    assert operator.panel.get("/admin/token/list?everyone=true").text.count(">of-") == 1
    assert operator.panel.get(f"/admin/token/list?user_id={reader.user_id}").status_code == 403


def test_pages_are_turned(operator: Person) -> None:
    for number in range(3):
        made(operator, name=f"number-{number}")
    page = operator.panel.get("/admin/token/list?limit=2&page=2").text
    assert re.findall(r">(number-\d)</a>", page) == ["number-0"]


def test_a_token_can_be_revoked_on_its_page_and_then_offers_nothing_more(operator: Person) -> None:
    client, (number, _) = operator.panel, made(operator)
    page = client.get(f"/admin/token/details/{number}").text
    assert 'action="/admin/token/delete"' in page
    done = client.post("/admin/token/delete", data={"pk": str(number)})
    assert done.headers["Location"] == "/admin/token/list"
    assert "The token is revoked" in client.get("/admin/token/list").text
    page = client.get(f"/admin/token/details/{number}").text
    assert 'action="/admin/token/delete"' not in page
    assert "Revoked" in page


def test_what_a_token_is_called_cannot_hurt_the_page(operator: Person) -> None:
    make(operator.panel, name="<script>alert(1)</script>")
    page = operator.panel.get("/admin/token/list").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_trail_leads_to_the_token(admin: Person) -> None:
    number, _ = made(admin)
    page = admin.panel.get("/admin/audit/list?entity_type=token").text
    assert f'href="/admin/token/details/{number}"' in page
