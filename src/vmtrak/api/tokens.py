"""REST for API tokens, with which scripts sign in. A token itself opens none of these."""

from typing import Annotated

from pydantic import BeforeValidator, Field
from starlette.responses import Response

from vmtrak.access import Permission
from vmtrak.accounts import NewToken, TokenQuery, actors, api_tokens
from vmtrak.api.answers import NewTokenAnswer, Ok, TokenAnswer
from vmtrak.api.base import Call, Endpoint, answer
from vmtrak.fields import Input, Reference, blank_to_none


def _given(value: object) -> object:
    return False if blank_to_none(value) is None else value


class Whose(Input):
    """Whose tokens an administrator asks for: one user's, or everybody's."""

    user_id: Reference = None
    everyone: Annotated[bool, Field(alias="all"), BeforeValidator(_given)] = False


def list_(call: Call) -> Response:
    whose = call.query(Whose)
    query = TokenQuery(user_id=whose.user_id, everyone=whose.everyone)
    with call.state.database.read() as session:
        return answer(api_tokens.every(session, call.actor, query))


def add(call: Call) -> Response:
    """A session that somebody left open is not to outlive itself as a token."""
    actors.require_proof(call.actor)
    new = call.json(NewToken)
    with call.state.database.work(call.actor) as work:
        token, secret = api_tokens.add(work, new)
    row = api_tokens.shown(token, call.actor.username)
    return answer({**row, "token": secret}, 201, {"Cache-Control": "no-store"})


def revoke(call: Call) -> Response:
    with call.state.database.work(call.actor) as work:
        api_tokens.revoke(work, call.number())
    return answer({"ok": True})


_OWN = Permission.ACCOUNT

ENDPOINTS = (
    Endpoint(
        "GET",
        "/tokens",
        "Your API tokens; an administrator may ask for those of others",
        list[TokenAnswer],
        list_,
        query=Whose,
        permission=_OWN,
        errors=(422,),
    ),
    Endpoint(
        "POST",
        "/tokens",
        "Make an API token, which is shown this once",
        NewTokenAnswer,
        add,
        body=NewToken,
        status=201,
        permission=_OWN,
        errors=(409,),
    ),
    Endpoint(
        "DELETE",
        "/tokens/{id}",
        "Revoke an API token",
        Ok,
        revoke,
        permission=_OWN,
        errors=(404, 422),
    ),
)
