"""What became of the messages of one run, for whoever started it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from vmtrak.access import Actor, Permission
from vmtrak.accounts import User
from vmtrak.channels import Channel
from vmtrak.notices.models import Message, State
from vmtrak.notices.planning import Plan


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many messages of the plan are in which state by now."""

    plan: Plan
    states: Mapping[State, int]

    @property
    def sent(self) -> int:
        return self.states.get(State.SENT, 0)

    @property
    def failed(self) -> int:
        return self.states.get(State.FAILED, 0)

    @property
    def waiting(self) -> int:
        return self.states.get(State.WAITING, 0)

    @property
    def kept(self) -> int:
        return self.states.get(State.KEPT, 0)

    @property
    def words(self) -> str:
        """The same for people."""
        if self.plan.failed:
            whose = "1 recipient" if self.plan.failed == 1 else f"{self.plan.failed:,} recipients"
            return f"Planning failed for {whose}; the log tells why. {self._told}"
        if not self.plan.finished:
            return f"Planning goes on, and the worker sends the rest. {self._told}"
        return self._told

    @property
    def is_well(self) -> bool:
        return not self.plan.failed and not self.failed

    @property
    def _told(self) -> str:
        if not self.plan.messages:
            return "Nothing is due that has not been told."
        if self.kept == self.plan.messages:
            kept = "1 notice is" if self.kept == 1 else f"{self.kept:,} notices are"
            return f"Mail is off; {kept} kept in the panel."
        told = f"{self.sent:,} sent, {self.failed:,} failed, {self.waiting:,} waiting"
        return f"{_number(self.plan)}: {told}{self._rare}"

    @property
    def _rare(self) -> str:
        kept = f", {self.kept:,} kept, as mail is off" if self.kept else ""
        dropped = self.states.get(State.DROPPED, 0)
        return kept + (f", {dropped:,} with nothing left to tell" if dropped else "")


def _number(plan: Plan) -> str:
    messages = "1 message" if plan.messages == 1 else f"{plan.messages:,} messages"
    return f"{messages} about {plan.vms:,} {'VM' if plan.vms == 1 else 'VMs'}"


def of(session: Session, actor: Actor, plan: Plan) -> Outcome:
    """What became of the plan's messages. Raises `Forbidden`."""
    actor.require(Permission.USERS)
    chosen = select(Message.state, func.count()).where(Message.run_id == plan.run_id)
    found = session.execute(chosen.group_by(Message.state))
    return Outcome(plan, {State(state): count for state, count in found})


@dataclass(frozen=True, slots=True)
class Unsent:
    """A message that has failed, or waits to be tried at `next_attempt_at`."""

    recipient: str
    channel: Channel
    state: State
    next_attempt_at: datetime
    answer: str | None


def unsent(session: Session, actor: Actor, plan: Plan) -> list[Unsent]:
    """The plan's messages that were to be sent and are not, in their order."""
    actor.require(Permission.USERS)
    name = func.coalesce(User.username, Message.address, Message.channel)
    chosen = (
        select(name, Message.channel, Message.state, Message.next_attempt_at, Message.answer)
        .outerjoin(User, User.id == Message.user_id)
        .where(Message.run_id == plan.run_id, Message.state.in_((State.WAITING, State.FAILED)))
        .order_by(Message.id)
    )
    return [
        Unsent(recipient, Channel(channel), State(state), at, answer)
        for recipient, channel, state, at, answer in session.execute(chosen)
    ]


def in_hand(session: Session, plan: Plan, moment: datetime) -> bool:
    """Whether somebody is sending one of the plan's messages at that moment."""
    chosen = select(Message.id).where(
        Message.run_id == plan.run_id,
        Message.state == State.WAITING,
        Message.leased_until > moment,
    )
    return session.scalar(chosen.limit(1)) is not None
