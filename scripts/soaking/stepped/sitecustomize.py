"""Lets the soak step the wall clock of a process that runs: Python imports this at its start.

The file that PRICECHECK_SOAK_CLOCK names holds how many nanoseconds the clock is wrong, and may be
rewritten at any time. Clocks that only measure durations stay right, as they do when a machine's
wall clock is put right or wrong.
"""

import mmap
import os
import struct
import time
from pathlib import Path

_right = time.time_ns

with Path(os.environ["PRICECHECK_SOAK_CLOCK"]).open("rb") as file:
    _wrong_by = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)


def _stepped_ns() -> int:
    wrong_by: int = struct.unpack("q", _wrong_by)[0]
    return _right() + wrong_by


time.time_ns = _stepped_ns
time.time = lambda: _stepped_ns() / 1e9
