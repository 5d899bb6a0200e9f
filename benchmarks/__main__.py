"""Measure: `python -m benchmarks` (needs `wrk`); `--help` tells the rest.

Every figure is a ratio to the bare answer measured right before it, since machines differ and
are shared; of the rounds the median counts.
"""

import argparse
import contextlib
import http.client
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
from loguru import logger

from benchmarks import inventory, servers, sign_ins
from tests.services import fresh_database, postgres_server
from vmtrak.db import Database

CONNECTIONS = 16
WRITERS = 8


def main() -> None:
    options = _options()
    logger.remove()
    if shutil.which("wrk") is None:
        sys.exit("benchmarks: wrk is missing; as root: apt-get install wrk")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(postgres_server()) if options.postgresql else None
        bare = stack.enter_context(servers.running(servers.bare, {}))
        for size in options.sizes:
            with _prepared(size, server, options.keep) as (url, folder):
                measure = _measure_sign_ins if options.sign_ins else _measure
                measure(size, url, folder, bare, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--seconds", type=int, default=3, help="of load for each figure")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--postgresql", action="store_true", help="on a throw-away PostgreSQL")
    parser.add_argument("--sign-ins", action="store_true", help="signing in, and nothing else")
    parser.add_argument("--keep", type=Path, help="a folder in which the databases stay")
    return parser.parse_args()


@contextlib.contextmanager
def _prepared(size: int, server: str | None, keep: Path | None) -> Iterator[tuple[str, Path]]:
    with contextlib.ExitStack() as stack:
        folder = (
            keep / str(size) if keep else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        )
        folder.mkdir(parents=True, exist_ok=True)
        if server:
            url = stack.enter_context(fresh_database(server))
        else:
            url = f"sqlite:///{folder / 'inventory.db'}"
        made = server is None and (folder / "inventory.db").exists()
        if not made:
            database = Database(url)
            inventory.make(database, size)
            database.close()
        yield url, folder


def _measure(
    size: int, url: str, folder: Path, bare: tuple[int, int], options: argparse.Namespace
) -> None:
    database = Database(url)
    bearer = _bearer(database)
    cookie = f"vmtrak_session={inventory.cookie(database)}"
    database.close()
    print(f"\n## {size:,} VMs on {_kind(url)}\n")
    print("| what | of bare Starlette | requests/s |\n|---|---|---|")
    with servers.running(servers.vmtrak, servers.environment(url, folder)) as (port, process):
        deep = _deep_cursor(port, bearer)
        for label, path in (
            ("list page of 50", "/api/vms"),
            ("deep cursor page", f"/api/vms?cursor={deep}"),
            ("filtered list", "/api/vms?environment=production&status=active"),
            ("search", "/api/vms?search=0000042"),
            ("search, several words", "/api/vms?search=kafka+00031"),
            ("one VM", "/api/vms/77"),
        ):
            _compare(label, bare[0], ["-H", bearer, f"http://{servers.HOST}:{port}{path}"], options)
        _compare(
            "create",
            bare[0],
            ["-s", str(_script(folder)), "-H", bearer, f"http://{servers.HOST}:{port}/api/vms"],
            options,
        )
        cpu = _panel_cpu(port, process, cookie)
        print(f"\nPanel's list page: {cpu:.1f} ms of CPU.")
        _report_latency(port, bearer, folder, options.seconds)
        print(f"Peak memory of the server: {_peak_memory(process)} MB.")


def _measure_sign_ins(
    size: int, url: str, folder: Path, bare: tuple[int, int], options: argparse.Namespace
) -> None:
    database = Database(url)
    sign_ins.add_clients(database)
    header = _header(_bearer(database))
    database.close()
    print(f"\n## {sign_ins.CLIENTS} clients sign in; {size:,} VMs on {_kind(url)}\n")
    print("Meanwhile others wait so many milliseconds: median, 99 %, all.\n")
    print("| door | of bare argon2 | sign-ins/s | health | list | bare Starlette |")
    print("|---|---|---|---|---|---|")
    with servers.running(servers.vmtrak, servers.environment(url, folder)) as (port, _):
        others = {
            "health": lambda: _get(port, "/api/health", header),
            "list": lambda: _get(port, "/api/vms", header),
            "bare": lambda: _get(bare[0], "/", header),
        }
        for door in sign_ins.DOORS:
            ratios, rates = [], []
            meanwhile: dict[str, list[float]] = {name: [] for name in others}
            arguments = ["-s", str(door.script(folder)), f"http://{servers.HOST}:{port}{door.path}"]
            for _ in range(options.rounds):
                reference = sign_ins.checks_per_second(options.seconds)
                with sign_ins.timed(others) as found:
                    rate = _wrk(arguments, options.seconds, sign_ins.CLIENTS)
                ratios.append(rate / reference)
                rates.append(rate)
                for name, times in found.items():
                    meanwhile[name] += times
            told = " | ".join(sign_ins.described(times) for times in meanwhile.values())
            print(
                f"| {door.name} | {statistics.median(ratios):.2f} "
                f"| {statistics.median(rates):.1f} | {told} |",
                flush=True,
            )


