"""What the settings say of notices."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vmtrak.channels import Channel, Sender
from vmtrak.errors import Conflict
from vmtrak.notices.schedule import Schedule

MakeSender = Callable[[], Sender]

_OFF: Mapping[str, str] = {
    Channel.MAIL: "Mail is off: set VMTRAK_SMTP_HOST first.",
    Channel.WEBHOOK: "This channel is off: set VMTRAK_WEBHOOK_URL first.",
    Channel.TEAMS: "This channel is off: set VMTRAK_TEAMS_URL first.",
    Channel.SLACK: "This channel is off: set VMTRAK_SLACK_URL first.",
}


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

    def require(self, channel: str) -> None:
        """Raise `Conflict` if the channel is off."""
        if channel not in self.senders:
            raise Conflict(_OFF[channel])
