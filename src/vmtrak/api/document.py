"""The OpenAPI 3.1 document, made from the endpoints' own table, and the page that shows it."""

import re
from functools import cache
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

import vmtrak
from vmtrak.api.answers import Problem
from vmtrak.api.base import Endpoint
from vmtrak.fields import LARGEST_ID

_REF = "#/components/schemas/{model}"
_PROBLEM = {
    "application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}},
}


@cache
def openapi(endpoints: tuple[Endpoint, ...]) -> dict[str, Any]:
    """The document as plain data, worked out once: nobody changes it."""
    bodies = {endpoint.body for endpoint in endpoints if endpoint.body}
    _, definitions = models_json_schema(
        [(model, "validation") for model in sorted(bodies, key=lambda model: model.__name__)],
        ref_template=_REF,
    )
    schemas: dict[str, Any] = dict(definitions.get("$defs", {}))
    for patch in {
        endpoint.body for endpoint in endpoints if endpoint.body and endpoint.method == "PUT"
    }:
        _without_defaults(schemas[patch.__name__])
    schemas.update(_definitions(Problem)[1])
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        schema, found = _definitions(endpoint.answers)
        schemas.update(found)
        place = paths.setdefault("/api" + endpoint.path, {})
        place[endpoint.method.lower()] = _operation(endpoint, schema)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "VMTrak",
            "version": vmtrak.__version__,
            "description": "Inventory of virtual machines. Send `Authorization: Bearer <token>`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "refreshCookie": {"type": "apiKey", "in": "cookie", "name": "refreshToken"},
            },
        },
    }


def _without_defaults(schema: dict[str, Any]) -> None:
    """What a patch does not name stays as it is: the input's own defaults are never used."""
    for value in schema["properties"].values():
        value.pop("default", None)


def _definitions(shape: Any) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: ANN401 - any annotation
    schema = TypeAdapter(shape).json_schema(mode="serialization", ref_template=_REF)
    found = schema.pop("$defs", {})
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        name = re.sub(r"[^A-Za-z0-9]+", "_", shape.__name__).strip("_")
        found[name] = schema
        schema = {"$ref": _REF.format(model=name)}
    return schema, found


def _operation(endpoint: Endpoint, schema: dict[str, Any]) -> dict[str, Any]:
    words = re.findall(r"[a-z]+", endpoint.path)
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": "_".join([endpoint.method.lower(), *words]),
        "tags": [words[0]],
        "parameters": [*_path_parameters(endpoint), *_query_parameters(endpoint)],
        "responses": _responses(endpoint, schema),
    }
    if endpoint.body:
        reference = {"$ref": _REF.format(model=endpoint.body.__name__)}
        content = {"application/json": {"schema": reference}}
        operation["requestBody"] = {"required": not endpoint.body_optional, "content": content}
    if endpoint.open:
        cookie = endpoint.path in {"/auth/refresh", "/auth/logout"}
        operation["security"] = [{"refreshCookie": []}, {}] if cookie else []
    if HTTPStatus.PRECONDITION_FAILED in endpoint.errors:
        operation["parameters"].append(_IF_MATCH)
    return operation


_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of the row as it was read; 412 if it has changed since.",
    "schema": {"type": "string"},
}


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    number = {"type": "integer", "minimum": 1, "maximum": LARGEST_ID}
    return [
        {"name": name, "in": "path", "required": True, "schema": number}
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]


def _query_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    if endpoint.query is None:
        return []
    schema = endpoint.query.model_json_schema(by_alias=True, ref_template="{model}")
    definitions = schema.get("$defs", {})
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "schema": _plain(value, definitions),
        }
        for name, value in schema["properties"].items()
    ]


def _plain(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A parameter's schema without references, and without null, which no query can say."""
    if "$ref" in schema:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return {**definitions[schema["$ref"]], **rest}
    choices = [
        _plain(one, definitions) for one in schema.get("anyOf", ()) if one != {"type": "null"}
    ]
    kept = {key: value for key, value in schema.items() if key not in {"anyOf", "default", "title"}}
    if schema.get("default") is not None:
        kept["default"] = schema["default"]
    if len(choices) == 1:
        return {**choices[0], **kept}
    return {**kept, "anyOf": choices} if choices else kept


def _responses(endpoint: Endpoint, schema: dict[str, Any]) -> dict[str, Any]:
    tag = {"ETag": {"schema": {"type": "string"}}} if endpoint.etag else {}
    found: dict[str, Any] = {
        str(endpoint.status): {
            "description": HTTPStatus(endpoint.status).phrase,
            "content": {endpoint.media: {"schema": schema}},
            **({"headers": tag} if tag else {}),
        }
    }
    codes = set(endpoint.errors) | ({400, 413, 415, 422} if endpoint.body else set())
    if endpoint.method != "GET" or endpoint.writes:
        codes |= {403, 413, 503}
    if not endpoint.open:
        codes |= {401, 403}
    for code in sorted(codes):
        found[str(code)] = {"description": HTTPStatus(code).phrase, "content": _PROBLEM}
    return found | _pages(endpoint)


def _pages(endpoint: Endpoint) -> dict[str, Any]:
    """What a browser gets: pages, and redirects without a body of JSON."""
    found: dict[str, Any] = {}
    if endpoint.status == HTTPStatus.SEE_OTHER:
        found["303"] = {"description": HTTPStatus.SEE_OTHER.phrase}
    for code in endpoint.pages:
        content = {"text/html": {"schema": {"type": "string"}}}
        # Where no provider is set up, that is told as a problem.
        problem = _PROBLEM if code == HTTPStatus.SERVICE_UNAVAILABLE else {}
        found[str(code)] = {
            "description": HTTPStatus(code).phrase,
            "content": content | problem,
        }
    return found
