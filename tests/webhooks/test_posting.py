"""What is posted, over which connection, and what each answer, or none, comes to."""

import gzip
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import vmtrak
from tests.webhooks.conftest import Open
from tests.webhooks.parcels import line, parcel, trial
from tests.webhooks.peer import SECRET_PATH, Answer, Handler, Peer
from vmtrak.channels import Channel, Delayed, Parcel, Refused, Unreachable, webhooks

CHANNELS = (Channel.WEBHOOK, Channel.TEAMS, Channel.SLACK)
CLOSED = "http://127.0.0.1:9/x"


def one() -> Parcel:
    return parcel(line(0))


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("make", [one, trial])
def test_a_message_is_posted_as_json(
    channel: Channel, make: Callable[[], Parcel], poster: Open, peer: Peer
) -> None:
    assert poster(peer.url, channel).send(make()) == "HTTP 200 ok"
    [posted] = peer.posted
    assert posted.path == SECRET_PATH
    assert posted.headers["content-type"] == "application/json"
    assert posted.headers["user-agent"] == f"VMTrak/{vmtrak.__version__}"
    assert posted.json
    signatures = {name for name in posted.headers if name.startswith("webhook-")}
    assert bool(signatures) is (channel is Channel.WEBHOOK)


def test_many_messages_take_one_connection(poster: Open, peer: Peer) -> None:
    sender = poster(peer.url)
    for _ in range(20):
        sender.send(one())
    assert len(peer.posted) == 20
    assert len({posted.peer for posted in peer.posted}) == 1


def test_refusals_and_delays_keep_the_connection(poster: Open, peer: Peer) -> None:
    peer.answers = [Answer(400), Answer(503)]
    sender = poster(peer.url)
    for error in (Refused, Delayed):
        with pytest.raises(error):
            sender.send(one())
    sender.send(one())
    assert len({posted.peer for posted in peer.posted}) == 1


def test_a_closed_sender_connects_anew(poster: Open, peer: Peer) -> None:
    sender = poster(peer.url)
    sender.close()
    sender.send(one())
    sender.close()
    sender.close()
    sender.send(one())
    assert len({posted.peer for posted in peer.posted}) == 2


def test_a_connection_that_the_peer_has_closed_meanwhile_is_made_anew(
    poster: Open, peer: Peer
) -> None:
    peer.answers = [Answer(headers={"Connection": "close"})]
    sender = poster(peer.url)
    assert [sender.send(one()) for _ in range(2)] == ["HTTP 200 ok"] * 2


# Answers


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(200, b"ok"), "HTTP 200 ok"),
        (Answer(202, b""), "HTTP 202"),
        (Answer(204, b""), "HTTP 204"),
        (Answer(299, b"fine\r\n\tindeed"), "HTTP 299 fine indeed"),
        (Answer(200, b"x" * 1000), f"HTTP 200 {'x' * 100}"),
        (Answer(200, b"\xff\x00\x1b[31mred\xe2\x80\xae"), "HTTP 200 � [31mred"),
    ],
)
def test_2xx_is_sent(answer: Answer, words: str, poster: Open, peer: Peer) -> None:
    peer.answers = [answer]
    assert poster(peer.url).send(one()) == words


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_what_passes_is_delayed(status: int, poster: Open, peer: Peer) -> None:
    peer.answers = [Answer(status, b"later", {"Retry-After": "86400"})]
    with pytest.raises(Delayed, match=rf"^HTTP {status}( [A-Z][A-Za-z ]+)?: later$"):
        poster(peer.url).send(one())


def test_being_too_quick_or_too_early_is_told_in_words(poster: Open, peer: Peer) -> None:
    peer.answers = [Answer(429, b""), Answer(503, b"rolling_over")]
    sender = poster(peer.url)
    with pytest.raises(Delayed, match=r"^HTTP 429 Too Many Requests$"):
        sender.send(one())
    with pytest.raises(Delayed, match=r"^HTTP 503 Service Unavailable: rolling_over$"):
        sender.send(one())


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 304, 400, 401, 403, 404, 410, 413])
def test_all_else_is_refused(status: int, channel: Channel, poster: Open, peer: Peer) -> None:
    peer.answers = [Answer(status, b"" if status == 304 else b"no_service")]
    with pytest.raises(Refused, match=rf"^HTTP {status} [A-Z]"):
        poster(peer.url, channel).send(one())


def test_a_refusal_says_300_characters_at_most(poster: Open, peer: Peer) -> None:
    peer.answers = [Answer(400, b"bad\n\x00" + b"x" * 5000)]
    with pytest.raises(Refused) as caught:
        poster(peer.url).send(one())
    assert str(caught.value) == f"HTTP 400 Bad Request: bad {'x' * 296}"


def test_a_redirect_is_not_followed(poster: Open, peer: Peer) -> None:
    peer.answers = [Answer(307, b"", {"Location": f"{peer.address}/elsewhere"})]
    with pytest.raises(Refused, match=r"^HTTP 307 Temporary Redirect$"):
        poster(peer.url).send(one())
    assert [posted.path for posted in peer.posted] == [SECRET_PATH]


def test_a_redirect_to_nonsense_is_refused_as_well(poster: Open, peer: Peer) -> None:
    peer.answers = [Answer(302, b"", {"Location": "https://[::"})]
    with pytest.raises(Refused, match=r"^HTTP 302 Found$"):
        poster(peer.url).send(one())


