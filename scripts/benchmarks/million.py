"""What a daemon takes that watches a million products."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from scripts.benchmarks.figures import Row, at_most
from scripts.benchmarks.processes import Daemon, daemon, simulator, some_products, write_home

_PRODUCTS: Final = 1_000_000
_CHECKED: Final = 5_000
_MOST_MB: Final = 300


def measure() -> Iterator[Row]:
    """Start with all of them new, check some thousand, and start again."""
    with TemporaryDirectory() as name, simulator("--refill-rate", "0") as url:
        home = Path(name)
        write_home(home, url=url, watched=some_products(_PRODUCTS))
        with daemon(home) as running:
            yield _resident(running, f"{_PRODUCTS:,} products, at READY")
            running.wait_checked(_CHECKED)
            yield _resident(running, f"  {_CHECKED:,} of them checked")
            peak_mb = running.memory_mb("VmHWM")
        yield Row("  peak memory", f"{peak_mb:.0f} MB")


def _resident(running: Daemon, name: str) -> Row:
    mb = running.memory_mb("VmRSS")
    return at_most(name, f"{mb:.0f} MB", f"{_MOST_MB} MB", mb / _MOST_MB, 1)
