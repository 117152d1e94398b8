"""What a daemon takes that watches a million products, new ones and well-known ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from pricecheck.collect.products import Known, remember
from pricecheck.keepa.time import from_unix_ms
from pricecheck.outbox import Commit, Outbox, ProductState
from pricecheck.rhythm import Rhythm
from pricecheck.status import ask
from scripts.benchmarks.figures import Row, at_most
from scripts.benchmarks.processes import (
    OUTBOX,
    Daemon,
    daemon,
    simulator,
    some_products,
    write_home,
)

_PRODUCTS: Final = 1_000_000
_CHECKED: Final = 5_000
_MOST_MB: Final = 300
_DISTINCT: Final = 1000
_AT_ONCE: Final = 10_000


def measure() -> Iterator[Row]:
    """Watch a million new products and check some thousand; then the same, all known of old."""
    with TemporaryDirectory() as name, simulator("--refill-rate", "0") as url:
        home = Path(name)
        write_home(home, url=url, watched=some_products(_PRODUCTS))
        yield from _run(home, "new")
        _know_all(home)
        yield from _run(home, "known")


def _run(home: Path, what: str) -> Iterator[Row]:
    with daemon(home) as running:
        ready = f"{_PRODUCTS:,} {what} products, at READY after {running.ready_s:.1f} s"
        yield _memory(running, ready, "VmRSS")
        while ask(home / "state").totals.products < _CHECKED:
            time.sleep(0.2)
        yield _memory(running, f"  after {_CHECKED:,} checks", "VmRSS")
        yield _memory(running, "  peak", "VmHWM")


def _memory(running: Daemon, name: str, field: str) -> Row:
    mb = running.memory_mb(field)
    return at_most(name, f"{mb:.0f} MB", f"{_MOST_MB} MB", mb / _MOST_MB, 1)


def _know_all(home: Path) -> None:
    """Write down a check of every product in the last day, each with a rhythm of its own."""
    now_ms = time.time_ns() // 1_000_000
    bodies = [
        remember(
            Known(
                since=1,
                last_update=from_unix_ms(now_ms) - 1440,
                current_price=4_999,
                rhythm=Rhythm(from_unix_ms(now_ms) - 1440, k / 30, 43.0, 7_000_000, k / 99, 11.0),
            )
        )
        for k in range(1, _DISTINCT + 1)
    ]
    with closing(Outbox.open(home / OUTBOX)) as outbox:
        products = some_products(_PRODUCTS)
        for begin in range(0, _PRODUCTS, _AT_ONCE):
            states = [
                ProductState(domain, asin, now_ms - (begin + k) * 80, bodies[k % _DISTINCT])
                for k, (domain, asin) in enumerate(products[begin : begin + _AT_ONCE])
            ]
            outbox.commit(Commit(states=tuple(states)))
