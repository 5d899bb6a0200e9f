"""The panel's pages of credentials: who finds what in them, and that no password ever is."""

import html
import re

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from tests.conftest import CANARY, Later, Person
from tests.credentials.conftest import Kept, added, row_of, vm_named
from tests.doors import Form
from vmtrak import db
from vmtrak.accounts import SignedIn, User
from vmtrak.db import Database
from vmtrak.inventory import VM

FIRST, SECOND, THIRD = (f"{CANARY}{word}" for word in ("first", "second", "third"))

JSON = {"Accept": "application/json"}

STRANGERS = ("auditor", "reader", "outsider")


def words(page: str) -> str:
    """What a person reads of a page."""
    text = re.sub(r"<(script|style|template|svg).*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(text).split())


def read(client: TestClient, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    return answer.text


def questions(page: str) -> list[str]:
    return [html.unescape(one) for one in re.findall(r'data-confirm="([^"]*)"', page)]


@pytest.fixture
def root(admin: Person, vm: int) -> int:
    """The primary account of the VM, with one earlier password."""
    number = added(admin, vm, "root", FIRST, notes="Ask first.")
    changed(admin.panel, number, password=SECOND)
    return number


def changed(client: TestClient, number: int, **fields: str) -> str:
    """Open the form, type these fields over and save; where that leads."""
    address = f"/admin/credential/edit/{number}"
    form = Form(read(client, address)).filled(fields)
    answer = client.post(address, data=form)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["Location"])


def test_the_page_of_a_vm_shows_its_accounts_to_whom_they_belong(
    operator: Person, vm: int, root: int
) -> None:
    page = read(operator.panel, f"/admin/vm/details/{vm}")
    assert "Credentials 1" in words(page)
    assert "Password changed" in words(page)
    assert "by ada" in words(page)
    assert "Ask first." in words(page)
    assert f'data-reveal="/admin/credential/reveal/{root}"' in page
    assert f'href="/admin/credential/create?vm={vm}"' in page


@pytest.mark.parametrize("who", STRANGERS)
def test_nobody_else_finds_a_trace_of_them(
    who: str, admin: Person, people: dict[str, Person], vm: int, root: int
) -> None:
    # All three see the VM itself.
    admin.api.put(f"/api/vms/{vm}", json={"department": "Finance", "owner": "olga"})
    page = read(people[who].panel, f"/admin/vm/details/{vm}")
    assert "root" not in page
    assert "redential" not in page
    assert "Ask first." not in page
    for address in ("list", f"details/{root}", "create", f"edit/{root}"):
        refused = people[who].panel.get(f"/admin/credential/{address}")
        assert (refused.status_code, "root" in refused.text) == (403, False)


def test_a_guest_sees_the_accounts_and_no_way_to_their_passwords(
    operator: Person, database: Database, vm: int, root: int
) -> None:
    with database.engine.begin() as connection:
        mine = update(User).where(User.id == operator.user_id)
        connection.execute(mine.values(is_guest=True))
    for address in (f"/admin/vm/details/{vm}", f"/admin/credential/details/{root}"):
        page = read(operator.panel, address)
        assert "root" in words(page)
        assert "not their passwords" in words(page)
        assert "data-show" not in page
    refused = operator.panel.post(f"/admin/credential/reveal/{root}", headers=JSON)
    assert refused.status_code == 403


def test_the_list_finds_and_filters_without_a_password(
    admin: Person, operator: Person, vm: int, root: int
) -> None:
    other = vm_named(admin, "db-01")
    added(admin, other, "postgres", THIRD, account_type="others")
    changed(admin.panel, root, rotation_marked="true")
    client = operator.panel
    every = words(read(client, "/admin/credential/list"))
    assert "web-01 root primary" in every
    assert "db-01 postgres other" in every
    for query, found in {
        "search=WEB": "root",
        "search=postg": "postgres",
        "account_type=primary": "root",
        "account_type=others": "postgres",
        "rotation_due=true": "root",
        "rotation_due=false": "postgres",
        f"vm_id={other}": "postgres",
    }.items():
        page = read(client, f"/admin/credential/list?{query}")
        names = re.findall(r'/credential/details/\d+">([^<]+)</a>', page)
        assert (query, names) == (query, [found])
    assert "Nothing matches" in words(read(client, "/admin/credential/list?search=nonsense"))


@pytest.mark.parametrize(
    "query", ["rotation_due=perhaps", "account_type=third", "page=0", "vm_id=x", "cursor=zzz"]
)
def test_a_list_that_cannot_be_asked_for_says_so(operator: Person, query: str) -> None:
    assert operator.panel.get(f"/admin/credential/list?{query}").status_code == 422


def test_a_credential_has_its_earlier_passwords_its_history_and_its_viewers(
    operator: Person, root: int
) -> None:
    client = operator.panel
    client.post(f"/admin/credential/reveal/{root}/1", headers=JSON, data={"reason": "audit of May"})
    page = read(client, f"/admin/credential/details/{root}")
    assert re.findall(r'data-reveal="([^"]+)"', page) == [
        f"/admin/credential/reveal/{root}",
        f"/admin/credential/reveal/{root}/1",
    ]
    said = words(page)
    assert "otto revealed an earlier password" in said
    assert "Reason audit of May" in said
    assert "ada changed it" in said
    assert "Its 2 passwords are destroyed for good" in " ".join(questions(page))


def test_a_reveal_answers_with_the_password_alone_and_is_kept_nowhere(
    operator: Person, root: int
) -> None:
    client = operator.panel
    for version, password in (("", SECOND), ("/2", SECOND), ("/1", FIRST)):
        answer = client.post(f"/admin/credential/reveal/{root}{version}", headers=JSON)
        assert answer.json() == {"password": password}
        assert answer.headers["Cache-Control"] == "no-store"
        assert "ETag" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_nothing_but_a_post_reveals(operator: Person, root: int, method: str) -> None:
    for version in ("", "/1"):
        address = f"/admin/credential/reveal/{root}{version}"
        assert operator.panel.request(method, address).status_code == 405


@pytest.mark.parametrize("what", ["999999", "{root}/7", "0", "x", "{root}/0", "{root}/x"])
def test_what_is_not_there_is_told_to_scripts(operator: Person, root: int, what: str) -> None:
    address = f"/admin/credential/reveal/{what.format(root=root)}"
    answer = operator.panel.post(address, headers=JSON)
    assert answer.status_code == (404 if re.search(r"999999|/7$", address) else 422)
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("settings", [{"reveal_reason": "production"}], indirect=True)
def test_a_reason_is_asked_for_where_the_setting_wants_one(
    admin: Person, operator: Person, vm: int, root: int
) -> None:
    client, address = operator.panel, f"/admin/credential/reveal/{root}"
    field = r"<input id=\"reveal-reason\"[^>]* required>"
    assert re.search(field, read(client, f"/admin/vm/details/{vm}"))
    for reason in ({}, {"reason": " "}):
        refused = client.post(address, headers=JSON, data=reason)
        assert (refused.status_code, refused.json()["details"]) == (
            422,
            {"reason": ["is required"]},
        )
    assert client.post(address, headers=JSON, data={"reason": "ticket 7"}).status_code == 200
    test = vm_named(admin, "test-01", environment="test")
    added(admin, test, "root", THIRD)
    assert not re.search(field, read(client, f"/admin/vm/details/{test}"))


@pytest.mark.parametrize("settings", [{"reveal_step_up": "production"}], indirect=True)
def test_a_fresh_proof_is_asked_for_where_the_setting_wants_one(
    operator: Person, database: Database, root: int, later: Later
) -> None:
    client, address = operator.panel, f"/admin/credential/reveal/{root}"
    assert client.post(address, headers=JSON).status_code == 200
    later(11 * 60)
    answer = client.post(address, headers=JSON)
    assert (answer.status_code, answer.json()["detail"]) == (403, "step_up_required")
    with database.engine.begin() as connection:
        connection.execute(update(SignedIn).values(proved_at=db.now()))
    assert client.post(address, headers=JSON).status_code == 200


@pytest.mark.parametrize("settings", [{"reveals_per_hour": 1}], indirect=True)
def test_beyond_the_limit_the_answer_says_when(operator: Person, root: int) -> None:
    client, address = operator.panel, f"/admin/credential/reveal/{root}"
    assert client.post(address, headers=JSON).status_code == 200
    answer = client.post(address, headers=JSON)
    assert answer.status_code == 429
    assert 3500 < int(answer.headers["Retry-After"]) <= 3600
    assert "that is the limit" in answer.json()["detail"]


def test_an_account_is_added_from_the_page_of_its_vm_and_leads_back(
    operator: Person, vm: int, kept: Kept
) -> None:
    client, address = operator.panel, f"/admin/credential/create?vm={vm}"
    page = read(client, address)
    form = Form(page)
    assert form.values["vm"] == "web-01"
    assert f'action="{address}"' in page
    assert f'class="button quiet" href="/admin/vm/details/{vm}#credentials"' in page
    filled = form.filled({"username": "root", "password": FIRST})
    answer = client.post(address, data={**filled, "save": "another"})
    assert answer.headers["Location"] == address
    filled = form.filled({"username": "backup", "password": SECOND})
    answer = client.post(address, data=filled)
    assert answer.headers["Location"] == f"/admin/vm/details/{vm}#credentials"
    assert [kept(1), kept(2)] == [{1: FIRST}, {1: SECOND}]
    assert [row_of(operator, one)["account_type"] for one in (1, 2)] == ["primary", "others"]


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"vm": "nowhere"}, {"vm": "is the name of no VM"}),
        ({"vm": ""}, {"vm": "is required"}),
        ({"vm": "gone-01"}, {"vm": "is the name of no VM"}),
        ({"vm": "web\x00-01"}, {"vm": "must not contain control characters"}),
        ({"username": ""}, {"username": "is required"}),
        ({"username": "ROOT"}, {"username": "This VM has an account of this name already."}),
        ({"account_type": "third"}, {"account_type": "must be one of primary or others"}),
        ({"password": f"{SECOND}{'x' * 500}"}, {"password": "must be at most 512 characters"}),
        ({"password": ""}, {"password": "is required"}),
    ],
)
def test_a_refused_form_keeps_all_but_the_password(
    admin: Person, operator: Person, root: int, given: dict[str, str], wrong: dict[str, str]
) -> None:
    gone = vm_named(admin, "gone-01")
    admin.api.delete(f"/api/vms/{gone}")
    form = {"vm": "WEB-01", "username": "other", "password": THIRD, "notes": "kept", **given}
    answer = operator.panel.post("/admin/credential/create", data=form)
    assert answer.status_code == (409 if given.get("username") == "ROOT" else 422)
    said = dict(re.findall(r'class="wrong-why" id="e-(\w+)">([^<]*)<', answer.text))
    assert said.keys() == wrong.keys()
    assert {name: html.unescape(why) for name, why in said.items()} == wrong
    assert "kept</textarea>" in answer.text
    assert "value" not in re.search(r'<input type="password"[^>]*>', answer.text)[0]  # type: ignore[index]
    assert ("Type it again" in answer.text) is bool(form["password"])


