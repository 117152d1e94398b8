"""`pricecheck status`, asked of a real socket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from pricecheck import status
from pricecheck.snapshot import (
    SHAPE_VERSION,
    Snapshot,
    StoreState,
    TaskStatus,
    TokenState,
    Totals,
    WatchlistState,
)
from tests.cli.conftest import Run

PRICES = TaskStatus(
    name="prices",
    state="waiting",
    why="waiting for 1,500 tokens until 14:05",
    restarts=0,
    stalls=0,
    last_error=None,
    since=100.0,
    last_beat=3.0,
    next_start=None,
)
BROKEN = msgspec.structs.replace(
    PRICES,
    name="deals:DE",
    state="backing off",
    why="",
    restarts=3,
    last_error="ValueError: no",
    next_start=42.0,
)


def snapshot(**fields: Any) -> Snapshot:
    shape: dict[str, Any] = {
        "shape": SHAPE_VERSION,
        "version": "1.2.3",
        "pid": 4711,
        "health": "ok",
        "reasons": [],
        "simulated": False,
        "now": "2026-11-24T14:00:00Z",
        "uptime_s": 3_700.0,
        "config": "/etc/pricecheck/pricecheck.toml",
        "notes": [],
        "tokens": TokenState(
            tokens=600,
            capacity=1_200,
            refill_rate=20.0,
            refill_in_s=12.0,
            reserved=0,
            waiting=0,
            foreign_per_hour=0,
            costs={"product": 1.0},
        ),
        "watchlist": WatchlistState(
            products=10_000,
            bad_lines=2,
            due=7,
            next_due_s=90.0,
            longest_overdue_s=0.0,
            absent=0,
            set_aside=1,
            changes=1_234,
        ),
        "tasks": [PRICES],
        "relays": [],
        "totals": Totals(calls=56, failed_calls=2, tokens=1_234, products=1_180, records=5_000),
        "store": StoreState(
            path="outbox.sqlite",
            bytes=4_200_000,
            records={"price": 100, "change": 2_000},
            dead_letters={"keepa": 1},
            trouble=None,
            moved_aside=None,
        ),
    }
    return Snapshot(**shape | fields)


@pytest.fixture
async def answer(home: Path, nursery: trio.Nursery) -> Any:
    """Let a daemon's socket in the state directory answer with this snapshot."""

    async def listen(given: Snapshot) -> None:
        async def take() -> Snapshot:
            return given

        (home / "state").mkdir()
        nursery.start_soon(status.serve, status.bind(home / "state"), take)

    return listen


async def test_shows_the_state_in_words_and_figures(run: Run, answer: Any) -> None:
    """Tokens, spending, watchlist, store and each task, a line each; exit code 0."""
    await answer(snapshot())

    done = await run("status")

    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "pricecheck 1.2.3  healthy",
        "up 1h1m40s, pid 4711, 2026-11-24T14:00:00Z, config /etc/pricecheck/pricecheck.toml",
        "",
        "tokens     [###############...............] 600 of 1,200, +20 a minute",
        "spent      1,234 tokens in 56 calls, 2 failed; 1,180 products checked",
        "watchlist  10,000 products, 7 due, next in 1m30s; 1,234 changes found, 1 set aside, "
        "2 bad lines",
        "stored     2,100 records, 4.2 MB (change 2,000, price 100), 1 dead letters",
        "",
        "prices  waiting     waiting for 1,500 tokens until 14:05",
    ]


async def test_a_degraded_daemon_says_why(run: Run, answer: Any) -> None:
    """The reasons stand on top, the task's error beside it, and the exit code is 1."""
    await answer(snapshot(health="degraded", reasons=["deals:DE is broken"], tasks=[BROKEN]))

    done = await run("status")

    assert done.returncode == 1
    assert "pricecheck 1.2.3  degraded" in done.stdout
    assert "! deals:DE is broken" in done.stdout
    assert "backing off again in 42s: ValueError: no  (3 restarts)" in done.stdout


async def test_simulated_prices_are_called_so(run: Run, answer: Any) -> None:
    """No screen of a demo can be taken for real."""
    await answer(snapshot(simulated=True))

    done = await run("status")

    assert "SIMULATED" in done.stdout.splitlines()[0]


async def test_json_is_the_snapshot(run: Run, answer: Any) -> None:
    """Scripts get every field under its documented name."""
    given = snapshot()
    await answer(given)

    done = await run("status", "--json")

    assert msgspec.json.decode(done.stdout, type=Snapshot) == given
    assert json.loads(done.stdout)["shape"] == SHAPE_VERSION


async def test_tokens_not_known_yet_are_not_a_figure(run: Run, answer: Any) -> None:
    """Before Keepa's first answer there is nothing to show."""
    unknown = msgspec.structs.replace(snapshot().tokens, tokens=None, capacity=None)
    await answer(snapshot(tokens=unknown))

    done = await run("status")

    assert "tokens     not known yet" in done.stdout


async def test_a_daemon_that_does_not_run_is_exit_code_3(run: Run) -> None:
    """As systemctl has it, with what to do."""
    done = await run("status")

    assert done.returncode == 3
    assert "pricecheck is not running" in done.stderr
    assert "systemctl start pricecheck" in done.stderr


async def test_colours_only_on_a_terminal(run: Run, answer: Any) -> None:
    """A pipe gets plain text."""
    await answer(snapshot(health="degraded", reasons=["x"], tasks=[BROKEN]))

    done = await run("status")

    assert "\x1b" not in done.stdout
