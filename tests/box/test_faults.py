"""What goes wrong is noticed by the right party, told in the journal, and mended."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing

import pytest

from pricecheck.outbox.schema import MIGRATIONS
from tests.box.conftest import QUICK, WATCHLIST, Service, wait_for

pytestmark = pytest.mark.timeout(300)

STATE = "/var/lib/private/pricecheck"


WATCHED = QUICK + "WatchdogSec=4s\n"


def fault(name: str) -> str:
    """Return the line of a drop-in for a fault that waits for its trigger."""
    return f"Environment=PRICECHECK_FAULT={name}\n"


def let_loose(service: Service) -> None:
    """Pull the trigger, for this start of the service and not for the next one."""
    service.box.write("/opt/fault", service.show("InvocationID"))


def wait_for_watchdog(service: Service) -> str:
    """Wait until systemd has killed and restarted it; return the journal."""
    service.wait_for_journal("Watchdog timeout")
    wait_for(lambda: service.show("NRestarts") != "0", "a restart")
    service.wait_for_state("active")
    return service.journal()


def test_a_blocked_event_loop_is_killed_and_its_place_is_in_the_journal(service: Service) -> None:
    """Pings stop; before systemd kills, thread and task stacks tell where it hangs."""
    service.start(quick=WATCHED + fault("blocked"))
    tasks = json.loads(service.box.run("pricecheck", "status", "--json").stdout)["tasks"]
    threads = service.box.run("ls", f"/proc/{service.show('MainPID')}/task").stdout.split()

    let_loose(service)
    journal = wait_for_watchdog(service)

    assert "no sign of life" in journal
    assert 'thread stack thread=MainThread stack="box_faults._block_the_loop' in journal
    assert {"faulty", "prices", "status", "housekeeping"} <= {task["name"] for task in tasks}
    told = re.findall(r"^task stack task=(\S+) ", journal, re.MULTILINE)
    assert {task["name"] for task in tasks} <= set(told)
    # By us and by faulthandler; an idle worker thread of trio's may have ended meanwhile.
    assert len(threads) >= journal.count("thread stack thread=") >= 2
    assert "Watchdog timeout (limit 4s)" in journal
    assert "Fatal Python error: Aborted" in journal


@pytest.mark.long
def test_where_no_thread_can_run_faulthandler_still_tells_the_place(service: Service) -> None:
    """Python's lock held for ever: nothing of ours runs, but SIGABRT shows every thread."""
    service.start(quick=WATCHED + fault("locked"))

    let_loose(service)
    journal = wait_for_watchdog(service)

    assert "Fatal Python error: Aborted" in journal
    assert "in _block_every_thread" in journal


def test_a_hung_task_is_restarted_alone(service: Service) -> None:
    """Its supervisor cancels and restarts it; the process, and systemd, have nothing to do."""
    service.start(quick=QUICK + fault("hung"))
    pid = service.show("MainPID")

    let_loose(service)
    service.wait_for_journal("task stalled task=faulty")

    assert service.show("MainPID") == pid
    assert service.show("NRestarts") == "0"


@pytest.mark.long
def test_a_task_that_does_not_end_when_cancelled_costs_the_process(service: Service) -> None:
    """The supervisor says that it is stuck, pings stop, systemd restarts."""
    service.start(quick=WATCHED + fault("uncancellable"))

    let_loose(service)
    journal = wait_for_watchdog(service)

    assert "task stuck task=faulty" in journal
    assert "box_faults._refuse_to_end" in journal


@pytest.mark.long
def test_a_stopped_process_is_killed_and_restarted(service: Service) -> None:
    """SIGSTOP: nothing in it can notice, so systemd does."""
    service.start(quick=WATCHED)

    service.box.run("systemctl", "kill", "--signal=STOP", "pricecheck")
    service.wait_for_journal("Watchdog timeout")

    wait_for(lambda: service.show("NRestarts") != "0", "a restart")
    service.wait_for_state("active")


