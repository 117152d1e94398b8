"""The benchmarks' command: which figures there are, and how one is told."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "scripts/bench"


def bench(*names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, BENCH, *names], capture_output=True, text=True, check=False
    )


def test_a_figure_that_does_not_exist_is_said_with_those_that_do() -> None:
    """A sentence and exit 2, before anything is measured."""
    run = bench("outbox", "nosuch")

    assert run.returncode == 2
    assert "there is no figure 'nosuch', but library, recount, parse" in run.stderr
    assert run.stdout == ""


@pytest.mark.long
def test_a_figure_stands_in_a_row_with_its_peer_its_bound_and_a_verdict() -> None:
    """What was measured, against what, their ratio, the bound, and whether it was kept."""
    run = bench("outbox")

    row = r"^outbox, .*[\d,]+ records/s +raw sqlite3 [\d,]+ records/s +[\d.]+ +>=0\.7 +(ok|MISSED)$"
    (verdict,) = re.findall(row, run.stdout, re.MULTILINE)
    assert run.returncode == (0 if verdict == "ok" else 1)
