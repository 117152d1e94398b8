"""The command explains itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pricecheck import __version__
from tests.cli.conftest import Run

COMMANDS = (
    "init",
    "run",
    "status",
    "check",
    "watch",
    "discover",
    "plan",
    "history",
    "compare",
    "deals",
    "bestsellers",
    "report",
    "notify",
    "outbox",
    "kibana",
    "config",
    "doctor",
    "simulate",
)


async def test_help_lists_every_command(run: Run) -> None:
    """Whoever types the name alone learns what there is."""
    done = await run("--help")

    assert done.returncode == 0
    listed = done.stdout.partition("Commands:\n")[2].splitlines()
    assert tuple(line.split()[0] for line in listed) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
async def test_every_command_says_what_it_does(run: Run, name: str) -> None:
    """Each has a help text of its own."""
    done = await run(name, "--help")

    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: pricecheck {name}")
    assert len(done.stdout.splitlines()) > 5


def test_a_full_disk_behind_the_output_is_an_error_of_one_line() -> None:
    """As it is of a file that the output is led into."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pricecheck", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert done.returncode == os.EX_IOERR
    assert done.stderr == "Error: the output can't be written: No space left on device\n"


def test_a_bug_has_an_exit_code_of_its_own() -> None:
    """70, so that it is not taken for the 1 of a degraded daemon; its traceback is printed."""
    broken = "import pricecheck.cli as cli; cli._pricecheck = lambda **_: 1 / 0; cli.main()"

    done = subprocess.run(
        [sys.executable, "-c", broken], capture_output=True, text=True, check=False
    )

    assert done.returncode == os.EX_SOFTWARE
    assert done.stderr.startswith("Traceback")
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("kind", ["ExceptionGroup", "BaseExceptionGroup"])
def test_no_bug_shows_a_secret(kind: str) -> None:
    """Nor does what is more than an Exception, as of a Ctrl-C beside an error."""
    broken = (
        "import pricecheck.cli as cli\n"
        "from pricecheck.logs import redact\n"
        "redact('tr0ub4dor')\n"
        f"def fail(**_): raise {kind}('of tr0ub4dor', [{kind[:-5]}()])\n"
        "cli._pricecheck = fail\n"
        "cli.main()\n"
    )

    # Read from standard input, so that no traceback can quote these lines.
    done = subprocess.run(
        [sys.executable], input=broken, capture_output=True, text=True, check=False
    )

    assert done.returncode != 0
    assert f"{kind}: of ***" in done.stderr
    assert "tr0ub4dor" not in done.stderr


async def test_version(run: Run) -> None:
    """The version is that of the package."""
    done = await run("--version")

    assert done.stdout == f"pricecheck, version {__version__}\n"


async def test_an_unknown_command_is_a_usage_error(run: Run) -> None:
    """Exit code 2, and the name that was not understood."""
    done = await run("chekc")

    assert done.returncode == 2
    assert "chekc" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_shells_complete_it(run: Run, shell: str) -> None:
    """The script that the help names is there for each shell."""
    done = await run(env={"_PRICECHECK_COMPLETE": f"{shell}_source"})

    assert done.returncode == 0
    assert "pricecheck" in done.stdout


async def test_completion_knows_commands_and_options(run: Run) -> None:
    """A word begun is completed."""
    env = {
        "_PRICECHECK_COMPLETE": "bash_complete",
        "COMP_WORDS": "pricecheck st",
        "COMP_CWORD": "1",
    }
    commands = await run(env=env)
    env |= {"COMP_WORDS": "pricecheck status --w", "COMP_CWORD": "2"}
    options = await run(env=env)

    assert commands.stdout == "plain,status\n"
    assert options.stdout == "plain,--watch\n"


@pytest.mark.parametrize("command", ["status", "--help"])
def test_quick_commands_import_nothing_heavy(command: str) -> None:
    """An operator in a hurry waits for neither trio nor httpx, rich or the clients of sinks."""
    code = (
        "import sys; sys.argv = ['pricecheck', sys.argv[1]]\n"
        "from pricecheck.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'trio', 'httpx', 'rich', 'elasticsearch', 'sqlite3'}\n"
        "print('HEAVY', *(heavy & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, command], capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-1].split() == ["HEAVY"]
