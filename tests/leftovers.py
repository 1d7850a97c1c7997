"""Keeps what a failed test left open from failing a later one, which would count as a second fault.

A test that fails may not close its sockets. Python says so when it frees them, in whichever test runs then.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Generator
from pathlib import Path

import pytest

_AFTER_FAILURE = pytest.StashKey[Path]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note the file of a test that failed."""
    report = yield
    if report.failed:
        item.config.stash[_AFTER_FAILURE] = item.path
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Free in silence what a test that failed has left, and what its file has."""
    failed = item.config.stash.get(_AFTER_FAILURE, None)
    if failed is None:
        return
    # Their frames are kept for whoever debugs, until the next test runs.
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        vars(sys).pop(name, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
    if item.path != failed:
        del item.config.stash[_AFTER_FAILURE]
