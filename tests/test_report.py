"""What the daemon says of itself: for status, for systemd, and for the log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trio
from trio.testing import MockClock

from pricecheck import report
from pricecheck.collect.calls import CallLog
from pricecheck.collect.tasks import Collectors
from pricecheck.config import (
    BestsellersRule,
    Config,
    DealRule,
    Domain,
    Keepa,
    Settings,
    Simulation,
)
from pricecheck.daemon import Daemon, Plan
from pricecheck.errors import StoreError
from pricecheck.keepa.client import KeepaClient, Timeouts
from pricecheck.keepa.errors import ServerError
from pricecheck.keepa.wire import Envelope
from pricecheck.outbox import Commit, DeadLetter, Outbox
from pricecheck.records import Record
from pricecheck.snapshot import Reloads, Snapshot, TaskStatus, TokenState, Totals
from pricecheck.supervisor import Heartbeat, Supervisor
from pricecheck.watchlist import Watch, Watchlist

from .daemons import until

CONFIG = Config(
    keepa=Keepa(url="https://api.keepa.com"),
    deals=(DealRule(domain=Domain("DE")), DealRule(domain=Domain("FR"))),
    bestsellers=(BestsellersRule(domain=Domain("DE"), category=1),),
)
FULL = Envelope(timestamp_ms=1, tokens_left=1200, refill_in_ms=30_000, refill_rate=20)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox.open(tmp_path / "outbox.sqlite")) as outbox:
        yield outbox


@pytest.fixture
async def collectors(nursery: trio.Nursery, outbox: Outbox) -> AsyncIterator[Collectors]:
    """Collectors that never run, of one product and a watchlist with two bad lines."""
    calls = CallLog(CONFIG.time)
    watched = Watchlist((Watch("B000000001", "DE", 1.0, None, 3600),), (), 2)
    client = KeepaClient("key", url=CONFIG.keepa.url, timeouts=Timeouts(), on_call=calls.note)
    async with client:
        yield Collectors(
            Settings(CONFIG, Path("/etc/pricecheck/pricecheck.toml")),
            watched,
            "key",
            outbox=outbox,
            calls=calls,
            client=client,
            supervisor=Supervisor(nursery),
        )


async def taken(collectors: Collectors, outbox: Outbox, **options: Any) -> Snapshot:
    plain: dict[str, Any] = {"uptime_s": 12.34, "reloads": Reloads()}
    tasks = options.pop("tasks", [])
    return await report.take_snapshot(
        collectors, outbox, Totals(calls=3), tasks, [], **plain | options
    )


def task(**fields: Any) -> TaskStatus:
    plain: dict[str, Any] = {
        "name": "prices",
        "state": "running",
        "why": "",
        "restarts": 0,
        "stalls": 0,
        "last_error": None,
        "since": 1.0,
        "last_beat": None,
        "next_start": None,
    }
    return TaskStatus(**plain | fields)


class TestSnapshot:
    async def test_it_gathers_what_everybody_knows(
        self, collectors: Collectors, outbox: Outbox
    ) -> None:
        """Tokens, watchlist, tasks, totals and store; all is well."""
        collectors.bucket.confirm(FULL)
        letter = DeadLetter(
            source="keepa", kind="product", id="1", key="1", reason="odd", body=b"", at_ms=1
        )
        records = (Record("price", "1", "1", b"{}"),)
        outbox.commit(Commit(records=records, dead_letters=(letter,)))

        state = await taken(collectors, outbox, tasks=[task()])

        assert (state.health, state.reasons, state.simulated) == ("ok", [], False)
        assert state.notes == ["2 watchlist lines skipped"]
        assert (state.uptime_s, state.config) == (12.3, "/etc/pricecheck/pricecheck.toml")
        assert (state.tokens.tokens, state.tokens.capacity) == (1200, 1200)
        assert (state.watchlist.products, state.watchlist.bad_lines) == (1, 2)
        assert state.totals == Totals(calls=3)
        assert (state.store.records, state.store.dead_letters) == ({"price": 1}, {"keepa": 1})
        assert state.store.bytes > 0
        assert msgspec.json.decode(msgspec.json.encode(state), type=Snapshot) == state

    async def test_a_sales_day_is_a_note(
        self, collectors: Collectors, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Which marketplace, and how many times as often as usual its prices change."""
        calm = collectors.prices.state(0)
        rush = msgspec.structs.replace(calm, rushes={"UK": 7.9})
        monkeypatch.setattr(collectors.prices, "state", lambda bad_lines: rush)

        state = await taken(collectors, outbox)

        assert calm.rushes == {}
        assert state.health == "ok"
        assert any("prices on UK change 8 times as often" in note for note in state.notes)

    @pytest.mark.parametrize(
        ("ailing", "reason"),
        [
            (
                task(state="backing off", last_error="ValueError: no"),
                "prices is backing off: ValueError: no",
            ),
            (task(state="stuck"), "prices is stuck"),
        ],
    )
    async def test_a_task_that_does_not_run_is_a_reason(
        self, collectors: Collectors, outbox: Outbox, ailing: TaskStatus, reason: str
    ) -> None:
        """Waiting, or having been restarted once, is none."""
        fine = [task(name="deals", state="waiting", restarts=3, last_error="old")]

        state = await taken(collectors, outbox, tasks=[*fine, ailing])

        assert (state.health, state.reasons) == ("degraded", [reason])

    async def test_a_trouble_of_many_tasks_is_one_reason(
        self, collectors: Collectors, outbox: Outbox
    ) -> None:
        """With all their names."""
        collectors.start()
        for trouble in collectors.troubles[:3]:
            trouble.begin(ServerError("Keepa answered 503"))
        collectors.troubles[3].begin(ServerError("Keepa answered 500"))

        state = await taken(collectors, outbox)

        assert state.reasons == [
            "prices, deals:DE, deals:FR: Keepa answered 503",
            "bestsellers:DE:1: Keepa answered 500",
        ]

    async def test_what_else_needs_a_person_is_a_reason(
        self, collectors: Collectors, outbox: Outbox
    ) -> None:
        """A store that takes nothing, a refused reload, a corrupt predecessor."""
        collectors.spender.store_trouble = "the disk is full"
        outbox.moved_aside = Path("/state/outbox.corrupt")

        state = await taken(collectors, outbox, reloads=Reloads(1, "unknown key kepa"))

        assert state.reasons == [
            "nothing can be stored: the disk is full",
            "reload refused: unknown key kepa",
            "the outbox was corrupt and is now /state/outbox.corrupt",
        ]

    async def test_a_store_that_can_not_be_read_is_told(
        self, collectors: Collectors, outbox: Outbox
    ) -> None:
        """Status answers all the same: now it is needed most."""
        outbox.commit(Commit(records=(Record("price", "1", "1", b"{}"),)))
        outbox._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        outbox._db.execute("PRAGMA cache_size = 0")
        outbox.path.write_bytes(b"\0" * outbox.path.stat().st_size)

        state = await taken(collectors, outbox)

        [reason] = state.reasons
        assert "is corrupt" in reason
        assert "restart the daemon" in reason
        assert state.store.records == {}

    async def test_relays_that_can_not_count_what_waits_are_left_out(
        self, collectors: Collectors, outbox: Outbox, tmp_path: Path
    ) -> None:
        """The store's own trouble says why; the rest is told."""

        class Lost:
            async def status(self) -> None:
                await trio.lowlevel.checkpoint()
                raise StoreError("the outbox is corrupt")

        plan = Plan(Settings(CONFIG, None), "key", collectors.watchlist)
        daemon = Daemon(plan, outbox, tmp_path, [cast("Any", Lost())], strict=False)
        daemon._collectors = collectors

        assert (await daemon._snapshot()).relays == []

    @pytest.mark.parametrize(
        ("tokens_left", "reasons"),
        [(1_000, ["somebody else spent 200 tokens in the last hour"]), (1_100, [])],
    )
    async def test_another_client_on_the_same_key_is_a_reason(
        self, collectors: Collectors, outbox: Outbox, tokens_left: int, reasons: list[str]
    ) -> None:
        """A tenth of what arrives in an hour is a check by hand, more is not."""
        collectors.bucket.confirm(FULL)
        less = msgspec.structs.replace(FULL, timestamp_ms=2_000, tokens_left=tokens_left)
        collectors.bucket.observe(less)

        assert (await taken(collectors, outbox)).reasons == reasons

    async def test_derived_deals_are_a_note(self, collectors: Collectors, outbox: Outbox) -> None:
        """They need nobody; in the same order every time."""
        collectors.derived.rules = frozenset(CONFIG.deals)

        state = await taken(collectors, outbox)

        assert state.health == "ok"
        assert state.notes[:2] == [
            "deals:DE: not in the plan, derived from product checks",
            "deals:FR: not in the plan, derived from product checks",
        ]


