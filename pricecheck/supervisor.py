"""Keeps tasks running: restarts what crashes, returns or falls silent, and never gives up.

Every task has its own cancel scope and its own backoff, so that one broken task never disturbs
another. What a task does is none of the supervisor's business; whether it makes progress is.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final, TypeAlias

import msgspec
import trio

from pricecheck.errors import PricecheckError
from pricecheck.logs import kv, redacted
from pricecheck.snapshot import TaskState, TaskStatus

log = logging.getLogger(__name__)

STUCK_AFTER_S: Final = 30.0
"""How long a cancelled task may take to end before it counts as stuck."""


class RestartPolicy(msgspec.Struct, frozen=True):
    """How long to wait before a task is started again, in seconds.

    The longest wait begins at `first_s` and doubles with every end of the task up to `most_s`;
    the wait itself is drawn evenly from the upper half of it (jitter), so the first one lasts
    `first_s / 2` to `first_s`. A run of at least `quiet_s` sets it back to `first_s`.
    """

    first_s: float = 1
    most_s: float = 300
    quiet_s: float = 600


class Heartbeat:
    """How a task shows that it makes progress; a run that stays silent too long is cancelled.

    Too long means: `stall_after` seconds after its start, its last beat or the end of the wait
    it declared, whichever came last. `last_beat` is a trio time; `why` is empty unless a wait
    is declared. Where several workers share a run, each has a `part`.
    """

    def __init__(self, stall_after: float, on_change: Callable[[], None] = lambda: None) -> None:
        self._stall_after = stall_after
        self._on_change = on_change
        self.last_beat: float | None = None
        self._begin()

    def beat(self) -> None:
        """Say that something is really finished; this also ends a declared wait."""
        self.last_beat = trio.current_time()
        self._allow_silence(self.last_beat + self._stall_after, "")

    def expect(self, until: float, why: str) -> None:
        """Declare a wait until a trio time, with its reason for people.

        It replaces the wait declared before, if any, be that longer or shorter.
        """
        self._allow_silence(until + self._stall_after, why)

    def part(self) -> Heartbeat:
        """Return a worker's own heartbeat, so that no other worker's hides its silence.

        From then on the run is silent for too long when one of them is, and waits while all do.
        """
        part = _Part(self, self._stall_after)
        self._parts.append(part)
        return part

    def _begin(self) -> None:
        """Forget the last run; the next may be silent for `stall_after` from now."""
        self.why = ""
        self._parts: list[Heartbeat] = []
        self._patience = trio.CancelScope(deadline=trio.current_time() + self._stall_after)

    def _allow_silence(self, until: float, why: str) -> None:
        self._patience.deadline = until
        if why != self.why:
            self.why = why
            self._on_change()

    def _gather(self) -> None:
        """Take over what the workers say together."""
        first = min(self._parts, key=lambda part: part._patience.deadline)
        waiting = all(part.why for part in self._parts)
        self._allow_silence(first._patience.deadline, first.why if waiting else "")

    async def _wait_until_silent(self) -> None:
        """Return once the run has been silent for too long."""
        # A cancel scope as alarm clock: its deadline can move either way while we sleep.
        with self._patience:
            await trio.sleep_forever()


class _Part(Heartbeat):
    """The heartbeat of one worker of a run."""

    def __init__(self, whole: Heartbeat, stall_after: float) -> None:
        super().__init__(stall_after)
        self._whole = whole

    def beat(self) -> None:
        self._whole.last_beat = trio.current_time()
        super().beat()

    def _allow_silence(self, until: float, why: str) -> None:
        super()._allow_silence(until, why)
        self._whole._gather()


Run: TypeAlias = Callable[[Heartbeat], Awaitable[None]]
"""What a task does; it runs until it is cancelled."""


class Supervisor:
    """Runs tasks in a nursery and starts them again whenever and however they end.

    Only what isn't an `Exception` gets past it: cancellation, KeyboardInterrupt, SystemExit.
    Cancelling the nursery ends every task. `on_change`, which mustn't raise, is called
    after each change of a task's state.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        on_change: Callable[[], None] = lambda: None,
        random: Random | None = None,
    ) -> None:
        self._nursery = nursery
        self._on_change = on_change
        self._random = random or Random()
        self._tasks: list[_Task] = []

    def start(
        self,
        name: str,
        run: Run,
        policy: RestartPolicy | None = None,
        *,
        stall_after: float,
    ) -> None:
        """Run a task from now on; it is stalled after that many seconds of undeclared silence."""
        heartbeat = Heartbeat(stall_after, self._on_change)
        task = _Task(name, run, policy or RestartPolicy(), heartbeat, self._on_change, self._random)
        self._tasks.append(task)
        self._nursery.start_soon(task.keep_running, name=name)

    def statuses(self) -> tuple[TaskStatus, ...]:
        """Return what each task is doing, in the order in which they were started."""
        return tuple(task.status() for task in self._tasks)

    def alive(self) -> bool:
        """Tell whether every task can still be restarted, that is: none is stuck."""
        return all(task.state != "stuck" for task in self._tasks)

    async def wait_started(self) -> None:
        """Wait until each task started so far has been entered once."""
        for task in tuple(self._tasks):
            await task.entered.wait()


