"""`pricecheck discover`: what was found, and what becomes of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pricecheck.collect.candidates import Facts, judged
from pricecheck.config import DiscoveryRule, Domain
from pricecheck.outbox import Candidate, Commit, Outbox
from tests.cli.conftest import Run

RULE = """
[[discovery]]
name = "keyboards"
domain = "DE"
source = "bestsellers"
category = 340843031
min_rating = 4
most = 2
"""
KEYBOARDS = DiscoveryRule(
    name="keyboards", domain=Domain("DE"), source="bestsellers", category=340843031, min_rating=4
)
NAMES = [f"B00000000{number}" for number in range(4)]
NOW = 1_790_000_000_000


@pytest.fixture(autouse=True)
def candidates(home: Path, outbox: Callable[[], Outbox]) -> Outbox:
    """Three that wait and one that does not fit, in a home with the rule that found them."""
    config = home / "pricecheck.toml"
    config.write_text(config.read_text() + RULE)
    stars = zip(NAMES, (4.5, 4.2, 4.0, 3.0), strict=True)
    opened = outbox()
    opened.commit(Commit(candidates=tuple(found(asin, rating) for asin, rating in stars)))
    return opened


def found(asin: str, rating: float, rule: DiscoveryRule = KEYBOARDS) -> Candidate:
    facts = Facts(title=f"Tastatur {asin}", price=4_999, rating=rating, reviews=12, whole=True)
    return judged(rule, asin, facts, NOW)


async def test_candidates_are_listed_with_what_they_cost(run: Run) -> None:
    """Title, price, stars, rule, and the tokens that all of them would take a day."""
    done = await run("discover")

    assert done.returncode == 0, done.stderr
    [first, *_] = [line for line in done.stdout.splitlines() if NAMES[0] in line]
    for text in ("DE", f"Tastatur {NAMES[0]}", "49.99", "4.5", "keyboards"):
        assert text in first
    assert NAMES[3] not in done.stdout
    assert "3 of 3 candidates" in done.stdout
    assert "cost 12 tokens a day" in done.stdout


async def test_what_does_not_fit_is_listed_with_the_reason(run: Run) -> None:
    """For whoever wonders why a product is not offered."""
    done = await run("discover", "--refused")

    assert "3.0 stars" in done.stdout
    assert NAMES[0] not in done.stdout


async def test_json_holds_all_that_is_known(run: Run) -> None:
    """For scripts that decide."""
    done = await run("discover", "--json", "--limit", "1")

    [row] = json.loads(done.stdout)
    assert (row["asin"], row["price"], row["currency"], row["rule"], row["tokens_a_day"]) == (
        NAMES[0],
        4_999,
        "EUR",
        "keyboards",
        4.0,
    )


async def test_what_is_accepted_is_watched_and_the_file_stays(run: Run, home: Path) -> None:
    """A named one may be one that does not fit; whoever runs no daemon is told so."""
    file = (home / "watchlist.csv").read_text()

    done = await run("discover", "accept", NAMES[1], NAMES[3])
    listed = await run("watch", "list", "--json")

    assert done.returncode == 0, done.stderr
    assert "2 products are watched, for 8 tokens a day" in done.stdout
    assert "The daemon does not run" in done.stdout
    assert [(row["asin"], row["discovered_by"]) for row in json.loads(listed.stdout)] == [
        (NAMES[1], "keyboards"),
        (NAMES[3], "keyboards"),
    ]
    assert (home / "watchlist.csv").read_text() == file
    assert f"{NAMES[1]},DE" in (await run("watch", "export")).stdout


async def test_all_is_up_to_the_most_of_each_rule(run: Run) -> None:
    """The best first; the rest goes on waiting."""
    done = await run("discover", "accept", "--all")

    assert "2 products are watched" in done.stdout
    assert "1 go on waiting" in done.stderr
    assert "1 of 1 candidates" in (await run("discover")).stdout


async def test_one_named_twice_is_taken_once(run: Run) -> None:
    """And counted once."""
    done = await run("discover", "accept", NAMES[0], NAMES[0])

    assert done.stdout.startswith("1 products are watched")


async def test_what_is_rejected_is_offered_no_more(run: Run, candidates: Outbox) -> None:
    """Also when a list brings it again."""
    done = await run("discover", "reject", NAMES[0])
    candidates.commit(Commit(candidates=(found(NAMES[0], 4.9),)))

    assert "1 candidates are rejected" in done.stdout
    assert NAMES[0] not in (await run("discover")).stdout
    assert NAMES[0] in (await run("discover", "--refused")).stdout


@pytest.mark.parametrize("by", ["file", "discovery"])
async def test_what_is_removed_is_not_found_again(
    run: Run, home: Path, candidates: Outbox, by: str
) -> None:
    """Wherever it was watched; `watch add` may bring it back."""
    if by == "file":
        (home / "watchlist.csv").write_text(f"asin\n{NAMES[0]}\n")
    else:
        await run("discover", "accept", NAMES[0])

    done = await run("watch", "remove", NAMES[0])

    assert done.returncode == 0, done.stderr
    assert f"DE {NAMES[0]} is watched no longer" in done.stdout
    assert [one.asin for one in candidates.candidates("rejected")] == [NAMES[0]]
    assert json.loads((await run("watch", "list", "--json")).stdout) == []
    assert NAMES[0] not in (await run("discover")).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["accept", "B0NOTFOUND"], os.EX_DATAERR, "does not wait"),
        (["accept", NAMES[0], "--domain", "FR"], os.EX_DATAERR, "does not wait"),
        (["accept", "no-asin"], os.EX_DATAERR, "no-asin"),
        (["reject"], 2, "Name ASINs, or --all"),
        (["accept", NAMES[0], "--all"], 2, "one of both"),
        (["reject", NAMES[0], "--rule", "keyboards"], 2, "--rule goes with --all"),
        (["reject", "--all", "--rule", "keybords"], os.EX_DATAERR, "the config has keyboards"),
        (["accept", "--all", "--rule", "keybords"], os.EX_DATAERR, "no [[discovery]] rule"),
        (["--rule", "keybords"], os.EX_DATAERR, "'keybords' is no [[discovery]] rule"),
        (["--rule", "keyboards", "accept", "--all"], 2, "Write options behind accept"),
    ],
)
async def test_what_can_not_be_done_is_said_and_changes_nothing(
    run: Run, candidates: Outbox, arguments: list[str], code: int, said: str
) -> None:
    """With what to do instead."""
    done = await run("discover", *arguments)

    assert done.returncode == code
    assert said in done.stderr
    assert len(candidates.candidates("waiting")) == 3


async def test_config_check_and_plan_say_what_discovery_may_cost(home: Path, run: Run) -> None:
    """At most, a day: beside a list, but with what a search itself costs."""
    config = home / "pricecheck.toml"
    search = RULE.replace("bestsellers", "search").replace("keyboards", "all")
    config.write_text(f'{config.read_text()}{search}every = "12h"\ntop = 200\n')

    checked = await run("config", "check")
    planned = await run("plan")

    assert "50 tokens a day for bestsellers:DE:340843031" in checked.stdout
    assert "up to 100 a day for discovery keyboards" in checked.stdout
    assert "up to 424 a day for discovery all" in checked.stdout
    assert "discovery  keyboards: up to 100 tokens a day" in planned.stdout
