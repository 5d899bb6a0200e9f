"""REST for VMs."""

from typing import Any

from starlette.responses import Response

from vmtrak import credentials, inventory
from vmtrak.access import Permission
from vmtrak.api.answers import ListAnswer, Named, Ok, TrashedVM, VMAnswer
from vmtrak.api.base import Call, Endpoint, always, answer, etag, page_answer, probed
from vmtrak.db import Work
from vmtrak.errors import NotFound
from vmtrak.fields import Input
from vmtrak.inventory import VM, Extension, NewVM, VMPatch, VMQuery
from vmtrak.inventory.statistics import Suggested
from vmtrak.reachability import Reach
from vmtrak.web.inputs import Ids


class FieldValues(Input):
    field: Suggested


def list_(call: Call) -> Response:
    query, today = call.query(VMQuery), call.state.today()
    body = inventory.page_document(call.state.database, call.actor, query, today)
    return Response(body, media_type="application/json")


_PLAIN = frozenset({"page", "limit", "sort", "order", "cursor"})


def _bounded(call: Call) -> bool:
    """Whether the page takes one index and its rows: no filter, no search, no far skipping."""
    given = call.request.query_params
    near = len(given.get("page", "")) <= 2  # noqa: PLR2004 - up to page 99
    return near and given.keys() <= _PLAIN and call.actor.may(Permission.VM_READ_ALL)


def get(call: Call) -> Response:
    row = inventory.find(call.state.database, call.actor, call.number())
    if row is None:
        raise NotFound
    return answer(row, headers={"ETag": etag(row.pop("revision"))})


def add(call: Call) -> Response:
    new = call.json(NewVM)
    with call.state.database.work(call.actor) as work:
        vm = inventory.add(work, new)
        row = _shown(work, vm)
    return answer(row, 201, {"ETag": etag(vm.revision), "Location": f"/api/vms/{vm.id}"})


def change(call: Call) -> Response:
    number, patch = call.number(), call.json(VMPatch)
    with call.state.database.work(call.actor) as work:
        vm = inventory.change(work, number, patch, call.seen())
        row = _shown(work, vm)
    return answer(row, headers={"ETag": etag(vm.revision)})


def extend(call: Call) -> Response:
    number, extension = call.number(), call.json(Extension)
    with call.state.database.work(call.actor) as work:
        vm = inventory.extend(work, number, extension, call.state.today(), call.seen())
        row = _shown(work, vm)
    return answer(row, headers={"ETag": etag(vm.revision)})


def remove(call: Call) -> Response:
    with call.state.database.work(call.actor) as work:
        inventory.remove(work, call.number(), call.seen())
    return answer({"ok": True})


def trash(call: Call) -> Response:
    query = call.query(inventory.TrashQuery)
    with call.state.database.read() as session:
        page = inventory.trash_page(session, call.actor, query)
    return answer(page_answer(page))


def restore(call: Call) -> Response:
    with call.state.database.work(call.actor) as work:
        vm = inventory.restore(work, call.number())
        row = _shown(work, vm)
    return answer(row, headers={"ETag": etag(vm.revision)})


def purge(call: Call) -> Response:
    with call.state.database.work(call.actor) as work:
        credentials.purge_vm(work, call.number())
    return answer({"ok": True})


def hypervisor_names(call: Call) -> Response:
    with call.state.database.read() as session:
        return answer(inventory.hypervisors.names(session, call.actor))


def field_values(call: Call) -> Response:
    query = call.query(FieldValues)
    with call.state.database.read() as session:
        return answer(inventory.statistics.suggestions(session, call.actor, query.field))


async def reachability(call: Call) -> Response:
    return await probed(call, inventory.targets)


def _shown(work: Work, vm: VM) -> dict[str, Any]:
    return inventory.shown(vm, inventory.hypervisor_name(work, vm))


_WRITE = Permission.VM_WRITE

ENDPOINTS = (
    Endpoint(
        "GET",
        "/vms",
        "VMs that you see, page by page",
        ListAnswer[VMAnswer],
        list_,
        query=VMQuery,
        permission=Permission.VM_READ,
        errors=(422,),
        quick=_bounded,
    ),
    Endpoint(
        "POST",
        "/vms",
        "Add a VM",
        VMAnswer,
        add,
        body=NewVM,
        status=201,
        permission=_WRITE,
        errors=(409,),
        etag=True,
    ),
    Endpoint(
        "GET",
        "/vms/trash",
        "VMs in the trash, latest first",
        ListAnswer[TrashedVM],
        trash,
        query=inventory.TrashQuery,
        permission=Permission.TRASH,
        errors=(422,),
    ),
    Endpoint(
        "GET",
        "/vms/hypervisors",
        "Names of the hypervisors of the VMs that you see",
        list[Named],
        hypervisor_names,
        permission=Permission.VM_READ,
    ),
    Endpoint(
        "GET",
        "/vms/field-values",
        "Values that a field has",
        list[str],
        field_values,
        query=FieldValues,
        permission=Permission.VM_READ,
        errors=(422,),
    ),
    Endpoint(
        "GET",
        "/vms/reachability",
        "Whether VMs answer on TCP 22 (Linux) or 3389",
        dict[str, Reach],
        reachability,
        query=Ids,
        permission=Permission.VM_READ,
        errors=(422,),
    ),
    Endpoint(
        "GET",
        "/vms/{id}",
        "One VM",
        VMAnswer,
        get,
        permission=Permission.VM_READ,
        errors=(404, 422),
        quick=always,
        etag=True,
    ),
    Endpoint(
        "PUT",
        "/vms/{id}",
        "Change the fields sent",
        VMAnswer,
        change,
        body=VMPatch,
        permission=_WRITE,
        errors=(404, 409, 412),
        etag=True,
    ),
    Endpoint(
        "DELETE",
        "/vms/{id}",
        "Move a VM to the trash",
        Ok,
        remove,
        permission=_WRITE,
        errors=(404, 412, 422),
    ),
    Endpoint(
        "POST",
        "/vms/{id}/extend",
        "Put off the expiry date by days, or until a date",
        VMAnswer,
        extend,
        body=Extension,
        permission=_WRITE,
        errors=(404, 409, 412),
        etag=True,
    ),
    Endpoint(
        "POST",
        "/vms/{id}/restore",
        "Bring a VM back from the trash",
        VMAnswer,
        restore,
        permission=Permission.TRASH,
        errors=(404, 409, 422),
        etag=True,
    ),
    Endpoint(
        "POST",
        "/vms/{id}/purge",
        "Destroy a VM that is in the trash",
        Ok,
        purge,
        permission=Permission.TRASH,
        errors=(404, 422),
    ),
)
