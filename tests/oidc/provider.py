"""An OpenID provider on this machine that insists on everything, and misbehaves when it is told to.

It follows OpenID Connect Core, Discovery, RP-Initiated Logout and Front-Channel Logout 1.0, and
RFC 6749, 7636 (S256 only) and 9207. It is called localhost, so that for a browser it is another
site than VMTrak at 127.0.0.1, as a provider is in earnest.
"""

import base64
import binascii
import hashlib
import hmac
import html
import json
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import cache
from typing import Any, Literal
from urllib.parse import unquote_plus, urlencode, urlsplit

import uvicorn
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey
from starlette.applications import Starlette
from starlette.datastructures import FormData, QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from tests import services

CODE_SECONDS = 60
TOKEN_SECONDS = 3600
START_SECONDS = 20
SEAT = "provider_session"

Claims = Mapping[str, Any]
Trouble = Callable[[Request, Response], Awaitable[Response]]
"""What is answered instead of the right response."""
Signature = Literal["right", "none", "secret as HS256", "public key as HS256", "other key"]


@dataclass(frozen=True, slots=True)
class Client:
    """A registered client; each address counts only as it stands here, letter by letter."""

    id: str
    secret: str
    redirect_uri: str
    after_sign_out: str
    logout_uri: str | None = None


@dataclass
class Asked:
    """An authorization request that is in order; `proved` once its person has signed in for it."""

    client: Client
    state: str
    nonce: str
    challenge: str
    prompts: frozenset[str]
    max_age: int | None
    proved: bool = False


@dataclass
class Seat:
    """A browser that somebody is signed in with, and the clients they went on to."""

    person: str
    since: float
    sid: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    clients: set[str] = field(default_factory=set)


@dataclass
class Code:
    asked: Asked
    seat: Seat
    made_at: float
    used: bool = False
    access_token: str | None = None


@dataclass
class Mischief:
    """How this provider differs from a right one.

    `claims` and `metadata` go over the right ones, None takes a member out; `key_name` is what the
    token calls its key; `skew` is how many seconds its clock is ahead; `answers` replaces the
    responses of "metadata", "keys" and "token".
    """

    claims: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    signature: Signature = "right"
    skew: float = 0
    key_name: str | None = None
    answers: dict[str, Trouble] = field(default_factory=dict)


class Refused(Exception):
    """An OAuth error: a code of the specifications, and why for the person who reads the test."""

    def __init__(self, error: str, why: str) -> None:
        super().__init__(f"{error}: {why}")
        self.error, self.why = error, why


@cache
def _key(name: str) -> RSAKey:
    """Keys take their time to make; every provider has the same ones, known by their names."""
    return RSAKey.generate_key(2048, {"kid": name, "use": "sig", "alg": "RS256"})