@pytest.mark.parametrize("number", ["999999", "x", "0"])
def test_a_form_for_a_vm_that_is_not_there_is_not_shown(operator: Person, number: str) -> None:
    refused = operator.panel.get(f"/admin/credential/create?vm={number}")
    assert refused.status_code == (404 if number == "999999" else 422)


def test_the_vm_field_offers_the_names_that_there_are(admin: Person, operator: Person) -> None:
    for name in ("alpha-web", "beta-web", "gamma"):
        vm_named(admin, name)
    asked = operator.panel.get("/admin/vm/suggest?field=vm&term=WEB")
    assert asked.json()["results"] == ["alpha-web", "beta-web"]


def test_a_blank_password_stays_and_a_new_one_takes_the_mark_away(
    operator: Person, root: int, kept: Kept
) -> None:
    client = operator.panel
    changed(client, root, rotation_marked="true")
    assert row_of(operator, root)["rotation_marked"]
    assert "rotation due" in words(read(client, f"/admin/credential/details/{root}"))
    changed(client, root, notes="marked still")
    assert row_of(operator, root)["rotation_marked"]
    changed(client, root, password=THIRD)
    assert not row_of(operator, root)["rotation_marked"]
    assert kept(root) == {1: FIRST, 2: SECOND, 3: THIRD}


