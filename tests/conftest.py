"""What holds for every test, and the daemon's house, which tests of several folders share.

Examples are not timed, and CI draws the same ones every time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import settings

from pricecheck import logs

from .daemons import House, Service

settings.register_profile("pricecheck", deadline=None, derandomize="CI" in os.environ)
settings.register_profile("mutants", deadline=None, derandomize=True, max_examples=15)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "pricecheck"))


@pytest.fixture(autouse=True)
def _no_secrets_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's secrets are hidden in that test only."""
    monkeypatch.setattr(logs, "_secrets", {})


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """What a test sets up, or a daemon within it at a reload, ends with it."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    loggers = [root, *map(logging.getLogger, ("httpx", "httpcore", "urllib3"))]
    levels = [logger.level for logger in loggers]
    yield
    root.handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the machine's comes between."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def service(nursery: trio.Nursery, tmp_path: Path) -> Service:
    """A simulator that a test can start, and replace by another one."""
    return Service(nursery, tmp_path / "ledger")


@pytest.fixture
def house(tmp_path: Path, service: Service) -> House:
    """A directory for daemons that ask the service."""
    return House(tmp_path, service)
