"""What a daemon takes whose ten thousand products are all known: a check as tokens arrive."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from pricecheck.status import ask
from scripts.benchmarks.check import FEW
from scripts.benchmarks.figures import Row, at_most
from scripts.benchmarks.growth import know_all, wait_planned
from scripts.benchmarks.processes import Daemon, daemon, simulator, some_products, write_home

_WATCHED_S = 120
_SETTLING_S = 30  # half a minute, for a refill comes with each: none at an edge
_HOUR_S = 3600
_MOST_MB = 80
_REFILL = 20  # tokens a minute, of Keepa's smallest usual plan
_RESERVE = 120  # a tenth of what its bucket holds: where it stands when tokens are scarce


def measure() -> Iterator[Row]:
    """Watch it in real time: more is due than the plan's twenty checks a minute."""
    with (
        TemporaryDirectory(prefix="pricecheck-bench-") as name,
        simulator("--refill-rate", str(_REFILL), "--tokens", str(_RESERVE)) as url,
    ):
        home = Path(name)
        watched = some_products(FEW)
        write_home(home, url=url, watched=watched)
        know_all(home, watched)
        with daemon(home) as running:
            wait_planned(running)
            time.sleep(_SETTLING_S)
            checked_before = _checked(running)
            began, cpu_before_s = time.perf_counter(), running.cpu_s()
            time.sleep(_WATCHED_S)
            share = (running.cpu_s() - cpu_before_s) / (time.perf_counter() - began)
            resident_mb = running.memory_mb("VmRSS")
            checked = _checked(running) - checked_before
    if not checked:
        raise RuntimeError("nothing was checked: that is no daemon at work")
    yield Row(
        f"idle with {FEW:,} products for {_WATCHED_S} s",
        f"{share * _HOUR_S:.1f} CPU s an hour",
        f"one core {_HOUR_S:,} s; {checked} checks",
        f"{share:.4f}",
    )
    yield at_most(
        "  resident memory",
        f"{resident_mb:.0f} MB",
        f"{_MOST_MB} MB",
        resident_mb / _MOST_MB,
        1,
    )


def _checked(running: Daemon) -> int:
    return ask(running.home / "state").totals.products
