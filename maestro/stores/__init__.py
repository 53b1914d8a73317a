"""CDOs in Zarr stores, on a file system or with an object store.

::

    url -> Store     bytes under keys, and who may write              store, local, objects
    Form             how an array lies in objects: chunks, shards     form, naming: no bytes
    StoredArray      one array in a store, object by object           stored
    archives         a group of arrays that is written CDO by CDO     archive
"""

from maestro.stores.store import Store, open_store

__all__ = ["Store", "open_store"]
