"""What the daemon says of itself: the snapshot for status, a line for systemd, a line an hour."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import trio

from pricecheck import __version__
from pricecheck.errors import StoreError
from pricecheck.keepa.time import to_rfc3339
from pricecheck.snapshot import (
    SHAPE_VERSION,
    Reloads,
    Snapshot,
    StoreState,
    TaskStatus,
    TokenState,
    Totals,
)

if TYPE_CHECKING:
    from pricecheck.collect.tasks import Collectors
    from pricecheck.collect.trouble import Trouble
    from pricecheck.deliver.state import RelayStatus
    from pricecheck.outbox import Outbox

_FOREIGN_SHARE: Final = 0.1
"""Foreign use is a warning above this share of an hour's refill; a check by hand is not."""


async def take_snapshot(
    collectors: Collectors,
    outbox: Outbox,
    totals: Totals,
    tasks: list[TaskStatus],
    relays: list[RelayStatus],
    *,
    uptime_s: float,
    reloads: Reloads,
) -> Snapshot:
    """Gather the state of the daemon; the outbox is asked in a thread."""
    settings = collectors.settings
    time = settings.config.time
    tokens = collectors.bucket.state()
    store = await trio.to_thread.run_sync(_store_state, outbox, collectors.spender.store_trouble)
    watchlist = collectors.prices.state(bad_lines=collectors.watchlist.bad_count)
    reasons = [f"{task.name} is {_ailment(task)}" for task in tasks if _ails(task)]
    reasons += _told_once(collectors.troubles)
    reasons += [f"nothing can be stored: {store.trouble}"] if store.trouble else []
    reasons += [f"reload refused: {reloads.refused}"] if reloads.refused else []
    reasons += [
        f"{relay.name}: {relay.backlog:,} records wait: {relay.trouble}"
        for relay in relays
        if relay.trouble
    ]
    if store.moved_aside:
        reasons.append(f"the outbox was corrupt and is now {store.moved_aside}")
    if tokens.foreign_per_hour > _FOREIGN_SHARE * 60 * (tokens.refill_rate or 0):
        reasons.append(f"somebody else spent {tokens.foreign_per_hour} tokens in the last hour")
    derived = sorted(rule.name for rule in collectors.derived.rules)
    notes = [f"{name}: not in the plan, derived from product checks" for name in derived]
    notes += [f"{relay.name}: {note}" for relay in relays for note in relay.notes]
    if watchlist.missing_a_day:
        notes.append(
            f"{watchlist.missing_a_day:,.0f} tokens a day are missing to check each product within "
            "its `every`: the heaviest come first; see `pricecheck plan`"
        )
    notes += [
        f"prices on {domain} change {factor:.0f} times as often as usual: more checks go there"
        for domain, factor in sorted(watchlist.rushes.items())
    ]
    if watchlist.bad_lines:
        notes.append(f"{watchlist.bad_lines} watchlist lines skipped")
    return Snapshot(
        shape=SHAPE_VERSION,
        version=__version__,
        pid=os.getpid(),
        health="degraded" if reasons else "ok",
        reasons=reasons,
        simulated=settings.config.simulated,
        now=to_rfc3339(time.now_ms()),
        uptime_s=round(uptime_s, 1),
        config=str(settings.path) if settings.path else None,
        notes=notes,
        tokens=tokens,
        watchlist=watchlist,
        tasks=tasks,
        relays=relays,
        totals=totals,
        store=store,
        reloads=reloads,
    )


def status_line(
    tokens: TokenState | None, tasks: list[TaskStatus], products: int, *, simulated: bool
) -> str:
    """Return the state in one line, as `systemctl status` shows it."""
    ailing = [f"{task.name} {task.state}" for task in tasks if _ails(task)]
    held = "tokens unknown"
    if tokens is not None and tokens.tokens is not None:
        held = f"{tokens.tokens:,} of {tokens.capacity:,} tokens"
    health = ", ".join(ailing) or f"{len(tasks)} tasks run"
    line = f"{health}; {products:,} products; {held}"
    return f"SIMULATED: {line}" if simulated else line


def hour(before: Totals, now: Totals, state: Snapshot) -> dict[str, object]:
    """Return the fields of the hourly log line: what happened since the last one."""
    spent = {name: getattr(now, name) - getattr(before, name) for name in Totals.__struct_fields__}
    return {
        **spent,
        "tokens_left": state.tokens.tokens,
        "foreign_tokens": state.tokens.foreign_per_hour,
        "due": state.watchlist.due,
        "health": state.health,
    }


def _ails(task: TaskStatus) -> bool:
    return task.state in ("backing off", "stuck")


def _ailment(task: TaskStatus) -> str:
    # A task that is stuck since its first stall has not ended yet, so nobody knows why.
    return f"{task.state}: {task.last_error}" if task.last_error else task.state


def _told_once(troubles: list[Trouble]) -> list[str]:
    """Say each reason once, with the tasks that it keeps from their work."""
    tasks: dict[str, list[str]] = {}
    for trouble in troubles:
        if trouble.reason is not None:
            tasks.setdefault(trouble.reason, []).append(trouble.task)
    return [f"{', '.join(names)}: {reason}" for reason, names in tasks.items()]


def _store_state(outbox: Outbox, trouble: str | None) -> StoreState:
    """Read what the outbox holds; one that can't be read is trouble, and has nothing to tell."""
    records: dict[str, int] = {}
    letters: dict[str, int] = {}
    try:
        records, letters = outbox.counts(), outbox.dead_letter_counts()
    except StoreError as error:
        trouble = trouble or str(error)
    return StoreState(
        path=str(outbox.path),
        bytes=outbox.size_bytes(),
        records=records,
        dead_letters=letters,
        trouble=trouble,
        moved_aside=str(outbox.moved_aside) if outbox.moved_aside else None,
    )
