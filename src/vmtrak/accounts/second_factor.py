"""TOTP (RFC 6238) as the second factor of local accounts, and the codes that stand in for it."""

import base64
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime

import pyotp
from loguru import logger
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from vmtrak.access import Actor, Permission
from vmtrak.accounts import actors, sessions, trail
from vmtrak.accounts.models import RecoveryCode, SecondFactor, User, digest
from vmtrak.audit import Action
from vmtrak.db import Database, Work
from vmtrak.errors import Conflict, Invalid, NotFound, Unavailable
from vmtrak.sealing import KeyRing, Place, Sealed, SealingError, UnknownKey

DIGITS, STEP = 6, 30
"""RFC 6238's own: SHA-1, six digits, a code every 30 seconds. Several widespread authenticator
apps pass over what an address says of others and show codes that never fit. SHA-1's collisions do
not touch HMAC."""

DRIFT = 1
"""Steps for which a code counts early or late (RFC 6238, 5.2 recommends one), so that a telephone
may be half a minute off and a person may take their time."""

SECRET_BYTES = 20
"""160 bits, the length of the HMAC's output, as RFC 4226, 4 (R6) recommends."""

RECOVERY_CODES, RECOVERY_BYTES = 10, 15
"""120 random bits each. OWASP ASVS 5.0, 6.5.2 wants a password hash below 112 bits and is content
with a plain one from there on. A plain hash is looked up in one step; ten argon2id hashes would
cost each wrong code almost half a second of work, which is a way to keep the server busy."""

WRONG = "is wrong, has been used, or is too old"

_CODE = re.compile(rf"[0-9]{{{DIGITS}}}")


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A secret to be put into an authenticator app: as text, and as the address in a QR code."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account stands with its second factor.

    `available` says whether it may have one: who signs in over the provider has the provider's.
    """

    available: bool
    enrolled: bool
    required: bool
    enrolled_at: datetime | None
    recovery_codes: int


def standing(session: Session, actor: Actor) -> Standing:
    """The actor's own standing; `recovery_codes` are those that are left."""
    actor.require(Permission.ACCOUNT)
    user = session.get_one(User, actor.user_id)
    since = session.scalar(
        select(SecondFactor.confirmed_at).where(
            SecondFactor.user_id == user.id, SecondFactor.confirmed_at.is_not(None)
        )
    )
    left = _left(session, user.id)
    local = user.sign_in_method == "local"
    return Standing(local, user.has_second_factor, actor.factor_required, since, left)


def start(work: Work, keys: KeyRing, site: str) -> Enrolment:
    """Make a secret for the actor's authenticator app. It counts once a code of it came back.

    A factor that is in force stays so until then. `site` is the host under which people know this
    installation; an app that knows two tells them apart by it.
    """
    user = _own(work)
    pending = (SecondFactor.user_id == user.id, SecondFactor.confirmed_at.is_(None))
    work.session.execute(delete(SecondFactor).where(*pending))
    factor = SecondFactor(user_id=user.id, sealed_secret=Sealed(""), created_at=work.moment)
    work.session.add(factor)
    work.flush()  # the place to seal for has the row's number
    secret = base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")
    factor.keep(keys.seal(secret, place(factor.id)))
    return _enrolment(secret, user, site)


def begun(session: Session, actor: Actor, keys: KeyRing, site: str) -> Enrolment:
    """The enrolment that the actor has started; raises `Conflict` if there is none."""
    actor.require(Permission.ACCOUNT)
    user = session.get_one(User, actor.user_id)
    return _enrolment(_opened(keys, _started(session, user.id)), user, site)


