"""A provider of OAuth 2 tokens on loopback, which answers as it is told."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from vmtrak.channels.tokens import Grant

CLIENT_SECRET = "Gq8~a secret+with/signs%20and:a colon"


@dataclass
class Provider:
    """Gives the tokens t1, t2 and so on, each for `life` seconds, unless `answer` is set."""

    port: int = 0
    life: object = 3600
    status: int = 200
    answer: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    silent: threading.Event | None = None
    """While it is not set, no answer comes."""
    asked: list[dict[str, str]] = field(default_factory=list)

    @property
    def grant(self) -> Grant:
        url = f"http://127.0.0.1:{self.port}/token"
        return Grant(url, "vmtrak-mail", CLIENT_SECRET, "https://mail.example/.default")

    def body(self) -> bytes:
        token: dict[str, Any] = {"access_token": f"t{len(self.asked)}", "expires_in": self.life}
        return self.answer if self.answer is not None else json.dumps(token).encode()


@contextmanager
def running() -> Iterator[Provider]:
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            provider.asked.append({name: values[0] for name, values in parse_qs(form).items()})
            if provider.silent is not None:
                provider.silent.wait(20)
            body = provider.body()
            self.send_response(provider.status)
            for name, value in {"Content-Length": str(len(body)), **provider.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: the test knows what it asked."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield provider
    finally:
        if provider.silent is not None:
            provider.silent.set()
        server.shutdown()
        thread.join()
        server.server_close()
