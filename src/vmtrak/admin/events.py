"""The audit trail in the panel, and the telling of events on other pages."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.requests import Request

from vmtrak import audit, credentials
from vmtrak.access import Actor, Permission
from vmtrak.admin.base import VIEWS, View
from vmtrak.admin.tables import Filter, page_table
from vmtrak.audit import Action, AuditEvent, AuditQuery
from vmtrak.inventory import Hypervisor
from vmtrak.web import inputs

LABELS: Mapping[str, str] = {
    "auth.login": "signed in",
    "auth.login_failed": "failed to sign in",
    "auth.logout": "signed out",
    "auth.refresh_reuse": "presented a used refresh token",
    "auth.setup_completed": "finished the set-up",
    "auth.password_changed": "changed their password",
    "auth.sessions_ended": "ended sessions",
    "auth.locked": "failed so often that the account is locked",
    "auth.proved": "proved who they are",
    "auth.proof_failed": "failed to prove who they are",
    "auth.second_factor_added": "set up a second factor",
    "auth.second_factor_removed": "removed the second factor",
    "auth.recovery_codes_made": "made new recovery codes",
    "auth.recovery_code_used": "used a recovery code",
    "vm.create": "added",
    "vm.update": "changed",
    "vm.delete": "moved to the trash",
    "vm.restore": "brought back",
    "vm.purge": "destroyed",
    "credential.create": "added an account of",
    "credential.update": "changed an account of",
    "credential.delete": "removed an account of",
    "credential.rekey": "sealed anew",
    "credential.key_given_up": "gave up a lost key",
    "credential.reveal": "revealed a password of",
    "credential.reveal_earlier": "revealed an earlier password of",
    "credential.reveal_refused": "was refused a password of",
    "rdp.download": "downloaded the RDP file of",
    "hypervisor.create": "added",
    "hypervisor.update": "changed",
    "hypervisor.delete": "removed",
    "token.create": "made",
    "token.revoke": "revoked",
    "user.create": "added",
    "user.update": "changed",
    "user.deactivate": "closed the account",
    "user.password_reset": "reset the password",
    "user.unlock": "unlocked",
    "user.linked": "claimed the account",
    "notification.sent": "sent notices to",
    "notification.failed": "could not send notices to",
}

_WORDS: Mapping[str, str] = {
    "vm_name": "Name",
    "hostname": "Host name",
    "username": "User name",
    "datacenter": "Data centre",
    "vm_tag": "Tag",
    "hypervisor_id": "Hypervisor",
    "os_type": "OS type",
    "os_version": "OS version",
    "ip_address": "IP address",
    "mac_address": "MAC address",
    "vlan": "VLAN",
    "vcpu": "vCPU",
    "ram_gb": "RAM (GB)",
    "disk_gb": "Disk (GB)",
    "email": "E-mail",
    "is_active": "Active",
    "notify_expiry": "Expiry notices",
    "must_change_password": "Must change password",
    "account_type": "Type",
    "rotation_marked": "Marked for rotation",
    "version": "Password number",
    "limit": "Reveals an hour",
    "second_factor_required": "Second factor required",
    "has_second_factor": "Has a second factor",
    "vms": "VMs",
    "owned_only": "Only their own VMs",
}

KINDS: Mapping[str, str] = {
    "vm": "VM",
    "credential": "Credential",
    "hypervisor": "Hypervisor",
    "user": "User",
    "token": "Token",
    "auth": "Sign-in",
    "notice": "Notice",
}

_PAGES = frozenset({"vm", "hypervisor", "user", "token", "notice"})
_GONE = {"vm.delete", "vm.purge", "hypervisor.delete"}
_UNSAID = {("credential", "vm_id")}
"""Details that only repeat what the event says already."""


def word(name: str) -> str:
    """A field's name as people say it."""
    return _WORDS.get(name, name.replace("_", " ").capitalize())


def told(
    session: Session, rows: Iterable[dict[str, Any]], actor: Actor | None = None
) -> list[dict[str, Any]]:
    """Events with what a page shows of them: diffs as lists, numbers of hypervisors as names.

    Which account on a VM it was stands in no event. An actor who may see credentials is told so,
    and led to those that are still there.
    """
    events = list(rows)
    numbers = {n for event in events for n in _hypervisor_numbers(event["detail"] or {})}
    found = session.execute(
        select(Hypervisor.id, Hypervisor.name).where(Hypervisor.id.in_(numbers))
    )
    names: dict[int, str] = {row.id: row.name for row in found}
    accounts = _accounts(session, events, actor)
    return [
        _with_account({**_told(event, names), "entity_href": _href(event, actor)}, accounts)
        for event in events
    ]


