"""A demonstration has invented addresses, which may be somebody's: nothing connects to them."""

import asyncio
import socket

from vmtrak.reachability import Prober, Reach, Target


def test_with_probing_off_nothing_is_connected_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = Target(1, "127.0.0.1", None, listener.getsockname()[1])
        listener.setblocking(False)  # noqa: FBT003 - the socket's own signature
        assert asyncio.run(Prober(probing=False).probe([target])) == {1: Reach.UNKNOWN}
        try:
            listener.accept()
        except BlockingIOError:
            return
    raise AssertionError
