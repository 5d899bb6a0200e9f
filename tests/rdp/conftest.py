"""Certificates made with OpenSSL, VMs to connect to, and both doors to their files."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from httpx2 import Response

from tests.conftest import CANARY, Person
from vmtrak import credentials, inventory
from vmtrak.credentials import AccountType, NewCredential
from vmtrak.inventory import NewVM
from vmtrak.settings import Settings

ADDRESS = "192.0.2.10"
"""For documentation (RFC 5737): nobody answers there."""


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and its key; `trusted` is the certificate of its root."""

    certificate: Path
    key: Path
    trusted: Path


def openssl(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


def self_signed(folder: Path, *options: str, kind: str = "rsa:2048", name: str = "own") -> Pair:
    """A certificate that nobody else issued, in `name`.pem and `name`.key."""
    subject = ["-subj", f"/O=Example/CN=VMTrak {name}"]
    files = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
    openssl(folder, "req", "-x509", "-newkey", kind, "-nodes", *subject, *files, *options)
    return Pair(folder / f"{name}.pem", folder / f"{name}.key", folder / f"{name}.pem")


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return self_signed(tmp_path_factory.mktemp("own"), "-days", "365")


@pytest.fixture(scope="session")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Issued by an authority between it and the root, whose certificate is in the same file."""
    folder = tmp_path_factory.mktemp("issued")
    root = self_signed(folder, "-days", "365", name="root")
    (folder / "ca.ext").write_text("basicConstraints=critical,CA:true\n")
    _issue(folder, "between", by="root", more=["-extfile", "ca.ext"])
    _issue(folder, "leaf", by="between", more=[])
    chain = folder / "chain.pem"
    chain.write_text((folder / "leaf.pem").read_text() + (folder / "between.pem").read_text())
    return Pair(chain, folder / "leaf.key", root.certificate)


def _issue(folder: Path, name: str, *, by: str, more: list[str]) -> None:
    request = ["-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr"]
    openssl(folder, "req", "-subj", f"/CN=VMTrak {name}", *request)
    authority = ["-CA", f"{by}.pem", "-CAkey", f"{by}.key", "-CAcreateserial", "-days", "300"]
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", *authority, "-out", f"{name}.pem", *more)


@pytest.fixture
def changed() -> dict[str, Any]:
    """Settings by field that differ from those of all tests."""
    return {}


@pytest.fixture
def settings(settings: Settings, changed: dict[str, Any]) -> Settings:
    return settings.model_copy(update=changed)


Vm = Callable[..., int]


@pytest.fixture
def vm(admin: Person) -> Vm:
    """Adds a VM with accounts, the first of which is the primary one, and gives its number."""

    def add(*usernames: str, **fields: Any) -> int:
        given = {"vm_name": "desk-01", "ip_address": ADDRESS, "os_type": "Windows", **fields}
        vault = admin.app.state.vmtrak.vault
        with admin.database.work(admin.actor) as work:
            number = inventory.add(work, NewVM.model_validate(given)).id
            for at, username in enumerate(usernames):
                kind = AccountType.OTHERS if at else AccountType.PRIMARY
                account = {"username": username, "password": f"{CANARY}x", "account_type": kind}
                credentials.add(work, vault, number, NewCredential.model_validate(account))
        return number

    return add


@dataclass(frozen=True)
class Ways:
    """One door to the files of a VM."""

    door: str

    def rdp(self, person: Person, number: int, **asked: str) -> Response:
        if self.door == "api":
            return person.api.get(f"/api/vms/{number}/rdp?{urlencode(asked)}")
        return person.panel.post(f"/admin/vm/rdp/{number}", data=asked)

    def ssh(self, person: Person, number: int, **asked: str) -> Response:
        if self.door == "api":
            return person.api.get(f"/api/vms/{number}/ssh-config?{urlencode(asked)}")
        return person.panel.get(f"/admin/vm/ssh-config/{number}?{urlencode(asked)}")


@pytest.fixture(params=["api", "panel"])
def ways(request: pytest.FixtureRequest) -> Ways:
    return Ways(request.param)


def events(admin: Person) -> list[dict[str, Any]]:
    """The downloads on record, newest first."""
    found: list[dict[str, Any]] = admin.api.get("/api/audit?action=rdp.download").json()["data"]
    return found
