"""What keeps a task from its work: for status while it lasts, and its begin and end for the log.

A warning is for people. Weather at Keepa, which passes by itself, becomes one when it lasts.
"""

from __future__ import annotations

import logging
from typing import Final

from pricecheck.errors import PricecheckError
from pricecheck.keepa.errors import KeepaError
from pricecheck.logs import kv, redacted

log = logging.getLogger(__name__)

_MINUTE_MS: Final = 60_000
_SHORT_MS: Final = 5 * _MINUTE_MS
_LONG_MS: Final = 60 * _MINUTE_MS


class Trouble:
    """The failures of one task in a row, and how long to wait after each.

    The first wait is what the error asks for, and the next ones double it, up to 5 minutes. An
    error that asks for an hour or more (a wrong key, an account unpaid) may be a slip of
    Keepa's: there the waits begin with a minute and grow up to an hour.
    """

    def __init__(self, task: str) -> None:
        self.task = task
        self.reason: str | None = None  # of the last failure; None when there is no trouble
        self._failures = 0
        self._waited_ms = 0
        self._warned = False  # of this reason

    def begin(self, error: PricecheckError, *, paid_most_ms: int = _SHORT_MS) -> int:
        """Note a failure; return how many milliseconds to wait before the next try.

        After a call that was paid for all the same the waits grow up to `paid_most_ms`.
        """
        own_ms = error.retry_after_ms if isinstance(error, KeepaError) else None
        asked_ms = own_ms or _MINUTE_MS
        first_ms = asked_ms if asked_ms <= _SHORT_MS else _MINUTE_MS
        most_ms = min(max(asked_ms, _SHORT_MS), _LONG_MS)
        if isinstance(error, KeepaError) and error.was_charged:
            most_ms = max(most_ms, paid_most_ms)
        pause_ms = min(first_ms << min(self._failures, 16), most_ms)
        self._failures += 1
        self._waited_ms += pause_ms
        passes = own_ms is not None and own_ms <= _SHORT_MS and self._waited_ms < _SHORT_MS
        reason = redacted(str(error))
        if reason != self.reason or not (passes or self._warned):
            self.reason = reason
            self._warned = not passes
            log.log(
                logging.INFO if passes else logging.WARNING,
                "collecting fails",
                extra=kv(
                    task=self.task,
                    reason=error.message,
                    remedy=error.remedy or None,
                    again_s=pause_ms // 1000,
                ),
            )
        return pause_ms

    def end(self) -> None:
        """Note a success."""
        if self.reason is not None:
            log.info("collecting works again", extra=kv(task=self.task, failures=self._failures))
        self.reason = None
        self._failures = self._waited_ms = 0
        self._warned = False