def test_a_form_that_changes_nothing_says_so(operator: Person, root: int) -> None:
    client = operator.panel
    address = f"/admin/credential/edit/{root}"
    answer = client.post(address, data=Form(read(client, address)).filled({}))
    assert "vmtrak_done=unchanged" in answer.headers["Set-Cookie"]


def test_who_was_overtaken_sees_both_versions_and_no_password(
    admin: Person, operator: Person, root: int, kept: Kept
) -> None:
    client, address = operator.panel, f"/admin/credential/edit/{root}"
    late = Form(read(client, address)).filled({"notes": "mine", "password": THIRD})
    theirs = f"{CANARY}theirs"
    changed(admin.panel, root, username="sysadm", notes="theirs", password=theirs)
    client.post(f"/admin/credential/reveal/{root}", headers=JSON)
    answer = client.post(address, data=late)
    assert answer.status_code == 412
    said = words(answer.text)
    assert "ada changed this" in said
    assert "User name" not in said
    assert "Account name root sysadm left alone" in said
    assert "Notes Ask first. theirs mine" in said
    assert "New password ••• another one another one" in said
    assert "Type it again" in said
    form = Form(answer.text)
    assert (form.values["username"], form.values["notes"]) == ("sysadm", "mine")
    client.post(address, data=form.filled({}))
    row = row_of(operator, root)
    assert (row["username"], row["notes"]) == ("sysadm", "mine")
    assert kept(root)[3] == theirs


