"""A server that is told to stop while a person's request delivers notices."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.conftest import SECRET_KEY
from tests.faults.running import access_token, serving
from tests.mail.server import PostOffice, Wait
from tests.notices.programs import fill
from vmtrak.db import Database
from vmtrak.notices import Message


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_message_in_hand_is_put_on_record_and_no_other_is_begun(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    fill(database)
    bearer = access_token(database_url, "admin")
    with PostOffice() as office:
        office.next("DOT", Wait(2))
        settings = {
            "VMTRAK_DATABASE_URL": database_url,
            "VMTRAK_SECRET_KEY": SECRET_KEY,
            "VMTRAK_NOTICE_TIME": "23:59",
            "TZ": "UTC",
            "VMTRAK_SMTP_HOST": "127.0.0.1",
            "VMTRAK_SMTP_PORT": str(office.port),
        }
        with (
            serving(tmp_path, "--no-worker", **settings) as server,
            server.client(bearer) as client,
            ThreadPoolExecutor(1) as thread,
        ):
            run = thread.submit(client.post, "/api/dashboard/test-notifications")
            office.wait_for(1)
            assert server.stop() == 0
            assert run.result().json() == {
                "ok": True,
                "message": "4 messages about 8 VMs: 0 sent, 0 failed, 4 waiting",
                "sent": 0,
                "failed": 0,
            }
        assert len(office.received) == 1
        assert "Traceback" not in server.errors
    with database.read() as session:
        rows = session.execute(select(Message.state, Message.attempts, Message.lease))
        assert sorted(map(tuple, rows)) == [("sent", 1, None), *[("waiting", 0, None)] * 3]
