"""Readers of recordings that are removed meanwhile."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from origin.answers.pieces import TruncatedFileError
from origin.recordings.handler import movie_source
from packager.process.ffmpeg_discovery import Tools
from tests.conformance.handfed import Track
from tests.packager.recordings.recorded_channel import record


async def test_a_reader_of_a_removed_recording_gets_what_is_open_and_never_anything_else(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = await record(tmp_path, material, tools, monkeypatch)
    with recording.reading() as reader:
        head, layout = recording.movie()
        source = movie_source(recording, (head, layout), reader, lambda: None, "")
        whole = b""
        while piece := await source.read(len(whole), 1 << 20):
            whole += piece
        assert (len(whole), reader.taken) == (head.size + layout.size, len(whole))
        await source.read(head.size, 1)
        shutil.rmtree(recording.path)
        first = layout.at(0)
        end = first.end
        assert await source.read(head.size, 1 << 20) == whole[head.size + first.begin : head.size + end]
        with pytest.raises(TruncatedFileError):
            await source.read(head.size + end, 1)
        source.release()
