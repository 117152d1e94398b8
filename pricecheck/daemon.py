"""The composition root: the only file that knows everybody, and has no logic of its own.

Two groups of tasks run side by side. The house (relays, status socket, housekeeping, the hourly
report) lasts as long as the process. The collectors are made from config and watchlist, and made
anew when SIGHUP brings new ones; those that do not hold change nothing.
"""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import math
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio

from pricecheck import __version__, config, logs, report, status, systemd
from pricecheck.clock import clock_of
from pricecheck.collect.calls import CallLog, open_client
from pricecheck.collect.tasks import Collectors
from pricecheck.config import Settings
from pricecheck.deliver.configured import configured_sinks
from pricecheck.deliver.notify import KIND, NotifySink
from pricecheck.deliver.relay import Relay
from pricecheck.deliver.state import RelayStatus
from pricecheck.errors import ConfigError, PricecheckError, StoreError
from pricecheck.instance import only_instance
from pricecheck.logs import kv
from pricecheck.needs import prior_costs
from pricecheck.outbox import FILE_NAME, Commit, Outbox
from pricecheck.page.serve import serve
from pricecheck.page.whole import whole_page
from pricecheck.snapshot import Reloads, Snapshot, TaskStatus
from pricecheck.supervisor import Heartbeat, Supervisor
from pricecheck.watched import grown, listed
from pricecheck.watchlist import Watchlist

log = logging.getLogger(__name__)

_HOUR_S: Final = 3600
_RETAIN_BITE: Final = 10_000
_OPENING_S: Final = 3600  # a large outbox is read whole, and may have to be migrated
_LAST_WRITES_S: Final = 60
_REREAD_S: Final = 60  # until what could not be read is read again
_M_MMAP_THRESHOLD: Final = -3  # mallopt(3); once set, glibc no longer raises it by itself
_M_ARENA_MAX: Final = -8


class Plan(msgspec.Struct, frozen=True):
    """All that can be wrong in what the operator wrote, read and found right."""

    settings: Settings
    key: str
    watchlist: Watchlist

    def __repr__(self) -> str:
        """Without the key: a repr finds its way into tracebacks."""
        return f"Plan({self.settings.path})"


def read_plan(path: Path | None, *, strict: bool = False, key: str | None = None) -> Plan:
    """Read config, key (unless given) and the watchlist's file.

    Raises ConfigError, so that nothing starts by halves.
    """
    settings = config.load(path)
    key = key or settings.api_key()
    open_client(settings, key, CallLog(settings.config.time))  # a proxy may not hold
    watched = listed(settings, strict=strict)
    prior_costs(settings.config, watched.watches)  # or refuse what is too dear
    return Plan(settings, key, watched)


def with_discovered(plan: Plan, outbox: Outbox) -> Plan:
    """Return a plan that watches what discovery brought, too. Raises StoreError."""
    return msgspec.structs.replace(plan, watchlist=grown(plan.watchlist, plan.settings, outbox))


