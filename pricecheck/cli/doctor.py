"""`pricecheck doctor`: whether everything is as it should be, and nobody else is at work."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from pricecheck.cli._options import find_config, json_option

if TYPE_CHECKING:
    from pricecheck.doctor import Finding

_MARKS: Final = {"ok": ("ok", "green"), "warning": ("warn", "yellow"), "failure": ("FAIL", "red")}
_CODES: Final = {"ok": 0, "warning": 1, "failure": 2}


@click.command()
@click.option("--config", "file", metavar="FILE", help="Read this file instead of the usual ones.")
@json_option
def command(file: str | None, as_json: bool) -> None:
    """Check config, key, budget, sinks, unit, clock and disk, and look for older deployments.

    Costs no tokens and changes nothing. As root it sees more.

    \b
    Exit codes:
      0  all is well
      1  something needs a look
      2  something is broken
    """
    import msgspec
    import trio

    from pricecheck import logs
    from pricecheck.doctor import examine

    logs.setup("CRITICAL")  # the findings say it
    findings = trio.run(examine, find_config(file))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(findings), indent=2).decode())
    else:
        for finding in findings:
            click.echo(_line(finding))
    sys.exit(max(_CODES[finding.level] for finding in findings))


def _line(finding: Finding) -> str:
    mark, colour = _MARKS[finding.level]
    remedy = f"\n{'':<20}-> {finding.remedy}" if finding.remedy else ""
    return f"{click.style(f'{mark:<5}', fg=colour)} {finding.check:<13} {finding.said}{remedy}"
