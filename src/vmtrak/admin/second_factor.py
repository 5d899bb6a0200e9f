"""One's own second factor, and proving again who one is."""

from typing import Any
from urllib.parse import urlsplit

import segno
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vmtrak import audit
from vmtrak.access import Actor
from vmtrak.accounts import Code, ProofOfIdentity, actors, second_factor, sessions
from vmtrak.accounts.second_factor import Enrolment
from vmtrak.admin.base import Panel, posted, proof_first, redirect
from vmtrak.errors import Conflict, Invalid, TooMany, VmtrakError
from vmtrak.fields import parse
from vmtrak.web import cookies, sign_in, step_up
from vmtrak.web.errors import extra_headers, for_scripts, status_of
from vmtrak.web.guard import SAFE
from vmtrak.web.state import State, actor_of

HOME = "/admin/account/second-factor"

_QUIET_ZONE = 4
"""Modules of white around the code (ISO/IEC 18004), without which a dark page hides its edge."""


class SecondFactorPages:
    """The pages of the second factor and of the step-up, which need no view."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.state: State = panel.state
        self.site = urlsplit(panel.state.base_url).hostname or ""

    def routes(self) -> list[Route]:
        return [
            Route("/account/proof", self.proof),
            Route("/account/prove", self.prove, methods=["GET", "POST"]),
            Route("/account/second-factor", self.home),
            Route("/account/second-factor/start", self.start, methods=["POST"]),
            Route("/account/second-factor/confirm", self.confirm, methods=["POST"]),
            Route("/account/second-factor/recovery-codes", self.codes, methods=["POST"]),
            Route("/account/second-factor/remove", self.remove, methods=["POST"]),
        ]

    async def home(self, request: Request) -> Response:
        standing = await self.state.database.reading(self._standing, actor_of(request))
        context = {
            "title": "Second factor",
            "standing": standing,
            "since": audit.plain(standing.enrolled_at),
            "most": second_factor.RECOVERY_CODES,
        }
        return await self.panel.render(request, "second_factor.html", context)

    def _standing(self, actor: Actor) -> second_factor.Standing:
        with self.state.database.read() as session:
            return second_factor.standing(session, actor)

    async def start(self, request: Request) -> Response:
        actor = actor_of(request)
        if proof := proof_first(actor, HOME):
            return proof
        return await self._enrolment_page(
            request, await self.state.database.writing(self._start, actor)
        )

    def _start(self, actor: Actor) -> Enrolment:
        with self.state.database.work(actor) as work:
            return second_factor.start(work, self.state.vault.keys, self.site)

    async def _enrolment_page(
        self, request: Request, enrolment: Enrolment, error: Invalid | None = None
    ) -> Response:
        code = segno.make(enrolment.uri, error="m", micro=False)
        context = {
            "title": "Set up your authenticator app",
            "qr": code.svg_data_uri(border=_QUIET_ZONE, dark="#000", light="#fff", scale=4),
            "secret": _in_groups(enrolment.secret),
            "uri": enrolment.uri,
            "error": f"The code {error.fields['code'][0]}." if error else None,
        }
        status = status_of(error) if error else 200
        return await self.panel.render(request, "second_factor_start.html", context, status)

    async def confirm(self, request: Request) -> Response:
        actor = actor_of(request)
        if proof := proof_first(actor, HOME):
            return proof
        form = await posted(request)
        try:
            codes = await self.state.database.writing(self._confirm, actor, form)
        except Invalid as error:
            enrolment = await self.state.database.reading(self._begun, actor)
            return await self._enrolment_page(request, enrolment, error)
        return await self._codes_page(request, codes, confirmed=True)

    def _confirm(self, actor: Actor, form: dict[str, str]) -> list[str]:
        code = parse(Code, form).code.get_secret_value()
        with self.state.database.work(actor) as work:
            return second_factor.confirm(work, self.state.vault.keys, code)

    def _begun(self, actor: Actor) -> Enrolment:
        with self.state.database.read() as session:
            return second_factor.begun(session, actor, self.state.vault.keys, self.site)

    async def codes(self, request: Request) -> Response:
        actor = actor_of(request)
        if proof := proof_first(actor, HOME):
            return proof
        codes = await self.state.database.writing(self._new_codes, actor)
        return await self._codes_page(request, codes, confirmed=False)

    def _new_codes(self, actor: Actor) -> list[str]:
        with self.state.database.work(actor) as work:
            return second_factor.new_recovery_codes(work)

    async def _codes_page(self, request: Request, codes: list[str], *, confirmed: bool) -> Response:
        heading = f"Recovery codes for {actor_of(request).username} at {self.state.base_url}"
        context = {
            "title": "Your recovery codes",
            "codes": codes,
            "confirmed": confirmed,
            "file": "\n".join([heading, "Each works once.", "", *codes, ""]),
        }
        return await self.panel.render(request, "second_factor_codes.html", context)

    async def remove(self, request: Request) -> Response:
        actor = actor_of(request)
        if proof := proof_first(actor, HOME):
            return proof
        await self.state.database.writing(self._remove, actor)
        return redirect(HOME, "factor-removed")

    def _remove(self, actor: Actor) -> None:
        with self.state.database.work(actor) as work:
            second_factor.remove(work)

    async def proof(self, request: Request) -> Response:
        """204 while the person's proof counts, before a page sends what needs one."""
        actors.require_proof(actor_of(request))
        return Response(status_code=204)

    async def prove(self, request: Request) -> Response:
        """Show again who is there, on a page of its own or, for the page's script, in place."""
        target = sign_in.own_path(request.query_params.get("next"))
        if request.method in SAFE:
            return await self._prove_page(request, target)
        form = await posted(request)
        target = sign_in.own_path(form.get("next"))
        scripts = for_scripts(request.url.path, request.headers.get("accept", ""))
        try:
            proof = parse(ProofOfIdentity, form)
            token = await step_up.prove(self.state, actor_of(request), proof, sessions.renew_panel)
        except (Invalid, Conflict, TooMany) as error:
            if scripts:
                raise
            return await self._prove_page(request, target, error)
        response = Response(status_code=204) if scripts else redirect(target, "proved")
        cookies.set_panel(response, self.state, token)
        return response

    async def _prove_page(
        self, request: Request, target: str, error: VmtrakError | None = None
    ) -> Response:
        want = await self.state.database.reading(step_up.wanted, self.state, actor_of(request))
        context: dict[str, Any] = {
            "title": "Prove that it is you",
            "next": target,
            "wanted": want,
            "error": _said(error) if error else None,
        }
        status = status_of(error) if error else 200
        response = await self.panel.render(request, "prove.html", context, status)
        response.headers.update(extra_headers(error) if error else {})
        return response


def _said(error: VmtrakError) -> str:
    if isinstance(error, Invalid):
        return " ".join(f"The {name} {why[0]}." for name, why in error.fields.items())
    return str(error)


def _in_groups(secret: str) -> str:
    return " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))
