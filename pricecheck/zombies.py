"""What is left of older deployments: units, timers, cron lines, processes, containers, indices.

The system that pricecheck replaces once ran twice for months: an old unit beside the new one ate
tokens and wrote to `keepa-deals` instead of `keeper-deals`. Whatever looks like that is named
here; nothing is touched.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from pricecheck.logs import redacted

# A keeper of its own, not a zookeeper's.
_LOOKS: Final = re.compile(r"(?<![a-z])(keepa|keeper)|price-?check", re.IGNORECASE)
_OURS: Final = re.compile(r"^pricecheck(@[^.]*)?\.service$")
_SECRET: Final = re.compile(
    r"((?:key|token|secret|passw(?:or)?d)[a-z_-]*(?:=|\s+))[^\s&\"']+", re.IGNORECASE
)
_CRON: Final = (
    "etc/crontab",
    "etc/cron.d/*",
    "etc/cron.hourly/*",
    "etc/cron.daily/*",
    "etc/cron.weekly/*",
    "var/spool/cron/crontabs/*",
)
_UNIT_COMMANDS: Final = (
    ("list-unit-files", "--type=service,timer,path,socket"),
    ("list-units", "--all", "--type=service,timer"),
)
_ANSWER_WITHIN_S: Final = 10
_NEAR: Final = 2
_WORDS: Final = 4


class Zombie(msgspec.Struct, frozen=True):
    """Something that looks like an older deployment: what kind of thing, which, and the proof."""

    kind: str
    name: str
    proof: str


def find_zombies(root: Path = Path("/")) -> list[Zombie]:
    """Look on this machine; what may not be read is passed over."""
    return [*_units(root), *_cron_lines(root), *_processes(root / "proc"), *_containers()]


def look_alikes(ours: Iterable[str], there: Iterable[str]) -> dict[str, str]:
    """Return the names that differ from one of ours by a letter or two, each with that one."""
    wanted = set(ours)
    return {
        name: nearest
        for name in there
        if name not in wanted
        for nearest in [min(wanted, key=lambda our: _distance(our, name))]
        if _distance(nearest, name) <= _NEAR
    }


def _units(root: Path) -> Iterator[Zombie]:
    """Yield units by their names, and those whose files start what looks like ours."""
    names: dict[str, str] = {}
    for arguments in _UNIT_COMMANDS:
        for line in _output("systemctl", *arguments, "--no-legend", "--plain", "--no-pager"):
            name, _, rest = line.partition(" ")
            names.setdefault(name, " ".join(rest.split()))
    for name, state in names.items():
        if _LOOKS.search(name) and not _OURS.match(name):
            yield Zombie("unit", name, state)
    for folder in ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"):
        for file in sorted((root / folder).glob("*.service")):
            started = [line for line in _lines(file) if line.startswith("ExecStart=")]
            if not _LOOKS.search(file.name) and any(map(_LOOKS.search, started)):
                yield Zombie("unit", file.name, _without_secrets(started[0]))


def _cron_lines(root: Path) -> Iterator[Zombie]:
    for pattern in _CRON:
        for file in sorted(root.glob(pattern)):
            for line in _lines(file):
                if _LOOKS.search(line) and not line.lstrip().startswith("#"):
                    name = f"/{file.relative_to(root)}"
                    yield Zombie("cron line", name, _without_secrets(line.strip()))


def _processes(proc: Path) -> Iterator[Zombie]:
    """Yield processes by their command lines, but for ours and those that lead to this one."""
    spared = set(_ancestors(proc, os.getpid()))
    for entry in sorted(proc.glob("[0-9]*")):
        pid = int(entry.name)
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it has ended, or is not ours to see
        # Who runs what: further words may name files of ours, as an editor's do.
        started = " ".join(words[:_WORDS])
        if pid not in spared and _LOOKS.search(started) and not _is_ours(words):
            yield Zombie("process", f"pid {pid}", _without_secrets(started))


def _without_secrets(command: str) -> str:
    """Mask what a command line says after words such as key= or --token, and what we know."""
    return redacted(_SECRET.sub(r"\1***", command))


def _is_ours(words: list[str]) -> bool:
    """Tell whether a command line is this program's own, whichever way it was started."""
    names = [Path(word).name for word in words[:3]]
    return "pricecheck" in names or ("-m" in words and "pricecheck" in words)


def _ancestors(proc: Path, pid: int) -> Iterator[int]:
    while pid > 0:
        yield pid
        try:
            # The command's name, in brackets, may hold anything; the parent follows its state.
            after = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2]
            pid = int(after.split()[1])
        except (OSError, ValueError, IndexError):
            return


def _containers() -> Iterator[Zombie]:
    for engine in ("docker", "podman"):
        for line in _output(engine, "ps", "--all", "--format", "{{.Names}} {{.Image}} {{.Status}}"):
            name, _, about = line.partition(" ")
            if _LOOKS.search(line):
                yield Zombie("container", name, f"{engine}: {about}")


def _output(program: str, *arguments: str) -> list[str]:
    """Return the lines that a program prints; none where it is missing, fails or hangs."""
    path = shutil.which(program)
    if path is None:
        return []
    try:
        done = subprocess.run(  # noqa: S603  # a program of the PATH, with words of ours
            [path, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=_ANSWER_WITHIN_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _distance(one: str, other: str) -> int:
    """Return how many letters to add, drop or change lead from one name to the other."""
    row = list(range(len(other) + 1))
    for place, letter in enumerate(one, start=1):
        before, row[0] = row[0], place
        for column, mate in enumerate(other, start=1):
            changed = before + (letter != mate)
            before = row[column]
            row[column] = min(row[column] + 1, row[column - 1] + 1, changed)
    return row[-1]
