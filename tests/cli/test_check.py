"""`pricecheck check`, against a simulated Keepa on a real socket."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pricecheck.outbox import Outbox
from pricecheck.simulator.ledger import Entry
from tests.cli.conftest import KEY, Run
from tests.daemons import assigned, fast_time, simulation

Simulate = Callable[..., Awaitable[Path]]

MANY = [f"B0000000{number}" for number in range(10, 35)]


def calls(ledger: Path, path: str) -> list[Entry]:
    entries = [msgspec.json.decode(line, type=Entry) for line in ledger.read_text().splitlines()]
    return [entry for entry in entries if entry.path == path]


async def test_shows_prices_and_keeps_what_was_learned(
    run: Run, simulate: Simulate, outbox: Callable[[], Outbox]
) -> None:
    """A line a product; price, changes and metrics are in the outbox afterwards."""
    ledger = await simulate()

    done = await run("check", "b000000001", "B000000002", "B000000001", "--domain", "uk")

    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()[:3]] == [
        "ASIN",
        "B000000001",
        "B000000002",
    ]
    assert "GBP on amazon.co.uk" in done.stdout
    assert "SIMULATED" in done.stderr
    (asked,) = calls(ledger, "product")
    assert asked.asins == ("B000000001", "B000000002")
    counts = outbox().counts()
    assert counts["price"] == 2
    assert counts["change"] > 0
    assert counts["metric"] == len(calls(ledger, "token")) + 1


async def test_a_second_check_finds_no_change_twice(
    run: Run, simulate: Simulate, outbox: Callable[[], Outbox]
) -> None:
    """What was known before is not told again."""
    await simulate()
    await run("check", "B000000001")
    before = outbox().counts()["change"]

    await run("check", "B000000001")

    assert outbox().counts()["change"] <= before + 1  # the world may have moved meanwhile


async def test_prints_the_price_records_as_json(run: Run, simulate: Simulate, home: Path) -> None:
    """The shape is that of the record, the target price of the watchlist included."""
    await simulate()
    (home / "watchlist.csv").write_text("asin,target_price\nB000000001,49.99\n")

    done = await run("check", "B000000001", "--json")

    (price,) = json.loads(done.stdout)
    assert (price["asin"], price["domain"], price["target_price"]) == ("B000000001", "DE", 4999)


async def test_an_asin_that_does_not_exist_is_said_and_costs_nothing(
    run: Run, simulate: Simulate
) -> None:
    """Exit code 1 when there is nothing at all."""
    ledger = await simulate()

    done = await run("check", "B00MISS001", "B00MISS002", "B00MISS003")

    assert done.returncode == 1
    for asin in ("B00MISS001", "B00MISS002", "B00MISS003"):
        assert f"{asin}: not" in done.stderr
    assert [entry.tokens_consumed for entry in calls(ledger, "product")] == [0]


@pytest.mark.parametrize(("answer", "code", "spent"), [("n\n", 1, 0), ("y\n", 0, 25)])
async def test_asks_before_it_spends_more_than_twenty_tokens(
    run: Run, simulate: Simulate, answer: str, code: int, spent: int
) -> None:
    """The cost is said first; without a yes nothing is spent."""
    ledger = await simulate()

    done = await run("check", *MANY, input=answer)

    assert done.returncode == code
    assert "about 25 tokens" in done.stderr
    tokens = sum(entry.tokens_consumed for entry in calls(ledger, "product")) if spent else 0
    assert tokens == spent
    assert spent or not ledger.read_text()


async def test_extras_of_the_watchlist_are_asked_for_and_priced(
    run: Run, simulate: Simulate, home: Path
) -> None:
    """Two products with offers and one without are two calls, for about 27 tokens."""
    ledger = await simulate()
    (home / "watchlist.csv").write_text("asin,offers\nB000000001,20\nB000000002,20\n")

    done = await run("check", "B000000001", "B000000002", "B000000003", input="y\n")

    assert "about 27 tokens" in done.stderr
    dear, plain = calls(ledger, "product")
    assert dear.asins == ("B000000001", "B000000002")
    assert dear.tokens_consumed == 26
    assert (plain.asins, plain.tokens_consumed) == (("B000000003",), 1)


async def test_splits_what_one_call_may_not_cost(run: Run, simulate: Simulate) -> None:
    """keepa.max_call_cost bounds each call, not the check."""
    ledger = await simulate("max_call_cost = 10\n")

    done = await run("check", *MANY, "--yes")

    assert done.returncode == 0
    assert [len(entry.asins) for entry in calls(ledger, "product")] == [10, 10, 5]


async def test_an_outbox_that_can_not_be_written_costs_no_prices(
    run: Run, simulate: Simulate, home: Path
) -> None:
    """The prices are shown all the same, and that they are not kept."""
    await simulate()
    (home / "state").write_text("a file where the directory should be")

    done = await run("check", "B000000001")

    assert done.returncode == 0
    assert "B000000001" in done.stdout
    assert "Not kept in the outbox" in done.stderr


async def test_where_nobody_watches_a_wait_is_said(run: Run, simulate: Simulate) -> None:
    """A line in the log of a cron job tells why it takes so long."""
    time = simulation(fast_time(300.0))
    await simulate(f"[simulation]\n{assigned(time)}", tokens=-400, **time)

    done = await run("check", "B000000001")

    assert done.returncode == 0
    assert re.search(r"^waiting for 1 tokens? until \d\d:\d\d$", done.stderr, re.MULTILINE)


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ({"key": "another"}, 77, "Keepa answered 400 invalidParameter"),
        ({"faults": ("402:1",)}, 77, "renew the subscription"),
        ({"faults": ("notjson:1:product",)}, 69, "does not have Keepa's form"),
    ],
)
async def test_a_refusal_is_explained_without_the_key(
    run: Run, simulate: Simulate, settings: dict[str, Any], code: int, said: str
) -> None:
    """What Keepa said and what to do; no traceback, and the API key nowhere."""
    from pricecheck.simulator.settings import parse_fault

    faults = tuple(parse_fault(fault) for fault in settings.pop("faults", ()))
    await simulate(faults=faults, **settings)

    done = await run("check", "B000000001", env={"KEEPA_API_KEY": KEY})

    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert KEY not in done.stdout + done.stderr


async def test_what_is_no_asin_is_refused_before_anything_is_asked(
    run: Run, simulate: Simulate
) -> None:
    """A typing error costs nothing."""
    ledger = await simulate()

    done = await run("check", "B000000001", "keyboard")

    assert done.returncode == 65
    assert "'keyboard' is not an ASIN" in done.stderr
    assert not ledger.read_text()


async def test_an_unknown_marketplace_is_a_usage_error(run: Run) -> None:
    """The ones there are, are named."""
    done = await run("check", "B000000001", "--domain", "XX")

    assert done.returncode == 2
    assert "unknown marketplace 'XX'" in done.stderr
    assert "DE" in done.stderr
