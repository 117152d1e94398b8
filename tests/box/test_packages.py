"""Installed, upgraded and removed as people do it: the package with apt, the source with make."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.box.conftest import ROOT, Box, Service, booted, configure, install, wait_for

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

STATE = "/var/lib/private/pricecheck/outbox.sqlite"
CONFIG = "/etc/pricecheck/pricecheck.toml"
KEY = "/etc/pricecheck/keepa-api-key"
# Of what Debian 12 offers beside its own.
NEWER_SYSTEMD = """
echo 'deb http://deb.debian.org/debian bookworm-backports main' >/etc/apt/sources.list.d/newer.list
apt-get -q update
apt-get -qy --no-install-recommends --target-release bookworm-backports install systemd
"""


@pytest.fixture
def running(package: Path) -> Iterator[Service]:
    """A box of its own with the package, and the service running in it."""
    with booted() as box:
        install(box, package)
        service = configure(box)
        box.run("systemctl", "start", "keepa")
        service.start()
        yield service


def key_file(box: Box) -> str:
    """Return mode, owner and content of the file for the key."""
    return box.run("sh", "-c", f"stat -c '%a %U' {KEY}; cat {KEY}").stdout


def test_an_upgrade_keeps_config_key_and_data_and_goes_on_with_the_new_program(
    running: Service, package: Path
) -> None:
    """What the operator wrote stays without a question; the process is another one."""
    box, pid = running.box, running.show("MainPID")
    before, place_for_the_key = box.path(CONFIG).read_text(), key_file(box)
    box.path(KEY).write_text("the-key")

    install(box, package, "--reinstall")

    assert place_for_the_key == "600 root\n"
    assert key_file(box) == "600 root\nthe-key"
    assert box.path(CONFIG).read_text() == before
    assert box.path(STATE).exists()
    wait_for(lambda: running.show("MainPID") not in ("0", pid), "another process")
    running.wait_for_state("active")


def test_removed_it_leaves_config_and_data_and_nothing_else(running: Service) -> None:
    """A service that runs is stopped first."""
    box = running.box
    running.systemctl("enable")

    box.run("apt-get", "remove", "-qy", "pricecheck")

    assert running.show("LoadState") == "not-found"
    assert box.run("pgrep", "-f", "pricecheck run", check=False).stdout == ""
    assert box.path(CONFIG).exists()
    assert box.path(STATE).exists()
    assert not box.path("/opt/pricecheck").exists()


def test_purged_it_leaves_the_data_and_no_key(running: Service) -> None:
    """What was paid for in tokens stays; a secret does not."""
    box = running.box
    box.path(KEY).write_text("the-key")

    box.run("apt-get", "purge", "-qy", "pricecheck")

    assert box.path(STATE).exists()
    assert not box.path("/etc/pricecheck").exists()


def test_over_an_installation_from_source_it_is_not_installed(package: Path) -> None:
    """Its unit would be hidden by the other's; what to do first is said."""
    with booted() as box:
        box.write("/usr/local/lib/systemd/system/pricecheck.service", "[Service]\n")
        shutil.copy(package, box.path("/opt/pricecheck.deb"))

        done = box.run("apt-get", "install", "-qy", "/opt/pricecheck.deb", check=False)

        assert done.returncode != 0
        assert "sudo make uninstall" in done.stdout + done.stderr


def test_what_an_installation_from_source_left_is_taken_over_without_a_question(
    package: Path,
) -> None:
    """Config, watchlist and key of before stay as they are."""
    with booted() as box:
        box.write(CONFIG, "# mine\n")
        box.write(KEY, "the-key")

        install(box, package)

        assert box.path(CONFIG).read_text() == "# mine\n"
        assert box.path(KEY).read_text() == "the-key"
        assert box.path("/etc/pricecheck/watchlist.csv").exists()


