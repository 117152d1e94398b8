"""The stage of a soak: the daemon, Keepa, Kafka, Elasticsearch, and what is written down of them.

All are processes as in daily life; the daemon's own is `pricecheck run`. Every method may block
for a moment on a file: nothing here waits for anything quicker.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import trio

from scripts.benchmarks.processes import some_products
from scripts.soaking.network import Bell, Namespace, Wire

SERVICES = Path(__file__).resolve().parents[1] / "services"
STEPPED = Path(__file__).resolve().parent / "stepped"

KEY = "the-key-of-the-soak"
PRODUCTS = 200
SEED_OF_THE_WORLD = 7
REFILL_RATE = 5  # tokens a minute: each product can be checked every forty minutes
CALLS_AT_ONCE = 4
CALL_TIMEOUT_S = 10
LOOKBACK_DAYS = 30
DROP_PERCENT = 10
SAMPLED_S = 0.5
ROOM = "2g"  # for the state; of memory, so as much is taken as it holds

CONFIG = """\
state_directory = "state"
[keepa]
url = "http://127.0.0.1:{port}"
concurrency = {calls}
call_timeout = "{timeout}s"
[prices]
every = "{every}"
lookback = "{lookback}d"
[notify]
every = "1s"
time_zone = "UTC"
[elasticsearch]
hosts = ["{elasticsearch}"]
request_timeout = "5s"
[kafka]
brokers = ["{kafka}"]
[simulation]
time_factor = {factor}
epoch_ms = {epoch_ms}
"""
RULES = f"""
[[deals]]
domain = "DE"
category = 340843031
every = "1h"
[[bestsellers]]
domain = "DE"
category = 340843031
every = "6h"
[[alerts]]
name = "drop"
what = "drop"
threshold = "{DROP_PERCENT}%"
[[alerts]]
name = "low"
what = "low"
"""


class TroubleError(Exception):
    """The soak can't go on; the message says why."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Stage:
    """Everything that runs, in one directory."""

    def __init__(self, home: Path, factor: float, nursery: trio.Nursery) -> None:
        self.home = home
        self.factor = factor
        self._nursery = nursery
        self.epoch_ms = time.time_ns() // 1_000_000
        self.state = home / "state"
        self.ledger = home / "ledger.jsonl"
        self.log = home / "pricecheck.log"
        self.bell = Bell(home / "told.jsonl")
        self.namespace = _namespace()
        self.wire = Wire(nursery, self.namespace)  # to Keepa
        self.addresses: dict[str, str] = {}
        self.daemon: subprocess.Popen[bytes] | None = None
        self.daemon_is_down = True  # and meant to be
        self._sampled = 0  # the process of a daemon that has been ready
        self._keepa: subprocess.Popen[str] | None = None
        self._clock = home / "clock"
        self.state.mkdir()
        self.has_disk = os.geteuid() == 0 and self._mount(f"size={ROOM}", "-t", "tmpfs", "tmpfs")

    def now_ms(self) -> int:
        """Return the simulated time."""
        real = time.time_ns() // 1_000_000
        return round(self.epoch_ms + (real - self.epoch_ms) * self.factor)

    def note(self, name: str, **more: Any) -> None:
        """Write down what happened."""
        with (self.home / "events.jsonl").open("a") as file:
            file.write(json.dumps({"name": name, "at_s": time.time()} | more) + "\n")

    def interrupt(self, by: str, begin_ms: int) -> None:
        """Write down that calls under way since then may have been cut off until now."""
        self.note("interruption", by=by, begin_ms=begin_ms, end_ms=self.now_ms())

    def stand_still(self, by: str, begin_ms: int) -> None:
        """Write down that nothing could be kept since then."""
        self.note("standstill", by=by, begin_ms=begin_ms, end_ms=self.now_ms())

    # Network.

    async def connect(self) -> None:
        """Lay the wire to Keepa; and, where the daemon has a network of its own, all others."""
        if self.namespace is not None:
            addresses = (*self.addresses.values(), f":{self.bell.port}")
            for port in (int(one.rpartition(":")[2]) for one in addresses):
                await Wire(self._nursery, self.namespace, port, port).join()
        await self.wire.join()

    # Kafka and Elasticsearch.

    async def servers(self, action: str, *names: str) -> None:
        """Start or stop servers. Raises TroubleError."""
        command = [str(SERVICES), action, "--state", str(self.home / "services"), *names]
        done = await trio.run_process(
            command,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={"PRICECHECK_SERVICES": "fetched"} | os.environ,
        )
        if done.returncode:
            raise TroubleError(done.stderr.decode().strip(), done.returncode)
        lines = done.stdout.decode().splitlines()
        self.addresses |= dict(line.split("\t") for line in lines)

    def server_pid(self, name: str) -> int:
        """Return the process of a server."""
        return int(json.loads((self.home / "services" / name / "service.json").read_text())["pid"])

    # Keepa.

    async def start_keepa(self, *options: str, key: str = KEY) -> None:
        """Start a simulator that goes on where the last one ended."""
        world = ("--seed", SEED_OF_THE_WORLD, "--time-factor", self.factor)
        bucket = ("--refill-rate", REFILL_RATE, "--tokens", self._tokens())
        command = (*world, "--epoch-ms", self.epoch_ms, *bucket, "--key", key, *options)
        self._keepa, self.wire.target = await self._simulator(*command, "--ledger", self.ledger)

    def kill_keepa(self, why: str) -> None:
        """Kill the simulator."""
        begin_ms = self.now_ms()
        assert self._keepa is not None  # it was started
        self._keepa.kill()
        self._keepa.wait()
        self.interrupt(why, begin_ms)

    async def start_historian(self) -> tuple[subprocess.Popen[str], str]:
        """Start a simulator of the same world for the accountant, and return its address."""
        world = ("--seed", SEED_OF_THE_WORLD, "--time-factor", self.factor)
        options = (*world, "--epoch-ms", self.epoch_ms, "--refill-rate", 0)
        process, port = await self._simulator(*options)
        return process, f"http://127.0.0.1:{port}"

    async def _simulator(self, *options: object) -> tuple[subprocess.Popen[str], int]:
        command = [sys.executable, "-m", "pricecheck", "simulate", *map(str, options)]
        with (self.home / "simulator.log").open("a") as log:
            # It outlives this function, which trio's own processes may not.
            process = subprocess.Popen(  # noqa: ASYNC220
                command, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert process.stdout is not None  # it is a pipe
        said = await trio.to_thread.run_sync(process.stdout.readline)
        try:
            return process, int(said.partition("http://127.0.0.1:")[2].partition(" ")[0])
        except ValueError:
            raise TroubleError(f"the simulator does not start; see {log.name}") from None

    def _tokens(self) -> int:
        """Return what is in the bucket: the last known, and what has come since."""
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        if not lines:
            return 60 * REFILL_RATE
        last = json.loads(lines[-1])
        minutes = (self.now_ms() - last["at_ms"]) // 60_000
        return int(min(last["tokens_left"] + minutes * REFILL_RATE, 60 * REFILL_RATE))

    # The daemon.

    def configure(self, *, every: str = "6h", rules: str = RULES, products: int = PRODUCTS) -> None:
        """Write config and watchlist."""
        text = CONFIG.format(
            port=self.wire.port,
            calls=CALLS_AT_ONCE,
            timeout=CALL_TIMEOUT_S,
            every=every,
            lookback=LOOKBACK_DAYS,
            factor=self.factor,
            epoch_ms=self.epoch_ms,
            **self.addresses,
        )
        (self.home / "pricecheck.toml").write_text(text + rules)
        lines = [
            f"{asin},{domain},{'' if place % 4 else '39.99'}"
            for place, (domain, asin) in enumerate(some_products(products))
        ]
        head = "asin,domain,target_price"
        (self.home / "watchlist.csv").write_text("\n".join([head, *lines]) + "\n")

    async def start_daemon(self) -> None:
        """Start it, and wait until it is ready."""
        if not self._clock.exists():
            self.step_clock(0)
        inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        own = {
            "HOME": str(self.home),
            "KEEPA_API_KEY": KEY,
            "NOTIFY_URLS": f"bell=json://127.0.0.1:{self.bell.port}/",
            "PYTHONPATH": str(STEPPED),
            "PRICECHECK_SOAK_CLOCK": str(self._clock),
        }
        program = (sys.executable, "-m", "pricecheck", "run", "--config", "pricecheck.toml")
        command = [*(self.namespace.enter if self.namespace else ()), *program]
        said = self.said(" ready ")
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(  # noqa: ASYNC220  # as above
                command, cwd=self.home, env=inherited | own, stdout=log, stderr=log
            )
        self.daemon_is_down = False
        await self.until("the daemon is ready", lambda: self.said(" ready ") > said)
        self._sampled = self.daemon.pid

    def signal_daemon(self, number: signal.Signals) -> None:
        """Send the daemon a signal."""
        assert self.daemon is not None  # it was started
        self.daemon.send_signal(number)

    def kill_daemon(self) -> None:
        """Kill it as a power cut would."""
        begin_ms = self.now_ms()
        assert self.daemon is not None  # it was started
        self.daemon_is_down = True
        self.daemon.kill()
        self.daemon.wait()
        self.interrupt("daemon killed", begin_ms)

    async def end_daemon(self) -> None:
        """End it in its own way; how long that may take is said in its unit."""
        assert self.daemon is not None  # it was started
        self.daemon_is_down = True
        self.signal_daemon(signal.SIGTERM)
        await self.until("the daemon ends", lambda: self.daemon and self.daemon.poll() is not None)
        if self.daemon.returncode:
            self.note("trouble", what=f"the daemon ended with {self.daemon.returncode}")

    async def reload(self, answer: str) -> None:
        """Send SIGHUP, and wait for what the log then says."""
        said = self.said(answer)
        self.signal_daemon(signal.SIGHUP)
        await self.until(f"the daemon says{answer}", lambda: self.said(answer) > said)

    async def watch_daemon(self) -> None:
        """Sample it now and then; start it again should it end by itself, as systemd would."""
        while True:
            if not self.daemon_is_down and self.daemon is not None:
                if (code := self.daemon.poll()) is not None:
                    self.note("trouble", what=f"the daemon ended by itself, with {code}")
                    await self.start_daemon()
                if self.daemon.pid == self._sampled:
                    self._sample(self._sampled)
            await trio.sleep(SAMPLED_S)

    def _sample(self, pid: int) -> None:
        status = Path(f"/proc/{pid}/status").read_text()
        if "VmRSS:" not in status:
            return  # it is just ending
        rss_mb = int(status.partition("VmRSS:")[2].split()[0]) / 1000
        fds = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        with (self.home / "samples.jsonl").open("a") as file:
            load = os.getloadavg()[0] / (os.cpu_count() or 1)
            sample = {
                "at_ms": self.now_ms(),
                "pid": pid,
                "rss_mb": rss_mb,
                "fds": fds,
                "load": load,
            }
            file.write(json.dumps(sample) + "\n")

    def said(self, words: str) -> int:
        """Return how often the daemons have said something in their log."""
        return self.log.read_text().count(words) if self.log.exists() else 0

    async def until(self, what: str, holds: Callable[[], Any], within_s: float = 60) -> None:
        """Wait until something holds; write down that it does not."""
        with trio.move_on_after(within_s) as patience:
            # What is waited for happens in other processes.
            while not await trio.to_thread.run_sync(holds):  # noqa: ASYNC110
                await trio.sleep(0.1)
        if patience.cancelled_caught:
            self.note("trouble", what=f"waited in vain until {what}")

    def ask_outbox(self, query: str, *parameters: object) -> list[Any]:
        """Read the outbox beside the daemon."""
        uri = f"{(self.state / 'outbox.sqlite').as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=10)) as db:
            return db.execute(query, parameters).fetchall()

    # Clock and disk.

    def step_clock(self, hours: float) -> None:
        """Let the daemon's wall clock be wrong by so many simulated hours."""
        wrong_ns = round(hours * 3600 / self.factor * 1e9)
        if not self._clock.exists():
            self._clock.write_bytes(bytes(8))
        with self._clock.open("r+b") as file:  # the same file, for it is mapped
            file.write(struct.pack("q", wrong_ns))

    def fill_disk(self) -> None:
        """Leave the state no room for another page."""
        while True:  # until nothing was written in between
            disk = os.statvfs(self.state)
            used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
            if self._mount(f"remount,size={used}"):
                return

    def free_disk(self) -> None:
        """Give it room again."""
        self._mount(f"remount,size={ROOM}")

    def _mount(self, options: str, *what: str) -> bool:
        command = ["mount", "-o", options, *what, str(self.state)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    async def close(self) -> None:
        """End all that still runs."""
        for process in (self.daemon, self._keepa):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self.bell.close()
        if self.namespace is not None:
            self.namespace.close()
        with trio.CancelScope(shield=True):
            await self.servers("stop")
        if self.has_disk:
            await trio.to_thread.run_sync(self._leave_disk)

    def _leave_disk(self) -> None:
        """Give the file system back, and keep what is on it for who looks into a failed run."""
        kept = self.home / "kept"
        shutil.copytree(self.state, kept, ignore=shutil.ignore_patterns("*.sock"))
        subprocess.run(["umount", "-l", self.state], check=False)


def _namespace() -> Namespace | None:
    try:
        return Namespace()
    except OSError:
        return None
