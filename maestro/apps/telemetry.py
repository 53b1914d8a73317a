"""What an app did with each CDO: what moved, which way, how long that took and was waited for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maestro.report import Report
from maestro.rows import as_table

__all__ = ["Account", "Telemetry"]

#: The account of all CDOs beyond so many.
OTHERS, MOST = "(others)", 10_000

#: Of the table of accounts.
COLUMNS = ("offers", "offered", "took", "demands", "waited", "under way", "moved")


@dataclass
class Account:
    """What one app did with one CDO, each time that it did.

    Attributes
    ----------
    offers, demands : int
        How often it was offered, and demanded, to a good end.
    offered : int
        Array bytes offered.
    offering : float
        Seconds that this took.
    waited : float
        Seconds that demands waited until it was in the pool.
    seconds : float
        Seconds from then until its data was here.
    moved : Counter
        Array bytes that demands moved, by transport: "host", "network", "store".
    """

    offers: int = 0
    offered: int = 0
    offering: float = 0.0
    demands: int = 0
    waited: float = 0.0
    seconds: float = 0.0
    moved: Counter[str] = field(default_factory=Counter)

    def add(self, other: Account) -> None:
        """Add what was done elsewhere."""
        self.offers += other.offers
        self.offered += other.offered
        self.offering += other.offering
        self.demands += other.demands
        self.waited += other.waited
        self.seconds += other.seconds
        self.moved += other.moved

    def to_dict(self) -> dict[str, Any]:
        """In words that JSON knows."""
        return {**vars(self), "moved": dict(self.moved)}

    def row(self) -> tuple[str, ...]:
        """As `COLUMNS`."""
        ways = ", ".join(f"{nbytes / 1e6:.2f} MB by {way}" for way, nbytes in self.moved.items())
        return (
            str(self.offers),
            f"{self.offered / 1e6:.2f} MB",
            f"{self.offering * 1e3:.1f} ms",
            str(self.demands),
            f"{self.waited * 1e3:.1f} ms",
            f"{self.seconds * 1e3:.1f} ms",
            ways or "-",
        )


class Telemetry(Mapping[str, Account]):
    """The accounts of one app, by CDO; printed as a table.

    Attributes
    ----------
    app : str
        Its name.

    Examples
    --------
    >>> import maestro
    >>> with maestro.connect(component="model") as app:
    ...     have = app.offer("t2m", [280.0, 281.0])
    ...     data = app.demand("t2m")
    >>> app.report["t2m"].demands, app.report["t2m"].moved.total(), app.report.total.offered
    (1, 16, 16)
    """

    def __init__(self, app: str = "") -> None:
        self.app = app
        self._accounts: dict[str, Account] = {}
        self._news: Counter[str] = Counter()  # of demands, that the manager has not been told

    def offered(self, name: str, nbytes: int, seconds: float) -> None:
        """Take an offer into account."""
        account = self._account(name)
        account.offers += 1
        account.offered += nbytes
        account.offering += seconds

    def demanded(self, report: Report) -> None:
        """Take a demand into account."""
        account = self._account(report.name)
        account.demands += 1
        account.waited += report.waited
        account.seconds += report.seconds
        moved = Counter[str]()
        for transfer in report.transfers:
            moved[transfer.transport] += transfer.bytes
        account.moved += moved
        times = {"demands": 1, "waited": report.waited, "seconds": report.seconds}
        self._news.update({**times, **moved})

    def news(self) -> dict[str, float]:
        """What demands moved since this was asked last, by `maestro.report.MOVED`."""
        news, self._news = self._news, Counter()
        return dict(news)

    @property
    def total(self) -> Account:
        """All of them in one."""
        total = Account()
        for account in self._accounts.values():
            total.add(account)
        return total

    def to_dict(self) -> dict[str, Any]:
        """In words that JSON knows."""
        cdos = {name: account.to_dict() for name, account in self.items()}
        return {"app": self.app, "total": self.total.to_dict(), "cdos": cdos}

    def write(self, path: Path) -> None:
        """Leave it in a file, as JSON."""
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    def summary(self) -> str:
        """In one line."""
        total = self.total
        rate = total.moved.total() / total.seconds / 1e9 if total.seconds else 0.0
        return (
            f"{total.offers} offers of {total.offered / 1e6:.2f} MB; {total.demands} demands of"
            f" {total.moved.total() / 1e6:.2f} MB in {total.seconds:.3f} s ({rate:.2f} GB/s),"
            f" after {total.waited:.3f} s of waiting"
        )

    def __getitem__(self, name: str) -> Account:
        return self._accounts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._accounts))

    def __len__(self) -> int:
        return len(self._accounts)

    def __str__(self) -> str:
        rows = [(name, *account.row()) for name, account in self.items()]
        return as_table([*rows, ("in all", *self.total.row())], ("CDO", *COLUMNS))

    __repr__ = __str__

    def _account(self, name: str) -> Account:
        if name not in self._accounts and len(self._accounts) >= MOST:
            name = OTHERS
        return self._accounts.setdefault(name, Account())
