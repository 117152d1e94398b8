# ruff: noqa: N815  # the names are Kibana's
"""What Kibana keeps of our objects, as strict structs: a field it does not know is an error.

Found in the saved-object schemas of Kibana's own source (its dashboards forbid unknown fields)
and in the dashboards that Elastic publishes with its integrations, all of 8.9.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Json = dict[str, Any]


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    """An object without any other fields."""


class Reference(Strict):
    type: Literal["index-pattern", "tag"]
    id: str
    name: str


class SavedObject(Strict):
    type: Literal["index-pattern", "tag", "dashboard"]
    id: str
    attributes: Json
    references: list[Reference]
    coreMigrationVersion: str
    typeMigrationVersion: str
    managed: bool


class DataView(Strict):
    title: str
    name: str
    allowNoIndex: bool
    fields: str
    fieldAttrs: str
    fieldFormatMap: str
    runtimeFieldMap: str
    sourceFilters: str
    typeMeta: str
    timeFieldName: str | None = None


class Tag(Strict):
    name: str
    description: str
    color: str


class SearchSource(Strict):
    searchSourceJSON: str


class RefreshInterval(Strict):
    pause: bool
    value: int


class ControlGroup(Strict):
    controlStyle: Literal["oneLine", "twoLine"]
    chainingSystem: Literal["HIERARCHICAL", "NONE"]
    ignoreParentSettingsJSON: str
    panelsJSON: str


class Dashboard(Strict):
    title: str
    description: str
    kibanaSavedObjectMeta: SearchSource
    optionsJSON: str
    panelsJSON: str
    timeRestore: bool
    timeFrom: str
    timeTo: str
    refreshInterval: RefreshInterval
    controlGroupInput: ControlGroup | None = None


class OptionsList(Strict):
    id: str
    fieldName: str
    title: str
    selectedOptions: list[str]
    singleSelect: bool
    enhancements: Json


class Control(Strict):
    type: Literal["optionsListControl"]
    order: int
    width: Literal["small", "medium", "large"]
    grow: bool
    explicitInput: OptionsList


class Grid(Strict):
    x: int
    y: int
    w: int
    h: int
    i: str


class Kql(Strict):
    query: str
    language: Literal["kuery"]


class Layer(Strict):
    columns: dict[str, Column]
    columnOrder: list[str]
    incompleteColumns: Json
    sampling: float
    ignoreGlobalFilters: bool


class Layers(Strict):
    layers: dict[str, Layer]


class DataSources(Strict):
    formBased: Layers


class State(Strict):
    visualization: Json
    query: Kql
    filters: list[Json]
    datasourceStates: DataSources
    internalReferences: list[Reference]
    adHocDataViews: Json


class Lens(Strict):
    title: str
    description: str
    type: Literal["lens"]
    visualizationType: Literal["lnsXY", "lnsPie", "lnsDatatable", "lnsMetric"]
    state: State
    references: list[Reference]


class Embedded(Strict):
    attributes: Lens
    enhancements: Json
    hidePanelTitles: bool


class Panel(Strict):
    version: str
    type: Literal["lens"]
    panelIndex: str
    gridData: Grid
    title: str
    embeddableConfig: Embedded


# The columns of a layer.


class Decimals(Strict):
    decimals: int


class Format(Strict):
    id: Literal["number", "percent"]
    params: Decimals


class _Column(Strict, tag_field="operationType"):
    label: str
    customLabel: bool
    dataType: Literal["date", "number", "string"]
    isBucketed: bool
    scale: Literal["ratio", "ordinal", "interval"]


class TimeParams(Strict):
    interval: str
    includeEmptyRows: bool
    dropPartials: bool


class Time(_Column, tag="date_histogram"):
    sourceField: str
    params: TimeParams


class Order(Strict):
    type: Literal["column", "custom"]
    columnId: str | None = None


class TermsParams(Strict):
    size: int
    orderBy: Order
    orderDirection: Literal["asc", "desc"]
    otherBucket: bool
    missingBucket: bool
    parentFormat: dict[Literal["id"], Literal["terms"]]
    include: list[str]
    exclude: list[str]
    includeIsRegex: bool
    excludeIsRegex: bool
    orderAgg: Count | Min | Max | None = None


class Terms(_Column, tag="terms"):
    sourceField: str
    params: TermsParams


class Case(Strict):
    label: str
    input: Kql


class Cases(Strict):
    filters: list[Case]


class Filters(_Column, tag="filters"):
    params: Cases


class MetricParams(Strict):
    emptyAsNull: bool | None = None
    format: Format | None = None
    percentile: int | None = None
    sortField: str | None = None
    showArrayValues: bool | None = None


class _Metric(_Column):
    sourceField: str
    params: MetricParams
    filter: Kql | None = None


class Count(_Metric, tag="count"): ...


class Sum(_Metric, tag="sum"): ...


class Average(_Metric, tag="average"): ...


class Min(_Metric, tag="min"): ...


class Max(_Metric, tag="max"): ...


class Percentile(_Metric, tag="percentile"): ...


class LastValue(_Metric, tag="last_value"): ...


class Now(_Column, tag="now"):
    references: list[str]


class Tree(Strict):
    type: Literal["function"]
    name: Literal["add", "subtract", "multiply", "divide", "defaults", "pick_max"]
    args: list[Tree | str | int]


class MathParams(Strict):
    tinymathAst: Tree


class Math(_Column, tag="math"):
    references: list[str]
    params: MathParams


class FormulaParams(Strict):
    formula: str
    isFormulaBroken: Literal[False]
    format: Format | None = None


class Formula(_Column, tag="formula"):
    references: list[str]
    params: FormulaParams


Metric = Count | Sum | Average | Min | Max | Percentile | LastValue
Column = Time | Terms | Filters | Metric | Now | Math | Formula


# How they are drawn.


class Series(Strict):
    layerId: str
    layerType: Literal["data"]
    seriesType: Literal["area", "bar_stacked", "line", "bar_horizontal_stacked"]
    xAccessor: str
    accessors: list[str]
    position: Literal["top"]
    showGridlines: bool
    splitAccessor: str | None = None


class Legend(Strict):
    isVisible: bool
    position: Literal["top", "right", "bottom", "left"]


class Axes(Strict):
    x: bool
    yLeft: bool
    yRight: bool


class Chart(Strict):
    preferredSeriesType: str
    layers: list[Series]
    legend: Legend
    valueLabels: Literal["hide", "show"]
    axisTitlesVisibilitySettings: Axes
    fittingFunction: Literal["None", "Linear", "Carry"]
    curveType: Literal["LINEAR", "CURVE_MONOTONE_X", "CURVE_STEP_AFTER"] | None = None


class Slices(Strict):
    layerId: str
    layerType: Literal["data"]
    primaryGroups: list[str]
    metrics: list[str]
    numberDisplay: Literal["hidden", "percent", "value"]
    categoryDisplay: Literal["default", "inside", "hide"]
    legendDisplay: Literal["default", "show", "hide"]
    nestedLegend: bool


class Pie(Strict):
    shape: Literal["pie", "donut"]
    layers: list[Slices]


class TableColumn(Strict):
    columnId: str


class Sorting(Strict):
    columnId: str
    direction: Literal["asc", "desc", "none"]


class Paging(Strict):
    size: int
    enabled: bool


class Table(Strict):
    layerId: str
    layerType: Literal["data"]
    columns: list[TableColumn]
    paging: Paging
    sorting: Sorting | None = None


class Figure(Strict):
    layerId: str
    layerType: Literal["data"]
    metricAccessor: str


VISUALIZATIONS: dict[str, type[Strict]] = {
    "lnsXY": Chart,
    "lnsPie": Pie,
    "lnsDatatable": Table,
    "lnsMetric": Figure,
}
