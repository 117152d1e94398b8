"""The discovery task: what the lists brought is judged, and what fits is offered or accepted.

Candidates come with the answers of the deal, best-seller and search tasks, and are in the outbox.
Here those of which too little is known are asked for, 1 token each and a hundred in a call, behind
everybody else and only with tokens above the reserve; no product twice, whichever rule found it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec
import trio

from pricecheck.bucket import NoRefillError, TooExpensiveError
from pricecheck.collect.candidates import Facts, Sieve, facts_of, judged, of_product
from pricecheck.collect.misfits import dead_letter
from pricecheck.collect.spending import Priority, Spender
from pricecheck.collect.trouble import Trouble
from pricecheck.errors import StoreError
from pricecheck.extras import PLAIN
from pricecheck.keepa.client import ProductQuery, ProductsAnswer
from pricecheck.keepa.errors import KeepaError, RejectedError
from pricecheck.keepa.tables import MAX_ASINS
from pricecheck.keepa.time import to_rfc3339
from pricecheck.logs import kv
from pricecheck.outbox import Candidate, Commit, Outbox, lookup
from pricecheck.records import Bestsellers
from pricecheck.supervisor import Heartbeat

log = logging.getLogger(__name__)

TASK: Final = "discovery"
"""What the task is called."""

_NAP_S: Final = 60.0
_ACCEPT_EVERY_S: Final = 600.0  # while there is more to judge: each time the plan is made anew
_PAID_MOST_MS: Final = 3_600_000
_REFUSALS_OF_KEEPA: Final = 3
"""After so many products were refused one by one and none taken, it is not the products."""

_QUERY: Final = ProductQuery(days=1)  # all that is asked for is in the statistics


class Discovery:
    """Judges the candidates of all rules, and accepts for those that say so.

    `on_accept` is called when products have been accepted: they are in the outbox then.
    """

    def __init__(
        self,
        sieves: Sequence[Sieve],
        spender: Spender,
        outbox: Outbox,
        on_accept: Callable[[], None],
    ) -> None:
        self.trouble = Trouble(TASK)
        self._sieves = sieves
        self._spender = spender
        self._outbox = outbox
        self._on_accept = on_accept
        self._accepted_at = 0.0  # trio's time
        self._refusals = 0  # of single products, since one was taken
        self._suspects: dict[str, bool] = {}  # failed alone; whether others were answered since
        self._most = MAX_ASINS  # halved when answers fail, so that less is lost with the next

    async def run(self, heartbeat: Heartbeat) -> None:
        """Judge and accept for ever; begin with what is stored, by the rules as they are now."""
        looked_again = False
        self._accepted_at = trio.current_time()
        while True:
            nap_s, waiting = _NAP_S, 0
            try:
                if not looked_again:
                    for sieve in self._sieves:
                        await trio.to_thread.run_sync(self._look_again, sieve)
                    looked_again = True
                waiting = await self._round(heartbeat)
                self.trouble.end()
            except (KeepaError, TooExpensiveError, NoRefillError, StoreError) as error:
                nap_s = self.trouble.begin(error, paid_most_ms=_PAID_MOST_MS) / 1000
            heartbeat.beat()
            until = to_rfc3339(self._spender.time.now_ms() + round(nap_s * 1000))
            said = f"{waiting:,} candidates wait, `pricecheck discover`; " if waiting else ""
            heartbeat.expect(trio.current_time() + nap_s, f"{said}next at {until[:16]}Z")
            await trio.sleep(nap_s)

    async def _round(self, heartbeat: Heartbeat) -> int:
        """Judge what can be judged now, accept, and return how many wait for a person."""
        idle = await self._judge(heartbeat)
        if idle or trio.current_time() - self._accepted_at >= _ACCEPT_EVERY_S:
            self._accepted_at = trio.current_time()
            await self._accept(heartbeat)
        return await trio.to_thread.run_sync(self._waiting)

    def _look_again(self, sieve: Sieve) -> None:
        """Take in the list of before the rule was there, and judge anew what was judged."""
        rule, now_ms = sieve.rule, self._spender.time.now_ms()
        is_list = rule.source == "bestsellers"
        if is_list and (body := lookup.latest_list(self._outbox, rule.domain, str(rule.category))):
            stored = msgspec.json.decode(body, type=Bestsellers)
            self._outbox.commit(Commit(candidates=tuple(sieve.of_list(stored.asins, now_ms))))
        before = [
            *self._outbox.candidates("waiting", rule=rule.name),
            *self._outbox.candidates("unfit", rule=rule.name),
        ]
        now = [judged(rule, one.asin, facts_of(one), one.at_ms) for one in before]
        if changed := [new for new, old in zip(now, before, strict=True) if new != old]:
            self._outbox.review(changed)

    async def _judge(self, heartbeat: Heartbeat) -> bool:
        """Judge what is found, a call's worth of each rule in turn, as far as tokens go.

        Returns whether all is judged that needs to be.
        """
        done = False
        while not done:
            done, asked = True, False
            for sieve in self._sieves:
                batch = await trio.to_thread.run_sync(self._next_batch, sieve)
                done &= not batch
                affordable = await self._spender.spare_units(PLAIN.operation, sieve.rule.reserve)
                batch = batch[:affordable]
                asked |= bool(batch)
                await self._ask(sieve, batch, heartbeat)
            if not asked:
                break
        return done

    def _next_batch(self, sieve: Sieve) -> list[str]:
        """Return what to ask for next, never more than the rule may take.

        What is known already, for another rule asked for it, is judged by that.
        """
        rule, outbox = sieve.rule, self._outbox
        while True:
            taken = outbox.candidate_counts(rule.name)["accepted"] + len(self._offers(sieve))
            room = min(self._most, rule.most - taken)
            if room <= 0:
                return []
            # What has failed alone goes last: it may be what breaks the answers.
            more = room + len(self._suspects)
            found = outbox.candidates("found", rule=rule.name, limit=more)
            asins = sorted((one.asin for one in found), key=self._suspects.__contains__)[:room]
            known = {
                one.asin: judged(rule, one.asin, facts, one.at_ms)
                for one in outbox.learnt(rule.domain, asins)
                if (facts := facts_of(one)).whole
            }
            if not known:
                return asins
            outbox.commit(Commit(candidates=tuple(known.values())))

    async def _ask(self, sieve: Sieve, asins: list[str], heartbeat: Heartbeat) -> None:
        """Ask for products; of a batch that is refused the halves, until the culprit is found.

        A call that failed and has cost something is tried again later, with less.
        """
        parts = [asins] if asins else []
        while parts:
            part = parts.pop()
            try:
                await self._pay(sieve, part, heartbeat)
            except KeepaError as error:
                free, half = isinstance(error, RejectedError), len(part) // 2
                if half and free:
                    parts += part[half:], part[:half]
                    continue
                if half and error.smaller:
                    self._most = half
                elif free or (error.smaller and self._accuse(part[0])):
                    await self._set_aside(sieve, part[0], error, heartbeat)
                if free and self._refusals < _REFUSALS_OF_KEEPA:
                    continue
                raise
            else:
                self._refusals, self._most = 0, min(self._most * 2, MAX_ASINS)
                self._suspects = dict.fromkeys(self._suspects.keys() - set(part), True)

    def _accuse(self, asin: str) -> bool:
        """Note that it failed alone; return whether by its fault: it did before, others not since.

        What failed for the first time, or while nothing else came, may have met an outage.
        """
        is_culprit = self._suspects.pop(asin, False)
        if not is_culprit:
            self._suspects[asin] = False
        return is_culprit

    async def _set_aside(
        self, sieve: Sieve, asin: str, error: KeepaError, heartbeat: Heartbeat
    ) -> None:
        self._refusals += 1
        log.warning("candidate refused", extra=kv(asin=asin, error=error.message))
        gone = Facts(whole=True, gone=error.message)
        refused = judged(sieve.rule, asin, gone, self._spender.time.now_ms())
        await self._spender.commit(Commit(candidates=(refused,)), heartbeat)

    async def _pay(self, sieve: Sieve, asins: list[str], heartbeat: Heartbeat) -> None:
        def keep(answer: ProductsAnswer) -> Commit:
            return digest_candidates(answer, sieve, asins, self._spender.time.now_ms())

        client, market = self._spender.client, sieve.rule.domain.market
        await self._spender.spend(
            PLAIN.operation,
            len(asins),
            Priority.DISCOVERY,
            heartbeat,
            send=partial(client.products, market, asins, _QUERY),
            keep=keep,
        )

    async def _accept(self, heartbeat: Heartbeat) -> None:
        """Accept what waits, for the rules that say so, until they have their `most`."""
        accepted: list[Candidate] = []
        for sieve in self._sieves:
            if sieve.rule.accept == "all":
                accepted += await trio.to_thread.run_sync(self._acceptable, sieve)
        if accepted:
            await self._spender.commit(Commit(candidates=tuple(accepted)), heartbeat)
            log.info("products discovered", extra=kv(products=len(accepted)))
            self._on_accept()

    def _acceptable(self, sieve: Sieve) -> list[Candidate]:
        rule, now_ms = sieve.rule, self._spender.time.now_ms()
        room = rule.most - self._outbox.candidate_counts(rule.name)["accepted"]
        return [
            msgspec.structs.replace(one, state="accepted", at_ms=now_ms)
            for one in self._offers(sieve)[: max(room, 0)]
        ]

    def _offers(self, sieve: Sieve) -> list[Candidate]:
        """Return what fits a rule, and is not watched meanwhile."""
        waiting = self._outbox.candidates("waiting", rule=sieve.rule.name)
        return [one for one in waiting if one.asin not in sieve.watched]

    def _waiting(self) -> int:
        """Return how many products a person is asked about."""
        asking = [sieve for sieve in self._sieves if sieve.rule.accept == "ask"]
        offers = [one for sieve in asking for one in self._offers(sieve)]
        return len({(one.domain, one.asin) for one in offers})


def digest_candidates(
    answer: ProductsAnswer, sieve: Sieve, asins: Sequence[str], now_ms: int
) -> Commit:
    """Turn an answer into what is kept of it: a judgement of each product that was asked for."""
    rule = sieve.rule
    products = {product.asin: product for product in answer.products}
    misfits = {bad.asin: bad for bad in answer.misfits}
    judgements = []
    for asin in asins:
        if asin in misfits:
            facts = Facts(whole=True, gone=f"can't be read: {misfits[asin].reason}")
        else:
            facts = of_product(products.get(asin))
        judgements.append(judged(rule, asin, facts, now_ms))
    letters = [dead_letter("product", rule.domain, bad, now_ms) for bad in answer.misfits]
    return Commit(candidates=tuple(judgements), dead_letters=tuple(letters))