def run(path: Path | None, *, strict: bool = False) -> None:
    """Run the daemon until SIGTERM or SIGINT. Raises PricecheckError when it can't start."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    plan = read_plan(path, strict=strict)
    _give_memory_back()
    faulthandler.enable()  # systemd's watchdog kills by SIGABRT: every stack into the journal
    logs.setup(plan.settings.config.log_level)
    sinks = configured_sinks(plan.settings)
    time = plan.settings.config.time
    directory = plan.settings.state_directory()
    # Refuses a path too long before anything is made.
    status.socket_path(plan.settings.socket_directory())
    with only_instance(directory):
        systemd.status("opening the outbox")
        systemd.extend_timeout(_OPENING_S)
        outbox = Outbox.open(directory / FILE_NAME, now_ms=time.now_ms)
        try:
            for sink in sinks:
                if isinstance(sink, NotifySink):
                    outbox.enlist(sink.name, KIND)
                    sink.outbox = outbox
            relays = [Relay(sink, outbox, time=time) for sink in sinks]
            plan = with_discovered(plan, outbox)
            daemon = Daemon(plan, outbox, directory, relays, strict=strict)
            trio.run(daemon.run, clock=clock_of(time))
        finally:
            outbox.close()


def _give_memory_back() -> None:
    """Have glibc map large blocks, so that an answer's megabytes go back to the system with it.

    And have all threads share one heap: with eight times as many as there are processors, what
    their work leaves free in each adds up to tens of megabytes.
    """
    with suppress(AttributeError, OSError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 128 * 1024)
        libc.mallopt(_M_ARENA_MAX, 1)


class Daemon:
    """One run of the program."""

    def __init__(
        self, plan: Plan, outbox: Outbox, directory: Path, relays: list[Relay], *, strict: bool
    ) -> None:
        self._plan = plan
        self._outbox = outbox
        self._directory = directory
        self._relays = relays
        self._strict = strict
        self._time = plan.settings.config.time
        self._calls = CallLog(self._time)
        self._began = 0.0
        self._house: Supervisor | None = None
        self._collectors: Collectors | None = None
        self._generation = trio.CancelScope()
        self._renewed = trio.Event()  # set when the collectors of the newest plan run
        self._hangup = trio.Event()
        self._accepted = trio.Event()  # set when discovery has brought products
        self._renewing = trio.Lock()
        self._reloads = Reloads()
        self._told = ""

    async def run(self) -> None:
        """Run until a signal ends it; everything paid for is in the outbox afterwards."""
        self._began = trio.current_time()
        listener = status.bind(self._plan.settings.socket_directory())
        signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        with trio.open_signal_receiver(*signals) as received:
            async with trio.open_nursery() as nursery:
                work = trio.CancelScope()
                # Until the very end: a second signal must not kill what the first one ends.
                nursery.start_soon(self._obey, received, work)
                with work:
                    await self._work(listener)
                nursery.cancel_scope.cancel()
        systemd.extend_timeout(_LAST_WRITES_S)  # a slow disk is no reason to be killed
        with suppress(StoreError):
            self._outbox.commit(Commit(records=self._calls.drain()))
        log.info("stopped", extra=kv(**msgspec.structs.asdict(self._calls.totals())))

    async def _obey(self, received: AsyncIterator[int], work: trio.CancelScope) -> None:
        async for number in received:
            if number == signal.SIGHUP:
                self._hangup.set()
            elif not work.cancel_called:
                log.info("stopping", extra=kv(signal=signal.Signals(number).name))
                systemd.stopping()
                work.cancel()

    async def _work(self, listener: trio.SocketListener) -> None:
        async with trio.open_nursery() as nursery:
            self._house = Supervisor(nursery, on_change=self._tell_systemd)
            nursery.start_soon(self._collect)
            await self._renewed.wait()
            # Undeclared silence is meant in real time, as it is for the collectors.
            start = partial(self._house.start, stall_after=2 * _HOUR_S * self._time.factor)
            for relay in self._relays:
                start(f"relay:{relay.name}", relay.run)
            start("status", partial(self._serve_status, listener))
            start("housekeeping", self._keep_house)
            if (web := self._plan.settings.config.web) is not None:
                start("web", partial(self._serve_page, web.place))
            start("report", self._report)
            await self._house.wait_started()
            ping = partial(systemd.ping_watchdog, self._alive, time_factor=self._time.factor)
            nursery.start_soon(ping, name="watchdog")
            nursery.start_soon(self._reload_when_told)
            nursery.start_soon(self._grow_when_told)
            self._say_ready("ready")

    async def _collect(self) -> None:
        """Run the collectors of the plan, and those of the next one after each reload."""
        while True:
            with trio.CancelScope() as self._generation:
                await self._run_collectors()

    async def _run_collectors(self) -> None:
        plan = self._plan
        async with (
            open_client(plan.settings, plan.key, self._calls) as client,
            trio.open_nursery() as nursery,
        ):
            supervisor = Supervisor(nursery, on_change=self._tell_systemd)
            self._collectors = Collectors(
                plan.settings,
                plan.watchlist,
                plan.key,
                outbox=self._outbox,
                calls=self._calls,
                client=client,
                supervisor=supervisor,
                before=self._collectors,
                on_accept=self._note_accepted,
            )
            self._collectors.start()
            await supervisor.wait_started()
            self._renewed.set()

    def _note_accepted(self) -> None:
        self._accepted.set()  # the event of now: collectors outlive the one of their start

    async def _reload_when_told(self) -> None:
        while True:
            await self._hangup.wait()
            self._hangup = trio.Event()
            systemd.reloading()
            async with self._renewing:
                if (plan := await self._read_next_plan()) is not None:
                    await self._take_over(plan)
                    self._say_ready("reloaded")
                else:
                    systemd.ready(self._line())

    async def _grow_when_told(self) -> None:
        """Watch what discovery brought. The config stays as it is: its file may be half edited."""
        while True:
            await self._accepted.wait()
            async with self._renewing:
                self._accepted = trio.Event()
                grow = partial(with_discovered, self._plan, self._outbox)
                try:
                    await self._take_over(await trio.to_thread.run_sync(grow))
                    continue
                except StoreError as error:
                    log.error("discovered products can't be read", extra=kv(reason=str(error)))
            self._note_accepted()  # or they would wait for the next that are
            await trio.sleep(_REREAD_S)

    async def _read_next_plan(self) -> Plan | None:
        """Read config and watchlist anew; None, and a reason in status, where they do not hold."""
        old = self._plan.settings

        def read() -> Plan:
            return with_discovered(read_plan(old.path, strict=self._strict), self._outbox)

        try:
            plan = await trio.to_thread.run_sync(read, abandon_on_cancel=True)
            _check_same_house(old, plan.settings)
        except Exception as error:  # a reload's border: the old plan runs on
            self._note_reload(refused=logs.redacted(str(error)))
            expected = isinstance(error, PricecheckError)
            log.error(
                "reload refused: the old config stays",
                extra=kv(reason=str(error)),
                exc_info=None if expected else error,
            )
            return None
        self._note_reload(refused=None)
        return plan

    def _note_reload(self, *, refused: str | None) -> None:
        self._reloads = Reloads(self._reloads.count + 1, refused)

    async def _take_over(self, plan: Plan) -> None:
        """Let the calls under way come home, then run the collectors of the new plan."""
        assert self._collectors is not None  # a reload comes after the start
        await self._collectors.spender.drain()
        logs.setup(plan.settings.config.log_level)
        self._plan = plan
        self._renewed = trio.Event()
        self._generation.cancel()
        await self._renewed.wait()

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
        await status.serve(listener, self._snapshot, time_factor=self._time.factor)

    async def _serve_page(self, place: tuple[str, int], heartbeat: Heartbeat) -> None:
        async def make() -> str:
            watches = self._plan.watchlist.watches
            whole = partial(whole_page, self._plan.settings, watches, await self._snapshot())
            page, _facts = await trio.to_thread.run_sync(whole, abandon_on_cancel=True)
            return page

        await serve(place, make, heartbeat, time_factor=self._time.factor)

    async def _keep_house(self, heartbeat: Heartbeat) -> None:
        """Delete what has been kept long enough, each hour."""
        while True:
            kept = self._plan.settings.config.outbox
            retain = partial(
                self._outbox.retain,
                before_ms=self._time.now_ms() - kept.retention * 1000,
                metrics_cap=kept.metrics_cap,
                relays=[relay.name for relay in self._relays],
                limit=_RETAIN_BITE,
            )
            while await trio.to_thread.run_sync(retain) == _RETAIN_BITE:
                heartbeat.beat()
            heartbeat.beat()
            heartbeat.expect(trio.current_time() + _HOUR_S, "next in an hour")
            await trio.sleep(_HOUR_S)

    async def _report(self, heartbeat: Heartbeat) -> None:
        """Tell the log the story of each hour in one line; of each real one in a simulation."""
        before = self._calls.totals()
        hour_s = _HOUR_S * self._time.factor
        while True:
            heartbeat.expect(trio.current_time() + hour_s, "next in an hour")
            await trio.sleep(hour_s)
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
            await self._relay_statuses(),
            uptime_s=trio.current_time() - self._began,
            reloads=self._reloads,
        )

    async def _relay_statuses(self) -> list[RelayStatus]:
        try:
            return [await relay.status() for relay in self._relays]
        except StoreError:
            return []  # of a store that can't be read, which status says in other words

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
        return report.status_line(
            tokens,
            self._tasks(),
            len(self._plan.watchlist.watches),
            simulated=self._plan.settings.config.simulated,
        )

    def _tell_systemd(self) -> None:
        if (line := self._line()) != self._told:
            self._told = line
            systemd.status(line)


def _check_same_house(old: Settings, new: Settings) -> None:
    """Refuse what only a restart can change."""
    for name, before, after in (
        ("state_directory", old.state_directory(), new.state_directory()),
        ("simulation", old.config.simulation, new.config.simulation),
        ("names", old.config.names, new.config.names),
        ("elasticsearch", old.config.elasticsearch, new.config.elasticsearch),
        ("kafka", old.config.kafka, new.config.kafka),
        ("notify", old.config.notify, new.config.notify),
        ("web", old.config.web, new.config.web),
    ):
        if before != after:
            raise ConfigError(
                f"{new.path}: {name} can't change while running", remedy="restart pricecheck"
            )
