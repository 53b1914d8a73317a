# mypy: ignore-errors
"""The compiled move: addresses and byte strides in, bytes moved. Importing its files imports numba.

One function, in :mod:`kernels.compiled.product`, for all sizes of elements and any number of axes;
it knows no dtypes. Within it, loops over elements of 1, 2, 4, 8 and 16 bytes have loads, shuffles
and stores of that width, as vectors in LLVM's portable form; the width is carried by the *type* of
their first argument (U1 to U16, and ANY for every other size).

The loop nest arrives in three int64 tables, made by :mod:`kernels.nest`:

``axes[k]``
    one row per axis, outermost first; the columns are constants of :mod:`kernels.nest`.
``base``
    three rows: source offset and target offset in bytes, length in indices, of the base pieces of
    all axes, one axis after the other; an axis starts at its column FIRST.
``offsets``
    for tiles only: where each row of a rectangle starts in the source, then where each column
    starts in the target, in bytes. It comes as an address.

The last ``inner`` rows of ``axes`` are the inner loops: 1 means runs, 2 means rectangles, and BOX a
walk from element to element. Runs that are streamed take in the row before.

A rectangle that is dense along its rows in the target is moved in three steps, so that memory sees
whole cache lines on both sides and nothing else::

    source   64 bytes of each row        stage (in L1)                      target
    row r    | c c+1 ... |  --transpose-->   column c    | r r+1 ... |  --whole lines-->  column c
    row r+1  | c c+1 ... |   in registers    column c+1  | r r+1 ... |

Where the target is larger than the caches the lines are streamed past them (nontemporal stores),
which saves reading what is overwritten. Each column has its own offset to the next line, so a strip
of the stage holds one line more than it gives away. See *What Every Programmer Should Know About
Memory* (Drepper, 2007), section 6.1.

Where all columns have the same offset to the next line they need no stage: registers hold whole
lines, and these are streamed at once. Nor do they if the target stays in the caches, where lines
may be written in parts. Elements of one and two bytes are so many to a line that four rows at a
time are parted into lanes of 16 bytes first. Wider ones that are streamed gain nothing, except by
shorter strips, where rows lie a power of two apart: these share a few sets of the caches, which
lose the lines of some before all are read. If such rows need the stage, they come by way of a rack,
a line of each at a time or, where a few lines of each are all, whole: a plain copy has many lines
under way at once, a transposition only a few.
"""
