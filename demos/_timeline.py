"""The forecast's picture: some of its maps, and when each field was where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from maestro import Event

PAPER, INK, FAINT = "white", "#333333", "#dddddd"

#: Colours of parameters, and of who did something with a field.
PARAMETERS = {"u": "#a9c6e0", "v": "#bcd9b5", "t": "#ecd3a8"}
ARCHIVER, PRODUCTS, MODEL = "#3f6f99", "#b2562f", "#7d7d7d"

WARM, COLD = "#b2182b", "#2b3f8c"

#: Maps that are drawn at most.
MAPS = 4


@dataclass
class Interval:
    """When something was done, in seconds since the epoch."""

    begin: float
    end: float


def draw(
    events: list[Event],
    model: list[Interval],
    products: list[Interval],
    maps: dict[int, Any],
    output: Path,
) -> None:
    """Draw it.

    Parameters
    ----------
    events : list of Event
        All that happened in the pool.
    model, products : list of Interval
        When the model worked out each step, and product generation made and offered each map.
    maps : dict
        Wind in m/s and warmth in K, by step in hours.
    output : Path
    """
    steps = sorted(maps)
    shown = [steps[round(n)] for n in np.linspace(0, len(steps) - 1, min(MAPS, len(steps)))]
    figure = Figure(figsize=(13, 9.6), layout="constrained", facecolor=PAPER)
    above, below = figure.subfigures(2, 1, height_ratios=[1, 3])
    above.suptitle(
        "Wind at 250 hPa; warm (red) and cold (blue) air at 500 hPa, every 6 K", fontsize=13
    )
    axes = np.atleast_1d(above.subplots(1, len(shown)))
    strongest = max(wind.max() for wind, _ in maps.values())
    for ax, step in zip(axes, shown, strict=True):
        colours = draw_map(ax, *maps[step], strongest)
        ax.set_title(f"+{step} h", fontsize=11)
    above.colorbar(colours, ax=axes, label="m/s", shrink=0.8, pad=0.01)
    draw_timeline(below.subplots(), events, model, products)
    below.suptitle("Each field's time in the pool", fontsize=13)
    figure.savefig(output, dpi=100)


def draw_map(ax: Axes, wind: NDArray[Any], warmth: NDArray[Any], strongest: float) -> Any:
    """One step's map."""
    colours = ax.imshow(
        wind, cmap="YlGn", vmin=0, vmax=strongest, origin="lower", interpolation="bilinear"
    )
    levels = [6, 12, 18, 24]
    ax.contour(warmth, levels=levels, colors=WARM, linewidths=0.8)
    ax.contour(-warmth, levels=levels, colors=COLD, linewidths=0.8)
    ax.set_xticks([])
    ax.set_yticks([])
    return colours


def draw_timeline(
    ax: Axes, events: list[Event], model: list[Interval], products: list[Interval]
) -> None:
    """A line for each field, from its offer to its withdrawal, and what was done with it."""
    fields = [
        event.name for event in events if event.kind == "offer" and param(event) in PARAMETERS
    ]
    line = {name: 2.0 + number for number, name in enumerate(fields)}
    zero = min(interval.begin for interval in model)
    offered: dict[Any, float] = {}
    begun: dict[Any, float] = {}
    for event in events:
        if event.name not in line or event.when == "before":
            continue
        y, time = line[event.name], event.time - zero
        if event.kind == "offer":
            offered[event.name] = time
        elif event.kind == "withdraw":
            bar(ax, y, offered[event.name], time, PARAMETERS[param(event)], 0.8)
        elif event.kind == "transport-begin":
            begun[event.name, event.app] = time
        elif event.kind == "transport-end":
            colour = ARCHIVER if str(event.app).startswith("archiver") else PRODUCTS
            low = 0.2 if colour == ARCHIVER else -0.2
            bar(ax, y + low, begun[event.name, event.app], time, colour, 0.38, zorder=3)
    for colour, intervals, y in ((MODEL, model, -0.6), (PRODUCTS, products, 0.6)):
        for interval in intervals:
            bar(ax, y, interval.begin - zero, interval.end - zero, colour, 0.9)
    ends = [event.time for event in events if event.kind == "withdraw"]
    end = max(*ends, *(interval.end for interval in products)) - zero
    ax.set(xlim=(0, end * 1.045), ylim=(max(line.values()) + 1, -1.4), xlabel="seconds")
    label(ax, fields, line)


def label(ax: Axes, fields: list[Any], line: dict[Any, float]) -> None:
    """Names at the lines' beginnings, a rule between steps, and what colours mean."""
    names = [name.partition("+")[0] for name in fields]
    ax.set_yticks([-0.6, 0.6, *line.values()], ["model", "maps", *names], fontsize=7)
    ax.tick_params(length=0)
    last = None
    for name in fields:
        step = name.partition("+")[2]
        if step != last:
            ax.axhline(line[name] - 0.5, color=FAINT, linewidth=0.8, zorder=0)
            ax.text(
                *(0.997, line[name] + 0.1, f"+{int(step)} h"),
                transform=ax.get_yaxis_transform(),
                ha="right",
                va="center",
                fontsize=9,
                color=INK,
            )
            last = step
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    handles = [
        *(Patch(color=PARAMETERS[p], label=f"{p} in the pool") for p in PARAMETERS),
        Line2D([], [], color=ARCHIVER, lw=4, label="on its way to the archiver"),
        Line2D([], [], color=PRODUCTS, lw=4, label="on its way to product generation"),
    ]
    ax.legend(handles=handles, loc="lower left", frameon=True, edgecolor=FAINT, fontsize=9)


def bar(
    ax: Axes, y: float, begin: float, end: float, colour: str, height: float, **how: Any
) -> None:
    """From one time to another."""
    ax.barh(y, end - begin, height, left=begin, color=colour, linewidth=0, **how)


def param(event: Event) -> str:
    """The parameter of a field; nothing for other CDOs."""
    return str(event.attributes.get(".maestro.forecast.param", ""))
