"""From a price to a ringing phone: the whole daemon, killed at random moments."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from contextlib import closing
from random import Random
from time import sleep
from typing import Any

import msgspec
import pytest
import trio

from pricecheck.deliver.wording import Voice, message
from pricecheck.outbox import open_readonly
from pricecheck.records import Alert
from tests.daemons import House, Service, fast_time, until
from tests.deliver.conftest import Serve
from tests.deliver.test_notify import Phone

RULES = """
[[alerts]]
name = "cheap"
what = "target"
threshold = 1000
margin = 0

[[alerts]]
name = "drop"
what = "drop"
threshold = "1%"
"""


def backlog(house: House) -> int:
    with closing(open_readonly(house.outbox)) as outbox:
        return outbox.backlog("notify:phone").count


@pytest.mark.parametrize(
    "kills", [2, pytest.param(30, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
async def test_a_killed_daemon_tells_every_alert(
    house: House, service: Service, serve_http: Serve, kills: int
) -> None:
    """Each that was stored is told; twice at most where a kill came between told and noted."""
    seed = int(os.environ.get("KILL_SEED", Random().randrange(10**6)))
    print(f"KILL_SEED={seed}")  # noqa: T201  # shown with a failure, to repeat it
    random = Random(seed)
    phone = Phone()
    address = (await serve_http(phone)).replace("http://", "phone=json://")
    service.runs_in(fast_time(36_000.0))
    await service.serve(seed=7, refill_rate=0)
    house.configure(prices='every = "2h"', notify='every = "1s"', rest=RULES)
    house.watch(f"B{number:09d}" for number in range(20))

    for _ in range(kills):
        told = len(phone.told)
        with house.start(NOTIFY_URLS=address) as daemon:
            await until(lambda told=told: len(phone.told) > told)  # type: ignore[misc]
            await trio.to_thread.run_sync(sleep, random.random())  # the moment itself
            daemon.process.kill()
    with house.start(NOTIFY_URLS=address) as daemon:
        snapshot = await house.status_that(lambda status: status.relays)
        assert await daemon.ends(signal.SIGTERM) == 0
    service.stop()  # nothing new is to come
    with house.start(NOTIFY_URLS=address) as daemon:
        await until(lambda: backlog(house) == 0)

    alerts = [msgspec.convert(one, Alert) for one in house.kept("alert")]
    times = Counter(
        alert.record().id for alert in alerts for one in phone.told if _is_about(one, alert)
    )
    assert [relay.name for relay in snapshot.relays] == ["notify:phone"]
    assert len(alerts) > 20
    assert times.keys() == {alert.record().id for alert in alerts}
    assert sum(count > 1 for count in times.values()) <= kills * 30
    assert all("SIMULATED" in one["title"] for one in phone.told)
    assert " alert asin=" in daemon.log


def _is_about(told: dict[str, Any], alert: Alert) -> bool:
    """Tell whether a message has the change, and the rule, of an alert."""
    _, place, url = message([alert], Voice()).body.splitlines()
    before, _, _ = place.partition(" (")
    told_of = re.compile(f"{re.escape(before)} .*\\b{alert.rule}\\b.*\n{re.escape(url)}")
    return told_of.search(told["message"]) is not None
