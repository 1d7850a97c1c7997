"""Thumbnails over HTTP, from a whole server: addresses, headers, refusals and the options that turn them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import m3u8
import pytest

from tests.conftest import ServerProcess, start_server
from tests.origin.vod.conftest import LONG_AGO
from tests.packager import films
from tests.patience import CLIENT_SECONDS

LIBRARY = '[server]\nport = 0\ndata = "data"\n\n[library]\npath = "library"\n'


def start(folder: Path, configuration: str) -> ServerProcess:
    (folder / "library").mkdir()
    for name in ("bframes.mp4", "sound.m4a"):
        (folder / "library" / name).write_bytes(films.film(name).read_bytes())
        # A file that may still be written to has no version that is kept for ever.
        os.utime(folder / "library" / name, (LONG_AGO, LONG_AGO))
    # Of such a film only the first key frame can be decoded by itself.
    open_groups = "-t 10 -c:v libx264 -preset ultrafast -x264-params open-gop=1:keyint=50:bframes=3"
    films.run_ffmpeg("-i", films.film("bframes.mp4"), *open_groups.split(), folder / "library" / "open.mp4")
    (folder / "library" / "note.txt").write_text("no film")
    (folder / "headwater.toml").write_text(configuration)
    return start_server("--config", "headwater.toml", cwd=folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = start(tmp_path_factory.mktemp("thumbnails"), LIBRARY)
    yield server
    server.stop()


def client(server: ServerProcess) -> httpx.Client:
    return httpx.Client(base_url=f"{server.url}/vod/", timeout=CLIENT_SECONDS)


@pytest.mark.promise("/vod/PATH/thumbnails.vtt")
def test_the_text_its_sprites_and_the_image_playlist_are_served(server: ServerProcess) -> None:
    with client(server) as asking:
        text = asking.get("bframes.mp4/thumbnails.vtt")
        assert (text.status_code, text.headers["content-type"].partition(";")[0]) == (200, "text/vtt")
        (named,) = set(re.findall(r"^(thumbnails/v_[0-9a-f]{12}/0\.jpg)#xywh=", text.text, re.MULTILINE))
        assert text.text.count(f"{named}#xywh=") == 2  # 14 seconds
        sprite = asking.get("bframes.mp4/thumbnails/0.jpg")
        assert (sprite.status_code, sprite.headers["content-type"]) == (200, "image/jpeg")
        assert sprite.content.startswith(b"\xff\xd8\xff")
        assert sprite.content.endswith(b"\xff\xd9")
        # What the film was is never mixed in a cache with what it is.
        versioned = asking.get(f"bframes.mp4/{named}")
        assert versioned.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert (versioned.content, versioned.headers["etag"]) == (sprite.content, sprite.headers["etag"])
        assert "immutable" not in sprite.headers["cache-control"] + text.headers["cache-control"]
        assert asking.get("bframes.mp4/thumbnails/v_0123456789ab/0.jpg").status_code == 404
        part = asking.get("bframes.mp4/thumbnails/0.jpg", headers={"range": "bytes=0-2"})
        assert (part.status_code, part.content) == (206, b"\xff\xd8\xff")
        tag = {"if-none-match": sprite.headers["etag"]}
        assert asking.get("bframes.mp4/thumbnails/0.jpg", headers=tag).status_code == 304
        master = asking.get("bframes.mp4/master.m3u8").text
        assert "#EXT-X-IMAGE-STREAM-INF:" in master
        written = asking.get("bframes.mp4/thumbnails.m3u8").text
        playlist = m3u8.loads(written)
        assert playlist.is_images_only
        assert [segment.uri for segment in playlist.segments] == [named]
        assert "#EXT-X-TILES:RESOLUTION=192x108,LAYOUT=2x1,DURATION=10.00000" in written


def test_what_has_no_pictures_is_refused(server: ServerProcess) -> None:
    with client(server) as asking:
        for path, status in (
            ("sound.m4a/thumbnails.vtt", 415),
            ("sound.m4a/thumbnails/0.jpg", 415),
            ("note.txt/thumbnails.vtt", 422),
            ("nowhere.mp4/thumbnails.vtt", 404),
            ("bframes.mp4/thumbnails/1.jpg", 404),
            ("bframes.mp4/thumbnails/00.jpg", 404),
            ("bframes.mp4/thumbnails/123456.jpg", 404),
        ):
            assert asking.get(path).status_code == status, path


def test_the_library_names_the_thumbnails_that_there_are(server: ServerProcess) -> None:
    with httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS) as asking:
        items: list[dict[str, object]] = []
        while not items or any(item["playable"] is None for item in items):
            items = asking.get("/api/library").json()
        named = {str(item["path"]): item["thumbnails"] for item in items}
        assert "IMAGE" not in asking.get("/vod/open.mp4/master.m3u8").text
    assert named["bframes.mp4"] == "/vod/bframes.mp4/thumbnails.vtt"
    assert named["sound.m4a"] is None
    assert named["open.mp4"] is None


@pytest.mark.promise("library.thumbnails")
def test_they_can_be_turned_off(tmp_path: Path) -> None:
    server = start(tmp_path, f"{LIBRARY}thumbnails = false\n")
    try:
        with client(server) as asking:
            assert asking.get("bframes.mp4/thumbnails.vtt").status_code == 404
            assert "IMAGE" not in asking.get("bframes.mp4/master.m3u8").text
            assert "thumbnail" not in asking.get("bframes.mp4/manifest.mpd").text
    finally:
        server.stop()
