"""`pricecheck plan`: what tokens will be spent on, before any is."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

import pytest

from pricecheck.collect.products import Known, remember
from pricecheck.keepa.time import from_unix_ms
from pricecheck.outbox import FILE_NAME, Commit, Outbox, ProductState
from pricecheck.rhythm import Rhythm

from .conftest import Run

NOW = 1_800_000_000_000
ASIN = "B000000001"


@pytest.fixture
def watched(home: Path) -> Path:
    """A watchlist of 31 products, one of them with a target."""
    lines = ["asin,target_price,weight", f"{ASIN},50,2"]
    lines += [f"B{number:09d},," for number in range(2, 32)]
    (home / "watchlist.csv").write_text("\n".join(lines) + "\n")
    return home


@pytest.fixture
def remembered(watched: Path) -> Path:
    """What an earlier check left of the product with the target: it changes twice a day."""
    (watched / "state").mkdir()
    rhythm = Rhythm(from_unix_ms(NOW), changes=80.0, days=40.0)
    known = remember(Known(current_price=4_900, rhythm=rhythm))
    with closing(Outbox.open(watched / "state" / FILE_NAME, now_ms=lambda: NOW)) as outbox:
        outbox.commit(Commit(states=(ProductState("DE", ASIN, NOW, known),)))
    return watched


async def test_shows_what_the_budget_makes_of_a_watchlist(watched: Path, run: Run) -> None:
    """Fixed intervals and the adaptive plan, other requests, other Keepa plans, and a plot."""
    done = await run("plan")

    assert done.returncode == 0, done.stderr
    assert "31, 0 of them known" in done.stdout
    assert "assumed" in done.stdout
    assert "offers+buybox" in done.stdout
    assert "6.5 %" in done.stdout
    assert "age in hours by tokens a minute" in done.stdout


async def test_the_refill_can_be_told(watched: Path, run: Run) -> None:
    """And all of it comes as JSON too."""
    done = await run("plan", "--refill", "0.01", "--json")

    found = json.loads(done.stdout)
    assert found["now"]["budget"] == pytest.approx(14.4)
    assert found["now"]["need"] == 124
    assert found["now"]["shortfall"] == pytest.approx(109.6)
    assert found["now"]["adaptive"]["weighted_age"] < found["now"]["fixed"]["weighted_age"]
    assert [one["cost"] for one in found["requests"]] == [1, 3, 15]


async def test_extras_are_priced_where_they_are_asked_for(home: Path, run: Run) -> None:
    """Two of four products ask for offers: a check costs seven tokens on average."""
    (home / "watchlist.csv").write_text(
        f"asin,offers\n{ASIN},20\nB000000002,20\nB000000003,\nB000000004,\n"
    )

    whole, one = await run("plan"), await run("plan", ASIN)
    found = json.loads((await run("plan", "--json")).stdout)

    assert "of 2: offers=20, 13 tokens a check" in whole.stdout
    assert "of 2: plain, 1 token a check" in whole.stdout
    assert re.search(r"as configured +7 ", whole.stdout)
    assert found["now"]["need"] == 4 * (13 + 13 + 1 + 1)
    assert found["asked"] == {"offers=20": 2, "plain": 2}
    assert "13 tokens (offers=20), every" in one.stdout


async def test_says_when_ceilings_can_not_hold(watched: Path, run: Run) -> None:
    """By how many tokens a day, and who comes first."""
    done = await run("plan", "--refill", "0.01")

    assert "110 tokens a day are missing" in done.stdout
    assert "8.6 times" in done.stdout


async def test_explains_one_product(remembered: Path, run: Run) -> None:
    """Its rate, its weight, when next, and why."""
    done = await run("plan", ASIN)

    assert done.returncode == 0, done.stderr
    assert "2 a day (80.0 in 40.0 days" in done.stdout
    assert "8: 2 of the watchlist, times 4 for its price 49.00 is near its target" in done.stdout
    assert "every 15m: prices.min_every" in done.stdout
    assert "next about 2027-01-15T08:15:00" in done.stdout


async def test_explains_why_a_product_waits(remembered: Path, run: Run) -> None:
    """Short of tokens it is the worth of the check, and with few changes the ceiling."""
    short = await run("plan", ASIN, "--refill", "0.01")
    ample = await run("plan", "B000000002", "--refill", "0.12")

    assert "too few of them for its `every`" in short.stdout
    assert "every 6h: its `every`" in ample.stdout or "worth its tokens" in ample.stdout


async def test_fixed_intervals_are_explained_as_such(remembered: Path, run: Run) -> None:
    """The config's mode decides, and the overview says which is in use."""
    config = remembered / "pricecheck.toml"
    config.write_text(config.read_text() + '[prices]\nmode = "fixed"\n')

    whole, one = await run("plan"), await run("plan", ASIN, "--json")

    assert 'not in use: prices.mode = "fixed"' in whole.stdout
    (found,) = json.loads(one.stdout)
    assert found["wait_days"] == 0.25
    assert found["next_at_ms"] == NOW + 6 * 3_600_000


async def test_a_product_that_nobody_watches_is_an_error(watched: Path, run: Run) -> None:
    """With the command that would change it."""
    done = await run("plan", "B0AAAAAAAA")

    assert done.returncode != 0
    assert "not on the watchlist" in done.stderr
    assert "pricecheck watch add" in done.stderr
