"""Microsoft Entra ID: one tenant, whose people are known by `tid` and `oid`."""

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette

from tests.conftest import PEOPLE as LOCAL
from tests.conftest import Person
from tests.oidc import provider as providers
from tests.oidc.conftest import SQLITE, Visit, assert_refused, sessions_in, user_called
from tests.oidc.people import OTHER_TENANT, PEOPLE, TENANT
from tests.oidc.provider import Mischief, Provider
from vmtrak.access import SYSTEM, Actor, Permission
from vmtrak.accounts import UserPatch, actors, users
from vmtrak.accounts.models import Identity, User
from vmtrak.db import Database
from vmtrak.settings import Settings, load
from vmtrak.web.guard import PANEL_COOKIE

ADA, OTTO, GUEST = (PEOPLE[name] for name in ("ada", "otto", "guest"))


@pytest.fixture(scope="module")
def served() -> Iterator[Provider]:
    with providers.running(PEOPLE, TENANT) as provider:
        yield provider


@pytest.fixture
def settings(environment: dict[str, str], request: pytest.FixtureRequest) -> Settings:
    """A tenant, as in a national cloud whose host is this one; and what the test adds."""
    added: dict[str, str] = getattr(request, "param", {})
    return load({**environment, "VMTRAK_ENTRA_TENANT_ID": TENANT, **added}, None)


def identity_of(database: Database, user: User | None) -> tuple[str, str]:
    assert user is not None
    with database.read() as session:
        found = session.query(Identity).filter_by(user_id=user.id).one()
        return found.issuer, found.subject


def actor_in(app: Starlette, visit: Visit) -> Actor:
    state = app.state.vmtrak
    token = visit.vmtrak.cookies[PANEL_COOKIE]
    actor: Actor | None = actors.by_cookie(
        state.database, state.rules, token, actors.visitor(None, None)
    )
    assert actor is not None
    return actor


def test_a_person_of_the_tenant_is_its_oid_and_not_the_sub_of_this_client(
    visit: Visit, second_visit: Visit, database: Database, provider: Provider
) -> None:
    assert visit.sign_in().status_code == 303
    assert identity_of(database, user_called(database, ADA["email"])) == (TENANT, ADA["oid"])
    provider.people["ada"]["sub"] = "another client's pairwise sub"
    assert second_visit.sign_in().status_code == 303
    assert len({session.user_id for session in sessions_in(database)}) == 1


@SQLITE
def test_the_button_says_microsoft(visit: Visit) -> None:
    assert "Sign in with Microsoft" in visit.vmtrak.get("/admin/login").text


@SQLITE
@pytest.mark.parametrize("tid", [OTHER_TENANT, None, "", 7])
def test_a_person_of_another_tenant_stays_outside(
    visit: Visit, database: Database, provider: Provider, tid: object
) -> None:
    provider.mischief = Mischief(claims={"tid": tid})
    assert_refused(database, visit.sign_in(), "wrong_tenant")


@SQLITE
def test_a_token_of_another_tenants_issuer_is_refused(
    visit: Visit, database: Database, provider: Provider
) -> None:
    issuer = provider.issuer.replace(TENANT, OTHER_TENANT)
    provider.mischief = Mischief(claims={"iss": issuer, "tid": OTHER_TENANT})
    assert_refused(database, visit.sign_in(), "wrong_issuer")


@SQLITE
def test_metadata_for_every_tenant_are_refused(
    visit: Visit, database: Database, provider: Provider
) -> None:
    """What `common` and `organizations` answer is no issuer that a token could have."""
    issuer = provider.issuer.replace(TENANT, "{tenantid}")
    provider.mischief = Mischief(metadata={"issuer": issuer})
    response = visit.vmtrak.get("/api/auth/microsoft")
    assert_refused(database, response, "provider_unreadable")


@SQLITE
def test_who_has_no_oid_stays_outside(visit: Visit, database: Database, provider: Provider) -> None:
    provider.mischief = Mischief(claims={"oid": None})
    assert_refused(database, visit.sign_in(), "token_incomplete")


