"""What can be done with users: add, change, deactivate, reset, set up."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from vmtrak import audit
from vmtrak.access import Actor, Permission, Role
from vmtrak.accounts import (
    actors,
    administrators,
    api_tokens,
    limits,
    links,
    passwords,
    sessions,
    trail,
)
from vmtrak.accounts.inputs import (
    FirstAdmin,
    NewPassword,
    NewUser,
    PasswordChange,
    Setup,
    UserPatch,
)
from vmtrak.accounts.models import Identity, OneTimeLink, User
from vmtrak.audit import Action
from vmtrak.db import AnySelect, Seen, Work
from vmtrak.errors import Conflict, Forbidden, Invalid, NotFound, Stale
from vmtrak.fields import fold, given

_CONFLICTS = MappingProxyType(
    {
        "uq_users_username_key": Conflict("Another user has this name already.", field="username"),
        "uq_users_email_key": Conflict("Another user has this e-mail address.", field="email"),
    }
)

NOT_PRESENT = "is not your present password"
KEPT_ELSEWHERE = "Your password is kept by the provider that you sign in with."

FIELDS = tuple(
    getattr(User, name)
    for name in (
        "id",
        "username",
        "email",
        "role",
        "department",
        "is_active",
        "must_change_password",
        "notify_expiry",
        "sign_in_method",
        "awaits_subject",
        "awaits_email",
        "is_guest",
        "second_factor_required",
        "has_second_factor",
        "last_seen_at",
        "created_at",
        "updated_at",
    )
)


def add(work: Work, new: NewUser) -> User:
    """Add a user, who changes the password or sets one at the first sign-in."""
    work.actor.require(Permission.USERS)
    secret = new.password.get_secret_value() if new.password else None
    user = _made(work, new.username, new.email, new.role, secret)
    user.department = new.department
    user.awaits_subject, user.awaits_email = new.awaits_subject, new.awaits_email
    _refuse_second_claim(work, user)
    work.flush(_CONFLICTS)
    _record(work, Action.USER_CREATE, user, audit.snapshot(user))
    return user


def add_first(work: Work, token: str, new: FirstAdmin) -> User:
    """Make the first administrator over the link that the start printed. It works once."""
    link = links.use(work, token, "first")
    if has_admin(work.session):
        raise NotFound(links.SPENT)
    user = _made(work, new.username, new.email, Role.ADMIN, new.password.get_secret_value())
    user.must_change_password = False
    link.used_at = work.moment
    work.flush(_CONFLICTS)
    _record(work, Action.USER_CREATE, user, audit.snapshot(user))
    return user


def change(work: Work, user_id: int, patch: UserPatch, seen: Seen = None) -> User:
    """Change the fields that the patch sets. The last active admin stays admin and active."""
    values = given(patch)
    work.actor.require(Permission.USERS)
    if values.keys() & {"role", "is_active"}:
        administrators.lock(work)
    user = _locked(work, user_id, seen)
    for name, value in values.items():
        setattr(user, name, value)
    detail = audit.difference(user)
    if not detail:
        return user
    _keep_an_admin(work, user)
    _refuse_second_claim(work, user)
    user.updated_at = work.moment
    user.derive()
    if not user.is_active:
        sessions.end_all(work, user.id)
        links.end_all(work, user.id)
        api_tokens.revoke_all(work, user.id)
    work.flush(_CONFLICTS)
    ended = "is_active" in detail and not user.is_active
    _record(work, Action.USER_DEACTIVATE if ended else Action.USER_UPDATE, user, detail)
    return user


def deactivate(work: Work, user_id: int, seen: Seen = None) -> User:
    """Close an account: its sessions end, its name stays taken."""
    return change(work, user_id, UserPatch(is_active=False), seen)


def reset_password(work: Work, user_id: int, password: str) -> User:
    """Give a password that must be changed at the next sign-in; ends the sessions."""
    user = _somebody_else(work, user_id)
    secret = passwords.chosen(password, user.username, user.email, field="new_password")
    _rename_secret(work, user, secret, must_change=True)
    _record(work, Action.PASSWORD_RESET, user, _switched(user))
    return user


def reset_link(work: Work, user_id: int) -> tuple[User, str]:
    """Take the password away and return the token of a one-time set-up link."""
    user = _somebody_else(work, user_id)
    if not user.is_active:
        message = "This account is closed; open it before making a link."
        raise Conflict(message)
    _rename_secret(work, user, None, must_change=True)
    token = links.make(work, "setup", user.id)
    _record(work, Action.PASSWORD_RESET, user, _switched(user))
    return user, token


def set_up(work: Work, token: str, new: NewPassword) -> User:
    """Set one's password over a one-time link."""
    link = links.use(work, token, "setup")
    user = work.session.get(User, link.user_id, with_for_update=True)
    if user is None or not user.is_active:
        raise NotFound(links.SPENT)
    link.used_at = work.moment
    secret = passwords.chosen(new.password.get_secret_value(), user.username, user.email)
    _rename_secret(work, user, secret, must_change=False)
    work.actor = actors.actor_of(user, work.actor)
    _record(work, Action.SETUP_COMPLETED, user)
    return user


