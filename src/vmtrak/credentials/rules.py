"""What the person who runs VMTrak has laid down for credentials."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from vmtrak.inventory import Environment
from vmtrak.sealing import KeyRing

LINGERS = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Rules:
    """`reason` is "optional", "required" or "production"; `step_up` is "off", "all", "production".

    `versions` is how many earlier passwords are kept; a password is due for rotation when it is
    `rotation_days` old, never if that is 0.
    """

    per_hour: int = 30
    reason: str = "optional"
    step_up: str = "off"
    versions: int = 5
    rotation_days: int = 0

    def wants_reason(self, *, production: bool) -> bool:
        return self.reason == "required" or (self.reason == "production" and production)

    def wants_proof(self, *, production: bool) -> bool:
        return self.step_up == "all" or (self.step_up == "production" and production)

    def too_old(self, moment: datetime) -> datetime | None:
        """A password of this time or before is due for rotation; None if age makes none due."""
        return moment - timedelta(days=self.rotation_days) if self.rotation_days else None


@dataclass(frozen=True, slots=True)
class Vault:
    """The keys and the rules: what every operation on a password needs."""

    keys: KeyRing
    rules: Rules


@dataclass(frozen=True, slots=True)
class Which:
    """Which credential: its number, its VM's where the address names that, too.

    `version` names an earlier password; None is the present one.
    """

    number: int
    vm_id: int | None = None
    version: int | None = None


def is_production(environment: str | None, left_at: datetime | None, moment: datetime) -> bool:
    """Whether a VM counts as production, in which it is or was until a day ago.

    Otherwise whoever may change it could take it out, reveal, and put it back.
    """
    lingers = left_at is not None and moment - left_at < LINGERS
    return environment == Environment.PRODUCTION or lingers
