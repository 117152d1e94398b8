"""What Kibana asks Elasticsearch for a panel, and the rows that it makes of the answer.

Made from the saved objects alone, as Kibana does: Lens columns become nested aggregations, and
formulas are worked out from their syntax trees afterwards. Only what our panels use is here.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

Json = dict[str, Any]
Row = dict[str, Any]  # by column id

_BARS = 75
_DURATION = re.compile(r"now-(\d+)([hd])")
_CLAUSE = re.compile(r'(not )?("[^"]+"|[\w.]+)\s*(:|>|<)\s*(\S+)')
_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "pick_max": max,
}
_METRICS = {"sum": "sum", "average": "avg", "min": "min", "max": "max"}


class Search(NamedTuple):
    """One layer of a panel: where to ask, what, and how to read the answer."""

    dashboard: str
    panel: str
    target: str
    body: Json
    columns: Mapping[str, Json]
    shown: Sequence[str]  # the columns that people see
    now: datetime

    def rows(self, answer: Json) -> list[Row]:
        """Return the table that is drawn, a row for each innermost bucket."""
        rows = list(_rows(answer["aggregations"]["all"], _buckets(self.columns), self.columns))
        for row in rows:
            for id_, column in self.columns.items():
                if column["operationType"] == "now":
                    row[id_] = self.now.timestamp() * 1000
            for id_, column in self.columns.items():
                if column["operationType"] == "math":
                    row[id_] = _calculate(column["params"]["tinymathAst"], row)
            for id_, column in self.columns.items():
                if column["operationType"] == "formula":
                    row[id_] = row[column["references"][0]]
        return rows


def searches(objects: Sequence[Json], now: datetime) -> Iterator[Search]:
    """Yield the search of each layer of each panel, as of a time."""
    views = {one["id"]: one["attributes"] for one in objects if one["type"] == "index-pattern"}
    for one in objects:
        if one["type"] == "dashboard":
            yield from _of_dashboard(one, views, now)


def _of_dashboard(dashboard: Json, views: Mapping[str, Json], now: datetime) -> Iterator[Search]:
    about = dashboard["attributes"]
    known = {each["name"]: each["id"] for each in dashboard["references"]}
    span = _span(about["timeFrom"])
    for panel in json.loads(about["panelsJSON"]):
        state = panel["embeddableConfig"]["attributes"]["state"]
        layers = state["datasourceStates"]["formBased"]["layers"]
        for id_, layer in layers.items():
            name = f"{panel['panelIndex']}:indexpattern-datasource-layer-{id_}"
            view = views[known[name]]
            columns = {each: layer["columns"][each] for each in layer["columnOrder"]}
            matching = [_kql(state["query"]["query"])]
            if time := view.get("timeFieldName"):
                since = {"gte": (now - span).isoformat(), "lte": now.isoformat()}
                matching.append({"range": {time: since}})
            inner = _aggregations(_buckets(columns), columns, span)
            body = {
                "size": 0,
                "query": {"bool": {"filter": matching}},
                "aggs": {
                    "all": {"filter": {"match_all": {}}, **({"aggs": inner} if inner else {})}
                },
            }
            shown = [
                each
                for each in columns
                if re.search(rf'"{each}"', json.dumps(state["visualization"]))
            ]
            yield Search(about["title"], panel["title"], view["title"], body, columns, shown, now)


def _span(start: str) -> timedelta:
    found = _DURATION.fullmatch(start)
    assert found, start
    return timedelta(hours=int(found[1]) * (24 if found[2] == "d" else 1))


def _kql(text: str) -> Json:
    """Translate the part of Kibana's query language that the panels use."""
    clauses: list[Json] = []
    for part in filter(None, text.split(" and ")):
        found = _CLAUSE.fullmatch(part)
        assert found, f"not understood: {part}"
        negated, field, sign, value = found.groups()
        field = field.strip('"')
        clause: Json = {"match": {field: value}}
        if value == "*":
            clause = {"exists": {"field": field}}
        elif sign != ":":
            clause = {"range": {field: {"gt" if sign == ">" else "lt": float(value)}}}
        clauses.append({"bool": {"must_not": [clause]}} if negated else clause)
    return {"bool": {"filter": clauses}}


