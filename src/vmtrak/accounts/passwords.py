"""Passwords: which ones may be chosen, how they are kept, how they are checked."""

import re
import threading
import unicodedata
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import anyio
import anyio.to_thread
import bcrypt
from anyio.lowlevel import RunVar
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from pydantic import SecretStr
from sqlalchemy import select, update
from zxcvbn import zxcvbn

from vmtrak.accounts.models import User, digest
from vmtrak.db import Work
from vmtrak.errors import Invalid

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

# OWASP's second recommendation for argon2id (Password Storage Cheat Sheet, 2025): 19 MiB, two
# passes, one lane. About 40 ms here, so that a burst of sign-ins does not stop the panel.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

_DECOY = _HASHER.hash("nobody has this password")

BCRYPT_MOST = 14
"""The highest cost that is computed, about a second. VMTrak 1.x wrote 12; each step doubles it."""

_BCRYPT_READS = 72
"""Bytes of the password that bcrypt looks at; the library refuses more rather than cut them."""

_limiter: RunVar[anyio.CapacityLimiter] = RunVar("passwords")


COMMON_BELOW = 9
"""Decimal digits of the number of guesses. A billion takes one core more than a year against
argon2id as it is set here, and longer than anybody lives against the limits of the sign-in."""

_WINDOW = 40
"""Characters that are estimated: what looks strong over so many stays strong beyond, and time
grows with the square of the length."""

_OWN_LEAST, _BEYOND_LEAST = 3, 6
"""Characters of a part of a name that count as the name, and what a password has beside it."""

_UNUSUAL = frozenset("{[<(|%+")
_MASKED = str.maketrans(dict.fromkeys(_UNUSUAL, "~"))
"""Signs that stand for letters less often than all others. The estimate tries each combination
of readings, which took it up to 12 seconds; where several are in one password, they count as
themselves."""

_estimating = threading.Lock()


def chosen(password: str, *about: str, field: str = "password") -> str:
    """The hash of a password that somebody wants to use; raises `Invalid` if it is a bad one.

    The policy follows NIST SP 800-63B-4, 3.1.1.2 and OWASP ASVS 5.0, V6.2: 12 to 256 characters
    (`inputs.Password`), any of them, no rules of composition, no expiry, and none that is common
    or about the user. Common is what an attacker tries first, by the lists that come with zxcvbn
    (30,000 passwords from leaks, 60,000 words and names; 3,973 entries of 12 characters and more,
    ASVS 6.2.4 asks for 3,000) and by what people make of them: case, repetition, sequences, rows
    of keys, dates, signs for letters, something put before or behind. `about` is the user's name
    and e-mail address (ASVS 6.2.11).
    """
    reason = weakness(password, *about)
    if reason is not None:
        raise Invalid({field: [reason]})
    return hashed(password)


def weakness(password: str, *about: str) -> str | None:
    """Why a password of the right length is a bad one; None for a good one."""
    text = unicodedata.normalize("NFKC", password).casefold()
    own = _own(about)
    beyond = text
    for part in own:
        beyond = beyond.replace(part, " ")
    if sum(map(str.isalnum, beyond)) < min(_BEYOND_LEAST, sum(map(str.isalnum, text))):
        return "must not be made of the name or the e-mail address"
    windows = {text[:_WINDOW], text[-_WINDOW:]}
    if max(_digits_of_guesses(each, own) for each in windows) < COMMON_BELOW:
        return "is too easy to guess; take several words that nobody expects together"
    return None


def _own(about: tuple[str, ...]) -> list[str]:
    """What a user is called, whole and in parts, the longest first."""
    whole = [unicodedata.normalize("NFKC", each).casefold() for each in about]
    parts = [part for each in whole for part in re.split(r"[\W_]+", each)]
    found = {part for part in (*whole, *parts, "vmtrak") if len(part) >= _OWN_LEAST}
    return sorted(found, key=lambda part: (-len(part), part))


def _digits_of_guesses(text: str, own: list[str]) -> float:
    if len(_UNUSUAL.intersection(text)) > 1:
        text = text.translate(_MASKED)
    with _estimating:  # zxcvbn keeps the words about the user in a global
        return float(zxcvbn(text, own)["guesses_log10"])


def hashed(password: str) -> str:
    return _HASHER.hash(password)


def matches(password: str, password_hash: str | None) -> bool:
    """Whether the password fits. Without a hash it takes as long and is False."""
    if password_hash is not None and password_hash.startswith(("$2a$", "$2b$", "$2y$")):
        return _matches_bcrypt(password, password_hash)
    try:
        _HASHER.verify(password_hash or _DECOY, password)
    except (VerificationError, ValueError):  # a ValueError: this is no hash at all
        return False
    return password_hash is not None


def _matches_bcrypt(password: str, password_hash: str) -> bool:
    """For users of VMTrak 1.x, whose hashes bcryptjs made."""
    cost = password_hash[4:6]
    if not cost.isdigit() or int(cost) > BCRYPT_MOST:
        return False
    cut = password.encode("utf-8", "surrogatepass")[:_BCRYPT_READS]
    try:
        return bcrypt.checkpw(cut, password_hash.encode())
    except ValueError:
        return False


def renewed(password: str, password_hash: str) -> str | None:
    """A new hash of a right password, if the present one is of an older kind or strength."""
    current = password_hash.startswith("$argon2id$") and not _HASHER.check_needs_rehash(
        password_hash
    )
    return None if current else hashed(password)


def settle(
    work: Work, user_id: int, password: SecretStr, password_hash: str, new_hash: str | None
) -> bool:
    """Put the new hash in the place of the one that was checked; whether the password still fits.

    The user stays locked for the rest of the unit of work. Another sign-in may have renewed the
    hash in the meantime, or somebody set another password: then the present one decides.
    """
    present = work.session.scalar(
        select(User.password_hash).where(User.id == user_id).with_for_update(read=new_hash is None)
    )
    if present != password_hash:
        return matches(password.get_secret_value(), present)
    if new_hash is not None:
        # No change that anybody made: the same password, kept better. The revision stays.
        work.session.execute(
            update(User).where(User.id == user_id).values(password_hash=new_hash),
            execution_options={"audited": True, "synchronize_session": False},
        )
    return True


def fingerprint(password_hash: str) -> str:
    """Binds what is handed out to a password: a new one makes it worthless."""
    return digest(password_hash)[:32]


async def in_thread(call: Callable[[*Ts], R], *args: *Ts) -> R:
    """Hash or check, two at a time at most, away from the event loop and the database threads."""
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(2)
        _limiter.set(limiter)
    return await anyio.to_thread.run_sync(call, *args, limiter=limiter)