@pytest.fixture
def source(able: None, tmp_path: Path) -> Iterator[Box]:
    """A box with the source in /opt/source, and what pip would fetch beside it."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:"]
    pip += ["--require-hashes", "--requirement", str(ROOT / "requirements.lock")]
    subprocess.run([*pip, "--dest", str(tmp_path), "--python-version", "3.11"], check=True)
    with booted() as box:
        shutil.copytree(tmp_path, box.path("/opt/source-wheels"))
        for name in ("pricecheck", "packaging", "scripts"):
            shutil.copytree(ROOT / name, box.path(f"/opt/source/{name}"))
        for name in ("Makefile", "pyproject.toml", "requirements.lock", "LICENSE"):
            shutil.copy(ROOT / name, box.path(f"/opt/source/{name}"))
        yield box


def make(box: Box, target: str) -> str:
    """Run make in the box's copy of the source, without a network; return what it said."""
    offline = ("PIP_NO_INDEX=1", "PIP_FIND_LINKS=/opt/source-wheels")
    return box.run("env", "-C", "/opt/source", *offline, "make", target).stdout


def test_make_install_gives_a_service_that_runs_and_again_is_an_upgrade(source: Box) -> None:
    """Program, unit, man page and completion; the second time config and data stay."""
    told = make(source, "install")
    place_for_the_key = key_file(source)
    service = configure(source)
    source.path(KEY).write_text("the-key")
    service.start()
    pid, before = service.show("MainPID"), source.path(CONFIG).read_text()
    told_again = make(source, "install")

    assert "systemctl enable --now pricecheck" in told
    assert "what ran has been restarted" in told_again
    assert place_for_the_key == "600 root\n"
    assert key_file(source) == "600 root\nthe-key"
    assert source.path(CONFIG).read_text() == before
    wait_for(lambda: service.show("MainPID") not in ("0", pid), "another process")
    service.wait_for_state("active")
    assert "PRICECHECK(1)" in source.run("man", "-P", "cat", "pricecheck").stdout
    assert source.path("/usr/local/share/bash-completion/completions/pricecheck").exists()
    assert not source.path("/opt/source/build").exists()


def test_make_uninstall_leaves_config_and_data(source: Box) -> None:
    """The units are stopped and gone, instances too."""
    make(source, "install")
    service = configure(source, "pricecheck@one")
    service.start()

    make(source, "uninstall")

    assert service.show("LoadState") == "not-found"
    assert source.path("/etc/pricecheck/one/pricecheck.toml").exists()
    assert source.path("/var/lib/private/pricecheck-one/outbox.sqlite").exists()
    assert not source.path("/opt/pricecheck").exists()
    assert not os.path.lexists(source.path("/usr/local/bin/pricecheck"))


@pytest.fixture
def newer(package: Path) -> Iterator[Box]:
    """A box with a newer systemd, from the network that this machine may have."""
    with ExitStack() as stack:
        try:
            box = stack.enter_context(booted(NEWER_SYSTEMD))
        except subprocess.CalledProcessError:
            pytest.skip("no systemd newer than 253 to be had: bookworm-backports is out of reach")
        install(box, package)
        yield box


def test_where_systemd_knows_how_the_delay_between_restarts_grows(newer: Box) -> None:
    """Killed again and again, each wait is longer; a start by hand begins anew."""
    service = configure(newer)
    service.systemctl("start")
    delays = []

    for restarts in ("1", "2", "3"):
        newer.run("systemctl", "kill", "--signal=KILL", "pricecheck")
        wait_for(lambda n=restarts: service.show("NRestarts") == n, "a restart")  # type: ignore[misc]
        delays.append(service.show("RestartUSecNext"))
        service.wait_for_state("active")
    service.systemctl("restart")

    assert len(set(delays)) == 3, delays
    assert service.show("RestartUSecNext") == "2s"
    assert "growing-delay.conf" in service.show("DropInPaths")
    assert "Unknown key" not in service.journal("-p", "warning")