def confirm(work: Work, keys: KeyRing, code: str) -> list[str]:
    """Put the started factor in force, with a code of it; returns ten new recovery codes.

    It takes the place of an earlier one. Raises `Invalid` if the code does not fit.
    """
    user = _own(work)
    factor = _started(work.session, user.id)
    step = _step_of(_opened(keys, factor), _bare(code), work.moment)
    if step is None:
        raise Invalid({"code": ["does not fit; look at the app's present code and at its clock"]})
    work.session.execute(
        delete(SecondFactor).where(SecondFactor.user_id == user.id, SecondFactor.id != factor.id)
    )
    factor.confirmed_at, factor.last_step = work.moment, step
    user.has_second_factor, user.updated_at = True, work.moment
    trail.record(work, Action.FACTOR_ADDED, user)
    return _fresh_codes(work, user)


def new_recovery_codes(work: Work) -> list[str]:
    """Make ten recovery codes; those before them end."""
    user = _own(work)
    if not user.has_second_factor:
        message = "There is no second factor that these codes could stand in for."
        raise Conflict(message)
    codes = _fresh_codes(work, user)
    trail.record(work, Action.RECOVERY_CODES, user)
    return codes


def remove(work: Work) -> None:
    """Take the actor's own factor away, unless an administrator requires it."""
    user = _own(work)
    if work.actor.factor_required:
        message = "Your account must have a second factor; you can only put another in its place."
        raise Conflict(message)
    _taken_away(work, user)


def reset(work: Work, user_id: int) -> User:
    """Take somebody else's factor away, who has lost it; sessions go on.

    One's own is removed on the page for it, which asks for a proof of identity first.
    """
    work.actor.require(Permission.USERS)
    if user_id == work.actor.user_id:
        message = "Remove your own second factor on the page of your account."
        raise Conflict(message)
    user = work.session.get(User, user_id, with_for_update=True)
    if user is None:
        raise NotFound
    _taken_away(work, user)
    return user


def forget(work: Work, key_id: str, most: int) -> int:
    """Take away what a lost key sealed, of so many people; how many secrets that was.

    People whom others hold are passed over: who holds several and waits for nobody is never one
    of two that wait for each other.
    """
    work.actor.require(Permission.USERS)
    owners = select(SecondFactor.user_id).where(SecondFactor.key_id == key_id)
    chosen = select(User).where(User.id.in_(owners)).order_by(User.id).limit(most)
    found = work.session.scalars(chosen.with_for_update(skip_locked=True, key_share=True)).all()
    return sum(_forget_of(work, user, key_id) for user in found)


def in_force(database: Database, user_id: int) -> bool:
    """Whether a sign-in with the password needs a code, too."""
    with database.read() as session:
        return bool(session.scalar(select(User.has_second_factor).where(User.id == user_id)))


def accepts(work: Work, keys: KeyRing, user_id: int, code: str) -> bool:
    """Whether this is a code of the user's app or a recovery code. Each counts once, ever."""
    sessions.hold(work, user_id)
    bare = _bare(code)
    if _CODE.fullmatch(bare):
        return _takes_step(work, keys, user_id, bare)
    return _takes_recovery_code(work, user_id, bare)


def place(number: int) -> Place:
    """Where the secret of the factor of this number is kept."""
    return Place(SecondFactor.__tablename__, "sealed_secret", str(number))


def _own(work: Work) -> User:
    """The actor's user, locked: of two requests at once one comes after the other."""
    work.actor.require(Permission.ACCOUNT)
    user = work.session.get(User, work.actor.user_id, with_for_update=True)
    if user is None:
        raise NotFound
    if user.sign_in_method != "local":
        message = "You sign in over the provider, which asks for its own second factor."
        raise Conflict(message)
    return user


def _started(session: Session, user_id: int) -> SecondFactor:
    factor = session.scalar(
        select(SecondFactor).where(
            SecondFactor.user_id == user_id, SecondFactor.confirmed_at.is_(None)
        )
    )
    if factor is None:
        message = "No second factor is being set up; start with that."
        raise Conflict(message)
    return factor


