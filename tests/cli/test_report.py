"""`pricecheck report`: one HTML file of all that is known."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
import trio

from pricecheck import status
from pricecheck.snapshot import Snapshot
from tests.cli.conftest import Keep, Run
from tests.cli.test_status import snapshot
from tests.cli.test_store import deal


@pytest.fixture
def stored(keep: Keep) -> None:
    """An outbox with a deal in it."""
    keep([deal("B000000001", 60, 4000, 40)])


@pytest.mark.usefixtures("stored")
async def test_it_writes_a_file(run: Run, home: Path) -> None:
    """Where it was told to; it says that prices are invented, and that no daemon runs."""
    done = await run("report", "--output", "page.html")

    page = (home / "page.html").read_text("utf-8")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"page\.html: 0 products, [0-9.]+ kB\n", done.stdout)
    assert "SIMULATED" in done.stderr
    assert "SIMULATED: no price here is real" in page
    assert "Deal B000000001" in page
    assert "The daemon did not run" in page
    assert stat.S_IMODE((home / "page.html").stat().st_mode) == 0o644


@pytest.mark.usefixtures("stored")
async def test_it_goes_to_standard_output_too(run: Run, home: Path) -> None:
    """Nothing else does, so that a pipe gets a whole page."""
    done = await run("report", "--output", "-")

    assert done.stdout.startswith("<!DOCTYPE html>")
    assert done.stdout.endswith("</html>\n")
    assert not (home / "pricecheck.html").exists()


@pytest.mark.usefixtures("stored")
async def test_the_running_daemon_tells_its_tasks(
    run: Run, home: Path, nursery: trio.Nursery
) -> None:
    """As `pricecheck status` does."""

    async def take() -> Snapshot:
        return snapshot()

    nursery.start_soon(status.serve, status.bind(home / "state"), take)

    await run("report")

    page = (home / "pricecheck.html").read_text("utf-8")
    assert "waiting for 1,500 tokens until 14:05" in page


@pytest.mark.usefixtures("stored")
async def test_a_link_stays_a_link(run: Run, home: Path) -> None:
    """What it leads to is written."""
    (home / "real.html").write_text("old")
    (home / "link.html").symlink_to("real.html")

    await run("report", "--output", "link.html")

    assert (home / "link.html").is_symlink()
    assert "Deal B000000001" in (home / "real.html").read_text("utf-8")


@pytest.mark.usefixtures("stored")
async def test_a_pipe_is_written_to_and_not_replaced(run: Run, home: Path) -> None:
    """As a device is."""
    os.mkfifo(home / "pipe")
    read: list[str] = []

    async def reader() -> None:
        read.append(await trio.to_thread.run_sync((home / "pipe").read_text))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        done = await run("report", "--output", "pipe")

    assert done.returncode == 0, done.stderr
    assert read[0].startswith("<!DOCTYPE html>")
    assert (home / "pipe").is_fifo()


@pytest.mark.usefixtures("stored")
async def test_where_nothing_can_be_written_it_says_so(run: Run) -> None:
    """With a remedy and an exit code."""
    done = await run("report", "--output", "none/page.html")

    assert done.returncode == 65
    assert "none/page.html can't be written: No such file or directory" in done.stderr
    assert "--output" in done.stderr


async def test_without_an_outbox_there_is_nothing_to_report(run: Run, home: Path) -> None:
    """The remedy is to start the daemon."""
    done = await run("report")

    assert done.returncode == 73
    assert "there is no outbox" in done.stderr
    assert not (home / "pricecheck.html").exists()
