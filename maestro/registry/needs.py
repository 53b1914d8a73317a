"""What goes with a CDO: those that it depends on; and with a group, its members.

::

    version of "rain" ──needs "grid"──> version of "grid"
        ^ requirement of a handle           'holders': does not leave before that of "rain"

A version needs names. As soon as one of these is offered, that version is bound to the first: it
stays in the pool for as long. So whoever requires the first need not require what it needs.

Names, not handles, depend on each other, so that apps that know nothing of each other's handles
can be refused if they say what contradicts: no name may need itself by however many steps.
"""

from __future__ import annotations

from collections.abc import Iterable

from maestro.errors import InconsistentError
from maestro.registry.catalogue import Cdo
from maestro.registry.state import State
from maestro.registry.versions import Stage, Version

__all__ = ["bind", "check_acyclic", "find", "let_go", "unbind"]


def check_acyclic(state: State, name: str, depends: Iterable[str]) -> None:
    """Raise InconsistentError if a name would need itself, naming how.

    Parameters
    ----------
    name : str
        Who says something new.
    depends : iterable of str
        What it says it needs.
    """
    before: dict[str, str] = dict.fromkeys(depends, name)  # who needs it
    todo = list(before)
    while todo:
        at = todo.pop()
        if at == name:
            cycle = [name, before[name]]
            while cycle[-1] != name:
                cycle.append(before[cycle[-1]])
            way = " > ".join(repr(each) for each in reversed(cycle))
            raise InconsistentError(
                f"CDO {name!r}: cyclic dependencies: {way}; expected none to need itself"
            )
        for needed in _needs(state, at):
            if needed not in before:
                before[needed] = at
                todo.append(needed)


def _needs(state: State, name: str) -> Iterable[str]:
    cdo = state.cdos.get(name)
    if cdo is None:
        return
    for handle in cdo.handles.values():
        yield from handle.depends
    for version in cdo.versions():
        yield from version.needs


def bind(state: State, cdo: Cdo, version: Version) -> None:
    """Let a version need what its producers say; and let those that need this name hold it."""
    before = version.needs
    version.needs = tuple(dict.fromkeys(n for slot in version.slots.values() for n in slot.needs))
    for name in before:
        if name not in version.needs:
            _unbind_one(state, version, name)
    for name in version.needs:
        if name not in version.needed:
            other = state.cdos.setdefault(name, Cdo(name))
            if other.current is not None:
                _hold(version, other.current)
            else:
                other.awaited[version.serial] = version
    if version is cdo.current:
        for holder in cdo.awaited.values():
            _hold(holder, version)
        cdo.awaited.clear()


def _hold(holder: Version, version: Version) -> None:
    holder.needed[version.name] = version
    version.holders[holder.serial] = holder


def unbind(state: State, version: Version) -> None:
    """A version needs nothing any more."""
    for name in version.needs:
        _unbind_one(state, version, name)


def _unbind_one(state: State, version: Version, name: str) -> None:
    needed = version.needed.pop(name, None)
    if needed is not None:
        needed.holders.pop(version.serial, None)
        if needed.going:
            # Not here and now: each may free others, in a chain of any length.
            state.freed.append(needed)
    elif name in state.cdos:
        other = state.cdos[name]
        other.awaited.pop(version.serial, None)
        if other.empty:
            del state.cdos[name]


def let_go(cdo: Cdo, version: Version) -> None:
    """A version is gone while others need it: they need the next one, which may be there."""
    for holder in version.holders.values():
        holder.needed.pop(version.name, None)
        if holder.stage is Stage.OVER:
            continue
        if cdo.current is None or cdo.current is version:
            cdo.awaited[holder.serial] = holder
        else:
            _hold(holder, cdo.current)
    version.holders.clear()


def find(
    state: State, key: str, kept: bool = False, along: bool = True
) -> tuple[dict[str, Version], list[str]]:
    """What a handle's demand is about, as far as it is there, and the names that are not.

    Parameters
    ----------
    key : str
        The handle.
    kept : bool
        Whether to pass over what is there but not kept for this handle.
    along : bool
        Whether what goes with it is looked for as well.
    """
    found: dict[str, Version] = {}
    missing: dict[str, None] = {}
    todo: list[Version] = []
    for name in state.handles[key].wants:
        cdo = state.cdos[name] if name in state.cdos else Cdo(name)
        version = cdo.required_by(key)
        if version is None and not kept and cdo.pooled:
            version = cdo.current
        if version is None:
            missing[name] = None
        else:
            found[name] = version
            todo.append(version)
    while todo and along:
        at = todo.pop()
        for name in at.needs:
            needed = at.needed.get(name)
            if needed is None or not needed.there:
                missing[name] = None
            elif name not in found:
                found[name] = needed
                todo.append(needed)
    return found, [name for name in missing if name not in found]
