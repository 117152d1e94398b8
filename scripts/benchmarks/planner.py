"""What the planner keeps right, against other policies: `make bench-planner`, a row a bound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scripts.benchmarks.figures import Row, at_most
from scripts.planner_bench.figures import report

_SEEDS = range(1, 6)
_TABLES = Path(__file__).resolve().parents[2] / "build" / "bench-planner.txt"


def measure() -> Iterator[Row]:
    """Run all of it; its tables go to a file of their own."""
    _TABLES.parent.mkdir(exist_ok=True)
    with _TABLES.open("w", encoding="utf-8") as file:
        bounds = report(_SEEDS, lambda text: print(text, file=file, flush=True), lambda _: None)
    for bound in bounds:
        if bound.most is None:
            yield Row(bound.name, f"{bound.figure:.3f}")
        else:
            most, ratio = bound.most, bound.figure / bound.most
            yield at_most(bound.name, f"{bound.figure:.3f}", f"at most {most:g}", ratio, 1)
