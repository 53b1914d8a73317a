"""Memory that the processes of one host share: files on tmpfs, mapped by whoever may.

::

    <parent>/maestro-<uid>-<pool>/       a pool's; each of its nodes on this host holds `lock`
        <node>/                          one node's: it alone holds `lock`
            token                        whoever can read it is on the same host
            0, 1, 2 ...                  segments: a page of header, then bytes

Nothing here knows of Dask, of events or of arrays with more than one axis.
"""

from maestro.arena.arena import Arena
from maestro.arena.mappings import Mappings
from maestro.arena.places import default_parent, is_same_host, reap
from maestro.arena.recycler import Recycler
from maestro.arena.segments import Segment, Use, link_of

__all__ = [
    "Arena",
    "Mappings",
    "Recycler",
    "Segment",
    "Use",
    "default_parent",
    "is_same_host",
    "link_of",
    "reap",
]
