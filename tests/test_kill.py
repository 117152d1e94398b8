"""A daemon that is killed at random moments loses nothing that it has committed.

The simulator's ledger says which answers were delivered and its own histories which changes there
were; both are compared with what the outbox holds after many kills.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from contextlib import closing
from datetime import datetime
from random import Random
from time import sleep
from typing import Any

import pytest
import trio

from pricecheck.collect.products import recall
from pricecheck.keepa.tables import BY_CODE, BY_ID, PRICES
from pricecheck.keepa.time import from_unix_ms, to_rfc3339, to_unix_ms
from pricecheck.outbox import Outbox, lookup, open_readonly
from pricecheck.simulator.series import histories
from pricecheck.simulator.world import find

from .daemons import House, Service, fast_time, until

SEED = 7  # of the simulated world
PRODUCTS = [f"B{number:09d}" for number in range(30)]
LOOK_BACK_DAYS = 90


@pytest.mark.parametrize(
    "kills", [5, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
async def test_a_killed_daemon_has_kept_what_it_committed_and_goes_on(
    house: House, service: Service, kills: int
) -> None:
    """Each answer is in the outbox whole or not at all, each change once, and right."""
    seed = int(os.environ.get("KILL_SEED", Random().randrange(10**6)))
    print(f"KILL_SEED={seed}")  # noqa: T201  # shown with a failure, to repeat it
    random = Random(seed)
    service.runs_in(fast_time(3600.0))
    await service.serve(refill_rate=0, seed=SEED)
    house.configure(prices=f'every = "2h"\nlookback = "{LOOK_BACK_DAYS}d"')
    house.watch(PRODUCTS)

    for _ in range(kills):
        calls = count_calls(service) + random.randrange(8)
        with house.start() as daemon:
            await until(lambda calls=calls: count_calls(service) >= calls)  # type: ignore[misc]
            await trio.to_thread.run_sync(sleep, random.random() * 0.1)  # the moment itself
            daemon.process.kill()
    with house.start() as daemon:
        calls = count_calls(service) + 5
        await until(lambda: count_calls(service) >= calls)
        assert await daemon.ends(signal.SIGTERM) == 0

    with closing(open_readonly(house.outbox)) as outbox:
        assert_whole_answers(outbox, service.asked())
        assert_every_change_once(outbox)
    with closing(sqlite3.connect(house.outbox)) as db:
        [(distinct, rows)] = db.execute("SELECT count(DISTINCT kind || id), count(*) FROM records")
        assert distinct == rows
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def count_calls(service: Service) -> int:
    """How many calls the simulator has logged."""
    return service.ledger.read_bytes().count(b"\n") if service.ledger.exists() else 0


def prices_of(outbox: Outbox) -> dict[str, Any]:
    """All price records, by id."""
    found = [json.loads(body) for body in lookup.latest(outbox, "price", limit=1_000_000)]
    return {f"{one['domain']}:{one['asin']}:{one['timestamp']}": one for one in found}


def assert_whole_answers(outbox: Outbox, calls: list[dict[str, Any]]) -> None:
    """Of each delivered answer all prices are there or none; the states tell of the last."""
    prices = prices_of(outbox)
    delivered = set()
    kept = 0
    for call in calls:
        domain, observed_at = BY_ID[call["domain"]].code, to_rfc3339(call["at_ms"])
        ids = {f"{domain}:{asin}:{observed_at}" for asin in call["asins"]}
        if call["delivered"]:
            delivered |= ids
        assert ids <= prices.keys() or ids.isdisjoint(prices), call
        kept += ids <= prices.keys()
    assert prices.keys() <= delivered
    assert kept > 5

    stored = outbox.states("DE", PRODUCTS)
    newest = {one["asin"]: one for one in reversed(prices.values())}
    assert stored.keys() == newest.keys()
    for asin, body in stored.items():
        known = recall(body)
        assert known is not None
        assert known.last_update == minute_of(newest[asin]["timestamp"])
        assert known.current_price == newest[asin]["current_price"]


def assert_every_change_once(outbox: Outbox) -> None:
    """The changes kept of each product are those of the simulator's own histories."""
    times: dict[str, list[int]] = {}
    for price in prices_of(outbox).values():
        times.setdefault(price["asin"], []).append(minute_of(price["timestamp"]))
    assert len(times) == len(PRODUCTS)
    for asin, minutes in times.items():
        bodies = [json.loads(body) for body in lookup.changes(outbox, asin)]
        kept = {(one["price_type"], one["changed_at"]): one for one in bodies}
        expected = recount(asin, min(minutes) - LOOK_BACK_DAYS * 1440, max(minutes))
        assert {key: (one["old_price"], one["new_price"]) for key, one in kept.items()} == expected
        assert len(kept) == len(bodies)


def recount(asin: str, since: int, until: int) -> dict[tuple[str, str], tuple[Any, Any]]:
    """Count a product's changes in the simulated world itself."""
    listing = find(SEED, 0.0, BY_CODE["DE"].id, asin, until)
    assert listing is not None
    known = histories(listing, until)
    changes = {}
    for series in PRICES:
        before: int | None = None
        points = known.get(series.index)
        for minute, value in zip(points.minutes, points.values, strict=True) if points else ():
            now = value if value >= 0 else None
            if now != before and since <= minute:
                changes[series.name, to_rfc3339(to_unix_ms(minute))] = (before, now)
            before = now
    return changes


def minute_of(timestamp: str) -> int:
    """The Keepa minute of an RFC 3339 time."""
    return from_unix_ms(round(datetime.fromisoformat(timestamp).timestamp() * 1000))
