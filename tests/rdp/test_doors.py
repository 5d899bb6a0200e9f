"""RDP files and SSH sections at both doors: who gets them, what is in them, what is on record."""

import html
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update
from starlette.testclient import TestClient

from tests.conftest import Person
from tests.rdp.conftest import ADDRESS, Vm, Ways, events
from tests.rdp.reading import read
from tests.tokens.conftest import client_at, made
from vmtrak import inventory
from vmtrak.access import Scope
from vmtrak.accounts import User
from vmtrak.inventory import VMPatch

HIDDEN = "svc-hidden"
"""A user name that whoever may not see credentials never learns."""


@pytest.fixture
def changed(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = getattr(request, "param", {})
    return found


def rename(person: Person, number: int, **fields: Any) -> None:
    with person.database.work(person.actor) as work:
        inventory.change(work, number, VMPatch.model_validate(fields))


def test_a_file_is_a_download_named_after_the_vm(ways: Ways, operator: Person, vm: Vm) -> None:
    answer = ways.rdp(operator, vm("otto"))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-rdp"
    assert answer.headers["cache-control"] == "no-store"
    expected = "attachment; filename=\"desk-01.rdp\"; filename*=UTF-8''desk-01.rdp"
    assert answer.headers["content-disposition"] == expected
    file = read(answer.content)
    assert file.value("full address") == ADDRESS
    assert file.value("username") == "otto"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(name=st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1))
def test_any_vm_name_makes_a_file_name_that_is_one_header(
    ways: Ways, operator: Person, kept_vm: int, name: str
) -> None:
    rename(operator, kept_vm, vm_name=name[:128])
    answer = ways.rdp(operator, kept_vm)
    assert answer.status_code == 200
    header = answer.headers["content-disposition"]
    assert re.fullmatch(
        r"attachment; filename=\"[ -!#-~]+\.rdp\"; filename\*=UTF-8''[\w.~%!#$&+^`|-]+\.rdp", header
    ), header
    assert read(answer.content).value("full address") == ADDRESS


@pytest.fixture
def kept_vm(vm: Vm) -> int:
    return vm("otto")


def test_without_a_user_the_primary_account_is_written(
    ways: Ways, operator: Person, vm: Vm
) -> None:
    number = vm("first", "second")
    assert read(ways.rdp(operator, number).content).value("username") == "first"
    assert "    User first\n" in ways.ssh(operator, number).text


def test_an_empty_user_names_nobody(ways: Ways, operator: Person, vm: Vm) -> None:
    number = vm("first")
    assert read(ways.rdp(operator, number, user="").content).value("username") == ""
    assert "User" not in ways.ssh(operator, number, user="").text


def test_a_user_and_a_port_are_written_as_they_are(ways: Ways, operator: Person, vm: Vm) -> None:
    number = vm("first")
    answer = ways.rdp(operator, number, user="DOMAIN\\Jörg 日本", port="3390")
    file = read(answer.content)
    assert file.value("username") == "DOMAIN\\Jörg 日本"
    assert file.value("full address") == f"{ADDRESS}:3390"


def test_a_vm_without_accounts_gives_a_file_without_a_name(
    ways: Ways, operator: Person, vm: Vm
) -> None:
    assert read(ways.rdp(operator, vm()).content).value("username") == ""


