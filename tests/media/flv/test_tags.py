"""FLV's readers take tags that are there already, as RTMP brings them, like the bytes of the same tags."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from media.errors import MediaError
from media.flv import tags as flv_tags
from media.flv.amf0 import write_values
from media.flv.demuxer import FlvDemuxer
from media.flv.tags import SCRIPT, VIDEO, Tag, write_tags
from media.mp4.fragments.fragments import Fragment, InitSegment
from media.muxers.flv_muxer import FlvMuxer
from tests.media.flv.flv_tags import AVCC, METADATA, some_tags
from tests.media.muxers.muxed_streams import FragmentRemuxer, samples


@pytest.mark.parametrize("seed", range(20))
def test_tags_are_demuxed_as_their_bytes_are(seed: int) -> None:
    tags = some_tags(random.Random(seed))
    by_bytes, by_tags = FlvDemuxer(), FlvDemuxer()
    by_bytes.receive_data(flv_tags.file_header())
    for begin in range(0, len(tags), 25):
        some = tags[begin : begin + 25]
        assert by_tags.receive_tags(some) == by_bytes.receive_data(write_tags(some))


@pytest.mark.parametrize("take", ["bytes", "tags"])
def test_metadata_go_on_at_time_0_as_ffmpeg_expects_them_and_other_scripts_do_not(take: str) -> None:
    text = write_values(["onTextData", {"text": "a"}])
    frame = (VIDEO, 5000, b"\x17\1\0\0\0ab")
    first = (VIDEO, 5000, b"\x17\0\0\0\0" + AVCC)
    tags = [first, (SCRIPT, 5000, METADATA), frame, (SCRIPT, 5020, text), frame]
    demuxer = FlvDemuxer()
    demuxer.receive_data(flv_tags.file_header())
    found = demuxer.receive_tags(tags) if take == "tags" else demuxer.receive_data(write_tags(tags))
    expected = [first, (SCRIPT, 0, METADATA), frame, frame]
    assert FlvMuxer().push(found) == flv_tags.file_header() + write_tags(expected)


@pytest.mark.parametrize("seed", range(20))
def test_tags_are_remuxed_as_their_bytes_are(seed: int) -> None:
    tags = some_tags(random.Random(seed))
    by_bytes, by_tags = FragmentRemuxer(), FragmentRemuxer()
    by_bytes.receive_data(flv_tags.file_header())
    for begin in range(0, len(tags), 25):
        some = tags[begin : begin + 25]
        found = outcome(by_tags.receive_tags, some)
        assert found == outcome(by_bytes.receive_data, write_tags(some))
        if isinstance(found, str):
            return


def outcome(take: Callable[[Any], list[InitSegment | Fragment]], given: Sequence[Tag] | bytes) -> object:
    """Give the samples that come of something, or the error."""
    try:
        return samples(take(given))
    except MediaError as error:
        return str(error)
