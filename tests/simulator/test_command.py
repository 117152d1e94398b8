"""The simulator as a process."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

PRODUCT = "/product?key=k&domain=3&asin=B000000001&stats=90"


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a simulator process; give it and the line that it prints."""
    command = [sys.executable, "-m", "pricecheck.simulator", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline()
        finally:
            process.kill()


def address(line: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_says_one_line_and_ends_at_a_signal(number: signal.Signals) -> None:
    """The line names address, seed, rate and time; a signal ends it with 0, even mid-call."""
    with running("--time-factor", "60", "--fault", "timeout:1:product") as (process, line):
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(address(line) + PRODUCT, timeout=0.2)

        process.send_signal(number)
        rest, _ = process.communicate(timeout=5)

    expected = r"SIMULATED Keepa API on \S+ \(seed 1, 20 tokens a minute, time x60\)\n"
    assert re.fullmatch(expected, line)
    assert (process.returncode, rest) == (0, "")


def test_two_processes_make_the_same_world() -> None:
    """The same seed and the same time give the same product, whoever simulates it."""
    answers = []
    for _ in range(2):
        with running("--seed", "9", "--refill-rate", "0") as (_process, line):
            answers.append(httpx.get(address(line) + PRODUCT).json())

    one, two = (answer["products"][0]["csv"][1] for answer in answers)
    assert len(one) > 20
    assert two[: len(one)] == one
    assert answers[0]["tokensLeft"] > 1_000_000


def test_a_fault_that_there_is_not_ends_it_with_a_sentence() -> None:
    """Exit code and remedy for the operator, no traceback."""
    command = [sys.executable, "-m", "pricecheck.simulator", "--fault", "flood:1"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    assert done.returncode == 65
    assert "unknown fault 'flood'" in done.stderr
    assert "Traceback" not in done.stderr
