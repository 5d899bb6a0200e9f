"""A web server on this machine that notes what is posted to it and answers as it is told."""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SECRET_PATH = "/services/T0AB1CD2E/B9ZY8XW7V/q7Zr0vT2mXw9LcD4nPbK8sYh"
"""Whoever knows it can post: it must show nowhere."""

SECRET_WORDS = [word for word in SECRET_PATH.split("/") if word]


@dataclass(frozen=True)
class Posted:
    """One request; `peer` is the client's address and port, by which a connection is known."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    peer: tuple[str, int]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    status: int = 200
    body: bytes = b"ok"
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0
    drip: float = 0
    """Seconds before each byte of the body."""


Script = Callable[["Handler"], None]


class Peer(ThreadingHTTPServer):
    """`answers` are given in turn, then "200 ok" for ever; a function does as it likes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        self.posted: list[Posted] = []
        self.answers: list[Answer | Script] = []

    @property
    def address(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return self.address + SECRET_PATH

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away are what is tested."""


class Handler(BaseHTTPRequestHandler):
    server: Peer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.posted.append(Posted(self.path, headers, body, self.client_address))
        answer = self.server.answers.pop(0) if self.server.answers else Answer()
        if callable(answer):
            answer(self)
        else:
            self._give(answer)

    def _give(self, answer: Answer) -> None:
        time.sleep(answer.seconds)
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        for at in range(len(answer.body)) if answer.drip else ():
            time.sleep(answer.drip)
            self.wfile.write(answer.body[at : at + 1])
        if not answer.drip:
            self.wfile.write(answer.body)

    def do_CONNECT(self) -> None:
        """Asked as a proxy: note for what, and refuse."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.posted.append(Posted(self.path, headers, b"", self.client_address))
        self._give(Answer(502, b""))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextmanager
def running(certificate: Path | None = None, key: Path | None = None) -> Iterator[Peer]:
    peer = Peer()
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        # The handshake is made by each connection's own thread, when it reads.
        peer.socket = context.wrap_socket(
            peer.socket, server_side=True, do_handshake_on_connect=False
        )
        peer.scheme = "https"
    thread = threading.Thread(target=peer.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield peer
    finally:
        peer.shutdown()
        thread.join()
        peer.server_close()
