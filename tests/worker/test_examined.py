"""What `vmtrak doctor` says of the queue, and which queues the settings refuse."""

from pathlib import Path

import pytest

from tests.commands.test_trouble import as_an_ordinary_user
from tests.faults.running import ask
from tests.worker.peers import RedisServer
from vmtrak.settings import SettingsError, load


def examined(folder: Path, **settings: str) -> str:
    """The doctor's line about the queue."""
    said = ask(folder, "doctor", **settings)
    assert "Traceback" not in said.output
    [line] = [line for line in said.stdout.splitlines() if " queue: " in line]
    if line.startswith("MEND"):
        assert said.exit_code == 1
    return line


def test_a_queue_that_will_be_made_is_well(tmp_path: Path) -> None:
    made = tmp_path / "queue.db"
    assert examined(tmp_path) == f"ok    queue: {made} will be made at the first start"
    assert not made.exists()


def test_a_file_that_is_no_queue_is_to_be_mended(tmp_path: Path) -> None:
    (tmp_path / "queue.db").write_text("Dear Sir or Madam, " * 100)
    line = examined(tmp_path)
    assert line == f"MEND  queue: {tmp_path / 'queue.db'}: file is not a database"


def test_a_queue_in_a_folder_that_is_not_there_is_to_be_mended(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nowhere' / 'queue.db'}"
    line = examined(tmp_path, VMTRAK_QUEUE_URL=url)
    assert line == f"MEND  queue: there is no folder {tmp_path / 'nowhere'}"


def test_a_queue_that_belongs_to_another_account_is_to_be_mended(tmp_path: Path) -> None:
    (tmp_path / "queue.db").touch(mode=0o400)
    said = as_an_ordinary_user(tmp_path, "doctor")
    assert f"MEND  queue: {tmp_path / 'queue.db'} cannot be written to by this user" in said.stdout


def test_redis_is_asked(tmp_path: Path, redis_server: RedisServer) -> None:
    url = redis_server.url.replace("//", "//:a-real-pw@")
    away = examined(tmp_path, VMTRAK_QUEUE_URL=url)
    assert away.startswith("MEND  queue: Redis: ")
    assert "refused" in away
    redis_server.start()
    redis_server.client.config_set("requirepass", "another-pw")
    wrong = examined(tmp_path, VMTRAK_QUEUE_URL=url)
    assert wrong.startswith("MEND  queue: Redis: ")
    assert "a-real-pw" not in away + wrong
    redis_server.client.config_set("requirepass", "a-real-pw")
    assert examined(tmp_path, VMTRAK_QUEUE_URL=url) == "ok    queue: Redis answers"


@pytest.mark.parametrize("name", ["inventory.db", "deeper/../inventory.db"])
def test_the_database_cannot_be_the_queue_as_well(tmp_path: Path, name: str) -> None:
    given = {"VMTRAK_DATA_DIR": str(tmp_path), "VMTRAK_QUEUE_URL": f"sqlite:///{tmp_path / name}"}
    with pytest.raises(SettingsError, match="VMTRAK_QUEUE_URL: is the database's own file"):
        load(given, None)
