"""The lock of a state directory, between real processes."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pricecheck.errors import AlreadyRunningError, StoreError
from pricecheck.instance import only_instance

HOLD = """
import sys
from pathlib import Path
from pricecheck.instance import only_instance

with only_instance(Path(sys.argv[1])):
    {meanwhile}
    print("held", flush=True)
    sys.stdin.read()
"""

Hold = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Start a process that holds a directory's lock until its standard input ends."""
    processes = []

    def start(directory: Path, meanwhile: str = "pass") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD.format(meanwhile=meanwhile), directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        while (line := process.stdout.readline().strip()) != "held":
            assert line, "the process ended before it held the lock"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_second_process_is_refused_with_the_pid_of_the_first(hold: Hold, tmp_path: Path) -> None:
    """The message says who runs, where, and what to do."""
    first = hold(tmp_path)

    with pytest.raises(AlreadyRunningError) as caught, only_instance(tmp_path):
        pytest.fail("the lock was given twice")

    assert caught.value.message.endswith(f"{tmp_path}: pid {first.pid}")
    assert "state_directory" in caught.value.remedy
    assert caught.value.exit_code == os.EX_TEMPFAIL


def test_the_refused_one_leaves_the_lock_alone(hold: Hold, tmp_path: Path) -> None:
    """However often it is tried, the first one's pid stays the one that is told."""
    first = hold(tmp_path)

    for _ in range(2):
        with (
            pytest.raises(AlreadyRunningError, match=f"pid {first.pid} "),
            only_instance(tmp_path),
        ):
            pytest.fail("the lock was given twice")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None])
def test_the_lock_ends_with_its_process(
    hold: Hold, tmp_path: Path, end: signal.Signals | None
) -> None:
    """Killed, ended by a signal, or at its own end: nothing has to be tidied up."""
    first = hold(tmp_path)
    if end is not None:
        first.send_signal(end)
    first.communicate()

    second = hold(tmp_path)

    with pytest.raises(AlreadyRunningError, match=f"pid {second.pid} "), only_instance(tmp_path):
        pytest.fail("the lock was given twice")


def test_programs_that_the_holder_started_do_not_keep_the_lock(hold: Hold, tmp_path: Path) -> None:
    """One that outlives a killed holder does not hold the lock on."""
    spawn = "print(__import__('os').posix_spawn('/bin/sleep', ['sleep', '60'], {}))"
    process = hold(tmp_path, f"{spawn}; print('started')")
    (started,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    try:
        process.kill()
        process.wait()

        with only_instance(tmp_path):
            assert Path(f"/proc/{started}").exists()
    finally:
        os.kill(int(started), signal.SIGKILL)


def test_one_process_has_it_once_too(tmp_path: Path) -> None:
    """Held, it is refused to the same process as to any other."""
    with (
        only_instance(tmp_path),
        pytest.raises(AlreadyRunningError, match=f"pid {os.getpid()} "),
        only_instance(tmp_path),
    ):
        pytest.fail("the lock was given twice")


def test_an_older_pid_leaves_nothing_behind(tmp_path: Path) -> None:
    """However long it was, only the holder's own is in the file."""
    (tmp_path / "lock").write_text("4194303000\n")

    with only_instance(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_an_error_gives_the_lock_back(tmp_path: Path) -> None:
    """What escapes from within frees it."""
    with pytest.raises(ZeroDivisionError), only_instance(tmp_path):
        raise ZeroDivisionError

    with only_instance(tmp_path):
        pass


def test_directories_do_not_shut_each_other_out(hold: Hold, tmp_path: Path) -> None:
    """Each state directory has a lock of its own."""
    hold(tmp_path / "one")

    with only_instance(tmp_path / "two"):
        assert (tmp_path / "two" / "lock").exists()


def test_the_directory_is_made_for_few_to_see(tmp_path: Path) -> None:
    """With all above it, and closed to others."""
    directory = tmp_path / "var" / "lib" / "pricecheck"

    with only_instance(directory):
        assert stat.S_IMODE(directory.stat().st_mode) & 0o027 == 0


@pytest.mark.parametrize(
    ("place", "reason"),
    [("file", "File exists"), ("file/below", "Not a directory"), ("taken", "Is a directory")],
)
def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path, place: str, reason: str) -> None:
    """The path that is in the way, and why."""
    (tmp_path / "file").touch()
    (tmp_path / "taken" / "lock").mkdir(parents=True)

    with pytest.raises(StoreError) as caught, only_instance(tmp_path / place):
        pytest.fail("it can't be used")

    assert caught.value.message.startswith(str(tmp_path / place))
    assert reason in caught.value.message
    assert "lock: File exists" not in caught.value.message
    assert "state directory" in caught.value.remedy


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """Not a byte can be written: the operator's to mend, without a traceback."""
    script = HOLD.format(meanwhile="pass").replace(
        "with only", "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\nwith only"
    )

    ended = subprocess.run(
        [sys.executable, "-c", script, tmp_path],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    last = ended.stderr.strip().splitlines()[-1]
    assert re.match(rf"pricecheck\.errors\.StoreError: {tmp_path}/lock: File too large", last)
