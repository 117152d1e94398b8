"""The accounts of how the daemon bore it all: the faults, its memory and files, its log and status.

Nothing of the package is used here, as in the accountant's other half.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from statistics import median, quantiles

from scripts.soaking.books import Account, Books

SETTLED_S = 300
"""So long a process must have lived for its memory to be judged as settled."""

MEMORY_MB, YOUNG_MEMORY_MB = 1.0, 5.0
"""Memory is flat when it typically grew by no more than this from one sixth of a life to the next,
the first third left out; the second figure is for a process that has not settled. It is 0.2 MB in
lives that provably held on to nothing more. In the ten minutes after the last kill of the ten days,
a leak of half a kilobyte a price comes to more; in three minutes only a gross one shows."""

FILES, YOUNG_FILES = 1, 5
"""The same of file descriptors."""

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
    "notifier refusing": "not delivering relay=notify",
}
"""What the daemon says of faults, sooner or later; the others may pass without a word."""
_NEVER = ("Traceback", "task stalled", "task stuck", "task returned early", "answer lost")
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
    """Judge by the longest life of a daemon; a leak grows in all of it, a step is none.

    The floor of a part is its lowest tenth: work that comes and goes is above it.
    """
    lives = Counter(sample["pid"] for sample in books.samples)
    [(longest, count)] = lives.most_common(1) or [(None, 0)]
    values = [sample[figure] for sample in books.samples if sample["pid"] == longest]
    part = count // 6
    if part < 2:
        return Account(name, "nobody knows", [f"only {count} samples"])
    floors = [quantiles(values[at * part :][:part], n=10)[0] for at in range(6)]
    growth = median(after - before for before, after in pairwise(floors[2:]))
    seconds = count * books.setup.sampled_s
    most = settled if seconds >= SETTLED_S else young
    found = f"{', '.join(f'{floor:.0f}' for floor in floors)} in sixths of {seconds / 60:.1f} min"
    found += "" if seconds >= SETTLED_S else ", too short to tell a small leak"
    faults = [f"{growth:+.1f} a sixth is more than {most:+.1f}"] if growth > most else []
    return Account(name, found, faults)


def unbroken(books: Books) -> Account:
    """Look for bugs that showed: in tracebacks, in what is never to be, in ends not asked for."""
    lines = books.log.splitlines()
    faults = [line for line in lines if any(words in line for words in _NEVER)]
    faults += [event["what"] for event in books.events if event["name"] == "trouble"]
    return Account("daemon unbroken", f"{len(lines):,} lines of log", faults)


def well_again(books: Books) -> Account:
    """Ask for what status still complained of at the end."""
    return Account("well again", "status at the end", list(books.health))
