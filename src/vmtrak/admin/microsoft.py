"""Pages of a sign-in over the provider: its start at the panel, its refusal, its sign-out."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vmtrak.admin.base import Panel
from vmtrak.errors import NotAuthenticated, SignInRefused
from vmtrak.web import microsoft
from vmtrak.web.refusals import TOLD
from vmtrak.web.state import State, actor_of

SIGNED_OUT = "/admin/microsoft/signed-out"


class MicrosoftPages:
    """The pages that need no view, in the panel's templates."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.state: State = panel.state

    def routes(self) -> list[Route]:
        return [
            Route("/microsoft", self.start),
            Route("/microsoft/signed-out", self.signed_out),
        ]

    async def start(self, request: Request) -> Response:
        """Sign in, or prove again who is in this session (`purpose=prove`)."""
        microsoft.provider_of(self.state)
        prove = request.query_params.get("purpose") == "prove"
        if prove and actor_of(request).session_id is None:
            raise NotAuthenticated
        flow = microsoft.panel_flow(request, prove=prove)
        return await microsoft.begin(self.state, request, flow)

    async def signed_out(self, request: Request) -> Response:
        """After a sign-out here: the way to sign out at the provider, if it has one."""
        provider = microsoft.provider_of(self.state)
        context = {"title": "Signed out", "name": provider.registration.name, "place": None}
        try:
            context["place"] = await provider.end_session_address()
        except SignInRefused as refused:
            context["trouble"] = TOLD[refused.reason].words
        return await self.panel.render(request, "signed_out.html", context)


async def refused(panel: Panel, request: Request, error: SignInRefused) -> Response:
    """Why somebody who comes from the provider does not get in, and whom to ask."""
    told = TOLD[error.reason]
    context = {
        "title": told.heading,
        "heading": told.heading,
        "words": told.words,
        "ask": panel.state.site_admin_email if told.ask else None,
        "asking": told.ask,
        "number": actor_of(request).request_id,
    }
    response = await panel.render(request, "sign_in_refused.html", context, told.status)
    microsoft.forget(response, panel.state, request)
    return response
