"""The dashboard."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

from sqlalchemy.orm import Session

from vmtrak import alerts, audit, credentials
from vmtrak.access import Actor, Permission
from vmtrak.admin.base import address
from vmtrak.admin.events import told
from vmtrak.admin.notices import standing
from vmtrak.admin.vms import titled, with_expiry
from vmtrak.credentials import Rules
from vmtrak.inventory import Environment, PowerState, Status, statistics
from vmtrak.web.state import State

_TONES = {"decommissioned": "warn", "inactive": "warn", "off": "warn", "suspended": "warn"}


def home(state: State, actor: Actor) -> dict[str, Any]:
    """The context of the dashboard: only what the person sees is in its figures."""
    today = state.today()
    with state.database.read() as session:
        by_status = statistics.by(session, actor, "status")
        latest = _latest(session, actor)
        stats = {
            "total": sum(by_status.values()),
            "tiles": [
                *_tiles(session, actor, today),
                *_passwords(session, actor, state.vault.rules),
            ],
            "charts": _charts(session, actor, by_status),
            "months": _months(session, actor, today),
            "expiring": [
                with_expiry(row, today) for row in statistics.expiring(session, actor, today)
            ],
            "latest": latest,
            "may_see_latest": actor.may(Permission.AUDIT_READ),
        }
        waiting = _alerts(session, actor)
        notices = _notices(state, session, actor)
    return {"stats": stats, "alerts": waiting, "standing": notices}


def _alerts(session: Session, actor: Actor) -> dict[str, Any] | None:
    """What no administrator has read; None if there is nothing, and for everybody else."""
    if not actor.may(Permission.USERS):
        return None
    newest = alerts.newest(session, actor)
    return newest and {"newest": newest, "unread": alerts.unread(session, actor)}


def _notices(state: State, session: Session, actor: Actor) -> dict[str, Any] | None:
    """How expiry notices stand, for those who answer for more than their own VMs."""
    if not (actor.may(Permission.USERS) or actor.may(Permission.STATISTICS)):
        return None
    return standing(state, session, actor)


def _passwords(session: Session, actor: Actor, rules: Rules) -> list[dict[str, Any]]:
    if not actor.may(Permission.CREDENTIAL_READ):
        return []
    due = credentials.due(session, actor, rules)
    href = address("/admin/credential/list", {"rotation_due": "true"})
    tone = "warn" if due else "plain"
    return [{"label": "Passwords due for rotation", "value": due, "href": href, "tone": tone}]


def _latest(session: Session, actor: Actor) -> list[dict[str, Any]]:
    if not actor.may(Permission.AUDIT_READ):
        return []
    return told(session, audit.latest(session, actor), actor)


def _tiles(session: Session, actor: Actor, today: date) -> list[dict[str, Any]]:
    yesterday = (today - timedelta(days=1)).isoformat()
    figures = (
        ("Overdue", statistics.expired(session, actor, today), {"expires_to": yesterday}, "bad"),
        (
            "Expiring within 30 days",
            statistics.expiring_count(session, actor, today),
            {"expiring_in": statistics.SOON},
            "warn",
        ),
        (
            "Without an owner",
            statistics.without_owner(session, actor),
            {"missing": "owner"},
            "warn",
        ),
        (
            "Without an expiry date",
            statistics.without_expiry(session, actor),
            {"missing": "expiry_date"},
            "plain",
        ),
    )
    return [
        {
            "label": label,
            "value": value,
            "href": address("/admin/vm/list", {**query, "sort": "expiry_date"}),
            "tone": tone if value else "plain",
        }
        for label, value, query, tone in figures
    ]


def _charts(session: Session, actor: Actor, by_status: dict[str, int]) -> list[dict[str, Any]]:
    by_environment = statistics.by(session, actor, "environment")
    by_power = statistics.by(session, actor, "power_state")
    hypervisors = statistics.by_hypervisor(session, actor)
    return [
        {"title": "Status", "bars": _bars("status", [s.value for s in Status], by_status)},
        {
            "title": "Environment",
            "bars": _bars("environment", [*(e.value for e in Environment), "none"], by_environment),
        },
        {"title": "Power", "bars": _bars("power_state", [p.value for p in PowerState], by_power)},
        {
            "title": "Hypervisors with most VMs",
            "bars": _shared(
                (name, count, address("/admin/vm/list", {"hypervisor": name}), "plain")
                for _, name, count in hypervisors
            ),
        },
    ]


def _bars(field: str, names: list[str], counts: dict[str, int]) -> list[dict[str, Any]]:
    return _shared(
        (
            titled(name),
            counts.get(name, 0),
            address("/admin/vm/list", {"missing": field} if name == "none" else {field: name}),
            _TONES.get(name, "plain"),
        )
        for name in names
        if name != "none" or counts.get(name)
    )


def _months(session: Session, actor: Actor, today: date) -> list[dict[str, Any]]:
    months = statistics.by_month(session, actor, today)
    following = [start for start, _ in months[1:]] + [_next(months[-1][0])]
    return _shared(
        (
            start.strftime("%b %y"),
            count,
            address(
                "/admin/vm/list",
                {
                    "expires_from": start.isoformat(),
                    "expires_to": (end - timedelta(days=1)).isoformat(),
                    "sort": "expiry_date",
                },
            ),
            "warn" if start <= today else "plain",
        )
        for (start, count), end in zip(months, following, strict=True)
    )


def _next(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def _shared(bars: Iterable[tuple[str, int, str, str]]) -> list[dict[str, Any]]:
    """Bars with their share of the longest."""
    found = list(bars)
    longest = max((value for _, value, _, _ in found), default=0) or 1
    return [
        {"label": label, "value": value, "href": href, "share": value / longest, "tone": tone}
        for label, value, href, tone in found
    ]
