"""`pricecheck plan`: what the tokens will be spent on, and what comes of it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import click

from pricecheck.cli._format import amount, in_colour, print_table
from pricecheck.cli._options import (
    Figure,
    config_option,
    domain_option,
    json_option,
    say_simulated,
    stored,
)
from pricecheck.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pricecheck.adaptive import AdaptivePlanner, Seen
    from pricecheck.age import Outlook, Terms
    from pricecheck.config import Settings
    from pricecheck.forecast import Forecast
    from pricecheck.keepa.tables import Marketplace
    from pricecheck.outbox import Outbox
    from pricecheck.watchlist import Watch

_USUAL_REFILL: Final = 20.0
_DAY_S: Final = 86_400
_HEIGHT: Final = 18
_WIDEST: Final = 100


@click.command()
@config_option
@click.argument("asin", required=False)
@domain_option
@click.option(
    "--refill",
    type=Figure(min=0, min_open=True),
    metavar="TOKENS",
    help="Tokens a minute of the Keepa plan.  [default: as the last answer said, else 20]",
)
@json_option
def command(
    settings: Settings,
    asin: str | None,
    market: Marketplace | None,
    refill: float | None,
    as_json: bool,
) -> None:
    """Show what the tokens will be spent on, and how right the prices will be.

    Compares fixed intervals with the adaptive plan, for other requests and other Keepa plans.
    With an ASIN, explains when that product is checked next, and why. Spends no token; the
    daemon need not run.

    \b
    needs  tokens a day that fixed intervals take, and that as a share of the budget
    fixed  the age with fixed intervals, stretched alike until they fit the budget
    age    how long a shown price has been wrong, unseen: the mean over products and time
    right  the share of the time for which a shown price is the real one
    delay  from a price change to the check that sees it; longest: the longest wait for one
    """
    if market and asin is None:
        raise click.UsageError("--domain goes with an ASIN.")
    plan = _Plan(settings, refill)
    say_simulated(settings)
    if asin is not None:
        _explain(plan, asin, market, as_json=as_json)
    else:
        _show(plan, as_json=as_json)


class _Plan:
    """The watchlist with what is stored of it, and the budget."""

    def __init__(self, settings: Settings, refill: float | None) -> None:
        from pricecheck.adaptive import AdaptivePlanner
        from pricecheck.planner import Purse
        from pricecheck.watched import watched

        prices = settings.config.prices
        self.settings = settings
        self.watches: Sequence[Watch] = watched(settings).watches
        stored_of, last_refill = _stored(settings)
        products = {(watch.domain, watch.asin) for watch in self.watches}
        self.known = {who: seen for who, seen in stored_of.items() if who in products}
        self.refill = refill or last_refill or _USUAL_REFILL
        self.told = "assumed; --refill tells another"
        if refill or last_refill:
            self.told = "as --refill tells" if refill else "as Keepa told last"
        self.others = settings.config.others_a_minute(settings.config.prior_costs)
        self.sizes = Counter(watch.extras for watch in self.watches)
        self.costs = {extras: settings.config.costs.check(extras) for extras in self.sizes}
        self.planner: AdaptivePlanner = AdaptivePlanner(
            self.watches, self._seen(), min_every_s=prices.min_every, reserve=prices.reserve
        )
        purse = Purse(0, 60 * self.refill, self.refill, self.others, self.costs)
        self.planner.steer(settings.config.time.now_ms(), purse)

    def forecast(
        self, name: str, *, refill: float | None = None, cost: float | None = None
    ) -> Forecast:
        """Foresee a Keepa plan, all checks at one cost; by default, this one at their own costs."""
        from pricecheck.forecast import forecast

        return forecast(
            self.planner.classes(),
            name,
            refill=refill or self.refill,
            others=self.others,
            cost=cost,
        )

    def _seen(self) -> Iterator[Seen]:
        """Yield what is known of each product; the unknown ones as of the common rate."""
        from pricecheck.adaptive import Seen

        for watch in self.watches:
            yield self.known.get((watch.domain, watch.asin)) or Seen(watch.domain, watch.asin, 0)


def _stored(settings: Settings) -> tuple[dict[tuple[str, str], Seen], float | None]:
    """Return what is stored of products, and the refill that Keepa told last; nothing at first."""
    from pricecheck.collect.prices import seen_of
    from pricecheck.errors import NoStoreError

    try:
        with stored(settings) as outbox:
            known = {(seen.domain, seen.asin): seen for seen in seen_of(outbox)}
            return known, _last_refill(outbox)
    except NoStoreError:
        return {}, None


def _last_refill(outbox: Outbox) -> float | None:
    import msgspec

    from pricecheck.outbox import lookup

    for body in lookup.latest(outbox, "metric", limit=20):
        rate = msgspec.json.decode(body).get("refill_rate")
        if rate:
            return float(rate)
    return None


def _show(plan: _Plan, *, as_json: bool) -> None:
    from pricecheck.forecast import PLANS, PROFILES

    now = plan.forecast("as configured")
    alike = {float(cost) for cost in plan.costs.values()}
    profiles = [] if len(alike) < 2 and alike <= set(dict(PROFILES).values()) else [now]
    profiles += [plan.forecast(name, cost=cost) for name, cost in PROFILES]
    plans = [plan.forecast(f"{refill}", refill=refill) for refill in PLANS]
    if as_json:
        import msgspec

        shown = {
            "mode": plan.settings.config.prices.mode,
            "products": len(plan.watches),
            "asked": {extras.name: size for extras, size in plan.sizes.items()},
            "now": now,
            "requests": profiles,
            "plans": plans,
        }
        click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2))
        return
    _summarise(plan, now)
    click.echo(
        f"\nOn this plan, by what is asked of each product ({now.refill:g} tokens a minute):"
    )
    _table("Request", profiles)
    click.echo(f"\nBy Keepa plan ({_tokens(now.cost)} a check):")
    _table("Refill", plans)
    if plan.watches:
        _plot(plan)


def _summarise(plan: _Plan, now: Forecast) -> None:
    from pricecheck.needs import discovery_a_day

    prices = plan.settings.config.prices
    click.echo(
        f"products   {len(plan.watches):,}, {len(plan.known):,} of them known; "
        f"{plan.planner.prior:.2g} changes a day on average"
    )
    click.echo(
        f"tokens     {now.refill:g} a minute ({plan.told}), {now.refill * 1440:,.0f} a day; "
        f"deals and best sellers take {plan.others * 1440:,.0f}"
    )
    for extras, size in plan.sizes.items():
        cost = plan.costs[extras]
        click.echo(f"asked      of {size:,}: {extras.name}, {_tokens(cost)} a check")
    click.echo(
        f"fixed      {now.need:,.0f} tokens a day for every product at its own interval: "
        f"{_share(now.share)} of the budget"
    )
    for name, most in discovery_a_day(plan.settings.config).items():
        click.echo(f"discovery  {name}: up to {most:,.0f} tokens a day, of what is left over")
    mode = "" if prices.mode == "adaptive" else ' (not in use: prices.mode = "fixed")'
    click.echo(
        f"adaptive   {now.adaptive.tokens:,.0f} tokens a day in {now.adaptive.checks:,.0f} checks: "
        f"age {_hours(now.adaptive.age)} instead of {_hours(now.fixed.age)}{mode}"
    )
    if now.shortfall:
        click.secho(
            f"           {now.shortfall:,.0f} tokens a day are missing to check every product "
            "within its `every`: the heaviest come first",
            fg="yellow",
        )


def _tokens(cost: float) -> str:
    return f"{cost:.3g} token{'s' * (cost != 1)}"


def _share(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 2 else f"{share:,.1f} times"


def _table(first: str, rows: Sequence[Forecast]) -> None:
    headers = (first, "Cost", "Needs", "Budget", "Fixed", "Age", "Right", "Delay", "Longest")
    print_table(headers, [_row(row) for row in rows])


def _row(row: Forecast) -> tuple[str, ...]:
    found: Outlook = row.adaptive
    return (
        row.name,
        f"{row.cost:.3g}",
        f"{row.need:,.0f}",
        _share(row.share),
        _hours(row.fixed.age),
        _hours(found.age),
        f"{100 * found.right:.1f} %",
        _hours(found.delay),
        _hours(found.longest_wait),
    )


def _hours(days: float) -> str:
    """Write a time in its two largest units."""
    seconds = days * _DAY_S
    unit = 3600 if days >= 1 else 60 if seconds >= 3600 else 1
    return format_duration(round(seconds / unit) * unit)


def _plot(plan: _Plan) -> None:
    """Plot the age against the size of the Keepa plan, for each request."""
    import shutil

    import plotext

    from pricecheck.forecast import PROFILES

    figure = plotext.figure
    figure.clear()
    figure.theme("simple")
    figure.plot_size(min(shutil.get_terminal_size().columns, _WIDEST), _HEIGHT)
    figure.title("age in hours by tokens a minute, adaptive")
    sizes = [plan.refill * share / 8 for share in range(1, 25)]
    for name, cost in PROFILES:
        ages = [plan.forecast(name, refill=size, cost=cost).adaptive.age * 24 for size in sizes]
        figure.draw(figure.signal(sizes, ages, marker="braille").lines().label(name))
    figure.legend()
    click.echo()
    figure.show(colorless=not in_colour())


def _explain(plan: _Plan, asin: str, market: Marketplace | None, *, as_json: bool) -> None:
    from pricecheck.errors import InputError
    from pricecheck.watchlist import parse_asin

    asin = parse_asin(asin)
    found = [
        watch for watch in plan.watches if watch.asin == asin and market in (None, _market(watch))
    ]
    if not found:
        raise InputError(
            f"{asin} is not on the watchlist", remedy=f"`pricecheck watch add {asin}` puts it there"
        )
    reasons = [_Reason(plan, watch) for watch in found]
    if as_json:
        import msgspec

        shown = [reason.fields() for reason in reasons]
        click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2))
        return
    click.echo("\n\n".join("\n".join(reason.lines()) for reason in reasons))


def _market(watch: Watch) -> Marketplace:
    from pricecheck.keepa.tables import BY_CODE

    return BY_CODE[watch.domain]


class _Reason:
    """Why one product is checked when it is."""

    def __init__(self, plan: _Plan, watch: Watch) -> None:
        from pricecheck.age import Terms
        from pricecheck.economy import nearness

        known = plan.known.get((watch.domain, watch.asin))
        prices = plan.settings.config.prices
        self.watch = watch
        self.seen = known
        self.price = known.price if known else None
        self.rhythm = known.rhythm if known else None
        prior = plan.planner.prior
        self.nearness = nearness(self.price, watch.target_price)
        self.terms: Terms = Terms(
            rate=self.rhythm.rate(prior) if self.rhythm else prior,
            weight=watch.weight * self.nearness,
            cost=plan.costs[watch.extras],
            floor=min(prices.min_every, watch.every_s) / _DAY_S,
            ceiling=watch.every_s / _DAY_S,
        )
        self.settled = plan.planner.settlement
        self.fixed = prices.mode == "fixed"
        self.wait = self.terms.ceiling if self.fixed else self.settled.wait(self.terms)

    def next_ms(self) -> int | None:
        """Return when it is due, Unix ms; None for at once."""
        if self.seen is None:
            return None
        return self.seen.checked_at + round(self.wait * _DAY_S) * 1000

    def why(self) -> str:
        """Return what decides the wait."""
        if self.fixed:
            return 'prices.mode = "fixed": its `every`'
        if self.wait > self.terms.ceiling:
            return "then a check is worth its tokens, too few of them for its `every`"
        if self.wait == self.terms.ceiling:
            return "its `every`: by worth alone it would wait longer"
        if self.wait <= self.terms.floor:
            return "prices.min_every: there are tokens enough"
        return "then a check is worth its tokens"

    def lines(self) -> list[str]:
        """Return it for people."""
        from pricecheck.age import mean_age, right_share
        from pricecheck.keepa.time import to_rfc3339

        market = _market(self.watch)
        terms = self.terms
        if self.rhythm:
            learned = (
                f"{self.rhythm.changes:.1f} in {self.rhythm.days:.1f} days, "
                f"lately {self.rhythm.recent_changes:.1f} in {self.rhythm.recent_days:.1f}"
            )
        else:
            learned = "nothing is known of it yet; so it is with the others"
        near = ""
        if self.nearness > 1:
            near = (
                f", times {self.nearness:.2g} for its price {amount(self.price, market.currency)}"
            )
            near += f" is near its target {amount(self.watch.target_price, market.currency)}"
        due = self.next_ms()
        last = f"last {to_rfc3339(self.seen.checked_at)}, " if self.seen else "never yet, "
        return [
            f"{self.watch.asin} on amazon.{market.tld}",
            f"changes   {terms.rate:.2g} a day ({learned})",
            f"weight    {terms.weight:.3g}: {self.watch.weight:g} of the watchlist{near}",
            f"check     {_tokens(terms.cost)} ({self.watch.extras.name}), "
            f"every {_hours(self.wait)}: {self.why()}",
            f"limits    not before {_hours(terms.floor)}, not after {_hours(terms.ceiling)}",
            f"next      {last}next {'at once' if due is None else 'about ' + to_rfc3339(due)}",
            f"expect    right {100 * right_share(self.wait, terms.rate):.1f} % of the time, "
            f"age {_hours(mean_age(self.wait, terms.rate))}, "
            f"a change is seen after {_hours(self.wait / 2)}",
        ]

    def fields(self) -> dict[str, object]:
        """Return it for programs; days and tokens."""
        from pricecheck.age import mean_age, right_share

        return {
            "asin": self.watch.asin,
            "domain": self.watch.domain,
            "rate": self.terms.rate,
            "weight": self.terms.weight,
            "asked": self.watch.extras.name,
            "cost": self.terms.cost,
            "wait_days": self.wait,
            "why": self.why(),
            "checked_at_ms": self.seen.checked_at if self.seen else None,
            "next_at_ms": self.next_ms(),
            "right": right_share(self.wait, self.terms.rate),
            "age_days": mean_age(self.wait, self.terms.rate),
        }
