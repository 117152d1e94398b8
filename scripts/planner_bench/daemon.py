"""The real daemon against the simulator in fast time, beside the simulation of the same world.

The simulator's ledger tells when each product was checked, its world when each price changed:
both are scored as the simulation is.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pricecheck.keepa.time import from_unix_ms
from pricecheck.simulator.world import DAY, Listing
from scripts.planner_bench.policies import AgeIndex
from scripts.planner_bench.run import Score, run
from scripts.planner_bench.worlds import HISTORY, World

PRODUCTS: Final = 1000
REFILL: Final = 2
_WINDOW: Final = (2.0, 6.0)
_FACTOR: Final = 1800
_SEED: Final = 1
_DOMAIN: Final = 3
_DAY_MS: Final = 86_400_000


class _Replayed:
    """The checks that the daemon made."""

    def __init__(self, checks: list[tuple[float, int]]) -> None:
        self._checks = checks

    def checks(self, budget: float) -> Iterator[tuple[float, int]]:
        """Yield them in order of time."""
        yield from self._checks

    def seen(self, i: int, at: float, changes: list[float]) -> None:
        """Learn nothing: the daemon has."""


def measure() -> tuple[Score, Score]:
    """Return the daemon's score and that of the simulation, in the same world."""
    asins = [f"B{number:09d}" for number in range(PRODUCTS)]
    epoch_ms = time.time_ns() // 1_000_000
    ledger = _let_it_run(asins, epoch_ms)
    world = _world(asins, from_unix_ms(epoch_ms))
    numbers = {asin: i for i, asin in enumerate(asins)}
    checks = [
        ((entry["at_ms"] - epoch_ms) / _DAY_MS, numbers[asin])
        for entry in map(json.loads, ledger.splitlines())
        if entry["path"] == "product" and entry["delivered"]
        for asin in entry["asins"]
    ]
    budget = REFILL * 1440.0
    theirs = run(_Replayed(sorted(checks)), world, budget, _WINDOW)
    return theirs, run(AgeIndex(world, budget, refill=REFILL), world, budget, _WINDOW)


def _world(asins: list[str], begin: int) -> World:
    """Return when the simulator's products change, in days from a minute of Keepa."""
    changes = []
    rates = array("d")
    for asin in asins:
        listing = Listing(_SEED, _DOMAIN, asin)
        listing.draw_changes(begin + round(_WINDOW[1] * DAY))
        times = ((minute - begin) / DAY for minute in listing.minutes[1:])
        changes.append(array("d", (at for at in times if -HISTORY <= at < _WINDOW[1])))
        rates.append(listing.changes_a_day)
    return World(rates, array("d", [1.0]) * len(asins), changes)


def _let_it_run(asins: list[str], epoch_ms: int) -> str:
    """Run simulator and daemon until the window has passed; return the ledger."""
    clock = ["--time-factor", str(_FACTOR), "--epoch-ms", str(epoch_ms)]
    pricecheck = [sys.executable, "-m", "pricecheck"]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        ledger = place / "ledger"
        simulate = [*pricecheck, "simulate", "--port", "0", "--seed", str(_SEED), *clock]
        simulate += ["--refill-rate", str(REFILL), "--ledger", str(ledger)]
        with subprocess.Popen(simulate, stdout=subprocess.PIPE, text=True) as simulator:
            try:
                assert simulator.stdout is not None
                found = re.search(r"http://[0-9.:]+", simulator.stdout.readline())
                assert found, "the simulator says its address first"
                _configure(place, found[0], asins, epoch_ms)
                _run_daemon([*pricecheck, "run", "--config", str(place / "pricecheck.toml")], place)
            finally:
                simulator.terminate()
        return ledger.read_text()


def _configure(place: Path, url: str, asins: list[str], epoch_ms: int) -> None:
    (place / "watchlist.csv").write_text("\n".join(["asin", *asins]) + "\n")
    (place / "pricecheck.toml").write_text(
        f'state_directory = "{place}/state"\nlog_level = "WARNING"\n[keepa]\nurl = "{url}"\n'
        f"[simulation]\ntime_factor = {_FACTOR}\nepoch_ms = {epoch_ms}\n"
    )


def _run_daemon(command: list[str], place: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(place)}
    seconds = (_WINDOW[1] + 0.05) * 86_400 / _FACTOR
    with (
        (place / "log").open("wb") as log,
        subprocess.Popen(command, env=environ, stdout=log, stderr=log) as daemon,
    ):
        try:
            daemon.wait(seconds)
            sys.exit("the daemon ended by itself:\n" + (place / "log").read_text()[-2000:])
        except subprocess.TimeoutExpired:
            daemon.send_signal(signal.SIGTERM)


if __name__ == "__main__":
    for score in measure():
        print(score)
