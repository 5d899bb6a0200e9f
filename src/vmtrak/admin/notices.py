"""Expiry notices in the panel: what is due, the outbox, the runs, and a VM's own notices."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, ClassVar

from sqladmin import expose
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from vmtrak.access import Actor, Permission
from vmtrak.admin.base import View, address, posted, redirect
from vmtrak.admin.tables import Filter, page_table
from vmtrak.channels import GROUPS, Channel
from vmtrak.db import Page, now
from vmtrak.fields import parse
from vmtrak.inventory import Status
from vmtrak.notices import Message, Schedule, lists, outbox, recipients, trials
from vmtrak.notices import State as Sending
from vmtrak.notices.lists import NAMES, MessageQuery
from vmtrak.notices.schedule import WEEK, WEEKS
from vmtrak.notices.trials import TrialRequest
from vmtrak.web import inputs
from vmtrak.web.delivering import deliver, run_now
from vmtrak.web.state import State, actor_of

LIST = "/admin/notice/list"
DUE = "/admin/notice/due"

_TABS: Mapping[Sending, str] = {
    Sending.WAITING: "Waiting",
    Sending.SENT: "Sent",
    Sending.FAILED: "Failed",
    Sending.KEPT: "Kept",
    Sending.DROPPED: "Dropped",
}
_FILTERS = (
    Filter("channel", "Channel", "select", [(c.value, NAMES[c]) for c in Channel]),
    Filter("day", "Day", "date"),
)


class NoticeView(View, model=Message):
    kind = "notice"
    noun = "message"
    read = Permission.USERS
    columns: ClassVar = ()

    def table(self, actor: Actor, request: Request) -> dict[str, Any]:
        query = inputs.query(request, MessageQuery, blanks=False)
        with self.state.database.read() as session:
            page = lists.page(session, actor, query)
            around = _around(self.state, session, actor, query.state)
            again = outbox.may_be_sent_again(session, self.state.delivery.rules, now())
        table = page_table(request, "notice", "Notices", page, _FILTERS)
        rows = [shown(row, around["standing"]) for row in page.rows]
        more = {"rows": rows, "state": query.state, "again": again}
        return {**_within(table, query.state), **around, **more}

    def details_of(self, actor: Actor, number: int) -> dict[str, Any]:
        with self.state.database.read() as session:
            row = lists.get(session, actor, number)
            found = standing(self.state, session, actor)
        told = [{**one, "stage": stage(one["notice_type"])} for one in row["vms_told"]]
        message = {**shown(row, found), "vms_told": told}
        return {"title": _title(message), "message": message, "standing": found}

    @expose("/due")
    async def due(self, request: Request) -> Response:
        actor = actor_of(request)
        context = await self.state.database.reading(self._due, actor, request)
        return await self.panel.render(request, "notice_due.html", context)

    def _due(self, actor: Actor, request: Request) -> dict[str, Any]:
        most, rules = lists.MOST_DUE, self.state.delivery.rules
        with self.state.database.read() as session:
            rows = lists.due(session, actor, rules, self.state.today(), most + 1)
            around = _around(self.state, session, actor, "due")
        page = Page(rows[:most], len(rows[:most]), 1, most)
        table = page_table(request, "notice", "Notices", page)
        return {
            "title": "Notices due now",
            "table": {**table, **around, "groups": GROUPS, "more": len(rows) > most},
        }

    @expose("/run", methods=["POST"])
    async def run(self, request: Request) -> Response:
        outcome = await run_now(self.state, actor_of(request))
        if outcome.plan.failed or not outcome.plan.finished:
            return redirect(LIST, "notices-failed" if outcome.plan.failed else "notices-go-on")
        return redirect(LIST, "notices-run" if outcome.plan.messages else "notices-none")

    @expose("/test", methods=["POST"])
    async def test(self, request: Request) -> Response:
        actor_of(request).require(self.read)
        channel = parse(TrialRequest, await posted(request)).channel
        message = await self._queued(request, trials.send, channel)
        await deliver(self.state)
        return redirect(f"/admin/notice/details/{message.id}")

    @expose("/again/{pk}", methods=["POST"])
    async def again(self, request: Request) -> Response:
        number = inputs.number(request.path_params["pk"])
        await self._queued(request, outbox.send_again, number)
        await deliver(self.state)
        return redirect(f"/admin/notice/details/{number}", "notice-again")

    @expose("/again-all", methods=["POST"])
    async def again_all(self, request: Request) -> Response:
        done = await self._queued(request, outbox.send_all_again)
        await deliver(self.state)
        return redirect(LIST, f"notices-again.{done}" if done else "unchanged")

    async def _queued(self, request: Request, operation: Any, *what: Any) -> Any:  # noqa: ANN401 - as they have it
        """The operation in a unit of work; each takes the rules."""
        actor, rules = actor_of(request), self.state.delivery.rules
        return await self.state.database.writing(self._written, actor, operation, rules, *what)


def _within(table: dict[str, Any], state: Sending | None) -> dict[str, Any]:
    """The table whose state is chosen by a tab, not by a filter."""
    chosen = [chip for chip in table["active"] if chip["label"] != "State"]
    return {**table, "active": chosen, "clear_href": address(LIST, {"state": state})}


def _title(message: Mapping[str, Any]) -> str:
    what = "Test message" if message["kind"] == "test" else f"Notice of {message['day']}"
    return message["subject"] or what


def shown(row: dict[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """A message with what its page says besides; it can be sent again while its channel is on."""
    ended_badly = row["state"] in {Sending.FAILED, Sending.KEPT}
    return {
        **row,
        "channel_name": NAMES[row["channel"]],
        "may_send": ended_badly and row["channel"] in found["channels"],
    }


def _around(
    state: State, session: Session, actor: Actor, current: Sending | str | None
) -> dict[str, Any]:
    """What stands above each of the lists: how notices stand, and the tabs."""
    found = standing(state, session, actor)
    tabs = [
        {"label": "All", "href": LIST, "current": current is None, "count": None},
        {"label": "Due now", "href": DUE, "current": current == "due", "count": None},
    ]
    for one, label in _TABS.items():
        href = address(LIST, {"state": one.value})
        count = found.get(one.value) or None
        tabs.append({"label": label, "href": href, "current": current == one, "count": count})
    return {"standing": found, "tabs": tabs}


def standing(state: State, session: Session, actor: Actor) -> dict[str, Any]:
    """How notices stand, with the next run in the zone of the settings."""
    schedule = state.delivery.rules.schedule
    moment = now()
    found = lists.standing(session, actor, state.delivery.rules, moment)
    coming = datetime.fromisoformat(found["next_run_at"]).astimezone(schedule.zone)
    day = _day(coming.date(), schedule.today(moment))
    return {
        **found,
        "names": [{"value": one, "label": NAMES[one]} for one in found["channels"]],
        "hour": f"{schedule.at:%H:%M}",
        "zone": schedule.zone.key,
        "next_run": f"{day} {coming:%H:%M} {schedule.zone.key}",
        "linked": actor.may(Permission.USERS),
    }


def _day(day: date, today: date) -> str:
    return {0: "today", 1: "tomorrow"}.get((day - today).days, day.isoformat())


def stage(notice_type: str) -> str:
    """What was told of a VM, in words: `7d`, `1d`, `0d`, `overdue-2w`."""
    if notice_type.startswith("overdue-"):
        weeks = int(notice_type.removeprefix("overdue-").removesuffix("w"))
        return "a week overdue" if weeks == 1 else f"{weeks} weeks overdue"
    days = int(notice_type.removesuffix("d"))
    near = {0: "expires that day", 1: "a day before"}
    return near.get(days, f"{days} days before")


def card(state: State, actor: Actor, vm: Mapping[str, Any]) -> dict[str, Any] | None:
    """The notices of a VM; None for those who may not know of them."""
    if not actor.may(Permission.VM_READ_ALL):
        return None
    with state.database.read() as session:
        found = lists.of_vm(session, actor, vm["id"])
        owner = vm["owner"]
        unreached = owner and not recipients.reached(session, state.delivery.rules, owner)
    rows = [{**one, "stage": stage(one["notice_type"])} for one in found]
    return {
        "rows": rows,
        "coming": _coming(state.delivery.rules.schedule, vm, rows, state.today()),
        "mail": state.delivery.rules.mail_is_on,
        "unreached": owner if unreached else None,
        "linked": actor.may(Permission.USERS),
        "most": lists.MOST_OF_VM,
    }


def _coming(
    schedule: Schedule, vm: Mapping[str, Any], rows: list[dict[str, Any]], today: date
) -> str:
    """When the VM is told of next, as a sentence."""
    if vm["expiry_date"] is None:
        return "No notices: this VM has no expiry date."
    if vm["status"] != Status.ACTIVE:
        return "No notices: they are about active VMs only."
    expiry = date.fromisoformat(str(vm["expiry_date"]))
    if expiry == date.max:
        return "No notices: this date stands for no expiry."
    at_hand = schedule.stage(expiry, today)
    told = {one["notice_type"] for one in rows if one["expiry_date"] == expiry.isoformat()}
    if at_hand is not None and at_hand not in told:
        return "The next notice goes out with the next run."
    day = next_day(schedule, expiry, today)
    if day is None:
        return "No more notices come: it expired more than four weeks ago."
    return f"The next notice goes out on {day.isoformat()}."


def next_day(schedule: Schedule, expiry: date, today: date) -> date | None:
    """The first day after today on which another stage of this expiry date begins."""
    begins = [-threshold for threshold in schedule.days] + [WEEK * n for n in range(1, WEEKS + 1)]
    days = (expiry.toordinal() + n for n in begins)  # not as dates, of which there is a last
    first = min((day for day in days if day > today.toordinal()), default=None)
    return None if first is None else date.fromordinal(first)
