"""The systemd units, as text: what needs no systemd to be found wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGING = Path(__file__).parent.parent / "packaging"
UNITS = ("pricecheck.service", "pricecheck@.service")


def settings(unit: str) -> list[str]:
    """Return the lines of a unit that say something to systemd."""
    lines = (PACKAGING / "systemd" / unit).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_template_differs_in_names_only() -> None:
    """What is learned about one unit is not forgotten in the other."""
    expected = [
        line.replace("/etc/pricecheck/", "/etc/pricecheck/%i/") for line in settings(UNITS[0])
    ]
    names = {
        "Description=Amazon price watch through the Keepa API": ": %i",
        "ConfigurationDirectory=pricecheck": "/%i",
        "StateDirectory=pricecheck": "-%i",
        "RuntimeDirectory=pricecheck": "-%i",
    }
    expected = [line + names.get(line, "") for line in expected]
    expected[expected.index("User=pricecheck-daemon")] = "User=pricecheck-%i"

    assert settings(UNITS[1]) == expected


@pytest.mark.parametrize("unit", UNITS)
def test_every_secret_that_the_daemon_may_need_is_passed_and_may_be_missing(unit: str) -> None:
    """A credential without a file would keep systemd from starting it, but for the empty one."""
    delivering = PACKAGING.parent.glob("pricecheck/deliver/*.py")
    sources = "".join(path.read_text() for path in delivering)
    needed = {*re.findall(r'secret\(\s*"([a-z-]+)"', sources), "keepa-api-key"}

    lines = settings(unit)

    loaded = {line.partition("=")[2].partition(":")[0] for line in lines if "LoadC" in line}
    empty = {line.removesuffix(r":\n") for line in lines if line.startswith("SetCredential=")}
    assert loaded == needed
    assert empty == {f"SetCredential={name}" for name in loaded}


def test_what_only_newer_systemds_know_is_not_in_the_units() -> None:
    """An older one would warn of it at each start, among what needs a person."""
    newer = (PACKAGING / "systemd/growing-delay.conf").read_text()

    assert "RestartSteps=" in newer
    for unit in UNITS:
        assert not [
            line for line in settings(unit) if line.startswith(("RestartSteps", "RestartMax"))
        ]
