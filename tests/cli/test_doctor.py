"""`pricecheck doctor`, against a simulated Keepa; zombies depend on the machine."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pricecheck.outbox import FILE_NAME, Outbox
from tests.cli.conftest import KEY, Run

Simulate = Callable[..., Awaitable[Path]]


def found(printed: str, check: str) -> list[dict[str, Any]]:
    return [finding for finding in json.loads(printed) if finding["check"] == check]


async def test_a_right_config_and_key_are_said_with_their_figures(
    run: Run, simulate: Simulate, home: Path
) -> None:
    """Tokens, what a day needs of them, the clock and the disk; no token is spent."""
    ledger = await simulate(tokens=900)
    (home / "watchlist.csv").write_text("asin,every\nB000000001,1h\n")

    done = await run("doctor", "--json")

    assert done.returncode in (0, 1)
    (keepa,) = found(done.stdout, "keepa")
    assert keepa["level"] == "ok"
    assert "SIMULATED, 900 tokens left, 20 a minute" in keepa["said"]
    (budget,) = found(done.stdout, "budget")
    assert budget["said"] == "24 tokens a day of 28,800 are needed: 0.1%"
    assert [each["level"] for each in found(done.stdout, "clock")] == ["ok"]
    assert "GB free" in found(done.stdout, "disk")[0]["said"]
    assert '"path":"product"' not in ledger.read_text()


async def test_a_watchlist_that_outgrows_the_plan_is_a_warning(
    run: Run, simulate: Simulate, home: Path
) -> None:
    """200 products every five minutes are 57,600 tokens a day, twice what there is."""
    await simulate()
    rows = "".join(f"B000000{number:03},5m\n" for number in range(200))
    (home / "watchlist.csv").write_text("asin,every\n" + rows)

    done = await run("doctor")

    assert done.returncode == 1
    assert "57,600 tokens a day of 28,800 are needed: 200.0%" in done.stdout
    assert "-> raise `every`" in done.stdout


@pytest.mark.parametrize(
    ("config", "check", "said"),
    [
        ("x = 1\n", "config", "unknown key x"),
        ('[keepa]\nurl = "http://127.0.0.1:9"\n', "keepa", "no connection to Keepa"),
    ],
)
async def test_what_is_broken_fails(
    run: Run, home: Path, config: str, check: str, said: str
) -> None:
    """Exit code 2, what is wrong, and what to do."""
    (home / "pricecheck.toml").write_text(config)

    done = await run("doctor", "--json")

    assert done.returncode == 2
    (finding,) = found(done.stdout, check)
    assert finding["level"] == "failure"
    assert said in finding["said"]
    assert finding["remedy"]


async def test_an_outbox_that_can_not_be_read_fails(
    run: Run, simulate: Simulate, home: Path
) -> None:
    """Corrupt, or with a file in place of its directory; a sound one has its size."""
    await simulate()
    state = home / "state"
    state.write_text("")
    no_directory = await run("doctor", "--json")
    state.unlink()
    state.mkdir()
    (state / FILE_NAME).write_bytes(b"no database" * 1_000)
    corrupt = await run("doctor", "--json")
    (state / FILE_NAME).unlink()
    Outbox.open(state / FILE_NAME).close()
    sound = await run("doctor", "--json")

    findings = [found(done.stdout, "outbox")[0] for done in (no_directory, corrupt, sound)]
    assert [each["level"] for each in findings] == ["failure", "failure", "ok"]
    assert (no_directory.returncode, corrupt.returncode) == (2, 2)
    assert "is no directory" in findings[0]["said"]
    assert "corrupt" in findings[1]["said"]


@pytest.mark.parametrize(
    ("config", "check", "said"),
    [
        (
            '[elasticsearch]\nhosts = ["http://127.0.0.1:9"]\n',
            "elasticsearch",
            "no connection to Elasticsearch at 127.0.0.1:9",
        ),
        ("[notify]\n", "sinks", "there is no address of a service"),
    ],
    ids=["away", "set up wrong"],
)
async def test_a_sink_that_can_not_be_used_fails_and_the_rest_is_still_checked(
    run: Run, simulate: Simulate, config: str, check: str, said: str
) -> None:
    """Each sink that is looked for has its own finding, with where that was."""
    await simulate(config=config)

    done = await run("doctor", "--json")

    assert done.returncode == 2
    (sink,) = found(done.stdout, check)
    assert said in sink["said"]
    assert found(done.stdout, "zombies")


async def test_a_key_that_everybody_may_read_is_a_warning(
    run: Run, simulate: Simulate, home: Path
) -> None:
    """Its file is named with the mending command; the key itself is not printed."""
    await simulate(config='key_file = "keepa.key"\n')
    (home / "keepa.key").write_text(KEY)
    (home / "keepa.key").chmod(0o644)

    done = await run("doctor")

    assert "everybody may read the API key" in done.stdout
    assert "chmod o-rw" in done.stdout
    assert KEY not in done.stdout + done.stderr


async def test_bad_lines_of_the_watchlist_are_a_warning(
    run: Run, simulate: Simulate, home: Path
) -> None:
    """They are counted; `config check` lists them."""
    await simulate()
    (home / "watchlist.csv").write_text("asin\nB000000001\nnonsense\n")

    done = await run("doctor", "--json")

    (finding,) = found(done.stdout, "config")
    assert finding["level"] == "warning"
    assert "1 products, 1 bad lines skipped" in finding["said"]


async def test_a_config_that_asks_for_nothing_is_a_warning(
    run: Run, simulate: Simulate, home: Path
) -> None:
    """As installed: no products, deals or best sellers; the remedy names the watchlist."""
    await simulate()
    (home / "watchlist.csv").write_text("asin\n")

    done = await run("doctor", "--json")

    (finding,) = found(done.stdout, "config")
    assert finding["level"] == "warning"
    assert "0 products, no deals and no best sellers" in finding["said"]
    assert "put ASINs into watchlist.csv" in finding["remedy"]
