"""Errors on the wire: one table of status codes, and problem+json (RFC 9457) for scripts."""

from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from vmtrak import errors
from vmtrak.errors import VmtrakError

STATUS = MappingProxyType(
    {
        errors.Malformed: 400,
        errors.NotAuthenticated: 401,
        errors.CodeRequired: 401,
        errors.Forbidden: 403,
        errors.SetupRequired: 403,
        errors.SecondFactorRequired: 403,
        errors.StepUpRequired: 403,
        errors.NotFound: 404,
        errors.Conflict: 409,
        errors.Stale: 412,
        errors.Invalid: 422,
        errors.TooMany: 429,
        errors.Unavailable: 503,
    }
)

_WORDS = MappingProxyType(
    {
        404: "There is no such address.",
        405: "This address does not take that method.",
        413: "The request is too large.",
        415: "The body must be application/json.",
        400: "The request could not be read.",
    }
)

INTERNAL = "Something went wrong on our side. The request id leads an administrator to the cause."


def for_scripts(path: str, accept: str) -> bool:
    """Whether who asks reads problem+json: everybody under /api, and the panel's own fetches."""
    return path.startswith("/api/") or ("application/json" in accept and "text/html" not in accept)


def status_of(error: Exception) -> int:
    if isinstance(error, HTTPException):
        return error.status_code
    return STATUS.get(type(error), 500) if isinstance(error, VmtrakError) else 500


def words_of(error: Exception) -> str:
    """What a person may read of the error; nothing of one that nobody foresaw."""
    if isinstance(error, VmtrakError):
        return str(error)
    if isinstance(error, HTTPException):
        return _WORDS.get(error.status_code, str(error.detail))
    return INTERNAL


def extra_headers(error: Exception) -> dict[str, str]:
    if isinstance(error, errors.TooMany):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, errors.Unavailable):
        return {"Retry-After": "5"}
    if isinstance(error, errors.NotAuthenticated):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, HTTPException):
        return {name: value for name, value in (error.headers or {}).items() if name == "Allow"}
    return {}


def problem(error: Exception, request_id: str) -> Response:
    """The error as problem+json, with the two names that earlier clients read."""
    status, words = status_of(error), words_of(error)
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": words,
        "error": words,
        "request_id": request_id,
    }
    if isinstance(error, errors.Invalid):
        body["details"] = error.fields
    if isinstance(error, errors.Conflict) and error.field:
        body["details"] = {error.field: [words]}
    return Response(
        orjson.dumps(body),
        status,
        {**extra_headers(error), "Cache-Control": "no-store"},
        media_type="application/problem+json",
    )
