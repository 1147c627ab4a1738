"""The network operator's picture: places as boxes, edges as lines as wide as what was traded over them. Figures are in the tables."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from backend.api.views.dso import EdgeDay, Flows, Limits, NodeLimit

BOX_WIDTH: Final = 158
BOX_HEIGHT: Final = 58
_COLUMN: Final = 286
_ROW: Final = 92
_MARGIN: Final = 8
_THINNEST, _WIDEST = 2.0, 12.0
_NAME_LENGTH: Final = 18
_THOUSAND: Final = 1000


@dataclass(frozen=True)
class Box:
    """A place; x and y of its upper left corner.

    Attributes:
        used: thousandths of what the connections there may carry, that they did carry at most.
    """

    limit: NodeLimit
    x: int
    y: int
    used: int

    @property
    def short_name(self) -> str:
        """As much of the name as fits."""
        name = self.limit.node
        return name if len(name) <= _NAME_LENGTH else name[: _NAME_LENGTH - 1] + "…"


@dataclass(frozen=True)
class Wire:
    """An edge: a path from its first place to its second, where its figures stand, and how wide it is drawn."""

    edge: EdgeDay
    path: str
    x: int
    y: int
    width: float
    leftwards: bool


@dataclass(frozen=True)
class NetworkPicture:
    """Everything, in units of the picture."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    wires: tuple[Wire, ...]


def network_picture(flows: Flows, limits: Limits) -> NetworkPicture:
    """Places in columns by how far they are from the one with most edges, nearest first.

    Args:
        flows: of a day.
        limits: of the same day.
    """
    places = _places([node.node for node in limits.nodes], flows.edges)
    boxes = {
        node.node: Box(
            node,
            _MARGIN + _COLUMN * places[node.node][0],
            _MARGIN + round(_ROW * places[node.node][1]),
            _used(node),
        )
        for node in limits.nodes
    }
    most = max((edge.forward_wh + edge.backward_wh for edge in flows.edges), default=0) or 1
    wires = tuple(
        _wire(edge, boxes[edge.from_node], boxes[edge.to_node], most) for edge in flows.edges
    )
    columns = max(column for column, _ in places.values()) + 1
    rows = max(row for _, row in places.values()) + 1
    return NetworkPicture(
        width=2 * _MARGIN + _COLUMN * (columns - 1) + BOX_WIDTH,
        height=round(2 * _MARGIN + _ROW * (rows - 1) + BOX_HEIGHT),
        boxes=tuple(boxes.values()),
        wires=wires,
    )


def _used(node: NodeLimit) -> int:
    largest = max(node.largest_import_wh, node.largest_export_wh)
    return min(_THOUSAND, largest * _THOUSAND // max(1, node.connection_limit_wh))


def _places(names: Sequence[str], edges: Sequence[EdgeDay]) -> dict[str, tuple[int, float]]:
    """Column and row of every place; a place stands in the middle of those behind it."""
    beside: dict[str, list[str]] = defaultdict(list)
    for edge in edges:
        beside[edge.from_node].append(edge.to_node)
        beside[edge.to_node].append(edge.from_node)
    found: dict[str, tuple[int, float]] = {}
    free = 0.0
    # What hangs together is drawn together; several networks one below the other.
    for root in sorted(names, key=lambda name: (-len(beside[name]), name)):
        if root in found:
            continue
        behind, order, column = _spread(root, beside)
        for name in reversed(order):
            rows = [found[child][1] for child in behind[name]]
            row = (min(rows) + max(rows)) / 2 if rows else free
            free += not rows
            found[name] = (column[name], row)
    return found


def _spread(
    root: str, beside: dict[str, list[str]]
) -> tuple[dict[str, list[str]], list[str], dict[str, int]]:
    """What is behind each place as seen from a root, all places nearest first, and how far each is."""
    behind: dict[str, list[str]] = defaultdict(list)
    column = {root: 0}
    order, waiting = [], deque([root])
    while waiting:
        name = waiting.popleft()
        order.append(name)
        for other in sorted(beside[name], reverse=True):
            if other not in column:
                column[other] = column[name] + 1
                behind[name].append(other)
                waiting.append(other)
    return behind, order, column


def _wire(edge: EdgeDay, start: Box, end: Box, most: int) -> Wire:
    left, right = sorted((start, end), key=lambda box: (box.x, box.y))
    width = _THINNEST + (_WIDEST - _THINNEST) * (edge.forward_wh + edge.backward_wh) / most
    y_left, y_right = left.y + BOX_HEIGHT // 2, right.y + BOX_HEIGHT // 2
    if left.x == right.x:
        # Beside each other in one column: around the right side.
        x = left.x + BOX_WIDTH
        path = f"M{x} {y_left}C{x + 60} {y_left} {x + 60} {y_right} {x} {y_right}"
        return Wire(edge, path, x + 60, (y_left + y_right) // 2, round(width, 1), False)
    x_left = left.x + BOX_WIDTH
    # Level where its figures stand.
    bend = x_left + 30
    path = f"M{x_left} {y_left}C{bend} {y_left} {x_left} {y_right} {bend} {y_right}H{right.x}"
    return Wire(
        edge, path, (bend + right.x) // 2, y_right, round(width, 1), edge.from_node == right.limit.node
    )  # fmt: skip
