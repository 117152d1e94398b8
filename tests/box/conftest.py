"""A machine with a real systemd (scripts/systemd-box), pricecheck installed from its package.

One box for each test process; what a test leaves in it is cleared before the next one. Where the
machine can't run a box, the tests are skipped with the reason.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent.parent
SYSTEMD_BOX: Final = ROOT / "scripts/systemd-box"
CONFIG: Final = '[keepa]\nurl = "http://127.0.0.1:8080"\n'
WATCHLIST: Final = "asin\nB0D8W1YVBX\n"
# Restarts in tests need not be leisurely; each test that is about delays sets its own.
QUICK: Final = "[Service]\nRestartSec=200ms\n"
_CLEAR: Final = """
systemctl kill --signal=KILL 'pricecheck*' || true
systemctl stop 'pricecheck*'
systemctl disable --quiet pricecheck || true
grep -o '/var/lib/[^ ]*pricecheck[^ ]*' /proc/mounts | xargs -r umount
rm -rf /etc/systemd/system/pricecheck* /etc/pricecheck /var/lib/pricecheck* \
    /var/lib/private/pricecheck* /opt/fault
systemctl daemon-reload
systemctl reset-failed
systemctl start keepa
"""
_SIMULATOR: Final = """
[Service]
ExecStart=pricecheck simulate --port 8080 --refill-rate 0
"""


@dataclass(frozen=True)
class Box:
    """A booted machine."""

    state: Path

    def run(self, *command: str, check: bool = True) -> CompletedProcess[str]:
        """Run a command in it; fail the test, with what it said, unless it may fail."""
        done = subprocess.run(
            [SYSTEMD_BOX, "exec", self.state, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            pytest.fail(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def journalctl(self, *options: str) -> str:
        """Return what the journal holds by now."""
        script = 'journalctl --sync; exec journalctl --quiet --no-pager "$@"'
        return self.run("sh", "-c", script, "sh", *options).stdout

    def reboot(self) -> None:
        """Boot it again."""
        subprocess.run([SYSTEMD_BOX, "reboot", self.state], check=True)

    def write(self, path: str, text: str) -> None:
        """Write a file of it."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def path(self, path: str) -> Path:
        """Return where one of its files is on this machine; not in /run and /tmp."""
        return self.state / "root" / path.removeprefix("/")


@dataclass(frozen=True)
class Service:
    """A unit of the box, told to read what is written for it."""

    box: Box
    unit: str
    since: float  # its journal is read from this time on

    def systemctl(self, verb: str, *, check: bool = True) -> CompletedProcess[str]:
        """Do something with the unit."""
        return self.box.run("systemctl", verb, self.unit, check=check)

    def start(self, *, quick: str = QUICK) -> None:
        """Start it with a drop-in; when this returns, it is ready."""
        self.drop_in(quick)
        self.systemctl("start")

    def drop_in(self, text: str) -> None:
        """Write a drop-in for it, as `systemctl edit` does."""
        self.box.write(f"/etc/systemd/system/{self.unit}.service.d/test.conf", text)
        self.box.run("systemctl", "daemon-reload")

    def show(self, name: str) -> str:
        """Return one of the unit's properties."""
        return self.box.run("systemctl", "show", "-P", name, self.unit).stdout.strip()

    def journal(self, *options: str) -> str:
        """Return what the journal holds of it, message by message."""
        # Not --after-cursor: with a filter it passes over the first entry that matches.
        about = ("-u", self.unit, f"--since=@{self.since:.6f}", "-o", "cat")
        return self.box.journalctl(*about, *options)

    def wait_for_journal(self, text: str, within_s: float = 40) -> str:
        """Wait until the journal holds a text; return all of it."""
        wait_for(lambda: text in self.journal(), f"{text!r} in the journal", within_s)
        return self.journal()

    def wait_for_state(self, state: str, within_s: float = 40) -> None:
        """Wait for an ActiveState."""
        wait_for(lambda: self.show("ActiveState") == state, f"{self.unit} {state}", within_s)


def wait_for(holds: Callable[[], bool], what: str, within_s: float = 40) -> None:
    """Wait until something holds in a box."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within_s:g} s: {what}")
        time.sleep(0.1)


def exposure(service: Service) -> float:
    """Return what systemd reckons of the unit as it runs, from 0 (safe) to 10."""
    told = service.box.run("systemd-analyze", "security", "--no-pager", service.unit).stdout
    (level,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", told)
    return float(level)


@pytest.fixture(scope="session")
def able() -> None:
    """This machine can boot a box and build the package."""
    lacks = subprocess.run([SYSTEMD_BOX, "check"], capture_output=True, text=True, check=False)
    if lacks.returncode:
        pytest.skip(f"no real systemd here: {lacks.stderr.strip()}")
    for program in ("dpkg-buildpackage", "dh"):
        if not shutil.which(program):
            pytest.skip(f"no package to test: {program} is missing (apt install debhelper)")


@pytest.fixture(scope="session")
def package(able: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, made without compressing it much."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    place = shared / "package"
    place.mkdir(exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made := [*place.glob("*.deb")]):
            uv = Path(sys.prefix, "bin", "uv")
            options = {"UV": str(uv), "DEB_COMPRESSION": "-Zgzip -z1"}
            subprocess.run([ROOT / "scripts/deb", place], env=os.environ | options, check=True)
            made = [*place.glob("*.deb")]
    return made[0]


@contextmanager
def booted(setup: str = "") -> Iterator[Box]:
    """Boot a box for the time of a with block."""
    folder = Path(tempfile.mkdtemp(prefix="pricecheck-box-"))
    box = Box(folder / "box")
    try:
        subprocess.run([SYSTEMD_BOX, "start", box.state, setup], check=True)
        try:
            yield box
        finally:
            subprocess.run([SYSTEMD_BOX, "stop", box.state], check=True)
    finally:
        folder.rmdir()


def install(box: Box, package: Path, *options: str) -> None:
    """Install the package in a box, with apt."""
    shutil.copy(package, box.path("/opt/pricecheck.deb"))
    box.run("apt-get", "install", "-qy", *options, "/opt/pricecheck.deb")
    box.write("/etc/systemd/system/keepa.service", _SIMULATOR)


@pytest.fixture(scope="session")
def machine(package: Path) -> Iterator[Box]:
    """A box with the package, a simulated Keepa, and faults that a test may let loose."""
    with booted() as box:
        install(box, package)
        packages = box.path("/opt/pricecheck/lib/python3.11/site-packages")
        shutil.copy(Path(__file__).parent / "faults.py", packages / "box_faults.py")
        hook = "import os; 'PRICECHECK_FAULT' in os.environ and __import__('box_faults')"
        (packages / "box_faults.pth").write_text(hook)
        yield box


@pytest.fixture
def box(machine: Box) -> Box:
    """The box as after an installation: nothing configured, nothing run."""
    machine.run("sh", "-ec", _CLEAR)
    return machine


def configure(box: Box, unit: str = "pricecheck") -> Service:
    """Write config and watchlist for a unit of a box."""
    folder = "/etc/pricecheck/" + unit.partition("@")[2]
    box.write(f"{folder}/pricecheck.toml", CONFIG)
    box.write(f"{folder}/watchlist.csv", WATCHLIST)
    return Service(box, unit, time.time())


@pytest.fixture
def service(box: Box) -> Service:
    """The service, configured for the simulator with one product, not started."""
    return configure(box)
