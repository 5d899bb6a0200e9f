"""The address of a webhook is a key: no answer, error, log or report tells more than its host."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from traceback import format_exception
from urllib.parse import quote

import httpx2
import pytest
from loguru import logger

from tests.faults.running import ask
from tests.webhooks.conftest import SECRET, Open
from tests.webhooks.parcels import line, parcel
from tests.webhooks.peer import SECRET_PATH, SECRET_WORDS, Answer, Handler, Peer
from vmtrak import logs
from vmtrak.channels import Channel, Delayed, Refused, Unreachable, webhooks
from vmtrak.channels.webhooks import Hook, Poster

FAILURES = (Refused, Delayed, Unreachable)


def tells(text: str) -> list[str]:
    return [word for word in [*SECRET_WORDS, SECRET, SECRET[6:]] if word.lower() in text.lower()]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """The log file of a program that runs as usual; the test's own logging is put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure(tmp_path / "logs", json=True)
    yield tmp_path / "logs" / "vmtrak.log"
    logger.remove()
    root.handlers[:] = handlers
    root.setLevel(level)


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


def nonsense(handler: Handler) -> None:
    handler.wfile.write(f"HTTP/9 {handler.path}\r\n\r\n".encode())
    handler.close_connection = True


def page(path: str) -> bytes:
    return f"<h1>Not Found</h1> The URL {path} was not found on this server.".encode()


ANSWERS: list[Answer | Callable[[Handler], None]] = [
    Answer(200, page(SECRET_PATH)),
    Answer(404, page(SECRET_PATH)),
    Answer(404, page(SECRET_PATH.upper())),
    Answer(404, page(quote(SECRET_PATH, safe=""))),
    Answer(404, page(SECRET_PATH.replace("/", "\\/"))),
    Answer(404, page("?".join(SECRET_WORDS))),
    Answer(503, page(SECRET_PATH * 100)),
    Answer(302, b"", {"Location": SECRET_PATH}),
    hang_up,
    nonsense,
]


@pytest.mark.parametrize("channel", [Channel.WEBHOOK, Channel.TEAMS, Channel.SLACK])
@pytest.mark.parametrize("answer", ANSWERS)
def test_whatever_the_answer_the_address_stays_unsaid(
    answer: Answer, channel: Channel, poster: Open, peer: Peer, log: Path
) -> None:
    peer.answers = [answer]
    sender = poster(peer.url, channel)
    try:
        said = sender.send(parcel(line(0)))
    except FAILURES as error:
        logger.exception("it failed")
        behind = (error.__context__, error.__cause__)
        assert behind == (None, None)
        said = "".join(format_exception(error)) + repr((error, vars(error)))
    assert tells(said) == []
    logger.info("the end")
    assert "the end" in log.read_text()
    assert tells(log.read_text()) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "https://127.0.0.1:9", "https://a..b"])
def test_an_address_that_cannot_be_reached_stays_unsaid(url: str, poster: Open, log: Path) -> None:
    with pytest.raises(Unreachable) as caught:
        poster(url + SECRET_PATH).send(parcel(line(0)))
    logger.opt(exception=caught.value).error("it failed")
    assert str(caught.value).startswith(f"{url}: ")
    assert caught.value.__context__ is None
    assert tells(log.read_text() + "".join(format_exception(caught.value))) == []


def test_the_log_would_tell_if_it_were_not_kept_from_it(peer: Peer, log: Path) -> None:
    """What the client library writes at its own level, were it not for `logs.configure`."""
    logging.getLogger("httpx2").setLevel(logging.INFO)
    httpx2.post(peer.url)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    assert tells(log.read_text())


def test_at_no_level_of_the_log_is_the_address_told(
    poster: Open, peer: Peer, log: Path, tmp_path: Path
) -> None:
    logs.configure(tmp_path / "logs", json=True, level="DEBUG")
    poster(peer.url).send(parcel(line(0)))
    logger.debug("the end")
    assert "the end" in log.read_text()
    assert tells(log.read_text()) == []


def test_neither_hook_nor_poster_shows_it() -> None:
    hook = Hook(Channel.WEBHOOK, f"https://hooks.example.org{SECRET_PATH}", SECRET)
    assert repr(hook) == "Hook(channel=<Channel.WEBHOOK: 'webhook'>)"
    assert tells(repr(Poster(hook)) + str(Poster(hook))) == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"https://hooks.example.org{SECRET_PATH}", "https://hooks.example.org"),
        ("https://hooks.example.org?key=x", "https://hooks.example.org"),
        ("http://127.0.0.1:8080/x", "http://127.0.0.1:8080"),
        ("https://[::1]:8443/x", "https://[::1]:8443"),
        ("https://me:secret@hooks.example.org/x", "https://hooks.example.org"),
    ],
)
def test_scheme_host_and_port_may_be_shown(url: str, shown: str) -> None:
    assert webhooks.site(url) == shown


def test_doctor_names_the_hosts_and_posts_nothing(peer: Peer, tmp_path: Path) -> None:
    said = ask(
        tmp_path,
        "doctor",
        VMTRAK_WEBHOOK_URL=peer.url,
        VMTRAK_WEBHOOK_SECRET=SECRET,
        VMTRAK_TEAMS_URL=f"https://flow.example.org:443{SECRET_PATH}?sig={SECRET_WORDS[-1]}",
        VMTRAK_SLACK_URL=f"https://hooks.example.org{SECRET_PATH}",
    )
    assert f"ok    webhook: posts to {peer.address}\n" in said.stdout
    assert "ok    Teams: posts to https://flow.example.org:443\n" in said.stdout
    assert "ok    Slack: posts to https://hooks.example.org\n" in said.stdout
    assert tells(said.output) == []
    assert peer.posted == []


def test_doctor_says_nothing_of_channels_that_are_off(tmp_path: Path) -> None:
    assert "posts to" not in ask(tmp_path, "doctor").stdout
