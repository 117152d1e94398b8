"""Which alert rules ring for what an answer teaches.

Pure functions. What they promise:

- A rule looks at one price type, with shipping where it is known. It is judged on the changes in
  Keepa's history, one by one and in order, so each alert has the time of its change, and it makes
  no difference how many changes lie between two checks, or where a restart does.
- At the first look (of a product, of a price type, or of a rule that is new or has been changed)
  only the present state counts: a price at its target rings, an old drop or return to stock
  doesn't.
- A rule with a bound (target, drop or rise against an average, low, high) rings when the price
  comes to it; then again with each further low that is by `margin` below the last one told; and
  anew once the price has been back beyond the bound by `margin`. For rise and high the same
  upside down. The bound of low and high is what was told last, and at first the record of all
  time, so that neither is ever armed anew.
- A drop or rise against the last price and a return to stock are events: each rings.
- A spread rings when the price changes and is then by the threshold below or above that of another
  marketplace, in one currency; again when the spread has grown by `margin` points, and anew once it
  has been that far under the threshold. That the other's price changes is told by its own check.
- No offer is no price, and does not ring. A price that comes back after a day without one is news:
  a target, or a drop or rise against an average, rings anew. Shorter gaps are the market's noise.
- An average is Keepa's own of the day of the check, not of the change.
- `cheapest` rings only while no other product of the rule costs as little.
- An alert's id is made of product, rule and time of change, and the first of an id stands. So the
  same is never told twice, whatever is judged again.

What is remembered of a rule is one number a product, in the product's state: the price told last
(of a spread the tenths of a per cent), or that it is armed. It goes by what the rule says and not
by its name; a rule that says something else has a first look.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from pricecheck.collect.abroad import Abroad
from pricecheck.collect.products import Known, Lesson
from pricecheck.config import AlertRule
from pricecheck.keepa.tables import BY_CODE, SERIES
from pricecheck.keepa.time import to_rfc3339, to_unix_ms
from pricecheck.keepa.wire import Point
from pricecheck.records import Alert, Change, Deal, Price, percent_change, with_shipping
from pricecheck.watchlist import Watch

ARMED: Final = -1
"""What is remembered of a rule that will ring as soon as the price comes to its bound."""


_DAY_S: Final = 86_400


class Step(NamedTuple):
    """One change of a price; None is no offer, or not known."""

    at: str
    old: int | None
    new: int | None
    is_back: bool = False  # after a day or more without an offer


class Rung(NamedTuple):
    """A step for which a rule rings, and the price that it was held against."""

    step: Step
    reference: int | None
    place: str | None = None  # the other marketplace of a spread


class Facts(NamedTuple):
    """What a rule goes by beside the steps; None where it is not known."""

    bound: float | None = None
    reference: int | None = None  # the target, the average, or the record of all time until now
    has_moved: bool = False  # the price has ever been another
    rival: int | None = None  # the lowest price of the others, where only the cheapest rings
    abroad: Mapping[str, int] = {}  # for a spread: what it costs in the other marketplaces

    def allows(self, price: int) -> bool:
        """Tell whether no other product costs as little."""
        return self.rival is None or price < self.rival


def _judge(
    rule: AlertRule, told: int | None, steps: Iterable[Step], facts: Facts
) -> tuple[list[Rung], int | None]:
    """Return the steps for which a rule rings that is no event, and what to remember of it.

    `told` is what was remembered; None at the first look, with the present state as only step.
    """
    if rule.what in ("low", "high"):
        return _judge_record(rule, told, steps, facts)
    if rule.what == "spread":
        return _judge_spread(rule, told, steps, facts.abroad)
    if facts.bound is None:
        return [], told
    rung: list[Rung] = []
    told = ARMED if told is None else told
    for step in steps:
        if step.new is None:
            continue
        told = ARMED if step.is_back else told
        within = _is_beyond(rule, step.new, facts.bound)
        if within and (told == ARMED or _beats(rule, step.new, told)) and facts.allows(step.new):
            rung.append(Rung(step, facts.reference))
            told = step.new
        elif not _is_beyond(rule, step.new, facts.bound, slack=rule.margin):
            told = ARMED
    return rung, told


def _judge_record(
    rule: AlertRule, told: int | None, steps: Iterable[Step], facts: Facts
) -> tuple[list[Rung], int]:
    """Do so for a low or high of all time: remembered is the last one told or known."""
    first_look = told is None
    if told is None:
        told = ARMED if facts.reference is None else facts.reference
    rung: list[Rung] = []
    for step in steps:
        if step.new is None:
            continue
        if told == ARMED:
            told = step.new  # the first price there ever was beats none
            continue
        beats = _beats(rule, step.new, told)
        if first_look:  # the record may be the present price itself
            beats = facts.has_moved and _is_beyond(rule, step.new, told)
        if beats and facts.allows(step.new):
            rung.append(Rung(step, None if first_look else told))
            told = step.new
    return rung, told


def _judge_spread(
    rule: AlertRule, told: int | None, steps: Iterable[Step], abroad: Mapping[str, int]
) -> tuple[list[Rung], int | None]:
    """Do so for a spread: remembered is the last one told, in tenths of a per cent."""
    rung: list[Rung] = []
    bound, margin = 10 * float(rule.threshold or 0), 10 * rule.margin
    for step in steps:
        if not step.new or not abroad:
            continue
        told = ARMED if told is None else told
        spreads = {
            place: round(1000 * (max(step.new, there) / min(step.new, there) - 1))
            for place, there in abroad.items()
        }
        place = max(spreads, key=lambda one: (spreads[one], one))
        if spreads[place] >= bound and (told == ARMED or spreads[place] >= told + margin > told):
            rung.append(Rung(step, abroad[place], place))
            told = spreads[place]
        elif spreads[place] < bound - margin:
            told = ARMED
    return rung, told


def _is_beyond(rule: AlertRule, price: int, bound: float, slack: float = 0.0) -> bool:
    """Tell whether a price has come to a bound, or is not farther from it than so many per cent."""
    if rule.falls:
        return price <= bound * (1 + slack / 100)
    return price >= bound * (1 - slack / 100)


def _beats(rule: AlertRule, price: int, last: int) -> bool:
    """Tell whether a price goes by the margin beyond the last: many small steps add up."""
    if rule.falls:
        return price < last and price <= last * (1 - rule.margin / 100)
    return price > last and price >= last * (1 + rule.margin / 100)


def find_alerts(
    rules: Iterable[AlertRule],
    watch: Watch,
    before: Known | None,
    lesson: Lesson,
    others: Mapping[str, Known],
    abroad: Abroad,
) -> tuple[list[Alert], dict[str, int]]:
    """Return what rings for a product, and what to remember of each rule with a bound.

    `others` is what is known of the products that a rule with `cheapest` names, `abroad` of the
    same product elsewhere.
    """
    price, known = lesson.price, lesson.known
    if price is None or known.since is None:
        return [], known.told
    # Everything until then is old; at a first check, everything.
    checked_at = "9999"
    if before is not None and before.last_update is not None:
        checked_at = to_rfc3339(to_unix_ms(before.last_update))
    found: list[Alert] = []
    remembered: dict[str, int] = {}
    for rule in rules:
        if not _is_for(rule, watch):
            continue
        steps = _steps(rule, before, lesson.changes)
        facts = _facts(rule, watch, price, others, abroad)
        # A price type may be new to us, as when its offers were not bought before: with it comes
        # a history, as with a first check.
        is_new = before is None or rule.price_type not in before.prices
        if _is_event(rule):
            steps = [step for step in steps if not is_new or step.at > checked_at]
            rung = [Rung(one, one.old) for one in steps if _happens(rule, watch, one, facts)]
        else:
            key = _key(rule, facts.reference if rule.what == "target" else None)
            told = None if is_new else known.told.get(key)
            if told is None:
                steps = _present(rule, lesson, steps)
            rung, told = _judge(rule, told, steps, facts)
            if told is not None:
                remembered[key] = told
        found += [_alert(rule, watch, price, one) for one in rung]
    return found, remembered


def find_deal_alerts(rules: Iterable[AlertRule], deal: Deal) -> list[Alert]:
    """Return the alerts of a deal whose score reaches that of a rule."""
    return [
        Alert(
            asin=deal.asin,
            domain=deal.domain,
            currency=deal.currency,
            title=deal.title,
            rule=rule.name,
            what=rule.what,
            price_type=deal.price_type,
            changed_at=deal.created_at,
            observed_at=deal.timestamp,
            new_price=deal.current_price,
            reference_price=deal.original_price,
            change_percent=percent_change(deal.original_price, deal.current_price),
            deal_score=deal.deal_score,
            url=deal.url,
        )
        for rule in rules
        if rule.what == "score"
        and rule.price_type == deal.price_type
        and _applies(rule, deal.domain, deal.asin)
        and deal.deal_score >= (rule.threshold or 0)
    ]


def mates(rules: Iterable[AlertRule], domain: str, asins: Iterable[str]) -> set[str]:
    """Return the other products whose prices matter when these are checked."""
    checked = frozenset(asins)
    return {
        asin
        for rule in rules
        if rule.cheapest and rule.is_for_domain(domain) and checked & {*rule.asins}
        for asin in rule.asins
    } - checked


def _is_event(rule: AlertRule) -> bool:
    """Tell whether a rule goes by the change alone, and has no bound to be beyond."""
    return rule.what == "stock" or (rule.what in ("drop", "rise") and rule.against == "last")


def _applies(rule: AlertRule, domain: str, asin: str) -> bool:
    return rule.is_for_domain(domain) and (not rule.asins or asin in rule.asins)


def _is_for(rule: AlertRule, watch: Watch) -> bool:
    """Tell whether a rule says anything of a product."""
    if rule.what == "score" or not _applies(rule, watch.domain, watch.asin):
        return False
    return rule.what != "target" or (rule.threshold or watch.target_price) is not None


def _happens(rule: AlertRule, watch: Watch, step: Step, facts: Facts) -> bool:
    """Tell whether a change is the event that a rule waits for."""
    if step.new is None or not facts.allows(step.new):
        return False
    if (step.old is None) != (rule.what == "stock"):
        return False
    if step.old is None:
        return True
    bound = _away(rule, watch, step.old)
    return step.new <= bound if rule.falls else step.new >= bound


def _facts(
    rule: AlertRule, watch: Watch, price: Price, others: Mapping[str, Known], abroad: Abroad
) -> Facts:
    """Gather what a rule goes by beside the changes."""
    if rule.what == "spread":
        return Facts(abroad=abroad.offers(rule, watch.domain, watch.asin))
    bound: float | None = None
    reference: int | None = None
    if rule.what == "target":
        own = rule.threshold is None
        reference = watch.target_price if own else round(_amount(rule, watch))
        bound = reference
    elif not _is_event(rule):  # an average, or a record
        statistic = {"low": "min", "high": "max"}.get(rule.what, rule.against)
        reference = price.stats.get(statistic, {}).get(rule.price_type)
        if reference is not None and rule.what in ("drop", "rise"):
            bound = _away(rule, watch, reference)
    lowest, highest = (price.stats.get(name, {}).get(rule.price_type) for name in ("min", "max"))
    rival = _rival(rule, watch, others) if rule.cheapest else None
    return Facts(bound, reference, lowest != highest, rival)


def _rival(rule: AlertRule, watch: Watch, others: Mapping[str, Known]) -> int | None:
    """Return the lowest price of the other products that a rule names."""
    rivals = [others[asin] for asin in rule.asins if asin in others and asin != watch.asin]
    offers = (known.offer(rule.price_type) for known in rivals)
    return min((offer for offer in offers if offer is not None), default=None)


def _away(rule: AlertRule, watch: Watch, price: int) -> float:
    """Return what a price is once it has dropped or risen by the threshold."""
    threshold = rule.threshold
    share = threshold is not None and threshold.percent
    by = price * float(threshold or 0) / 100 if share else _amount(rule, watch)
    return price - by if rule.falls else price + by


def _amount(rule: AlertRule, watch: Watch) -> float:
    """Return a threshold that is an amount, in the smallest unit."""
    factor: int = 10 ** BY_CODE[watch.domain].minor_digits
    return float(rule.threshold or 0) * factor


def _steps(rule: AlertRule, before: Known | None, changes: Iterable[Change]) -> list[Step]:
    """Return the changes of a rule's price type."""
    steps: list[Step] = []
    point = before.prices.get(rule.price_type) if before else None
    gone_at = _at(point) if point and point.price is None else None
    for change in changes:
        if change.price_type != rule.price_type:
            continue
        old = with_shipping(change.old_price, change.old_shipping)
        new = with_shipping(change.new_price, change.new_shipping)
        is_back = gone_at is not None and _seconds(gone_at, change.changed_at) >= _DAY_S
        steps.append(Step(change.changed_at, old, new, is_back))
        gone_at = change.changed_at if new is None else None
    return steps


