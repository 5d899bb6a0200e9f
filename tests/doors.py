"""The two doors as the tests knock at them: one set of operations, as forms and as JSON."""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Protocol

from httpx2 import Response
from starlette.testclient import TestClient

from tests.conftest import Person
from vmtrak.fields import fold

Fields = Mapping[str, Any]
"""Values by field. VMs name their hypervisor in `hypervisor`, as people do.

Of a credential a field that is not given stays as it is, at both doors.
"""

NO_HYPERVISOR = 2**53
"""The number that a script sends for a hypervisor that does not exist."""

_WRONG = re.compile(r'<p class="wrong-why" id="e-(\w+)">(.*?)</p>', re.DOTALL)
_NOTICE = re.compile(r'<div class="notice error".*?</ul>', re.DOTALL)
_TOP = re.compile(r"<li>([^<]*)</li>")
_CONFLICT = re.compile(r'<h2 id="conflict">(.*?)</h2>', re.DOTALL)
_ERROR_PAGE = re.compile(r'<div class="error-page">.*?</h1>\s*<p>(.*?)</p>', re.DOTALL)
_NUMBER = re.compile(r"/(\d+)$")
_EXPECTED = re.compile(r'<input type="hidden" name="(expected)" value="(.*?)">')


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an operation. 303 and 201 are both told as 200; `text` is the raw answer."""

    status: int
    id: int | None = None
    errors: dict[str, list[str]] = field(default_factory=dict)
    message: str = ""
    text: str = ""

    @property
    def ok(self) -> bool:
        return self.status == 200

    @property
    def refusal(self) -> tuple[int, dict[str, list[str]], str]:
        return self.status, self.errors, self.message

    @property
    def made(self) -> int:
        """The number of the row that the operation made or changed."""
        assert self.ok, (self.status, self.errors, self.message)
        assert self.id is not None
        return self.id


class Door(Protocol):
    """Everything that a person can change, at one door."""

    def add_vm(self, fields: Fields) -> Outcome: ...
    def change_vm(self, number: int, fields: Fields, revision: int | None = None) -> Outcome: ...
    def extend_vm(self, number: int, fields: Fields) -> Outcome: ...
    def remove_vm(self, number: int) -> Outcome: ...
    def restore_vm(self, number: int) -> Outcome: ...
    def purge_vm(self, number: int) -> Outcome: ...
    def add_credential(self, vm: int, fields: Fields) -> Outcome: ...
    def change_credential(
        self, vm: int, number: int, fields: Fields, revision: int | None = None
    ) -> Outcome: ...
    def remove_credential(self, vm: int, number: int) -> Outcome: ...
    def reveal(self, vm: int, number: int, version: int | None = None) -> Outcome: ...
    def add_hypervisor(self, fields: Fields) -> Outcome: ...
    def change_hypervisor(
        self, number: int, fields: Fields, revision: int | None = None
    ) -> Outcome: ...
    def remove_hypervisor(self, number: int) -> Outcome: ...
    def add_user(self, fields: Fields) -> Outcome: ...
    def change_user(self, number: int, fields: Fields, revision: int | None = None) -> Outcome: ...
    def deactivate_user(self, number: int) -> Outcome: ...


class Form(HTMLParser):
    """The values that a browser would send for the editor on a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self.names: set[str] = set()
        self._inside = False
        self._select: str | None = None
        self._textarea: str | None = None
        self.feed(page.replace("\r\n", "\n"))  # as every browser reads it

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._inside = given.get("class") == "editor"
        elif self._inside and tag == "option":
            self._option(given)
        elif self._inside and "name" in given and tag != "button":
            self._control(tag, given)

    def _control(self, tag: str, given: dict[str, str]) -> None:
        name = given["name"]
        assert name not in self.names, f"the form has {name} twice"
        self.names.add(name)
        self._select = name if tag == "select" else None
        self._textarea = name if tag == "textarea" else None
        if tag == "textarea":
            self.values[name] = ""
        elif tag == "input" and (given.get("type") != "checkbox" or "checked" in given):
            self.values[name] = given.get("value", "")

    def _option(self, given: dict[str, str]) -> None:
        if self._select is not None and ("selected" in given or self._select not in self.values):
            self.values[self._select] = given["value"]

    def handle_data(self, data: str) -> None:
        if self._textarea is not None:
            self.values[self._textarea] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self._textarea is not None:
            # A browser drops the first line break and sends the others as CR LF.
            text = self.values[self._textarea].removeprefix("\n")
            self.values[self._textarea] = text.replace("\n", "\r\n")
            self._textarea = None
        elif tag == "form":
            self._inside = False

    def filled(self, fields: Fields) -> dict[str, str]:
        """The values with some of them typed over."""
        unknown = fields.keys() - self.names
        assert not unknown, f"the form has no field {unknown}"
        values = {name: value for name, value in self.values.items() if name not in fields}
        typed = {name: _typed(value) for name, value in fields.items() if value is not False}
        return values | typed