@pytest.mark.long
def test_a_start_and_a_stop_that_take_longer_than_their_time_are_waited_for(
    service: Service,
) -> None:
    """A large outbox is checked, the last records go to a slow disk: it asks for more time."""
    limits = "TimeoutStartSec=2s\nTimeoutStopSec=2s\n"

    service.start(quick=QUICK + limits + fault("slow-disk"))
    service.systemctl("stop")

    assert service.show("Result") == "success"
    assert "timed out" not in service.journal()


def test_a_store_of_an_older_pricecheck_is_migrated_at_the_start(service: Service) -> None:
    """What an upgrade finds: the first version's file goes on as it is."""
    file = service.box.path(f"{STATE}/outbox.sqlite")
    file.parent.mkdir(parents=True)
    with closing(sqlite3.connect(file)) as db:
        db.executescript(MIGRATIONS[0])
        db.execute("PRAGMA user_version = 1")

    service.start()

    wait_for(lambda: price_count(service) == 1, "a price")
    assert not list(file.parent.glob("*corrupt*"))
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


@pytest.mark.long
def test_killed_again_and_again_it_loses_nothing(service: Service) -> None:
    """After each SIGKILL it is back, with what was stored before."""
    service.start()
    wait_for(lambda: price_count(service) > 0, "a price")

    for restarts in range(1, 4):
        service.box.run("systemctl", "kill", "--signal=KILL", "pricecheck")
        wait_for(lambda n=str(restarts): service.show("NRestarts") == n, "a restart")  # type: ignore[misc]
        service.wait_for_state("active")

    assert price_count(service) == 1


def price_count(service: Service) -> int:
    """Return how many price records there are."""
    query = (
        "import sqlite3;"
        f"print(sqlite3.connect('{STATE}/outbox.sqlite').execute("
        "\"select count(*) from records where kind = 'price'\").fetchone()[0])"
    )
    done = service.box.run("python3", "-c", query, check=False)
    return int(done.stdout or 0)


@pytest.fixture
def own_disk(service: Service) -> Service:
    """The service with a state directory that is a small file system of its own."""
    script = f"install -d -m 700 /var/lib/private {STATE}; mount -t tmpfs -o size=16m x {STATE}"
    service.box.run("sh", "-ec", script)
    return service


@pytest.mark.long
@pytest.mark.parametrize(
    ("broken", "reason", "mended"),
    [
        (f"mount -o remount,ro {STATE}", "Read-only", f"mount -o remount,rw {STATE}"),
        (f"cat /dev/zero >{STATE}/filler || true", "full", f"rm {STATE}/filler"),
    ],
    ids=["read-only", "full"],
)
def test_a_state_directory_that_takes_nothing_is_told_and_used_once_it_is_mended(
    own_disk: Service, broken: str, reason: str, mended: str
) -> None:
    """The start fails with path and reason; systemd tries again, until it can be written to."""
    box = own_disk.box
    own_disk.start()
    own_disk.systemctl("stop")
    box.run("sh", "-c", broken)

    failed = own_disk.systemctl("start", check=False)
    journal = own_disk.wait_for_journal(reason)
    box.run("sh", "-c", mended)

    assert failed.returncode != 0
    assert "/var/lib/pricecheck" in journal
    own_disk.wait_for_state("active")


@pytest.mark.long
def test_a_full_state_directory_is_told_and_it_goes_on_when_there_is_room(
    own_disk: Service,
) -> None:
    """It stays up, says that nothing can be stored, and stores once it can."""
    box = own_disk.box
    own_disk.start()
    wait_for(lambda: price_count(own_disk) == 1, "a price")
    box.run("sh", "-c", f"cat /dev/zero >{STATE}/filler", check=False)
    box.write("/etc/pricecheck/watchlist.csv", WATCHLIST + "B09B8X9RGM\nB09HM94VDS\n")
    box.run("systemctl", "kill", "--signal=HUP", "pricecheck")

    def status() -> str:
        return box.run("pricecheck", "status", check=False).stdout

    wait_for(lambda: "degraded" in status(), "degraded")
    full = status()
    box.run("rm", f"{STATE}/filler")

    assert "full" in full
    wait_for(lambda: price_count(own_disk) == 3, "more prices")
    wait_for(lambda: "healthy" in status(), "healthy")
    assert own_disk.show("NRestarts") == "0"
