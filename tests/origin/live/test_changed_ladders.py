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


def make(folder: Path) -> Long:
    """Make the DVR of a channel whose publisher has gone."""
    until = round(time.time() - 300, 3)
    own_times = ((until + SPAN[0], until + SPAN[1]),)
    make_long_dvr(LongDvr(folder / "data" / "live" / "long", until, 900, 900, 20, own_times), workers=1)
    return Long(folder, until)


def ask(long: Long) -> dict[str, tuple[int, bytes]]:
    """Return what is said of a span, once the past is there."""
    query = long.query(*SPAN)
    wait_for(lambda: long.get(f"audio/media.m3u8?{query}").status_code == 200, "the past is there", 60)
    names = {name: f"{name}?{query}" for name in NAMES}
    names["snapshot.jpg"] = f"snapshot.jpg?at={long.until + SPAN[0] + 20:.3f}"
    return {name: ((one := long.get(address)).status_code, one.content) for name, address in names.items()}


LINES = pytest.mark.parametrize("lines", [(), (WINDOW,)], ids=["listed", "behind the list"])


@LINES
@pytest.mark.parametrize("ladder", ['["1080p", "720p", "480p", "360p"]', '["720p", "480p", "360p", "240p"]'])
def test_a_rung_that_is_added_changes_nothing_of_what_has_passed(
    tmp_path: Path, ladder: str, lines: tuple[str, ...]
) -> None:
    long, said = make(tmp_path), []
    for rungs in (LADDER, f"ladder = {ladder}", f"ladder = {ladder}"):
        start(long, rungs, *lines)
        said.append(ask(long))
        (channel,) = httpx.get(f"{long.server.url}/api/live", timeout=CLIENT_SECONDS).json()
        assert channel["available_from"] == pytest.approx(long.until - 900, abs=4)
        kept = long.keep(long.until + SPAN[0] + len(said), long.until + SPAN[1])
        master = m3u8.loads(long.get(f"recordings/{kept['id']}/master.m3u8").text)
        assert [one.uri for one in master.playlists] == [f"{name}/media.m3u8" for name in PICTURES]
        movie = long.get(f"recordings/{kept['id']}/event.mp4")
        assert (movie.status_code, movie.headers["content-type"]) == (200, "video/mp4")
        assert long.server.stop() == 0
    assert {status for status, _ in said[0].values()} == {200}
    for behind in said[1:]:
        assert [name for name, each in said[0].items() if behind[name] != each] == []


@LINES
def test_a_rung_that_is_taken_off_is_served_as_before_once_it_is_put_back(
    tmp_path: Path, lines: tuple[str, ...]
) -> None:
    long, said = make(tmp_path), []
    for rungs in (LADDER, 'ladder = ["720p", "480p"]', LADDER):
        start(long, rungs, *lines)
        said.append(ask(long))
        assert long.server.stop() == 0
    before, without, again = said
    assert {status for status, _ in before.values()} == {200}
    assert [name for name, each in before.items() if again[name] != each] == []
    assert without["360p/iframes.m3u8"][0] == 404
    for name in ("720p/media.m3u8", "audio/media.m3u8", "clip.mp4", "snapshot.jpg"):
        assert without[name] == before[name], name
    master = m3u8.loads(without["master.m3u8"][1].decode())
    assert {one.uri.partition("/")[0] for one in master.playlists} == {"720p", "480p"}
