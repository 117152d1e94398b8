"""How long the commands take that people type most, as whole processes."""

from __future__ import annotations

import compileall
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pricecheck
from scripts.benchmarks.figures import Row, at_most, median_seconds, milliseconds
from scripts.benchmarks.processes import daemon, simulator, some_products, write_home

_ROUNDS = 31
_MOST = 2


def measure() -> Iterator[Row]:
    """Run them and the bare import of click in turn, against a daemon that is running.

    Compiled, as pip compiles click and whatever else it installs.
    """
    compileall.compile_dir(Path(pricecheck.__file__).parent, quiet=1)
    with (
        tempfile.TemporaryDirectory(prefix="pricecheck-bench-") as directory,
        simulator("--refill-rate", "0") as url,
    ):
        home = Path(directory)
        write_home(home, url=url, watched=some_products(1))
        config = str(home / "pricecheck.toml")
        with daemon(home):
            import_click, status, help_ = median_seconds(
                (
                    partial(_run, "-c", "import click"),
                    partial(_run, "-m", "pricecheck", "status", "--config", config),
                    partial(_run, "-m", "pricecheck", "--help"),
                ),
                _ROUNDS,
            )
    for command, seconds in (("status", status), ("--help", help_)):
        yield at_most(
            f"pricecheck {command}",
            milliseconds(seconds),
            f"import click {milliseconds(import_click)}",
            seconds / import_click,
            _MOST,
        )


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