@pytest.mark.parametrize(
    "query",
    [
        {"port": "0"},
        {"port": "65536"},
        {"port": "rdp"},
        {"port": ""},
        {"user": "a\r\nb"},
        {"user": "a\0b"},
        {"user": "a\u202eb"},
        {"user": "a\u200db"},
        {"user": "x" * 257},
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_no_record(
    ways: Ways, operator: Person, admin: Person, vm: Vm, query: dict[str, str]
) -> None:
    answer = ways.rdp(operator, vm("first"), **query)
    assert answer.status_code == 422
    assert events(admin) == []


def test_ipv6_stands_in_brackets(ways: Ways, operator: Person, vm: Vm) -> None:
    number = vm(ip_address="2001:db8::7")
    assert read(ways.rdp(operator, number).content).value("full address") == "[2001:db8::7]:3389"
    assert "    HostName 2001:db8::7\n" in ways.ssh(operator, number).text


def test_a_host_name_counts_where_there_is_no_address(ways: Ways, operator: Person, vm: Vm) -> None:
    number = vm(ip_address=None, hostname="bücher.example")
    host = "xn--bcher-kva.example"
    assert read(ways.rdp(operator, number).content).value("full address") == host
    assert f"    HostName {host}\n" in ways.ssh(operator, number).text


@pytest.mark.parametrize("hostname", [None, "ask Otto", "-oProxyCommand=x", "desk:22"])
def test_a_vm_without_an_address_is_a_conflict_in_clear_words(
    ways: Ways, operator: Person, admin: Person, vm: Vm, hostname: str | None
) -> None:
    number = vm(ip_address=None, hostname=hostname)
    for answer in (ways.rdp(operator, number), ways.ssh(operator, number)):
        assert answer.status_code == 409
        assert "This VM has no IP address, and no host name that could be one" in answer.text
    assert events(admin) == []


@pytest.mark.parametrize("os_type", ["Linux", "Windows", "Other", None])
def test_every_system_has_a_file_and_a_section(
    ways: Ways, operator: Person, vm: Vm, os_type: str | None
) -> None:
    number = vm("otto", os_type=os_type)
    assert ways.rdp(operator, number).status_code == 200
    section = ways.ssh(operator, number)
    assert section.headers["content-type"] == "text/plain; charset=utf-8"
    assert section.text == f"Host desk-01\n    HostName {ADDRESS}\n    User otto\n    Port 22\n"


def test_a_user_that_no_section_can_hold_is_refused(ways: Ways, operator: Person, vm: Vm) -> None:
    answer = ways.ssh(operator, vm("otto"), user="-oProxyCommand=id")
    assert answer.status_code == 422
    assert "cannot be written into an OpenSSH configuration" in answer.text


# On record


def test_a_download_is_on_record_without_the_user_name(
    ways: Ways, operator: Person, admin: Person, auditor: Person, vm: Vm
) -> None:
    number = vm(HIDDEN)
    ways.rdp(operator, number, port="3390")
    [event] = events(admin)
    assert (event["username"], event["entity_type"], event["entity_id"]) == ("otto", "vm", number)
    assert event["entity_name"] == "desk-01"
    assert event["detail"] == {"signed": False, "port": 3390}
    page = auditor.panel.get(f"/admin/audit/details/{event['id']}").text
    assert "Downloaded the RDP file of: desk-01" in page
    assert HIDDEN not in page


def test_head_gives_nothing_and_leaves_no_record(operator: Person, admin: Person, vm: Vm) -> None:
    number = vm("otto")
    answer = operator.api.head(f"/api/vms/{number}/rdp")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET"
    assert answer.content == b""
    assert events(admin) == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_link_to_the_panel_gives_nothing_and_leaves_no_record(
    operator: Person, admin: Person, vm: Vm, method: str
) -> None:
    answer = operator.panel.request(method, f"/admin/vm/rdp/{vm('otto')}?user=otto")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert events(admin) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "null"},
    ],
)
def test_a_form_of_another_site_gets_none_and_leaves_no_record(
    operator: Person, admin: Person, vm: Vm, headers: dict[str, str]
) -> None:
    address = f"/admin/vm/rdp/{vm('otto')}"
    assert operator.panel.post(address, data={"user": ""}, headers=headers).status_code == 403
    assert events(admin) == []


def test_a_name_in_the_address_counts_for_nothing_at_the_panel(operator: Person, vm: Vm) -> None:
    answer = operator.panel.post(f"/admin/vm/rdp/{vm('otto')}?user=other&port=3390")
    file = read(answer.content)
    assert file.value("username") == "otto"
    assert file.value("full address") == ADDRESS


def test_a_section_leaves_no_record(ways: Ways, operator: Person, admin: Person, vm: Vm) -> None:
    number = vm("otto")
    before = admin.api.get("/api/audit?entity_type=vm").json()["total"]
    assert ways.ssh(operator, number).status_code == 200
    assert admin.api.get("/api/audit?entity_type=vm").json()["total"] == before


# Who may


@pytest.mark.parametrize("who", ["reader", "outsider", "auditor"])
def test_who_may_not_connect_learns_nothing(
    ways: Ways, who: str, people: dict[str, Person], admin: Person, vm: Vm
) -> None:
    number = vm(HIDDEN, department="Finance")
    for answer in (ways.rdp(people[who], number), ways.ssh(people[who], number)):
        assert answer.status_code == 403
        assert HIDDEN not in answer.text
    assert events(admin) == []


def test_a_vm_in_the_trash_or_of_no_number_has_none(
    ways: Ways, operator: Person, admin: Person, vm: Vm
) -> None:
    number = vm("otto")
    with operator.database.work(operator.actor) as work:
        inventory.remove(work, number)
    for gone in (number, 999_999):
        assert ways.rdp(operator, gone).status_code == 404
        assert ways.ssh(operator, gone).status_code == 404
    assert events(admin) == []


def script(person: Person, *scopes: Scope) -> TestClient:
    return client_at(person.app, made(person, *scopes)[1])


def test_a_token_for_rdp_alone_gets_files_but_no_user_name(
    operator: Person, admin: Person, vm: Vm
) -> None:
    number, client = vm(HIDDEN), script(operator, Scope.RDP)
    answer = client.get(f"/api/vms/{number}/rdp")
    assert answer.status_code == 200
    assert read(answer.content).value("username") == ""
    assert read(client.get(f"/api/vms/{number}/rdp?user=me").content).value("username") == "me"
    assert HIDDEN not in client.get(f"/api/vms/{number}/ssh-config").text
    assert client.get(f"/api/vms/{number}").status_code == 403
    assert len(events(admin)) == 2


