"""`python -m pricecheck`: the command, without an installed script."""

from __future__ import annotations

from pricecheck.cli import main

if __name__ == "__main__":
    main()
