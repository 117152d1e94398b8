"""`pricecheck watch`: the watchlist changed from the command line, and the daemon told of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from pricecheck import status
from pricecheck.collect.products import Known, remember
from pricecheck.keepa.time import to_rfc3339
from pricecheck.outbox import Commit, Outbox, ProductState
from pricecheck.records import Change, Price
from pricecheck.snapshot import Reloads
from tests.cli.conftest import Run
from tests.cli.test_status import snapshot

ASIN = "B08N5WRWNW"
OTHER = "B000000001"
LIST = f"# mine\r\nasin;domain;target_price\r\n{ASIN};;49,99\r\n# the end\r\n"
NOW_MS = 1_790_000_000_000


@pytest.fixture
def watchlist(home: Path) -> Path:
    """A watchlist of Excel's, with comments and a product."""
    path = home / "watchlist.csv"
    path.write_bytes(LIST.encode())
    return path


def text(path: Path) -> str:
    """Return a file as it is, line ends included."""
    return path.read_bytes().decode()


async def test_add_writes_lines_at_the_end(run: Run, watchlist: Path) -> None:
    """By ASIN, ISBN-13 or address; the address's marketplace is written down."""
    done = await run(
        "watch",
        "add",
        OTHER,
        "9780306406157",
        f"https://www.amazon.co.uk/A-keyboard/dp/{ASIN}/ref=x",
        "--target",
        "20",
    )

    assert done.returncode == 0, done.stderr
    assert text(watchlist) == (f"{LIST}{OTHER};;20,00\r\n0306406152;;20,00\r\n{ASIN};UK;20,00\r\n")
    assert f"UK {ASIN} is watched, for 1 token a check" in done.stdout
    assert "The daemon does not run; it reads the watchlist when it starts." in done.stdout


async def test_add_with_extras_tells_their_price(run: Run, home: Path) -> None:
    """In tokens a check: each extra adds to the one of a plain check."""
    (home / "watchlist.csv").write_text("asin,buybox,offers,update\n")

    done = await run("watch", "add", ASIN, "--buybox", "yes", "--offers", "40", "--update", "0")

    assert done.returncode == 0, done.stderr
    assert f"DE {ASIN} is watched, for 28 tokens a check" in done.stdout
    assert (home / "watchlist.csv").read_text() == f"asin,buybox,offers,update\n{ASIN},yes,40,0\n"


async def test_adding_what_is_watched_leaves_its_line(run: Run, watchlist: Path) -> None:
    """Nothing is written twice, and nobody needs to be told."""
    done = await run("watch", "add", ASIN)

    assert done.returncode == 0
    assert done.stdout == f"DE {ASIN}, watched on line 3: stays as it is\n"
    assert text(watchlist) == LIST


async def test_adding_what_is_watched_changes_what_is_given(run: Run, watchlist: Path) -> None:
    """A new target goes into the line that is there; all else of the file stays."""
    done = await run("watch", "add", ASIN, "--target", "10")

    assert done.returncode == 0
    assert f"DE {ASIN}, watched on line 3: target_price=10,00\n" in done.stdout
    assert text(watchlist) == LIST.replace("49,99", "10,00")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("add", OTHER, "B1"), "'B1' is not an ASIN"),
        (("add", f"amazon.fr/dp/{OTHER}", "--domain", "DE"), "is on amazon.fr, but --domain says"),
        (("add", OTHER, "--target", "49.99 USD"), "prices on amazon.de are in EUR"),
        (("add", OTHER, "--weight", "2"), "has no column weight"),
        (("add", OTHER, "--every", "soon"), "'soon' is not a duration"),
        (("add", OTHER, "--offers", "5"), "Keepa takes 20 to 100"),
        (("remove", ASIN, OTHER), f"{OTHER} is not on the watchlist"),
        (("remove", ASIN, "--domain", "UK"), f"UK {ASIN} is not on the watchlist"),
    ],
)
async def test_bad_input_changes_nothing(
    run: Run, watchlist: Path, arguments: tuple[str, ...], reason: str
) -> None:
    """Not even for the good products beside it; each bad one is told with its reason."""
    done = await run("watch", *arguments)

    assert done.returncode == 65
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert text(watchlist) == LIST


