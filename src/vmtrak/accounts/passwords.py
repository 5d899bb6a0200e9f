"""Password hashes."""

import anyio
import anyio.to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

# OWASP's second recommendation for argon2id (Password Storage Cheat Sheet, 2025): 19 MiB, two
# passes, one lane. About 40 ms here, so that a burst of sign-ins does not stop the panel.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

_DECOY = _HASHER.hash("nobody has this password")

_limiter: anyio.CapacityLimiter | None = None


def hashed(password: str) -> str:
    return _HASHER.hash(password)


def matches(password: str, password_hash: str | None) -> bool:
    """Whether the password fits. Without a hash it takes as long and is False."""
    try:
        _HASHER.verify(password_hash or _DECOY, password)
    except (VerificationError, InvalidHashError):
        return False
    return password_hash is not None


async def matches_in_thread(password: str, password_hash: str | None) -> bool:
    """`matches`, two at a time at most, away from the event loop and from the database threads."""
    global _limiter  # noqa: PLW0603 - belongs to the one event loop of the process
    if _limiter is None:
        _limiter = anyio.CapacityLimiter(2)
    return await anyio.to_thread.run_sync(matches, password, password_hash, limiter=_limiter)
