"""The composition root: everything is wired here, and nothing else happens here."""

import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import anyio.to_thread
from loguru import logger
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import vmtrak.admin
import vmtrak.api
from vmtrak import notices, rdp
from vmtrak.access import Role
from vmtrak.accounts import SessionRules
from vmtrak.admin import Panel
from vmtrak.admin.microsoft import refused
from vmtrak.api import api_routes
from vmtrak.channels import Channel, Sender
from vmtrak.channels.smtp import Mailer, MailServer
from vmtrak.channels.tokens import Grant
from vmtrak.channels.webhooks import Hook, Poster
from vmtrak.credentials import Rules, Vault
from vmtrak.db import Database
from vmtrak.errors import SignInRefused, Unavailable, VmtrakError
from vmtrak.notices import Delivery, Schedule
from vmtrak.reachability import Prober
from vmtrak.sealing import KeyRing
from vmtrak.settings import NAMES, Settings, SettingsError
from vmtrak.web import calendars
from vmtrak.web.errors import for_scripts, problem
from vmtrak.web.guard import Guard
from vmtrak.web.oidc import Provider, Registration
from vmtrak.web.state import State, request_id_of

FAREWELL = 5
"""Seconds for which the end waits for a message that is being sent, so that it is on record."""


def build(settings: Settings, *, probing: bool = True) -> Starlette:
    """The application on a database that has been migrated. Its life closes the database.

    Without `probing` no VM is ever connected to: invented addresses may be somebody's.
    """
    state = make_state(settings, probing=probing)
    panel = Panel(state)
    refuse = _refuse(panel)
    app = Starlette(
        routes=[
            Route("/", _to_panel),
            Route("/favicon.ico", _favicon),
            *api_routes(state),
            calendars.route(state),
            Mount("/static/swagger", _static(vmtrak.api.__file__)),
            Mount("/static", _static(vmtrak.admin.__file__)),
            panel.mount(),
        ],
        middleware=[Middleware(Guard, state=state, refuse=refuse)],
        exception_handlers={VmtrakError: refuse, HTTPException: refuse},
        lifespan=_life(state),
    )
    app.state.vmtrak = state
    return app


_FACTOR_OF: Mapping[str, frozenset[Role]] = {
    "optional": frozenset(),
    "admin": frozenset({Role.ADMIN}),
    "all": frozenset(Role),
}
"""Whose second factor each value of the setting requires."""


def make_state(settings: Settings, *, probing: bool = True) -> State:
    zone, database = settings.timezone, Database(settings.database_url)
    return State(
        database=database,
        rules=SessionRules(
            settings.signing_key(),
            timedelta(minutes=settings.access_token_minutes),
            timedelta(days=settings.refresh_token_days),
            guests_reveal=settings.oidc_guests_reveal == "on",
            factor_of=_FACTOR_OF[settings.second_factor],
        ),
        vault=Vault(KeyRing(settings.sealing_keys()), _rules(settings)),
        rdp=rdp_rules(settings),
        prober=Prober(probing=probing),
        today=lambda: datetime.now(zone).date(),
        secure_cookies=settings.secure_cookies,
        base_url=settings.base_url,
        delivery=Delivery(database, notice_rules(settings)),
        oidc=provider(settings),
        site_admin_email=settings.site_admin_email,
        trusted_proxies=settings.trusted_proxies,
    )


def _rules(settings: Settings) -> Rules:
    return Rules(
        per_hour=settings.reveals_per_hour,
        reason=settings.reveal_reason,
        step_up=settings.reveal_step_up,
        versions=settings.credential_versions,
        rotation_days=settings.rotation_days,
    )


def notice_rules(settings: Settings) -> notices.Rules:
    """What the settings say of notices, with a sender for each channel that is set up."""
    schedule = Schedule(settings.notice_days, settings.notice_time, settings.timezone)
    return notices.Rules(schedule, settings.base_url, settings.notice_domains, _senders(settings))


