"""What the original's environment variables say of logging, and of who an app is."""

from __future__ import annotations

import logging

import pytest

import maestro
from maestro.logs import NOTHING, follow_environment


@pytest.fixture(autouse=True)
def levels(monkeypatch):
    """The loggers' levels as they were before."""
    for variable in ("MSTRO_LOG_LEVEL", "MSTRO_LOG_MODULES"):
        monkeypatch.delenv(variable, raising=False)
    loggers = [logging.getLogger(name) for name in ("maestro", "maestro.node", "maestro.manager")]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.mark.parametrize(
    ("level", "modules", "expected"),  # of maestro, its nodes, its manager
    [
        ("ERR", "", ("ERROR", "ERROR", "ERROR")),
        ("noise", "all", ("DEBUG", "DEBUG", "DEBUG")),
        ("INFO", "all,^node", ("INFO", None, "INFO")),
        ("INFO", "^node", ("INFO", None, "INFO")),
        ("DEBUG", "node", (None, "DEBUG", None)),
        ("DEBUG", "^all, manager", (None, None, "DEBUG")),
        ("", "^all", (None, None, None)),
    ],
)
def test_the_environment_says_what_is_logged(monkeypatch, level, modules, expected):
    monkeypatch.setenv("MSTRO_LOG_LEVEL", level)
    monkeypatch.setenv("MSTRO_LOG_MODULES", modules)
    follow_environment()
    for name, word in zip(("maestro", "maestro.node", "maestro.manager"), expected, strict=True):
        found = logging.getLogger(name).getEffectiveLevel()
        assert found == (NOTHING if word is None else logging.getLevelName(word)), name


def test_nothing_is_changed_where_it_says_nothing():
    logger = logging.getLogger("maestro")
    logger.setLevel("ERROR")
    follow_environment()
    assert logger.level == logging.ERROR


def test_apps_follow_it(monkeypatch, caplog):
    monkeypatch.setenv("MSTRO_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("MSTRO_WORKFLOW_NAME", "forecast")
    monkeypatch.setenv("MSTRO_COMPONENT_NAME", "analysis")
    with maestro.connect() as app:
        assert logging.getLogger("maestro.app").getEffectiveLevel() == logging.DEBUG
        assert (app.workflow, app.component) == ("forecast", "analysis")
        monkeypatch.setenv("MSTRO_LOG_LEVEL", "loud")
        with maestro.connect(app.address, workflow="other", component="me") as other:
            assert (other.workflow, other.component) == ("other", "me")
    assert "MSTRO_LOG_LEVEL: got 'LOUD', expected ERR, WARN" in caplog.text
