"""Media have addresses of one version of their film: caches keep them for ever, and never mix two films."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from urllib.parse import urljoin
from xml.etree import ElementTree

import pytest

from origin.vod.cache_control import VodCaching
from packager.vod.movie.versioned_addresses import UNVERSIONED, MediaVersion, version_of
from tests.origin.vod.conftest import LONG_AGO, put
from tests.origin.vod.vod_server import Served, served
from tests.packager import films
from tests.waiting import wait_for

MPD = "{urn:mpeg:dash:schema:mpd:2011}"
FOR_EVER = "public, max-age=31536000, immutable"
SRT = "1\n00:00:01,000 --> 00:00:08,000\nHello\n"
SEQUENCE = '{"clips": [{"path": "bframes.mp4", "start": 1, "end": 5}]}'


@pytest.fixture
def shelf(library: Path) -> Path:
    """A library with a film that has subtitles beside it, and a playlist of clips of it."""
    put(library / "bframes.de.srt", SRT.encode())
    put(library / "evening.playlist.json", SEQUENCE.encode())
    return library


def named_in(server: Served, playlist: str) -> set[str]:
    """Give the addresses of media that a playlist, and all that it names, has in it."""
    found: set[str] = set()
    text = server.ask(playlist).body.decode()
    uris = re.findall(r'^[^#\n].*$|(?<=URI=")[^"]+', text, re.MULTILINE)
    for uri in {urljoin(f"/{playlist}", one)[1:] for one in uris}:
        if ".m3u8" in uri:
            found |= named_in(server, uri)
        elif not uri.endswith((".json", ".jpg")):
            found.add(uri)
    return found


def named_in_manifest(server: Served, manifest: str) -> set[str]:
    """Give the addresses of the first segment and the init segment of each track of a DASH manifest."""
    found: set[str] = set()
    root = ElementTree.fromstring(server.ask(manifest).body)
    for one in root.iter(f"{MPD}Representation"):
        base = urljoin(f"/{manifest}", one.findtext(f"{MPD}BaseURL", ""))[1:]
        template, listed = one.find(f"{MPD}SegmentTemplate"), one.find(f"{MPD}SegmentList")
        if template is not None:
            media = template.attrib["media"].replace("$Number$", template.get("startNumber", "1"))
            found |= {base + template.attrib["initialization"], base + media}
        elif listed is not None:
            (*_, url) = listed.iter(f"{MPD}SegmentURL")
            found |= {base + listed[0].attrib["sourceURL"], base + url.attrib["media"]}
        else:
            found.add(base)
    return found


PLAYLISTS = (
    "bframes.mp4/master.m3u8",
    "bframes.mp4/master.m3u8?start=1.5&end=4",
    "evening.playlist.json/master.m3u8",
)
MANIFESTS = (
    "bframes.mp4/manifest.mpd",
    "bframes.mp4/manifest.mpd?start=1.5&end=4",
    "evening.playlist.json/manifest.mpd",
)


def all_named(server: Served, address: str) -> set[str]:
    return (named_in_manifest if ".mpd" in address else named_in)(server, address)


@pytest.mark.parametrize("address", [*PLAYLISTS, *MANIFESTS])
def test_all_media_of_a_playlist_may_be_kept_for_ever(shelf: Path, address: str) -> None:
    with served(shelf) as server:
        named = all_named(server, address) - {"evening.playlist.json/subtitles/none.vtt"}
        assert {one.rpartition(".")[2] for one in named} >= {"m4s", "mp4"}
        for one in named:
            assert re.search("/v_[0-9a-f]{12}/", one), one
            plain = re.sub("v_[0-9a-f]{12}/", "", one)
            for _ in range(2):  # by the application, and where it has answered, from what is known by then
                answer = server.ask(one)
                assert (answer.status, answer["cache-control"]) == (200, FOR_EVER), one
                other = server.ask(plain)
                assert (other.status, other["cache-control"]) == (200, "public, max-age=600")
                assert (other.body, other["etag"]) == (answer.body, answer["etag"])
                head = server.ask(one, method="HEAD")
                assert (head.status, head["cache-control"]) == (200, FOR_EVER)


def test_segments_of_a_version_are_answered_on_the_connection_itself(shelf: Path) -> None:
    with served(shelf) as server:
        segments = [one for one in named_in(server, PLAYLISTS[0]) if one.endswith(".m4s")]
        assert segments
        server.ask(segments[0])  # opens the file
        for one in segments:
            answer = server.fast(one, "Range: bytes=10-99")
            assert (answer.status, answer["cache-control"]) == (206, FOR_EVER)
            assert answer.body == server.fast(one).body[10:100]


@pytest.mark.parametrize("address", [*PLAYLISTS, *MANIFESTS])
def test_addresses_of_a_film_that_was_replaced_are_gone_and_never_another(shelf: Path, address: str) -> None:
    with served(shelf, seconds=0.2) as server:
        media = all_named(server, address) - {"evening.playlist.json/subtitles/none.vtt"}
        old = {one: server.ask(one).body for one in media}
        put(shelf / "bframes.mp4", films.film("moovlast.mp4").read_bytes(), LONG_AGO + 1000)
        for one, body in old.items():

            def is_gone(one: str = one, body: bytes = body) -> bool:
                answer = server.ask(one)
                assert answer.status == 404 or answer.body == body, one
                return answer.status == 404 and answer["cache-control"] == "public, max-age=5"

            wait_for(is_gone, f"{one} to be gone")
        new = all_named(server, address)
        assert not new & old.keys()
        for one in new:
            assert server.ask(one).status == 200
        put(shelf / "bframes.mp4", films.film("bframes.mp4").read_bytes())  # back as it was
        for one, body in old.items():

            def is_back(one: str = one, body: bytes = body) -> bool:
                return server.ask(one).body == body

            wait_for(is_back, f"{one} to be back")


def test_subtitles_have_a_version_of_their_own(shelf: Path) -> None:
    with served(shelf, seconds=0.0) as server:
        before = named_in(server, PLAYLISTS[0])
        put(shelf / "bframes.de.srt", SRT.replace("Hello", "Howdy").encode(), LONG_AGO + 1)
        after = named_in(server, PLAYLISTS[0])
        gone = {one for one in before if one.endswith(".vtt")}
        assert before - after == gone
        assert gone
        assert {server.ask(one).status for one in gone} == {404}
        assert any(b"Howdy" in server.ask(one).body for one in after - before)


def test_media_of_a_film_that_has_just_changed_are_kept_for_seconds(shelf: Path) -> None:
    """Until then another film could have the same size and the same second, and so the same address."""
    now = int(time.time()) + 3600
    os.utime(shelf / "bframes.mp4", (now, now))
    with served(shelf) as server:
        for one in named_in(server, PLAYLISTS[0]):
            for _ in range(2):
                assert server.ask(one)["cache-control"] == "public, max-age=2", one


def test_who_wants_nothing_kept_has_nothing_kept() -> None:
    caching = VodCaching(0)
    for lifetime in (caching.playlists, *map(caching.media, (None, False, True))):
        assert lifetime.cache_control == "public, max-age=0"
    assert VodCaching(5).playlists.cache_control == "public, max-age=5"
    assert VodCaching(3600).playlists.cache_control == "public, max-age=60"


@pytest.mark.parametrize("name", ["v_0/0.m4s", "v_/0.m4s", "v_0123456789ab/init.mp4", "v_A/iframes.mp4"])
def test_versions_that_never_were_are_not_there(library: Path, name: str) -> None:
    with served(library) as server:
        for _ in range(2):
            assert server.ask(f"bframes.mp4/video/{name}").status == 404


def test_copies_of_a_file_on_other_nodes_are_the_same_version() -> None:
    second = 10**9
    here = version_of((1, 2, 1000, 7 * second + 5))
    assert version_of((3, 4, 1000, 7 * second + 9)).name == here.name
    others = [(1, 2, 1001, 7 * second), (1, 2, 1000, 8 * second)]
    names = {version_of(identity).name for identity in others}
    names |= {version_of((1, 2, 1000, 7 * second), film).name for film in (here, MediaVersion("1", 0.0))}
    assert len(names | {here.name}) == 5
    assert here.folder == f"v_{here.name}/"
    assert UNVERSIONED.folder == ""
    # A file beside a film that has changed later is as young as that.
    assert version_of((1, 2, 3, 4 * second), here).changed == here.changed
