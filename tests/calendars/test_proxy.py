"""Behind nginx as docs/operations.md sets it up no log of nginx learns the address either."""

import re
from pathlib import Path

import httpx2
import pytest

from tests import services
from tests.calendars.test_secrecy import holds, new_token
from tests.conftest import SECRET_KEY
from tests.faults.running import serving
from tests.web.test_nginx import certificate, documented, nginx

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.mark.parametrize("formatted", [False, True])
def test_nginx_logs_no_address_of_a_calendar(
    database_url: str, tmp_path: Path, *, formatted: bool
) -> None:
    trusting, port = certificate(tmp_path), services.free_port()
    access, errors = tmp_path / "access.log", tmp_path / "error.log"
    with serving(tmp_path, VMTRAK_SECRET_KEY=SECRET_KEY) as server:
        block = documented(tmp_path, port, server.port).replace(
            "server_name vm.example.org;", f"access_log {access};\nerror_log {errors} info;"
        )
        block = with_format(block, access) if formatted else block
        token = new_token(server, database_url)
        with (
            nginx(tmp_path, block, port),
            httpx2.Client(base_url=f"https://127.0.0.1:{port}", verify=trusting) as client,
        ):
            where = f"/calendar/{token}.ics"
            assert client.get(where).status_code == 200
            assert client.get("/api/health").status_code == 200
            server.end()
            assert client.get(where).status_code == 502
            assert client.get("/api/health").status_code == 502
    written = [access.read_text(), errors.read_text()]
    assert all("/api/health" in text for text in written)
    assert ("GET /calendar/-.ics" in written[0]) == formatted
    assert not holds(written, token)


def with_format(block: str, access: Path) -> str:
    """The server block that logs these requests in the format of the document."""
    form = r"```text\n(log_format .*?\n)access_log \S+ calendar;\n```"
    found = re.search(form, DOCUMENT.read_text())
    assert found is not None
    assert "access_log off;" in block
    return found[1] + block.replace("access_log off;", f"access_log {access} calendar;")
