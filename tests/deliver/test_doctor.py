"""What doctor sees of real servers."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from pricecheck import config
from pricecheck.config import Names
from pricecheck.deliver.configured import configured_sinks
from pricecheck.doctor import Finding, examine

pytestmark = pytest.mark.services


def written(tmp_path: Path, names: Names, sink: str) -> Path:
    (tmp_path / "watchlist.csv").write_text("asin\n")
    path = tmp_path / "pricecheck.toml"
    path.write_text(
        'state_directory = "state"\n[keepa]\nurl = "http://127.0.0.1:9"\n'
        f'[names]\nprefix = "{names.prefix}"\n{sink}'
    )
    return path


async def looked_at(path: Path, check: str) -> list[Finding]:
    return [finding for finding in await examine(path) if finding.check == check]


async def test_an_index_almost_called_like_ours_is_named_with_its_last_write(
    tmp_path: Path, names: Names, elasticsearch_url: str
) -> None:
    """`keepa-deals` beside `keeper-deals`: which, since when it is silent; nothing is made."""
    zombie = f"{names.prefix}keepa-deals"
    path = written(tmp_path, names, f'[elasticsearch]\nhosts = ["{elasticsearch_url}"]\n')
    async with httpx.AsyncClient(base_url=elasticsearch_url, timeout=60) as http:
        document = {"timestamp": "2026-08-01T12:00:00Z"}
        made = await http.post(f"/{zombie}/_doc?refresh=true", json=document)

        findings = await looked_at(path, "elasticsearch")

        there = await http.get(f"/_cat/indices/{names.prefix}*?format=json&h=index")
        await http.delete(f"/{zombie}")
    assert made.status_code == 201
    assert findings[0].level == "ok"
    assert "Elasticsearch" in findings[0].said
    (alike,) = [finding for finding in findings if "almost called" in finding.said]
    assert zombie in alike.said
    assert f"{names.prefix}keeper-deals" in alike.said
    assert "last written 2026-08-01T12:00:00Z" in alike.said
    assert [index["index"] for index in there.json()] == [zombie]


async def test_a_topic_almost_called_like_ours_is_named_with_its_last_write(
    tmp_path: Path, names: Names, kafka_address: str
) -> None:
    """Also where our own topics are still missing, which is said and not mended."""
    zombie = f"{names.prefix}keepa-deals"
    path = written(tmp_path, names, f'[kafka]\nbrokers = ["{kafka_address}"]\n')
    admin = AdminClient({"bootstrap.servers": kafka_address})
    admin.create_topics([NewTopic(zombie, 2)])[zombie].result(30)
    producer = Producer({"bootstrap.servers": kafka_address})
    for day in (2, 1):
        producer.produce(zombie, b"{}", partition=0, timestamp=1_785_585_600_000 - day * 86_400_000)
    producer.flush(30)

    findings = await looked_at(path, "kafka")

    topics = admin.list_topics(timeout=30).topics
    admin.delete_topics([zombie])[zombie].result(30)
    assert "has no topic" in findings[0].said
    assert zombie in findings[-1].said
    assert "last written 2026-07-31T12:00:00Z" in findings[-1].said
    assert f"{names.prefix}keeper-deals" not in topics


async def test_an_index_or_template_that_somebody_deleted_is_named(
    tmp_path: Path, names: Names, elasticsearch_url: str
) -> None:
    """Which, and that the daemon makes it at its next start; doctor itself makes nothing."""
    path = written(tmp_path, names, f'[elasticsearch]\nhosts = ["{elasticsearch_url}"]\n')
    deal, metric = names.by_kind()["deal"], names.by_kind()["metric"]
    [sink] = configured_sinks(config.load(path))
    await sink.connect()
    await sink.close()
    async with httpx.AsyncClient(base_url=elasticsearch_url, timeout=60) as http:
        await http.delete(f"/_index_template/{deal}")
        await http.delete(f"/{metric}")

        findings = await looked_at(path, "elasticsearch")

        await http.delete(f"/{names.prefix}*")
        await http.delete(f"/_index_template/{names.prefix}*")
    assert [finding.said for finding in findings[1:]] == [
        f"no index {metric}",
        f"no index template {deal}",
    ]
