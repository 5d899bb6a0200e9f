"""REST for signing in over Microsoft Entra ID or another OpenID provider, with a browser."""

from typing import Annotated, Literal

from pydantic import Field
from starlette.responses import HTMLResponse, RedirectResponse, Response

from vmtrak.api.base import Call, Endpoint
from vmtrak.errors import Malformed
from vmtrak.fields import Input
from vmtrak.web import microsoft
from vmtrak.web.oidc import Flow


class Start(Input):
    """Where to go on to, for whom, and whether the person has to sign in at this moment."""

    next: Annotated[str, Field(max_length=4096)] = ""
    client: Literal["panel", "rest"] = "panel"
    purpose: Literal["sign-in", "prove"] = "sign-in"


class FrontChannel(Input):
    """What the provider sends when somebody signs out there (Front-Channel Logout 1.0)."""

    sid: Annotated[str, Field(max_length=256)] = ""
    iss: Annotated[str | None, Field(max_length=1024)] = None


async def start(call: Call) -> Response:
    microsoft.provider_of(call.state)
    wanted = call.query(Start)
    prove = wanted.purpose == "prove"
    if wanted.client == "rest":
        flow = Flow("rest", microsoft.own_place(wanted.next), prove=prove)
    elif prove:  # only the panel's own addresses get the cookie of the session to be proved
        return RedirectResponse(f"/admin/microsoft?{call.request.url.query}", 303)
    else:
        flow = microsoft.panel_flow(call.request, prove=False)
    return await microsoft.begin(call.state, call.request, flow)


async def callback(call: Call) -> Response:
    return await microsoft.finish(call.state, call.request)


async def logout(call: Call) -> Response:
    """The provider asks in a frame without cookies: `sid` alone says whose sessions end."""
    provider = microsoft.provider_of(call.state)
    told = call.query(FrontChannel)
    known = told.iss in {None, provider.registration.issuer}
    if not known or not told.sid or not told.sid.isprintable():  # PostgreSQL takes no NUL
        raise Malformed
    await call.state.database.writing(microsoft.sign_out, call.state, call.actor, told.sid)
    return HTMLResponse("<!doctype html><title>Signed out</title>")


ENDPOINTS = (
    Endpoint(
        "GET",
        "/auth/microsoft",
        "Sign in over the OpenID provider: leads a browser there",
        None,
        start,
        query=Start,
        status=303,
        errors=(422, 429),
        pages=(502, 503),
        open=True,
    ),
    Endpoint(
        "GET",
        "/auth/microsoft/callback",
        "The provider leads back here: sets the session's cookie and goes on",
        None,
        callback,
        status=303,
        errors=(429,),
        pages=(400, 401, 403, 502, 503),
        open=True,
    ),
    Endpoint(
        "GET",
        "/auth/microsoft/logout",
        "The provider says that somebody has signed out there",
        None,
        logout,
        query=FrontChannel,
        errors=(400, 422, 503),
        pages=(200,),
        open=True,
    ),
)
