"""The map of trends, and beside it how the field was cut before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import _field
import iris_sample_data
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from layouts import Distribution, Plan

#: How a point (longitude, latitude, time) of the drawn boxes is seen on paper.
VIEW = np.array([[1.0, 0.0], [0.0, 1.0], [0.7, 0.42]])

#: Top, east and front faces of the boxes, for ranks in turn.
SHADES = ("#c9dbe8", "#7598b0", "#a3c0d4"), ("#e8dcc3", "#b39b6d", "#d4bf94")

PAPER, INK = "white", "#333333"


def draw(trends: NDArray[np.float64], way: Plan, output: Path) -> None:
    """Draw the trends and the two cuts into a file.

    Parameters
    ----------
    trends : array of shape (latitude, longitude), in K per decade
    way : Plan
        From the producers' cut to the consumers'.
    output : Path
    """
    about = _field.about()
    figure = Figure(figsize=(12.4, 6), layout="constrained", facecolor=PAPER)
    left, right = figure.subplots(1, 2, width_ratios=[3.4, 1])
    colours = draw_map(left, trends, way.target)
    figure.colorbar(colours, ax=left, label="K per decade", shrink=0.9, pad=0.01, aspect=28)
    figure.suptitle(
        f"Trend of air temperature at 1.5 m, {about['first_year']}–{about['last_year']},"
        f" scenario {about['scenario']}",
        fontsize=15,
    )
    draw_cuts(right, way, about["first_year"], about["last_year"])
    source = (
        f"{about['source']}, {_field.FILE.name}; coast from the 2° grid of an ocean model, ORCA2"
    )
    figure.supxlabel(source, fontsize=8, color=INK)
    figure.savefig(output, dpi=130)


def draw_map(ax: Axes, trends: NDArray[np.float64], target: Distribution) -> Any:
    """The trends, with the coast and each consumer's block outlined."""
    with _field.opened() as run:
        longitudes, latitudes = run["longitude"].values - 360, run["latitude"].values
    x, y = edges(longitudes), edges(latitudes)
    limit = np.ceil(np.abs(trends).max() * 20) / 20
    colours = ax.pcolormesh(x, y, trends, cmap="RdBu_r", vmin=-limit, vmax=limit)
    draw_coast(ax)
    for rank in range(target.size):
        _, rows, columns = target.indices(rank)
        if len(rows) and len(columns):
            west, east = x[columns[0]], x[columns[-1] + 1]
            south, north = y[rows[0]], y[rows[-1] + 1]
            ax.plot([west, east, east, west, west], [south, south, north, north, south], c=INK)
            ax.text((west + east) / 2, north + 0.5, f"consumer-{rank}", ha="center", va="bottom")
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]), aspect=1 / np.cos(np.deg2rad(40)))
    ax.xaxis.set_major_formatter(lambda value, _: f"{-value:g}° W")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}° N")
    return colours


def draw_coast(ax: Axes) -> None:
    """The coast, as coarse as an ocean model with a grid of two degrees knows it."""
    with xr.open_dataset(Path(iris_sample_data.path) / "orca2_votemper.nc") as ocean:
        land = ocean["votemper"].isnull()
        x, y = ocean["nav_lon"], ocean["nav_lat"]
        ax.contour(x, y, land, levels=[0.5], colors=INK, linewidths=1)


def edges(centres: NDArray[np.floating]) -> NDArray[np.floating]:
    """Borders of evenly spaced cells."""
    half = (centres[1] - centres[0]) / 2
    return np.append(centres - half, centres[-1] + half)


def draw_cuts(ax: Axes, way: Plan, first_year: int, last_year: int) -> None:
    """The box of all numbers, longitude by latitude by time, as either side cuts it."""
    ax.set_axis_off()
    ax.set_aspect("equal")
    for side, layout, up in (("producer", way.source, 1.75), ("consumer", way.target, 0.0)):
        draw_box(ax, layout, up)
        several = "" if layout.size == 1 else "s"
        kind = "slabs of years" if side == "producer" else "blocks of the map"
        words = f"{layout.size} {side}{several}: {kind}, order {layout.order}"
        ax.text(0.85, up + 1.13, words, ha="center", va="bottom", weight="bold")
    arrow = {"arrowstyle": "simple,head_width=1.2,head_length=0.9", "color": INK}
    ax.annotate("", (0.8, 1.3), (0.8, 1.68), arrowprops=arrow)
    ax.text(0.9, 1.49, "through the pool", va="center")
    ax.text(0.5, -0.05, "longitude", ha="center", va="top")
    ax.text(-0.05, 0.33, "latitude", ha="right", va="center", rotation=90)
    slope = np.rad2deg(np.arctan2(*VIEW[2, ::-1]))
    ax.text(1.42, 0.14, f"{first_year}–{last_year}", ha="center", va="center", rotation=slope)


def draw_box(ax: Axes, layout: Distribution, up: float) -> None:
    """A box cut as the distribution says, the parts that are furthest from the viewer first."""
    parts = [(layout.indices(rank), SHADES[rank % 2]) for rank in range(layout.size)]
    parts = [(held, shades) for held, shades in parts if all(map(len, held))]
    faces, colours = [], []
    for held, shades in sorted(parts, key=lambda part: (-part[0][0][0], part[0][2][0])):
        (t0, t1), (y0, y1), (x0, x1) = (
            (indices[0] / extent, (indices[-1] + 1) / extent)
            for indices, extent in zip(held, layout.shape, strict=True)
        )
        top = [(x0, y1, t0), (x1, y1, t0), (x1, y1, t1), (x0, y1, t1)]
        east = [(x1, y0, t0), (x1, y0, t1), (x1, y1, t1), (x1, y1, t0)]
        front = [(x0, y0, t0), (x1, y0, t0), (x1, y1, t0), (x0, y1, t0)]
        faces += [np.array(face) * (1, 0.66, 1) @ VIEW + (0, up) for face in (top, east, front)]
        colours += shades
    ax.add_collection(PolyCollection(faces, facecolors=colours, edgecolors=INK, linewidths=0.8))
