"""What goes wrong in a soak, and when: drawn from a seed, so that it can be played again.

Three lanes run side by side, so that a server can be away while the daemon is killed; within a lane
one fault ends before the next begins. Each lane goes through all its faults in random order, and
then through all of them again. Kills of the daemon end with the first half: in the second one
process lives on, in which a leak would show.
"""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from pricecheck.simulator.settings import FAULTS

KILL: Final = "daemon killed"
DISK: Final = "disk filled"
CLOCK: Final = "clock stepped"
GARBAGE: Final = "Keepa garbled"
CUT: Final = "network cut"

LANES: Final = {
    "daemon": (KILL, "daemon frozen", CLOCK, DISK, "config reloaded", "bad config reloaded"),
    "keepa": (GARBAGE, "Keepa killed", "key revoked", CUT, "Keepa refused", "Keepa hung"),
    "sinks": (
        "elasticsearch killed",
        "elasticsearch frozen",
        "kafka killed",
        "kafka frozen",
        "notifier refusing",
    ),
}

_PAUSES_S: Final = {"daemon": (2.0, 9.0), "keepa": (2.0, 9.0), "sinks": (5.0, 15.0)}
_LASTS_S: Final = {"daemon": (0.5, 3.0), "keepa": (1.0, 3.0), "sinks": (1.0, 8.0)}
_MOST_HOURS: Final = 3.0  # by which a clock is stepped, simulated
_GARBLINGS: Final = 3


class Fault(NamedTuple):
    """One fault; times are real seconds."""

    at_s: float  # from the schedule's begin, at the earliest: the lane may not be free
    lane: str
    name: str
    lasts_s: float
    detail: str = ""  # of a clock the hours, of Keepa's garbling the simulator's faults


def draw(seed: int, seconds: float) -> list[Fault]:
    """Return the faults of so many real seconds, in order of time."""
    found = [fault for lane in LANES for fault in _draw_lane(seed, lane, seconds)]
    return sorted(found)


def _draw_lane(seed: int, lane: str, seconds: float) -> list[Fault]:
    random = Random(f"{seed}:{lane}")
    found: list[Fault] = []
    bag: list[str] = []
    at = random.uniform(*_PAUSES_S[lane])
    while at < seconds:
        if not bag:
            bag = random.sample(LANES[lane], len(LANES[lane]))
        name = bag.pop()
        if name == KILL and at > seconds / 2:
            continue
        lasts = round(random.uniform(*_LASTS_S[lane]), 1)
        found.append(Fault(round(at, 1), lane, name, lasts, _detail(name, random)))
        at += lasts + random.uniform(*_PAUSES_S[lane])
    return found


def _detail(name: str, random: Random) -> str:
    if name == CLOCK:
        return f"{random.choice((-1, 1)) * random.uniform(0.2, _MOST_HOURS):+.1f} h"
    if name == GARBAGE:
        return " ".join(f"{one}:0.3" for one in random.sample(sorted(FAULTS), _GARBLINGS))
    return ""


def line(fault: Fault, factor: float) -> str:
    """Return a fault as the schedule shows it, in simulated days and real seconds."""
    day = fault.at_s * factor / 86_400
    told = f"day {day:5.2f}  {fault.at_s:6.1f} s  {fault.name} for {fault.lasts_s} s"
    return f"{told}  ({fault.detail})" if fault.detail else told
