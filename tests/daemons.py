"""Daemons in a directory of their own, and the simulator that they ask."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import trio

from pricecheck import daemon, status
from pricecheck.errors import NotRunningError
from pricecheck.outbox import FILE_NAME, Outbox, lookup, open_readonly
from pricecheck.simulator.server import serve
from pricecheck.simulator.settings import Settings, real_now_ms
from pricecheck.snapshot import Snapshot
from pricecheck.timescale import TimeScale

KEY = "planted+key/of=the&tests"

START_MS = 1_790_000_000_000
"""When every test in fast time begins, for the hour decides what falls due and what it costs."""


def fast_time(factor: float) -> TimeScale:
    """Return a time that is at START_MS now, and passes so many times as fast as real time."""
    # Both times agree at the epoch: START_MS = epoch + (now - epoch) * factor.
    return TimeScale(factor, round((real_now_ms() * factor - START_MS) / (factor - 1)))


async def until(condition: Callable[[], Any], *, real_s: float = 40.0) -> None:
    """Wait until a condition holds, however fast the clock; fail after `real_s` seconds."""
    deadline = monotonic() + real_s
    while not condition():
        assert monotonic() < deadline, "waited in vain"
        await trio.to_thread.run_sync(sleep, 0.02)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def simulation(time: TimeScale) -> dict[str, Any]:
    """The settings that let a simulator, and who asks it, live in this time."""
    return {"time_factor": time.factor, "epoch_ms": time.epoch_ms}


def assigned(settings: Mapping[str, Any]) -> str:
    """Write settings as lines of a config."""
    return "".join(f"{name} = {value}\n" for name, value in settings.items())


class Service:
    """A simulator with a fixed address and a ledger, that can be replaced by another one."""

    def __init__(self, nursery: trio.Nursery, ledger: Path) -> None:
        self._nursery = nursery
        self._scope = trio.CancelScope()
        self._port = 0
        self.ledger = ledger
        self.time: dict[str, Any] = {}

    @property
    def url(self) -> str:
        """Its address; the same for every simulator here."""
        return f"http://127.0.0.1:{self._port}"

    def runs_in(self, time: TimeScale) -> None:
        """Let the simulators live in this time, and daemons that ask them."""
        self.time = simulation(time)

    async def serve(self, **settings: Any) -> None:
        """Serve with these settings from now on."""
        self._scope.cancel()
        self._scope = trio.CancelScope()
        whole: dict[str, Any] = {"port": self._port, "ledger": self.ledger} | self.time | settings
        self._port = await self._nursery.start(self._run, self._scope, Settings(**whole))

    def stop(self) -> None:
        """Serve nothing more; the address stays."""
        self._scope.cancel()

    async def _run(
        self, scope: trio.CancelScope, settings: Settings, task_status: trio.TaskStatus[int]
    ) -> None:
        with scope:
            await serve(settings, task_status=task_status)

    def asked(self, path: str = "product") -> list[dict[str, Any]]:
        """The calls of one path that were answered or dropped so far."""
        if not self.ledger.exists():
            return []
        entries = [json.loads(line) for line in self.ledger.read_text().splitlines()]
        return [entry for entry in entries if entry["path"] == path]


class House:
    """A directory with a config, a watchlist and a state, for one daemon after the other."""

    def __init__(self, directory: Path, service: Service) -> None:
        self.directory = directory
        self.service = service
        self.config = directory / "pricecheck.toml"
        self.state = directory / "state"
        self.outbox = self.state / FILE_NAME
        self.watch([])

    def configure(self, **sections: str) -> None:
        """Write a config for the service; a section is given by its lines, `rest` comes last."""
        rest = sections.pop("rest", "")
        lines = {"keepa": f'url = "{self.service.url}"\n', "prices": 'mode = "fixed"\n'}
        if "every" not in sections.get("prices", ""):
            # Nothing is to fall due a second time while a test looks on, whatever the hour.
            lines["prices"] += 'every = "3650d"\n'
        if time := self.service.time:
            lines["simulation"] = assigned(time)
        for name, more in sections.items():
            lines[name] = lines.get(name, "") + more + "\n"
        tables = "".join(f"[{name}]\n{text}" for name, text in lines.items())
        self.config.write_text(f'state_directory = "state"\n{tables}{rest}')

    def watch(self, asins: Iterable[str], domain: str = "DE") -> None:
        """Write a watchlist of these products."""
        lines = "".join(f"{asin},{domain}\n" for asin in asins)
        (self.directory / "watchlist.csv").write_text("asin,domain\n" + lines)

    def start(self, *arguments: str, **environ: str) -> Daemon:
        """Start a daemon as a process."""
        return Daemon(self, arguments, environ)

    async def live(self) -> None:
        """Run a daemon within the test, in its time, until it is cancelled."""
        plan = daemon.read_plan(self.config)
        now_ms = plan.settings.config.time.now_ms
        with closing(Outbox.open(self.outbox, now_ms=now_ms)) as outbox:
            await daemon.Daemon(plan, outbox, self.state, [], strict=False).run()

    async def status(self) -> Snapshot:
        """What the daemon says of itself. Raises NotRunningError."""
        return await trio.to_thread.run_sync(status.ask, self.state)

    async def status_that(self, condition: Callable[[Snapshot], Any]) -> Snapshot:
        """The first status that meets a condition."""
        deadline = monotonic() + 40
        while True:
            try:
                snapshot = await self.status()
                if condition(snapshot):
                    return snapshot
            except NotRunningError as error:
                snapshot = error  # type: ignore[assignment]
            assert monotonic() < deadline, snapshot
            await trio.to_thread.run_sync(sleep, 0.02)

    def kept(self, kind: str) -> list[dict[str, Any]]:
        """The bodies of the records of a kind, newest first."""
        with closing(open_readonly(self.outbox)) as outbox:
            return [json.loads(body) for body in lookup.latest(outbox, kind, limit=1_000_000)]

    def checked(self) -> list[str]:
        """The products that have a price, one for each price."""
        return sorted(price["asin"] for price in self.kept("price"))


class Daemon:
    """A daemon's process, and what it writes; a context that leaves no process behind."""

    def __init__(self, house: House, arguments: Iterable[str], environ: dict[str, str]) -> None:
        self.house = house
        self.log_path = house.directory / "log"
        inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        home = {"HOME": str(house.directory), "KEEPA_API_KEY": KEY}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pricecheck", "run", "--config", house.config, *arguments],
                env=inherited | home | environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def log(self) -> str:
        """All that daemons of this house have printed."""
        return self.log_path.read_text()

    async def says(self, event: str, times: int = 1) -> None:
        """Wait for an event in the log."""
        await until(lambda: self.log.count(f" {event}") >= times or self.process.poll() is not None)
        assert self.log.count(f" {event}") >= times, self.log

    async def ends(self, number: signal.Signals | None = None) -> int:
        """Send a signal, and wait ten seconds at most for the end; return the exit code."""
        if number is not None:
            self.process.send_signal(number)
        return await trio.to_thread.run_sync(self.process.wait, 10)
