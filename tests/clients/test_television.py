"""Readers of others take list, guide and feeds; mpv and VLC play a channel and its past from the list."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.clients.conftest import run
from tests.clients.vlc import Vlc
from tests.conftest import ServerProcess, start_server
from tests.patience import CLIENT_SECONDS
from tests.programmed_channel import configure, date_of, keep, live, put
from tests.programs import program
from tests.television_lists import entries
from tests.waiting import wait_for

DTD = Path("/usr/share/xmltv/xmltv.dtd")
PLAYED_SECONDS = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("television")
    configure(folder, 'dvr = "36h"')
    with start_server(cwd=folder) as running:
        wait_for(lambda: len(live(running).segments) > 6, "some segments")
        now = int(time.time())
        news = {"id": "news", "start": now - 60, "end": now + 3600, "title": "News & more"}
        assert put(running, [news]).is_success
        yield running


def text(server: ServerProcess, path: str) -> str:
    answer = httpx.get(f"{server.url}{path}", timeout=CLIENT_SECONDS)
    assert answer.status_code == 200
    return answer.text


def caught_up(server: ServerProcess) -> str:
    """Return the address that an app makes of the list for the last seconds."""
    ((attributes, _, _),) = entries(text(server, "/playlist.m3u"))
    start = int(date_of(server, 0)) + 1
    source = attributes["catchup-source"]
    return source.replace("{utc}", str(start)).replace("{utcend}", str(start + PLAYED_SECONDS))


@pytest.mark.promise("/playlist.m3u")
def test_a_reader_of_lists_finds_what_is_in_it(server: ServerProcess) -> None:
    ipytv = pytest.importorskip("ipytv.playlist", reason="`make test` installs it")
    listed = ipytv.loads(text(server, "/playlist.m3u"))
    assert listed.get_attribute("x-tvg-url") == f"{server.url}/guide.xml"
    (channel,) = listed.get_channels()
    assert (channel.name, channel.url) == ("a", f"{server.url}/live/a/master.m3u8")
    assert channel.attributes["catchup-days"] == "2"
    assert channel.attributes["catchup-source"] == f"{channel.url}?start={{utc}}&end={{utcend}}"


@pytest.mark.promise("/guide.xml")
@pytest.mark.skipif(not DTD.exists(), reason="XMLTV's DTD isn't installed (Debian: xmltv-util)")
def test_the_guide_is_valid_by_the_dtd_of_xmltv(server: ServerProcess, tmp_path: Path) -> None:
    guide = tmp_path / "guide.xml"
    guide.write_text(text(server, "/guide.xml"), "utf-8")
    # The guide names its DTD beside it.
    shutil.copyfile(DTD, tmp_path / DTD.name)
    assert "News &amp; more" in guide.read_text("utf-8")
    valid = (program("xmllint", "libxml2-utils"), "--noout", "--nonet", "--dtdvalid", str(DTD), str(guide))
    done = subprocess.run(valid, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.promise("/recordings/feed.xml")
def test_a_podcast_client_reads_a_feed_with_exact_lengths(server: ServerProcess) -> None:
    feedparser = pytest.importorskip("feedparser", reason="`make test` installs it")
    start = date_of(server, 0)
    assert keep(server, start + 1, start + 3, "Evening & more").status_code in (201, 202)
    wait_for(lambda: "<item>" in text(server, "/recordings/a/feed.xml"), "the recording in the feed")
    read = feedparser.parse(text(server, "/recordings/a/feed.xml"))
    assert not read.bozo
    assert read.version == "rss20"
    (item,) = read.entries
    (enclosure,) = item.enclosures
    media = httpx.get(enclosure.href, timeout=CLIENT_SECONDS)
    assert (item.title, enclosure.type) == ("Evening & more", "video/mp4")
    assert int(enclosure.length) == len(media.content)
    assert item.itunes_duration
    assert item.published_parsed.tm_year >= 2026


def test_mpv_plays_a_channel_from_the_list_and_its_past(server: ServerProcess) -> None:
    outputs = ("--no-config", "--vo=null", "--ao=null", "--ytdl=no", "--msg-level=all=error,term-msg=info")
    lengths = list[float]()
    message = "--term-playing-msg=plays ${path} ${width}x${height} for ${=duration}"
    for address in (f"{server.url}/playlist.m3u", caught_up(server)):
        result = run(program("mpv"), *outputs, message, "--frames=20", address)
        assert result.status == 0, result.text + result.errors
        found = re.search(r"plays (\S+) \d+x\d+ for ([\d.]+)", result.text)
        assert found is not None, result.text
        assert found[1].startswith(f"{server.url}/live/a/master.m3u8")
        lengths.append(float(found[2]))
    # What is over has an end.
    assert lengths[-1] == pytest.approx(PLAYED_SECONDS, abs=1.5)


def test_vlc_plays_a_channel_from_the_list_and_its_past(server: ServerProcess) -> None:
    for address in (f"{server.url}/playlist.m3u", caught_up(server)):
        plays_in_vlc(address)


def plays_in_vlc(address: str) -> None:
    """Wait until VLC has played a second of an address."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        vlc = Vlc(address, Path(name))
        try:
            wait_for(lambda: vlc.number("get_time") >= 1, f"VLC's playing of {address}")
        finally:
            vlc.stop()
