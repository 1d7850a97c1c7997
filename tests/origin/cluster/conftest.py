"""Fixtures of the tests of clusters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_server import RedisServer, redis_running


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Run a Redis of the test's own, which it may kill."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with redis_running(folder) as server:
        yield server
