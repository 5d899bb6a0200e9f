"""What `vmtrak doctor` says of mail."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.mail.server import PostOffice
from tests.services import free_port
from vmtrak.cli import main


def examined(folder: Path, **environment: str) -> list[str]:
    runner = CliRunner(env={"VMTRAK_DATA_DIR": str(folder), **environment})
    lines = runner.invoke(main, ["doctor"]).stdout.splitlines()
    return [line for line in lines if line.split()[1] == "mail:"]


def mail(port: int, **more: str) -> dict[str, str]:
    return {"VMTRAK_SMTP_HOST": "127.0.0.1", "VMTRAK_SMTP_PORT": str(port), **more}


def test_without_a_server_mail_is_off_and_that_is_well(tmp_path: Path) -> None:
    [line] = examined(tmp_path)
    assert line.startswith("ok    mail: off; notices are kept in the panel")


def test_a_server_that_lets_vmtrak_in_is_well(tmp_path: Path, office: PostOffice) -> None:
    [line] = examined(tmp_path, **mail(office.port, VMTRAK_SMTP_FROM="vmtrak@vmtrak.example"))
    assert line == (
        f"ok    mail: 127.0.0.1, port {office.port} lets VMTrak in; "
        "mail comes from vmtrak@vmtrak.example"
    )
    assert "MAIL" not in office.commands


def test_a_sender_that_is_not_set_is_mentioned(tmp_path: Path, office: PostOffice) -> None:
    [line] = examined(tmp_path, **mail(office.port))
    assert line.endswith("(VMTRAK_SMTP_FROM is not set)")


def test_a_server_that_is_away_is_to_be_mended(tmp_path: Path) -> None:
    [line] = examined(tmp_path, **mail(free_port()))
    assert line.startswith("MEND  mail: 127.0.0.1, port ")
    assert line.endswith("cannot be reached: the connection was refused.")


@pytest.mark.parametrize("password", ["hunter2-hunter2"])
def test_a_wrong_password_is_to_be_mended_and_not_shown(
    tmp_path: Path, office: PostOffice, password: str
) -> None:
    office.stop()
    office.accounts["vmtrak"] = "another"
    office.start()
    sign_in = {"VMTRAK_SMTP_USERNAME": "vmtrak", "VMTRAK_SMTP_PASSWORD": password}
    [line] = examined(tmp_path, **mail(office.port, VMTRAK_SMTP_SECURITY="none", **sign_in))
    assert line.startswith("MEND  mail: ")
    assert "refused the sign-in of vmtrak with: 535" in line
    assert password not in line
