"""Tries inputs on a target until the time is over, and keeps those that reach something new.

What is new is told by the pairs of lines that run one after the other in the package's own code.
An input that takes too long or too much memory is a finding, as is every exception.
"""

from __future__ import annotations

import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import CodeType, FrameType, ModuleType
from typing import Any, Final, NamedTuple

import pricecheck
from scripts.fuzzing.mutate import mutated, shrunk

SLOW_S: Final = 5
MEMORY_BYTES: Final = 1 << 30
_MOST_FINDINGS: Final = 5
_NEWEST: Final = 8  # of the pool: what has just reached something new is tried more often
_OURS: Final = str(Path(pricecheck.__file__).parent)


class Target(NamedTuple):
    """Something that reads what strangers write; `judge` raises where it does not do so well."""

    name: str
    judge: Callable[[bytes], None]
    modules: tuple[ModuleType, ...] = ()  # whose lines are counted; none: it runs elsewhere
    words: tuple[bytes, ...] = ()
    is_json: bool = False


class Finding(NamedTuple):
    """An input and what became of it."""

    data: bytes
    trace: str


class Outcome(NamedTuple):
    """What a search came to."""

    tried: int
    seconds: float
    lines: int  # of the target's modules, that ran
    of_lines: int
    fresh: list[bytes]  # inputs that reached something new
    findings: list[Finding]


class TooSlowError(Exception):
    """An input took longer than SLOW_S."""


def search(target: Target, corpus: list[bytes], seconds: float, random: Random) -> Outcome:
    """Try the corpus, and then inputs made from it, for that many seconds."""
    began = time.monotonic()
    course = _Course(target)
    tried = 0
    while tried < len(corpus) or time.monotonic() - began < seconds:
        if tried < len(corpus):
            course.begin_with(corpus[tried])
        else:
            pool = course.pool[-_NEWEST:] if random.random() < 0.3 else course.pool
            course.go_on(mutated(random, pool, target.words, is_json=target.is_json))
        tried += 1
        if len(course.findings) >= _MOST_FINDINGS:
            break
    reached = {line for pair in course.seen for line in pair if line is not None}
    ours = {line for module in target.modules for line in _lines(module)}
    return Outcome(
        tried=tried,
        seconds=time.monotonic() - began,
        lines=len(ours & reached),
        of_lines=len(ours),
        fresh=course.fresh,
        findings=[*course.findings.values()],
    )


class _Course:
    """What a search has met so far."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._trace = _Trace()
        self.pool = [b""]
        self.seen: set[Any] = set()
        self.fresh: list[bytes] = []
        self.findings: dict[str, Finding] = {}

    def begin_with(self, data: bytes) -> None:
        """Try an input of the corpus: what it reaches is not new."""
        if (failure := attempt(self._target, data, self._trace)) is not None:
            self._note(data, failure)
            return
        self.pool.append(data)
        self.seen |= self._trace.pairs

    def go_on(self, data: bytes) -> None:
        """Try an input; take up what it takes to reach what it reached, if that is new."""
        if (failure := attempt(self._target, data, self._trace)) is not None:
            self._note(data, failure)
            return
        if not (new := self._trace.pairs - self.seen):
            return

        def reaches_it(less: bytes) -> bool:
            return attempt(self._target, less, self._trace) is None and new <= self._trace.pairs

        data = shrunk(data, reaches_it)
        self.seen |= new
        self.pool.append(data)
        self.fresh.append(data)

    def _note(self, data: bytes, failure: Exception) -> None:
        place = _place(failure)
        if place in self.findings:
            return
        smallest = shrunk(data, lambda less: _place(attempt(self._target, less)) == place)
        again = attempt(self._target, smallest) or failure
        self.findings[place] = Finding(smallest, "".join(traceback.format_exception(again)))


def attempt(target: Target, data: bytes, trace: _Trace | None = None) -> Exception | None:
    """Try one input within the limits; return what it raised."""
    if trace is not None:
        trace.begin()
    try:
        with _limited():
            sys.settrace(trace)
            target.judge(data)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is what is looked for
        return error
    finally:
        sys.settrace(None)
    return None


def limit_memory() -> None:
    """Let this process have no more than that much memory on top of what it has."""
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + MEMORY_BYTES, resource.RLIM_INFINITY))


@contextmanager
def _limited() -> Iterator[None]:
    def give_up(number: int, frame: FrameType | None) -> None:
        raise TooSlowError(f"not done within {SLOW_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, SLOW_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Trace:
    """Notes which lines of the package run after which."""

    def __init__(self) -> None:
        self.pairs: set[Any] = set()
        self._last: tuple[str, int] | None = None

    def begin(self) -> None:
        self.pairs = set()
        self._last = None

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        return self._note if frame.f_code.co_filename.startswith(_OURS) else None

    def _note(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            here = (frame.f_code.co_filename, frame.f_lineno)
            self.pairs.add((self._last, here))
            self._last = here
        return self._note


def _lines(module: ModuleType) -> Iterator[tuple[str, int]]:
    """Yield the lines of all functions of a module; what runs at its import does not count."""
    source = Path(str(module.__file__))
    waiting = [compile(source.read_bytes(), str(source), "exec")]
    while waiting:
        code = waiting.pop()
        waiting += [const for const in code.co_consts if isinstance(const, CodeType)]
        if code.co_flags & 0x1:  # CO_OPTIMIZED: a function
            first = code.co_firstlineno  # of the def, which runs at import
            yield from {(str(source), n) for *_, n in code.co_lines() if n and n > first}


def _place(error: Exception | None) -> str:
    """Tell failures apart by where they come from."""
    if error is None:
        return ""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {last.filename}:{last.lineno}"
