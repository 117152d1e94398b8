"""A panel as the state of Kibana's Lens: data-source columns, and how they are drawn.

Lens calls each bucket and each value a column. A formula is one column that refers to another
with its arithmetic, which refers to one for each aggregation in it. The state is that of Kibana
8.9, which every later version reads.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from pricecheck.kibana.expressions import Aggregation, Call, Expression, Now, leaves
from pricecheck.kibana.panels import Bucket, Cases, Layer, Panel, Time, Top, Value

State = dict[str, Any]

DOCUMENTS: Final = "___records___"
"""The field that Lens counts documents by."""

_NAMESPACE: Final = uuid.UUID("5d1e7f0a-6c1b-4c0e-9d0f-3a0c6f1b7a51")

_SERIES: Final = {
    "area": "area",
    "bars": "bar_stacked",
    "lines": "line",
    "steps": "line",
    "rows": "bar_horizontal_stacked",
}
_VISUALIZATIONS: Final = {"pie": "lnsPie", "table": "lnsDatatable", "figure": "lnsMetric"}


def stable_id(*path: str) -> str:
    """Return the same UUID for the same path, always; none of them is the beginning of another."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(path)))


def attributes(panel: Panel, path: str, data_views: dict[str, str]) -> State:
    """Return the panel as attributes of a Lens object.

    `path` makes its ids unique; `data_views` has the id of the data view of each kind.
    """
    layers = [_Layer(layer, f"{path}/{number}") for number, layer in enumerate(panel.layers)]
    return {
        "title": panel.title,
        "description": "",
        "type": "lens",
        "visualizationType": _VISUALIZATIONS.get(panel.look, "lnsXY"),
        "state": {
            "visualization": _visualization(panel, layers),
            "query": {"query": panel.where, "language": "kuery"},
            "filters": [],
            "datasourceStates": {
                "formBased": {"layers": {layer.id: layer.state() for layer in layers}}
            },
            "internalReferences": [],
            "adHocDataViews": {},
        },
        "references": [
            {
                "type": "index-pattern",
                "id": data_views[layer.of],
                "name": f"indexpattern-datasource-layer-{layer.id}",
            }
            for layer in layers
        ],
    }


class _Layer:
    """The columns of one layer, by their ids."""

    def __init__(self, layer: Layer, path: str) -> None:
        self.id = stable_id(path)
        self.of = layer.of
        self.buckets = [stable_id(path, "by", str(n)) for n, _ in enumerate(layer.by)]
        self.values = [stable_id(path, "value", value.label) for value in layer.values]
        self.labels = dict(zip((value.label for value in layer.values), self.values, strict=True))
        self._plain = {
            value.shows: id_ for value, id_ in zip(layer.values, self.values, strict=True)
        }
        self.columns: dict[str, State] = {}
        for id_, bucket in zip(self.buckets, layer.by, strict=True):
            self.columns[id_] = self._bucket(bucket, layer)
        for id_, value in zip(self.values, layer.values, strict=True):
            self.columns |= _value(id_, value)

    def state(self) -> State:
        """Return the layer as Lens keeps it."""
        return {
            "columns": self.columns,
            "columnOrder": list(self.columns),
            "incompleteColumns": {},
            "sampling": 1,
            "ignoreGlobalFilters": False,
        }

    def _bucket(self, bucket: Bucket, layer: Layer) -> State:
        if isinstance(bucket, Time):
            return {
                "label": bucket.field,
                "customLabel": True,
                "dataType": "date",
                "operationType": "date_histogram",
                "sourceField": bucket.field,
                "isBucketed": True,
                "scale": "interval",
                "params": {
                    "interval": bucket.every,
                    "includeEmptyRows": True,
                    "dropPartials": False,
                },
            }
        if isinstance(bucket, Cases):
            return {
                "label": bucket.label,
                "customLabel": True,
                "dataType": "string",
                "operationType": "filters",
                "isBucketed": True,
                "scale": "ordinal",
                "params": {
                    "filters": [
                        {"label": label, "input": {"query": kql, "language": "kuery"}}
                        for label, kql in bucket.cases
                    ]
                },
            }
        return self._top(bucket, layer)

    def _top(self, bucket: Top, layer: Layer) -> State:
        by = bucket.by or layer.values[0].shows
        if shown := self._plain.get(by):
            order: State = {"type": "column", "columnId": shown}
        else:  # a figure that is not shown has to be said in full
            assert isinstance(by, Aggregation)
            order = {"type": "custom"}
        return {
            "label": bucket.label,
            "customLabel": True,
            "dataType": "string",
            "operationType": "terms",
            "sourceField": bucket.field,
            "isBucketed": True,
            "scale": "ordinal",
            "params": {
                "size": bucket.size,
                "orderBy": order,
                **({"orderAgg": _aggregation(by, "")} if order["type"] == "custom" else {}),
                "orderDirection": "asc" if bucket.ascending else "desc",
                "otherBucket": False,
                "missingBucket": False,
                "parentFormat": {"id": "terms"},
                "include": [],
                "exclude": [],
                "includeIsRegex": False,
                "excludeIsRegex": False,
            },
        }