def test_destroying_an_account_leaves_none_of_its_passwords(
    operator: Person, root: int, kept: Kept
) -> None:
    client = operator.panel
    answer = client.post("/admin/credential/delete", data={"pk": str(root)})
    assert answer.headers["Location"] == "/admin/credential/list"
    assert client.get(f"/admin/credential/details/{root}").status_code == 404
    assert "No credentials yet" in words(read(client, "/admin/credential/list"))


def test_questions_about_a_vm_say_what_becomes_of_its_credentials(
    admin: Person, operator: Person, vm: int, root: int
) -> None:
    stay = "Its credential stays sealed with it and comes back with it."
    assert stay in questions(read(operator.panel, f"/admin/vm/details/{vm}"))[0]
    added(admin, vm, "backup", THIRD)
    stay = "Its 2 credentials stay sealed with it and come back with it."
    assert stay in questions(read(operator.panel, f"/admin/vm/details/{vm}"))[0]
    listed = read(operator.panel, "/admin/vm/list")
    assert re.findall(r'name="pk" value="(\d+)" data-accounts="(\d+)"', listed) == [(f"{vm}", "2")]
    empty = vm_named(admin, "bare-01")
    for number in (vm, empty):
        admin.panel.post("/admin/vm/delete", data={"pk": str(number)})
    said = dict(re.findall(r'Destroy (\S+)\?"\s+data-confirm="([^"]*)"', trash(admin)))
    assert said["web-01"].endswith("undone. Its 2 credentials are destroyed with it.")
    assert said["bare-01"].endswith("It cannot be undone.")


def trash(admin: Person) -> str:
    return read(admin.panel, "/admin/trash/list")


