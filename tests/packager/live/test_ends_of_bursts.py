"""The end of a stream that comes in bursts goes out as evenly as the rest, so that none of it is lost."""

from __future__ import annotations

import asyncio
import itertools
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from packager.live.channel import Channel
from packager.process.ffmpeg_discovery import Tools
from packager.sources.bursts import release_held
from packager.sources.publication import Publication
from tests.live_server import running
from tests.packager.live.copied_streams import FIRST, OPTIONS, media_of, published_by
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)

BURST, BURSTS = 4, 4
RATE = 25
PICTURES = RATE * BURST * BURSTS
BLACK, PER_PICTURE = 16, 0.5
"""Luma of the first picture, and how much more each has than the one before."""

FURTHEST = 4
"""By how many steps of luma a picture differs that was encoded twice."""


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Return the beginning of fragmented MP4, and each fragment of a burst's length."""
    made = tmp_path_factory.mktemp("bursts") / "bursts.mp4"
    picture = f"color=black:s=320x180:r={RATE},geq=lum={BLACK}+{PER_PICTURE}*N:cb=128:cr=128"
    inputs = f"-f lavfi -i {picture} -f lavfi -i sine=440:sample_rate=48000 -t {BURST * BURSTS}"
    coding = f"-c:v libx264 -preset ultrafast -qp 4 -pix_fmt yuv420p -g {RATE} -c:a aac"
    form = f"-frag_duration {BURST * 1_000_000} -movflags empty_moov+default_base_moof"
    words = f"-nostdin -v error {inputs} {coding} {form} {made}"
    subprocess.run(["ffmpeg", *words.split()], check=True)
    data = made.read_bytes()
    places = [found.start() - 4 for found in re.finditer(b"moof", data)]
    # ffmpeg writes the last frames of the sound in a fragment of their own.
    return [data[begin:end] for begin, end in itertools.pairwise([0, *places[:BURSTS], len(data)])]


async def bring(publication: Publication, pieces: list[bytes]) -> None:
    """Bring each fragment when its last picture is made, and end the stream behind the last one."""
    began = asyncio.get_running_loop().time()
    for index, piece in enumerate(pieces):
        await asyncio.sleep(max(began + BURST * index - asyncio.get_running_loop().time(), 0))
        await publication.receive_data(piece)
    publication.end()


def last_luma(channel: Channel, name: str, folder: Path) -> int:
    """Return the luma of the last picture that is listed, as ffmpeg decodes it."""
    window, made = channel.renditions[name].window, folder / "pictures.mp4"
    assert window.timeline is not None
    made.write_bytes(media_of(window, window.timeline.number))
    words = f"-nostdin -v error -i {made} -vf scale=1:1:out_range=tv -f rawvideo -pix_fmt yuv444p -"
    done = subprocess.run(["ffmpeg", *words.split()], check=True, capture_output=True)
    return done.stdout[::3][-1]


@pytest.mark.parametrize("ends_event", [False, True], ids=["", "and-its-event"])
@pytest.mark.parametrize("ladder", [("source",), ("240p",), ("source", "240p")], ids="+".join)
async def test_the_last_picture_of_the_last_burst_is_published(
    tools: Tools, pieces: list[bytes], tmp_path: Path, ladder: tuple[str, ...], ends_event: bool
) -> None:
    channel = Channel(replace(OPTIONS, ladder=ladder), tools)
    publication = published_by(channel).begin(FIRST)
    with capture_logs() as logs:
        async with running(channel):
            await bring(publication, pieces)
            if ends_event:
                await channel.live_event.end()
            await until(lambda: any(one["event"] in {"source ended", "event is over"} for one in logs))
            windows = [one.window for one in channel.renditions.values()]
            assert not any(one.gap or one.discontinuity for window in windows for one in window.listed)
            lumas = [await asyncio.to_thread(last_luma, channel, name, tmp_path) for name in ladder]
            assert min(lumas) >= BLACK + PER_PICTURE * (PICTURES - 1) - FURTHEST
            assert channel.restarts == 0
            lengths = [sum(one.duration for one in window.listed) for window in windows]
            # A frame of AAC, and one picture, fewer or more.
            assert max(lengths) - min(lengths) <= 2 / RATE


async def released(waits: list[float | None], hurries: Callable[[], bool] = bool, longest: float = 60) -> int:
    """Return how often something is released of what is held back for these seconds."""
    count = 0

    async def release() -> None:
        nonlocal count
        count += 1

    await release_held(lambda _: waits[min(count, len(waits) - 1)], release, hurries, longest)
    return count


async def test_what_is_held_back_is_released_until_nothing_is_left() -> None:
    assert await released([0.01, 0.01, 0.01, None]) == 3
    assert await released([None]) == 0


async def test_what_is_held_back_isnt_waited_for_where_another_stream_follows() -> None:
    assert await released([3600.0], lambda: True) == 0
    answers = iter([False, False, True])
    assert await released([3600.0], lambda: next(answers)) == 2


async def test_what_is_never_due_is_waited_for_no_longer_than_a_burst_may_be() -> None:
    assert await released([3600.0], longest=0.1) >= 1
