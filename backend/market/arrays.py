"""The market as integer arrays, with its graph walked once: what the structured engines and the bulk path work on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .kernels.compiling import COMPILE_FROM, Integers, kernel
from .kernels.forest import root_forest
from .problem import Market


@dataclass(frozen=True, slots=True)
class MarketArrays:
    """A market by index, in arrays.

    Attributes:
        access: (V,) access fee by node, nano per Wh.
        edge_from: (E,) node numbers.
        edge_to: (E,) node numbers.
        edge_fee: (E,) nano per Wh.
        group_node: (G,) ascending.
        group_start: (V + 1,) where each node's groups begin.
        import_price: (G,) outside, nano per Wh.
        export_price: (G,) outside, nano per Wh.
        is_forest: whether the graph has no circle.
        order: (V,) breadth-first order.
        parent: (V,) or -1.
        parent_edge: (V,) or -1.
        compiled: whether loops over this market are worth compiling.
    """

    access: Integers
    edge_from: Integers
    edge_to: Integers
    edge_fee: Integers
    group_node: Integers
    group_start: Integers
    import_price: Integers
    export_price: Integers
    is_forest: bool
    order: Integers
    parent: Integers
    parent_edge: Integers
    compiled: bool

    @property
    def node_count(self) -> int:
        """V."""
        return int(self.access.size)

    @property
    def group_count(self) -> int:
        """G."""
        return int(self.group_node.size)

    @classmethod
    def build(
        cls,
        *,
        access: Integers,
        edge_from: Integers,
        edge_to: Integers,
        edge_fee: Integers,
        group_node: Integers,
        import_price: Integers,
        export_price: Integers,
        compiled: bool | None = None,
    ) -> MarketArrays:
        """Walks the graph and indexes the groups.

        Args:
            access: by node.
            edge_from: by edge.
            edge_to: by edge.
            edge_fee: by edge, not negative.
            group_node: by group, ascending.
            import_price: by group.
            export_price: by group, at most the import price.
            compiled: whether to compile loops; by default only where the network is large.

        Raises:
            ValueError: groups are not sorted by node.
        """
        if group_node.size and np.any(np.diff(group_node) < 0):
            raise ValueError("groups must be sorted by node")
        nodes = access.size
        if compiled is None:
            compiled = nodes >= COMPILE_FROM
        walk = kernel(root_forest, compiled=compiled)
        is_forest, order, parent, parent_edge = walk(nodes, edge_from, edge_to)
        return cls(
            access=access,
            edge_from=edge_from,
            edge_to=edge_to,
            edge_fee=edge_fee,
            group_node=group_node,
            group_start=np.searchsorted(group_node, np.arange(nodes + 1)).astype(np.int64),
            import_price=import_price,
            export_price=export_price,
            is_forest=bool(is_forest),
            order=order,
            parent=parent,
            parent_edge=parent_edge,
            compiled=compiled,
        )

    @classmethod
    def of(cls, market: Market, compiled: bool | None = None) -> MarketArrays:
        """From a market with names; `compiled` as in `build`."""
        graph = market.graph

        def integers(values: object) -> Integers:
            return np.array(values, dtype=np.int64)

        return cls.build(
            access=integers(graph.access_fee_nano_per_wh),
            edge_from=integers(graph.edge_from),
            edge_to=integers(graph.edge_to),
            edge_fee=integers(graph.edge_fee_nano_per_wh),
            group_node=integers([group.node for group in market.groups]),
            import_price=integers([group.import_price_nano_per_wh for group in market.groups]),
            export_price=integers([group.export_price_nano_per_wh for group in market.groups]),
            compiled=compiled,
        )

    def price_bounds(self) -> tuple[int, int]:
        """Between which node prices an optimum always lies.

        Above the dearest r - access no demand, and below the cheapest f + access no supply, depends on the price any
        more, so prices beyond can be moved back without loss; the bounds also name a price where nobody trades.
        """
        if not self.group_count:
            return 0, 0
        access = self.access[self.group_node]
        ends = (int(np.max(self.import_price - access)), int(np.min(self.export_price + access)))
        return min(ends), max(ends)
