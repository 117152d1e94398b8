"""What holds for every test: examples are not timed, and CI draws the same ones every time."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("pricecheck", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("pricecheck")
