"""REST for connecting to a VM: the RDP file and the section of an OpenSSH configuration."""

from starlette.responses import Response

from vmtrak import connections
from vmtrak.access import Permission
from vmtrak.api.base import Call, Endpoint
from vmtrak.connections import RdpRequest, SshRequest
from vmtrak.web.downloads import attachment


def rdp_file(call: Call) -> Response:
    number, asked = call.number(), call.query(RdpRequest)
    with call.state.database.work(call.actor) as work:
        file = connections.rdp_file(work, call.state.rdp, number, asked)
    headers = {"Content-Disposition": attachment(file.name)}
    return Response(file.content, headers=headers, media_type="application/x-rdp")


def ssh_config(call: Call) -> Response:
    number, asked = call.number(), call.query(SshRequest)
    with call.state.database.read() as session:
        text = connections.ssh_section(session, call.actor, number, asked)
    return Response(text, media_type="text/plain")


ENDPOINTS = (
    Endpoint(
        "GET",
        "/vms/{id}/rdp",
        "The RDP file of a VM, signed if a certificate is set",
        bytes,
        rdp_file,
        query=RdpRequest,
        permission=Permission.RDP,
        errors=(404, 409, 422),
        media="application/x-rdp",
        writes=True,
    ),
    Endpoint(
        "GET",
        "/vms/{id}/ssh-config",
        "A section for an OpenSSH configuration",
        str,
        ssh_config,
        query=SshRequest,
        permission=Permission.RDP,
        errors=(404, 409, 422),
        media="text/plain",
    ),
)