def complete_setup(work: Work, setup: Setup) -> User:
    """Change one's own password and e-mail address at the first sign-in.

    Who sees only some VMs keeps the address that an administrator gave: it says which are theirs.
    """
    work.actor.require(Permission.ACCOUNT)
    user = work.session.get(User, work.actor.user_id, with_for_update=True)
    if user is None or not user.must_change_password:
        raise Forbidden
    secret = setup.password.get_secret_value()
    if passwords.matches(secret, user.password_hash):
        raise Invalid({"password": ["must differ from the present one"]})
    if not work.actor.may(Permission.VM_READ_ALL) and fold(setup.email) != user.email_key:
        raise Invalid({"email": ["is not the one on record; an administrator can change that"]})
    user.email = setup.email
    if fold(setup.email) != user.email_key:
        user.awaits_email = False  # the administrator meant the person of the other address
    detail = audit.difference(user)
    user.derive()
    user.password_hash = passwords.chosen(secret, user.username, user.email)
    user.must_change_password = False
    user.updated_at = work.moment
    sessions.end_all(work, user.id, keep=work.actor.session_id)
    limits.forget(work, user.id)
    work.flush(_CONFLICTS)
    _record(work, Action.SETUP_COMPLETED, user, detail)
    return user


def change_password(work: Work, change: PasswordChange, checked: str | None) -> User:
    """Change one's own password; every other session and every link ends.

    The caller has found the present password right by the hash `checked`, and counted the tries.
    """
    work.actor.require(Permission.ACCOUNT)
    user = work.session.get(User, work.actor.user_id, with_for_update=True)
    if user is None or user.sign_in_method != "local":
        raise Forbidden(KEPT_ELSEWHERE)
    if not passwords.settle(work, user.id, change.current_password, checked or "", None):
        raise Invalid({"current_password": [NOT_PRESENT]})
    user.password_hash = passwords.chosen(
        change.new_password.get_secret_value(), user.username, user.email, field="new_password"
    )
    user.updated_at = work.moment
    sessions.end_all(work, user.id, keep=work.actor.session_id)
    links.end_all(work, user.id)
    limits.forget(work, user.id)
    _record(work, Action.PASSWORD_CHANGED, user)
    return user


def subscribe(work: Work, *, on: bool) -> User:
    """Turn one's own expiry notices on or off; no change leaves no event."""
    work.actor.require(Permission.ACCOUNT)
    user = work.session.get(User, work.actor.user_id, with_for_update=True)
    if user is None:
        raise Forbidden
    user.notify_expiry = on
    detail = audit.difference(user)
    if detail:
        user.updated_at = work.moment
        _record(work, Action.USER_UPDATE, user, detail)
    return user


def end_sessions(work: Work, user_id: int) -> int:
    """End all sessions of a user; returns how many these were."""
    user = _locked(work, user_id, None)
    number = sessions.count(work, user.id)
    if number:
        sessions.end_all(work, user.id)
        _record(work, Action.SESSIONS_ENDED, user, {"sessions": number})
    return number


def listed(actor: Actor) -> AnySelect:
    """All users as Core columns, by name."""
    actor.require(Permission.USERS)
    return select(*FIELDS, User.revision).order_by(User.username_key)


def every(session: Session, actor: Actor) -> list[dict[str, Any]]:
    """All users as the contract shows them, by name."""
    return [_shown(row._asdict()) for row in session.execute(listed(actor))]


def get(session: Session, actor: Actor, user_id: int) -> dict[str, Any]:
    """One user as the contract shows it, with its `revision`."""
    row = session.execute(listed(actor).where(User.id == user_id)).one_or_none()
    if row is None:
        raise NotFound
    return {**_shown(row._asdict()), "revision": row.revision}


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {column.key: audit.plain(row[column.key]) for column in FIELDS}


