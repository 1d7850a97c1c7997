"""A ladder that was changed between two starts: what has passed is served as it was before."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import m3u8
import pytest

from tests.conftest import start_server
from tests.long_dvr import CONFIGURATION, PICTURES, LongDvr, make_long_dvr
from tests.origin.live.long_server import WINDOW, Long
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

LADDER = 'ladder = ["720p", "480p", "360p"]'
SPAN = -600, -500
NAMES = (
    "master.m3u8",
    "manifest.mpd",
    "720p/media.m3u8",
    "360p/iframes.m3u8",
    "audio/media.m3u8",
    "thumbnails.vtt",
    "clip.mp4",
)


def start(long: Long, ladder: str, *lines: str) -> None:
    """Start a server with another ladder."""
    text = CONFIGURATION.replace(LADDER, ladder)
    (long.folder / "headwater.toml").write_text(
        "\n".join((f'[server]\nport = 0\ndata = "data"\n{text}dvr = "2h"', *lines, ""))
    )
    long.server = start_server(cwd=long.folder)


@pytest.mark.parametrize("lines", [(), (WINDOW,)], ids=["listed", "behind the list"])
@pytest.mark.parametrize("ladder", ['["1080p", "720p", "480p", "360p"]', '["720p", "480p", "360p", "240p"]'])
def test_a_rung_that_is_added_changes_nothing_of_what_has_passed(
    tmp_path: Path, ladder: str, lines: tuple[str, ...]
) -> None:
    until = round(time.time() - 300, 3)
    own_times = ((until + SPAN[0], until + SPAN[1]),)
    make_long_dvr(LongDvr(tmp_path / "data" / "live" / "long", until, 900, 900, 20, own_times), workers=1)
    long = Long(tmp_path, until, None, {})  # type: ignore[arg-type]
    query = long.query(*SPAN)
    names = [f"{name}?{query}" for name in NAMES] + [f"snapshot.jpg?at={until + SPAN[0] + 20:.3f}"]
    said = []
    for rungs in (LADDER, f"ladder = {ladder}", f"ladder = {ladder}"):
        start(long, rungs, *lines)
        wait_for(lambda: long.get(f"audio/media.m3u8?{query}").status_code == 200, "the past is there", 60)
        answers = [long.get(name) for name in names]
        said.append({name: (one.status_code, one.content) for name, one in zip(names, answers, strict=True)})
        (channel,) = httpx.get(f"{long.server.url}/api/live", timeout=CLIENT_SECONDS).json()
        assert channel["available_from"] == pytest.approx(until - 900, abs=4)
        kept = long.keep(until + SPAN[0] + len(said), until + SPAN[1])
        master = m3u8.loads(long.get(f"recordings/{kept['id']}/master.m3u8").text)
        assert [one.uri for one in master.playlists] == [f"{name}/media.m3u8" for name in PICTURES]
        movie = long.get(f"recordings/{kept['id']}/event.mp4")
        assert (movie.status_code, movie.headers["content-type"]) == (200, "video/mp4")
        assert long.server.stop() == 0
    assert {status for status, _ in said[0].values()} == {200}
    for behind in said[1:]:
        assert [name for name in names if behind[name] != said[0][name]] == []