def tokens(count: int | None) -> TokenState:
    return TokenState(count, None if count is None else 1200, 20.0, 1.0, 0, 0, 17, {})


class TestLine:
    @pytest.mark.parametrize(
        ("held", "tasks", "simulated", "line"),
        [
            (
                tokens(1_100),
                [task(), task(state="waiting", why="next at noon")],
                False,
                "2 tasks run; 10,000 products; 1,100 of 1,200 tokens",
            ),
            (None, [task()], True, "SIMULATED: 1 tasks run; 10,000 products; tokens unknown"),
            (
                tokens(None),
                [task(), task(name="deals:DE", state="backing off"), task(state="stuck")],
                False,
                "deals:DE backing off, prices stuck; 10,000 products; tokens unknown",
            ),
        ],
        ids=["all is well", "simulated", "ailing"],
    )
    def test_it_says_the_state_in_one_line(
        self, held: TokenState | None, tasks: list[TaskStatus], simulated: bool, line: str
    ) -> None:
        """What ails first, then how much is watched and what there is to spend."""
        assert report.status_line(held, tasks, 10_000, simulated=simulated) == line


async def test_an_hour_is_told_by_what_happened_in_it(
    collectors: Collectors, outbox: Outbox
) -> None:
    """Sums since the hour before, and the state at its end."""
    collectors.bucket.confirm(FULL)
    state = await taken(collectors, outbox)
    before = Totals(calls=10, failed_calls=1, tokens=500, products=480, records=900)
    now = Totals(calls=15, failed_calls=1, tokens=600, products=570, records=1_000)

    assert report.hour(before, now, state) == {
        "calls": 5,
        "failed_calls": 0,
        "tokens": 100,
        "products": 90,
        "records": 100,
        "tokens_left": 1200,
        "foreign_tokens": 0,
        "due": 0,
        "health": "ok",
    }


@pytest.mark.parametrize("factor", [1.0, 60.0])
async def test_each_real_hour_is_told(
    collectors: Collectors,
    outbox: Outbox,
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    factor: float,
) -> None:
    """In one line, and not more often when simulated time runs faster."""
    caplog.set_level("INFO")
    config = msgspec.structs.replace(CONFIG, simulation=Simulation(time_factor=factor))
    plan = Plan(Settings(config, None), "key", collectors.watchlist)
    daemon = Daemon(plan, outbox, tmp_path, [], strict=False)
    daemon._collectors = collectors
    began = trio.current_time()

    nursery.start_soon(daemon._report, Heartbeat(float("inf")))
    await until(lambda: len(caplog.records) >= 3)

    told = [one.getMessage() for one in caplog.records]
    assert set(told) == {"hour"}
    assert trio.current_time() - began == pytest.approx(
        len(told) * 3600 * factor, abs=3600 * factor
    )