def shown(user: User) -> dict[str, Any]:
    """A loaded user as the contract shows it."""
    return {column.key: audit.plain(getattr(user, column.key)) for column in FIELDS}


def link_address(base_url: str, token: str) -> str:
    """The address of a set-up link. The token stands behind #, which no server ever logs."""
    return f"{base_url}/admin/setup#{token}"


def named(session: Session, username: str) -> User | None:
    return session.scalar(select(User).where(User.username_key == fold(username)))


def has_admin(session: Session) -> bool:
    """Whether there is an administrator, even one who still has to set a password."""
    admins = select(User.id).where(User.role == Role.ADMIN, User.is_active)
    return session.scalar(admins.limit(1)) is not None


def can_administer(session: Session) -> bool:
    """Whether there is an administrator who can sign in."""
    return administrators.any_can(session)


def first_link(work: Work) -> str | None:
    """The token of a link for the first administrator; None once there is one."""
    if has_admin(work.session):
        return None
    for link in work.session.scalars(select(OneTimeLink).where(OneTimeLink.purpose == "first")):
        link.used_at = link.used_at or work.moment
    return links.make(work, "first", None)


def _made(work: Work, username: str, email: str, role: Role, secret: str | None) -> User:
    user = User(
        username=username,
        email=email,
        role=role,
        password_hash=passwords.chosen(secret, username, email) if secret else None,
        is_active=True,
        must_change_password=True,
        notify_expiry=False,
        sign_in_method="local",
        created_at=work.moment,
        updated_at=work.moment,
    )
    user.derive()
    if "@" in user.username and user.username_key != user.email_key:
        # An owner is a user name or an e-mail address: nobody may be named as somebody else.
        raise Invalid({"username": ["must not be an e-mail address other than the user's own"]})
    work.session.add(user)
    return user


def _locked(work: Work, user_id: int, seen: Seen) -> User:
    work.actor.require(Permission.USERS)
    user = work.session.scalar(select(User).where(User.id == user_id).with_for_update())
    if user is None:
        raise NotFound
    if seen is not None and user.revision not in seen:
        raise Stale
    return user


def _somebody_else(work: Work, user_id: int) -> User:
    """Whose password the actor may reset. A change of one's own asks for the present one."""
    user = _locked(work, user_id, None)
    if user.id == work.actor.user_id:
        message = "Change your own password on the page of your account, or ask another admin."
        raise Conflict(message)
    return user


def _rename_secret(work: Work, user: User, secret: str | None, *, must_change: bool) -> None:
    """Give or take the password; who signed in over the provider no longer does."""
    user.password_hash, user.must_change_password = secret, must_change
    user.sign_in_method, user.is_guest = "local", False
    user.awaits_subject, user.awaits_email = None, False
    work.session.execute(delete(Identity).where(Identity.user_id == user.id))
    user.updated_at = work.moment
    sessions.end_all(work, user.id)
    links.end_all(work, user.id)
    limits.forget(work, user.id)


def _refuse_second_claim(work: Work, user: User) -> None:
    """Nobody awaits a sign-in that is theirs already or that another account awaits."""
    if user.awaits_subject is None and not user.awaits_email:
        return
    name = "awaits_email" if user.awaits_email else "awaits_subject"
    if user.sign_in_method != "local":
        message = "This account signs in over the provider already."
        raise Conflict(message, field=name)
    if user.awaits_subject is None:
        return
    with work.session.no_autoflush:
        same = select(User.id).where(
            User.awaits_subject == user.awaits_subject, User.id.is_distinct_from(user.id)
        )
        claimed = select(Identity.id).where(Identity.subject == user.awaits_subject)
        if work.session.scalar(same.limit(1)) or work.session.scalar(claimed.limit(1)):
            message = "Another account has this identifier."
            raise Conflict(message, field="awaits_subject")


def _switched(user: User) -> dict[str, Any]:
    """What a reset says beside that it happened: that the person no longer uses the provider."""
    changed = audit.difference(user)
    return {name: changed[name] for name in changed.keys() & {"sign_in_method"}}


def _keep_an_admin(work: Work, user: User) -> None:
    if user.role == Role.ADMIN and user.is_active:
        return
    if not administrators.others(work, user.id):
        message = "The last active admin stays admin and active."
        raise Conflict(message)


def _record(
    work: Work, action: Action, user: User, detail: Mapping[str, Any] | None = None
) -> None:
    work.flush(_CONFLICTS)
    trail.record(work, action, user, detail)
