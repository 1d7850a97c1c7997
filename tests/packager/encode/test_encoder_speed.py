"""Pictures that are too large for a machine aren't offered: how fast it encodes is measured and kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from packager.concurrency import usable_cores
from packager.encode.encoder_speed import RECORD, encoding_speed, largest_in_real_time, recorded_height
from packager.encode.renditions import RUNGS, EncodedRenditions
from packager.library.local_storage import Library
from packager.process.ffmpeg_discovery import Tools
from packager.safe_files import DataFolder
from packager.vod.titles import Titles
from tests.packager.encode.encoded_library import encoding, library
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)

HEIGHTS = [height for height, _ in RUNGS]
FILM = "bframes.mp4"


async def test_the_largest_picture_in_real_time_is_found(tools: Tools) -> None:
    speed = await encoding_speed(tools, *RUNGS[0])
    # As on a machine that is four times as slow as it may be, and on one on which everything is too slow.
    height, _ = await largest_in_real_time(tools, 4 * speed)
    assert height in HEIGHTS[1:]
    assert (await largest_in_real_time(tools, 1e6 * speed))[0] == HEIGHTS[-1]


async def test_a_server_that_has_encoded_a_film_knows_its_speed_when_it_starts_again(
    tools: Tools, tmp_path: Path
) -> None:
    films, data = library(tmp_path, FILM), tmp_path / "data"
    async with encoding(films, tools, data, idle_seconds=0.1) as media:
        await media.segment(FILM, "audio-aac", 0)
        await until((data / "encoded" / RECORD).exists, "the result of the trial")
    assert recorded_height(tools, DataFolder(data) / "encoded") in HEIGHTS


@pytest.mark.parametrize(
    "record", [b"", b"[]", b"{}", b"[" * 4000, b'{"height": 720}', b"\xff", bytes(1 << 20), b"other cores"]
)
def test_a_record_that_is_damaged_or_of_another_machine_counts_for_nothing(
    tools: Tools, tmp_path: Path, record: bytes
) -> None:
    cores = usable_cores()
    file = tmp_path / RECORD
    file.write_text(json.dumps({"encoder": tools.version, "cores": cores, "height": 720}))
    assert recorded_height(tools, DataFolder(tmp_path)) == 720
    if record == b"other cores":
        record = json.dumps({"encoder": tools.version, "cores": cores + 1, "height": 720}).encode()
    file.write_bytes(record)
    assert recorded_height(tools, DataFolder(tmp_path)) is None


def test_larger_pictures_are_not_offered(tmp_path: Path) -> None:
    """The film has 180 lines: it is offered in its own size, or in that of the largest one."""
    storage = Library(library(tmp_path, FILM))
    for largest, names in ((1080, ["video-180p"]), (120, ["video-120p"])):
        renditions = EncodedRenditions("all", "encoder", largest=largest)
        index = Titles(storage, encoded=renditions.tracks).files.find(FILM).index
        assert [track.name for track in index.encoded if track.video] == names
