"""From the button to the panel, and what a browser and the provider are told on the way."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.conftest import BASE_URL, PASSWORD, Later, Person, anonymous_client
from tests.oidc.conftest import (
    CLIENT_ID,
    SQLITE,
    Visit,
    assert_refused,
    new_cookies,
    registered,
    sessions_in,
    trail,
    user_called,
)
from tests.oidc.people import PEOPLE
from tests.oidc.provider import Client, Mischief, Provider
from tests.oidc.visitor import query_of
from tests.services import free_port
from vmtrak import app as application
from vmtrak.audit import Action
from vmtrak.db import Database
from vmtrak.settings import load
from vmtrak.web.guard import PANEL_COOKIE, REFRESH_COOKIE

ADA = PEOPLE["ada"]
FLOW = "vmtrak_oidc_"


@pytest.fixture
def without_provider(environment: dict[str, str], provider: Provider) -> Iterator[Starlette]:
    """VMTrak where nobody has set up a provider."""
    kept = {name: value for name, value in environment.items() if "OIDC" not in name}
    made = application.build(load(kept, None))
    yield made
    made.state.vmtrak.database.close()


def test_a_person_whom_the_provider_knows_comes_in(
    visit: Visit, database: Database, provider: Provider
) -> None:
    response = visit.sign_in()
    assert (response.status_code, response.headers["location"]) == (303, "/admin/")
    assert new_cookies(response) == [PANEL_COOKIE]
    assert visit.signed_in
    user = user_called(database, ADA["email"])
    assert user is not None
    assert (user.role, user.sign_in_method, user.password_hash) == ("admin", "microsoft", None)
    (session,) = sessions_in(database)
    (seat,) = provider.seats.values()
    assert (session.user_id, session.kind, session.method) == (user.id, "panel", "microsoft")
    assert session.provider_sid == seat.sid
    assert session.proved_at == datetime.fromtimestamp(int(seat.since), UTC)


def test_the_trail_tells_of_the_new_account_and_of_the_sign_in(
    visit: Visit, database: Database
) -> None:
    visit.sign_in()
    (made,) = trail(database, Action.USER_CREATE)[-1:]
    (login,) = trail(database, Action.LOGIN)
    user = user_called(database, ADA["email"])
    assert user is not None
    assert (made.entity_id, made.username) == (user.id, user.username)
    assert (login.user_id, login.entity_name, login.ip_address) == (
        user.id,
        user.username,
        "127.0.0.1",
    )


@SQLITE
def test_the_way_to_the_provider_carries_what_binds_the_answer_to_this_browser(
    visit: Visit, provider: Provider
) -> None:
    first, second = (query_of(visit.start()) for _ in range(2))
    assert first["redirect_uri"] == registered(BASE_URL).redirect_uri
    assert (first["response_type"], first["code_challenge_method"]) == ("code", "S256")
    assert set(first["scope"].split()) == {"openid", "profile", "email"}
    for name in ("state", "nonce", "code_challenge"):
        assert len(first[name]) >= 43
        assert first[name] != second[name]


@SQLITE
def test_the_redirect_uri_is_the_one_of_the_settings_whatever_the_browser_says(
    visit: Visit,
) -> None:
    forged = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    response = visit.vmtrak.get("/api/auth/microsoft", headers=forged)
    assert query_of(response.headers["location"])["redirect_uri"].startswith(f"{BASE_URL}/")


@SQLITE
def test_the_cookie_of_a_flow_goes_to_no_script_and_nowhere_else(visit: Visit) -> None:
    response = visit.vmtrak.get("/api/auth/microsoft")
    (line,) = response.headers.get_list("set-cookie")
    parts = {part.strip().lower() for part in line.split(";")}
    assert line.startswith(FLOW)
    assert {"httponly", "samesite=lax", "path=/api/auth/microsoft", "max-age=600"} <= parts
    assert query_of(response.headers["location"])["nonce"] not in line
    assert "no-store" in response.headers["cache-control"]


@SQLITE
def test_the_flow_ends_with_its_cookie(visit: Visit) -> None:
    visit.sign_in()
    assert not [name for name in visit.vmtrak.cookies if name.startswith(FLOW)]


@SQLITE
def test_a_refused_flow_ends_with_its_cookie_too(visit: Visit) -> None:
    visit.come_back(visit.surfer.sign_in(visit.start(), consent="cancel"))
    assert not [name for name in visit.vmtrak.cookies if name.startswith(FLOW)]


@pytest.mark.parametrize(
    ("wanted", "reached"),
    [
        ("/admin/vm/list?status=inactive", "/admin/vm/list?status=inactive"),
        ("https://evil.example/admin/", "/admin/"),
        ("//evil.example/admin/", "/admin/"),
        ("/admin/%2f%2fevil.example", "/admin/"),
        ("/admin/\\evil.example", "/admin/"),
        ("/admin/..//evil.example", "/admin/"),
        ("javascript:alert(1)", "/admin/"),
        ("/admin/logout", "/admin/"),
        ("/admin/vm/list?search=" + "x" * 5000, "/admin/"),
    ],
)
@SQLITE
def test_it_goes_on_to_a_page_of_the_panel_and_to_no_other_place(
    visit: Visit, wanted: str, reached: str
) -> None:
    begun = visit.vmtrak.get("/admin/microsoft", params={"next": wanted})
    assert begun.status_code == 303, begun.text
    response = visit.come_back(visit.surfer.sign_in(begun.headers["location"]))
    assert response.headers["location"] == reached


def test_several_sign_ins_at_once_in_one_browser_all_succeed(
    visit: Visit, database: Database
) -> None:
    ways = [visit.way_back(person) for person in ("ada", "otto", "ada")]
    for way in reversed(ways):
        assert visit.come_back(way).headers["location"] == "/admin/"
    assert visit.signed_in
    living = [session for session in sessions_in(database) if session.ended_at is None]
    assert len(living) >= 1
    assert trail(database, Action.LOGIN_FAILED) == []


@SQLITE
def test_very_many_begun_sign_ins_do_not_make_the_browser_send_too_much(visit: Visit) -> None:
    *_, way = [visit.start() for _ in range(20)]
    kept = [name for name in visit.vmtrak.cookies if name.startswith(FLOW)]
    assert len(kept) <= 8
    assert visit.come_back(visit.surfer.sign_in(way)).status_code == 303


def test_a_panel_session_does_not_outlive_the_sign_in_that_follows_it(
    visit: Visit, database: Database
) -> None:
    visit.sign_in("ada")
    begun = visit.vmtrak.get("/admin/microsoft")
    visit.surfer.client.cookies.clear()
    visit.come_back(visit.surfer.sign_in(begun.headers["location"], "otto"))
    first, second = sessions_in(database)
    assert first.ended_at is not None
    assert second.ended_at is None


@SQLITE
@pytest.mark.parametrize("way", ["client_secret_basic", "client_secret_post"])
def test_the_client_secret_goes_the_way_that_the_provider_takes(
    visit: Visit, provider: Provider, way: str
) -> None:
    """The secret holds characters that mean something in both encodings."""
    provider.mischief = Mischief(metadata={"token_endpoint_auth_methods_supported": [way]})
    assert visit.sign_in().status_code == 303


@SQLITE
def test_metadata_that_says_little_is_enough(visit: Visit, provider: Provider) -> None:
    """Only what OpenID Connect Discovery requires; basic authentication is the default then."""
    optional = (
        "userinfo_endpoint end_session_endpoint response_modes_supported grant_types_supported "
        "token_endpoint_auth_methods_supported code_challenge_methods_supported scopes_supported "
        "frontchannel_logout_supported frontchannel_logout_session_supported "
        "authorization_response_iss_parameter_supported"
    )
    provider.mischief = Mischief(metadata=dict.fromkeys(optional.split()))
    assert visit.sign_in().status_code == 303


def test_a_session_without_a_time_and_a_number_of_the_provider_starts_too(
    visit: Visit, database: Database, provider: Provider
) -> None:
    provider.mischief = Mischief(claims={"sid": None, "auth_time": None})
    assert visit.sign_in().status_code == 303
    (session,) = sessions_in(database)
    assert (session.proved_at, session.provider_sid) == (None, None)


@SQLITE
@pytest.mark.parametrize("skew", [-50, 50])
def test_clocks_that_differ_by_less_than_a_minute_do_no_harm(
    visit: Visit, database: Database, provider: Provider, skew: float
) -> None:
    provider.mischief.skew = skew
    assert visit.sign_in().status_code == 303
    (session,) = sessions_in(database)
    assert session.proved_at is not None
    assert session.proved_at <= session.created_at


@SQLITE
@pytest.mark.parametrize("skew", [-120, 120])
def test_clocks_that_differ_by_two_minutes_are_refused_and_named(
    visit: Visit, database: Database, provider: Provider, skew: float
) -> None:
    provider.mischief.skew = skew
    assert_refused(database, visit.sign_in(), "clocks_differ")


@SQLITE
@pytest.mark.parametrize("skew", [-120, 120])
def test_a_clock_that_was_set_right_again_is_believed(
    visit: Visit, database: Database, provider: Provider, skew: float
) -> None:
    provider.mischief.skew = skew
    visit.sign_in()
    provider.mischief.skew = 0
    assert visit.sign_in().status_code == 303


@SQLITE
def test_a_new_key_of_the_provider_is_asked_for(visit: Visit, provider: Provider) -> None:
    visit.sign_in()
    provider.rotate(keep=False)
    assert visit.sign_in().status_code == 303
    assert provider.asked_for_keys == 2


@SQLITE
def test_unknown_keys_do_not_make_vmtrak_ask_all_the_time(
    visit: Visit, database: Database, provider: Provider, later: Later
) -> None:
    visit.sign_in()
    provider.mischief.key_name = "unknown"
    for _ in range(3):
        assert visit.sign_in().status_code == 400
    assert provider.asked_for_keys == 2
    later(61)
    provider.mischief.skew = 61
    assert visit.sign_in().status_code == 400
    assert provider.asked_for_keys == 3
    events = trail(database, Action.LOGIN_FAILED)
    assert [event.detail for event in events] == [{"reason": "wrong_signature"}] * 4
    provider.mischief.key_name = None
    assert visit.sign_in().status_code == 303


@SQLITE
def test_a_wrong_client_secret_is_told_to_an_administrator(
    visit: Visit, database: Database, provider: Provider
) -> None:
    good = provider.clients[CLIENT_ID]
    provider.clients[CLIENT_ID] = Client(
        good.id, "another secret", good.redirect_uri, good.after_sign_out
    )
    assert_refused(database, visit.sign_in(), "client_refused")


def test_while_the_provider_is_down_a_password_still_opens_the_panel(
    environment: dict[str, str], people: dict[str, Person]
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    app = application.build(load(environment | {"VMTRAK_OIDC_ISSUER": nobody}, None))
    client = anonymous_client(app)
    response = client.get("/admin/microsoft")
    assert_refused(app.state.vmtrak.database, response, "provider_unreachable")
    attempt = {"username": people["admin"].username, "password": PASSWORD}
    entered = client.post("/admin/login", data=attempt, headers={"Origin": BASE_URL})
    assert entered.status_code == 303
    assert client.get("/admin/").status_code == 200
    app.state.vmtrak.database.close()


def test_a_client_of_the_rest_interface_gets_a_refresh_cookie_that_works(
    visit: Visit, database: Database
) -> None:
    response = visit.sign_in(query="?client=rest&next=/app/")
    assert response.headers["location"] == "/app/"
    assert new_cookies(response) == [REFRESH_COOKIE]
    assert not visit.signed_in
    refreshed = visit.vmtrak.post("/api/auth/refresh")
    assert refreshed.status_code == 200, refreshed.text
    bearer = {"Authorization": f"Bearer {refreshed.json()['accessToken']}"}
    me = visit.vmtrak.get("/api/auth/me", headers=bearer).json()
    assert (me["email"], me["role"]) == (ADA["email"], "admin")
    (session,) = sessions_in(database)
    assert (session.kind, session.method) == ("api", "microsoft")
    assert session.provider_sid is not None


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example/", "/%2f/evil.example", "/\\evil.example"]
)
@SQLITE
def test_a_client_of_the_rest_interface_goes_on_to_no_other_host(visit: Visit, wanted: str) -> None:
    begun = visit.vmtrak.get("/api/auth/microsoft", params={"client": "rest", "next": wanted})
    response = visit.come_back(visit.surfer.sign_in(begun.headers["location"]))
    assert response.headers["location"] == "/"


@SQLITE
@pytest.mark.parametrize("address", ["/api/auth/microsoft", "/api/auth/microsoft/callback"])
def test_without_a_provider_in_the_settings_there_is_none(
    without_provider: Starlette, address: str
) -> None:
    client: TestClient = anonymous_client(without_provider)
    response = client.get(address)
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert "/admin/microsoft" not in client.get("/admin/login").text


@SQLITE
def test_the_button_stands_on_the_sign_in_page_and_keeps_where_to_go(visit: Visit) -> None:
    page = visit.vmtrak.get("/admin/login", params={"next": "/admin/vm/list?status=inactive"})
    assert 'href="/admin/microsoft?next=/admin/vm/list%3Fstatus%3Dinactive"' in page.text
    assert "Sign in with single sign-on" in page.text


@pytest.mark.parametrize("start", ["/api/auth/microsoft", "/admin/microsoft"])
def test_another_site_gets_no_further_than_the_button(app: Starlette, start: str) -> None:
    client = anonymous_client(app)
    for site, leads_to in (
        ("cross-site", "/admin/login?"),
        ("same-origin", "http"),
        ("none", "http"),
    ):
        answer = client.get(start, headers={"Sec-Fetch-Site": site})
        assert answer.status_code == 303
        assert answer.headers["location"].startswith(leads_to), site
        assert bool(new_cookies(answer)) == (site != "cross-site")
