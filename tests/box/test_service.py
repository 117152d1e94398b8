"""The service as operators meet it: start, status, reload, stop, boot, and their mistakes."""

from __future__ import annotations

import pytest

from tests.box.conftest import CONFIG, WATCHLIST, Box, Service, configure, wait_for

pytestmark = pytest.mark.timeout(300)

SINKS_AWAY = """
[elasticsearch]
hosts = ["http://search.invalid:9200"]
[kafka]
brokers = ["broker.invalid:9092"]
"""


def test_start_returns_when_it_is_ready_and_status_tells_how_it_is(service: Service) -> None:
    """systemctl knows its state in a line; a good start leaves nothing that needs a person."""
    service.start()

    assert service.show("ActiveState") == "active"
    wait_for(lambda: "1 products" in service.show("StatusText"), "a status line")
    told = service.box.run("pricecheck", "status").stdout
    assert "healthy" in told
    assert "ready version=" in service.journal()
    assert service.journal("-p", "warning") == ""


def test_a_reload_takes_over_a_good_config_without_a_restart(service: Service) -> None:
    """The process stays, and watches what the list now holds."""
    service.start()
    pid = service.show("MainPID")
    service.box.write("/etc/pricecheck/watchlist.csv", WATCHLIST + "B09B8X9RGM\n")

    service.systemctl("reload")

    wait_for(lambda: "2 products" in service.show("StatusText"), "two products")
    assert service.show("MainPID") == pid
    assert service.show("ActiveState") == "active"
    assert service.journal("-p", "warning") == ""


def test_a_reload_of_a_bad_config_fails_and_the_old_one_stays(service: Service) -> None:
    """systemctl says so at once, the journal says why, and the service goes on."""
    service.start()
    pid = service.show("MainPID")
    service.box.write("/etc/pricecheck/pricecheck.toml", CONFIG + "speed = 11\n")

    reload = service.systemctl("reload", check=False)

    assert reload.returncode != 0
    assert "unknown key keepa.speed" in service.journal("-p", "err")
    assert service.show("MainPID") == pid
    assert service.show("ActiveState") == "active"


def test_hangup_with_a_bad_config_changes_nothing_and_status_says_so(service: Service) -> None:
    """Who sends the signal by hand finds the reason in status and journal."""
    service.start()
    service.box.write("/etc/pricecheck/pricecheck.toml", CONFIG + "speed = 11\n")

    service.box.run("systemctl", "kill", "--signal=HUP", "pricecheck")

    service.wait_for_journal("reload refused")
    wait_for(lambda: service.show("ActiveState") == "active", "active again")
    assert "unknown key keepa.speed" in service.box.run("pricecheck", "status", check=False).stdout


def test_stop_ends_it_well_and_restart_brings_another_process(service: Service) -> None:
    """A stop is a success for systemd, and what was collected is still there after it."""
    service.start()
    first = service.show("MainPID")

    service.systemctl("restart")
    second = service.show("MainPID")
    service.systemctl("stop")

    assert first != second
    assert service.show("Result") == "success"
    assert service.journal().count("stopped calls=") == 2
    assert service.journal("-p", "warning") == ""
    assert service.box.path("/var/lib/private/pricecheck/outbox.sqlite").exists()


def test_enabled_it_is_ready_after_a_boot_without_network_and_sinks(service: Service) -> None:
    """Neither Keepa, Kafka nor Elasticsearch need be reachable; it says what it waits for."""
    box = service.box
    box.write("/etc/pricecheck/pricecheck.toml", SINKS_AWAY)
    box.write("/etc/pricecheck/keepa-api-key", "no-key")
    service.systemctl("enable")

    box.reboot()

    service.wait_for_state("active")

    def told() -> str:
        return box.run("pricecheck", "status", check=False).stdout

    wait_for(lambda: told().count("not delivering") == 2, "both sinks told as away")
    assert "degraded" in told()
    assert service.show("NRestarts") == "0"


def test_a_bad_config_is_told_and_not_tried_again(service: Service) -> None:
    """Exit code 78, no restart, and `systemctl status` shows the sentence and the remedy."""
    service.box.write("/etc/pricecheck/pricecheck.toml", "[prices]\nevry = '6h'\n")
    service.drop_in("[Service]\nRestartSec=0\n")

    started = service.systemctl("start", check=False)

    assert started.returncode != 0
    assert service.show("ActiveState") == "failed"
    assert (service.show("ExecMainStatus"), service.show("NRestarts")) == ("78", "0")
    status = service.systemctl("status", check=False).stdout
    assert "unknown key prices.evry" in status
    assert "did you mean every?" in status