async def test_skip_bad_does_the_rest(run: Run, watchlist: Path) -> None:
    """The bad ones are told all the same, and in the exit code."""
    added = await run("watch", "add", "B1", OTHER, "--skip-bad")
    removed = await run("watch", "remove", "B1", ASIN, "--skip-bad")

    assert (added.returncode, removed.returncode) == (65, 65)
    assert "'B1' is not an ASIN" in added.stderr
    assert text(watchlist) == (f"# mine\r\nasin;domain;target_price\r\n# the end\r\n{OTHER}\r\n")


async def test_edits_at_the_same_time_are_all_kept(run: Run, watchlist: Path) -> None:
    """Each waits for the one before it, and reads what that has written."""
    asins = [f"B00000000{number}" for number in range(5)]

    async with trio.open_nursery() as nursery:
        for asin in asins:
            nursery.start_soon(run, "watch", "add", asin)

    assert sorted(text(watchlist).splitlines()[4:]) == asins


async def test_remove_asks_which_one_where_there_are_several(run: Run, home: Path) -> None:
    """A product of two marketplaces is not removed from both by mistake."""
    path = home / "watchlist.csv"
    path.write_text(f"asin,domain\n{ASIN}\n{ASIN},UK\n{ASIN},FR\n")

    unclear = await run("watch", "remove", ASIN)
    one = await run("watch", "remove", f"https://www.amazon.co.uk/dp/{ASIN}")
    left = path.read_text()
    everywhere = await run("watch", "remove", ASIN, "--everywhere")

    assert unclear.returncode == 65
    assert f"{ASIN} is watched on DE, UK, FR" in unclear.stderr
    assert (one.returncode, left) == (0, f"asin,domain\n{ASIN}\n{ASIN},FR\n")
    assert (everywhere.returncode, path.read_text()) == (0, "asin,domain\n")


async def test_import_tells_first_and_does_it_when_told_to(
    run: Run, watchlist: Path, home: Path
) -> None:
    """A dry run says what would come of each line; --yes adds what can be read."""
    (home / "friends.csv").write_bytes(
        f"\ufeffASIN;Locale;Title\r\n{OTHER};uk;A keyboard\r\n{ASIN};de;Mine\r\n"
        f"B1;de;Bad\r\n{OTHER};uk;Again\r\n".encode()
    )

    told = await run("watch", "import", "friends.csv")
    untouched = text(watchlist)
    done = await run("watch", "import", "friends.csv", "--yes")

    assert told.returncode == done.returncode == 65
    assert untouched == LIST
    assert "1 would be added, 1 watched already, 1 repeated, 1 refused" in told.stdout
    assert f"  {OTHER},UK\n" in told.stdout
    assert "--yes does it" in told.stdout
    assert "friends.csv: line 4: 'B1' is not an ASIN" in told.stderr
    assert "Columns that say nothing here: title" in told.stderr
    assert "1 added, 1 watched already" in done.stdout
    assert text(watchlist) == f"{LIST}{OTHER};UK\r\n"


async def test_import_takes_the_marketplace_of_lines_that_name_none(
    run: Run, watchlist: Path, home: Path
) -> None:
    """From --domain, else from the config."""
    (home / "plain.txt").write_text(f"{ASIN}\n{OTHER}\n")

    done = await run("watch", "import", "plain.txt", "--domain", "FR", "--yes")

    assert done.returncode == 0, done.stderr
    assert text(watchlist) == f"{LIST}{ASIN};FR\r\n{OTHER};FR\r\n"


async def test_import_refuses_what_the_watchlist_has_no_column_for(
    run: Run, watchlist: Path, home: Path
) -> None:
    """Once, not for every line: it is the header that is to be mended."""
    (home / "list.csv").write_text(f"asin,every\n{OTHER},1d\nB000000002,1d\n")

    done = await run("watch", "import", "list.csv", "--yes")

    assert done.returncode == 65
    assert done.stderr.count("has no column every") == 1
    assert text(watchlist) == LIST


async def test_export_can_be_imported_where_there_are_fewer_columns(run: Run, home: Path) -> None:
    """What is as usual needs none."""
    watchlist = home / "watchlist.csv"
    watchlist.write_text(f"asin,target_price\n{ASIN},49.99\n")
    (home / "export.csv").write_text((await run("watch", "export")).stdout)
    watchlist.write_text("asin,target_price\n")

    done = await run("watch", "import", "export.csv", "--yes")

    assert done.returncode == 0, done.stderr
    assert text(watchlist) == f"asin,target_price\n{ASIN},49.99\n"


