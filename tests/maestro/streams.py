"""To stand in the way of what a demand brings, whichever way it comes."""

from __future__ import annotations

from maestro.transport import pulling, straight


def on_each_message(replace, hook):
    """Have what is done with each message of array bytes done by a hook, in its thread.

    Parameters
    ----------
    replace : callable
        As `setattr`.
    hook : callable
        Is given a function that puts the message's bytes in their places, and returns its slabs;
        returns these.
    """
    unpack, take = pulling.unpack, straight.Coming.take

    def unpacked(slabs, *args):
        def place():
            unpack(slabs, *args)
            return slabs

        hook(place)

    replace(pulling, "unpack", unpacked)
    replace(straight.Coming, "take", lambda coming: hook(lambda: take(coming)))
