"""A small model of weather: two layers of a quasi-geostrophic atmosphere, with waves on a jet.

Vallis, Atmospheric and Oceanic Fluid Dynamics (2017), section 9.5: a westerly wind that grows with
height, as warm and cold air side by side cause it, breaks up into the highs and lows of middle
latitudes. Periodic in both directions, worked out with Fourier transforms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: What the model's units are worth: length in km, speed in m/s; and the time of both, in hours.
LENGTH, SPEED = 2800.0, 9.0
HOURS = LENGTH * 1e3 / SPEED / 3600

#: Kelvin for a difference of one unit between the stream functions of the layers.
WARMTH = 1e-4 * SPEED * LENGTH * 1e3 / (287 * np.log(3))

SHEAR, BETA, ROSSBY, DRAG = 1.0, 11.0, 4.0, 1.5

#: Layers, by the pressure that stands for each.
UPPER, LOWER = 250, 750

Field = NDArray[np.float64]


@dataclass
class Atmosphere:
    """The model; ``rows`` of latitude, twice as many columns of longitude.

    Attributes
    ----------
    vorticity : complex array, shape (2, rows, rows + 1)
        Potential vorticity of either layer, as Fourier coefficients.
    """

    rows: int
    vorticity: Any = None
    _past: list[Any] = field(default_factory=list)  # tendencies of the two steps before

    def __post_init__(self) -> None:
        self.k = np.arange(self.rows + 1)[None, :] / 2  # along the wind: twice the length
        self.l = np.fft.fftfreq(self.rows, 1 / self.rows)[:, None]
        self.square = self.k**2 + self.l**2
        self.step = 0.18 / self.rows
        largest = self.rows / 2
        self.damping = np.exp(-self.step * 40 * (self.square / largest**2) ** 4)
        self.kept = (self.k < 2 / 3 * largest) & (abs(self.l) < 2 / 3 * largest)  # no aliases
        if self.vorticity is None:
            noise = np.random.default_rng(7).normal(
                0, self.rows / 1.6, (2, self.rows, 2 * self.rows)
            )
            self.vorticity = np.fft.rfft2(noise) * (self.square < 25) * (self.square > 0)

    def finer(self) -> Atmosphere:
        """The same state with twice the rows."""
        n = self.rows // 2
        fine = np.zeros((2, 2 * self.rows, 2 * self.rows + 1), complex)
        fine[:, :n, : self.rows] = self.vorticity[:, :n, :-1]
        fine[:, -n:, : self.rows] = self.vorticity[:, -n:, :-1]
        return Atmosphere(2 * self.rows, 4 * fine)

    def stream(self) -> Any:
        """The stream functions, as Fourier coefficients."""
        couple = ROSSBY**2 / 2
        upper, lower = self.vorticity
        whole = np.where(self.square > 0, self.square, 1)
        mean, half = -(upper + lower) / (2 * whole), -(upper - lower) / (2 * (whole + 2 * couple))
        return np.where(self.square > 0, np.array([mean + half, mean - half]), 0)

    def advance(self, hours: float) -> None:
        """Go on for some hours: steps of Adams and Bashforth."""
        for _ in range(round(hours / HOURS / self.step)):
            now = self._tendency()
            before = [*self._past, now, now][:2]
            change = (23 * now - 16 * before[0] + 5 * before[1]) / 12
            self._past = [now, before[0]]
            self.vorticity = (self.vorticity + self.step * change) * self.damping

    def _tendency(self) -> Any:
        stream = self.stream()
        u, v, q = (
            np.fft.irfft2(each)
            for each in (-1j * self.l * stream, 1j * self.k * stream, self.vorticity)
        )
        wind = np.array([SHEAR, -SHEAR])[:, None, None]
        slope = BETA + ROSSBY**2 * wind
        carried = 1j * self.k * np.fft.rfft2((u + wind) * q) + 1j * self.l * np.fft.rfft2(v * q)
        result = -carried - slope * 1j * self.k * stream
        result[1] += DRAG * self.square * stream[1]
        return result * self.kept

    def fields(self) -> dict[tuple[str, int], Field]:
        """What there is to tell, by parameter and level: winds in m/s, warmth in K."""
        stream = self.stream()
        u, v = np.fft.irfft2(-1j * self.l * stream), np.fft.irfft2(1j * self.k * stream)
        warm = np.fft.irfft2(stream[0] - stream[1])
        return {
            ("u", UPPER): SPEED * (u[0] + SHEAR + 1),
            ("v", UPPER): SPEED * v[0],
            ("u", LOWER): SPEED * (u[1] - SHEAR + 1),
            ("v", LOWER): SPEED * v[1],
            ("t", 500): WARMTH * warm,
        }


def weather(rows: int = 96) -> Atmosphere:
    """The model with its highs and lows grown: they begin on a coarser grid, which is quicker."""
    coarse = Atmosphere(rows // 2)
    coarse.advance(6 * HOURS)
    fine = coarse.finer()
    fine.advance(12)
    return fine
