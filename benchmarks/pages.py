"""How fast bytes are copied, by where source and target begin within their pages.

np.copyto          From one array into another: the C library's `memmove`, of the whole.
rows               The same where the source's rows of 16 KiB lie apart.
out of the system  A file in memory is read into an array, as bytes are that a socket has received.
into the system    An array is written into that file, as bytes are that a socket is to send.

The source, or the system's page, begins with a page; the target so many bytes later. Negative: the
target begins with a page, and the source so many bytes later. NumPy's large arrays begin 16 bytes
into a page. All take turns, in another order in each round.
"""

from __future__ import annotations

import argparse
import mmap
import os
import statistics
from collections.abc import Callable
from random import Random
from time import perf_counter

import numpy as np
from measure import in_units, machine, table
from numpy.typing import NDArray

ROW = 1 << 14
OFFSETS = (-2048, -64, -16, 0, 1, 8, 16, 24, 31, 32, 64, 2048, 4064, 4080)
WAYS = "np.copyto", "rows", "out of the system", "into the system"


def beginning(nbytes: int, offset: int) -> NDArray[np.uint8]:
    """Memory that begins so many bytes into a page, written before."""
    block = mmap.mmap(-1, nbytes + 2 * mmap.PAGESIZE)
    memory = np.frombuffer(block, np.uint8)[offset : offset + nbytes]
    memory[...] = 1
    return memory


def copies(nbytes: int, file: int, offset: int) -> dict[str, Callable[[], object]]:
    """One copy of so many bytes each way."""
    source = beginning(nbytes, max(0, -offset))
    wide = beginning(2 * nbytes, max(0, -offset)).reshape(-1, 2, ROW)[:, 0]
    target = beginning(nbytes, max(0, offset))
    return {
        WAYS[0]: lambda: np.copyto(target, source),
        WAYS[1]: lambda: np.copyto(target.reshape(-1, ROW), wide),
        WAYS[2]: lambda: os.preadv(file, [target.data], max(0, -offset)),
        WAYS[3]: lambda: os.pwritev(file, [source.data], max(0, offset)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=1 << 20, help="bytes, rounded to rows")
    parser.add_argument("--repeat", type=int, default=31, help="rounds")
    options = parser.parse_args()
    if options.size < 1 or options.repeat < 1:
        parser.error("expected a --size and a --repeat of at least 1")
    size = -(-options.size // ROW) * ROW
    print(__doc__)
    print(machine("numpy"), end="\n\n")
    file = os.memfd_create("pages")
    os.ftruncate(file, size + 2 * mmap.PAGESIZE)
    work = {
        (offset, way): copy
        for offset in OFFSETS
        for way, copy in copies(size, file, offset).items()
    }
    seconds: dict[tuple[int, str], list[float]] = {key: [] for key in work}
    for number in range(options.repeat):
        for key in Random(number).sample(list(work), len(work)):
            work[key]()  # so that what is measured is there
            begun = perf_counter()
            work[key]()
            seconds[key].append(perf_counter() - begun)
    os.close(file)
    rows = [
        [str(offset)]
        + [f"{size / statistics.median(seconds[offset, way]) / 1e9:.1f}" for way in WAYS]
        for offset in OFFSETS
    ]
    print(f"GB/s, of copies of {in_units(size)}; bytes count once\n")
    print(table(["bytes behind", *WAYS], rows))


if __name__ == "__main__":
    main()
