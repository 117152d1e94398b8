"""The composition root: the only file that knows everybody, and has no logic of its own.

Two groups of tasks run side by side. The house (status socket, housekeeping, the hourly report)
lasts as long as the process. The collectors are made from the config and the watchlist, and made
anew when SIGHUP brings new ones; those that do not hold change nothing.
"""

from __future__ import annotations

import faulthandler
import logging
import math
import signal
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio

from pricecheck import __version__, config, logs, report, status, systemd, watchlist
from pricecheck.bucket import Bucket
from pricecheck.clock import clock_of
from pricecheck.collect.bestsellers import collect_bestsellers
from pricecheck.collect.calls import CallLog, open_client
from pricecheck.collect.deals import DerivedDeals, collect_deals
from pricecheck.collect.prices import PriceCollector
from pricecheck.collect.spending import Spender
from pricecheck.config import Settings
from pricecheck.errors import ConfigError, PricecheckError
from pricecheck.instance import only_instance
from pricecheck.keepa.client import KeepaClient
from pricecheck.logs import kv
from pricecheck.outbox import FILE_NAME, Outbox
from pricecheck.snapshot import Snapshot, TaskStatus
from pricecheck.supervisor import Heartbeat, Supervisor
from pricecheck.watchlist import Watchlist

log = logging.getLogger(__name__)

_HOUR_S: Final = 3600
_RETAIN_BITE: Final = 10_000


class Plan(msgspec.Struct, frozen=True):
    """All that can be wrong in what the operator wrote, read and found right."""

    settings: Settings
    key: str
    watchlist: Watchlist


def read_plan(path: Path | None, *, strict: bool = False) -> Plan:
    """Read config, key and watchlist. Raises ConfigError, so that nothing starts by halves."""
    settings = config.load(path)
    key = settings.api_key()
    prices = settings.config.prices
    watched = watchlist.load(
        settings.watchlist,
        domain=prices.domain,
        weight=prices.weight,
        every_s=prices.every,
        strict=strict,
    )
    return Plan(settings, key, watched)


def run(path: Path | None, *, strict: bool = False) -> None:
    """Run the daemon until SIGTERM or SIGINT. Raises PricecheckError when it can't start."""
    plan = read_plan(path, strict=strict)
    faulthandler.enable()  # systemd's watchdog kills by SIGABRT: every stack into the journal
    logs.setup(plan.settings.config.log_level)
    time = plan.settings.config.time
    directory = plan.settings.state_directory()
    with only_instance(directory):
        outbox = Outbox.open(directory / FILE_NAME, now_ms=time.now_ms)
        try:
            daemon = Daemon(plan, outbox, directory, strict=strict)
            trio.run(daemon.run, clock=clock_of(time))
        finally:
            outbox.close()


class Collectors:
    """The tasks made from one plan, and what they share."""

    def __init__(
        self,
        plan: Plan,
        outbox: Outbox,
        calls: CallLog,
        client: KeepaClient,
        supervisor: Supervisor,
    ) -> None:
        settings = plan.settings.config
        self.plan = plan
        self.bucket = Bucket(max_call_cost=settings.keepa.max_call_cost, costs=settings.prior_costs)
        self.spender = Spender(client, self.bucket, outbox, calls, settings.time)
        self.derived = DerivedDeals()
        self.prices = PriceCollector(
            plan.watchlist.watches,
            self.spender,
            outbox,
            self.derived,
            settings.prices,
            concurrency=settings.keepa.concurrency,
        )
        self.supervisor = supervisor

    def start(self, marks: dict[str, int]) -> None:
        """Start every task; `marks` says when each last succeeded."""
        settings, spender = self.plan.settings.config, self.spender
        start = partial(self.supervisor.start, stall_after=settings.stall_after)
        start("prices", self.prices.run)
        for deals in settings.deals:
            start(
                deals.name,
                partial(
                    collect_deals,
                    rule=deals,
                    spender=spender,
                    derived=self.derived,
                    last_ms=marks.get(deals.name),
                ),
            )
        for best in settings.bestsellers:
            start(
                best.name,
                partial(
                    collect_bestsellers, rule=best, spender=spender, last_ms=marks.get(best.name)
                ),
            )


