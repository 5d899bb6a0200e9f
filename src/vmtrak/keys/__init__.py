"""The keys that seal: which are in use, whether the ring holds them, and sealing anew."""

from vmtrak.keys.rekeying import GivingUp, Rekeying, reseal
from vmtrak.keys.ring import RingError, SealingKey, check, faults, lacking, refuse_loss, standing
from vmtrak.keys.stores import STORES, Store, Use, in_use

__all__ = [
    "STORES",
    "GivingUp",
    "Rekeying",
    "RingError",
    "SealingKey",
    "Store",
    "Use",
    "check",
    "faults",
    "in_use",
    "lacking",
    "refuse_loss",
    "reseal",
    "standing",
]
