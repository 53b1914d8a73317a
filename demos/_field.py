"""The model run that the demo moves: surface air temperature over North America, 1860-2099.

From the Met Office's Unified Model, scenario E1; it comes with the package `iris-sample-data`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import iris_sample_data
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from layouts import Distribution

NAME = "air_temperature"
FILE = Path(iris_sample_data.path) / "E1_north_america.nc"


@contextmanager
def opened() -> Iterator[xr.DataArray]:
    """The field, nothing of it read yet; its axes are time, latitude and longitude."""
    with xr.open_dataset(FILE) as run:
        yield run[NAME]


def shape() -> tuple[int, ...]:
    """How many years, latitudes and longitudes there are."""
    with opened() as field:
        return field.shape


def itemsize() -> int:
    """Bytes of one number."""
    with opened() as field:
        return field.dtype.itemsize


def read(layout: Distribution, rank: int) -> NDArray[np.float32]:
    """One rank's part, in its order; nothing else is read from the file."""
    with opened() as field:
        part = field.isel(dict(zip(field.dims, layout.indices(rank), strict=True)))
        return np.asarray(part.values, order=layout.order)


def about() -> dict[str, Any]:
    """What a user of the numbers must know: the CDO's attributes."""
    with opened() as field:
        years = field["time"].dt.year.values
        return {
            "standard_name": field.attrs["standard_name"],
            "units": field.attrs["units"],
            "source": field.attrs["source"],
            "scenario": field.attrs["Model scenario"],
            "first_year": years[0],
            "last_year": years[-1],
        }
