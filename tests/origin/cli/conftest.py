"""What tests of commands share."""

from __future__ import annotations

import pytest

from tests.quick_ffmpeg import PROGRAMS, quick_programs


@pytest.fixture
def quick_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``headwater check`` read segments by the wheel's ffprobe, which starts in a fiftieth of the time.

    A check starts one for each segment. The system's is that of other tests.
    """
    for name, path in quick_programs().items():
        monkeypatch.setenv(PROGRAMS[name], str(path))
