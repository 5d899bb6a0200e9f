"""Connecting to a VM: the card on its page, the files behind it, and the help with RDP files."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vmtrak import audit, connections
from vmtrak.access import Actor, Permission
from vmtrak.admin.base import Panel, posted
from vmtrak.connections import RdpRequest, SshRequest
from vmtrak.db import now
from vmtrak.fields import parse
from vmtrak.web import connecting, inputs
from vmtrak.web.state import State, actor_of


def card(state: State, actor: Actor, vm_id: int) -> dict[str, Any] | None:
    """What the page of a VM offers; None for who may not connect. Raises `NotFound`."""
    with state.database.read() as session:
        found = connections.offered(session, actor, vm_id)
    if found is None:
        return None
    signer = state.rdp.signer
    fault = signer.fault(now()) if signer else None
    return {**found, "signed": signer is not None, "fault": fault}


class ConnectionPages:
    """What is downloaded from a VM's page, and the page that explains it."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.state: State = panel.state

    def routes(self) -> list[Route]:
        return [
            Route("/vm/rdp/{pk}", self.rdp, methods=["POST"]),
            Route("/vm/ssh-config/{pk}", self.ssh_config),
            Route("/rdp-help", self.help),
        ]

    async def rdp(self, request: Request) -> Response:
        """By POST, since it leaves an event: so no link, of whatever site, can cause one."""
        number, actor = inputs.number(request.path_params["pk"]), actor_of(request)
        asked = parse(RdpRequest, await posted(request))
        database = self.state.database
        return await database.writing(connecting.rdp_file, self.state, actor, number, asked)

    async def ssh_config(self, request: Request) -> Response:
        number, asked = inputs.number(request.path_params["pk"]), inputs.query(request, SshRequest)
        database, actor = self.state.database, actor_of(request)
        return await database.reading(connecting.ssh_section, self.state, actor, number, asked)

    async def help(self, request: Request) -> Response:
        actor_of(request).require(Permission.RDP)
        signer, moment = self.state.rdp.signer, now()
        context: dict[str, Any] = {
            "title": "RDP files",
            "certificate": None,
            "clipboard": self.state.rdp.clipboard,
            "gateway": self.state.rdp.gateway,
        }
        if signer is not None:
            context["certificate"] = {
                "subject": signer.subject,
                "ends": audit.plain(signer.ends),
                "thumbprint": signer.thumbprint,
                "fault": signer.fault(moment),
            }
        return await self.panel.render(request, "rdp_help.html", context)
