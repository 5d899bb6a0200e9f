"""The files for connecting to a VM, the same at both doors."""

from starlette.responses import Response

from vmtrak import connections
from vmtrak.access import Actor
from vmtrak.connections import RdpRequest, SshRequest
from vmtrak.web.downloads import attachment
from vmtrak.web.state import State


def rdp_file(state: State, actor: Actor, vm_id: int, asked: RdpRequest) -> Response:
    """The RDP file as a download, once its event is committed. Raises as the operation does."""
    with state.database.work(actor) as work:
        file = connections.rdp_file(work, state.rdp, vm_id, asked)
    headers = {"Content-Disposition": attachment(file.name)}
    return Response(file.content, headers=headers, media_type="application/x-rdp")


def ssh_section(state: State, actor: Actor, vm_id: int, asked: SshRequest) -> Response:
    with state.database.read() as session:
        text = connections.ssh_section(session, actor, vm_id, asked)
    return Response(text, media_type="text/plain")