@pytest.mark.parametrize("command", ["export", "list", "remove"])
async def test_an_outbox_that_can_not_be_read_is_no_empty_one(
    run: Run, home: Path, command: str
) -> None:
    """What discovery brought would be missing without a word."""
    (home / "pricecheck.toml").write_text(
        'state_directory = "state"\n[keepa]\nurl = "http://127.0.0.1:9"\n'
        '[[bestsellers]]\ndomain = "DE"\ncategory = 340843031\n'
        '[[discovery]]\nname = "all"\nsource = "bestsellers"\ndomain = "DE"\n'
        "category = 340843031\n"
    )
    watchlist = home / "watchlist.csv"
    watchlist.write_text(f"asin\n{ASIN}\n")
    (home / "state").mkdir()
    (home / "state" / "outbox.sqlite").write_bytes(b"no database" * 1_000)

    done = await run("watch", command, *([ASIN] if command == "remove" else []))

    assert done.returncode == os.EX_CANTCREAT
    assert "corrupt" in done.stderr
    assert ASIN in text(watchlist)


async def test_export_can_be_imported(run: Run, watchlist: Path, home: Path) -> None:
    """Every blank is filled in, so that it means the same elsewhere."""
    header = "asin,domain,weight,target_price,every,buybox,offers,update"
    done = await run("watch", "export")
    (home / "export.csv").write_text(done.stdout)
    (home / "watchlist.csv").write_text(f"{header}\n")
    again = await run("watch", "import", "export.csv", "--yes")

    assert done.stdout == f"{header}\n{ASIN},DE,1,49.99,6h,no,0,no\n"
    assert again.returncode == 0
    assert text(watchlist) == done.stdout


@pytest.fixture
def checked(home: Path, outbox: Callable[[], Outbox]) -> None:
    """Three products, two of them checked in the real past."""
    (home / "watchlist.csv").write_text(
        f"asin,target_price,every\n{ASIN},50,1d\n{OTHER},10,\nB000000002,,\n"
    )
    prices = [
        Price(
            asin=asin,
            domain="DE",
            currency="EUR",
            title=title,
            timestamp=to_rfc3339(NOW_MS),
            current_price=cents,
            previous_price=None,
            price_change_percent=0.0,
            target_price=None,
            prices={price_type: cents},
            stats={},
            sales_rank=None,
            rating=None,
            review_count=None,
            last_update=None,
            url="",
        )
        for asin, title, cents, price_type in (
            (ASIN, "A keyboard", 4999, "NEW"),
            (OTHER, "A mouse", 1999, "AMAZON"),
        )
    ]
    changes = [
        Change(
            asin=asin,
            domain="DE",
            currency="EUR",
            title=None,
            price_type=price_type,
            changed_at=f"2026-01-0{day}T00:00:00Z",
            observed_at=to_rfc3339(NOW_MS),
            old_price=1000,
            new_price=1000,
            change_percent=percent,
        )
        for asin, price_type, day, percent in (
            (ASIN, "NEW", 1, 9.0),
            (ASIN, "NEW", 2, -10.0),
            (OTHER, "AMAZON", 1, 5.0),
            (OTHER, "NEW", 2, 50.0),
        )
    ]
    outbox().commit(
        Commit(
            records=(
                *(price.record() for price in prices),
                *(change.record() for change in changes),
            ),
            states=tuple(ProductState("DE", price.asin, NOW_MS, b"{}") for price in prices),
        )
    )


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), [ASIN, OTHER, "B000000002"]),
        (("--sort", "price"), [OTHER, ASIN, "B000000002"]),
        (("--sort", "change", "--reverse"), ["B000000002", OTHER, ASIN]),
        (("--sort", "next", "--limit", "1"), ["B000000002"]),
        (("--filter", "b00000", "--domain", "de"), [OTHER, "B000000002"]),
        (("--on-target",), [ASIN]),
        (("--unchecked",), ["B000000002"]),
    ],
)
async def test_list_is_sorted_and_filtered(
    run: Run, arguments: tuple[str, ...], expected: list[str]
) -> None:
    """What is not known comes last; a product never checked is due at once."""
    done = await run("watch", "list", "--json", *arguments)

    assert [row["asin"] for row in json.loads(done.stdout)] == expected


