"""Bytes: copies, permutations and products of pieces between strided arrays, compiled by Numba.

Importing this package compiles nothing and does not import numba; the first move does, or
:func:`warmup`.
"""

import _maestro_pool  # noqa: F401  (refuses foreign packages of our names)

from kernels.loading import warmup
from kernels.moving import move, move_all
from kernels.permutation import permute
from kernels.pieces import Pieces
from kernels.slabs import shape, slabs
from kernels.tiling import PLAIN, Tiling, refine

__all__ = [
    "PLAIN",
    "Pieces",
    "Tiling",
    "move",
    "move_all",
    "permute",
    "refine",
    "shape",
    "slabs",
    "warmup",
]
