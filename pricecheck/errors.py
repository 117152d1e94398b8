"""The errors that are an operator's to mend, apart from those that are bugs of ours.

A `PricecheckError` reaches the operator as a sentence and a remedy, without a traceback.
Everything else that escapes is ours, and keeps its traceback.
"""

from __future__ import annotations

import os
from typing import Final

_QUOTED: Final = 80


def brief(text: str) -> str:
    """Return as much of what a stranger wrote as is worth being quoted in an error."""
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."


class PricecheckError(Exception):
    """Something the operator can mend: what is wrong, and what to do about it.

    `exit_code` follows sysexits.h; systemd is told not to restart on 78 (EX_CONFIG).
    """

    exit_code: int = os.EX_SOFTWARE

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class ConfigError(PricecheckError):
    """A config, credential or watchlist that the program will not start with."""

    exit_code = os.EX_CONFIG


class InputError(PricecheckError):
    """A command line or input file that can't be read as meant."""

    exit_code = os.EX_DATAERR


class StoreError(PricecheckError):
    """The state directory can't be used: unreadable, full, or of a newer program."""

    exit_code = os.EX_CANTCREAT


class NoStoreError(StoreError):
    """There is no outbox yet, and so nothing in it."""


class NewerStoreError(StoreError):
    """The outbox was written by a newer pricecheck; going back needs its backup."""

    exit_code = os.EX_CONFIG


class AlreadyRunningError(PricecheckError):
    """Another instance holds the lock of this state directory."""

    exit_code = os.EX_TEMPFAIL


class NotRunningError(PricecheckError):
    """No daemon answers on the status socket."""

    exit_code = 3  # systemctl's code for 'not running'
