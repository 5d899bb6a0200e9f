"""REST for the second factor, and for proving again who one is."""

from dataclasses import asdict
from urllib.parse import urlsplit

from starlette.responses import Response

from vmtrak import audit
from vmtrak.access import Permission
from vmtrak.accounts import Code, ProofOfIdentity, actors, second_factor, sessions
from vmtrak.api.answers import (
    EnrolmentAnswer,
    Ok,
    ProvedAnswer,
    RecoveryCodesAnswer,
    SecondFactorAnswer,
)
from vmtrak.api.base import Call, Endpoint, answer
from vmtrak.db import Work
from vmtrak.web import cookies, step_up


def state(call: Call) -> Response:
    with call.state.database.read() as session:
        return answer(asdict(second_factor.standing(session, call.actor)))


def start(call: Call) -> Response:
    actors.require_proof(call.actor)
    site = urlsplit(call.state.base_url).hostname or ""
    with call.state.database.work(call.actor) as work:
        enrolment = second_factor.start(work, call.state.vault.keys, site)
    return answer({"secret": enrolment.secret, "uri": enrolment.uri}, 201)


def confirm(call: Call) -> Response:
    actors.require_proof(call.actor)
    code = call.json(Code).code.get_secret_value()
    with call.state.database.work(call.actor) as work:
        codes = second_factor.confirm(work, call.state.vault.keys, code)
    return answer({"recovery_codes": codes})


def recovery_codes(call: Call) -> Response:
    actors.require_proof(call.actor)
    with call.state.database.work(call.actor) as work:
        codes = second_factor.new_recovery_codes(work)
    return answer({"recovery_codes": codes})


def remove(call: Call) -> Response:
    actors.require_proof(call.actor)
    with call.state.database.work(call.actor) as work:
        second_factor.remove(work)
    return answer({"ok": True})


def reset(call: Call) -> Response:
    with call.state.database.work(call.actor) as work:
        second_factor.reset(work, call.number())
    return answer({"ok": True})


async def prove(call: Call) -> Response:
    """A new session takes the place of the present one, so that its tokens are new as well."""

    def renew(work: Work) -> tuple[sessions.Tokens, str]:
        return sessions.renew_api(work, call.state.rules), audit.plain(work.moment)

    tokens, moment = await step_up.prove(call.state, call.actor, call.json(ProofOfIdentity), renew)
    response = answer({"ok": True, "proved_at": moment, "accessToken": tokens.access})
    cookies.set_refresh(response, call.state, tokens)
    return response


_OWN = Permission.ACCOUNT

ENDPOINTS = (
    Endpoint(
        "POST",
        "/auth/prove",
        "Show again who you are: with a code if you have a second factor, else with the password",
        ProvedAnswer,
        prove,
        body=ProofOfIdentity,
        permission=_OWN,
        errors=(409, 429),
    ),
    Endpoint(
        "GET",
        "/auth/second-factor",
        "Your second factor, and how many recovery codes are left",
        SecondFactorAnswer,
        state,
        permission=_OWN,
    ),
    Endpoint(
        "POST",
        "/auth/second-factor",
        "Start to set up a second factor, or another one",
        EnrolmentAnswer,
        start,
        status=201,
        permission=_OWN,
        errors=(409,),
    ),
    Endpoint(
        "DELETE",
        "/auth/second-factor",
        "Remove your second factor",
        Ok,
        remove,
        permission=_OWN,
        errors=(409,),
    ),
    Endpoint(
        "POST",
        "/auth/second-factor/confirm",
        "Put the second factor in force with a code of it",
        RecoveryCodesAnswer,
        confirm,
        body=Code,
        permission=_OWN,
        errors=(409,),
    ),
    Endpoint(
        "POST",
        "/auth/second-factor/recovery-codes",
        "Make new recovery codes; those before end",
        RecoveryCodesAnswer,
        recovery_codes,
        permission=_OWN,
        errors=(409,),
    ),
    Endpoint(
        "POST",
        "/users/{id}/reset-second-factor",
        "Take away the second factor of somebody who has lost it",
        Ok,
        reset,
        permission=Permission.USERS,
        errors=(404, 409, 422),
    ),
)
