"""Reads a lock file as `make lock` writes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

_PACKAGE: Final = re.compile(
    r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+)(?: ; (?P<marker>.*?))? \\\n"
    r"(?P<rest>(?:    .*\n?)*)",
    re.MULTILINE,
)


class Locked(NamedTuple):
    """One package: which, where it is needed (a marker, empty for everywhere), and for whom."""

    name: str
    version: str
    marker: str
    sha256: list[str]  # of each file that may be installed
    via: list[str]  # the packages that need it


def read_lock(path: Path) -> list[Locked]:
    """Return the packages of a lock file, in its order. Raises ValueError when there is none."""
    found = [
        Locked(
            each["name"],
            each["version"],
            each["marker"] or "",
            re.findall(r"--hash=sha256:([0-9a-f]{64})", each["rest"]),
            re.findall(r"^    #(?: via|  ) +([a-z0-9-]+)", each["rest"], re.MULTILINE),
        )
        for each in _PACKAGE.finditer(path.read_text())
    ]
    if not found:
        raise ValueError(f"{path} locks no package")
    return found