def _href(event: Mapping[str, Any], actor: Actor | None) -> str | None:
    """The page of what the event is about, for those who may see it."""
    kind, number = event["entity_type"], event["entity_id"]
    if actor is None or kind not in _PAGES or not number or event["action"] in _GONE:
        return None
    if not actor.may(VIEWS[kind].read) or (kind == "token" and not _sees_token(event, actor)):
        return None
    return f"/admin/{kind}/details/{number}"


def _sees_token(event: Mapping[str, Any], actor: Actor) -> bool:
    """Of tokens those see all who keep the users, everybody else their own."""
    owner = (event["detail"] or {}).get("username")
    return actor.may(Permission.USERS) or owner == actor.username


def _accounts(
    session: Session, events: list[dict[str, Any]], actor: Actor | None
) -> dict[int, str]:
    """The user names of the credentials that the events tell of, by number."""
    numbers = {e["entity_id"] for e in events if e["entity_type"] == "credential"} - {None}
    if not numbers or actor is None or not actor.may(Permission.CREDENTIAL_READ):
        return {}
    return credentials.usernames(session, actor, numbers)


def _with_account(event: dict[str, Any], accounts: Mapping[int, str]) -> dict[str, Any]:
    number = event["entity_id"]
    if event["entity_type"] != "credential" or number not in accounts:
        return event
    return {
        **event,
        "entity_name": f"{accounts[number]} on {event['entity_name']}",
        "entity_href": f"/admin/credential/details/{number}",
    }


def _hypervisor_numbers(detail: Mapping[str, Any]) -> list[int]:
    value = detail.get("hypervisor_id")
    values = [value.get("from"), value.get("to")] if isinstance(value, dict) else [value]
    return [number for number in values if isinstance(number, int)]


def _told(event: dict[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    changes, facts = [], []
    for name, value in (event["detail"] or {}).items():
        if isinstance(value, dict) and value.keys() == {"from", "to"}:
            before, after = (_said(name, value[side], names) for side in ("from", "to"))
            changes.append({"name": name, "label": word(name), "from": before, "to": after})
        elif value is not None and (event["entity_type"], name) not in _UNSAID:
            facts.append({"label": word(name), "value": _said(name, value, names)})
    extended = event["action"] == Action.VM_UPDATE and _only_later(changes)
    return {
        **event,
        "action_label": "extended" if extended else LABELS.get(event["action"], event["action"]),
        "changes": changes,
        "facts": facts,
    }


def _only_later(changes: list[dict[str, Any]]) -> bool:
    """Whether all that changed is that an expiry date became a later one."""
    if [change["name"] for change in changes] != ["expiry_date"]:
        return False
    before, after = changes[0]["from"], changes[0]["to"]
    return before is not None and after is not None and after > before


def _said(name: str, value: Any, names: Mapping[int, str]) -> str | None:  # noqa: ANN401 - any JSON
    if value is None:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "hypervisor_id":
        return names.get(value, f"no. {value}")
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {each}" for key, each in value.items())
    return str(value)


class AuditView(View, model=AuditEvent):
    kind = "audit"
    noun = "event"
    read = Permission.AUDIT_READ
    can_create = can_edit = can_delete = False
    columns: ClassVar = ()

    def table(self, actor: Actor, request: Request) -> dict[str, Any]:
        query = inputs.query(request, AuditQuery, blanks=False)
        with self.state.database.read() as session:
            page = audit.page(session, actor, query)
            rows = told(session, page.rows, actor)
        filters = [
            Filter("username", "Who", "text"),
            Filter("action", "What", "select", [(a.value, f"{a.value}") for a in Action]),
            Filter(
                "entity_type",
                "Kind",
                "select",
                [(kind, label) for kind, label in KINDS.items()],
            ),
            Filter("from", "From", "date"),
            Filter("to", "To", "date"),
        ]
        table = page_table(request, "audit", "Audit trail", page, filters)
        return {**table, "rows": rows}

    def details_of(self, actor: Actor, number: int) -> dict[str, Any]:
        with self.state.database.read() as session:
            event = told(session, [audit.get(session, actor, number)], actor)[0]
        return {"title": f"Event {number}", "event": event}
