"""Reachability against real listeners on the loopback addresses, on both event loops."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any, ClassVar

import pytest
import uvloop

from vmtrak import reachability
from vmtrak.reachability import Prober, Reach, Target, hypervisor_port, vm_port

Answers = dict[int, Reach]
Run = Callable[[Coroutine[Any, Any, Answers]], Answers]
Names = dict[str, list[str]]

SOON = 0.15
PATIENT = 5.0


class Watched(socket.socket):
    """Counts the internet sockets that are open; the loop's own pair is of another family."""

    open_now: ClassVar[set[int]] = set()
    most: ClassVar[int] = 0
    peers: ClassVar[list[tuple[Any, ...]]] = []

    def __init__(self, family: int = -1, *rest: int, **named: int) -> None:
        super().__init__(family, *rest, **named)
        if family in {socket.AF_INET, socket.AF_INET6}:
            self.open_now.add(id(self))
            Watched.most = max(Watched.most, len(self.open_now))

    def connect(self, address: Any) -> None:
        self.peers.append(address)
        super().connect(address)

    def close(self) -> None:
        super().close()
        self.open_now.discard(id(self))


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> type[Watched]:
    Watched.open_now.clear()
    Watched.peers.clear()
    Watched.most = 0
    monkeypatch.setattr(socket, "socket", Watched)
    return Watched


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    chosen: Run = request.param
    return chosen


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """What asyncio's own loop resolves; a name that is not in it does not exist."""
    known: Names = {}
    real = socket.getaddrinfo

    def look_up(host: str, *rest: Any, **named: Any) -> list[Any]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [found for each in known[host] for found in real(each, *rest, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


def listen(host: str, port: int = 0, backlog: int = 8) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind((host, port))
    listener.listen(backlog)
    return listener


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


@pytest.fixture
def open_port() -> Iterator[int]:
    with closing(listen("127.0.0.1")) as listener:
        yield port_of(listener)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is bound but does not listen: nobody else can take it meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield port_of(sock)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A listener whose queue is full, so that further connections get no answer at all."""
    with ExitStack() as stack:
        listener = stack.enter_context(listen("127.0.0.1", backlog=0))
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)  # noqa: FBT003 -- the name says what is false
            with suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        yield port_of(listener)


def at(address: str | None, port: int, hostname: str | None = None, key: int = 1) -> Target:
    return Target(key=key, address=address, hostname=hostname, port=port)


def many(count: int, port: int) -> list[Target]:
    return [at("127.0.0.1", port, key=key) for key in range(count)]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.7", "::1", "::ffff:127.0.0.1"])
def test_a_listener_is_online(run: Run, host: str) -> None:
    with closing(listen(host.removeprefix("::ffff:"))) as listener:
        assert run(Prober().probe([at(host, port_of(listener))])) == {1: Reach.ONLINE}


def test_a_closed_port_is_offline(run: Run, closed_port: int) -> None:
    assert run(Prober().probe([at("127.0.0.1", closed_port)])) == {1: Reach.OFFLINE}


def test_a_port_that_never_answers_is_offline(run: Run, silent_port: int) -> None:
    prober = Prober(timeout=SOON)
    assert run(prober.probe([at("127.0.0.1", silent_port)])) == {1: Reach.OFFLINE}


def test_each_target_gets_its_own_answer(run: Run, open_port: int, closed_port: int) -> None:
    targets = [at("127.0.0.1", open_port, key=7), at("127.0.0.1", closed_port, key=3), at(None, 1)]
    expected = {7: Reach.ONLINE, 3: Reach.OFFLINE, 1: Reach.UNKNOWN}
    assert run(Prober().probe(targets)) == expected


def test_nothing_asked_is_nothing_answered(run: Run) -> None:
    assert run(Prober().probe([])) == {}


def test_nothing_is_sent(run: Run) -> None:
    with closing(listen("127.0.0.1")) as listener:
        run(Prober().probe([at("127.0.0.1", port_of(listener))]))
        visitor, _ = listener.accept()
        with closing(visitor):
            assert visitor.recv(1) == b""


def test_a_hostname_is_looked_up(run: Run, open_port: int) -> None:
    assert run(Prober().probe([at(None, open_port, "localhost")])) == {1: Reach.ONLINE}


def test_an_address_in_the_place_of_the_hostname_works(run: Run, open_port: int) -> None:
    assert run(Prober().probe([at(None, open_port, " 127.0.0.1 ")])) == {1: Reach.ONLINE}


def test_the_address_comes_before_the_hostname(names: Names, open_port: int) -> None:
    names["elsewhere"] = ["127.0.0.9"]
    target = at("127.0.0.1", open_port, "elsewhere")
    assert asyncio.run(Prober().probe([target])) == {1: Reach.ONLINE}


def test_a_name_that_does_not_resolve_is_unknown(names: Names, open_port: int) -> None:
    assert names == {}
    assert asyncio.run(Prober().probe([at(None, open_port, "gone.test")])) == {1: Reach.UNKNOWN}


@pytest.mark.parametrize("name", [None, "", "  ", "a" * 300, "a..b", "a\0b", "\ud800"])
def test_what_cannot_be_a_name_is_unknown(run: Run, name: str | None) -> None:
    assert run(Prober().probe([at("", 9, name)])) == {1: Reach.UNKNOWN}


@pytest.mark.parametrize("scope", ["nosuch0", "4294967296", "\0", "é"])
def test_a_scope_that_is_no_interface_here_is_unknown(run: Run, scope: str) -> None:
    assert run(Prober().probe([at(f"fe80::1%{scope}", 9)])) == {1: Reach.UNKNOWN}


def test_a_scope_reaches_the_kernel(run: Run, watched: type[Watched]) -> None:
    loopback = socket.if_nametoindex("lo")
    run(Prober(timeout=SOON).probe([at(f"fe80::1%{loopback}", 9)]))
    assert watched.peers == [("fe80::1", 9, 0, loopback)]


def test_a_scope_found_by_the_lookup_is_kept(names: Names, watched: type[Watched]) -> None:
    loopback = socket.if_nametoindex("lo")
    for name in ("near.test", f"fe80::1%{loopback}"):
        names[name] = [f"fe80::1%{loopback}"]
    asyncio.run(Prober(timeout=SOON).probe([at(None, 9, "near.test")]))
    assert watched.peers == [("fe80::1", 9, 0, loopback)]


NOT_ONE_MACHINE = ["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1%1"]  # noqa: S104 -- not bound
MAPPED = ["::ffff:0.0.0.0", "::ffff:224.0.0.1", "::ffff:255.255.255.255"]


@pytest.mark.parametrize("address", NOT_ONE_MACHINE + MAPPED)
def test_an_address_of_no_single_machine_is_never_tried(
    run: Run, watched: type[Watched], open_port: int, address: str
) -> None:
    before = watched.most
    assert run(Prober().probe([at(address, open_port)])) == {1: Reach.UNKNOWN}
    assert (watched.most, watched.peers) == (before, [])


def test_a_name_for_no_single_machine_is_never_tried(
    names: Names, watched: type[Watched], open_port: int
) -> None:
    names["all.test"] = ["0.0.0.0", "224.0.0.1", "::"]  # noqa: S104 -- not bound
    assert asyncio.run(Prober().probe([at(None, open_port, "all.test")])) == {1: Reach.UNKNOWN}
    assert watched.peers == []


def test_a_dead_first_address_does_not_hide_the_second(names: Names, silent_port: int) -> None:
    names["two.test"] = ["127.0.0.1", "127.0.0.2"]
    with closing(listen("127.0.0.2", silent_port)):
        answer = asyncio.run(Prober(timeout=SOON).probe([at(None, silent_port, "two.test")]))
    assert answer == {1: Reach.ONLINE}


def test_a_name_with_very_many_addresses_gets_the_first_tried(
    names: Names, watched: type[Watched], closed_port: int
) -> None:
    names["many.test"] = [f"127.0.0.{last}" for last in range(1, 30)]
    answer = asyncio.run(Prober().probe([at(None, closed_port, "many.test")]))
    assert answer == {1: Reach.OFFLINE}
    assert len(watched.peers) == reachability.MOST_ADDRESSES


def test_fifty_targets_are_asked_at_once(
    run: Run, silent_port: int, watched: type[Watched]
) -> None:
    targets = many(reachability.MOST_TARGETS, silent_port)
    before = len(watched.open_now)
    answers = run(Prober(timeout=SOON * 2).probe(targets))
    assert set(answers.values()) == {Reach.OFFLINE}
    assert watched.most - before == reachability.MOST_TARGETS


def test_two_calls_share_the_limit(run: Run, silent_port: int, watched: type[Watched]) -> None:
    prober = Prober(timeout=SOON, open_probes=3)

    async def two_calls() -> Answers:
        first, second = await asyncio.gather(
            prober.probe(many(2, silent_port)),
            prober.probe([at("127.0.0.1", silent_port, key=key) for key in (10, 11)]),
        )
        return first | second

    answers = run(two_calls())
    assert watched.most == 3
    assert [answers[key] for key in (0, 1, 10)] == [Reach.OFFLINE] * 3


def test_a_turn_that_does_not_come_in_time_is_unknown(
    run: Run, silent_port: int, watched: type[Watched]
) -> None:
    prober = Prober(timeout=SOON, open_probes=1)
    answers = run(prober.probe(many(6, silent_port)))
    assert answers[0] == Reach.OFFLINE
    # The first turn ends just when the others stop waiting: at most one of them gets the next.
    assert list(answers.values()).count(Reach.UNKNOWN) >= 4
    assert watched.most == 1


def test_places_come_back_after_use(run: Run, open_port: int) -> None:
    prober = Prober(open_probes=1)
    assert set(run(prober.probe(many(5, open_port))).values()) == {Reach.ONLINE}


def test_one_prober_serves_one_loop_after_another(open_port: int, silent_port: int) -> None:
    prober = Prober(timeout=SOON, open_probes=1)
    asyncio.run(prober.probe(many(3, silent_port)))
    assert set(uvloop.run(prober.probe(many(3, open_port))).values()) == {Reach.ONLINE}


def test_cancelling_closes_the_sockets_and_gives_the_places_back(
    run: Run, silent_port: int, open_port: int, watched: type[Watched]
) -> None:
    prober = Prober(timeout=PATIENT, open_probes=4)

    async def give_up() -> Answers:
        call = asyncio.create_task(prober.probe(many(9, silent_port)))
        while len(watched.peers) < 4:  # noqa: ASYNC110 -- the kernel sets no event
            await asyncio.sleep(0.01)
        assert len(watched.open_now) == 4
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        assert call.cancelled()
        assert not watched.open_now
        return await prober.probe(many(9, open_port))

    assert set(run(give_up()).values()) == {Reach.ONLINE}
    assert not watched.open_now


def test_sockets_are_closed_whatever_the_answer(
    run: Run, open_port: int, closed_port: int, silent_port: int, watched: type[Watched]
) -> None:
    ports = enumerate([open_port, closed_port, silent_port])
    run(Prober(timeout=SOON).probe([at("127.0.0.1", port, key=key) for key, port in ports]))
    assert len(watched.peers) == 3
    assert not watched.open_now


def test_no_socket_to_be_had_says_nothing_about_the_target(
    run: Run, open_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Exhausted(socket.socket):
        def __init__(self, family: int = -1, *rest: int, **named: int) -> None:
            if family == socket.AF_INET:
                raise OSError(24, "Too many open files")
            super().__init__(family, *rest, **named)

    monkeypatch.setattr(socket, "socket", Exhausted)
    assert run(Prober().probe([at("127.0.0.1", open_port)])) == {1: Reach.UNKNOWN}


def test_lookups_that_hang_stay_few_and_end_as_unknown(
    names: Names, open_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver_back, started = threading.Event(), list[str]()
    names["back.test"] = ["127.0.0.1"]
    look_up: Callable[..., list[Any]] = socket.getaddrinfo

    def hang(host: str, *rest: Any, **named: Any) -> list[Any]:
        started.append(host)
        resolver_back.wait(PATIENT)
        return look_up(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    prober = Prober(timeout=SOON * 2)

    async def hang_then_recover() -> Answers:
        named = [at(None, open_port, f"h{key}.test", key) for key in range(12)]
        numbered = [at("127.0.0.1", open_port, key=99)]
        for _ in range(2):
            answers = await prober.probe(named + numbered)
            assert answers.pop(99) == Reach.ONLINE
            assert set(answers.values()) == {Reach.UNKNOWN}
        assert len(started) == reachability.LOOKUPS
        resolver_back.set()
        return await prober.probe([at(None, open_port, "back.test")])

    try:
        assert asyncio.run(hang_then_recover()) == {1: Reach.ONLINE}
    finally:
        resolver_back.set()


@pytest.mark.parametrize(
    ("os_type", "port"), [("Linux", 22), ("Windows", 3389), ("Other", 3389), (None, 3389)]
)
def test_the_port_of_a_vm_follows_its_system(os_type: str | None, port: int) -> None:
    assert vm_port(os_type) == port


@pytest.mark.parametrize(
    ("type_", "port"),
    [("VMware vSphere", 443), ("Proxmox", 8006), ("Hyper-V", 5985), ("KVM", 22), (None, 22)],
)
def test_the_port_of_a_hypervisor_follows_its_type(type_: str | None, port: int) -> None:
    assert hypervisor_port(type_) == port
