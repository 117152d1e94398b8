"""Where the processor time of a full check goes: the daemon sampled from outside, by py-spy."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from scripts.benchmarks.check import being_checked
from scripts.benchmarks.figures import Row

_PRODUCTS = 50_000
_SAMPLES_A_SECOND = 200
_SHOWN = 10
_IDLE = ("_work (trio/_core/_thread_cache.py)", "get_events (trio/_core/_io_epoll.py)")
"""A thread that waits for work, and the loop for sockets: on some systems these look busy."""


def measure() -> Iterator[Row]:
    """Sample a full check; name the functions, ours and others', in which most time was spent.

    What a function of C takes, such as zlib's or SQLite's, is counted where it was called.
    """
    sampler = shutil.which("py-spy", path=sysconfig.get_path("scripts"))
    with tempfile.TemporaryDirectory(prefix="pricecheck-bench-") as directory:
        samples = Path(directory) / "samples"
        with being_checked(_PRODUCTS) as running:
            command = [str(sampler), "record", "--pid", str(running.pid), "--format", "raw"]
            command += ["--rate", str(_SAMPLES_A_SECOND), "--output", str(samples)]
            with subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            ) as sampling:
                running.wait_checked(_PRODUCTS)
                sampling.send_signal(signal.SIGINT)
                said = sampling.communicate()[1]
        if not samples.exists():
            yield Row("profile", "not measured", said.strip().splitlines()[-1])
            return
        yield from _rows(samples.read_text())


def _rows(raw: str) -> Iterator[Row]:
    own: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        function = re.sub(r":\d+\)$", ")", stack.rpartition(";")[2])
        if not function.endswith(_IDLE):
            own[function] += int(count)
    total = own.total()
    ours = sum(count for function, count in own.items() if "(pricecheck/" in function)
    yield Row(
        f"profile of a full check of {_PRODUCTS:,}",
        f"{total:,} samples",
        "in our functions and what they call in C",
        f"{ours / total:.2f}",
    )
    for function, spent in own.most_common(_SHOWN):
        name, _, file = function.partition(" (")
        yield Row(f"  {name}", f"{spent:,}", file.rstrip(")"), f"{spent / total:.2f}")
