"""How much is logged, and of what, as the original's environment variables say.

``MSTRO_LOG_LEVEL`` is ERR, WARN, INFO, DEBUG or NOISE, or one of Python's names of levels.
``MSTRO_LOG_MODULES`` names the loggers below ``maestro`` that log at that level, such as
``manager,node``; ``all`` are all of them, which is the default, and ``^node`` takes one out again.
"""

from __future__ import annotations

import logging
import os

__all__ = ["follow_environment", "log_level"]

#: The original's names of how much is logged, where they are not Python's.
LEVELS = {"ERR": "ERROR", "WARN": "WARNING", "NOISE": "DEBUG"}

#: More than anything is worth.
NOTHING = logging.CRITICAL + 1


def log_level() -> str | None:
    """How much is logged as MSTRO_LOG_LEVEL says, in Python's words.

    Raises
    ------
    ValueError
        If that is no level.
    """
    told = os.environ.get("MSTRO_LOG_LEVEL", "").strip().upper()
    level = LEVELS.get(told, told)
    if level and level not in logging.getLevelNamesMapping():
        raise ValueError(f"MSTRO_LOG_LEVEL: got {told!r}, expected ERR, WARN, INFO, DEBUG or NOISE")
    return level or None


def follow_environment(default: str | None = None) -> None:
    """Let maestro log what the environment says, at the default level where it does not.

    Without a default nothing is changed unless the environment says something. Where nobody has set
    up logging it goes to standard error.

    Raises
    ------
    ValueError
        If the environment asks for a level that there is not.
    """
    level = log_level() or default
    modules = [word.strip() for word in os.environ.get("MSTRO_LOG_MODULES", "").split(",")]
    modules = [word for word in modules if word]
    if level is None and not modules:
        return
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s")
    level = level or "WARNING"
    logging.getLogger("maestro").setLevel(_of_all(modules, level))
    for word in modules:
        if word.removeprefix("^") != "all":
            taken_out = word.startswith("^")
            name = f"maestro.{word.removeprefix('^').lower()}"
            logging.getLogger(name).setLevel(NOTHING if taken_out else level)


def _of_all(modules: list[str], level: str) -> str | int:
    """What those log that are not named."""
    if "all" in modules:
        return level
    named = [word for word in modules if not word.startswith("^")]
    return NOTHING if named or "^all" in modules else level
