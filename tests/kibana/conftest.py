"""The saved objects as they are exported."""

from __future__ import annotations

import json

import pytest

from pricecheck.config import Names
from pricecheck.kibana.saved_objects import export
from tests.kibana.searches import Json


@pytest.fixture
def objects() -> list[Json]:
    """Every object of the exported file, under the names of a config without [names]."""
    return [json.loads(line) for line in export(Names()).splitlines()]
