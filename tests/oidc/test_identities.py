"""Whose account it is that a provider's person comes to, and what they get in it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from threading import Barrier, Thread

import pytest
from sqlalchemy import select
from starlette.applications import Starlette

from tests.conftest import PASSWORD, Person, anonymous_client
from tests.oidc.conftest import sessions_in, trail
from vmtrak import audit
from vmtrak.access import SYSTEM, Permission, Role
from vmtrak.accounts import (
    ApiToken,
    Identity,
    NewToken,
    NewUser,
    User,
    UserPatch,
    actors,
    api_tokens,
    identities,
    links,
    sessions,
    users,
)
from vmtrak.audit import Action
from vmtrak.db import Database, Work, now
from vmtrak.errors import Conflict, Refusal, SignInRefused

TENANT = "6f1c9e0a-3b52-4a7e-9d1f-2c8b5e7a4d30"
VISITOR = actors.visitor("127.0.0.9", "request")

GRACE = identities.Person(
    issuer=TENANT,
    subject="a1a1a1a1-0000-4000-8000-0000000000aa",
    username="grace@corp.example",
    email="grace@corp.example",
    vouched=("grace@corp.example", "grace.hopper@corp.example"),
    role=Role.READWRITE,
    is_guest=False,
    proof=sessions.Proof("microsoft", None, "sid-1"),
)
GUEST = replace(
    GRACE,
    subject="guest",
    username="grace-1f2e3d4c",
    email="grace-1f2e3d4c@unverified.example",
    vouched=(),
    is_guest=True,
)


def enter(database: Database, person: identities.Person = GRACE, before: int | None = None) -> str:
    """Sign in as the doors do."""
    with database.work(VISITOR) as work:
        return identities.start_panel(work, person, "tests", before)


def refused(database: Database, person: identities.Person) -> SignInRefused:
    with pytest.raises(SignInRefused) as caught:
        enter(database, person)
    with database.work(VISITOR) as work:
        identities.note_refusal(work, caught.value)
    return caught.value


def account(database: Database, username: str = GRACE.username) -> User:
    with database.read() as session:
        user = users.named(session, username)
    assert user is not None
    return user


def changed(database: Database, username: str, change: Callable[[Work, User], object]) -> None:
    with database.work(SYSTEM) as work:
        user = users.named(work.session, username)
        assert user is not None
        change(work, user)


def local(database: Database, **marks: object) -> User:
    """A local account of grace's, as an administrator made and marked it."""
    fields = {"username": "grace", "email": "Grace@Corp.example", "role": "read", **marks}
    with database.work(SYSTEM) as work:
        new = NewUser.model_validate({**fields, "password": PASSWORD})
        made = users.add(work, new)
    return account(database, made.username)


def awaiting(database: Database, **marks: object) -> User:
    user = local(database)
    with database.work(SYSTEM) as work:
        users.change(work, user.id, UserPatch.model_validate(marks))
    return account(database, user.username)


# Somebody new


def test_a_new_person_with_a_role_gets_an_account(database: Database) -> None:
    enter(database)
    user = account(database)
    assert (user.email, user.role, user.sign_in_method) == (GRACE.email, "readwrite", "microsoft")
    assert user.password_hash is None
    assert not user.must_change_password
    with database.read() as session:
        identity = session.scalars(select(Identity)).one()
    assert (identity.user_id, identity.issuer, identity.subject) == (
        user.id,
        TENANT,
        GRACE.subject,
    )
    [made] = [event for event in trail(database, Action.USER_CREATE) if event.entity_id == user.id]
    assert made.username == GRACE.username
    [begun] = sessions_in(database)
    assert (begun.user_id, begun.method, begun.provider_sid) == (user.id, "microsoft", "sid-1")
    assert begun.proved_at is None


def test_nobody_can_sign_in_to_such_an_account_with_a_password(
    database: Database, app: Starlette
) -> None:
    enter(database)
    for password in ("", PASSWORD):
        answer = anonymous_client(app).post(
            "/api/auth/login", json={"username": GRACE.username, "password": password}
        )
        assert answer.status_code == 401


def test_a_person_without_a_role_gets_no_account(database: Database) -> None:
    error = refused(database, replace(GRACE, role=None))
    assert error.reason == Refusal.NO_ROLE
    with database.read() as session:
        assert users.named(session, GRACE.username) is None
    [event] = trail(database, Action.LOGIN_FAILED)
    assert event.detail == {
        "reason": "no_role",
        "subject": GRACE.subject,
        "claimed_name": GRACE.username,
    }


