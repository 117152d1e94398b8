"""A directory with a config, and the command run in it as people run it: a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import trio

from pricecheck.outbox import FILE_NAME, Commit, Outbox
from pricecheck.records import Record
from pricecheck.simulator.server import serve
from pricecheck.simulator.settings import Settings
from tests.deliver.conftest import serve_http  # noqa: F401  # the fixture

KEY = "planted+key/of=the&tests"

Run = Callable[..., Awaitable["CompletedProcess[str]"]]
Keep = Callable[[Iterable[Record]], None]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with a config for a simulator that does not run, and an empty watchlist."""
    (tmp_path / "pricecheck.toml").write_text(
        'state_directory = "state"\n[keepa]\nurl = "http://127.0.0.1:9"\n'
    )
    (tmp_path / "watchlist.csv").write_text("asin\n")
    return tmp_path


@pytest.fixture
def run(home: Path) -> Run:
    """Run the command in the directory; return its exit code and what it printed."""
    kept = {"PATH", "LANG", "PYTHONPATH"}
    environ = {name: value for name, value in os.environ.items() if name in kept}

    async def start(*arguments: str, **options: Any) -> CompletedProcess[str]:
        command = [sys.executable, "-m", "pricecheck", *arguments]
        call = partial(
            subprocess.run,
            command,
            cwd=home,
            env=environ | {"COLUMNS": "120", "HOME": str(home)} | options.pop("env", {}),
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            **({"stdin": subprocess.DEVNULL} | options if "input" not in options else options),
        )
        return await trio.to_thread.run_sync(call)

    return start


@pytest.fixture
def keep(home: Path) -> Keep:
    """Put records into the directory's outbox."""

    def commit(records: Iterable[Record]) -> None:
        with closing(Outbox.open(home / "state" / FILE_NAME)) as outbox:
            outbox.commit(Commit(records=tuple(records)))

    return commit


@pytest.fixture
async def simulate(home: Path, nursery: trio.Nursery) -> Callable[..., Awaitable[Path]]:
    """Start a simulator that the directory's config names; return its ledger."""

    async def start(config: str = "", **settings: Any) -> Path:
        ledger = home / "ledger"
        port = await nursery.start(serve, Settings(ledger=ledger, **settings))
        (home / "pricecheck.toml").write_text(
            f'state_directory = "state"\n[keepa]\nurl = "http://127.0.0.1:{port}"\n{config}'
        )
        return ledger

    return start


@pytest.fixture
def outbox(home: Path) -> Iterator[Callable[[], Outbox]]:
    """Open the directory's outbox."""
    opened: list[Outbox] = []

    def open_it() -> Outbox:
        opened.append(Outbox.open(home / "state" / FILE_NAME))
        return opened[-1]

    yield open_it
    for each in opened:
        each.close()
