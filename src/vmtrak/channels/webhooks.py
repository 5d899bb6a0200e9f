"""Posts digests to webhooks: signed JSON, Adaptive Cards for Teams, blocks for Slack."""

from dataclasses import dataclass, field

from vmtrak.channels.messages import Channel, Parcel


@dataclass(frozen=True, slots=True)
class Hook:
    """Where to post in which format. `secret` signs the channel `webhook`, the others have none."""

    channel: Channel
    url: str = field(repr=False)
    secret: str | None = field(default=None, repr=False)


class Poster:
    """The sender for one webhook."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook

    def send(self, parcel: Parcel) -> str:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing yet."""
