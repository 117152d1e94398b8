"""Expressions read like what they calculate, in Python and as formulas of Lens."""

from __future__ import annotations

import pytest

from pricecheck.kibana.expressions import (
    Expression,
    Now,
    amount,
    count,
    either,
    highest,
    later,
    leaves,
    lowest,
    newest,
    percentile,
    total,
)


@pytest.mark.parametrize(
    ("expression", "formula"),
    [
        (count(), "count()"),
        (total("a"), "sum(a)"),
        (count("success: false") / count(), "count(kql='success: false') / count()"),
        (total("a") / (highest("b") * 1440), "sum(a) / (max(b) * 1440)"),
        (lowest("a") / lowest("b") - 1, "(min(a) / min(b)) - 1"),
        (total("a") + 1, "sum(a) + 1"),
        (percentile("a", 95), "percentile(a, percentile=95)"),
        (Now() - later(either(highest("t"), 0), 1), "now() - pick_max(defaults(max(t), 0), 1)"),
        (newest("a", "t"), "last_value(a, kql='\"a\": *')"),
    ],
)
def test_an_expression_is_written_as_a_formula(expression: Expression, formula: str) -> None:
    """People who open the panel in Kibana see the formula, and can change it."""
    assert str(expression) == formula


def test_prices_are_told_in_their_currency() -> None:
    """Our integers are cents; the yen has none."""
    assert str(amount(lowest("p"))) == (
        "defaults(min(p, kql='not currency: JPY'), min(p, kql='currency: JPY') * 100) / 100"
    )


def test_leaves_are_what_elasticsearch_is_asked_for() -> None:
    """In reading order; what stands there twice comes twice."""
    expression = total("a") / (highest("b") + total("a")) * 2

    assert list(leaves(expression)) == [total("a"), highest("b"), total("a")]
