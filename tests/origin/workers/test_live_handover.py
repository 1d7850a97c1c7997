"""A worker answers for what it has and for what comes next, and leaves everything else to others."""

from __future__ import annotations

import pytest

from origin.workers.live_handover import is_answered
from tests.packager.made_channel import NUMBER, Maker, begin_late

FOLDER = "/live/test/240p"
LAST, OPEN = NUMBER + 2, NUMBER + 3


@pytest.fixture(scope="module")
def maker() -> Maker:
    """Make a channel with three segments and two parts of the next one."""
    maker = Maker(dvr=False)
    for act in ("segment", "segment", "segment", "parts", "parts"):
        maker.act(act)
    return maker


ANSWERED = [
    "/live/test/master.m3u8",
    "/live/test/manifest.mpd",
    f"{FOLDER}/media.m3u8",
    f"{FOLDER}/init-{NUMBER}.mp4",
    f"{FOLDER}/{NUMBER}.m4s",
    f"{FOLDER}/{OPEN}.m4s",
    f"{FOLDER}/{OPEN + 1}.m4s",
    f"{FOLDER}/{LAST}.3.m4s",
    f"{FOLDER}/{OPEN}.1.m4s",
    f"{FOLDER}/{OPEN}.2.m4s",
    f"/live/test/captions-en/{NUMBER}.vtt",
    f"/live/test/captions-en/{NUMBER}.m4s",
    "/live/test/captions-en/init-0.mp4",
]
LEFT = [
    "/live",
    "/live/",
    "/live/test",
    "/live/test/",
    "/live/other/master.m3u8",
    "/live/test/metadata",
    "/live/test/captions/en",
    "/live/test/none/media.m3u8",
    f"{FOLDER}/none",
    f"{FOLDER}/media.m3u8/more",
    f"{FOLDER}/init-{OPEN}.mp4",
    f"{FOLDER}/{NUMBER - 1}.m4s",
    f"{FOLDER}/{NUMBER}.vtt",
    f"/live/test/captions-en/{NUMBER - 1}.m4s",
    f"/live/test/captions-en/{OPEN + 2}.m4s",
    # Another worker may have told of them.
    f"{FOLDER}/{OPEN}.3.m4s",
    f"{FOLDER}/{OPEN + 1}.0.m4s",
    f"{FOLDER}/{OPEN + 2}.m4s",
]


@pytest.mark.parametrize("path", ANSWERED)
def test_what_is_there_or_comes_next_is_answered(maker: Maker, path: str) -> None:
    streams = {"test": begin_late(maker)}
    assert is_answered("GET", path.encode(), streams)
    assert is_answered("HEAD", path.encode(), streams)
    assert not is_answered("POST", path.encode(), streams)


@pytest.mark.parametrize("path", LEFT)
def test_what_is_not_there_is_left_to_others(maker: Maker, path: str) -> None:
    assert not is_answered("GET", path.encode(), {"test": begin_late(maker)})


def test_a_channel_without_anything_to_play_is_left_to_others() -> None:
    assert not is_answered("GET", ANSWERED[0].encode(), {"test": begin_late(Maker(dvr=False))})
