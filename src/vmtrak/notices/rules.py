"""What the settings say of notices."""

from collections.abc import Callable
from dataclasses import dataclass, field

from vmtrak.channels import Channel, Sender
from vmtrak.notices.schedule import Schedule

MakeSender = Callable[[], Sender]


@dataclass(frozen=True, slots=True)
class Rules:
    """`senders` has an entry for each channel that is set up; without mail, notices are kept.

    `domains` limits the addresses that may be told as owners of VMs; empty: any.
    """

    schedule: Schedule
    base_url: str
    domains: frozenset[str] = frozenset()
    senders: dict[Channel, MakeSender] = field(default_factory=dict)

    @property
    def mail_is_on(self) -> bool:
        return Channel.MAIL in self.senders
