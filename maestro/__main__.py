"""``python -m maestro``."""

from maestro.commands import maestro

maestro(prog_name="maestro")
