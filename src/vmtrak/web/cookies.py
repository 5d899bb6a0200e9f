"""The cookies that sign people in, each for the addresses that need it."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from starlette.responses import Response

from vmtrak.accounts import browsers, sessions, tickets
from vmtrak.web.guard import PANEL_COOKIE, REFRESH_COOKIE
from vmtrak.web.state import State

DEVICE_COOKIE = "vmtrak_device"
CODE_COOKIE = "vmtrak_code"


@dataclass(frozen=True, slots=True)
class _Cookie:
    """No script reads it; under https it goes over https alone."""

    name: str
    path: str
    samesite: Literal["lax", "strict"] = "strict"

    def set(self, response: Response, state: State, value: str, lifetime: timedelta) -> None:
        response.set_cookie(
            self.name,
            value,
            max_age=int(lifetime.total_seconds()),
            path=self.path,
            secure=state.secure_cookies,
            httponly=True,
            samesite=self.samesite,
        )

    def clear(self, response: Response, state: State) -> None:
        response.delete_cookie(
            self.name,
            path=self.path,
            secure=state.secure_cookies,
            httponly=True,
            samesite=self.samesite,
        )


_PANEL = _Cookie(PANEL_COOKIE, "/admin", "lax")
_REFRESH = _Cookie(REFRESH_COOKIE, "/api/auth")
_CODE = _Cookie(CODE_COOKIE, "/admin/login")
_DEVICE = _Cookie(DEVICE_COOKIE, "/")


def set_panel(response: Response, state: State, token: str) -> None:
    _PANEL.set(response, state, token, sessions.PANEL_LIFETIME)


def clear_panel(response: Response, state: State) -> None:
    _PANEL.clear(response, state)


def set_refresh(response: Response, state: State, tokens: sessions.Tokens) -> None:
    _REFRESH.set(response, state, tokens.refresh, timedelta(seconds=tokens.refresh_seconds))


def clear_refresh(response: Response, state: State) -> None:
    _REFRESH.clear(response, state)


def set_code(response: Response, state: State, ticket: str) -> None:
    """Where the panel asks for the code on a page of its own: the ticket for the password."""
    _CODE.set(response, state, ticket, tickets.LIFETIME)


def clear_code(response: Response, state: State) -> None:
    _CODE.clear(response, state)


def set_device(response: Response, state: State, token: str) -> None:
    """Remember the browser, so that nobody who guesses elsewhere can lock its owner out of it."""
    _DEVICE.set(response, state, token, browsers.LIFETIME)
