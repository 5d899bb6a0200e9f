"""Connecting to a VM: the card on its page, the files behind it, and the help with RDP files."""

from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vmtrak import audit, connections
from vmtrak.access import Actor, Permission
from vmtrak.admin.base import Panel
from vmtrak.connections import Download, RdpRequest, SshRequest
from vmtrak.db import now
from vmtrak.web import inputs
from vmtrak.web.downloads import attachment
from vmtrak.web.state import State, actor_of


def card(state: State, actor: Actor, vm_id: int) -> dict[str, Any] | None:
    """What the page of a VM offers; None for who may not connect. Raises `NotFound`."""
    with state.database.read() as session:
        found = connections.offered(session, actor, vm_id)
    if found is None:
        return None
    rows = [{**row, "href": _file_href(vm_id, row["user"])} for row in found["accounts"]]
    signer = state.rdp.signer
    fault = signer.fault(now()) if signer else None
    return {**found, "accounts": rows, "signed": signer is not None, "fault": fault}


def _file_href(vm_id: int, user: str | None) -> str:
    """An empty name says that none is to be in the file."""
    return f"/admin/vm/rdp/{vm_id}?{urlencode({'user': user or ''})}"


class ConnectionPages:
    """What is downloaded from a VM's page, and the page that explains it."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.state: State = panel.state

    def routes(self) -> list[Route]:
        rdp = Route("/vm/rdp/{pk}", self.rdp)
        rdp.methods = {"GET"}  # Starlette adds HEAD, which must leave no event
        return [
            rdp,
            Route("/vm/ssh-config/{pk}", self.ssh_config),
            Route("/rdp-help", self.help),
        ]

    async def rdp(self, request: Request) -> Response:
        number, asked = inputs.number(request.path_params["pk"]), inputs.query(request, RdpRequest)
        database, actor = self.state.database, actor_of(request)
        file = await database.writing(self._rdp_file, actor, number, asked)
        headers = {"Content-Disposition": attachment(file.name)}
        return Response(file.content, headers=headers, media_type="application/x-rdp")

    def _rdp_file(self, actor: Actor, number: int, asked: RdpRequest) -> Download:
        with self.state.database.work(actor) as work:
            return connections.rdp_file(work, self.state.rdp, number, asked)

    async def ssh_config(self, request: Request) -> Response:
        number, asked = inputs.number(request.path_params["pk"]), inputs.query(request, SshRequest)
        database, actor = self.state.database, actor_of(request)
        text = await database.reading(self._ssh_section, actor, number, asked)
        return Response(text, media_type="text/plain")

    def _ssh_section(self, actor: Actor, number: int, asked: SshRequest) -> str:
        with self.state.database.read() as session:
            return connections.ssh_section(session, actor, number, asked)

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
