"""What SECURITY.md names is there."""

from __future__ import annotations

import re
from pathlib import Path

from .test_units import UNITS, settings

ROOT = Path(__file__).parent.parent


def test_every_proof_that_the_threat_model_names_is_there() -> None:
    """A test by its file or its name, a line of the unit, a target of make."""
    named = re.findall("`([^`]+)`", (ROOT / "SECURITY.md").read_text())
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    makefile = (ROOT / "Makefile").read_text()

    for name in named:
        if name.startswith("test_") and "." not in name:
            assert f"def {name}(" in sources, name
        elif name.endswith((".py", "/")) and name != "tests/":
            assert (ROOT / "tests" / name).exists(), name
        elif name.startswith("make "):
            assert f"\n{name.removeprefix('make ')}:" in makefile, name
        elif re.fullmatch(r"[A-Z]\w+=.*", name):
            assert all(name in settings(unit) for unit in UNITS), name
    assert len(named) > 30
