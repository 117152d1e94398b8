"""Older deployments are found by what they are called and by what they start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricecheck.zombies import Zombie, find_zombies, look_alikes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty file system."""
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def put(root: Path, name: str, text: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def program(folder: Path, name: str, body: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)


def test_a_clean_machine_has_none(root: Path, programs: Path) -> None:
    """No systemd, no cron, no containers, and no process of that kind."""
    assert programs.exists()
    assert find_zombies(root) == []


def test_units_are_found_by_name_and_ours_are_not(root: Path, programs: Path) -> None:
    """Services and timers alike; the service itself and its instances are spared."""
    program(
        programs,
        "systemctl",
        "case $1 in list-units) exit 1 ;; esac\n"
        "echo 'keepa-scheduler.service enabled enabled'\n"
        "echo 'Keeper-watchdog.timer  static -'\n"
        "echo 'pricecheck.service enabled enabled'\n"
        "echo 'pricecheck@second.service enabled -'\n"
        "echo 'pricecheck@amazon.de.service enabled -'\n"
        "echo 'pricecheck-old.timer enabled -'\n"
        "echo 'zookeeper.service enabled enabled'\n"
        "echo 'ssh.service enabled enabled'",
    )

    assert find_zombies(root) == [
        Zombie("unit", "keepa-scheduler.service", "enabled enabled"),
        Zombie("unit", "Keeper-watchdog.timer", "static -"),
        Zombie("unit", "pricecheck-old.timer", "enabled -"),
    ]


def test_a_unit_with_a_harmless_name_is_found_by_what_it_starts(root: Path, programs: Path) -> None:
    """`scheduler.service` that runs keepa.py is one of them, told once where /lib is /usr/lib."""
    assert programs.exists()
    put(
        root, "usr/lib/systemd/system/scheduler.service", "[Service]\nExecStart=/opt/keepa/run.py\n"
    )
    (root / "lib").symlink_to("usr/lib")
    put(root, "etc/systemd/system/other.service", "[Service]\nExecStart=/bin/true\n# keepa\n")

    (found,) = find_zombies(root)

    assert found == Zombie("unit", "scheduler.service", "ExecStart=/opt/keepa/run.py")


def test_a_unit_of_a_persons_own_is_found(root: Path, programs: Path) -> None:
    """`systemctl --user` keeps them at home, where root's systemctl does not list them."""
    assert programs.exists()
    put(root, "home/joe/.config/systemd/user/keepa.timer", "[Timer]\nOnCalendar=hourly\n")
    put(root, "home/joe/.config/systemd/user/a.service", "[Service]\nExecStart=%h/keepa/run\n")
    put(root, "home/joe/.config/systemd/user/b.service", "[Service]\nExecStart=/bin/true\n")

    found = [(zombie.name, zombie.proof) for zombie in find_zombies(root)]

    assert found == [
        ("a.service", "/home/joe/.config/systemd/user/a.service: ExecStart=%h/keepa/run"),
        ("keepa.timer", "/home/joe/.config/systemd/user/keepa.timer"),
    ]


def test_cron_lines_are_found_wherever_cron_looks(root: Path, programs: Path) -> None:
    """The system's table, its folders and people's own; not what is commented out."""
    assert programs.exists()
    put(root, "etc/crontab", "*/5 * * * * root /opt/keeper_watchdog.sh\n# 1 * * * * root keepa\n")
    put(root, "etc/cron.d/other", "1 1 * * * root /usr/bin/true\n")
    put(root, "etc/cron.daily/keepa-report", "#!/bin/sh\ncd /opt/x && ./report\n")
    put(root, "var/spool/cron/crontabs/joe", "0 * * * * python3 ~/keepa-api/check.py\n")

    assert find_zombies(root) == [
        Zombie("cron line", "/etc/crontab", "*/5 * * * * root /opt/keeper_watchdog.sh"),
        Zombie("cron line", "/etc/cron.daily/keepa-report", "by its name"),
        Zombie(
            "cron line", "/var/spool/cron/crontabs/joe", "0 * * * * python3 ~/keepa-api/check.py"
        ),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "* * * * * root pricecheck status --json >/run/monitoring/pricecheck.json",
        "* * * * * root /usr/local/bin/pricecheck report",
        "0 3 * * * root sqlite3 /var/lib/pricecheck/outbox.sqlite '.backup /srv/copy'",
        "0 4 * * 7 root tar -cf /srv/etc.tar /etc/pricecheck/",
        "0 5 * * * root systemctl try-restart pricecheck.service pricecheck@two.service",
    ],
)
def test_a_cron_line_about_this_program_is_no_leftover(
    root: Path, programs: Path, line: str
) -> None:
    """A backup, a report, a monitoring system: what an operator of pricecheck may well have."""
    assert programs.exists()
    put(root, "etc/cron.d/pricecheck", f"{line}\n")

    assert find_zombies(root) == []


def test_what_stands_behind_key_or_token_is_not_shown(root: Path, programs: Path) -> None:
    """An old deployment's command line may well hold the API key."""
    assert programs.exists()
    put(root, "etc/crontab", "* * * * * root keepa --key=planted-1 --api_token planted-2 -v\n")
    put(root, "proc/5000001/cmdline", "keepa.py\0https://x/?key=planted-3&domain=3\0")
    put(root, "etc/systemd/system/x.service", "[Service]\nExecStart=keepa --token planted-4\n")

    proofs = [zombie.proof for zombie in find_zombies(root)]

    assert len(proofs) == 3
    assert "planted" not in "".join(proofs)
    assert proofs[1].endswith("keepa --key=*** --api_token *** -v")