def _at(point: Point) -> str:
    return to_rfc3339(to_unix_ms(point.minute))


def _seconds(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def _present(rule: AlertRule, lesson: Lesson, steps: list[Step]) -> list[Step]:
    """Return the present state as if it were a change: what a first look sees."""
    point = lesson.known.prices.get(rule.price_type)
    if point is None:
        return []
    if steps and steps[-1].at == _at(point):
        return steps[-1:]
    return [Step(_at(point), None, with_shipping(point.price, point.shipping))]


def _key(rule: AlertRule, target: int | None) -> str:
    """Return what a rule's memory goes by: short, and another one when the rule says another thing.

    What it is called and for which products it is meant does not matter to a single product.
    """
    says = (rule.what, rule.threshold, rule.against, rule.price_type, rule.margin, rule.cheapest)
    share = rule.threshold is not None and rule.threshold.percent
    return f"{zlib.crc32(repr((says, share, target)).encode()):x}"


def _alert(rule: AlertRule, watch: Watch, price: Price, rung: Rung) -> Alert:
    old, new = rung.step.old, rung.step.new
    return Alert(
        asin=price.asin,
        domain=price.domain,
        currency=price.currency,
        title=price.title,
        rule=rule.name,
        what=rule.what,
        against=rule.against if rule.what in ("drop", "rise") else rung.place,
        price_type=SERIES[rule.price_type].name,
        changed_at=rung.step.at,
        observed_at=price.timestamp,
        old_price=old,
        new_price=new,
        target_price=watch.target_price,
        reference_price=rung.reference,
        change_percent=percent_change(old if rung.reference is None else rung.reference, new),
        url=price.url,
    )