def _senders(settings: Settings) -> dict[Channel, Callable[[], Sender]]:
    senders: dict[Channel, Callable[[], Sender]] = {}
    server = mail_server(settings)
    if server is not None:
        senders[Channel.MAIL] = partial(Mailer, server)
    for channel, url, secret in (
        (Channel.WEBHOOK, settings.webhook_url, settings.webhook_secret),
        (Channel.TEAMS, settings.teams_url, None),
        (Channel.SLACK, settings.slack_url, None),
    ):
        if url is not None:
            senders[channel] = partial(
                Poster, Hook(channel, url.get_secret_value(), _revealed(secret))
            )
    return senders


def mail_server(settings: Settings) -> MailServer | None:
    """The mail server that the settings name; None while mail is off."""
    if settings.smtp_host is None:
        return None
    return MailServer(
        host=settings.smtp_host,
        port=settings.smtp_port,
        sender=settings.smtp_from or f"VMTrak <vmtrak@{_own_name()}>",
        security=settings.smtp_security,
        username=settings.smtp_username,
        password=_revealed(settings.smtp_password),
        grant=_grant(settings),
        helo=settings.smtp_helo,
    )


def _own_name() -> str:
    """This machine's name, if mail can come from there."""
    name = socket.getfqdn()
    return name if re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", name) else "localhost"


def _grant(settings: Settings) -> Grant | None:
    if settings.smtp_oauth_client_id is None or settings.smtp_token_url is None:
        return None
    return Grant(
        settings.smtp_token_url,
        settings.smtp_oauth_client_id,
        _revealed(settings.smtp_oauth_client_secret) or "",
        settings.smtp_oauth_scope,
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


def rdp_rules(settings: Settings) -> rdp.Rules:
    """The rules for RDP files, with what signs them. Raises `SettingsError` for what cannot."""
    return rdp.Rules(
        clipboard=settings.rdp_clipboard == "on",
        gateway=settings.rdp_gateway,
        signer=_signer(settings.rdp_cert, settings.rdp_key),
    )


def _signer(certificate: Path | None, key: Path | None) -> rdp.Signer | None:
    if certificate is None or key is None:
        return None
    try:
        return rdp.read_signer(certificate, key)
    except rdp.Unfit as error:
        name = NAMES["rdp_key" if error.of_key else "rdp_cert"]
        raise SettingsError(name, str(error)) from None


def provider(settings: Settings) -> Provider | None:
    """The OIDC provider that the settings name; it is not asked for anything yet."""
    if settings.oidc_client_id is None or settings.issuer is None:
        return None
    return Provider(
        Registration(
            issuer=settings.issuer,
            tenant=settings.tenant,
            client_id=settings.oidc_client_id,
            client_secret=_revealed(settings.oidc_client_secret),
            base_url=settings.base_url,
            role_claim=settings.oidc_role_claim,
            role_map=tuple((claim, Role(role)) for claim, role in settings.oidc_role_map),
        )
    )


def _life(state: State) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def life(_app: Starlette) -> AsyncIterator[None]:
        async with state.presence.kept(state.database):
            yield
        await anyio.to_thread.run_sync(state.delivery.finish, FAREWELL)
        state.database.close()

    return life


def _refuse(panel: Panel) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def refuse(request: Request, error: Exception) -> Response:
        if isinstance(error, Unavailable):  # its words send an administrator to the log
            logger.opt(exception=error).error("{} {} failed", request.method, request.url.path)
        if isinstance(error, SignInRefused):
            return await refused(panel, request, error)
        if for_scripts(request.url.path, request.headers.get("accept", "")):
            return problem(error, request_id_of(request))
        return await panel.error_page(request, error)

    return refuse


def _static(module: str | None) -> StaticFiles:
    return StaticFiles(directory=Path(module or "").parent / "static")


async def _to_panel(_request: Request) -> Response:
    return RedirectResponse("/admin/", 307)


async def _favicon(_request: Request) -> Response:
    return RedirectResponse("/static/favicon.svg", 308)
