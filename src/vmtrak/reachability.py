"""Does a TCP port accept a connection: asked of many machines at once, within bounds."""

import asyncio
import socket
from asyncio import AbstractEventLoop, Semaphore, Task
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import MappingProxyType

SSH, RDP = 22, 3389
HYPERVISOR_PORTS = MappingProxyType({"VMware vSphere": 443, "Proxmox": 8006, "Hyper-V": 5985})

MOST_TARGETS = 50
"""What a door may ask for in one request; the prober itself does not count."""

# A lookup cannot be cancelled: its thread stays until the resolver gives up. The loop's default
# executor has at least five threads, and sign-in resolves names on it too: leave it some.
LOOKUPS = 4

# A name with more addresses than this gets its first ones tried, each with a share of the time.
MOST_ADDRESSES = 4

BROADCAST = IPv4Address("255.255.255.255")


class Reach(StrEnum):
    """`UNKNOWN` is "could not ask", which is not the same as "did not answer"."""

    ONLINE = "online"
    OFFLINE = "offline"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Target:
    """`key` is the caller's own; `address` is an IP, and `hostname` counts where there is none."""

    key: int
    address: str | None
    hostname: str | None
    port: int


def vm_port(os_type: str | None) -> int:
    return SSH if os_type == "Linux" else RDP


def hypervisor_port(type_: str | None) -> int:
    return HYPERVISOR_PORTS.get(type_ or "", SSH)


@dataclass(frozen=True, slots=True)
class _Limits:
    probes: Semaphore
    lookups: Semaphore


class Prober:
    """Probes for one process: its limits hold over all concurrent calls.

    A target waits at most `timeout` seconds for its turn and then has `timeout` seconds for
    lookup and connection together, so a call returns within twice that. With `probing` off
    nothing is ever connected to and every target is unknown.
    """

    def __init__(
        self, *, timeout: float = 2.0, open_probes: int = 100, probing: bool = True
    ) -> None:
        self._probing = probing
        self._timeout = timeout
        self._open_probes = open_probes
        self._limits: dict[AbstractEventLoop, _Limits] = {}

    async def probe(self, targets: Sequence[Target]) -> dict[int, Reach]:
        if not self._probing:
            return {each.key: Reach.UNKNOWN for each in targets}
        async with asyncio.TaskGroup() as group:
            asked = {each.key: group.create_task(self._in_turn(each)) for each in targets}
        return {key: task.result() for key, task in asked.items()}

    async def _in_turn(self, target: Target) -> Reach:
        limits = self._limits_here()
        try:
            async with asyncio.timeout(self._timeout):
                await limits.probes.acquire()
        except TimeoutError:
            return Reach.UNKNOWN
        try:
            return await self._ask(target, limits.lookups)
        finally:
            limits.probes.release()

    async def _ask(self, target: Target, lookups: Semaphore) -> Reach:
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            async with asyncio.timeout_at(deadline):
                addresses = await _addresses(target, lookups)
        except TimeoutError:
            return Reach.UNKNOWN
        allowed = [each for each in addresses if _is_one_machine(each)]
        return await _first_answer(allowed[:MOST_ADDRESSES], target.port, deadline)

    def _limits_here(self) -> _Limits:
        """Semaphores belong to a loop; those of loops that are gone are dropped on the way."""
        here = asyncio.get_running_loop()
        if here not in self._limits:
            for gone in [loop for loop in self._limits if loop.is_closed()]:
                del self._limits[gone]
            self._limits[here] = _Limits(Semaphore(self._open_probes), Semaphore(LOOKUPS))
        return self._limits[here]


_Address = IPv4Address | IPv6Address
# What the operating system answers: the family's own tuple, IPv6 with flow and scope.
_Found = tuple[object, object, object, object, tuple[str | int | bytes, ...]]


async def _addresses(target: Target, lookups: Semaphore) -> Sequence[_Address]:
    literal = _literal(target.address) or _literal(target.hostname)
    if literal:
        return [literal]
    name = (target.hostname or "").strip()
    return await _lookup(name, lookups) if name else []


def _literal(text: str | None) -> _Address | None:
    try:
        return ip_address((text or "").strip())
    except ValueError:
        return None


async def _lookup(name: str, lookups: Semaphore) -> Sequence[_Address]:
    """Keep the place in the queue until the lookup has really ended.

    Even if nobody waits for it any more: it is the threads that must stay few.
    """
    await lookups.acquire()
    running = asyncio.create_task(_resolve(name))
    running.add_done_callback(partial(_lookup_ended, lookups))
    return await asyncio.shield(running)


def _lookup_ended(lookups: Semaphore, _ended: Task[Sequence[_Address]]) -> None:
    lookups.release()


async def _resolve(name: str) -> Sequence[_Address]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError):  # no such name, or (ValueError) nothing that could be one
        return []
    return list(dict.fromkeys(_address(each) for each in found))


def _address(found: _Found) -> _Address:
    host, _port, *flow_and_scope = found[4]
    text = str(host)
    if flow_and_scope and flow_and_scope[1] and "%" not in text:
        text = f"{text}%{flow_and_scope[1]!s}"
    return ip_address(text)


def _is_one_machine(address: _Address) -> bool:
    """Whether a connection would go to one machine; the kernel takes `0.0.0.0` for itself."""
    plain = (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
    return not (plain.is_multicast or plain.is_unspecified or plain == BROADCAST)


async def _first_answer(addresses: Sequence[_Address], port: int, deadline: float) -> Reach:
    """Each address gets an equal share of what is left, so a dead one does not hide the next."""
    clock = asyncio.get_running_loop().time
    answers = {Reach.UNKNOWN}
    for done, address in enumerate(addresses):
        share = (deadline - clock()) / (len(addresses) - done)
        answers.add(await _knock(address, port, share))
        if Reach.ONLINE in answers:
            return Reach.ONLINE
    return Reach.OFFLINE if Reach.OFFLINE in answers else Reach.UNKNOWN


async def _knock(address: _Address, port: int, seconds: float) -> Reach:
    """Connect and hang up, without sending anything."""
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError:  # no IPv6 here, or no file left to open: this says nothing about the target
        return Reach.UNKNOWN
    with sock:
        sock.settimeout(0)
        return await _connect(sock, (str(address), port), seconds)


async def _connect(sock: socket.socket, peer: tuple[str, int], seconds: float) -> Reach:
    """Take the scope within the text (`fe80::1%eth0`): uvloop drops it from a longer tuple."""
    try:
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(sock, peer)
    except (socket.gaierror, ValueError):  # the scope names no interface of this machine
        return Reach.UNKNOWN
    except OSError:
        return Reach.OFFLINE
    return Reach.ONLINE
