"""The accounts of how the daemon bore it all: the faults, its memory and files, its log and status.

Nothing of the package is used here, as in the accountant's other half.
"""

from __future__ import annotations

from collections import Counter
from statistics import quantiles

from scripts.soaking.books import Account, Books

SETTLED_S = 300
"""So long a process must have lived for its memory to be judged as settled."""

MEMORY_MB = 3.0
"""Settled memory is flat when its floor grew by no more than this from the middle to the last third
of a life. It moved by 1 MB in lives that provably held on to nothing more; in the ten minutes after
the last kill of the ten days, a leak of 350 bytes a price comes to more."""

YOUNG_MEMORY_MB = 15.0
"""The same for a process that has not settled yet."""

FILES, YOUNG_FILES = 3, 20
"""The same of file descriptors. Their floor moves by one or two."""

TRACES = {
    "disk filled": "database or disk is full",
    "config reloaded": " reloaded ",
    "bad config reloaded": " reload refused",
    "key revoked": "The API key is not known",
    "Keepa killed": "no connection to Keepa",
    "Keepa refused": "no connection to Keepa",
    "Keepa garbled": "does not have Keepa's form",
    "elasticsearch killed": "not delivering relay=elasticsearch",
    "kafka killed": "not delivering relay=kafka",
}
"""What the daemon says of faults, sooner or later."""
OFTEN = 3  # a fault that happened so often can't have met with nothing each time


def schedule_played(books: Books) -> Account:
    """Compare what happened with the schedule; what happened often must have been noticed."""
    played, late, barred = (
        Counter(one["fault"] for one in books.events if one["name"] == name)
        for name in ("fault", "too late", "needs root")
    )
    forgotten = Counter(books.planned) - played - late - barred
    faults = [f"{name} did not happen {count} times" for name, count in forgotten.items()]
    if late.total() > played.total() / 2:
        faults.append(f"{late.total()} faults came too late to happen")
    faults += [
        f"{name} happened {count} times, and the log has no {TRACES[name]!r}"
        for name, count in played.items()
        if count >= OFTEN and TRACES.get(name, "") not in books.log
    ]
    lives = len({sample["pid"] for sample in books.samples})
    if lives <= (kills := played["daemon killed"]):
        faults.append(f"{kills} kills, but only {lives} daemons")
    left_out = f"; {late.total()} too late to happen" if late else ""
    left_out += f"; without {', '.join(barred)}, for want of root" if barred else ""
    return Account("faults", f"{played.total():,} of {len(played)} kinds{left_out}", faults)


def memory(books: Books) -> Account:
    """Judge whether the daemon holds on to ever more memory."""
    return _flat(books, "memory flat", "rss_mb", MEMORY_MB, YOUNG_MEMORY_MB)


def files(books: Books) -> Account:
    """Judge whether it holds on to ever more files."""
    return _flat(books, "file descriptors flat", "fds", FILES, YOUNG_FILES)


def _flat(books: Books, name: str, figure: str, settled: float, young: float) -> Account:
    seconds, (first, middle, last) = _longest_life(books, figure)
    most = middle + (settled if seconds >= SETTLED_S else young)
    faults = [f"{last:.1f} are more than {most:.1f}"] if last > most else []
    found = f"{first:.1f}, {middle:.1f}, {last:.1f} in the thirds of {seconds / 60:.1f} minutes"
    return Account(name, found, faults)


def _longest_life(books: Books, figure: str) -> tuple[float, list[float]]:
    """Return how many seconds the daemon lived at best, and a figure's floor in each third of that.

    The floor is the lowest tenth: work that comes and goes is above it, a leak lifts it.
    """
    lives = Counter(sample["pid"] for sample in books.samples)
    [(longest, count)] = lives.most_common(1) or [(None, 0)]
    values = [sample[figure] for sample in books.samples if sample["pid"] == longest]
    third = count // 3
    if third < 2:
        return 0, [0.0, 0.0, float("inf")]
    thirds = (values[:third], values[third : 2 * third], values[-third:])
    return count * books.setup.sampled_s, [quantiles(one, n=10)[0] for one in thirds]


def unbroken(books: Books) -> Account:
    """Look for bugs that showed: tracebacks, tasks that stalled, ends that nobody asked for."""
    lines = books.log.splitlines()
    faults = [line for line in lines if "Traceback" in line or " task stalled" in line]
    faults += [event["what"] for event in books.events if event["name"] == "trouble"]
    return Account("daemon unbroken", f"{len(lines):,} lines of log", faults)


def well_again(books: Books) -> Account:
    """Ask for what status still complained of at the end."""
    return Account("well again", "status at the end", list(books.health))
