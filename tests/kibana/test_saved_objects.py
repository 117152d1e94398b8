"""The exported file is one that Kibana 8.9 and every later version takes whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import msgspec
import pytest

from pricecheck.config import Names
from pricecheck.deliver.templates import FIELDS
from pricecheck.kibana.saved_objects import export, saved_objects
from tests.kibana import shapes
from tests.kibana.searches import Json

PACKAGED = Path(__file__).parents[2] / "packaging" / "kibana" / "pricecheck.ndjson"
DASHBOARDS = ("tokens", "prices", "deals", "health")
# Of these Kibana and its tests say that 8.9 knows them; it refuses what is newer than itself.
NEWEST = {"core": "8.8.0", "index-pattern": "8.0.0", "tag": "8.0.0", "dashboard": "8.9.0"}


def test_objects_have_no_field_that_kibana_does_not_know(objects: list[Json]) -> None:
    """The attributes of each type are those of its schema, JSON in strings included."""
    attributes = {"index-pattern": shapes.DataView, "tag": shapes.Tag}

    for one in objects:
        known = msgspec.convert(one, shapes.SavedObject)
        if known.type != "dashboard":
            msgspec.convert(one["attributes"], attributes[known.type])
            continue
        about = msgspec.convert(one["attributes"], shapes.Dashboard)
        msgspec.json.decode(about.panelsJSON, type=list[shapes.Panel])
        if about.controlGroupInput:
            controls = about.controlGroupInput.panelsJSON
            msgspec.json.decode(controls, type=dict[str, shapes.Control])


def test_every_panel_is_drawn_as_its_type_can_be(objects: list[Json]) -> None:
    """A chart has a chart's settings, a table a table's, and so on."""
    for lens in _lenses(objects):
        shape = shapes.VISUALIZATIONS[lens["visualizationType"]]

        msgspec.convert(lens["state"]["visualization"], shape)


def test_versions_are_the_newest_that_kibana_8_9_knows(objects: list[Json]) -> None:
    """An older Kibana would refuse newer ones, a newer one migrates these."""
    for one in objects:
        assert one["coreMigrationVersion"] == NEWEST["core"]
        assert one["typeMigrationVersion"] == NEWEST[one["type"]]


def test_ids_never_change(objects: list[Json]) -> None:
    """Or an import would leave the old ones beside the new; links to dashboards would break."""
    ids = {one["id"] for one in objects}

    kinds = ("price", "change", "deal", "bestseller", "metric", "alert", "all")
    assert ids == {f"pricecheck-{name}" for name in (*kinds, "tag", *DASHBOARDS)}
    assert export(Names()) == export(Names())


def test_a_prefix_keeps_two_installations_apart(objects: list[Json]) -> None:
    """Other ids, other titles, other indices."""
    others = saved_objects(Names(prefix="home-"))

    assert {one["id"] for one in others}.isdisjoint(one["id"] for one in objects)
    titles = {one["attributes"].get("title") for one in others}
    assert "Prices (home)" in titles
    assert "home-keeper-prices" in titles


def test_every_reference_leads_to_an_object_of_the_file(objects: list[Json]) -> None:
    """Kibana refuses an object whose references are missing."""
    there = {(one["type"], one["id"]) for one in objects}

    for one in objects:
        assert {(each["type"], each["id"]) for each in one["references"]} <= there


def test_every_layer_and_control_has_its_data_view(objects: list[Json]) -> None:
    """By the names under which Kibana looks for them; and there is no reference beside."""
    for one in objects:
        if one["type"] != "dashboard":
            continue
        panels = json.loads(one["attributes"]["panelsJSON"])
        controls = json.loads(
            one["attributes"].get("controlGroupInput", {}).get("panelsJSON", "{}")
        )
        wanted = {f"controlGroup_{id_}:optionsListDataView" for id_ in controls}
        wanted.add("tag-ref-pricecheck-tag")
        for panel in panels:
            for layer in _layers(panel["embeddableConfig"]["attributes"]):
                wanted.add(f"{panel['panelIndex']}:indexpattern-datasource-layer-{layer}")

        names = [each["name"] for each in one["references"]]

        assert sorted(names) == sorted(wanted)


def test_panels_share_a_dashboard_without_overlapping(objects: list[Json]) -> None:
    """Each has its place on a grid that is 48 wide."""
    for one in objects:
        if one["type"] == "dashboard":
            grids = [panel["gridData"] for panel in json.loads(one["attributes"]["panelsJSON"])]

            assert all(0 <= grid["x"] <= 48 - grid["w"] for grid in grids)
            for a, b in combinations(grids, 2):
                beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
                assert beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]


def test_columns_are_ordered_and_drawn_by_ids_that_exist(objects: list[Json]) -> None:
    """Buckets come first; and no id begins with another, for by that Kibana finds parts."""
    for lens in _lenses(objects):
        layers = _layers(lens)
        for layer in layers.values():
            order, columns = layer["columnOrder"], layer["columns"]
            buckets = [columns[id_]["isBucketed"] for id_ in order]

            assert sorted(order) == sorted(columns)
            assert buckets == sorted(buckets, reverse=True)
        shown = set(_accessors(lens["state"]["visualization"]))
        whole = {id_ for layer in layers.values() for id_ in layer["columns"] if "X" not in id_}
        assert shown == whole
        assert not any(a != b and a.startswith(b) for a in whole for b in whole)


def test_formulas_are_whole(objects: list[Json]) -> None:
    """A formula leads to its arithmetic, which has all its parts, and nothing else is there."""
    for lens in _lenses(objects):
        for layer in _layers(lens).values():
            columns = layer["columns"]
            for id_, column in columns.items():
                if column["operationType"] != "formula":
                    continue
                [last] = column["references"]
                tree = columns[last]["params"]["tinymathAst"]
                parts = set(_leaves(tree))

                assert parts == set(columns[last]["references"])
                assert parts | {id_, last} == {each for each in columns if each.startswith(id_)}


def test_every_field_is_indexed_as_its_use_needs(objects: list[Json]) -> None:
    """What a panel counts, sorts or filters by is mapped, and never as bare text."""
    views = {one["id"]: one["attributes"] for one in objects if one["type"] == "index-pattern"}
    kinds = {f"pricecheck-{kind}": _mapped(fields) for kind, fields in FIELDS.items()}
    kinds["pricecheck-all"] = {name for fields in kinds.values() for name in fields}
    for view, fields in kinds.items():
        assert views[view].get("timeFieldName", "timestamp") in fields

    for one in objects:
        if one["type"] == "dashboard":
            known = {each["name"]: each["id"] for each in one["references"]}
            for panel in json.loads(one["attributes"]["panelsJSON"]):
                lens = panel["embeddableConfig"]["attributes"]
                for id_, layer in _layers(lens).items():
                    view = known[f"{panel['panelIndex']}:indexpattern-datasource-layer-{id_}"]
                    used = set(_fields({"layer": layer, "query": lens["state"]["query"]}))
                    assert used - {"___records___"} <= kinds[view], panel["title"]


def test_the_packaged_file_is_up_to_date() -> None:
    """`pricecheck kibana export --output packaging/kibana/pricecheck.ndjson` makes it."""
    assert PACKAGED.read_text("utf-8") == export(Names())


@pytest.mark.parametrize("odd", ["extra", "typo"])
def test_the_shapes_notice_a_wrong_field(objects: list[Json], odd: str) -> None:
    """A strict shape refuses a field more, and a field less."""
    [tag] = [one for one in objects if one["type"] == "tag"]
    wrong = tag | {"hits": 1} if odd == "extra" else {k: v for k, v in tag.items() if k != "id"}

    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, shapes.SavedObject)


def _lenses(objects: list[Json]) -> Iterator[Json]:
    for one in objects:
        if one["type"] == "dashboard":
            for panel in json.loads(one["attributes"]["panelsJSON"]):
                yield panel["embeddableConfig"]["attributes"]


def _layers(lens: Json) -> dict[str, Json]:
    layers: dict[str, Json] = lens["state"]["datasourceStates"]["formBased"]["layers"]
    return layers


def _accessors(state: object, key: str = "") -> Iterator[str]:
    """Yield the column ids in a visualization's state."""
    if isinstance(state, dict):
        for name, each in state.items():
            yield from _accessors(each, name)
    elif isinstance(state, list):
        for each in state:
            yield from _accessors(each, key)
    elif isinstance(state, str) and re.search(r"ccessor|columnId|metrics|primaryGroups", key):
        yield state


def _leaves(tree: object) -> Iterator[str]:
    if isinstance(tree, dict):
        for each in tree["args"]:
            yield from _leaves(each)
    elif isinstance(tree, str):
        yield tree


def _fields(state: object) -> Iterator[str]:
    """Yield every field that is named: to aggregate, to sort by, in KQL."""
    if isinstance(state, dict):
        for name, each in state.items():
            if name in ("sourceField", "sortField"):
                yield each
            elif name == "query" and isinstance(each, str):
                yield from re.findall(r'"?([\w.]+)"?\s*[:<>]', each)
            else:
                yield from _fields(each)
    elif isinstance(state, list):
        for each in state:
            yield from _fields(each)


def _mapped(fields: Json, path: str = "") -> set[str]:
    """Return the fields of a mapping that can be aggregated."""
    found: set[str] = set()
    for name, mapping in fields.items():
        inner = mapping.get("properties", {}) | mapping.get("fields", {})
        found |= _mapped(inner, f"{path}{name}.")
        if mapping.get("type") not in (None, "text") and mapping.get("doc_values", True):
            found.add(path + name)
    return found
