"""The doors, each in the hands of an admin."""

import pytest

from tests.conftest import Person
from tests.doors import DOORS, Door


@pytest.fixture(params=list(DOORS))
def door(request: pytest.FixtureRequest, admin: Person) -> Door:
    return DOORS[request.param](admin)
