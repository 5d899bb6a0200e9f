"""A second factor that the installation requires, of administrators or of everybody."""

from collections.abc import Iterator

import pyotp
import pytest
from starlette.applications import Starlette

from tests.conftest import Person
from vmtrak import app as application
from vmtrak.settings import Settings

PAGE = "/admin/account/second-factor"


@pytest.fixture(params=["optional", "admin", "all"])
def required(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def app(settings: Settings, required: str) -> Iterator[Starlette]:
    made = application.build(settings.model_copy(update={"second_factor": required}))
    yield made
    made.state.vmtrak.database.close()


def kept_out(person: Person) -> bool:
    """Whether both doors lead this person to setting up a second factor first."""
    page, answer = person.panel.get("/admin/"), person.api.get("/api/vms")
    out = page.status_code == 303
    assert out == (answer.status_code == 403)
    if out:
        assert page.headers["location"] == PAGE
        assert answer.json()["error"] == "second_factor_required"
        assert person.panel.get(PAGE).status_code == 200
    return out


def test_it_is_due_before_anything_else(required: str, admin: Person, operator: Person) -> None:
    expected = {"optional": (False, False), "admin": (True, False), "all": (True, True)}
    assert (kept_out(admin), kept_out(operator)) == expected[required]


def test_who_has_one_gets_in_and_cannot_take_it_away(required: str, operator: Person) -> None:
    client = operator.api
    started = client.post("/api/auth/second-factor").json()
    codes = client.post(
        "/api/auth/second-factor/confirm", json={"code": code_of(started["secret"])}
    )
    assert codes.status_code == 200, codes.text
    assert not kept_out(operator)
    removed = client.delete("/api/auth/second-factor").status_code
    assert removed == (409 if required == "all" else 200)


def code_of(secret: str) -> str:
    return pyotp.TOTP(secret.replace(" ", "")).now()