def _value(id_: str, value: Value) -> dict[str, State]:
    """Return the columns of a value: one, or those of a formula."""
    format_: State = {}
    if value.percent or value.decimals:
        kind = "percent" if value.percent else "number"
        format_ = {"format": {"id": kind, "params": {"decimals": value.decimals}}}
    if isinstance(value.shows, Aggregation):
        column = _aggregation(value.shows, value.label)
        column["params"] |= format_
        return {id_: column}
    columns: dict[str, State] = {}
    names: dict[Aggregation | Now, str] = {}
    part = f"Part of {value.label}"
    for leaf in leaves(value.shows):
        if leaf not in names:
            names[leaf] = f"{id_}X{len(names)}"
            columns[names[leaf]] = (
                _aggregation(leaf, part)
                if isinstance(leaf, Aggregation)
                else (_column(part, "now", references=[]))
            )
    arithmetic = f"{id_}X{len(names)}"
    columns[arithmetic] = _column(
        part,
        "math",
        references=list(names.values()),
        params={"tinymathAst": _syntax_tree(value.shows, names)},
    )
    formula = {"formula": str(value.shows), "isFormulaBroken": False, **format_}
    return {
        id_: _column(value.label, "formula", references=[arithmetic], params=formula),
        **columns,
    }


def _aggregation(figure: Expression, label: str) -> State:
    assert isinstance(figure, Aggregation)
    column = _column(label, figure.function)
    column["sourceField"] = figure.field or DOCUMENTS
    column["params"] = {"emptyAsNull": False} if figure.function in ("count", "sum") else {}
    if figure.where:
        column["filter"] = {"query": figure.where, "language": "kuery"}
    if figure.percentile:
        column["params"]["percentile"] = figure.percentile
    if figure.newest_by:
        # Only so does Kibana ask in a way that Elasticsearch's core understands.
        column["params"] |= {"sortField": figure.newest_by, "showArrayValues": True}
        column |= {"dataType": "string", "scale": "ordinal"}
    elif figure.field in ("timestamp", "observed_at"):
        column["dataType"] = "date"
    return column


def _column(label: str, operation: str, **more: Any) -> State:
    return {
        "label": label,
        "customLabel": True,
        "dataType": "number",
        "operationType": operation,
        "isBucketed": False,
        "scale": "ratio",
        **more,
    }


def _syntax_tree(expression: Expression, names: dict[Aggregation | Now, str]) -> Any:
    if isinstance(expression, int):
        return expression
    if not isinstance(expression, Call):
        return names[expression]
    arguments = [_syntax_tree(each, names) for each in expression.arguments]
    return {"type": "function", "name": expression.name, "args": arguments}


def _visualization(panel: Panel, layers: list[_Layer]) -> State:
    if panel.look == "table":
        return _table(panel, layers[0])
    if panel.look == "pie":
        return _pie(layers[0])
    if panel.look == "figure":
        [layer] = layers
        return {
            "layerId": layer.id,
            "layerType": "data",
            "metricAccessor": layer.values[0],
        }
    return _chart(panel, layers)


def _table(panel: Panel, layer: _Layer) -> State:
    state: State = {
        "layerId": layer.id,
        "layerType": "data",
        "columns": [{"columnId": id_} for id_ in (*layer.buckets, *layer.values)],
        "paging": {"size": 10, "enabled": True},
    }
    if panel.sort:
        label, direction = panel.sort
        state["sorting"] = {"columnId": layer.labels[label], "direction": direction}
    return state


def _pie(layer: _Layer) -> State:
    slices = {
        "layerId": layer.id,
        "layerType": "data",
        "primaryGroups": layer.buckets,
        "metrics": layer.values,
        "numberDisplay": "percent",
        "categoryDisplay": "default",
        "legendDisplay": "show",
        "nestedLegend": False,
    }
    return {"shape": "pie", "layers": [slices]}


def _chart(panel: Panel, layers: list[_Layer]) -> State:
    series = _SERIES[panel.look]
    drawn = [
        {
            "layerId": layer.id,
            "layerType": "data",
            "seriesType": series,
            "xAccessor": layer.buckets[-1],
            **({"splitAccessor": layer.buckets[-2]} if len(layer.buckets) > 1 else {}),
            "accessors": layer.values,
            "position": "top",
            "showGridlines": False,
        }
        for layer in layers
    ]
    titles = {"x": False, "yLeft": False, "yRight": False}
    state = {
        "preferredSeriesType": series,
        "layers": drawn,
        "legend": {"isVisible": True, "position": "bottom"},
        "valueLabels": "hide",
        "axisTitlesVisibilitySettings": titles,
        "fittingFunction": {"steps": "Carry", "lines": "Linear"}.get(panel.look, "None"),
    }
    # A price holds until the next change.
    return state | ({"curveType": "CURVE_STEP_AFTER"} if panel.look == "steps" else {})
