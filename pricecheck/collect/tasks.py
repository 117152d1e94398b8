"""The collectors of one config and watchlist, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pricecheck.bucket import Bucket
from pricecheck.collect.bestsellers import collect_bestsellers
from pricecheck.collect.calls import CallLog
from pricecheck.collect.candidates import Sieve
from pricecheck.collect.deals import DerivedDeals, collect_deals
from pricecheck.collect.discovery import TASK as DISCOVERY
from pricecheck.collect.discovery import Discovery
from pricecheck.collect.prices import PriceCollector
from pricecheck.collect.search import collect_search
from pricecheck.collect.spending import Spender
from pricecheck.collect.trouble import Trouble
from pricecheck.config import Settings
from pricecheck.exchange import FILE_NAME as RATES_FILE
from pricecheck.exchange import keep_rates, read_rates
from pricecheck.keepa.client import KeepaClient
from pricecheck.needs import prior_costs
from pricecheck.outbox import Outbox
from pricecheck.supervisor import Supervisor
from pricecheck.watchlist import Watchlist


class Collectors:
    """The collecting tasks; made anew after each reload, where `before` are those of until then.

    What they know of the key's bucket and plan is taken over from those, unless the config
    changes it. `on_accept` is called when discovery has accepted products.
    """

    def __init__(
        self,
        settings: Settings,
        watchlist: Watchlist,
        key: str,
        *,
        outbox: Outbox,
        calls: CallLog,
        client: KeepaClient,
        supervisor: Supervisor,
        before: Collectors | None = None,
        on_accept: Callable[[], None] = lambda: None,
    ) -> None:
        config = settings.config
        self.settings = settings
        self.watchlist = watchlist
        self.supervisor = supervisor
        self._outbox = outbox
        costs = prior_costs(config, watchlist.watches)
        self._terms = (key, config.keepa.url, config.keepa.max_call_cost, config.costs)
        self.derived = DerivedDeals()
        if before is not None and before._terms == self._terms:
            self.bucket: Bucket = before.bucket
            self.bucket.expect(costs)
            self.derived.rules = before.derived.rules & frozenset(config.deals)
        else:
            self.bucket = Bucket(max_call_cost=config.keepa.max_call_cost, costs=costs)
        self.spender = Spender(client, self.bucket, outbox, calls, config.time)
        self.prices = PriceCollector(
            watchlist.watches,
            self.spender,
            outbox,
            self.derived,
            config.prices,
            concurrency=config.keepa.concurrency,
            others=config.others_a_minute,
            rules=config.alert_rules,
            rates=partial(read_rates, settings),
        )
        self._sieves = [
            Sieve(rule, {each.asin for each in watchlist.watches if each.domain == rule.domain})
            for rule in config.discovery
        ]
        self.discovery = Discovery(self._sieves, self.spender, outbox, on_accept)
        self.troubles = [self.prices.trouble]

    def start(self) -> None:
        """Start every task."""
        config = self.settings.config
        # Undeclared silence is the network's and the disk's, so it is meant in real time.
        stall_after = config.stall_after * config.time.factor
        start = partial(self.supervisor.start, stall_after=stall_after)
        start("prices", self.prices.run)
        if self._sieves:
            self.troubles.append(self.discovery.trouble)
            start(DISCOVERY, self.discovery.run)
        if config.exchange.url is not None:
            path = self.settings.state_directory() / RATES_FILE
            keep = partial(keep_rates, url=config.exchange.url, path=path, time=config.time)
            start("exchange", keep)
        for deals in config.deals:
            collect = partial(
                collect_deals,
                rule=deals,
                spender=self.spender,
                derived=self.derived,
                trouble=self._trouble(deals.name),
                alerts=config.alert_rules,
                sieves=self._readers(deals.name),
            )
            start(deals.name, collect)
        for best in config.bestsellers:
            list_them = partial(
                collect_bestsellers,
                rule=best,
                spender=self.spender,
                trouble=self._trouble(best.name),
                sieves=self._readers(best.name),
            )
            start(best.name, list_them)

        for sieve in self._sieves:
            if sieve.rule.source == "search":
                trouble = self._trouble(sieve.rule.source_name)
                search = partial(
                    collect_search,
                    sieve=sieve,
                    spender=self.spender,
                    outbox=self._outbox,
                    trouble=trouble,
                )
                start(sieve.rule.source_name, search)

    def _readers(self, source: str) -> list[Sieve]:
        return [sieve for sieve in self._sieves if sieve.rule.source_name == source]

    def _trouble(self, task: str) -> Trouble:
        trouble = Trouble(task)
        self.troubles.append(trouble)
        return trouble
