"""The saved objects that Kibana imports: data views, a tag and the dashboards, a line each.

Their ids are always the same, so importing them again replaces them. With a prefix of names,
the ids and titles have it too, so that several daemons can share a Kibana.
"""

from __future__ import annotations

import json
from typing import Any, Final

from pricecheck.config import Names
from pricecheck.deliver.templates import TIME_FIELD
from pricecheck.kibana import lens
from pricecheck.kibana.dashboards import DASHBOARDS
from pricecheck.kibana.panels import EVERYTHING, Control, Dashboard, Panel

SavedObject = dict[str, Any]

OLDEST_KIBANA: Final = "8.9"
"""Kibana refuses what is newer than itself and migrates what is older."""

# The newest versions that all of Kibana 8.9 and later know.
_CORE: Final = "8.8.0"
_VERSIONS: Final = {"index-pattern": "8.0.0", "tag": "8.0.0", "dashboard": "8.9.0"}

_WIDTH: Final = 48
_REFRESH_MS: Final = 60_000


def saved_objects(names: Names) -> list[SavedObject]:
    """Return all of them, what is referred to before what refers to it."""
    indices = names.by_kind()
    views = {kind: _id(names, kind) for kind in (*indices, EVERYTHING)}
    objects = [
        _data_view(views[kind], index, f"{index} ({kind} records)", TIME_FIELD[kind])
        for kind, index in indices.items()
    ]
    title = _titled("all records of pricecheck", names)
    objects.append(_data_view(views[EVERYTHING], ",".join(indices.values()), title))
    tag = _id(names, "tag")
    about = {"name": "pricecheck", "description": "Prices watched by pricecheck"}
    objects.append(_object("tag", tag, about | {"color": "#2f7d6b"}))
    objects += [_dashboard(one, names, views, tag) for one in DASHBOARDS]
    return objects


def export(names: Names) -> str:
    """Return the file that Kibana imports: an object on each line."""
    lines = (json.dumps(one, ensure_ascii=False, sort_keys=True) for one in saved_objects(names))
    return "".join(f"{line}\n" for line in lines)


def _id(names: Names, name: str) -> str:
    return f"pricecheck-{names.prefix}{name}"


def _titled(title: str, names: Names) -> str:
    prefix = names.prefix.rstrip("-_.")
    return f"{title} ({prefix})" if prefix else title


def _object(
    kind: str, id_: str, attributes: dict[str, Any], references: list[dict[str, str]] | None = None
) -> SavedObject:
    return {
        "type": kind,
        "id": id_,
        "attributes": attributes,
        "references": references or [],
        "coreMigrationVersion": _CORE,
        "typeMigrationVersion": _VERSIONS[kind],
        "managed": False,
    }


def _data_view(id_: str, pattern: str, name: str, time: str | None = None) -> SavedObject:
    attributes = {
        "title": pattern,
        "name": name,
        **({"timeFieldName": time} if time else {}),
        "allowNoIndex": True,  # the daemon may not have run yet
        "fields": "[]",
        "fieldAttrs": "{}",
        "fieldFormatMap": "{}",
        "runtimeFieldMap": "{}",
        "sourceFilters": "[]",
        "typeMeta": "{}",
    }
    return _object("index-pattern", id_, attributes)


def _dashboard(dashboard: Dashboard, names: Names, views: dict[str, str], tag: str) -> SavedObject:
    panels, references = _panels(dashboard, views)
    controls, choices = _controls(dashboard, views)
    search = {"query": {"query": "", "language": "kuery"}, "filter": []}
    options = {
        "useMargins": True,
        "syncColors": True,
        "syncCursor": True,
        "syncTooltips": False,
        "hidePanelTitles": False,
    }
    attributes = {
        "title": _titled(dashboard.title, names),
        "description": dashboard.about,
        "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps(search)},
        "optionsJSON": json.dumps(options),
        "panelsJSON": json.dumps(panels, ensure_ascii=False),
        "timeRestore": True,
        "timeFrom": f"now-{dashboard.last}",
        "timeTo": "now",
        "refreshInterval": {"pause": False, "value": _REFRESH_MS},
        **controls,
    }
    tagged = {"type": "tag", "id": tag, "name": f"tag-ref-{tag}"}
    all_references = [*references, *choices, tagged]
    return _object("dashboard", _id(names, dashboard.name), attributes, all_references)


def _panels(
    dashboard: Dashboard, views: dict[str, str]
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Return the panels with their places, and what they refer to."""
    panels = []
    references = []
    x = y = tallest = 0
    for panel in dashboard.panels:
        if x + panel.width > _WIDTH:
            x, y, tallest = 0, y + tallest, 0
        made = _panel(panel, f"{dashboard.name}/{panel.name}", views)
        made["gridData"] |= {"x": x, "y": y}
        x, tallest = x + panel.width, max(tallest, panel.height)
        panels.append(made)
        for each in made["embeddableConfig"]["attributes"]["references"]:
            references.append(each | {"name": f"{made['panelIndex']}:{each['name']}"})
    return panels, references


def _panel(panel: Panel, path: str, views: dict[str, str]) -> dict[str, Any]:
    id_ = lens.stable_id(path, "panel")
    return {
        "version": _VERSIONS["dashboard"],
        "type": "lens",
        "panelIndex": id_,
        "gridData": {"w": panel.width, "h": panel.height, "i": id_},
        "title": panel.title,
        "embeddableConfig": {
            "attributes": lens.attributes(panel, path, views),
            "enhancements": {},
            "hidePanelTitles": False,
        },
    }


def _controls(
    dashboard: Dashboard, views: dict[str, str]
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return the lists to choose from above the panels, and what they refer to."""
    if not dashboard.controls:
        return {}, []
    ids = [lens.stable_id(dashboard.name, "control", each.label) for each in dashboard.controls]
    respected = ("ignoreFilters", "ignoreQuery", "ignoreTimerange", "ignoreValidations")
    group = {
        "controlStyle": "oneLine",
        "chainingSystem": "HIERARCHICAL",
        "ignoreParentSettingsJSON": json.dumps(dict.fromkeys(respected, False)),
        "panelsJSON": json.dumps(
            {
                id_: _control(id_, each, order)
                for order, (id_, each) in enumerate(zip(ids, dashboard.controls, strict=True))
            }
        ),
    }
    references = [
        {
            "type": "index-pattern",
            "id": views[each.of],
            "name": f"controlGroup_{id_}:optionsListDataView",
        }
        for id_, each in zip(ids, dashboard.controls, strict=True)
    ]
    return {"controlGroupInput": group}, references


def _control(id_: str, control: Control, order: int) -> dict[str, Any]:
    return {
        "type": "optionsListControl",
        "order": order,
        "width": "medium",
        "grow": True,
        "explicitInput": {
            "id": id_,
            "fieldName": control.field,
            "title": control.label,
            "selectedOptions": [],
            "singleSelect": False,
            "enhancements": {},
        },
    }
