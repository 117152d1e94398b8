"""What a daemon takes whose ten thousand products have all been checked."""

from __future__ import annotations

import time
from collections.abc import Iterator

from pricecheck.status import ask
from scripts.benchmarks.check import FEW, checked
from scripts.benchmarks.figures import Row, at_most
from scripts.benchmarks.processes import Daemon

_WATCHED_S = 120
_HOUR_S = 3600
_MOST_MB = 80


def measure() -> Iterator[Row]:
    """Watch it in real time, at the default interval: each minute some thirty products are due."""
    with checked(FEW) as (running, _):
        calls_before = _calls(running)
        began, cpu_before_s = time.perf_counter(), running.cpu_s()
        time.sleep(_WATCHED_S)
        share = (running.cpu_s() - cpu_before_s) / (time.perf_counter() - began)
        resident_mb = running.memory_mb("VmRSS")
        calls = _calls(running) - calls_before
    yield Row(
        f"idle with {FEW:,} products for {_WATCHED_S} s",
        f"{share * _HOUR_S:.1f} CPU s an hour",
        f"one core {_HOUR_S:,} s; {calls} calls",
        f"{share:.4f}",
    )
    yield at_most(
        "  resident memory",
        f"{resident_mb:.0f} MB",
        f"{_MOST_MB} MB",
        resident_mb / _MOST_MB,
        1,
    )


def _calls(running: Daemon) -> int:
    return ask(running.home / "state").totals.calls
