"""Every panel has data: a real Elasticsearch is asked, after a real run, what Kibana would ask."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from pricecheck import config
from pricecheck.deliver.elasticsearch import ElasticsearchSink
from pricecheck.errors import StoreError
from pricecheck.kibana.saved_objects import saved_objects
from pricecheck.outbox import FILE_NAME, Stored, open_readonly
from pricecheck.simulator.server import serve
from pricecheck.simulator.settings import Fault, Settings
from tests.deliver.conftest import elasticsearch_url, services
from tests.kibana.searches import Row, Search, searches

__all__ = ["elasticsearch_url", "services"]  # fixtures

NAMES = config.Names(prefix="panels-")
ASINS = tuple(f"B0{number:08}" for number in range(20))
TIME_FACTOR = 1200.0  # an hour in three seconds
LONG_ENOUGH_S = 40  # simulated: 13 hours
CONFIG = """
state_directory = "state"
[keepa]
url = "http://127.0.0.1:{port}"
[simulation]
time_factor = {factor}
epoch_ms = {epoch_ms}
[prices]
every = "30m"
lookback = "35d"
[[deals]]
domain = "DE"
every = "1h"
[[deals]]
domain = "JP"
every = "1h"
[[bestsellers]]
domain = "DE"
category = 340843031
"""

Bodies = list[dict[str, Any]]


@pytest.fixture
async def run(tmp_path: Path, nursery: trio.Nursery) -> list[Stored]:
    """What the daemon learns from a Keepa that fails now and then, until there is all of it."""
    epoch_ms = time.time_ns() // 1_000_000
    faults = (Fault("500", 0.3, "product"),)
    simulated = Settings(time_factor=TIME_FACTOR, epoch_ms=epoch_ms, faults=faults)
    port = await nursery.start(serve, simulated)
    file = tmp_path / "pricecheck.toml"
    file.write_text(CONFIG.format(port=port, factor=TIME_FACTOR, epoch_ms=epoch_ms))
    lines = [f"{asin},{domain}\n" for asin in ASINS for domain in ("DE", "JP")]
    (tmp_path / "watchlist.csv").write_text("asin,domain\n" + "".join(lines))
    command = [sys.executable, "-m", "pricecheck", "run", "--config", str(file)]
    with (tmp_path / "log").open("wb") as log:
        daemon = await trio.lowlevel.open_process(command, stderr=log)
    try:
        with trio.move_on_after(LONG_ENOUGH_S) as patience:
            while not _is_enough(records := _read(tmp_path / "state")):
                assert daemon.poll() is None
                await trio.sleep(0.2)  # another process: there is nothing to be told by
    finally:
        daemon.send_signal(signal.SIGTERM)
        with trio.CancelScope(shield=True):
            await daemon.wait()
    counts = Counter(each.record.kind for each in records)
    told = (tmp_path / "log").read_text()[-3_000:]
    assert not patience.cancelled_caught, f"not enough was learned: {counts}\n{told}"
    return records


def _read(state: Path) -> list[Stored]:
    try:
        with closing(open_readonly(state / FILE_NAME)) as outbox:
            return outbox.read("test", limit=1_000_000, max_bytes=10**9)
    except StoreError:
        return []  # not there yet


def _is_enough(records: Iterable[Stored]) -> bool:
    """Tell whether there is something for each panel: failures, and second checks, too."""
    kinds = Counter(each.record.kind for each in records)
    failed = any(not call["success"] for call in _bodies(records, "metric"))
    markets = {deal["domain"] for deal in _bodies(records, "deal")}
    checked_again = any(price["price_change_percent"] for price in _bodies(records, "price"))
    return failed and checked_again and len(markets) == 2 and kinds["bestseller"] > 0


@pytest.mark.timeout(300)
async def test_every_panel_shows_what_was_recorded(
    elasticsearch_url: str, run: list[Stored]
) -> None:
    """No layer of any panel is empty, each of its figures is known, and they are right."""
    now = max(_time(call) for call in _bodies(run, "metric"))
    calls = [call for call in _bodies(run, "metric") if _time(call) >= now - timedelta(days=1)]
    await _deliver(run, elasticsearch_url)

    shown = [
        (search, await _ask(elasticsearch_url, search))
        for search in searches(saved_objects(NAMES), now)
    ]

    empty = [
        f"{search.dashboard}: {search.panel}: {search.columns[column]['label']}"
        for search, rows in shown
        for column in search.shown
        if all(row.get(column) is None for row in rows)
    ]
    assert empty == []
    spent = sum(call["tokens_consumed"] or 0 for call in calls)
    assert sum(_column(shown, "Cost by operation", "Tokens consumed")) == spent
    failed = sum(not call["success"] for call in calls) / len(calls)
    assert _column(shown, "Failed calls", "Failed calls") == [pytest.approx(failed)]
    kinds = Counter(each.record.kind for each in run)
    documents = _column(shown, "Newest document of each kind", "Documents")
    assert sorted(documents) == sorted(kinds.values())
    lowest = {"EUR": 10.0**9, "JPY": 10.0**9}
    for price in _bodies(run, "price"):
        if new := price["prices"].get("NEW"):
            told = new if price["currency"] == "JPY" else new / 100
            lowest[price["currency"]] = min(told, lowest[price["currency"]])
    assert {*lowest.values()} <= {*_column(shown, "All-time lows", "Lowest seen")}


def _time(call: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(call["timestamp"])


async def _deliver(records: list[Stored], url: str) -> None:
    sink = ElasticsearchSink(config.Elasticsearch(hosts=(url,)), NAMES)
    await sink.connect()
    receipt = await sink.send(records)
    await sink.close()
    assert not receipt.refused
    assert not receipt.again


async def _ask(url: str, search: Search) -> list[Row]:
    async with httpx.AsyncClient(base_url=url) as client:
        await client.post(f"/{search.target}/_refresh")
        answer = await client.post(f"/{search.target}/_search", json=search.body)
    assert answer.status_code == 200, f"{search.panel}: {answer.text}"
    return search.rows(answer.json())


def _bodies(records: Iterable[Stored], kind: str) -> Bodies:
    return [json.loads(each.record.body) for each in records if each.record.kind == kind]


def _column(shown: list[tuple[Search, list[Row]]], panel: str, label: str) -> list[Any]:
    """Return what a panel shows under a name."""
    [(search, rows)] = [each for each in shown if each[0].panel.startswith(panel)]
    [id_] = [id_ for id_ in search.shown if search.columns[id_]["label"] == label]
    return [row[id_] for row in rows]
