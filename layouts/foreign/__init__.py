"""Distributions to and from the words of other libraries; plain values, none of them is imported.

=============  ===============================================================================
module         what it reads and writes
=============  ===============================================================================
`dask_chunks`  the chunk lengths of a Dask array
`zarr_grids`   the chunk or shard grid of a Zarr array, regular or rectilinear
`scalapack`    ScaLAPACK's array descriptor on a BLACS process grid
`mpi`          the arguments of ``MPI_Type_create_darray``
=============  ===============================================================================

Each is imported when asked for, by its own name:

>>> from layouts.foreign import dask_chunks
>>> print(dask_chunks.from_chunks(((3, 3, 2), (5,))))
(8, 5) over 3x1 ranks: BlockCyclic(3) x BlockCyclic(5), order C
"""