def _bearer(database: Database) -> str:
    return f"Authorization: Bearer {servers.bearer(database)}"


def _kind(url: str) -> str:
    return "PostgreSQL" if url.startswith("postgresql") else "SQLite"


def _compare(label: str, bare: int, arguments: list[str], options: argparse.Namespace) -> None:
    ratios, rates = [], []
    for _ in range(options.rounds):
        reference = _wrk([f"http://{servers.HOST}:{bare}/"], options.seconds)
        rate = _wrk(arguments, options.seconds)
        ratios.append(rate / reference)
        rates.append(rate)
    print(
        f"| {label} | {statistics.median(ratios):.3f} | {statistics.median(rates):,.0f} |",
        flush=True,
    )


def _wrk(arguments: list[str], seconds: int, connections: int = CONNECTIONS) -> float:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *arguments]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said:
        sys.exit(f"benchmarks: {arguments[-1]} was refused\n{said}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])  # type: ignore[index]  # no match is a bug


def _script(folder: Path) -> Path:
    """A wrk script that adds VMs under names that are always new."""
    path = folder / "create.lua"
    stamp = time.time_ns()
    path.write_text(
        "counter = 0\n"
        "request = function()\n"
        "  counter = counter + 1\n"
        '  local headers = wrk.headers\n  headers["Content-Type"] = "application/json"\n'
        f'  local body = string.format(\'{{"vm_name":"new-{stamp}-%s-%d","owner":"new"}}\','
        " tostring({}):sub(8), counter)\n"
        '  return wrk.format("POST", nil, headers, body)\n'
        "end\n"
    )
    return path


def _get(port: int, path: str, header: tuple[str, str]) -> bytes:
    connection = http.client.HTTPConnection(servers.HOST, port, timeout=60)
    connection.request("GET", path, headers=dict([header]))
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        sys.exit(f"benchmarks: {path} answered {answer.status}")
    return body


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    return name, value


def _deep_cursor(port: int, bearer: str) -> str:
    """The cursor behind the page in the middle of the inventory."""
    header = _header(bearer)
    total = orjson.loads(_get(port, "/api/vms?limit=1", header))["total"]
    page = max(1, total // 100)
    return str(orjson.loads(_get(port, f"/api/vms?page={page}", header))["next"])


def _panel_cpu(port: int, process: int, cookie: str, times: int = 40) -> float:
    for _ in range(3):
        _get(port, "/admin/vm/list", ("Cookie", cookie))
    before = _cpu_seconds(process)
    for _ in range(times):
        _get(port, "/admin/vm/list", ("Cookie", cookie))
    return (_cpu_seconds(process) - before) / times * 1_000


def _report_latency(port: int, bearer: str, folder: Path, seconds: int) -> None:
    """The slowest health and read answers while eight clients write."""
    worst: dict[str, list[float]] = {"/api/health": [], "/api/vms/77": [], "/api/vms": []}
    stop = threading.Event()
    readers = [
        threading.Thread(target=_time_reads, args=(port, path, bearer, found, stop))
        for path, found in worst.items()
    ]
    for reader in readers:
        reader.start()
    command = ["-s", str(_script(folder)), "-H", bearer, f"http://{servers.HOST}:{port}/api/vms"]
    rate = _wrk(command, seconds * 2, WRITERS)
    stop.set()
    for reader in readers:
        reader.join()
    for path, found in worst.items():
        milliseconds = sorted(t * 1_000 for t in found)
        high = milliseconds[int(len(milliseconds) * 0.99)]
        print(
            f"While {WRITERS} clients write ({rate:,.0f}/s) {path}: 99 % within {high:.1f} ms, "
            f"all within {milliseconds[-1]:.1f} ms ({len(found)} requests)."
        )


def _time_reads(
    port: int, path: str, bearer: str, found: list[float], stop: threading.Event
) -> None:
    while not stop.is_set():
        started = time.perf_counter()
        _get(port, path, _header(bearer))
        found.append(time.perf_counter() - started)
        time.sleep(0.02)


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_memory(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024  # type: ignore[index]  # no match is a bug


if __name__ == "__main__":
    main()
