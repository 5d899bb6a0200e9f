"""REST for hypervisors."""

from typing import Any

from starlette.responses import Response

from vmtrak.access import Permission
from vmtrak.api.answers import HypervisorAnswer, Success
from vmtrak.api.base import Call, Endpoint, answer, etag, probed
from vmtrak.inventory import HypervisorPatch, NewHypervisor, hypervisors
from vmtrak.reachability import Reach
from vmtrak.web.inputs import Ids


def list_(call: Call) -> Response:
    with call.state.database.read() as session:
        return answer(hypervisors.every(session, call.actor))


def get(call: Call) -> Response:
    return _one(call, call.number())


def add(call: Call) -> Response:
    new = call.json(NewHypervisor)
    with call.state.database.work(call.actor) as work:
        row = hypervisors.add(work, new)
    return _one(call, row.id, 201, {"Location": f"/api/hypervisors/{row.id}"})


def change(call: Call) -> Response:
    number, patch = call.number(), call.json(HypervisorPatch)
    with call.state.database.work(call.actor) as work:
        hypervisors.change(work, number, patch, call.seen())
    return _one(call, number)


def remove(call: Call) -> Response:
    with call.state.database.work(call.actor) as work:
        hypervisors.remove(work, call.number(), call.seen())
    return answer({"success": True})


async def reachability(call: Call) -> Response:
    return await probed(call, hypervisors.targets)


def _one(
    call: Call, number: int, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    with call.state.database.read() as session:
        row: dict[str, Any] = hypervisors.get(session, call.actor, number)
    revision = row.pop("revision", None)
    tag = {"ETag": etag(revision)} if revision is not None else {}
    return answer(row, status, {**(headers or {}), **tag})


_WRITE = Permission.HYPERVISOR_WRITE

ENDPOINTS = (
    Endpoint(
        "GET",
        "/hypervisors",
        "Hypervisors that you see, by name",
        list[HypervisorAnswer],
        list_,
        permission=Permission.VM_READ,
    ),
    Endpoint(
        "POST",
        "/hypervisors",
        "Add a hypervisor",
        HypervisorAnswer,
        add,
        body=NewHypervisor,
        status=201,
        permission=_WRITE,
        errors=(409,),
        etag=True,
    ),
    Endpoint(
        "GET",
        "/hypervisors/reachability",
        "Whether hypervisors answer on their management port",
        dict[str, Reach],
        reachability,
        query=Ids,
        permission=Permission.VM_READ,
        errors=(422,),
    ),
    Endpoint(
        "GET",
        "/hypervisors/{id}",
        "One hypervisor",
        HypervisorAnswer,
        get,
        permission=Permission.VM_READ,
        errors=(404, 422),
        etag=True,
    ),
    Endpoint(
        "PUT",
        "/hypervisors/{id}",
        "Change the fields sent",
        HypervisorAnswer,
        change,
        body=HypervisorPatch,
        permission=_WRITE,
        errors=(404, 409, 412),
        etag=True,
    ),
    Endpoint(
        "DELETE",
        "/hypervisors/{id}",
        "Remove a hypervisor without VMs",
        Success,
        remove,
        permission=_WRITE,
        errors=(404, 409, 412, 422),
    ),
)
