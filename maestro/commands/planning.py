"""`maestro plan`: from one distribution to another, without moving anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from layouts import Distribution, Plan

__all__ = ["plan"]

#: Ranks of either side up to which bytes are printed for each pair.
SHOWN = 12


class _Distribution(click.ParamType):
    """A distribution in one word, as JSON, or as @FILE that holds either."""

    name = "distribution"

    def convert(self, value: Any, param: Any, ctx: Any) -> Distribution:
        """Read it."""
        from layouts import Distribution
        from layouts.notation import from_text

        try:
            text = Path(value[1:]).read_text() if value.startswith("@") else value
            if text.lstrip().startswith("{"):
                return Distribution.from_dict(json.loads(text))
            return from_text(text)
        except OSError as error:
            self.fail(f"{value[1:]}: {error.strerror}", param, ctx)
        except KeyError as error:
            self.fail(f"it has no {error}, as of Distribution.to_dict", param, ctx)
        except (ValueError, TypeError) as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.argument("source", type=_Distribution(), metavar="SRC")
@click.argument("target", type=_Distribution(), metavar="DST")
@click.option("--dtype", default="f8", show_default=True, help="Type of the elements.")
@click.option("--relabel", is_flag=True, help="Choose where each target rank lives.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the plan into this SVG file.",
)
def plan(
    source: Distribution, target: Distribution, dtype: str, relabel: bool, output: Path | None
) -> None:
    """Explain the way from SRC to DST, two distributions.

    \b
    In one word, shape/grid/axes/order:
        8192x8192/2x2/cyclic64,cyclic64/F    block-cyclic, column-major
        8192x8192/4x1                        blocks of rows, row-major
        12x5/2x3/irregular0:5:12,replicated  where axes are cut; copies
        9x8x7/1x2x2/1-2-0                    axes from slowest to fastest
        8192x8192/tiled64x64                 one rank, in tiles
    As JSON, as Distribution.to_dict gives it. Or as @FILE with either.
    """  # noqa: D301  (click wants the backspace itself)
    import numpy as np

    import layouts

    try:
        itemsize = np.dtype(dtype).itemsize
        way = layouts.plan(source, target, relabel=relabel)
        if output is not None:
            output.write_text(way.picture(itemsize))
    except (ValueError, TypeError, MemoryError) as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{output} can't be written: {error.strerror}") from None
    click.echo(way.explain(itemsize))
    if max(source.size, target.size) <= SHOWN:
        click.echo(_matrix(way, itemsize))


def _matrix(way: Plan, itemsize: int) -> str:
    """Bytes from each source rank to each target rank, as a table."""
    matrix = way.matrix(itemsize)
    head = ["bytes", *(f"to {rank}" for rank in range(matrix.shape[1]))]
    rows = [[f"from {rank}", *map(str, row)] for rank, row in enumerate(matrix.tolist())]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (head, *rows)
    )