@SQLITE
@pytest.mark.parametrize(("late", "status"), [(300, 303), (420, 400)])
def test_entra_dates_its_tokens_back_a_little(
    visit: Visit, provider: Provider, late: int, status: int
) -> None:
    issued = int(provider.now()) - late
    provider.mischief = Mischief(claims={"iat": issued, "nbf": issued})
    assert visit.sign_in().status_code == status


@SQLITE
@pytest.mark.parametrize("skew", [-120, 120])
def test_clocks_two_minutes_apart_are_noticed_in_spite_of_that(
    visit: Visit, database: Database, provider: Provider, skew: float
) -> None:
    provider.mischief.skew = skew
    assert_refused(database, visit.sign_in(), "clocks_differ")


def test_an_account_awaits_its_person_by_the_exact_oid(
    visit: Visit, database: Database, people: dict[str, Person]
) -> None:
    with database.work(SYSTEM) as work:
        users.change(work, people["reader"].user_id, UserPatch(awaits_subject=OTTO["oid"]))
    assert visit.sign_in("otto").status_code == 303
    (session,) = sessions_in(database)
    assert session.user_id == people["reader"].user_id


def test_an_account_awaits_its_person_by_the_address_in_the_tenant_once(
    visit: Visit, second_visit: Visit, database: Database, provider: Provider, reader: Person
) -> None:
    with database.work(SYSTEM) as work:
        users.change(work, reader.user_id, UserPatch(awaits_email=True))
    provider.people["otto"]["email"] = LOCAL["reader"]["email"]
    assert visit.sign_in("otto").status_code == 303
    assert sessions_in(database)[-1].user_id == reader.user_id
    provider.people["otto"]["oid"] = "a1a1a1a1-0000-4000-8000-0000000000ff"
    assert second_visit.sign_in("otto").status_code == 403
    assert len(sessions_in(database)) == 1


def test_a_guest_claims_no_account_by_an_address(
    visit: Visit, database: Database, provider: Provider, reader: Person
) -> None:
    """The address of a guest is what their own tenant says, which may be anything."""
    with database.work(SYSTEM) as work:
        users.change(work, reader.user_id, UserPatch(awaits_email=True))
    provider.people["guest"] |= {
        "email": LOCAL["reader"]["email"],
        "preferred_username": LOCAL["reader"]["email"],
    }
    visit.sign_in("guest")
    assert reader.user_id not in {session.user_id for session in sessions_in(database)}
    with database.read() as session:
        assert session.get_one(User, reader.user_id).awaits_email


def test_a_guest_may_not_reveal_credentials(visit: Visit, app: Starlette) -> None:
    assert visit.sign_in("guest").status_code == 303
    actor = actor_in(app, visit)
    assert (actor.role, actor.is_guest) == ("readwrite", True)
    assert actor.may(Permission.VM_WRITE)
    assert not actor.may(Permission.CREDENTIAL_REVEAL)
    assert not actor.may(Permission.RDP)


@pytest.mark.parametrize(
    "settings", [{"VMTRAK_OIDC_GUESTS_REVEAL": "on"}], indirect=True, ids=["setting on"]
)
def test_a_guest_may_reveal_credentials_if_the_settings_say_so(
    visit: Visit, app: Starlette
) -> None:
    assert visit.sign_in("guest").status_code == 303
    assert actor_in(app, visit).may(Permission.CREDENTIAL_REVEAL)


def test_a_member_of_the_tenant_is_no_guest(
    visit: Visit, app: Starlette, provider: Provider
) -> None:
    provider.people["otto"]["acct"] = 0
    assert visit.sign_in("otto").status_code == 303
    actor = actor_in(app, visit)
    assert not actor.is_guest
    assert actor.may(Permission.CREDENTIAL_REVEAL)


def test_who_was_a_guest_is_one_no_more_after_the_next_sign_in(
    visit: Visit, app: Starlette, provider: Provider
) -> None:
    visit.sign_in("guest")
    provider.people["guest"]["acct"] = 0
    visit.sign_in("guest")
    assert not actor_in(app, visit).is_guest
