"""From the start of the daemon's process until all its tasks run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from pricecheck.outbox import Commit, Outbox, ProductState
from pricecheck.status import ask
from scripts.benchmarks.check import MANY
from scripts.benchmarks.figures import Row
from scripts.benchmarks.processes import OUTBOX, daemon, simulator, some_products, write_home


def measure() -> Iterator[Row]:
    """Start with one product, and with a hundred thousand; all checked some time ago."""
    with simulator("--refill-rate", "0") as url:
        one, many = _start(url, 1), _start(url, MANY)
    for what, i in (("READY", 0), ("first check planned", 1)):
        yield Row(
            f"start with {MANY:,} products, to {what}",
            f"{many[i]:.2f} s",
            f"{one[i]:.2f} s with one",
            f"{many[i] / one[i]:.2f}",
        )


def _start(url: str, products: int) -> tuple[float, float]:
    """Return the seconds until it says READY, and until it knows which product is next."""
    watched = some_products(products)
    with tempfile.TemporaryDirectory(prefix="pricecheck-bench-") as directory:
        home = Path(directory)
        write_home(home, url=url, watched=watched)
        now_ms = time.time_ns() // 1_000_000
        with closing(Outbox.open(home / OUTBOX)) as outbox:
            states = tuple(ProductState(domain, asin, now_ms, b"{}") for domain, asin in watched)
            outbox.commit(Commit(states=states))
        began = time.perf_counter()
        with daemon(home) as running:
            while ask(home / "state").watchlist.next_due_s is None:
                time.sleep(0.01)
            return running.ready_s, time.perf_counter() - began