class Daemon:
    """One run of the program."""

    def __init__(self, plan: Plan, outbox: Outbox, directory: Path, *, strict: bool) -> None:
        self._plan = plan
        self._outbox = outbox
        self._directory = directory
        self._strict = strict
        self._time = plan.settings.config.time
        self._calls = CallLog(self._time)
        self._began = 0.0
        self._house: Supervisor | None = None
        self._collectors: Collectors | None = None
        self._generation = trio.CancelScope()
        self._refused_reload: str | None = None

    async def run(self) -> None:
        """Run until a signal ends it; everything paid for is in the outbox afterwards."""
        self._began = trio.current_time()
        logs.redact(self._plan.key)
        listener = status.bind(self._directory)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                self._house = Supervisor(nursery, on_change=self._tell_systemd)
                await nursery.start(self._collect)
                start = partial(self._house.start, stall_after=2 * _HOUR_S)
                start("status", partial(self._serve_status, listener))
                start("housekeeping", self._keep_house)
                start("report", self._report)
                await self._house.wait_started()
                nursery.start_soon(systemd.ping_watchdog, self._alive)
                self._say_ready("ready")
                async for number in signals:
                    if number != signal.SIGHUP:
                        log.info("stopping", extra=kv(signal=signal.Signals(number).name))
                        systemd.stopping()
                        nursery.cancel_scope.cancel()
                        break
                    await self._reload()
        log.info("stopped", extra=kv(**msgspec.structs.asdict(self._calls.totals())))

    async def _collect(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the collectors of the plan, and those of the next one after each reload."""
        while True:
            self._generation = trio.CancelScope()
            with self._generation:
                await self._run_collectors(task_status)
            task_status = trio.TASK_STATUS_IGNORED

    async def _run_collectors(self, task_status: trio.TaskStatus[None]) -> None:
        plan, calls = self._plan, self._calls
        marks = await trio.to_thread.run_sync(self._outbox.marks)
        async with (
            open_client(plan.settings, plan.key, calls) as client,
            trio.open_nursery() as nursery,
        ):
            supervisor = Supervisor(nursery, on_change=self._tell_systemd)
            self._collectors = Collectors(plan, self._outbox, calls, client, supervisor)
            self._collectors.start(marks)
            await supervisor.wait_started()
            task_status.started()

    async def _reload(self) -> None:
        """Take over a changed config and watchlist; keep the old ones when they do not hold."""
        systemd.reloading()
        try:
            plan = await trio.to_thread.run_sync(
                partial(read_plan, self._plan.settings.path, strict=self._strict)
            )
            _check_same_house(self._plan.settings, plan.settings)
        except PricecheckError as error:
            self._refused_reload = str(error)
            log.error("reload refused: the old config stays", extra=kv(reason=str(error)))
            systemd.ready(self._line())
            return
        self._refused_reload = None
        self._plan = plan
        logs.redact(plan.key)
        logs.setup(plan.settings.config.log_level)
        self._generation.cancel()
        self._say_ready("reloaded")

    def _say_ready(self, event: str) -> None:
        settings, watched = self._plan.settings, self._plan.watchlist
        log.info(
            event,
            extra=kv(
                version=__version__,
                config=settings.path or "embedded defaults",
                products=len(watched.watches),
                bad_lines=watched.bad_count,
                state=self._directory,
                keepa="SIMULATED" if settings.config.simulated else settings.config.keepa.url,
            ),
        )
        for bad in watched.bad:
            log.warning("watchlist line skipped", extra=kv(line=bad.line, reason=bad.reason))
        systemd.ready(self._line())

    async def _serve_status(self, listener: trio.SocketListener, heartbeat: Heartbeat) -> None:
        heartbeat.expect(math.inf, "listening")
        await status.serve(listener, self._snapshot)

    async def _keep_house(self, heartbeat: Heartbeat) -> None:
        """Delete what has been kept long enough, each hour."""
        while True:
            kept = self._plan.settings.config.outbox
            retain = partial(
                self._outbox.retain,
                before_ms=self._time.now_ms() - kept.retention * 1000,
                metrics_cap=kept.metrics_cap,
                relays=(),
                limit=_RETAIN_BITE,
            )
            while await trio.to_thread.run_sync(retain) == _RETAIN_BITE:
                heartbeat.beat()
            heartbeat.beat()
            heartbeat.expect(trio.current_time() + _HOUR_S, "next in an hour")
            await trio.sleep(_HOUR_S)

    async def _report(self, heartbeat: Heartbeat) -> None:
        """Tell the log the story of each hour in one line."""
        before = self._calls.totals()
        while True:
            heartbeat.expect(trio.current_time() + _HOUR_S, "next in an hour")
            await trio.sleep(_HOUR_S)
            now = self._calls.totals()
            state = await self._snapshot()
            log.info("hour", extra=kv(**report.hour(before, now, state)))
            before = now
            self._tell_systemd()
            heartbeat.beat()

    async def _snapshot(self) -> Snapshot:
        assert self._collectors is not None  # the socket opens after they do
        return await report.take_snapshot(
            self._collectors,
            self._outbox,
            self._calls.totals(),
            self._tasks(),
            uptime_s=trio.current_time() - self._began,
            refused_reload=self._refused_reload,
        )

    def _tasks(self) -> list[TaskStatus]:
        supervisors = (self._collectors and self._collectors.supervisor, self._house)
        return [task for one in supervisors if one for task in one.statuses()]

    def _alive(self) -> bool:
        collectors = self._collectors
        return (self._house is None or self._house.alive()) and (
            collectors is None or collectors.supervisor.alive()
        )

    def _line(self) -> str:
        tokens = self._collectors.bucket.state() if self._collectors else None
        return report.status_line(tokens, self._tasks(), len(self._plan.watchlist.watches))

    def _tell_systemd(self) -> None:
        systemd.status(self._line())


def _check_same_house(old: Settings, new: Settings) -> None:
    """Refuse what only a restart can change."""
    for name, before, after in (
        ("state_directory", old.state_directory(), new.state_directory()),
        ("simulation", old.config.simulation, new.config.simulation),
    ):
        if before != after:
            raise ConfigError(
                f"{new.path}: {name} can't change while running", remedy="restart pricecheck"
            )
