"""The REST door: every route on one screen, in `ENDPOINTS`."""

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from vmtrak.api import (
    alerts,
    audit,
    auth,
    calendars,
    connections,
    credentials,
    dashboard,
    hypervisors,
    microsoft,
    notices,
    second_factor,
    seen,
    tokens,
    users,
    vms,
)
from vmtrak.api.base import answer, routes
from vmtrak.api.document import openapi
from vmtrak.web.state import State

ENDPOINTS = (
    *vms.ENDPOINTS,
    *credentials.ENDPOINTS,
    *connections.ENDPOINTS,
    *hypervisors.ENDPOINTS,
    *auth.ENDPOINTS,
    *microsoft.ENDPOINTS,
    *second_factor.ENDPOINTS,
    *calendars.ENDPOINTS,
    *users.ENDPOINTS,
    *seen.ENDPOINTS,
    *alerts.ENDPOINTS,
    *notices.ENDPOINTS,
    *tokens.ENDPOINTS,
    *audit.ENDPOINTS,
    *dashboard.ENDPOINTS,
)

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>VMTrak REST interface</title>
<link rel="icon" href="/static/favicon.svg">
<link rel="stylesheet" href="/static/swagger/swagger-ui.css">
<link rel="stylesheet" href="/static/swagger/docs.css">
</head>
<body>
<div id="docs"></div>
<script src="/static/swagger/swagger-ui-bundle.js"></script>
<script src="/static/swagger/docs.js"></script>
</body>
</html>
"""


def api_routes(state: State) -> list[Route]:
    document = openapi(ENDPOINTS)

    async def document_json(_request: Request) -> Response:
        return answer(document)

    async def page(_request: Request) -> Response:
        return HTMLResponse(_PAGE)

    return [
        *routes(state, ENDPOINTS),
        Route("/api/openapi.json", document_json),
        Route("/api/docs", page),
    ]