class Provider:
    """`base_url` without a slash at the end; with a `tenant` it looks like Entra ID's v2.0.

    `people` are claims by name, `redeemed` counts the codes that were exchanged, and `refusals`
    are the reasons of all that was refused.
    """

    def __init__(
        self, base_url: str, people: Mapping[str, Claims], tenant: str | None = None
    ) -> None:
        self.tenant = tenant
        self.issuer = f"{base_url}/{tenant}/v2.0" if tenant else base_url
        self._people = people
        self.reset()
        self._app = Starlette(routes=self._routes(urlsplit(self.issuer).path))

    def reset(self) -> None:
        """Forget everything that happened, as a new provider."""
        self.people = {name: dict(claims) for name, claims in self._people.items()}
        self.clients: dict[str, Client] = {}
        self.mischief = Mischief()
        self.redeemed = 0
        self.refusals: list[str] = []
        self.seats: dict[str, Seat] = {}
        self.asked_for_keys = 0
        self._keys = ["first"]
        self._asked: dict[str, Asked] = {}
        self._codes: dict[str, Code] = {}
        self._access: dict[str, str] = {}
        self._agreed: set[tuple[str, str]] = set()

    def _routes(self, under: str) -> list[Route]:
        return [
            Route(f"{under}/.well-known/openid-configuration", self.metadata),
            Route("/moved", self.metadata),
            Route(f"{under}/keys", self.keys),
            Route(f"{under}/authorize", self.authorize, methods=["GET", "POST"]),
            Route("/at/{number}", self.at, methods=["POST"]),
            Route(f"{under}/token", self.token, methods=["POST"]),
            Route(f"{under}/userinfo", self.userinfo, methods=["GET", "POST"]),
            Route(f"{under}/logout", self.end_session, methods=["GET", "POST"]),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(self.now(), usegmt=True).encode()
                message["headers"] = [*message["headers"], (b"date", date)]
            await send(message)

        await self._app(scope, receive, dated)

    def now(self) -> float:
        return time.time() + self.mischief.skew

    def rotate(self, *, keep: bool = True) -> None:
        """Sign with a new key from now on; the old ones stay known unless they are not kept."""
        new = f"key {len(self._keys) + 1}"
        self._keys = [new, *self._keys] if keep else [new]

    # What a client reads first

    async def metadata(self, request: Request) -> Response:
        known = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/keys",
            "end_session_endpoint": f"{self.issuer}/logout",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["pairwise" if self.tenant else "public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": ["openid", "profile", "email"],
            "frontchannel_logout_supported": True,
            "frontchannel_logout_session_supported": True,
            "authorization_response_iss_parameter_supported": True,
        }
        if request.url.path == "/moved":
            return JSONResponse(_over(known, self.mischief.metadata))
        return await self._answer(
            "metadata", request, JSONResponse(_over(known, self.mischief.metadata))
        )

    async def keys(self, request: Request) -> Response:
        self.asked_for_keys += 1
        public = KeySet([_key(name) for name in self._keys]).as_dict(private=False)
        return await self._answer("keys", request, JSONResponse(public))

    async def _answer(self, name: str, request: Request, right: Response) -> Response:
        trouble = self.mischief.answers.get(name)
        return right if trouble is None else await trouble(request, right)

    # Signing in

    async def authorize(self, request: Request) -> Response:
        given = await _parameters(request)
        client = self.clients.get(given.get("client_id", ""))
        if client is None or given.get("redirect_uri") != client.redirect_uri:
            # Whoever asks is not to be trusted with a redirect (RFC 6749, 4.1.2.1).
            return self._stop("This client or its redirect URI is not registered.")
        try:
            asked = _in_order(client, given)
            return self._go_on(asked, self._seat(request))
        except Refused as refused:
            self.refusals.append(str(refused))
            return self._back(client, given.get("state"), {"error": refused.error})

    def _go_on(self, asked: Asked, seat: Seat | None) -> Response:
        """The page that comes next, or the way back with a code."""
        if seat is None or not self._fresh(asked, seat):
            if "none" in asked.prompts:
                raise Refused("login_required", "nobody has signed in lately")
            return self._sign_in_page(asked)
        if (seat.person, asked.client.id) not in self._agreed or "consent" in asked.prompts:
            if "none" in asked.prompts:
                raise Refused("consent_required", "this person was never asked")
            return self._consent_page(asked, seat.person)
        return self._done(asked, seat)

    def _fresh(self, asked: Asked, seat: Seat) -> bool:
        if asked.proved:
            return True
        old = asked.max_age is not None and self.now() - seat.since > asked.max_age
        return not old and not asked.prompts & {"login", "select_account"}

    def _done(self, asked: Asked, seat: Seat) -> Response:
        code = secrets.token_urlsafe(24)
        self._codes[code] = Code(asked, seat, time.time())
        seat.clients.add(asked.client.id)
        return self._back(asked.client, asked.state, {"code": code})

    def _back(self, client: Client, state: str | None, answer: dict[str, str]) -> Response:
        answer |= {"iss": self.issuer}
        if state is not None:
            answer |= {"state": state}
        return RedirectResponse(f"{client.redirect_uri}?{urlencode(answer)}", 303)

    async def at(self, request: Request) -> Response:
        """What the buttons on this provider's pages lead to."""
        asked = self._asked.get(request.path_params["number"])
        if asked is None:
            return self._stop("This page is out of date.")
        form = await request.form()
        if "person" in form:
            return self._signed_in(asked, str(form["person"]))
        seat = self._seat(request)
        if form.get("consent") != "allow" or seat is None:
            self.refusals.append("access_denied: the person cancelled")
            return self._back(asked.client, asked.state, {"error": "access_denied"})
        self._agreed.add((seat.person, asked.client.id))
        return self._done(asked, seat)

    def _signed_in(self, asked: Asked, person: str) -> Response:
        if person not in self.people:
            return self._sign_in_page(asked, f"Nobody is called {person}.")
        seat, token = Seat(person, self.now()), secrets.token_urlsafe(16)
        self.seats[token] = seat
        asked.proved = True
        response = self._go_on(asked, seat)
        response.set_cookie(SEAT, token, httponly=True, samesite="lax")
        return response

    def _seat(self, request: Request) -> Seat | None:
        return self.seats.get(request.cookies.get(SEAT, ""))

    def _sign_in_page(self, asked: Asked, problem: str = "") -> Response:
        buttons = "".join(
            f'<p><button name="person" value="{html.escape(name)}">Continue as '
            f"{html.escape(name)}</button></p>"
            for name in self.people
        )
        form = self._form(asked, buttons)
        typed = self._form(
            asked, '<label>Name <input name="person"></label> <button>Continue</button>'
        )
        return _page("Sign in at the provider", f"<p>{html.escape(problem)}</p>{form}{typed}")

    def _consent_page(self, asked: Asked, person: str) -> Response:
        buttons = (
            '<button name="consent" value="allow">Allow</button> '
            '<button name="consent" value="cancel">Cancel</button>'
        )
        words = f"<p>{html.escape(person)}, may VMTrak know who you are?</p>"
        return _page("Permission", words + self._form(asked, buttons))

    def _form(self, asked: Asked, inside: str) -> str:
        number = secrets.token_urlsafe(12)
        self._asked[number] = asked
        return f'<form method="post" action="/at/{number}">{inside}</form>'

    def _stop(self, why: str) -> Response:
        self.refusals.append(why)
        return _page("This is not possible", f"<p>{html.escape(why)}</p>", 400)

    # Tokens

    async def token(self, request: Request) -> Response:
        try:
            form = await request.form()
            right = JSONResponse(self._exchange(self._client(request, form), form))
        except Refused as refused:
            self.refusals.append(str(refused))
            status = 401 if refused.error == "invalid_client" else 400
            right = JSONResponse({"error": refused.error, "error_description": refused.why}, status)
        right.headers["Cache-Control"] = "no-store"
        return await self._answer("token", request, right)

    def _client(self, request: Request, form: FormData) -> Client:
        """Who asks, by HTTP Basic or in the form, but not both (RFC 6749, 2.3)."""
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        if bool(scheme) == ("client_secret" in form):
            raise Refused("invalid_client", "one way to authenticate, not none or two")
        name, secret = str(form.get("client_id", "")), str(form.get("client_secret", ""))
        if scheme:
            name, secret = _basic(scheme, encoded)
        client = self.clients.get(name)
        if client is None or not hmac.compare_digest(secret.encode(), client.secret.encode()):
            raise Refused("invalid_client", "unknown client or wrong secret")
        return client

    def _exchange(self, client: Client, form: FormData) -> dict[str, Any]:
        if form.get("grant_type") != "authorization_code":
            raise Refused("unsupported_grant_type", str(form.get("grant_type")))
        code = self._codes.get(str(form.get("code")))
        if code is None or code.asked.client != client:
            raise Refused("invalid_grant", "no such code for this client")
        if code.used:
            self._access.pop(code.access_token or "", None)
            raise Refused("invalid_grant", "the code was used before")
        code.used = True
        if time.time() - code.made_at > CODE_SECONDS:
            raise Refused("invalid_grant", "the code has expired")
        if form.get("redirect_uri") != client.redirect_uri:
            raise Refused("invalid_grant", "another redirect URI")
        if challenge_of(str(form.get("code_verifier", ""))) != code.asked.challenge:
            raise Refused("invalid_grant", "the verifier does not fit the challenge")
        return self._tokens(code)

    def _tokens(self, code: Code) -> dict[str, Any]:
        code.access_token = secrets.token_urlsafe(24)
        self._access[code.access_token] = code.seat.person
        self.redeemed += 1
        return {
            "access_token": code.access_token,
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
            "scope": "openid profile email",
            "id_token": self._id_token(code, code.access_token),
        }

    def _id_token(self, code: Code, access_token: str) -> str:
        issued = int(self.now())
        half = hashlib.sha256(access_token.encode()).digest()[:16]
        right = {
            "iss": self.issuer,
            "aud": code.asked.client.id,
            "iat": issued,
            "nbf": issued,
            "exp": issued + TOKEN_SECONDS,
            "auth_time": int(code.seat.since),
            "nonce": code.asked.nonce,
            "sid": code.seat.sid,
            "at_hash": _text(half),
            **({"tid": self.tenant, "ver": "2.0"} if self.tenant else {}),
            **self.people[code.seat.person],
        }
        return self._signed(_over(right, self.mischief.claims), code.asked.client)

    def _signed(self, claims: dict[str, Any], client: Client) -> str:
        name = self._keys[0]
        match self.mischief.signature:
            case "right" | "other key" as which:
                key = _key(name) if which == "right" else _key("of a stranger")
                header = {"alg": "RS256", "kid": self.mischief.key_name or name, "typ": "JWT"}
                return jwt.encode(header, claims, key)
            case "none":
                return _compact({"alg": "none", "typ": "JWT"}, claims, None)
            case "secret as HS256":
                return _compact({"alg": "HS256"}, claims, client.secret.encode())
            case "public key as HS256":
                public = _key(name).as_pem(private=False)
                return _compact({"alg": "HS256", "kid": name}, claims, public)

    async def userinfo(self, request: Request) -> Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self._access:
            return JSONResponse({"error": "invalid_token"}, 401)
        return JSONResponse(self.people[self._access[token]])

    # Signing out

    async def end_session(self, request: Request) -> Response:
        """End the person's session here and tell every client of it, each in a frame.

        Without a hint that names this browser's session, the person is asked first.
        """
        given = await _parameters(request)
        seat = self._seat(request)
        claims = self._hint(given.get("id_token_hint", ""))
        client = self.clients.get(str((claims or {}).get("aud") or given.get("client_id")))
        target = given.get("post_logout_redirect_uri")
        if target is not None and (client is None or target != client.after_sign_out):
            return self._stop("This address after the sign-out is not registered.")
        named = claims is not None and seat is not None and claims.get("sid") == seat.sid
        if seat is not None and not named and given.get("sure") != "yes":
            return _ask_whether(given)
        frames = self._end(seat) if seat is not None else []
        state = f"?{urlencode({'state': given['state']})}" if "state" in given else ""
        return _signed_out_page(frames, target + state if target else None)

    def _hint(self, token: str) -> dict[str, Any] | None:
        try:
            known = KeySet([_key(name) for name in self._keys])
            claims: dict[str, Any] = jwt.decode(token, known, algorithms=["RS256"]).claims
        except (JoseError, ValueError):
            return None
        return claims if claims.get("iss") == self.issuer else None

    def _end(self, seat: Seat) -> list[str]:
        """The addresses at which the clients of a session hear that it has ended."""
        self.seats = {token: other for token, other in self.seats.items() if other is not seat}
        clients = (self.clients[name] for name in sorted(seat.clients))
        told = urlencode({"iss": self.issuer, "sid": seat.sid})
        return [f"{client.logout_uri}?{told}" for client in clients if client.logout_uri]


def _in_order(client: Client, given: QueryParams | Mapping[str, str]) -> Asked:
    """The request, if nothing is wrong with it; raises `Refused`."""
    wanted = {"response_type": "code", "code_challenge_method": "S256"}
    wrong = [name for name, value in wanted.items() if given.get(name) != value]
    missing = [name for name in ("state", "nonce", "code_challenge") if not given.get(name)]
    if wrong or missing:
        raise Refused("invalid_request", f"wrong or missing: {', '.join(wrong + missing)}")
    if given.get("response_mode", "query") != "query":
        raise Refused("invalid_request", "only the response mode query is known here")
    if "openid" not in given.get("scope", "").split():
        raise Refused("invalid_scope", "this is OpenID Connect")
    prompts = frozenset(given.get("prompt", "").split())
    if "none" in prompts and len(prompts) > 1:
        raise Refused("invalid_request", "prompt=none stands alone")
    max_age = given.get("max_age")
    return Asked(
        client,
        given["state"],
        given["nonce"],
        given["code_challenge"],
        prompts,
        None if max_age is None else int(max_age),
    )


async def _parameters(request: Request) -> Mapping[str, str]:
    """The parameters, each of which may come once only (RFC 6749, 3.1)."""
    pairs = request.query_params.multi_items()
    if request.method == "POST":
        pairs = [(name, str(value)) for name, value in (await request.form()).multi_items()]
    assert len(dict(pairs)) == len(pairs), "a parameter came twice"
    return dict(pairs)


def _basic(scheme: str, encoded: str) -> tuple[str, str]:
    try:
        name, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        scheme = ""
        name = secret = ""
    if scheme.lower() != "basic":
        raise Refused("invalid_client", "the header cannot be read")
    return unquote_plus(name), unquote_plus(secret)


def _over(right: Claims, changed: Claims) -> dict[str, Any]:
    return {name: value for name, value in {**right, **changed}.items() if value is not None}


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636, 4.2)."""
    return _text(hashlib.sha256(verifier.encode()).digest())


def _compact(header: Claims, claims: Claims, key: bytes | None) -> str:
    """A token such as a careful library refuses to make; without a key it has no signature."""
    parts = ".".join(_text(json.dumps(part).encode()) for part in (header, claims))
    signature = hmac.digest(key, parts.encode(), "sha256") if key is not None else b""
    return f"{parts}.{_text(signature)}"


def _page(title: str, body: str, status: int = 200) -> Response:
    return HTMLResponse(
        f'<!doctype html><html lang="en"><title>{title}</title><h1>{title}</h1>{body}</html>',
        status,
        {"Cache-Control": "no-store"},
    )


def _ask_whether(given: Mapping[str, str]) -> Response:
    fields = "".join(
        f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
        for name, value in given.items()
    )
    button = '<button name="sure" value="yes">Sign out everywhere</button>'
    return _page("Sign out?", f'<form method="post">{fields}{button}</form>')


def _signed_out_page(frames: Iterable[str], target: str | None) -> Response:
    """The page goes on once its frames have loaded."""
    inside = "".join(f'<iframe src="{html.escape(url)}"></iframe>' for url in frames)
    if target:
        go = json.dumps(target).replace("<", "\\u003c")
        inside += f"<script>addEventListener('load', () => location.replace({go}))</script>"
        inside += f'<a href="{html.escape(target)}">Back to VMTrak</a>'
    return _page("You have signed out at the provider", inside)


@contextmanager
def running(people: Mapping[str, Claims], tenant: str | None = None) -> Iterator[Provider]:
    """Run a provider until the block ends."""
    port = services.free_port()
    provider = Provider(f"http://localhost:{port}", people, tenant)
    config = uvicorn.Config(
        provider,
        host="127.0.0.1",
        port=port,
        lifespan="off",
        log_config=None,
        access_log=False,
        date_header=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        _wait_until_started(server, thread)
        yield provider
    finally:
        server.should_exit = True
        thread.join()


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