def test_a_decommissioned_vm_says_that_it_keeps_its_credentials(
    admin: Person, operator: Person, auditor: Person, vm: int, root: int
) -> None:
    admin.api.put(f"/api/vms/{vm}", json={"status": "decommissioned"})
    page = words(read(operator.panel, f"/admin/vm/details/{vm}"))
    assert "This VM is decommissioned. Its credential stays sealed with it" in page
    assert "its credentials stay sealed" in words(read(operator.panel, f"/admin/vm/edit/{vm}"))
    assert "sealed" not in words(read(auditor.panel, f"/admin/vm/details/{vm}"))


def test_the_trail_names_the_account_to_those_who_may_see_it(
    admin: Person, auditor: Person, vm: int, root: int
) -> None:
    link = f'<a href="/admin/credential/details/{root}">'
    address = f"/admin/audit/list?entity_type=credential&entity_id={root}"
    told = read(admin.panel, address)
    assert f"{link}root on web-01</a>" in told
    assert f"{link}root on web-01</a>" in read(admin.panel, "/admin/")
    bare = read(auditor.panel, address)
    assert "changed an account of" in words(bare)
    assert "web-01" in bare
    assert "root" not in bare
    assert "/admin/credential/" not in bare
    admin.panel.post("/admin/vm/delete", data={"pk": str(vm)})
    assert "root" not in read(admin.panel, address)


def test_an_event_of_a_credential_that_is_gone_leads_nowhere(
    admin: Person, vm: int, root: int
) -> None:
    admin.panel.post("/admin/credential/delete", data={"pk": str(root)})
    told = read(admin.panel, "/admin/audit/list?entity_type=credential")
    assert "removed an account of" in words(told)
    assert "/admin/credential/details/" not in told


def test_a_vm_in_the_trash_takes_its_credentials_out_of_sight(
    admin: Person, operator: Person, vm: int, root: int, database: Database
) -> None:
    admin.panel.post("/admin/vm/delete", data={"pk": str(vm)})
    client = operator.panel
    assert client.get(f"/admin/credential/details/{root}").status_code == 404
    assert client.get(f"/admin/credential/edit/{root}").status_code == 404
    assert client.post(f"/admin/credential/reveal/{root}", headers=JSON).status_code == 404
    assert "root" not in read(client, "/admin/credential/list")
    admin.panel.post(f"/admin/trash/restore/{vm}")
    assert "root" in read(client, "/admin/credential/list")
    with database.read() as session:
        assert session.get_one(VM, vm).deleted_at is None


def test_destroying_what_somebody_else_has_changed_meanwhile_is_refused(
    admin: Person, operator: Person, root: int
) -> None:
    page = read(operator.panel, f"/admin/credential/details/{root}")
    form = dict(re.findall(r'<input type="hidden" name="(pk|revision)" value="(\d+)">', page))
    changed(admin.panel, root, password=THIRD)
    refused = operator.panel.post("/admin/credential/delete", data=form)
    assert (refused.status_code, "Somebody else" in words(refused.text)) == (412, True)
    assert row_of(admin, root)["username"] == "root"


@pytest.mark.parametrize("overtaken", [True, False])
def test_a_form_that_is_refused_asks_again_for_the_new_password(
    admin: Person, operator: Person, root: int, *, overtaken: bool
) -> None:
    """Somebody may have generated it, and set it on the machine already."""
    address = f"/admin/credential/edit/{root}"
    form = Form(read(operator.panel, address)).filled({"password": THIRD})
    if overtaken:
        changed(admin.panel, root, notes="Ask twice.")
    else:
        form["username"] = ""
    again = operator.panel.post(address, data=form)
    field = re.search(r'<input[^>]*name="password"[^>]*>', again.text)
    assert again.status_code == (412 if overtaken else 422)
    assert "Type it again" in again.text
    assert field
    assert " required" in field[0]
    assert THIRD not in again.text
