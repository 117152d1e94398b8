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
_LOOKS: Final = re.compile(r"(?<![a-z])(keepa|keeper)|price[-_]?check", re.IGNORECASE)
# This program, its units, its simulator, and what is in a folder called like it.
_OURS: Final = re.compile(
    r"(?<![\w.-])pricecheck(@\S*|\.service|\.simulator)?(?![\w.-])|/var/lib/(private/)?pricecheck-"
)
_OUR_CONTAINERS: Final = re.compile(r"pricecheck[-_](kafka|elasticsearch|kibana)[-_]\d+ ")
_COMMANDS: Final = re.compile(r"[;&|()]+")  # of a shell line
_RUNS_OURS: Final = re.compile(r"(^|[\s/])pricecheck(\s|$)")
_INTERPRETER: Final = re.compile(
    r"(python|pypy|perl|ruby|php|node|nodejs|deno|bun|java|sh|bash|dash|zsh|ksh)[\d.]*"
)
_GIVEN_TEXT: Final = re.compile(r"-[A-Za-z]*c")  # sh -c, bash -lc, python -c
_WITH_VALUE: Final = (
    *("-X", "-W", "-cp", "-classpath", "--class-path"),
    *("--module-path", "--upgrade-module-path", "--add-modules"),
)
_SECRET: Final = re.compile(
    r"((?:key|token|secret|passw(?:or)?d)[a-z_-]*(?:=|\s+))[^\s&\"']+", re.IGNORECASE
)
_CRON: Final = (
    "etc/crontab",
    "etc/cron.d/*",
    "etc/cron.hourly/*",
    "etc/cron.daily/*",
    "etc/cron.weekly/*",
    "etc/cron.monthly/*",
    "etc/anacrontab",
    "var/spool/cron/crontabs/*",
)
_UNIT_FOLDERS: Final = (
    "etc/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
_PERSONS_UNIT_FOLDERS: Final = (
    "etc/systemd/user",
    "root/.config/systemd/user",
    "home/*/.config/systemd/user",
)
_UNIT_COMMANDS: Final = (
    ("list-unit-files", "--type=service,timer,path,socket"),
    ("list-units", "--all", "--type=service,timer"),
)
_ANSWER_WITHIN_S: Final = 10
_NEAR: Final = 2
_PROOF: Final = 160  # letters of a command line


class Zombie(msgspec.Struct, frozen=True):
    """Something that looks like an older deployment: what kind of thing, which, and the proof."""

    kind: str
    name: str
    proof: str


def find_zombies(root: Path = Path("/")) -> list[Zombie]:
    """Look on this machine; what may not be read is passed over."""
    found = [*_units(root), *_cron_lines(root), *_processes(root / "proc"), *_containers()]
    return list(dict.fromkeys(found))  # /lib and /usr/lib may be the same folder


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


def _looks(name: str) -> bool:
    """Tell whether a name is one that an older deployment would have."""
    return bool(_LOOKS.search(_OURS.sub("", name)))


def _starts_such(line: str) -> bool:
    """Tell whether a line of cron's or a unit's has a command of that name; ours do not count."""
    commands = _COMMANDS.split(line)
    return any(_looks(command) for command in commands if not _RUNS_OURS.search(command))


def _units(root: Path) -> Iterator[Zombie]:
    """Yield units by their names, and those whose files start what looks like one."""
    names: dict[str, str] = {}
    for arguments in _UNIT_COMMANDS:
        for line in _output("systemctl", *arguments, "--no-legend", "--plain", "--no-pager"):
            name, _, rest = line.partition(" ")
            names.setdefault(name, " ".join(rest.split()))
    for name, state in names.items():
        if _looks(name):
            yield Zombie("unit", name, state)
    for file in _unit_files(root, _UNIT_FOLDERS):
        if not _looks(file.name) and (started := _what_it_starts(file)):
            yield Zombie("unit", file.name, started)
    for file in _unit_files(root, _PERSONS_UNIT_FOLDERS):
        place, started = f"/{file.relative_to(root)}", _what_it_starts(file)
        if started or _looks(file.name):
            yield Zombie("unit", file.name, f"{place}: {started}" if started else place)


def _unit_files(root: Path, folders: Iterable[str]) -> Iterator[Path]:
    for folder in folders:
        for kind in ("service", "timer"):
            yield from sorted(root.glob(f"{folder}/*.{kind}"))


def _what_it_starts(unit: Path) -> str:
    """Return the line by which a unit starts what looks like an older deployment, or nothing."""
    for line in _lines(unit):
        if line.startswith("ExecStart=") and _starts_such(line):
            return _without_secrets(line)
    return ""


def _cron_lines(root: Path) -> Iterator[Zombie]:
    for pattern in _CRON:
        for file in sorted(root.glob(pattern)):
            name = f"/{file.relative_to(root)}"
            found = [
                Zombie("cron line", name, _without_secrets(line.strip()))
                for line in _lines(file)
                if not line.lstrip().startswith("#") and _starts_such(line)
            ]
            if not found and _looks(file.name):
                found = [Zombie("cron line", name, "by its name")]
            yield from found


def _processes(proc: Path) -> Iterator[Zombie]:
    """Yield processes by what they run, but for those that lead to this one."""
    spared = set(_ancestors(proc, os.getpid()))
    for entry in sorted(proc.glob("[0-9]*")):
        try:
            cmdline = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue  # it has ended, or is not ours to see
        words = cmdline.rstrip("\0").split("\0")
        if int(entry.name) not in spared and any(map(_looks, _run_by(words))):
            yield Zombie("process", f"pid {entry.name}", _without_secrets(" ".join(words))[:_PROOF])


def _run_by(words: list[str]) -> list[str]:
    """Return what a command line runs: its program, and what an interpreter was given to run.

    What follows is data: an editor's or a package tool's words may name anything.
    """
    program, *rest = words
    if not _INTERPRETER.fullmatch(Path(program).name):
        return [program]
    given = iter(rest)
    for word in given:
        if word in ("-m", "-jar"):
            return [program, next(given, "")]
        if _GIVEN_TEXT.fullmatch(word):  # what that starts is a process of its own
            break
        if word in _WITH_VALUE:
            next(given, None)
        elif not word.startswith(("-", "+")):
            return [program, word]
    return [program]


def _without_secrets(command: str) -> str:
    """Mask what a command line says after words such as key= or --token, and what we know."""
    return redacted(_SECRET.sub(r"\1***", command))


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
            if _looks(line) and not _OUR_CONTAINERS.match(line):
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