def test_a_token_for_rdp_and_credentials_gets_the_primary_account(operator: Person, vm: Vm) -> None:
    client = script(operator, Scope.RDP, Scope.CREDENTIALS_REVEAL)
    answer = client.get(f"/api/vms/{vm('otto')}/rdp")
    assert read(answer.content).value("username") == "otto"


@pytest.mark.parametrize(
    "scope", [scope for scope in Scope if scope not in {Scope.RDP, Scope.AUDIT_READ}]
)
def test_a_token_for_anything_else_gets_none(operator: Person, vm: Vm, scope: Scope) -> None:
    number, client = vm("otto"), script(operator, scope)
    assert client.get(f"/api/vms/{number}/rdp").status_code == 403
    assert client.get(f"/api/vms/{number}/ssh-config").status_code == 403


@pytest.fixture
def guest(operator: Person) -> Person:
    """The operator, as a guest of the tenant."""
    with operator.database.work(operator.actor) as work:
        work.session.execute(
            update(User).where(User.id == operator.user_id).values(is_guest=True),
            execution_options={"audited": True},
        )
    return operator


def test_a_guest_gets_none(ways: Ways, guest: Person, vm: Vm, admin: Person) -> None:
    number = vm(HIDDEN)
    assert ways.rdp(guest, number).status_code == 403
    assert ways.ssh(guest, number).status_code == 403
    assert 'id="connect"' not in guest.panel.get(f"/admin/vm/details/{number}").text
    assert events(admin) == []


@pytest.mark.parametrize("changed", [{"oidc_guests_reveal": "on"}], indirect=True)
def test_a_guest_gets_them_where_the_setting_allows_it(ways: Ways, guest: Person, vm: Vm) -> None:
    number = vm("otto")
    assert ways.rdp(guest, number).status_code == 200
    assert 'id="connect"' in guest.panel.get(f"/admin/vm/details/{number}").text


# The rules


@pytest.mark.parametrize(
    "changed", [{"rdp_clipboard": "on", "rdp_gateway": "gate.example.org:8443"}], indirect=True
)
def test_the_settings_for_clipboard_and_gateway_are_kept(
    ways: Ways, operator: Person, vm: Vm
) -> None:
    file = read(ways.rdp(operator, vm("otto")).content)
    assert file.value("redirectclipboard") == "1"
    assert file.value("gatewayhostname") == "gate.example.org:8443"
    assert file.value("gatewayusagemethod") == "2"
    assert file.value("gatewayprofileusagemethod") == "1"


# The card


def card(person: Person, number: int) -> str:
    page = person.panel.get(f"/admin/vm/details/{number}").text
    found = re.search(r'<section class="panel whole connect".*?</section>', page, re.DOTALL)
    return found[0] if found else ""


def test_the_card_has_a_file_for_each_account_and_one_for_none(operator: Person, vm: Vm) -> None:
    number = vm("first", "Zweite & Söhne")
    shown = card(operator, number)
    address = f"/admin/vm/rdp/{number}"
    assert f'<form action="{address}" method="post"' in shown
    pressed = re.findall(r'<button class="button" name="user" value="([^"]*)">', shown)
    names = [html.unescape(name) for name in pressed]
    assert names == ["first", "Zweite & Söhne", ""]
    answers = [operator.panel.post(address, data={"user": name}) for name in names]
    assert [read(answer.content).value("username") for answer in answers] == names
    assert "/admin/rdp-help" in shown
    assert "ssh://" not in shown


def test_the_card_of_a_linux_vm_has_links_and_sections(operator: Person, vm: Vm) -> None:
    number = vm("otto", "-oProxyCommand=id", os_type="Linux")
    shown = card(operator, number)
    assert re.findall(r'href="(ssh:[^"]+)"', shown) == [f"ssh://otto@{ADDRESS}", f"ssh://{ADDRESS}"]
    assert f"Host desk-01\n    HostName {ADDRESS}\n    User otto\n    Port 22\n" in shown
    assert "ProxyCommand" not in shown
    assert "/admin/vm/rdp/" not in shown


@pytest.mark.parametrize("os_type", ["Linux", "Windows"])
def test_the_card_of_a_vm_without_an_address_says_so(
    operator: Person, vm: Vm, os_type: str
) -> None:
    shown = card(operator, vm("otto", os_type=os_type, ip_address=None, hostname="ask Otto"))
    assert "no IP address" in shown
    assert "href" not in shown
    assert "<form" not in shown


@pytest.mark.parametrize("who", ["reader", "auditor"])
def test_who_may_not_connect_sees_no_card(who: str, people: dict[str, Person], vm: Vm) -> None:
    number = vm(HIDDEN, department="Finance")
    answer = people[who].panel.get(f"/admin/vm/details/{number}")
    assert answer.status_code == 200
    assert 'id="connect"' not in answer.text
    assert HIDDEN not in answer.text
