"""Each change that Keepa tells of becomes one record: counted again outside the package.

Once with the recorded real answers, and once in simulated weeks during which prices move, products
are checked many times and calls fail.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from pricecheck.keepa.tables import BY_ID
from scripts.benchmarks.figures import Row
from scripts.benchmarks.library import ASINS, SAMPLES
from scripts.benchmarks.processes import OUTBOX, daemon, simulator, some_products, write_home

_SCRIPT = Path(__file__).parent.parent / "recount"
_DAYS = 20
_DAY_A_SECOND = 86_400
_FAULTS = ("429:0.03", "500:0.03", "cut:0.03", "truncated:0.03", "badgzip:0.03", "reset:0.03")


def measure() -> Iterator[Row]:
    """Let a daemon watch, then count."""
    if SAMPLES.is_dir():
        yield _recorded()
    else:
        yield Row("recount: recorded products", "none", f"no {SAMPLES}")
    yield _simulated()


def _recorded() -> Row:
    products = {
        (BY_ID[product["domainId"]].code, product["asin"])
        for file in SAMPLES.glob("*.json")
        for product in json.loads(file.read_bytes())["products"]
    }
    with (
        tempfile.TemporaryDirectory(prefix="pricecheck-bench-") as directory,
        simulator("--refill-rate", "0", "--replay", str(SAMPLES)) as url,
    ):
        home = Path(directory)
        write_home(home, url=url, watched=products, more='lookback = "3650d"')
        with daemon(home) as running:
            running.wait_checked(len(products))
        return _recount(f"recount: {len(products)} recorded, 10 years", SAMPLES, home, 3650)


def _simulated() -> Row:
    epoch_ms = time.time_ns() // 1_000_000
    faults = [option for fault in _FAULTS for option in ("--fault", f"{fault}:product")]
    told = ("--time-factor", str(_DAY_A_SECOND), "--epoch-ms", str(epoch_ms), "--not-found", "0.05")
    with (
        tempfile.TemporaryDirectory(prefix="pricecheck-bench-") as directory,
        simulator("--refill-rate", "0", *told, *faults) as url,
        simulator("--refill-rate", "0", *told) as flawless,
    ):
        home = Path(directory)
        write_home(
            home,
            url=url,
            watched=some_products(len(ASINS)),
            more='every = "6h"\nlookback = "10d"\noffers = 20\n'
            f"[simulation]\ntime_factor = {_DAY_A_SECOND}\nepoch_ms = {epoch_ms}",
        )
        with daemon(home):
            time.sleep(_DAYS)
        answers = home / "answers"
        answers.mkdir()
        query = f"domain=3&offers=20&key=any&asin={','.join(ASINS)}"
        with urllib.request.urlopen(f"{flawless}/product?{query}") as answer:  # noqa: S310
            (answers / "all.json").write_bytes(answer.read())
        return _recount(f"recount: {len(ASINS)} products, {_DAYS} days, faults", answers, home, 10)


def _recount(figure: str, answers: Path, home: Path, look_back_days: int) -> Row:
    command = [sys.executable, str(_SCRIPT), str(answers), str(home / OUTBOX)]
    counted = subprocess.run(
        [*command, "--look-back-days", str(look_back_days)],
        capture_output=True,
        text=True,
        check=False,
    )
    if counted.returncode:
        print(counted.stdout + counted.stderr)
    figures = dict(re.findall(r"^(.*\S)  +([\d,]+)$", counted.stdout, re.MULTILINE))
    return Row(
        figure,
        f"{figures.get('changes that are there', '?')} changes",
        f"{figures.get('differences', '?')} differ, {figures.get('checks', '?')} checks",
        "",
        "0",
        counted.returncode == 0,
    )
