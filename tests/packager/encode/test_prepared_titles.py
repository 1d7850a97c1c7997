"""Prepared titles of several files."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

import pytest

from packager.library.local_storage import NotFoundError
from packager.process.ffmpeg_discovery import Tools
from tests.packager.encode.preparing_server import (
    Encoder,
    library,
    preparing,
)
from tests.packager.films import run_ffmpeg

pytestmark = pytest.mark.timeout(300)


async def test_a_title_of_several_files_is_prepared_as_it_is_offered(tools: Tools, tmp_path: Path) -> None:
    folder = library(tmp_path)
    source = (
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=320x240:rate=25:duration=9",
        "-f",
        "lavfi",
        "-i",
        "sine=duration=9",
    )
    for name, size in (("old.240p.mkv", "320x240"), ("old.120p.mkv", "160x120")):
        run_ffmpeg(*source, "-c:v", "mpeg2video", "-g", "25", "-s", size, "-c:a", "mp2", folder / name)
    encoder = Encoder()
    async with preparing(folder, tools, tmp_path / "data", encoder.encode, mode="auto") as one:
        for path in ("old", "old.120p.mkv", "other"):
            with contextlib.suppress(NotFoundError):
                assert (await one.preparation.state(path)).state == ""
        with pytest.raises(NotFoundError):
            await one.preparation.add("other")
        await one.preparation.add("old")
        done = await one.reaches("old", lambda state: state.state == "prepared")
        assert done.segments == done.encoded_segments
        assert encoder.encoded
        # Its pictures are those of the largest file, and its sound is that of both.
        playlist = await asyncio.to_thread(one.preparation._titles.multivariant_playlist, "old")
        offered = set(re.findall(r"(old\.\d+p\.mkv/[\w-]+)/", playlist))
        assert {name.split("/")[0] for name in offered if "video" in name} == {"old.240p.mkv"}
        before = list(encoder.encoded)
        for name in offered:
            path, track = name.split("/")
            await one.media.segment(path, track, 1)
        assert encoder.encoded == before
        # A file that changes is another title.
        run_ffmpeg(*source, "-c:v", "mpeg2video", "-s", "160x120", "-c:a", "mp2", folder / "old.120p.mkv")
        await one.reaches("old", lambda state: state.state == "")