@pytest.mark.usefixtures("checked")
async def test_list_knows_by_when_each_is_checked_next(run: Run) -> None:
    """Its interval after the last check; at once where there was none."""
    done = await run("watch", "list", "--json")

    assert [row["next_check_by"] for row in json.loads(done.stdout)] == [
        to_rfc3339(NOW_MS + 86_400_000),
        to_rfc3339(NOW_MS + 6 * 3_600_000),
        None,
    ]


@pytest.mark.usefixtures("checked")
async def test_list_as_a_table(run: Run) -> None:
    """Prices in whole units, their last change, times from now, and how many there are."""
    done = await run("watch", "list", "--sort", "asin", "--limit", "2")

    lines = done.stdout.splitlines()
    cells = re.split(r"  +", lines[1])
    assert cells[:6] == ["DE", OTHER, "A mouse", "19.99", "+5.0 %", "10.00"]
    assert re.search(r"B000000002 .* never +due +1$", lines[2])
    assert lines[-1] == "2 of 3 products"


async def test_list_says_why_there_is_no_price(
    home: Path, run: Run, outbox: Callable[[], Outbox]
) -> None:
    """Of what Keepa has nothing on, most likely a typing error."""
    (home / "watchlist.csv").write_text(f"asin\n{ASIN}\n")
    gone = ProductState("DE", ASIN, NOW_MS, remember(Known(absent="not found or gone")))
    outbox().commit(Commit(states=(gone,)))

    done = await run("watch", "list")

    assert "(not found or gone)" in done.stdout


async def test_list_without_an_outbox_lists_the_watchlist(run: Run, watchlist: Path) -> None:
    """Before the first start there are no prices yet."""
    done = await run("watch", "list")

    assert done.returncode == 0
    assert ASIN in done.stdout
    assert "there is no outbox" in done.stderr


Daemon = Callable[..., Awaitable[None]]


@pytest.fixture
async def daemon(home: Path, nursery: trio.Nursery) -> Daemon:
    """Let a status socket answer for a daemon with this pid; it is this process that listens."""

    async def listen(pid: int, reloads: Callable[[], Reloads] = Reloads) -> None:
        async def take() -> Any:
            return snapshot(pid=pid, reloads=reloads())

        (home / "state").mkdir()
        nursery.start_soon(status.serve, status.bind(home / "state"), take)

    return listen


@pytest.mark.parametrize(
    ("refused", "outcome"),
    [
        (None, "has read the watchlist anew."),
        ("unknown key", "refused to reload, and goes on as before: unknown key"),
    ],
)
async def test_the_running_daemon_is_told_to_reload(
    run: Run,
    watchlist: Path,
    daemon: Daemon,
    nursery: trio.Nursery,
    refused: str | None,
    outcome: str,
) -> None:
    """It gets SIGHUP after the file has changed, and what came of it is told."""
    reloads = Reloads(3, "of an earlier try")

    async def obey(received: AsyncIterator[int]) -> None:
        nonlocal reloads
        await anext(received)
        assert OTHER in text(watchlist)
        await trio.sleep(0.3)  # it is asked meanwhile, and has not read the file yet
        reloads = Reloads(4, refused)

    await daemon(os.getpid(), lambda: reloads)
    with trio.open_signal_receiver(signal.SIGHUP) as received:
        nursery.start_soon(obey, received)
        done = await run("watch", "add", OTHER)

    assert done.returncode == 0
    assert f"The running daemon, pid {os.getpid()}, {outcome}" in done.stdout


@contextmanager
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that SIGHUP ends."""
    code = "import signal; print(flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.usefixtures("watchlist")
async def test_a_process_that_only_has_the_daemons_number_is_left_alone(
    run: Run, daemon: Daemon
) -> None:
    """The pid that a daemon in a container tells is another process outside of it."""
    with bystander() as other:
        await daemon(other.pid)

        done = await run("watch", "add", OTHER)

        assert other.poll() is None
    assert done.returncode == 0
    assert "it runs in a container" in done.stdout


@pytest.mark.usefixtures("watchlist")
async def test_a_pid_that_is_not_here_is_no_error(run: Run, daemon: Daemon) -> None:
    """The watchlist is changed, and the operator knows what is left to do."""
    await daemon(2**22 + 1)

    done = await run("watch", "remove", ASIN)

    assert done.returncode == 0
    assert "reload it there" in done.stdout