def test_of_a_long_answer_64_kb_are_read(poster: Open, peer: Peer) -> None:
    sent = threading.Event()

    def endless(handler: Handler) -> None:
        handler.send_response_only(200)
        handler.end_headers()
        try:
            for _ in range(10_000):
                handler.wfile.write(b"x" * 65_536)
        except OSError:
            sent.set()

    peer.answers = [endless]
    sender = poster(peer.url)
    assert sender.send(one()) == f"HTTP 200 {'x' * 100}"
    assert sent.wait(5), "the whole of it was taken"
    assert sender.send(one()) == "HTTP 200 ok"


def test_a_compressed_answer_is_not_unpacked(poster: Open, peer: Peer) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    peer.answers = [Answer(200, bomb, {"Content-Encoding": "gzip"})]
    assert poster(peer.url).send(one()) == "HTTP 200"
    assert peer.posted[0].headers["accept-encoding"] == "identity"


# No answer


def quick(monkeypatch: pytest.MonkeyPatch, *, read: float = 30, whole: float = 90) -> None:
    monkeypatch.setattr(webhooks, "READ_SECONDS", read)
    monkeypatch.setattr(webhooks, "WHOLE_SECONDS", whole)


def test_where_nobody_listens_nothing_can_be_reached(poster: Open) -> None:
    with pytest.raises(Unreachable, match=r"^http://127\.0\.0\.1:9: .*refused"):
        poster(CLOSED).send(one())


def test_a_name_that_cannot_be_is_told(poster: Open) -> None:
    for host in (f"{'a' * 64}.example.org", "a..example.org", "xn--\x7f"):
        with pytest.raises(Unreachable, match=r"^https://.+: "):
            poster(f"https://{host}{SECRET_PATH}").send(one())


def test_a_slow_answer_is_not_waited_for(
    poster: Open, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch, read=0.2)
    peer.answers = [Answer(seconds=1)]
    sender = poster(peer.url)
    with pytest.raises(Unreachable, match=r": no answer within 0\.2 seconds$"):
        sender.send(one())
    assert sender.send(one()) == "HTTP 200 ok"


def test_a_full_queue_of_connections_is_not_waited_for(
    poster: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = server.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.settimeout(0)
            each.connect_ex(address)
        with pytest.raises(Unreachable, match=r": no connection within 0\.2 seconds$"):
            poster(f"http://127.0.0.1:{address[1]}/x").send(one())
        for each in waiting:
            each.close()


def dripping_headers(handler: Handler) -> None:
    """Each byte comes well within the time for one."""
    try:
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 200:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.05)
    except OSError:
        handler.close_connection = True


@pytest.mark.parametrize("kind", ["peer", "tls_peer"])
def test_a_peer_that_drips_is_not_waited_for_either(
    kind: str,
    poster: Open,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    peer: Peer = request.getfixturevalue(kind)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    quick(monkeypatch, whole=0.5)
    sender = poster(peer.url)
    sender.send(one())
    peer.answers = [dripping_headers]
    began = time.monotonic()
    with pytest.raises(Unreachable, match=r": it took longer than 0\.5 seconds$"):
        sender.send(one())
    assert time.monotonic() - began < 3
    assert sender.send(one()) == "HTTP 200 ok"


def test_once_the_status_has_come_the_body_does_not_matter(
    poster: Open, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch, whole=0.5)
    peer.answers = [Answer(200, b"x" * 500, drip=0.05)]
    sender = poster(peer.url)
    assert re.fullmatch(r"HTTP 200 x{1,50}", sender.send(one()))
    assert sender.send(one()) == "HTTP 200 ok"


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200", b"220 mail.example.org ESMTP\r\n", b"\xff"])
def test_what_is_no_answer_is_none(sent: bytes, poster: Open, peer: Peer) -> None:
    def broken(handler: Handler) -> None:
        handler.wfile.write(sent)
        handler.close_connection = True

    peer.answers = [broken]
    with pytest.raises(Unreachable, match=rf"^{peer.address}: "):
        poster(peer.url).send(one())


# TLS and proxies


def test_an_untrusted_certificate_is_refused(poster: Open, tls_peer: Peer) -> None:
    with pytest.raises(Unreachable, match=rf"^{tls_peer.address}: .*CERTIFICATE_VERIFY_FAILED"):
        poster(tls_peer.url).send(one())
    assert tls_peer.posted == []


def test_a_certificate_for_another_host_is_refused(
    poster: Open, tls_peer: Peer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        poster(tls_peer.url.replace("127.0.0.1", "localhost")).send(one())
    assert tls_peer.posted == []


def test_a_private_authority_is_trusted_if_the_environment_says_so(
    poster: Open, tls_peer: Peer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    sender = poster(tls_peer.url)
    assert [sender.send(one()) for _ in range(3)] == ["HTTP 200 ok"] * 3
    assert len({posted.peer for posted in tls_peer.posted}) == 1


def test_a_peer_that_speaks_no_tls_cannot_be_reached(poster: Open, peer: Peer) -> None:
    with pytest.raises(Unreachable, match=r"^https://127\.0\.0\.1:\d+: "):
        poster(peer.url.replace("http:", "https:")).send(one())
    assert peer.posted == []


def test_a_proxy_of_the_environment_sees_the_host_alone(
    poster: Open, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", peer.address)
    with pytest.raises(Unreachable, match=r"^https://hooks\.example\.org: 502 Bad Gateway$"):
        poster(f"https://hooks.example.org{SECRET_PATH}").send(one())
    [asked] = peer.posted
    assert asked.path == "hooks.example.org:443"
    assert SECRET_PATH not in str(asked)


def test_no_proxy_sees_what_is_posted_on_this_machine(
    poster: Open, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, CLOSED)
    assert poster(peer.url).send(one()) == "HTTP 200 ok"
