"""A group as one app holds it: CDOs that are offered, wanted and withdrawn as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from time import perf_counter
from typing import Any

from maestro.apps.cdo import Cdo
from maestro.apps.handle import Handle, checked_name
from maestro.apps.lifecycle import Together
from maestro.apps.link import Link
from maestro.apps.offering import Given, Offering
from maestro.config import get_seconds
from maestro.errors import InconsistentError, LifecycleError
from maestro.report import Report
from maestro.schemas import Schemas
from maestro.transport import transfer
from maestro.transport.bundles import Brought, bring, fetch
from maestro.transport.taking import Found, Wanted, sizes, take

__all__ = ["Group"]


class Group(Handle):
    """One app's handle to a group of CDOs; made by `App.group`.

    A call is made for all members at once, by one message, and takes effect for all or for none.
    Members are handles of the same app, CDOs or groups. Whoever wants a group need not know them: a
    group without members of its own stands for all that are offered under its name.

    Iterating over it gives the members' handles; after a demand also where they were not known.

    Attributes
    ----------
    dependencies : dict
        After a demand, what came along with the members, as `Cdo.dependencies`.
    """

    _life: Together

    def __init__(
        self,
        link: Link,
        name: str,
        members: Iterable[Handle] = (),
        attributes: Mapping[str, Any] | None = None,
        schemas: Schemas | None = None,
        eagerness: str = "lazy",
    ) -> None:
        checked_name(name)
        super().__init__(link, name, attributes, schemas, Together(name), eagerness)
        self._members: dict[str, Handle] = {}
        self._known: dict[str, Handle] = {}  # members that a demand has found
        self.dependencies: dict[str, Any] = {}
        self.add(*members)

    def add(self, *members: Handle) -> None:
        """Add CDOs or groups, before any of them is sealed.

        Raises
        ------
        TypeError
            For what is no handle.
        InconsistentError
            For a handle of another app, a second one of the same name, or a group that this one is
            a member of, naming the cycle.
        LifecycleError
            If the group or a member is sealed already, or the member is in another group.
        """
        self._life.check("seal")
        for member in members:
            if not isinstance(member, Cdo | Group):
                raise TypeError(f"group {self.name!r}: got {member!r}, expected handles of CDOs")
            if member._link is not self._link:
                raise InconsistentError(
                    f"group {self.name!r}: {member.name!r} is a handle of app {member._link.app!r},"
                    f" expected one of {self._link.app!r}"
                )
            self._check_acyclic(member)
            if member.name in self._members:
                raise InconsistentError(
                    f"group {self.name!r}: it has a member {member.name!r} already, expected one of"
                    " each name"
                )
            if member._group is not None:
                raise LifecycleError(
                    f"group {self.name!r}: {member.name!r} is in group {member._group.name!r}"
                    " already"
                )
            member._life.check("seal")
            member._group = self
            self._members[member.name] = member
            self._life.members.append(member._life)

    def __iter__(self) -> Iterator[Any]:
        return iter((self._members or self._known).values())

    def __len__(self) -> int:
        return len(self._members or self._known)

    def __getitem__(self, name: str) -> Any:
        return (self._members or self._known)[name]

    def __contains__(self, member: object) -> bool:
        known = self._members or self._known
        return member in known or member in known.values()

    def __repr__(self) -> str:
        return f"<Group {self.name!r}, {self.state}, of {', '.join(map(repr, self)) or 'nothing'}>"

    def offer(self, data: Mapping[str, Any] | None = None, timeout: float | None = None) -> Any:
        """Bring all members into the pool: nobody sees some of them without the others.

        Parameters
        ----------
        data : mapping, optional
            By name, what `Cdo.offer` takes for each member, those of member groups included.
            Nothing for members without data, and for what `Cdo.empty` gave.
        timeout : float, optional
            Seconds to wait for room for all of them at most; as `Cdo.offer`.

        Raises
        ------
        MaestroError
            As `Cdo.offer`, and then no member is offered. InconsistentError also for data of what
            is no member.
        """
        return self._link.run(self._offer, data or {}, timeout)

    def demand(self, timeout: float | None = None) -> Any:
        """Get the data of all members, once all are there.

        Parameters
        ----------
        timeout : float, optional
            Seconds that it may take in all; without limit by default.

        Returns
        -------
        dict
            By name, what `Cdo.demand` gives for each member, in its layout; for a member group,
            such a dict.

        Raises
        ------
        MaestroError
            As `Cdo.demand`; InconsistentError also if what is offered under this name is no group.

        Examples
        --------
        >>> import maestro
        >>> with maestro.connect() as app:
        ...     wind = app.group("wind", [app.declare("u10"), app.declare("v10")])
        ...     wind.offer({"u10": [1.0, 2.0], "v10": [3.0, 4.0]})
        ...     app.group("wind").demand()
        {'u10': array([1., 2.]), 'v10': array([3., 4.])}
        """
        return self._link.run(self._demand, timeout)

    # The same as coroutines on the client's loop

    def _check_acyclic(self, member: Handle) -> None:
        way = [member.name]
        at: Group | None = self
        while at is not None:
            way.append(at.name)
            if at is member or at.name == member.name:
                cycle = " > ".join(map(repr, reversed(way)))
                raise InconsistentError(
                    f"group {self.name!r}: {member.name!r} can't be its member: {cycle}"
                )
            at = at._group

    def _handles(self) -> Iterator[Handle]:
        """The members' handles, those of member groups included, and last its own."""
        for member in self._members.values():
            if isinstance(member, Group):
                yield from member._handles()
            else:
                yield member
        yield self

    def _sealing(self) -> dict[str, Any]:
        try:
            seals = [each._words() for each in self._handles()]
        except BaseException:
            self._unseal()
            raise
        return {"word": "seals", "seals": seals}

    def _words(self) -> dict[str, Any]:
        return {
            **self._announcement(),
            "rank": None,
            "dtype": None,
            "distribution": None,
            "depends": [],
            "group": True,
            "members": [member._handle for member in self._members.values()],
        }

    def _unseal(self) -> None:
        for each in self._handles():
            each.attributes.unseal()

    async def _offer(self, data: Mapping[str, Any], timeout: float | None) -> None:
        patience = get_seconds("offer.patience") if timeout is None else timeout
        self._life.check("offer")
        handles = list(self._handles())
        cdos = [each for each in handles if isinstance(each, Cdo)]
        if strange := sorted(data.keys() - {cdo.name for cdo in cdos}):
            raise InconsistentError(
                f"group {self.name!r}: data of {', '.join(map(repr, strange))} was given, expected"
                f" some of its members: {', '.join(repr(cdo.name) for cdo in cdos) or 'none'}"
            )
        given: dict[Handle, Given] = {cdo: await cdo._given(data.get(cdo.name)) for cdo in cdos}
        begun = perf_counter()
        async with self._turn("offer") as first:
            self._schemas.miss(text for each in handles for text in each._missing)

            async def attempt(again: bool) -> None:
                answers = await self._link.call(
                    "offergroup",
                    first=None if again else first,
                    handle=self._handle,
                    wait=patience > 0,
                    timeout=patience or None,
                    offers=[each._asking(given.get(each)) for each in handles],
                )
                async with self._entering(given.values()):
                    await self._bring({cdo: (given[cdo], answers[cdo._handle]) for cdo in cdos})

            await self._insist(attempt)
            for cdo in cdos:
                cdo._offered(given[cdo])
        seconds = (perf_counter() - begun) / max(1, len(cdos))
        for cdo in cdos:
            self._link.telemetry.offered(cdo.name, cdo._nbytes, seconds)

    async def _bring(self, members: Mapping[Cdo, tuple[Given, Any]]) -> None:
        """Bring what is small together, and then the rest, one by one."""
        ways = self._link.ways
        small: list[Brought] = []
        for cdo, (given, answer) in members.items():
            source = cdo._source(given, answer)
            if source is not None and isinstance(given, Offering) and not given.near:
                for places in (answer["nodes"], *answer["copies"]):
                    small.append(Brought(source, places, given.parts))
            else:
                await cdo._bring(given, answer)
        for each in await bring(ways, small):
            await transfer.store(ways, each.source, each.places, each.parts)

    async def _withdraw(self, timeout: float | None) -> None:
        await super()._withdraw(timeout)
        for each in self._handles():
            if isinstance(each, Cdo):
                each._withdrawn()

    def _sizes(self, found: dict[str, Any]) -> list[int]:
        return [
            size
            for name, each in found.get("along", {}).items()
            for size in sizes(self._wanted(name), each)
        ]

    def _wanted(self, name: str) -> Wanted:
        """How a member, or what comes along with one, is wanted."""
        for each in self._handles():
            if isinstance(each, Cdo):
                if each.name == name:
                    return each._wanted()
                if name in each._depends:
                    return each._along(name)
        return Wanted(name)

    async def _demand(self, timeout: float | None) -> dict[str, Any]:
        begun = perf_counter()
        async with self._turn("demand") as first, self._moved(timeout) as brought:
            if brought is None:
                found = await self._ask(timeout, first)
                waited = perf_counter() - begun
                async with self._receiving(found, timeout, waited):
                    brought = await self._fetch(found, waited)
            found, came, reports = brought
            data = self._fill(found, found.get("along", {}), came, reports)
            self.dependencies = {name: each for name, each in came.items() if each is not None}
            return data

    async def _fetch(self, found: Found, waited: float = 0.0) -> tuple[Found, Any, Any]:
        """Bring the members."""
        if not found["group"]:
            raise InconsistentError(f"group {self.name!r}: it is a CDO, expected a group")
        along: dict[str, Found] = found.get("along", {})
        reports = {name: Report(name, waited) for name in along}
        came = await self._take(along, reports)
        for report in reports.values():
            self._link.telemetry.demanded(report)
        return found, came, reports

    async def _bring_ahead(self, found: Found) -> tuple[Found, Any, Any]:
        async with self._receiving(found):
            return await self._fetch(found)

    async def _take(
        self, along: Mapping[str, Found], reports: Mapping[str, Report]
    ) -> dict[str, Any]:
        """Fetch what is small together, and then the rest, one by one."""
        ways = self._link.ways
        wanted = {name: self._wanted(name) for name in along}
        since = perf_counter()
        came = await fetch(ways, [(wanted[name], along[name], reports[name]) for name in along])
        for report in reports.values():
            report.seconds = perf_counter() - since
        for name, each in along.items():
            if name not in came:
                since = perf_counter()
                came[name] = await take(ways, wanted[name], each, reports[name], self._again(name))
                reports[name].seconds = perf_counter() - since
        return came

    def _fill(
        self,
        found: Found | None,
        along: Mapping[str, Found],
        came: dict[str, Any],
        reports: Mapping[str, Report],
    ) -> dict[str, Any]:
        """Take the members' data out of what came, and tell their handles what is known of them."""
        if found is not None:
            self.attributes.unite(found["attributes"])
        if not self._members:
            needs = () if found is None else found["needs"]
            self._known = {name: self._know(name, along[name]) for name in needs}
        data: dict[str, Any] = {}
        for member in self:
            each = along.get(member.name)
            if isinstance(member, Group):
                data[member.name] = member._fill(each, along, came, reports)
            elif each is not None:
                member.attributes.unite(each["attributes"])
                member.report = reports[member.name]
                data[member.name] = came.pop(member.name, None)
        return data

    def _know(self, name: str, found: Found) -> Handle:
        """A handle for a member that was not known."""
        kind = Group if found["group"] else Cdo
        return kind(self._link, name, schemas=self._schemas)