@pytest.mark.parametrize("address", ["grace@corp.example", "GRACE.Hopper@corp.example"])
def test_an_address_that_another_account_has_gives_nobody_that_account(
    database: Database, address: str
) -> None:
    before = local(database, email=address)
    error = refused(database, GRACE)
    assert (error.reason, error.username) == (Refusal.TAKEN, "grace")
    after = account(database, "grace")
    assert (after.revision, after.password_hash) == (before.revision, before.password_hash)
    assert sessions_in(database) == []


def test_the_same_subject_of_another_issuer_is_somebody_else(database: Database) -> None:
    enter(database)
    error = refused(database, replace(GRACE, issuer="https://login.example.org"))
    assert error.reason == Refusal.TAKEN
    enter(database, replace(GUEST, issuer="https://login.example.org"))
    assert account(database, GUEST.username).id != account(database).id


# Somebody known


def test_a_known_person_comes_back_under_any_name_and_address(database: Database) -> None:
    enter(database)
    elsewhere = replace(
        GRACE, username="other@corp.example", email="other@corp.example", vouched=()
    )
    enter(database, elsewhere)
    user = account(database)
    assert (user.username, user.email) == (GRACE.username, GRACE.email)
    assert {each.user_id for each in sessions_in(database)} == {user.id}


def test_nobody_takes_over_an_account_by_its_address(database: Database) -> None:
    enter(database)
    error = refused(database, replace(GRACE, subject="an impostor"))
    assert (error.reason, error.username) == (Refusal.TAKEN, GRACE.username)


def test_the_role_is_taken_anew_at_each_sign_in_and_counts_for_every_session(
    database: Database, app: Starlette
) -> None:
    token = enter(database)
    enter(database, replace(GRACE, role=Role.READ))
    assert account(database).role == "read"
    actor = actors.by_cookie(database, app.state.vmtrak.rules, token, VISITOR)
    assert actor is not None
    assert not actor.may(Permission.VM_WRITE)
    [event] = trail(database, Action.USER_UPDATE)
    assert event.detail == {"role": {"from": "readwrite", "to": "read"}}
    assert event.username == GRACE.username


def test_a_sign_in_that_changes_nothing_leaves_no_change_in_the_trail(database: Database) -> None:
    enter(database)
    before = account(database).revision
    enter(database)
    assert account(database).revision == before
    assert trail(database, Action.USER_UPDATE) == []


def test_who_lost_every_role_does_not_get_in_and_is_signed_out_everywhere(
    database: Database,
) -> None:
    enter(database)
    error = refused(database, replace(GRACE, role=None))
    assert (error.reason, error.username) == (Refusal.NO_ROLE, GRACE.username)
    assert [each.ended_at is not None for each in sessions_in(database)] == [True]
    [event] = trail(database, Action.LOGIN_FAILED)
    assert (event.entity_id, event.entity_name) == (account(database).id, GRACE.username)


def test_a_closed_account_stays_closed(database: Database) -> None:
    enter(database)
    changed(database, GRACE.username, lambda work, user: users.deactivate(work, user.id))
    assert refused(database, GRACE).reason == Refusal.CLOSED


def test_the_last_administrator_stays_one_and_does_not_get_in_with_less(
    database: Database,
) -> None:
    grace = replace(GRACE, role=Role.ADMIN)
    enter(database, grace)
    changed(database, "ada", lambda work, user: users.deactivate(work, user.id))
    assert refused(database, replace(grace, role=Role.READ)).reason == Refusal.LAST_ADMIN
    assert account(database).role == "admin"
    assert [each.ended_at is not None for each in sessions_in(database)] == [True]
    enter(database, grace)