class _Task:
    """One supervised task: its run of the moment and what became of those before."""

    def __init__(
        self,
        name: str,
        run: Run,
        policy: RestartPolicy,
        heartbeat: Heartbeat,
        on_change: Callable[[], None],
        random: Random,
    ) -> None:
        self.entered = trio.Event()
        self.state: TaskState = "running"
        self._name = name
        self._run = run
        self._policy = policy
        self._heartbeat = heartbeat
        self._on_change = on_change
        self._random = random
        self._longest_wait = policy.first_s
        self._restarts = 0
        self._stalls = 0
        self._last_error: str | None = None
        self._since = trio.current_time()
        self._next_start = self._since

    async def keep_running(self) -> None:
        """Run the task again and again until cancelled."""
        while True:
            await self._run_once()
            await trio.sleep_until(self._next_start)

    async def _run_once(self) -> None:
        """Run until it ends or its stall cancels it; an ordinary error goes no further."""
        self._since = trio.current_time()
        self.state = "running"
        self._heartbeat._begin()
        self._on_change()
        self.entered.set()
        async with trio.open_nursery() as nursery:
            work = trio.CancelScope()
            nursery.start_soon(self._cancel_when_silent, work)
            # The scope swallows our own cancel and no other; except* takes the errors out of a
            # group and lets a cancellation beside them pass. The end is noted in here because
            # a cancellation from outside may show up at the nursery's end.
            try:
                with work:
                    await self._run(self._heartbeat)
            except* Exception as errors:  # noqa: BLE001  # the supervisor's border: logged, counted
                self._note_end(_unwrap(errors), stalled=work.cancel_called)
            else:
                self._note_end(None, stalled=work.cancel_called)
            nursery.cancel_scope.cancel()

    async def _cancel_when_silent(self, work: trio.CancelScope) -> None:
        """Cancel a run that has stalled, and say so if even that doesn't end it."""
        await self._heartbeat._wait_until_silent()
        work.cancel()
        await trio.sleep(STUCK_AFTER_S)
        self.state = "stuck"
        log.error(
            "task stuck",
            extra=kv(task=self._name, error=f"still running {STUCK_AFTER_S:g} s after its cancel"),
        )
        self._on_change()

    def _note_end(self, error: Exception | None, *, stalled: bool) -> None:
        now = trio.current_time()
        delay = self._next_delay(now - self._since)
        self._since = now
        self._next_start = now + delay
        self._restarts += 1
        self._stalls += stalled
        self.state = "backing off"
        about = {"task": self._name, "restarts": self._restarts, "restart_in_s": round(delay, 1)}
        if stalled:
            why = self._heartbeat.why
            self._last_error = "stalled" + (f" while {why}" if why else "")
            log.error("task stalled", extra=kv(**about, wait=why or None), exc_info=error)
        elif isinstance(error, PricecheckError):
            self._last_error = redacted(str(error))
            fields = kv(**about, error=error.message, remedy=error.remedy or None)
            log.warning("task failed", extra=fields)
        elif error is not None:
            self._last_error = redacted(f"{type(error).__name__}: {error}")
            log.error("task crashed", extra=kv(**about), exc_info=error)
        else:
            self._last_error = "returned early"
            log.error("task returned early", extra=kv(**about))
        self._on_change()

    def _next_delay(self, ran_for: float) -> float:
        if ran_for >= self._policy.quiet_s:
            self._longest_wait = self._policy.first_s
        longest = self._longest_wait
        self._longest_wait = min(2 * longest, self._policy.most_s)
        return self._random.uniform(longest / 2, longest)

    def status(self) -> TaskStatus:
        """Return what the task is doing, with its times relative to now."""
        now = trio.current_time()
        last_beat = self._heartbeat.last_beat
        backing_off = self.state == "backing off"
        why = "" if backing_off else self._heartbeat.why
        return TaskStatus(
            name=self._name,
            state="waiting" if why and self.state == "running" else self.state,
            why=why,
            restarts=self._restarts,
            stalls=self._stalls,
            last_error=self._last_error,
            since=now - self._since,
            last_beat=None if last_beat is None else now - last_beat,
            next_start=max(0.0, self._next_start - now) if backing_off else None,
        )


def _unwrap(error: Exception) -> Exception:
    """Take a lone error out of the groups around it (nurseries and except* wrap it in one)."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
