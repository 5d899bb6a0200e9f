"""What the composition root gives to both doors."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

from starlette.requests import Request

from vmtrak.access import Actor
from vmtrak.accounts.access_tokens import SessionRules
from vmtrak.credentials import Vault
from vmtrak.db import Database
from vmtrak.notices import Delivery
from vmtrak.rdp import Rules
from vmtrak.reachability import Prober
from vmtrak.web.oidc import Provider
from vmtrak.web.presence import Presence
from vmtrak.web.proxies import Network
from vmtrak.web.turns import Turns


@dataclass(frozen=True, slots=True)
class State:
    """`today` is the date in the zone of the settings."""

    database: Database
    rules: SessionRules
    vault: Vault
    rdp: Rules
    prober: Prober
    today: Callable[[], date]
    secure_cookies: bool
    base_url: str
    delivery: Delivery
    trusted_proxies: tuple[Network, ...] = ()
    oidc: Provider | None = None
    site_admin_email: str | None = None
    presence: Presence = field(default_factory=Presence)
    guesses: Turns = field(default_factory=lambda: Turns(at_once=2, waiting=200))
    slowed: Turns = field(default_factory=lambda: Turns(at_once=8, waiting=80))
    deliveries: Turns = field(default_factory=lambda: Turns(at_once=1, waiting=80))
    feeds: Turns = field(default_factory=lambda: Turns(at_once=1, waiting=4))


ACTOR = "vmtrak.actor"


def actor_of(request: Request) -> Actor:
    """The actor that the guard found; a visitor on the few addresses that need none."""
    actor: Actor = request.scope[ACTOR]
    return actor


def request_id_of(request: Request) -> str:
    return actor_of(request).request_id or ""
