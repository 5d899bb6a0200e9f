"""Who a person that an OIDC provider vouches for is to us.

A person is the provider's own identifier, never an e-mail address or a name: those change hands.
The one exception is an account that an administrator marked as awaiting its person's first
sign-in over the provider.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy import or_, select

from vmtrak import audit
from vmtrak.access import Actor, Role
from vmtrak.accounts import actors, administrators, api_tokens, links, sessions, trail
from vmtrak.accounts.models import Identity, SignedIn, User
from vmtrak.accounts.sessions import Proof
from vmtrak.audit import Action
from vmtrak.db import Work
from vmtrak.errors import Conflict, Refusal, SignInRefused
from vmtrak.fields import fold

_TOLD_AGAIN = frozenset({Refusal.NO_ROLE, Refusal.LAST_ADMIN})
"""Refusals by which the provider takes back what it said at an earlier sign-in."""

_MEANWHILE = Conflict("Another sign-in was faster; try again.")
_CONFLICTS = MappingProxyType(
    {
        "uq_users_username_key": _MEANWHILE,
        "uq_users_email_key": _MEANWHILE,
        "uq_identities_issuer_subject": _MEANWHILE,
        "uq_identities_user_id": _MEANWHILE,
    }
)


@dataclass(frozen=True, slots=True)
class Person:
    """What a provider says of somebody, as far as it can be trusted.

    `issuer` and `subject` are as in `Identity`. `vouched` are the e-mail addresses that are
    certainly theirs; `username` and `email` are for a new account. Without `role` nobody gets in.
    """

    issuer: str
    subject: str
    username: str
    email: str
    vouched: tuple[str, ...]
    role: Role | None
    is_guest: bool
    proof: Proof


def admit(work: Work, person: Person) -> User:
    """The person's account, with the role that the provider gives them now.

    A first sign-in claims the account that awaits it, or makes one. Raises `SignInRefused`, and
    `Conflict` where another sign-in of the same person was faster: then the next attempt works.
    """
    user, linked = _known(work, person), True
    if user is None:
        user, linked = _awaiting(work, person), False
    if user is None:
        return _added(work, person)
    return _taken_anew(work, person, user) if linked else _claimed(work, person, user)


def _known(work: Work, person: Person) -> User | None:
    same = (Identity.issuer == person.issuer, Identity.subject == person.subject)
    return work.session.scalar(
        select(User).join(Identity, Identity.user_id == User.id).where(*same)
    )


def _awaiting(work: Work, person: Person) -> User | None:
    """The account that awaits this very person; by e-mail only if just one does."""
    exactly = select(User).where(User.awaits_subject == person.subject)
    found = work.session.scalar(exactly)
    if found is not None or not person.vouched:
        return found
    by_email = select(User).where(
        User.awaits_email,
        User.awaits_subject.is_(None),
        User.email_key.in_([fold(address) for address in person.vouched]),
    )
    candidates = work.session.scalars(by_email).all()
    return candidates[0] if len(candidates) == 1 else None


def _taken_anew(work: Work, person: Person, user: User) -> User:
    _entitle(work, person, user)
    if user.sign_in_method == "local":  # meanwhile an administrator gave a password
        raise Conflict(str(_MEANWHILE))
    _record(work, Action.USER_UPDATE, user)
    return user


def _claimed(work: Work, person: Person, user: User) -> User:
    """Hand the account over to its person; every other way into it ends."""
    _entitle(work, person, user)
    if user.awaits_subject != person.subject and not user.awaits_email:
        raise Conflict(str(_MEANWHILE))
    user.sign_in_method, user.password_hash, user.must_change_password = "microsoft", None, False
    user.awaits_subject, user.awaits_email = None, False
    sessions.end_all(work, user.id)
    links.end_all(work, user.id)
    _identify(work, person, user)
    _record(work, Action.USER_LINKED, user)
    api_tokens.end_all(work, user.id)
    return user


def _added(work: Work, person: Person) -> User:
    if person.role is None:
        raise _refused(Refusal.NO_ROLE, person)
    names = [fold(name) for name in (person.username, person.email, *person.vouched)]
    taken = select(User).where(or_(User.username_key.in_(names), User.email_key.in_(names)))
    other = work.session.scalars(taken.limit(1)).first()
    if other is not None:
        raise _refused(Refusal.TAKEN, person, other)
    user = _made(work, person, person.role)
    work.session.add(user)
    work.flush(_CONFLICTS)
    _identify(work, person, user)
    _record(work, Action.USER_CREATE, user, audit.snapshot(user))
    return user


def _made(work: Work, person: Person, role: Role) -> User:
    user = User(
        username=person.username,
        email=person.email,
        role=role,
        is_active=True,
        must_change_password=False,
        notify_expiry=False,
        sign_in_method="microsoft",
        awaits_email=False,
        is_guest=person.is_guest,
        second_factor_required=False,
        has_second_factor=False,
        created_at=work.moment,
        updated_at=work.moment,
    )
    user.derive()
    return user


def _entitle(work: Work, person: Person, user: User) -> None:
    """Give the account the role of this moment, unless nobody could administer VMTrak then."""
    if user.role == Role.ADMIN and person.role != Role.ADMIN:
        administrators.lock(work)
    work.session.refresh(user, with_for_update=True)
    if not user.is_active:
        raise _refused(Refusal.CLOSED, person, user)
    if person.role is None:
        raise _refused(Refusal.NO_ROLE, person, user)
    demoted = user.role == Role.ADMIN and person.role != Role.ADMIN
    if demoted and not administrators.others(work, user.id):
        raise _refused(Refusal.LAST_ADMIN, person, user)
    user.role, user.is_guest = person.role, person.is_guest


def _identify(work: Work, person: Person, user: User) -> None:
    work.session.add(
        Identity(
            user_id=user.id,
            issuer=person.issuer,
            subject=person.subject,
            created_at=work.moment,
        )
    )


def _record(
    work: Work, action: Action, user: User, detail: Mapping[str, Any] | None = None
) -> None:
    """Record what was done to the account, in the name of its person; nothing if nothing was."""
    changes = detail or audit.difference(user)
    work.actor = actors.actor_of(user, work.actor)
    if not changes:
        return
    user.updated_at = work.moment
    work.flush(_CONFLICTS)
    trail.record(work, action, user, changes)


def start_panel(work: Work, person: Person, agent: str | None, before: int | None) -> str:
    """Admit the person and start a panel session; returns the token for its cookie.

    `before` is the session that the browser had; it ends.
    """
    user = admit(work, person)
    work.actor = _actor_of_session(work, before) or work.actor
    return sessions.sign_in_panel(work, user.id, agent, person.proof)


def prove(work: Work, person: Person, session_id: int) -> str:
    """Renew a panel session whose person has just signed in again; returns its new token."""
    actor = _actor_of_session(work, session_id)
    if actor is None:
        raise _refused(Refusal.SESSION_ENDED, person)
    known = _known(work, person)
    if known is None or known.id != actor.user_id:
        raise _refused(Refusal.SOMEBODY_ELSE, person)
    if person.role is None:
        raise _refused(Refusal.NO_ROLE, person, known)
    work.actor = actor
    audit.record(
        work,
        Action.PROVED,
        entity_type="auth",
        entity_id=actor.user_id,
        entity_name=actor.username,
        detail={"method": "microsoft"},
    )
    sessions.proved(work)
    return sessions.renew_panel(work)


def note_refusal(work: Work, refused: SignInRefused, session_id: int | None = None) -> None:
    """Record that somebody did not get in, or did not prove who they are in this session.

    Where the provider takes a role back, the person's sessions end; those of an account that still
    awaits its person do not.
    """
    actor = _actor_of_session(work, session_id)
    work.actor = actor or work.actor
    audit.record(
        work,
        Action.PROOF_FAILED if actor else Action.LOGIN_FAILED,
        entity_type="auth",
        entity_id=refused.user_id,
        entity_name=refused.username,
        detail={"reason": refused.reason.value, **refused.about},
    )
    if refused.reason in _TOLD_AGAIN and refused.user_id is not None:
        user = work.session.get_one(User, refused.user_id)
        if user.sign_in_method != "local":
            sessions.end_all(work, user.id)


def sign_out(work: Work, provider_sid: str) -> int:
    """End the sessions that began with this session at the provider; returns how many."""
    found = work.session.execute(
        select(SignedIn, User)
        .join(User, User.id == SignedIn.user_id)
        .where(SignedIn.provider_sid == provider_sid, SignedIn.ended_at.is_(None))
        .with_for_update(of=SignedIn)
    ).all()
    visitor = work.actor
    for session, user in found:
        session.ended_at = work.moment
        work.actor = actors.actor_of(user, visitor, session.id)
        detail = {"reason": "signed out at the provider"}
        audit.record(work, Action.LOGOUT, entity_type="auth", entity_id=user.id, detail=detail)
    return len(found)


def _actor_of_session(work: Work, session_id: int | None) -> Actor | None:
    """Whose panel session this is, if it still works."""
    if session_id is None:
        return None
    found = work.session.execute(
        select(SignedIn, User)
        .join(User, User.id == SignedIn.user_id)
        .where(
            SignedIn.id == session_id,
            SignedIn.kind == "panel",
            SignedIn.ended_at.is_(None),
            SignedIn.expires_at > work.moment,
            User.is_active,
        )
    ).one_or_none()
    return actors.actor_of(found[1], work.actor, found[0].id) if found else None


def _refused(reason: Refusal, person: Person, user: User | None = None) -> SignInRefused:
    """With what an administrator needs to let the person in: their identifier at the provider."""
    about = {"subject": person.subject, "claimed_name": person.username}
    if user is None:
        return SignInRefused(reason, about=about)
    return SignInRefused(reason, user_id=user.id, username=user.username, about=about)