def _buckets(columns: Mapping[str, Json]) -> list[str]:
    return [id_ for id_, column in columns.items() if column["isBucketed"]]


def _aggregations(buckets: Sequence[str], columns: Mapping[str, Json], span: timedelta) -> Json:
    metrics = {
        id_: metric
        for id_, column in columns.items()
        if not column["isBucketed"] and (metric := _metric(column))
    }
    if not buckets:
        return metrics
    first, *rest = buckets
    bucket, order = _bucket(columns[first], columns, span)
    return {first: bucket | {"aggs": _aggregations(rest, columns, span) | order}} | metrics


def _bucket(column: Json, columns: Mapping[str, Json], span: timedelta) -> tuple[Json, Json]:
    """Return a bucket's aggregation, and what must be worked out to put its values in order."""
    params = column["params"]
    if column["operationType"] == "date_histogram":
        every = params["interval"]
        if every == "auto":
            every = f"{round(span.total_seconds() / _BARS)}s"
        return {"date_histogram": {"field": column["sourceField"], "fixed_interval": every}}, {}
    if column["operationType"] == "filters":
        cases = {case["label"]: _kql(case["input"]["query"]) for case in params["filters"]}
        return {"filters": {"filters": cases}}, {}
    assert column["operationType"] == "terms"
    shown = columns.get(params["orderBy"].get("columnId", ""))
    figure = shown or params["orderAgg"]
    by = "_count" if figure["operationType"] == "count" else "order"
    terms = {"field": column["sourceField"], "size": params["size"]}
    ordered = {"terms": terms | {"order": {by: params["orderDirection"]}}}
    return ordered, {} if by == "_count" else {"order": _metric(figure)}


def _metric(column: Json) -> Json | None:
    kind, field = column["operationType"], column.get("sourceField")
    if kind in ("math", "formula", "now"):
        return None
    params = column["params"]
    if kind == "percentile":
        inner: Json = {"percentiles": {"field": field, "percents": [params["percentile"]]}}
    elif kind == "count":
        inner = {"filter": {"match_all": {}}}
    elif kind == "last_value":
        newest = [{params["sortField"]: "desc"}]
        inner = {"top_hits": {"size": 1, "sort": newest, "_source": False, "fields": [field]}}
    else:
        inner = {_METRICS[kind]: {"field": field}}
    if "filter" not in column:
        return inner
    return {"filter": _kql(column["filter"]["query"]), "aggs": {"it": inner}}


def _rows(bucket: Json, buckets: Sequence[str], columns: Mapping[str, Json]) -> Iterator[Row]:
    if not buckets:
        yield {id_: _read(bucket[id_]) for id_ in columns if id_ in bucket}
        return
    first, *rest = buckets
    found = bucket[first]["buckets"]
    named = found.items() if isinstance(found, dict) else ((each["key"], each) for each in found)
    for key, each in named:
        for row in _rows(each, rest, columns):
            yield {first: key} | row


def _read(metric: Json) -> Any:
    metric = metric.get("it", metric)
    if "hits" in metric:
        hits = metric["hits"]["hits"]
        return next(iter(hits[0]["fields"].values()))[0] if hits else None
    if "values" in metric:
        return next(iter(metric["values"].values()))
    return metric["value"] if "value" in metric else metric["doc_count"]


def _calculate(tree: Any, row: Row) -> float | None:
    """Do a formula's arithmetic as Kibana does it: with nothing, it comes to nothing."""
    if isinstance(tree, int):
        return tree
    if isinstance(tree, str):
        return row[tree]  # type: ignore[no-any-return]
    left, right = (_calculate(each, row) for each in tree["args"])
    if tree["name"] == "defaults":
        return right if left is None else left
    if left is None or right is None or (tree["name"] == "divide" and right == 0):
        return None
    return _ARITHMETIC[tree["name"]](left, right)
