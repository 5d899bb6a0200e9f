"""REST for credentials. A password is in no answer but those of `reveal`."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session
from starlette.responses import Response

from vmtrak import credentials
from vmtrak.access import Permission
from vmtrak.api.answers import CredentialAnswer, ListAnswer, Ok, RevealAnswer, VersionAnswer
from vmtrak.api.base import Call, Endpoint, answer, etag, page_answer
from vmtrak.credentials import (
    CredentialPatch,
    CredentialQuery,
    NewCredential,
    RevealRequest,
    Which,
)
from vmtrak.web.revealing import reveal as revealed


def list_(call: Call) -> Response:
    query = call.query(CredentialQuery)
    with call.state.database.read() as session:
        page = credentials.page(session, call.actor, call.state.vault.rules, query)
    return answer(page_answer(page))


def of_vm(call: Call) -> Response:
    with call.state.database.read() as session:
        rows = credentials.of_vm(session, call.actor, call.state.vault.rules, call.number())
    return answer(rows)


def get(call: Call) -> Response:
    with call.state.database.read() as session:
        row = _found(call, session, _which(call))
    return _tagged(row)


def add(call: Call) -> Response:
    vm_id, new = call.number(), call.json(NewCredential)
    with call.state.database.work(call.actor) as work:
        credential = credentials.add(work, call.state.vault, vm_id, new)
        row = _found(call, work.session, Which(credential.id))
    return _tagged(row, 201, {"Location": f"/api/vms/{vm_id}/credentials/{credential.id}"})


def change(call: Call) -> Response:
    which, patch = _which(call), call.json(CredentialPatch)
    with call.state.database.work(call.actor) as work:
        credentials.change(work, call.state.vault, which, patch, call.seen())
        row = _found(call, work.session, which)
    return _tagged(row)


def remove(call: Call) -> Response:
    with call.state.database.work(call.actor) as work:
        credentials.remove(work, _which(call), call.seen())
    return answer({"ok": True})


def versions(call: Call) -> Response:
    with call.state.database.read() as session:
        return answer(credentials.versions(session, call.actor, _which(call)))


def reveal(call: Call) -> Response:
    password = revealed(call.state, call.actor, _which(call), _asked(call))
    return answer({"password": password}, headers={"Cache-Control": "no-store"})


def _which(call: Call) -> Which:
    version = call.number("version") if "version" in call.request.path_params else None
    return Which(call.number("cid"), call.number(), version)


def _asked(call: Call) -> RevealRequest:
    """The reason stands in the query or in the body, which goes before; both may be missing."""
    asked = call.query(RevealRequest)
    told = call.json(RevealRequest) if call.body else asked
    return told if told.reason else asked


def _found(call: Call, session: Session, which: Which) -> dict[str, Any]:
    return credentials.find(session, call.actor, call.state.vault.rules, which)


def _tagged(
    row: dict[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return answer(row, status, {**(headers or {}), "ETag": etag(row.pop("revision"))})


_READ = Permission.CREDENTIAL_READ
_WRITE = Permission.VM_WRITE
_REVEAL = Permission.CREDENTIAL_REVEAL
_ONE = "/vms/{id}/credentials/{cid}"
_EARLIER = _ONE + "/versions/{version}"
_REFUSED = (404, 422, 429, 503)

ENDPOINTS = (
    Endpoint(
        "GET",
        "/credentials",
        "Credentials of all VMs, page by page, without their passwords",
        ListAnswer[CredentialAnswer],
        list_,
        query=CredentialQuery,
        permission=_READ,
        errors=(422,),
    ),
    Endpoint(
        "GET",
        "/vms/{id}/credentials",
        "Credentials of a VM, the primary one first, without their passwords",
        list[CredentialAnswer],
        of_vm,
        permission=_READ,
        errors=(404, 422),
    ),
    Endpoint(
        "POST",
        "/vms/{id}/credentials",
        "Add a credential to a VM",
        CredentialAnswer,
        add,
        body=NewCredential,
        status=201,
        permission=_READ,
        also=(_WRITE,),
        errors=(404, 409),
        etag=True,
    ),
    Endpoint(
        "GET",
        _ONE,
        "One credential, without its password",
        CredentialAnswer,
        get,
        permission=_READ,
        errors=(404, 422),
        etag=True,
    ),
    Endpoint(
        "PUT",
        _ONE,
        "Change the fields sent",
        CredentialAnswer,
        change,
        body=CredentialPatch,
        permission=_READ,
        also=(_WRITE,),
        errors=(404, 409, 412),
        etag=True,
    ),
    Endpoint(
        "DELETE",
        _ONE,
        "Destroy a credential with all its passwords",
        Ok,
        remove,
        permission=_READ,
        also=(_WRITE,),
        errors=(404, 412, 422),
    ),
    Endpoint(
        "GET",
        _ONE + "/reveal",
        "The password, which goes on record",
        RevealAnswer,
        reveal,
        query=RevealRequest,
        permission=_REVEAL,
        writes=True,
        errors=_REFUSED,
    ),
    Endpoint(
        "POST",
        _ONE + "/reveal",
        "The password, which goes on record",
        RevealAnswer,
        reveal,
        query=RevealRequest,
        body=RevealRequest,
        body_optional=True,
        permission=_REVEAL,
        errors=_REFUSED,
    ),
    Endpoint(
        "GET",
        _ONE + "/versions",
        "When each password that is kept was set, and by whom, newest first",
        list[VersionAnswer],
        versions,
        permission=_READ,
        errors=(404, 422),
    ),
    Endpoint(
        "GET",
        _EARLIER + "/reveal",
        "An earlier password, which goes on record as one",
        RevealAnswer,
        reveal,
        query=RevealRequest,
        permission=_REVEAL,
        writes=True,
        errors=_REFUSED,
    ),
    Endpoint(
        "POST",
        _EARLIER + "/reveal",
        "An earlier password, which goes on record as one",
        RevealAnswer,
        reveal,
        query=RevealRequest,
        body=RevealRequest,
        body_optional=True,
        permission=_REVEAL,
        errors=_REFUSED,
    ),
)
