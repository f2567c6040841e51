"""Sections of panels on Grafana's grid of 24 columns: positions and ids follow from the order, so nothing overlaps."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

GRID_COLUMNS = 24


@dataclass(frozen=True, slots=True)
class Placed:
    """A panel and its size in grid cells."""

    panel: Builder[models.Panel]
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Section:
    """A row with its title; panels flow from left to right. A collapsed section opens with a click."""

    title: str
    panels: Sequence[Placed]
    collapsed: bool = False


def arrange(sections: Sequence[Section]) -> list[models.Panel | models.RowPanel]:
    """The panels of all sections with id and position; ValueError for a panel wider than the grid."""
    arranged: list[models.Panel | models.RowPanel] = []
    next_id, y = 1, 0
    for section in sections:
        row = models.RowPanel(title=section.title, collapsed=section.collapsed, id_val=next_id)
        row.grid_pos = models.GridPos(x=0, y=y, w=GRID_COLUMNS, h=1)
        row.panels = []
        arranged.append(row)
        next_id, y = next_id + 1, y + 1
        panels, y = _flow(section.panels, next_id, y)
        next_id += len(panels)
        if section.collapsed:
            row.panels.extend(panels)
            y = row.grid_pos.y + 1
        else:
            arranged.extend(panels)
    return arranged


def _flow(placed: Sequence[Placed], next_id: int, top: int) -> tuple[list[models.Panel], int]:
    panels: list[models.Panel] = []
    x, y, line_height = 0, top, 0
    for item in placed:
        if item.width > GRID_COLUMNS:
            raise ValueError(f"a panel is {item.width} columns wide, the grid has {GRID_COLUMNS}")
        if x + item.width > GRID_COLUMNS:
            x, y, line_height = 0, y + line_height, 0
        panel = item.panel.build()
        panel.id_val = next_id + len(panels)
        panel.grid_pos = models.GridPos(x=x, y=y, w=item.width, h=item.height)
        panels.append(panel)
        x, line_height = x + item.width, max(line_height, item.height)
    return panels, y + line_height
