"""Values and pure functions: memory orders, distributions over grids of ranks, plans between them.

>>> from layouts import Block, BlockCyclic, Distribution, plan
>>> source = Distribution((8, 8), grid=(2, 2), axes=(BlockCyclic(2), BlockCyclic(2)))
>>> target = Distribution((8, 8), grid=(4, 1), order="F")
>>> print(plan(source, target).explain())
from            (8, 8) over 2x2 ranks: BlockCyclic(2) x BlockCyclic(2), order C
to              (8, 8) over 4x1 ranks: Block x Block, order F
kept            128 B (25% of 512 B)
moved           384 B in 6 messages
largest message 64 B
peak memory     256 B at rank 0: source part 128 B, target part 128 B
"""

import _maestro_pool  # noqa: F401  (refuses foreign packages of our names)

from layouts.axes import Block, BlockCyclic, Cyclic, Irregular, Kind, Replicated, Section
from layouts.conversion import convert
from layouts.cost import Cost
from layouts.distribution import Distribution
from layouts.incoming import Incoming
from layouts.links import LinkCosts, Place, link_bytes, link_costs
from layouts.orders import Tiled
from layouts.plan import Plan, plan
from layouts.tiled import TiledArray

__all__ = [
    "Block",
    "BlockCyclic",
    "Cost",
    "Cyclic",
    "Distribution",
    "Incoming",
    "Irregular",
    "Kind",
    "LinkCosts",
    "Place",
    "Plan",
    "Replicated",
    "Section",
    "Tiled",
    "TiledArray",
    "convert",
    "link_bytes",
    "link_costs",
    "plan",
]