def test_of_two_administrators_demoted_at_once_one_stays(database: Database) -> None:
    people = [
        replace(GRACE, role=Role.ADMIN),
        replace(GUEST, role=Role.ADMIN, is_guest=False),
    ]
    for person in people:
        enter(database, person)
    changed(database, "ada", lambda work, user: users.deactivate(work, user.id))
    together, outcomes = Barrier(2), []

    def demote(person: identities.Person) -> None:
        together.wait()
        try:
            enter(database, replace(person, role=Role.READ))
            outcomes.append("in")
        except SignInRefused as error:
            outcomes.append(error.reason)

    threads = [Thread(target=demote, args=[person]) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["in", Refusal.LAST_ADMIN]


# Guests


def test_a_guest_never_reveals_unless_the_setting_says_so(
    database: Database, app: Starlette
) -> None:
    token = enter(database, GUEST)
    rules = app.state.vmtrak.rules
    for allowed in (False, True):
        chosen = replace(rules, guests_reveal=allowed)
        actor = actors.by_cookie(database, chosen, token, VISITOR)
        assert actor is not None
        assert actor.is_guest
        assert actor.may(Permission.VM_WRITE)
        assert actor.may(Permission.CREDENTIAL_REVEAL) is allowed
        assert actor.may(Permission.RDP) is allowed


def test_who_is_no_guest_any_more_may_reveal_from_the_next_sign_in_on(database: Database) -> None:
    enter(database, GUEST)
    enter(database, replace(GUEST, is_guest=False))
    assert not account(database, GUEST.username).is_guest


# Accounts that await their person


@pytest.mark.parametrize("marks", [{"awaits_subject": GRACE.subject}, {"awaits_email": True}])
def test_an_account_that_awaits_its_person_is_claimed_once(
    database: Database, marks: dict[str, object]
) -> None:
    before = awaiting(database, **marks)
    with database.work(VISITOR) as work:
        sessions.sign_in_panel(work, before.id, "tests")
        link = links.make(work, "setup", before.id)
    enter(database)
    user = account(database, "grace")
    assert (user.id, user.email, user.role) == (before.id, before.email, "readwrite")
    assert (user.sign_in_method, user.password_hash) == ("microsoft", None)
    assert (user.awaits_subject, user.awaits_email, user.must_change_password) == (
        None,
        False,
        False,
    )
    assert links.find(database, link) == (None, None)
    assert [each.ended_at is None for each in sessions_in(database)] == [False, True]
    [event] = trail(database, Action.USER_LINKED)
    assert event.detail is not None
    assert event.detail["sign_in_method"] == {"from": "local", "to": "microsoft"}
    assert event.detail["password_hash"] == {"from": "•••", "to": "•••"}

    enter(database)
    assert len(trail(database, Action.USER_LINKED)) == 1
    assert refused(database, replace(GRACE, subject="another")).reason == Refusal.TAKEN


def test_an_api_token_of_before_does_not_act_in_the_name_of_who_claims_the_account(
    database: Database,
) -> None:
    user = awaiting(database, awaits_email=True)
    new = NewToken.model_validate({"name": "kept for later", "scopes": ["inventory:read"]})
    with database.work(SYSTEM) as work:
        token, _ = api_tokens.add_for(work, user.id, new)
    enter(database)
    with database.read() as session:
        assert session.get_one(ApiToken, token.id).revoked_at is not None
    [event] = trail(database, Action.TOKEN_REVOKE)
    assert event.entity_id == token.id


def test_an_account_is_not_claimed_by_another_identifier(database: Database) -> None:
    awaiting(database, awaits_subject=GRACE.subject)
    assert refused(database, replace(GRACE, subject=GRACE.subject.upper())).reason == Refusal.TAKEN
    assert account(database, "grace").sign_in_method == "local"


def test_an_account_that_awaits_an_identifier_is_not_claimed_by_its_address(
    database: Database,
) -> None:
    user = awaiting(database, awaits_subject="somebody else")
    with database.work(SYSTEM) as work:
        both = work.session.get_one(User, user.id)
        both.awaits_email = True
        audit.record(work, Action.USER_UPDATE, entity_type="user", entity=both)
    assert refused(database, GRACE).reason == Refusal.TAKEN


def test_an_address_that_nobody_vouches_for_claims_nothing(database: Database) -> None:
    awaiting(database, awaits_email=True)
    enter(database, GUEST)
    assert account(database, "grace").sign_in_method == "local"
    assert account(database, GUEST.username).sign_in_method == "microsoft"


def test_two_accounts_that_await_one_person_by_address_are_claimed_by_nobody(
    database: Database,
) -> None:
    awaiting(database, awaits_email=True)
    other = {"username": "hopper", "email": GRACE.vouched[1], "role": "read"}
    with database.work(SYSTEM) as work:
        made = users.add(work, NewUser.model_validate({**other, "password": PASSWORD}))
        users.change(work, made.id, UserPatch.model_validate({"awaits_email": True}))
    assert refused(database, GRACE).reason == Refusal.TAKEN
    assert trail(database, Action.USER_LINKED) == []


def test_without_a_role_nothing_is_claimed(database: Database) -> None:
    before = awaiting(database, awaits_email=True)
    assert refused(database, replace(GRACE, role=None)).reason == Refusal.NO_ROLE
    assert account(database, "grace").revision == before.revision


def test_who_may_not_claim_an_account_does_not_end_its_sessions(database: Database) -> None:
    user = awaiting(database, awaits_email=True)
    with database.work(VISITOR) as work:
        sessions.sign_in_panel(work, user.id, "tests")
    assert refused(database, replace(GRACE, role=None)).reason == Refusal.NO_ROLE
    assert [each.ended_at for each in sessions_in(database)] == [None]


def test_a_closed_account_is_not_claimed(database: Database) -> None:
    awaiting(database, awaits_subject=GRACE.subject)
    changed(database, "grace", lambda work, user: users.deactivate(work, user.id))
    assert refused(database, GRACE).reason == Refusal.CLOSED
    assert account(database, "grace").sign_in_method == "local"


def test_who_is_known_already_claims_no_second_account(database: Database) -> None:
    enter(database, replace(GUEST, subject=GRACE.subject))
    awaiting(database, awaits_email=True)
    enter(database)
    assert account(database, "grace").sign_in_method == "local"
    assert trail(database, Action.USER_LINKED) == []


def test_two_first_sign_ins_at_once_make_one_account(database: Database) -> None:
    together, outcomes = Barrier(2), []

    def first() -> None:
        together.wait()
        try:
            enter(database)
        except Conflict:
            enter(database)  # as the door does
        outcomes.append("in")

    threads = [Thread(target=first) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["in", "in"]
    with database.read() as session:
        assert len(session.scalars(select(Identity)).all()) == 1
    assert len(sessions_in(database)) == 2


# Sessions


def test_the_browsers_session_of_before_ends(database: Database, reader: Person) -> None:
    with database.work(VISITOR) as work:
        sessions.sign_in_panel(work, reader.user_id, "tests")
    [old] = sessions_in(database)
    enter(database, before=old.id)
    old, new = sessions_in(database)
    assert old.ended_at is not None
    assert (new.user_id, new.ended_at) == (account(database).id, None)
    [event] = trail(database, Action.LOGOUT)
    assert event.user_id == reader.user_id
    [event] = trail(database, Action.LOGIN)[1:]
    assert event.username == GRACE.username


def test_who_proves_again_goes_on_in_a_renewed_session(database: Database, app: Starlette) -> None:
    old_token = enter(database)
    [old] = sessions_in(database)
    moment = now() - timedelta(seconds=1)
    person = replace(GRACE, proof=sessions.Proof("microsoft", moment, "sid-1"))
    with database.work(VISITOR) as work:
        token = identities.prove(work, person, old.id)
    rules = app.state.vmtrak.rules
    assert actors.by_cookie(database, rules, old_token, VISITOR) is None
    actor = actors.by_cookie(database, rules, token, VISITOR)
    assert actor is not None
    assert actor.proved_at is not None
    assert now() - actor.proved_at < timedelta(minutes=1)
    [event] = trail(database, Action.PROVED)
    assert (event.username, event.detail) == (GRACE.username, {"method": "microsoft"})


@pytest.mark.parametrize(
    ("person", "reason"),
    [
        (GUEST, Refusal.SOMEBODY_ELSE),
        (replace(GRACE, subject="nobody"), Refusal.SOMEBODY_ELSE),
        (replace(GRACE, role=None), Refusal.NO_ROLE),
    ],
)
def test_nobody_proves_who_is_in_somebody_elses_session(
    database: Database, person: identities.Person, reason: Refusal
) -> None:
    enter(database, GUEST)
    enter(database)
    own = sessions_in(database)[-1]
    with pytest.raises(SignInRefused) as caught, database.work(VISITOR) as work:
        identities.prove(work, person, own.id)
    assert caught.value.reason == reason
    with database.work(VISITOR) as work:
        identities.note_refusal(work, caught.value, own.id)
    [event] = trail(database, Action.PROOF_FAILED)
    assert event.username == GRACE.username
    assert event.detail is not None
    assert event.detail["reason"] == reason
    assert trail(database, Action.PROVED) == []


def test_a_session_that_has_ended_cannot_be_proved(database: Database) -> None:
    enter(database)
    [own] = sessions_in(database)
    with database.work(SYSTEM) as work:
        sessions.end_all(work, own.user_id)
    with pytest.raises(SignInRefused) as caught, database.work(VISITOR) as work:
        identities.prove(work, GRACE, own.id)
    assert caught.value.reason == Refusal.SESSION_ENDED


def test_a_sign_out_at_the_provider_ends_the_sessions_that_began_there(
    database: Database,
) -> None:
    enter(database)
    enter(database, replace(GRACE, proof=sessions.Proof("microsoft", None, "sid-2")))
    with database.work(VISITOR) as work:
        assert identities.sign_out(work, "sid-1") == 1
        assert identities.sign_out(work, "no such") == 0
    assert [each.ended_at is None for each in sessions_in(database)] == [False, True]
    [event] = trail(database, Action.LOGOUT)
    assert (event.username, event.ip_address) == (GRACE.username, "127.0.0.9")
    with database.work(VISITOR) as work:
        assert identities.sign_out(work, "sid-1") == 0