def _typed(value: object) -> str:
    if value is True:
        return "1"
    return "" if value is None else str(value)


def told_by_page(response: Response, number: int | None = None) -> Outcome:
    """What a page of the panel says."""
    if response.status_code == 303:
        found = _NUMBER.search(response.headers["location"])
        return Outcome(200, int(found[1]) if found else number)
    text = response.text
    errors = {name: [html.unescape(why)] for name, why in _WRONG.findall(text)}
    notice = _NOTICE.search(text)
    top = [html.unescape(line) for line in _TOP.findall(notice[0])] if notice else []
    return Outcome(response.status_code, None, errors, " ".join(top) or _said(text), text)


def _said(text: str) -> str:
    found = _ERROR_PAGE.search(text) or _CONFLICT.search(text)
    return html.unescape(re.sub(r"<[^>]*>", "", found[1])).strip() if found else ""


def told_by_json(response: Response, number: int | None = None) -> Outcome:
    """What an answer of the REST interface says."""
    body = response.json()
    if response.is_success:
        return Outcome(200, body.get("id", number), text=response.text)
    details = body.get("details", {})
    errors = {"hypervisor" if n == "hypervisor_id" else n: why for n, why in details.items()}
    message = "" if errors else body["detail"]
    return Outcome(response.status_code, None, errors, message, response.text)


class PanelDoor:
    """Through the panel: every write is the form that the panel itself gave, filled in."""

    def __init__(self, person: Person) -> None:
        self.client: TestClient = person.panel
        self._blank: dict[str, Form] = {}

    def add_vm(self, fields: Fields) -> Outcome:
        return self._add("vm", fields)

    def change_vm(self, number: int, fields: Fields, revision: int | None = None) -> Outcome:
        return self._change("vm", number, fields, revision)

    def extend_vm(self, number: int, fields: Fields) -> Outcome:
        """With the expiry date that the VM's page shows, unless another one is given."""
        page = self.client.get(f"/admin/vm/details/{number}").text
        shown = {name: html.unescape(value) for name, value in _EXPECTED.findall(page)}
        data = {**shown, **{name: _typed(value) for name, value in fields.items()}}
        return self._post(f"/admin/vm/extend/{number}", number, data)

    def remove_vm(self, number: int) -> Outcome:
        return self._post("/admin/vm/delete", number, {"pk": str(number)})

    def restore_vm(self, number: int) -> Outcome:
        return self._post(f"/admin/trash/restore/{number}", number)

    def purge_vm(self, number: int) -> Outcome:
        return self._post(f"/admin/trash/purge/{number}", number)

    def add_credential(self, vm: int, fields: Fields) -> Outcome:
        shown = self.client.get(f"/admin/credential/create?vm={vm}")
        if shown.status_code != 200:
            return told_by_page(shown)
        data = Form(shown.text).filled(fields)
        return told_by_page(self.client.post("/admin/credential/create", data=data))

    def change_credential(
        self,
        vm: int,  # noqa: ARG002 - the panel's addresses do not name it
        number: int,
        fields: Fields,
        revision: int | None = None,
    ) -> Outcome:
        return self._change("credential", number, fields, revision)

    def remove_credential(self, vm: int, number: int) -> Outcome:  # noqa: ARG002 - as above
        return self._post("/admin/credential/delete", number, {"pk": str(number)})

    def reveal(self, vm: int, number: int, version: int | None = None) -> Outcome:  # noqa: ARG002 - as above
        address = f"/admin/credential/reveal/{number}"
        address += "" if version is None else f"/{version}"
        wanted = {"Accept": "application/json"}
        return told_by_json(self.client.post(address, headers=wanted), number)

    def add_hypervisor(self, fields: Fields) -> Outcome:
        return self._add("hypervisor", fields)

    def change_hypervisor(
        self, number: int, fields: Fields, revision: int | None = None
    ) -> Outcome:
        return self._change("hypervisor", number, fields, revision)

    def remove_hypervisor(self, number: int) -> Outcome:
        return self._post("/admin/hypervisor/delete", number, {"pk": str(number)})

    def add_user(self, fields: Fields) -> Outcome:
        return self._add("user", fields)

    def change_user(self, number: int, fields: Fields, revision: int | None = None) -> Outcome:
        return self._change("user", number, fields, revision)

    def deactivate_user(self, number: int) -> Outcome:
        return self._post(f"/admin/user/deactivate/{number}", number)

    def form(self, address: str) -> Form:
        """The form at an address of the panel."""
        response = self.client.get(address)
        assert response.status_code == 200, response.text
        return Form(response.text)

    def _post(self, address: str, number: int, data: dict[str, str] | None = None) -> Outcome:
        return told_by_page(self.client.post(address, data=data or {}), number)

    def _add(self, kind: str, fields: Fields) -> Outcome:
        if kind not in self._blank:
            self._blank[kind] = self.form(f"/admin/{kind}/create")
        data = self._blank[kind].filled(fields)
        return told_by_page(self.client.post(f"/admin/{kind}/create", data=data))

    def _change(self, kind: str, number: int, fields: Fields, revision: int | None) -> Outcome:
        address = f"/admin/{kind}/edit/{number}"
        shown = self.client.get(address)
        if shown.status_code != 200:
            return told_by_page(shown)
        data = Form(shown.text).filled(fields)
        if revision is not None:
            data["revision"] = str(revision)
        return told_by_page(self.client.post(address, data=data))


