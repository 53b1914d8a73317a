"""Whose turn it is: the life of one CDO handle.

::

    declared --seal--> sealed --offer--> offered --withdraw--> withdrawn --dispose--> disposed
                          |                 ^----------offer-------'
                          |--require--> required --retract--> retracted
                          '--demand--> demanded <--demand--'

`offer`, `require` and `demand` seal by themselves. A handle may be offered again once withdrawn,
and required or demanded again once demanded or retracted. A call that fails leaves the handle
where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from maestro.errors import LifecycleError

__all__ = ["TURNS", "Lifecycle", "Together"]

_AT_REST = ("declared", "sealed", "withdrawn", "demanded", "retracted")

#: For every call: the states from which it may be made, and the state that it leads to.
TURNS: dict[str, tuple[tuple[str, ...], str]] = {
    "seal": (("declared",), "sealed"),
    "offer": (("declared", "sealed", "withdrawn"), "offered"),
    "withdraw": (("offered",), "withdrawn"),
    "require": (("declared", "sealed", "demanded", "retracted"), "required"),
    "retract": (("required",), "retracted"),
    "fetch": (("required",), "required"),  # a demand after which it is still required
    "demand": (("declared", "sealed", "required", "demanded", "retracted"), "demanded"),
    "dispose": (_AT_REST, "disposed"),
}


class Lifecycle:
    """The state of one handle.

    Examples
    --------
    >>> life = Lifecycle("t2m")
    >>> with life.turn("offer"):
    ...     pass
    >>> life.state
    'offered'
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = "declared"

    def check(self, call: str) -> None:
        """Raise LifecycleError unless it is the turn of ``call``."""
        states, _ = TURNS[call]
        if self.state not in states:
            raise LifecycleError(
                f"CDO {self.name!r}: {call} was called while the handle is {self.state},"
                f" expected {' or '.join(states)}{self._advice(call)}"
            )

    @contextmanager
    def turn(self, call: str) -> Iterator[None]:
        """Make ``call``: afterwards the handle is in its new state, or where it was on an error."""
        self.check(call)
        before = self.state
        self.state = f"in {call}"  # a second thread's call meanwhile is out of its turn
        try:
            yield
        except BaseException:
            self.state = before
            raise
        self.state = TURNS[call][1]

    def _advice(self, call: str) -> str:
        if call == "dispose":
            return {
                "offered": "; withdraw it first",
                "required": "; retract or demand it first",
            }.get(self.state, "")
        return ""


class Together(Lifecycle):
    """The state of a group's handle: a call is the turn of all of its members, or of none.

    Attributes
    ----------
    members : list of Lifecycle
        Those of the members.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.members: list[Lifecycle] = []

    def check(self, call: str) -> None:
        """Raise LifecycleError unless it is everyone's turn."""
        super().check(call)
        for member in self.members:
            member.check(call)
            if self.state == "declared" != member.state:
                raise LifecycleError(
                    f"CDO {member.name!r}: it is {member.state}, expected declared, for it is a"
                    f" member of group {self.name!r}, which is not sealed"
                )

    @contextmanager
    def turn(self, call: str) -> Iterator[None]:
        """Make ``call``: afterwards all are in their new state, or where they were on an error."""
        with super().turn(call), ExitStack() as turns:
            for member in self.members:
                turns.enter_context(member.turn(call))
            yield
