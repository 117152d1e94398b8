"""The daemon as a process: its start, its signals, and what it says to whom."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
import trio

from pricecheck.simulator.settings import Fault
from pricecheck.snapshot import Reloads

from .daemons import KEY, House, Service, fast_time, free_port, until

_HEAP = 64 << 20  # what glibc reserves for a heap of a thread's, on 64 bits

PRODUCTS = [f"B{number:09d}" for number in range(5)]
NEWCOMER = "B000000099"
SLOW = (Fault("slow", 1.0, "product"),)


class TestStart:
    @pytest.mark.parametrize(
        ("config", "complaint"),
        [
            ("[kepa]\n", "unknown key kepa"),
            ('[prices]\nwatchlist = "gone.csv"\n', "gone.csv"),
            (f'state_directory = "{"long/" * 30}"\n', "too long a path for a socket"),
        ],
        ids=lambda text: text[:20],
    )
    async def test_a_bad_config_ends_it_before_it_makes_anything(
        self, house: House, config: str, complaint: str
    ) -> None:
        """Exit code 78, after which systemd does not restart; a sentence and a remedy."""
        house.config.write_text(config)

        with house.start(XDG_STATE_HOME=str(house.directory)) as daemon:
            assert await daemon.ends() == os.EX_CONFIG

        assert complaint in daemon.log
        assert "Traceback" not in daemon.log
        made = {path.name for path in house.directory.iterdir()}
        assert made == {"log", "pricecheck.toml", "watchlist.csv"}

    async def test_a_reload_before_it_stands_does_not_end_it(
        self, house: House, service: Service
    ) -> None:
        """SIGHUP ends whoever does not expect it."""
        await service.serve()
        house.configure()
        content = house.config.read_bytes()
        house.config.unlink()
        os.mkfifo(house.config)  # it waits there, for us to write

        with house.start() as daemon:
            file = await trio.open_file(house.config, "wb")
            daemon.process.send_signal(signal.SIGHUP)
            async with file:
                await file.write(content)
            await daemon.says("ready")

    async def test_without_a_key_it_does_not_start(self, house: House) -> None:
        """It says where one may stand."""
        house.config.write_text('state_directory = "state"\n')

        with house.start(KEEPA_API_KEY="") as daemon:
            assert await daemon.ends() == os.EX_CONFIG

        assert "no Keepa API key" in daemon.log
        assert not house.state.exists()

    async def test_strict_refuses_a_bad_line(self, house: House) -> None:
        """Else it is skipped, told and counted."""
        house.configure()
        house.watch(["no-asin", *PRODUCTS])

        with house.start("--strict") as daemon:
            assert await daemon.ends() == os.EX_CONFIG

        assert "line 2" in daemon.log

    async def test_a_second_one_is_refused_with_the_pid_of_the_first(
        self, house: House, service: Service
    ) -> None:
        """Two would spend the same tokens twice; the first does not mind."""
        await service.serve()
        house.configure()

        with house.start() as first:
            await first.says("ready")
            with house.start() as second:
                assert await second.ends() == os.EX_TEMPFAIL
            assert f"pid {first.process.pid}" in second.log
            assert (await house.status()).pid == first.process.pid

    async def test_a_corrupt_outbox_is_moved_aside_and_shown(
        self, house: House, service: Service
    ) -> None:
        """Loudly, and never deleted; a new one is begun."""
        await service.serve()
        house.configure()
        house.state.mkdir()
        house.outbox.write_bytes(b"no database" * 1000)

        with house.start() as daemon:
            await daemon.says("ready")
            status = await house.status()

        [aside] = house.state.glob("*.corrupt-*")
        assert aside.read_bytes() == b"no database" * 1000
        assert status.health == "degraded"
        assert any(f"is now {aside}" in reason for reason in status.reasons)
        assert str(aside) in daemon.log

    async def test_a_newer_programs_outbox_is_left_alone(self, house: House) -> None:
        """Going back needs its backup: exit code 78, and the file is as it was."""
        house.configure()
        house.state.mkdir()
        with closing(sqlite3.connect(house.outbox)) as newer:
            newer.execute("PRAGMA user_version = 9999")
        before = house.outbox.read_bytes()

        with house.start() as daemon:
            assert await daemon.ends() == os.EX_CONFIG

        assert "newer pricecheck" in daemon.log
        assert house.outbox.read_bytes() == before

    async def test_keepa_need_not_be_there(self, house: House, service: Service) -> None:
        """It is ready at once, says what is missing, and begins when Keepa comes."""
        service.runs_in(fast_time(60.0))
        await service.serve()
        house.configure()
        house.watch(PRODUCTS)
        service.stop()

        with house.start() as daemon:
            await daemon.says("ready")
            await house.status_that(lambda now: "no connection" in " ".join(now.reasons))
            await service.serve()
            await until(lambda: house.checked() == PRODUCTS)
            await house.status_that(lambda now: now.health == "ok")


class TestMemory:
    @pytest.mark.skipif(not os.confstr("CS_GNU_LIBC_VERSION"), reason="another C library")
    async def test_its_threads_share_one_heap(self, house: House, service: Service) -> None:
        """What each leaves free in a heap of its own would add up to tens of megabytes."""
        await service.serve()
        house.configure()
        house.watch(PRODUCTS)

        with house.start() as daemon:
            await daemon.says("ready")
            await until(lambda: len(house.checked()) == len(PRODUCTS))
            process = Path("/proc", str(daemon.process.pid))
            threads = list((process / "task").iterdir())
            maps = [line.split()[:2] for line in (process / "maps").read_text().splitlines()]

        # glibc reserves an aligned range for each further heap, of which the rest has no rights.
        heaps = [
            own
            for (own, own_rights), (rest, rest_rights) in pairwise(maps)
            if (own_rights, rest_rights) == ("rw-p", "---p")
            and int(own.partition("-")[0], 16) % _HEAP == 0
            and own.partition("-")[2] == rest.partition("-")[0]
        ]
        assert len(threads) > 1
        assert heaps == []


class TestEnd:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_a_signal_ends_it(
        self, house: House, service: Service, number: signal.Signals
    ) -> None:
        """With 0 and a last word; what it has learned is there."""
        await service.serve()
        house.configure()
        house.watch(PRODUCTS)

        with house.start() as daemon:
            await house.status_that(lambda now: now.totals.records > 5)
            assert await daemon.ends(number) == 0

        assert house.checked() == PRODUCTS
        assert " stopped calls=2 failed_calls=0 tokens=5 products=5" in daemon.log
        assert "Traceback" not in daemon.log

    async def test_in_the_middle_of_an_answer_it_waits_for_its_end(
        self, house: House, service: Service
    ) -> None:
        """What is paid for comes home; more signals meanwhile change nothing."""
        service.runs_in(fast_time(10.0))  # in which the answer takes two seconds
        await service.serve(faults=SLOW)
        house.configure()
        house.watch(PRODUCTS)

        with house.start() as daemon:
            await house.status_that(lambda now: now.tokens.reserved)
            daemon.process.send_signal(signal.SIGTERM)
            await daemon.says("stopping")
            for more in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
                daemon.process.send_signal(more)
            assert await daemon.ends() == 0

        assert house.checked() == PRODUCTS
        assert len(service.asked()) == 1

    async def test_an_answer_that_takes_too_long_is_given_up(
        self, house: House, service: Service
    ) -> None:
        """Within ten seconds; its products are the first to be asked for by the next daemon."""
        await service.serve(faults=(Fault("timeout", 1.0, "product"),))
        house.configure()
        house.watch(PRODUCTS)

        with house.start() as daemon:
            await until(lambda: len(service.asked()) == 1)
            assert await daemon.ends(signal.SIGTERM) == 0
        await service.serve()
        with house.start() as daemon:
            await until(lambda: house.checked() == PRODUCTS)

        metrics = [metric for metric in house.kept("metric") if not metric["success"]]
        assert [metric["operation"] for metric in metrics] == ["product"]


class TestAlerts:
    async def test_a_spread_between_marketplaces_rings(
        self, house: House, service: Service
    ) -> None:
        """When the second of them comes to be known; with the rates of the config."""
        await service.serve()
        house.configure(
            exchange="rates = { GBP = 0.001 }",
            rest='[[alerts]]\nname = "arbitrage"\nwhat = "spread"\nthreshold = "20%"\n',
        )
        watchlist = house.directory / "watchlist.csv"
        watchlist.write_text(f"asin,domain\n{PRODUCTS[0]},DE\n")

        with house.start() as daemon:
            await house.status_that(lambda now: now.totals.products == 1)
            with watchlist.open("a") as lines:
                lines.write(f"{PRODUCTS[0]},UK\n")
            daemon.process.send_signal(signal.SIGHUP)
            await until(lambda: house.kept("alert"))

        (alert,) = house.kept("alert")
        assert (alert["domain"], alert["against"]) == ("UK", "DE")
        assert (alert["rule"], alert["what"]) == ("arbitrage", "spread")


class TestPage:
    async def test_a_browser_sees_what_is_known_now(self, house: House, service: Service) -> None:
        """Products, tasks and all, while the daemon runs; and the key nowhere."""
        await service.serve()
        port = free_port()
        house.configure(web=f'listen = "127.0.0.1:{port}"')
        house.watch(PRODUCTS)

        with house.start() as daemon:
            await daemon.says("page served")
            await until(lambda: house.checked() == PRODUCTS)
            async with httpx.AsyncClient(trust_env=False) as browser:
                page = (await browser.get(f"http://127.0.0.1:{port}/")).text

        assert all(asin in page for asin in PRODUCTS)
        assert "housekeeping" in page
        assert KEY not in page


class TestReload:
    async def test_a_new_watchlist_and_config_are_taken(
        self, house: House, service: Service
    ) -> None:
        """New products are checked, new rules hold, and what was checked is not checked again."""
        await service.serve()
        house.configure()
        house.watch(PRODUCTS)

        with house.start() as daemon:
            await house.status_that(lambda now: now.totals.products == 5)
            house.watch([*PRODUCTS[1:], NEWCOMER])
            house.configure(
                rest='[[bestsellers]]\ndomain = "DE"\ncategory = 340843031\n'
                '[[alerts]]\nname = "any"\nwhat = "target"\nthreshold = 1000000\n'
            )
            daemon.process.send_signal(signal.SIGHUP)
            await daemon.says("reloaded")
            await until(lambda: house.kept("bestseller") and NEWCOMER in house.checked())
            status = await house.status()

        assert status.watchlist.products == 5
        assert "bestsellers:DE:340843031" in {task.name for task in status.tasks}
        assert house.checked() == [*PRODUCTS, NEWCOMER]
        assert [alert["asin"] for alert in house.kept("alert")] == [NEWCOMER]
        assert len(service.asked("token")) == 1

    @pytest.mark.parametrize("broken", ["config", "watchlist", "state directory"])
    async def test_a_bad_one_is_refused_and_the_old_one_stays(
        self, house: House, service: Service, broken: str
    ) -> None:
        """The log and status say why, until a good one comes."""
        await service.serve()
        house.configure()
        house.watch(PRODUCTS)
        good = house.config.read_text()

        with house.start() as daemon:
            await daemon.says("ready")
            match broken:
                case "config":
                    house.config.write_text(good + "[kepa]\n")
                case "watchlist":
                    (house.directory / "watchlist.csv").unlink()
                case _:
                    house.config.write_text(good.replace('"state"', '"elsewhere"'))
            daemon.process.send_signal(signal.SIGHUP)
            await daemon.says("reload refused")
            status = await house.status_that(lambda now: now.totals.products == 5)
            house.config.write_text(good)
            house.watch(PRODUCTS)
            daemon.process.send_signal(signal.SIGHUP)
            await daemon.says("reloaded")
            healed = await house.status()

        reason = {"config": "kepa", "watchlist": "watchlist.csv", "state directory": "restart"}
        assert status.watchlist.products == 5
        assert any("reload refused" in why and reason[broken] in why for why in status.reasons)
        assert reason[broken] in daemon.log
        assert healed.reasons == []
        assert status.reloads.count == 1
        assert reason[broken] in (status.reloads.refused or "")
        assert healed.reloads == Reloads(2)

    async def test_a_call_under_way_is_not_lost(self, house: House, service: Service) -> None:
        """The reload waits for its answer, which is paid for, and keeps what it brings."""
        service.runs_in(fast_time(10.0))  # in which the answer takes two seconds
        await service.serve(faults=SLOW)
        house.configure()
        house.watch(PRODUCTS)

        with house.start() as daemon:
            await house.status_that(lambda now: now.tokens.reserved)
            daemon.process.send_signal(signal.SIGHUP)
            await daemon.says("reloaded")
            assert await daemon.ends(signal.SIGTERM) == 0

        assert house.checked() == PRODUCTS
        assert len(service.asked()) == 1


class TestSystemd:
    @pytest.fixture
    def notified(self, tmp_path: Path) -> Iterator[socket.socket]:
        """The socket that systemd would listen on."""
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listening:
            listening.bind(str(tmp_path / "notify"))
            listening.setblocking(False)
            yield listening

    async def test_it_is_told_of_start_reload_and_stop(
        self, house: House, service: Service, notified: socket.socket
    ) -> None:
        """And pinged, and given a line for `systemctl status`."""
        await service.serve()
        house.configure()
        house.watch(PRODUCTS)
        told: list[str] = []

        def hears(word: str) -> bool:
            with_more = True
            while with_more:
                try:
                    told.append(notified.recv(10_000).decode())
                except BlockingIOError:
                    with_more = False
            return any(word in datagram for datagram in told)

        address = notified.getsockname()
        with house.start(NOTIFY_SOCKET=address, WATCHDOG_USEC="2000000") as daemon:
            await until(lambda: hears("READY=1"))
            await until(lambda: hears("WATCHDOG=1"))
            daemon.process.send_signal(signal.SIGHUP)
            await until(lambda: hears("RELOADING=1\nMONOTONIC_USEC="))
            del told[:]
            await until(lambda: hears("READY=1"))
            assert await daemon.ends(signal.SIGTERM) == 0
            await until(lambda: hears("STOPPING=1"))

        [ready] = [datagram for datagram in told if "READY=1" in datagram]
        assert "STATUS=SIMULATED: " in ready
        assert "5 products" in ready


class TestDisk:
    async def test_a_full_disk_is_waited_out(self, house: House, service: Service) -> None:
        """Status says so, no more is spent meanwhile, and nothing that was paid for is lost."""
        service.runs_in(fast_time(60.0))
        await service.serve(refill_rate=0)
        house.configure()
        house.watch([])

        with house.start() as daemon:
            await daemon.says("ready")
            await until(lambda: house.kept("metric"))
            full = house.outbox.with_name(house.outbox.name + "-wal").stat().st_size
            _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (full, hard))
            house.watch(PRODUCTS)
            daemon.process.send_signal(signal.SIGHUP)
            status = await house.status_that(lambda now: now.store.trouble)
            asked = len(service.asked())
            resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
            await until(lambda: set(house.checked()) == set(PRODUCTS))
            await house.status_that(lambda now: now.health == "ok")

        assert any("make room" in reason for reason in status.reasons)
        assert asked == 1
        assert house.checked() == PRODUCTS