def test_containers_are_found_by_name_and_image(root: Path, programs: Path) -> None:
    """Stopped ones too, for they come back with the machine."""
    program(
        programs,
        "docker",
        "echo 'web nginx:1.29 Up 3 days'\necho 'scheduler keepa-scheduler:1 Exited (0) 2 days ago'",
    )

    assert find_zombies(root) == [
        Zombie("container", "scheduler", "docker: keepa-scheduler:1 Exited (0) 2 days ago")
    ]


def test_the_containers_of_our_compose_file_are_spared(root: Path, programs: Path) -> None:
    """Kafka, Elasticsearch and Kibana of the project `pricecheck`; no other of that name."""
    program(
        programs,
        "docker",
        "echo 'pricecheck-kafka-1 apache/kafka:4.1.1 Up 3 days'\n"
        "echo 'pricecheck-scheduler-1 scheduler:3 Up 3 months'",
    )

    assert [zombie.name for zombie in find_zombies(root)] == ["pricecheck-scheduler-1"]


def test_an_engine_that_does_not_answer_is_passed_over(root: Path, programs: Path) -> None:
    """`docker` without its daemon fails; that is no finding."""
    program(programs, "docker", "echo 'keepa nonsense'; exit 1")

    assert find_zombies(root) == []


def test_a_process_is_found_by_its_command_line(tmp_path: Path) -> None:
    """A real one, started from a script of that name; this very process is not."""
    script = tmp_path / "keepa_scheduler.py"
    script.write_text("import sys; print(flush=True); sys.stdin.read()")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()

        found = [zombie for zombie in find_zombies() if zombie.name == f"pid {process.pid}"]

        process.kill()
    assert [zombie.kind for zombie in found] == ["process"]
    assert "keepa_scheduler.py" in found[0].proof
    assert os.getpid() != process.pid


@pytest.mark.parametrize(
    "command",
    [
        # This program, however it was started, its simulator and its tests.
        "/opt/pricecheck/bin/python /opt/pricecheck/bin/pricecheck run",
        "/home/joe/.local/bin/pricecheck simulate",
        "python3 -m pricecheck run",
        "python3 -u -W error -m pricecheck.simulator --port 8080",
        "/srv/pricecheck/.venv/bin/python .venv/bin/pytest tests/test_zombies.py",
        "/srv/pricecheck/.venv/bin/python scripts/demo",
        # Who handles something of that name runs nothing of it.
        "vim /etc/pricecheck/pricecheck.toml",
        "nano keepa_scheduler.py",
        "grep -r keepa /etc",
        "journalctl -u keepa-scheduler.service -f",
        "tail -f /var/log/keepa/keepa.log",
        "apt-get install -qy /tmp/pricecheck_0.1.0_amd64.deb",
        "dpkg --unpack /tmp/pricecheck_0.1.0_amd64.deb",
        "/usr/bin/python3 /usr/bin/pip install keepa",
        "/usr/bin/python3 -m pip install keepa",
        "systemctl stop keepa-scheduler",
        "sudo systemctl stop keepa-scheduler",
        "ssh joe@keepa.example",
        "sh -c grep keepa /etc/crontab",
        "bash -x",
        "git clone https://git.example/keepa.git",
        "python3",
        "python3 -c import keepa",
        "java -Xmx1g -cp lib.jar Main /home/keepa",
        "java --module-path /root/.cache/pricecheck-services/lib -m search/org.Main",
        "/usr/share/zookeeper/bin/zookeeper",
    ],
)
def test_a_process_that_does_not_run_such_a_thing_is_spared(
    root: Path, programs: Path, command: str
) -> None:
    """The name somewhere on a command line is no proof: an editor, a pager, a package tool."""
    assert programs.exists()
    put(root, "proc/5000001/cmdline", command.replace(" ", "\0") + "\0")

    assert find_zombies(root) == []


@pytest.mark.parametrize(
    "command",
    [
        "/opt/keepa/scheduler --loop",
        "/opt/keepa/venv/bin/python main.py",
        "python3 /srv/keeper/main.py",
        "python3 -u -X dev -W ignore keepa_scheduler.py",
        "python3 -m keepa_scheduler",
        "/usr/bin/python3 -m price_check.loop",
        "sh -e /opt/keeper_watchdog.sh",
        "bash ./keepa-loop",
        "node --inspect /srv/price-check/index.js",
        "java -Xmx1g -jar /opt/keepa-collector.jar",
        "python3 /opt/old/pricecheck.py",
    ],
)
def test_a_process_that_runs_such_a_thing_is_found(
    root: Path, programs: Path, command: str
) -> None:
    """By the program's place, or by the script, module or archive that it was given to run."""
    assert programs.exists()
    put(root, "proc/5000001/cmdline", command.replace(" ", "\0") + "\0")

    assert find_zombies(root) == [Zombie("process", "pid 5000001", command)]


def test_names_a_letter_or_two_away_are_look_alikes() -> None:
    """`keepa-deals` beside `keeper-deals`, as it happened; others and ours are not."""
    ours = ["keeper-deals", "keeper-prices"]

    found = look_alikes(ours, ["keepa-deals", "keeper-deals", "keeper-price", "logs", "deals"])

    assert found == {"keepa-deals": "keeper-deals", "keeper-price": "keeper-prices"}


names = st.text("abc-", max_size=8)


@given(names, st.lists(st.tuples(st.integers(0, 8), st.sampled_from("abc-")), max_size=2))
def test_two_edits_are_always_seen(name: str, edits: list[tuple[int, str]]) -> None:
    """Whatever one or two letters are put in, the name is near or the same."""
    changed = name
    for place, letter in edits:
        changed = changed[:place] + letter + changed[place:]

    assert changed == name or look_alikes([name], [changed]) == {changed: name}
