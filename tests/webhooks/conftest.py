"""Peers over http and https, and posters to them that are closed in the end."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.webhooks import peer as peers
from tests.webhooks.peer import Peer
from vmtrak.channels import Channel
from vmtrak.channels.webhooks import Hook, Poster

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

Open = Callable[..., Poster]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine on which the tests run says of proxies is none of their business."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def peer() -> Iterator[Peer]:
    with peers.running() as running:
        yield running


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody else issued; its key stands beside it."""
    folder = tmp_path_factory.mktemp("certificate")
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=hooks"]
    files = ["-keyout", "hooks.key", "-out", "hooks.pem", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", *options, *files], cwd=folder, check=True, capture_output=True
    )
    return folder / "hooks.pem"


@pytest.fixture
def tls_peer(certificate: Path) -> Iterator[Peer]:
    with peers.running(certificate, certificate.with_suffix(".key")) as running:
        yield running


@pytest.fixture
def poster() -> Iterator[Open]:
    with ExitStack() as opened:

        def open_to(url: str, channel: Channel = Channel.WEBHOOK) -> Poster:
            made = Poster(Hook(channel, url, SECRET if channel is Channel.WEBHOOK else None))
            opened.callback(made.close)
            return made

        yield open_to
