"""REST for connecting to a VM: the RDP file and the section of an OpenSSH configuration."""

from starlette.responses import Response

from vmtrak.access import Permission
from vmtrak.api.base import Call, Endpoint
from vmtrak.connections import RdpRequest, SshRequest
from vmtrak.web import connecting


def rdp_file(call: Call) -> Response:
    return connecting.rdp_file(call.state, call.actor, call.number(), call.query(RdpRequest))


def ssh_config(call: Call) -> Response:
    return connecting.ssh_section(call.state, call.actor, call.number(), call.query(SshRequest))


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
