"""What the service may do is what it needs; the rest is refused by the kernel, not by promise."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.box.conftest import Service, exposure

pytestmark = pytest.mark.timeout(300)

PROBE = """[Service]
Type=oneshot
Restart=no
ExecStart=
ExecStart=/opt/pricecheck/bin/python /opt/probe.py
"""
NEEDED = {
    "write to its state",
    "write to its runtime directory",
    "connect to a server",
    "look a name up",
    "read certificates",
    "read its config",
}


def test_nothing_works_in_the_sandbox_but_what_the_service_needs(service: Service) -> None:
    """Another program in its place tries all that the unit forbids."""
    box = service.box
    shutil.copy(Path(__file__).parent / "probe.py", box.path("/opt/probe.py"))
    box.write("/etc/pricecheck/keepa-api-key", "secret")
    box.path("/etc/pricecheck/keepa-api-key").chmod(0o600)
    box.run("sh", "-c", "touch /tmp/of-others; mkdir -p /home/of-others /root/of-others")

    service.start(quick=PROBE)

    (worked,) = re.findall(r"^\[.*\]$", service.journal(), re.MULTILINE)
    assert set(json.loads(worked)) == NEEDED


def test_the_exposure_that_systemd_reckons_is_low(service: Service) -> None:
    """1.2 at most, of the unit as it runs."""
    service.start()

    assert exposure(service) <= 1.2


def test_what_is_left_open_has_its_reason_in_the_unit(service: Service) -> None:
    """Each thing that systemd finds exposed stands in the unit's comments, and no other."""
    service.start()
    told = service.box.run("systemd-analyze", "security", "--json=short", "pricecheck").stdout
    unit = service.box.run("systemctl", "cat", "pricecheck").stdout
    about = unit.partition("# Hardening.")[2]

    exposed = {one["json_field"] for one in json.loads(told) if float(one["exposure"] or 0) > 0}

    settings = {re.split("_|Or(?=[A-Z])", field)[0] for field in exposed}
    assert settings == set(re.findall(r"^#   (\w+) ", about, re.MULTILINE))


def test_room_and_restarts_are_bounded_as_the_unit_says(service: Service) -> None:
    """systemd knows every line of the unit: none is ignored."""
    service.start()

    assert service.show("MemoryMax") == str(1024**3)
    assert service.show("TasksMax") == "128"
    assert service.show("WatchdogUSec") == "1min"
    assert service.show("NotifyAccess") == "main"
    loaded = service.box.run("systemd-analyze", "verify", "pricecheck.service", check=False)
    assert "pricecheck" not in loaded.stderr