@pytest.mark.parametrize("installed", ["empty", "absent"])
def test_a_missing_api_key_is_told_with_the_file_to_put_it_into(
    service: Service, installed: str
) -> None:
    """The unit names the file; the message names it too, and nothing is tried again."""
    box = service.box
    box.write("/etc/pricecheck/pricecheck.toml", "")
    if installed == "empty":
        box.run("install", "-m", "600", "/dev/null", "/etc/pricecheck/keepa-api-key")

    started = service.systemctl("start", check=False)

    assert started.returncode != 0
    assert (service.show("ExecMainStatus"), service.show("NRestarts")) == ("78", "0")
    status = service.systemctl("status", check=False).stdout
    assert "no Keepa API key" in status
    assert "put it into /etc/pricecheck/keepa-api-key, readable by root alone" in status
    doctor = box.run("pricecheck", "doctor", check=False)
    assert doctor.returncode == 2
    assert "put it into /etc/pricecheck/keepa-api-key" in doctor.stdout


def test_the_key_reaches_it_as_a_credential_that_nobody_else_reads(service: Service) -> None:
    """Root's file of mode 600 is enough; neither environment nor command line hold the key."""
    box = service.box
    box.write("/etc/pricecheck/keepa-api-key", "planted-secret-key\n")
    box.path("/etc/pricecheck/keepa-api-key").chmod(0o600)
    box.write("/etc/pricecheck/pricecheck.toml", "")

    service.start()

    pid = service.show("MainPID")
    exposed = box.run("sh", "-c", f"tr '\\0' '\\n' </proc/{pid}/environ; cat /proc/{pid}/cmdline")
    assert "planted-secret-key" not in exposed.stdout
    assert "planted-secret-key" not in service.journal()


def test_a_second_instance_on_the_same_state_is_refused(service: Service) -> None:
    """By hand, as root, with the service's config: told who has it, and nothing is disturbed."""
    service.start()

    second = service.box.run(
        "pricecheck", "run", "--config", "/etc/pricecheck/pricecheck.toml", check=False
    )

    assert second.returncode == 75
    assert (
        f"already running with its state in /var/lib/pricecheck: pid {service.show('MainPID')}"
        in second.stderr
    )
    assert service.show("ActiveState") == "active"


def test_two_instances_of_the_template_run_side_by_side(box: Box) -> None:
    """Each has its config, its state, its user, and answers for itself."""
    init = box.run("pricecheck", "init", "/etc/pricecheck/one").stdout
    one, two = configure(box, "pricecheck@one"), configure(box, "pricecheck@two")
    box.write("/etc/pricecheck/two/watchlist.csv", WATCHLIST + "B09B8X9RGM\n")

    one.start()
    two.start()

    for service, name, products in ((one, "one", "1 products"), (two, "two", "2 products")):
        config = f"/etc/pricecheck/{name}/pricecheck.toml"
        told = service.box.run("pricecheck", "status", "--config", config).stdout
        assert products in told
        assert service.box.path(f"/var/lib/private/pricecheck-{name}/outbox.sqlite").exists()
    users = {s.box.run("stat", "-c", "%U", f"/proc/{s.show('MainPID')}").stdout for s in (one, two)}
    assert users == {"pricecheck-one\n", "pricecheck-two\n"}
    doctor = box.run(
        "pricecheck", "doctor", "--config", "/etc/pricecheck/one/pricecheck.toml", check=False
    )
    assert "systemctl enable --now pricecheck@one" in init
    assert "pricecheck@one.service is active" in doctor.stdout


def test_members_of_the_group_may_ask_for_the_status_and_others_are_told_how(
    service: Service,
) -> None:
    """Without sudo; who is not in the group reads which group that is."""
    box = service.box
    box.run(
        "sh", "-c", "id member || useradd --groups pricecheck member; id guest || useradd guest"
    )
    service.start()

    member = box.run("runuser", "-u", "member", "--", "pricecheck", "status")
    guest = box.run("runuser", "-u", "guest", "--", "pricecheck", "status", check=False)

    assert "healthy" in member.stdout
    assert guest.returncode != 0
    assert "no permission" in guest.stderr
    assert "group pricecheck" in guest.stderr


def test_doctor_finds_what_an_older_deployment_left(service: Service) -> None:
    """A planted unit and a planted cron watchdog are named; our own unit is all right."""
    service.start()
    service.box.write(
        "/etc/systemd/system/keepa-scheduler.service", "[Service]\nExecStart=/bin/true\n"
    )
    service.box.write("/etc/cron.d/watchdog", "*/5 * * * * root /opt/keeper_watchdog.sh\n")
    service.box.run("systemctl", "daemon-reload")

    told = service.box.run("pricecheck", "doctor", check=False)

    service.box.run("rm", "/etc/systemd/system/keepa-scheduler.service", "/etc/cron.d/watchdog")
    service.box.run("systemctl", "daemon-reload")
    assert told.returncode == 1, told.stdout + told.stderr
    assert "unit keepa-scheduler.service looks like an older deployment" in told.stdout
    assert "cron line /etc/cron.d/watchdog looks like an older deployment" in told.stdout
    assert "pricecheck.service is active" in told.stdout
    assert "runs the installed" in told.stdout
