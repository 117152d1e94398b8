"""The soak's network: what a cut does to the connections of who is in its namespace."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest
import trio

from scripts.soaking.network import Namespace, Wire

CONNECT = """\
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=0.3): pass
"""
TALK = """\
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30) as peer:
    for line in sys.stdin:
        peer.sendall(line.encode())
        print(peer.recv(100).decode(), end="", flush=True)
"""


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    try:
        made = Namespace()
    except OSError as error:
        pytest.skip(str(error))
    with closing(made):
        yield made


async def test_a_cut_lets_nothing_through_and_breaks_no_connection(
    nursery: trio.Nursery, namespace: Namespace
) -> None:
    """Who was connected is answered once it is healed; meanwhile nobody else gets through."""
    [peer] = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
    wire = Wire(nursery, namespace, target=peer.socket.getsockname()[1])
    await wire.join()
    inside = [*namespace.enter, sys.executable, "-c"]

    process = await trio.lowlevel.open_process(
        [*inside, TALK, str(wire.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with process.stdin, process.stdout:
        await process.stdin.send_all(b"before\n")
        before = await process.stdout.receive_some()
        namespace.cut()
        await process.stdin.send_all(b"while\n")
        reached = await trio.run_process(
            [*inside, CONNECT, str(wire.port)], check=False, capture_stderr=True
        )
        namespace.heal()
        after = await process.stdout.receive_some()
    await process.wait()

    assert before == b"before\n"
    assert b"TimeoutError" in reached.stderr
    assert after == b"while\n"


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)
