"""A name server that knows one host, *.pricecheck.test, at this address: for a box without any."""

from __future__ import annotations

import socket
from typing import Final

_OURS: Final = b"\x0apricecheck\x04test\0"
_IPV4: Final = b"\0\1\0\1"  # type A, class IN
_HERE: Final = "127.0.0.1"


def answer(query: bytes) -> bytes:
    """Return the answer to a query of one question (RFC 1035)."""
    question = query[12 : query.index(b"\0", 12) + 5]
    known = question[:-4].lower().endswith(_OURS)
    # One name, seen from the question on, good for a second.
    address = b"\xc0\x0c" + _IPV4 + b"\0\0\0\1\0\4" + socket.inet_aton(_HERE)
    found = address if known and question.endswith(_IPV4) else b""
    flags = b"\x85\x80" if known else b"\x85\x83"  # no such name
    counts = b"\0\1" + bytes([0, bool(found)]) + b"\0\0\0\0"
    return query[:2] + flags + counts + question + found


def main() -> None:
    """Answer until killed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((_HERE, 53))
        while True:
            query, peer = server.recvfrom(512)
            server.sendto(answer(query), peer)


main()
