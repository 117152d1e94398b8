"""What each fault of the schedule does to the stage, and how it is undone."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable

import trio

from scripts.soaking.schedule import CLOCK, CUT, DISK, GARBAGE, KILL, Fault
from scripts.soaking.stage import KEY, Stage

FULL = "database or disk is full"
"""What the daemon says when it finds the disk so."""

_FELT_WITHIN_S = 15.0

Break = Callable[[Stage, Fault], Awaitable[None]]


async def play(stage: Stage, lane: list[Fault], begin: float, end: float) -> None:
    """Let the faults of one lane happen, each when it is its time and the one before is over.

    Servers take long to come back on a busy machine; what is not its turn by the end is left out.
    """
    for fault in lane:
        await trio.sleep_until(begin + fault.at_s)
        if (fault.name == DISK and not stage.has_disk) or (
            fault.name == CUT and stage.namespace is None
        ):
            stage.note("needs root", fault=fault.name)
        elif trio.current_time() > end:
            stage.note("too late", fault=fault.name)
        else:
            stage.note("fault", fault=fault.name)
            await FAULTS[fault.name](stage, fault)


async def _kill_daemon(stage: Stage, fault: Fault) -> None:
    stage.kill_daemon()
    await trio.sleep(fault.lasts_s)
    await stage.start_daemon()


async def _freeze_daemon(stage: Stage, fault: Fault) -> None:
    begin_ms = stage.now_ms()
    stage.signal_daemon(signal.SIGSTOP)
    await trio.sleep(fault.lasts_s)
    stage.signal_daemon(signal.SIGCONT)
    stage.stand_still(fault.name, begin_ms)


async def _step_clock(stage: Stage, fault: Fault) -> None:
    stage.step_clock(float(fault.detail.split()[0]))
    await trio.sleep(fault.lasts_s)
    stage.step_clock(0)


async def _fill_disk(stage: Stage, fault: Fault) -> None:
    begin_ms, said = stage.now_ms(), stage.said(FULL)
    stage.fill_disk()
    await trio.sleep(fault.lasts_s)
    # There is room in SQLite's journal for some more: a disk that nobody found full is no fault.
    with trio.move_on_after(_FELT_WITHIN_S):
        while stage.said(FULL) == said:  # noqa: ASYNC110  # another process says so
            await trio.sleep(0.1)
    stage.free_disk()
    stage.stand_still(fault.name, begin_ms)


async def _reload(stage: Stage, fault: Fault) -> None:
    stage.configure(every="5h")
    await stage.reload(" reloaded ")
    await trio.sleep(fault.lasts_s)
    stage.configure()
    await stage.reload(" reloaded ")


async def _reload_badly(stage: Stage, fault: Fault) -> None:
    stage.configure(every="five parsecs")
    await stage.reload(" reload refused")
    await trio.sleep(fault.lasts_s)
    stage.configure()
    await stage.reload(" reloaded ")


async def _garble(stage: Stage, fault: Fault) -> None:
    options = [word for one in fault.detail.split() for word in ("--fault", one)]
    stage.kill_keepa(fault.name)
    await stage.start_keepa(*options)
    await trio.sleep(fault.lasts_s)
    stage.kill_keepa(fault.name)
    await stage.start_keepa()


async def _kill_keepa(stage: Stage, fault: Fault) -> None:
    stage.kill_keepa(fault.name)
    await trio.sleep(fault.lasts_s)
    await stage.start_keepa()


async def _revoke_key(stage: Stage, fault: Fault) -> None:
    stage.kill_keepa(fault.name)
    await stage.start_keepa(key=f"not-{KEY}")
    await trio.sleep(fault.lasts_s)
    stage.kill_keepa(fault.name)
    await stage.start_keepa()


async def _cut_network(stage: Stage, fault: Fault) -> None:
    assert stage.namespace is not None  # or it would have been skipped
    await _interrupt(stage, fault, stage.namespace.cut, stage.namespace.heal)


async def _refuse_keepa(stage: Stage, fault: Fault) -> None:
    begin_ms = stage.now_ms()
    stage.wire.cut()
    await trio.sleep(fault.lasts_s)
    stage.interrupt(fault.name, begin_ms)
    await stage.wire.join()


async def _hang_keepa(stage: Stage, fault: Fault) -> None:
    await _interrupt(stage, fault, stage.wire.hang, stage.wire.flow)


async def _interrupt(
    stage: Stage, fault: Fault, begin: Callable[[], None], end: Callable[[], None]
) -> None:
    begin_ms = stage.now_ms()
    begin()
    await trio.sleep(fault.lasts_s)
    end()
    stage.interrupt(fault.name, begin_ms)


async def _kill_server(stage: Stage, fault: Fault) -> None:
    name = fault.name.split()[0]
    os.kill(stage.server_pid(name), signal.SIGKILL)
    await trio.sleep(fault.lasts_s)
    await stage.servers("start", name)


async def _freeze_server(stage: Stage, fault: Fault) -> None:
    pid = stage.server_pid(fault.name.split()[0])
    os.kill(pid, signal.SIGSTOP)
    await trio.sleep(fault.lasts_s)
    os.kill(pid, signal.SIGCONT)


async def _refuse_alerts(stage: Stage, fault: Fault) -> None:
    stage.bell.refusing = True
    await trio.sleep(fault.lasts_s)
    stage.bell.refusing = False


FAULTS: dict[str, Break] = {
    KILL: _kill_daemon,
    "daemon frozen": _freeze_daemon,
    CLOCK: _step_clock,
    DISK: _fill_disk,
    "config reloaded": _reload,
    "bad config reloaded": _reload_badly,
    GARBAGE: _garble,
    "Keepa killed": _kill_keepa,
    "key revoked": _revoke_key,
    CUT: _cut_network,
    "Keepa refused": _refuse_keepa,
    "Keepa hung": _hang_keepa,
    "elasticsearch killed": _kill_server,
    "elasticsearch frozen": _freeze_server,
    "kafka killed": _kill_server,
    "kafka frozen": _freeze_server,
    "notifier refusing": _refuse_alerts,
}
"""How each is done, by its name in the schedule."""