def _opened(keys: KeyRing, factor: SecondFactor) -> str:
    """The secret. Raises `Unavailable`, which is logged with its cause."""
    try:
        return keys.open(factor.sealed_secret, place(factor.id))
    except UnknownKey as error:
        message = "The key that sealed your second factor is not in the key ring."
        raise Unavailable(message) from error
    except SealingError as error:
        logger.error("the sealed secret of second factor {} is damaged", factor.id)
        message = "Your second factor was damaged where it is kept; an administrator can reset it."
        raise Unavailable(message) from error


def _enrolment(secret: str, user: User, site: str) -> Enrolment:
    app = pyotp.TOTP(secret, digits=DIGITS, interval=STEP)
    return Enrolment(secret, app.provisioning_uri(name=user.username, issuer_name=f"VMTrak {site}"))


def _bare(code: str) -> str:
    """The code without spaces, hyphens and what telephones make of them."""
    return re.sub(r"[\W_]", "", code)


def _step_of(secret: str, code: str, moment: datetime) -> int | None:
    """The newest time step near this moment whose code it is (RFC 6238, 4.2)."""
    if not _CODE.fullmatch(code):
        return None
    present = int(moment.timestamp()) // STEP
    app = pyotp.TOTP(secret, digits=DIGITS, interval=STEP)
    near = range(present + DRIFT, present - DRIFT - 1, -1)
    fitting = [step for step in near if hmac.compare_digest(app.generate_otp(step), code)]
    return fitting[0] if fitting else None


def _takes_step(work: Work, keys: KeyRing, user_id: int, code: str) -> bool:
    """The row is locked, so that of two requests with one code only the first finds it unused."""
    factor = work.session.scalar(
        select(SecondFactor)
        .where(SecondFactor.user_id == user_id, SecondFactor.confirmed_at.is_not(None))
        .with_for_update()
    )
    step = _step_of(_opened(keys, factor), code, work.moment) if factor else None
    if factor is None or step is None or step <= (factor.last_step or 0):
        return False
    factor.last_step = step
    return True


def _takes_recovery_code(work: Work, user_id: int, code: str) -> bool:
    spent = work.session.execute(
        update(RecoveryCode)
        .where(
            RecoveryCode.user_id == user_id,
            RecoveryCode.code_hash == digest(code.lower()),
            RecoveryCode.used_at.is_(None),
        )
        .values(used_at=work.moment)
        .returning(RecoveryCode.id),
        execution_options={"synchronize_session": False},
    )
    if not spent.all():
        return False
    user = work.session.get_one(User, user_id)
    if work.actor.user_id is None:
        work.actor = actors.actor_of(user, work.actor)
    trail.record(work, Action.RECOVERY_CODE_USED, user, {"left": _left(work.session, user_id)})
    return True


def _left(session: Session, user_id: int) -> int:
    unused = (RecoveryCode.user_id == user_id, RecoveryCode.used_at.is_(None))
    return session.scalar(select(func.count(RecoveryCode.id)).where(*unused)) or 0


def _fresh_codes(work: Work, user: User) -> list[str]:
    work.session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
    made = [
        base64.b32encode(secrets.token_bytes(RECOVERY_BYTES)).decode("ascii").lower()
        for _ in range(RECOVERY_CODES)
    ]
    work.session.add_all(RecoveryCode(user_id=user.id, code_hash=digest(code)) for code in made)
    return ["-".join(re.findall("....", code)) for code in made]


def _forget_of(work: Work, user: User, key_id: str) -> int:
    """A secret that is only being set up goes alone: the factor in force has another key."""
    of_key = delete(SecondFactor).where(
        SecondFactor.user_id == user.id, SecondFactor.key_id == key_id
    )
    lost = work.session.scalars(of_key.returning(SecondFactor.confirmed_at)).all()
    if any(lost):
        _taken_away(work, user)
    return len(lost)


def _taken_away(work: Work, user: User) -> None:
    work.session.execute(delete(SecondFactor).where(SecondFactor.user_id == user.id))
    work.session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
    if user.has_second_factor:
        user.has_second_factor, user.updated_at = False, work.moment
        trail.record(work, Action.FACTOR_REMOVED, user)