class RestDoor:
    """Through the REST interface: only the fields given are sent, as JSON."""

    def __init__(self, person: Person) -> None:
        self.client: TestClient = person.api

    def add_vm(self, fields: Fields) -> Outcome:
        return told_by_json(self.client.post("/api/vms", json=self._numbered(fields)))

    def change_vm(self, number: int, fields: Fields, revision: int | None = None) -> Outcome:
        return self._put(f"/api/vms/{number}", self._numbered(fields), revision)

    def extend_vm(self, number: int, fields: Fields) -> Outcome:
        sent = self.client.post(f"/api/vms/{number}/extend", json=dict(fields))
        return told_by_json(sent, number)

    def remove_vm(self, number: int) -> Outcome:
        return told_by_json(self.client.delete(f"/api/vms/{number}"), number)

    def restore_vm(self, number: int) -> Outcome:
        return told_by_json(self.client.post(f"/api/vms/{number}/restore"), number)

    def purge_vm(self, number: int) -> Outcome:
        return told_by_json(self.client.post(f"/api/vms/{number}/purge"), number)

    def add_credential(self, vm: int, fields: Fields) -> Outcome:
        made = self.client.post(f"/api/vms/{vm}/credentials", json=dict(fields))
        return told_by_json(made)

    def change_credential(
        self, vm: int, number: int, fields: Fields, revision: int | None = None
    ) -> Outcome:
        return self._put(f"/api/vms/{vm}/credentials/{number}", fields, revision)

    def remove_credential(self, vm: int, number: int) -> Outcome:
        gone = self.client.delete(f"/api/vms/{vm}/credentials/{number}")
        return told_by_json(gone, number)

    def reveal(self, vm: int, number: int, version: int | None = None) -> Outcome:
        address = f"/api/vms/{vm}/credentials/{number}"
        address += "" if version is None else f"/versions/{version}"
        return told_by_json(self.client.post(f"{address}/reveal"), number)

    def add_hypervisor(self, fields: Fields) -> Outcome:
        return told_by_json(self.client.post("/api/hypervisors", json=fields))

    def change_hypervisor(
        self, number: int, fields: Fields, revision: int | None = None
    ) -> Outcome:
        return self._put(f"/api/hypervisors/{number}", fields, revision)

    def remove_hypervisor(self, number: int) -> Outcome:
        return told_by_json(self.client.delete(f"/api/hypervisors/{number}"), number)

    def add_user(self, fields: Fields) -> Outcome:
        return told_by_json(self.client.post("/api/users", json=fields))

    def change_user(self, number: int, fields: Fields, revision: int | None = None) -> Outcome:
        return self._put(f"/api/users/{number}", fields, revision)

    def deactivate_user(self, number: int) -> Outcome:
        return told_by_json(self.client.delete(f"/api/users/{number}"), number)

    def _put(self, address: str, fields: Fields, revision: int | None) -> Outcome:
        headers = {} if revision is None else {"If-Match": f'"v{revision}"'}
        return told_by_json(self.client.put(address, json=dict(fields), headers=headers))

    def _numbered(self, fields: Fields) -> dict[str, Any]:
        """The fields with the hypervisor's number for its name."""
        sent = dict(fields)
        name = sent.pop("hypervisor", None)
        if "hypervisor" in fields:
            rows = self.client.get("/api/vms/hypervisors").json()
            known = {fold(one["name"]): one["id"] for one in rows}
            sent["hypervisor_id"] = known.get(fold(name), NO_HYPERVISOR) if name else None
        return sent


DOORS: Mapping[str, type[PanelDoor] | type[RestDoor]] = {"panel": PanelDoor, "rest": RestDoor}
