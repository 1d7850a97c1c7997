"""Films that are packaged in these tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.packager import films

LONG_AGO = (1_700_000_000, 1_700_000_000)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A film with sound, in a folder of its own."""
    path = tmp_path / "films" / "film.mp4"
    path.parent.mkdir()
    path.write_bytes(films.film("bframes.mp4").read_bytes())
    os.utime(path, LONG_AGO)
    return path
