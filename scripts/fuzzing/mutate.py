"""Makes an input out of others: bytes changed, words put in, and JSON changed as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

LONGEST: Final = 4_096
"""Bytes; what only a longer input shows is for tests of their own."""

_NUMBERS: Final = (0, -1, 1, 10, 2**31 - 1, 2**31, -(2**31) - 1, 2**53, 2**63, 10**30, 0.5, -0.0)
_ODD: Final[tuple[Any, ...]] = (None, True, "", "\x00", "\ud800", "ü€", [], {}, [[]], *_NUMBERS)
_PIECES: Final = (b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\r\n", b"\n", b"\r", b'"', b"'")


def mutated(
    random: Random, pool: Sequence[bytes], words: Sequence[bytes], *, is_json: bool
) -> bytes:
    """Return a new input, made of one or two of the pool's."""
    data = random.choice(pool)
    if is_json and random.random() < 0.6:
        data = _as_json(random, data)
    else:
        pieces = [*words, *_PIECES, *(str(number).encode() for number in _NUMBERS)]
        for _ in range(random.choice((1, 1, 1, 2, 3, 5, 9))):
            other = random.choice(pool)
            data = random.choice(_WAYS)(random, data, random.choice(pieces), other)
    return data[:LONGEST]


def shrunk(data: bytes, is_alike: Callable[[bytes], bool], *, tries: int = 300) -> bytes:
    """Return what is left when everything is taken away without which the rest is still alike."""
    size = len(data) // 2
    while size and tries > 0:
        place = 0
        while place < len(data) and tries > 0:
            less = data[:place] + data[place + size :]
            tries -= 1
            if is_alike(less):
                data = less
            else:
                place += size
        size //= 2
    return data


def _span(random: Random, data: bytes) -> tuple[int, int]:
    begin = random.randint(0, len(data))
    return begin, min(len(data), begin + random.choice((1, 1, 2, 4, 8, 16, 64, 1024)))


def _change(random: Random, data: bytes, piece: bytes, other: bytes) -> bytes:
    begin, _ = _span(random, data)
    return data[:begin] + random.randbytes(1) + data[begin + 1 :]


def _cut(random: Random, data: bytes, piece: bytes, other: bytes) -> bytes:
    begin, end = _span(random, data)
    return data[:begin] + data[end:]


def _insert(random: Random, data: bytes, piece: bytes, other: bytes) -> bytes:
    begin, _ = _span(random, data)
    return data[:begin] + piece + data[begin:]


def _replace(random: Random, data: bytes, piece: bytes, other: bytes) -> bytes:
    begin, end = _span(random, data)
    return data[:begin] + piece + data[end:]


def _repeat(random: Random, data: bytes, piece: bytes, other: bytes) -> bytes:
    begin, end = _span(random, data)
    times = random.choice((2, 3, 10, 300))
    return (data[:begin] + data[begin:end] * times + data[end:])[:LONGEST]


def _splice(random: Random, data: bytes, piece: bytes, other: bytes) -> bytes:
    begin, end = _span(random, other)
    place, _ = _span(random, data)
    return data[:place] + other[begin : max(end, random.randint(0, len(other)))] + data[place:]


def _line(random: Random, data: bytes, piece: bytes, other: bytes) -> bytes:
    lines, others = data.split(b"\n"), other.split(b"\n")
    lines.insert(random.randint(0, len(lines)), random.choice(others))
    return b"\n".join(lines)


_WAYS: Final = (_change, _cut, _insert, _insert, _replace, _replace, _repeat, _splice, _line)


def _as_json(random: Random, data: bytes) -> bytes:
    """Change one place in a JSON document; what is none comes back as it is."""
    try:
        document = json.loads(data)
        places = list(_places(document))
        for _ in range(random.choice((1, 1, 2, 3))):
            container, key = random.choice(places)
            _touch(random, container, key, random.choice(places))
        return json.dumps(document).encode()
    except (ValueError, RecursionError, IndexError):
        return data


def _places(node: Any) -> Any:
    keys = (
        list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    )
    for key in keys:
        yield node, key
        yield from _places(node[key])


def _touch(random: Random, container: Any, key: Any, elsewhere: tuple[Any, Any]) -> None:
    try:
        value = container[key]
        match random.randrange(6):
            case 0:
                del container[key]
            case 1 if isinstance(container, list):
                container.insert(key, value)
            case 2 if isinstance(value, int):
                container[key] = value + random.choice((-1, 1, 1000))
            case 3:
                # A copy, or a container might come to hold itself.
                container[key] = json.loads(json.dumps(elsewhere[0][elsewhere[1]]))
            case _:
                container[key] = random.choice(_ODD)
    except (LookupError, TypeError):
        return  # an earlier change took that place away
