"""API tokens in the panel: one's own, and for administrators everybody's."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqladmin import expose
from starlette.requests import Request
from starlette.responses import Response

from vmtrak import audit
from vmtrak.access import Actor, Permission, Scope
from vmtrak.accounts import ApiToken, NewToken, TokenQuery, TokenState, api_tokens
from vmtrak.accounts.inputs import TOKEN_DAYS, TOKEN_DAYS_MOST
from vmtrak.admin.base import Field, View, redirect
from vmtrak.admin.events import told
from vmtrak.admin.tables import Column, Filter, page_table
from vmtrak.db import Seen, Work, now
from vmtrak.fields import parse
from vmtrak.web import inputs
from vmtrak.web.state import actor_of

COOKIE = "vmtrak_new_token"
"""Carries a new token over to the page that shows it, and is gone then."""

COOKIE_PATH = "/admin/token/made"
COOKIE_SECONDS = 60

SOON = timedelta(days=14)

WORDS: Mapping[Scope, tuple[str, str]] = {
    Scope.INVENTORY_READ: (
        "Read the inventory",
        "VMs, hypervisors and figures, as far as its user sees them",
    ),
    Scope.INVENTORY_WRITE: (
        "Change the inventory",
        "add, change and delete VMs and hypervisors, and read them",
    ),
    Scope.CREDENTIALS_REVEAL: ("Reveal credentials", "user names and passwords kept for VMs"),
    Scope.RDP: ("RDP files", "download the file that opens a remote desktop"),
    Scope.AUDIT_READ: ("Read the audit trail", "who did what, and when"),
}

_PERIODS = (("30", "a month"), ("90", "a quarter"), ("180", "half a year"), ("365", "a year"))

_COLUMNS = (
    Column("state", "State"),
    Column("name", "Name"),
    Column("username", "User"),
    Column("scopes", "May"),
    Column("allowed_networks", "From"),
    Column("expires_at", "Expires"),
    Column("last_used_at", "Last used"),
    Column("created_at", "Made"),
)


class TokenView(View, model=ApiToken):
    kind = "token"
    noun = "token"
    read = Permission.ACCOUNT
    write = Permission.ACCOUNT
    new_input = NewToken
    save_words = "Make the token"
    needs_proof = True

    def table(self, actor: Actor, request: Request) -> dict[str, Any]:
        everyone = actor.may(Permission.USERS)
        given = inputs.query(request, TokenQuery, blanks=False)
        query = given.model_copy(update={"everyone": everyone})
        with self.state.database.read() as session:
            page = api_tokens.page(session, actor, query)
            owners = api_tokens.owners(session, actor) if everyone else []
        filters = [Filter("state", "State", "select", [(s, s.capitalize()) for s in TokenState])]
        if everyone:
            filters.append(Filter("username", "User", "select", [(name, name) for name in owners]))
        create = {"href": "/admin/token/create", "label": "Make a token"}
        table = page_table(request, "token", "API tokens", page, filters, _COLUMNS, create=create)
        rows = [_with_state(row) for row in page.rows]
        return {**table, "rows": rows, "everyone": everyone}

    def details_of(self, actor: Actor, number: int) -> dict[str, Any]:
        with self.state.database.read() as session:
            row = api_tokens.get(session, actor, number)
            history = told(session, audit.history(session, "token", number))
        return {
            "title": row["name"],
            "token": _with_state(row),
            "scopes": [(scope, *WORDS[Scope(scope)]) for scope in row["scopes"]],
            "is_own": row["user_id"] == actor.user_id,
            "may_see_users": actor.may(Permission.USERS),
            "history": history,
        }

    def heading(self, values: Mapping[str, Any] | None) -> str:
        del values
        return "Make an API token"

    def sections(self, actor: Actor, *, new: bool) -> list[tuple[str, list[Field]]]:
        del new
        name = Field(
            "name",
            "Name",
            required=True,
            maxlength=128,
            autocomplete="off",
            help="Says which script or machine uses it",
        )
        days = Field(
            "expires_in_days",
            "Works for so many days",
            "number",
            options=[{"value": value, "label": label} for value, label in _PERIODS],
            min="1",
            max=str(TOKEN_DAYS_MOST),
            step="1",
            help=f"30, 90, 180, 365 or any other number up to a year. Blank: {TOKEN_DAYS}",
        )
        networks = Field(
            "allowed_networks",
            "Works only from",
            "textarea",
            mono=True,
            help="Addresses or networks such as 192.0.2.0/24, one on a line. Blank: from anywhere",
        )
        return [
            ("Token", [name, days]),
            ("What it may do", [_scopes(actor)]),
            ("From where", [networks]),
        ]

    def translated(self, data: dict[str, Any]) -> dict[str, Any]:
        lines = re.split(r"[\s,]+", data.get("allowed_networks", ""))
        return {**data, "allowed_networks": [line for line in lines if line]}

    async def insert_model(self, request: Request, data: dict[str, Any]) -> int:
        """Make the token, and keep it for `made`: nobody else will ever know it."""
        new = parse(NewToken, data)
        row, secret = await self.state.database.writing(
            self._written, actor_of(request), api_tokens.add, new
        )
        request.state.new_token = secret
        number: int = row.id
        return number

    async def made(self, request: Request, number: int) -> Response:
        """Go on to the page that shows the token.

        A page that answered the form itself would make another token when it is loaded again.
        """
        response = redirect(f"{COOKIE_PATH}/{number}")
        response.set_cookie(
            COOKIE,
            request.state.new_token,
            max_age=COOKIE_SECONDS,
            path=COOKIE_PATH,
            secure=self.state.secure_cookies,
            httponly=True,
            samesite="strict",
        )
        return response

    @expose("/made/{pk}", methods=["GET"])
    async def show_once(self, request: Request) -> Response:
        """Show a new token to who has just made it; from then on the page leads to its details."""
        number = inputs.number(request.path_params["pk"])
        secret = request.cookies.get(COOKIE, "")
        row = await self.state.database.reading(self._new, actor_of(request), number, secret)
        if row is None:
            return redirect(f"/admin/token/details/{number}")
        context = {
            "title": "Your new API token",
            "token": row,
            "secret": secret,
            "base_url": self.state.base_url,
        }
        response = await self.panel.render(request, "token_made.html", context)
        response.delete_cookie(
            COOKIE,
            path=COOKIE_PATH,
            secure=self.state.secure_cookies,
            httponly=True,
            samesite="strict",
        )
        return response

    def _new(self, actor: Actor, number: int, secret: str) -> dict[str, Any] | None:
        with self.state.database.read() as session:
            if not api_tokens.belongs(session, actor, number, secret):
                return None
            return api_tokens.get(session, actor, number)

    def delete(self, work: Work, number: int, seen: Seen) -> str:
        del seen
        api_tokens.revoke(work, number)
        return "revoked"


def _scopes(actor: Actor) -> Field:
    """The scopes that the person's role covers: others would do nothing."""
    covered = [scope for scope in Scope if actor.may(api_tokens.NEEDS[scope])]
    return Field(
        "scopes",
        "Scopes",
        "choices",
        required=True,
        options=[
            {"value": scope, "label": WORDS[scope][0], "help": WORDS[scope][1]} for scope in covered
        ],
        help="Never more than your role allows, now or later. No token reaches users or tokens",
    )


def _with_state(row: dict[str, Any]) -> dict[str, Any]:
    left = datetime.fromisoformat(row["expires_at"]) - now()
    state = TokenState.WORKING if left > timedelta(0) else TokenState.EXPIRED
    if row["revoked_at"]:
        state = TokenState.REVOKED
    return {**row, "state": state.value, "soon": state == TokenState.WORKING and left < SOON}
