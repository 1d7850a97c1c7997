"""Addresses of the documentation on a server whose clients reach it by another URL, as behind a proxy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree

import httpx
import m3u8
import pytest

from tests.conftest import start_server
from tests.copied_channel import copied_channel
from tests.fork_server import run_headwater
from tests.keys import BEARER
from tests.packager import films
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

PUBLIC, SITE = "https://stream.example", "https://site.example"
CONFIG = f"""
[server]
host = "127.0.0.2"
port = 0
public_url = "{PUBLIC}/"
carried_parameters = ["session"]
allow_embed = ["{SITE}"]

[library]
path = "library"
encode = "all"
max_age = 77
folders = {{ "private" = "signed" }}

[access]
keys = ["2026-11:a-secret-of-november"]

[[radio]]
name = "fm.mp3"
folder = "music"
hls_on_demand = false

[[events]]
name = "news"
"""
SECONDS = 8
PICTURE = f"-f lavfi -i testsrc2=size=640x360:rate=12:duration={SECONDS}"
CODED = "-c:v libx264 -preset ultrafast -g 12 -pix_fmt yuv420p"
SOUND = f"-f lavfi -i sine=sample_rate=48000:duration={SECONDS}"
SUBTITLES = "1\n00:00:01,000 --> 00:00:02,000\nHello\n"
CHAPTERS = ";FFMETADATA1\n" + "".join(
    f"[CHAPTER]\nTIMEBASE=1/1\nSTART={start}\nEND={start + 4}\ntitle={title}\n"
    for start, title in ((0, "One"), (4, "Two"))
)
SECRET = "/media/private/note.mp3"
DASH = "{urn:mpeg:dash:schema:mpd:2011}"


def make_library(folder: Path) -> None:
    """Make a title of two sizes, a film with text, one in an old codec, and music with a cover."""
    large = folder / "show.360p.mp4"
    films.run_ffmpeg(*f"{PICTURE} {SOUND} {CODED} -c:a aac".split(), large)
    scaled = f"-vf scale=-2:240 {CODED} -c:a copy".split()
    films.run_ffmpeg("-i", large, *scaled, folder / "show.240p.mp4")
    subtitles, chapters, cover = (folder.parent / name for name in ("s.srt", "chapters.txt", "cover.jpg"))
    subtitles.write_text(SUBTITLES)
    chapters.write_text(CHAPTERS)
    films.run_ffmpeg("-f", "lavfi", "-i", "color=red:size=64x64:rate=1:duration=1", cover)
    text = ["-map", "0", "-map", "1", "-map_metadata", "2", "-c", "copy", "-metadata:s:s:0", "language=eng"]
    films.run_ffmpeg("-i", large, "-i", subtitles, "-i", chapters, *text, folder / "text.mkv")
    films.run_ffmpeg("-i", large, *["-c:v", "mpeg4", "-c:a", "libmp3lame"], folder / "old.avi")
    music = "-map 0:a -map 1 -c:a libmp3lame -b:a 128k -ar 44100 -c:v copy -disposition:v attached_pic"
    films.run_ffmpeg("-i", large, "-i", cover, *music.split(), folder / "song.mp3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documented")
    for name in ("library", "library/private", "music"):
        (folder / name).mkdir()
    make_library(folder / "library")
    (folder / "library" / "private" / "note.mp3").write_bytes(b"a secret")
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    (folder / "music" / "song.mp3").write_bytes((folder / "library" / "song.mp3").read_bytes())
    channel = copied_channel("demo", "segment_duration = 1.0", "part_duration = 0.5", 'dvr = "1h"')
    (folder / "headwater.toml").write_text(CONFIG + channel)
    server = start_server(cwd=folder)
    with httpx.Client(base_url=server.url, timeout=CLIENT_SECONDS) as client:
        yield client
    assert server.stop() == 0


def playlist(client: httpx.Client, path: str) -> m3u8.M3U8:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/vnd.apple.mpegurl")
    return m3u8.loads(answer.text)


def media(client: httpx.Client, path: str) -> bytes:
    """Return the init segment and the first segment of a media playlist."""
    listed = playlist(client, path)
    first = listed.segments[0]
    return b"".join(client.get(urljoin(path, str(one.uri))).content for one in (first.init_section, first))


def seconds_of(manifest: str) -> float:
    duration = ElementTree.fromstring(manifest).get("mediaPresentationDuration")
    found = re.fullmatch(r"PT([\d.]+)S", str(duration))
    assert found is not None
    return float(found[1])


@pytest.mark.promise("/", "server.host")
def test_the_page_is_at_the_configured_address(client: httpx.Client) -> None:
    assert client.base_url.host == "127.0.0.2"
    page = client.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    (script,) = re.findall(r'<script type="module" src="([^"]+)"', page.text)
    assert client.get(script).status_code == 200


@pytest.mark.promise("/vod/TITLE/master.m3u8", "/vod/TITLE/manifest.mpd")
def test_files_of_two_resolutions_are_a_title(client: httpx.Client) -> None:
    variants = playlist(client, "/vod/show/master.m3u8").playlists
    assert {one.stream_info.resolution for one in variants} >= {(640, 360), (426, 240)}
    manifest = ElementTree.fromstring(client.get("/vod/show/manifest.mpd").text)
    heights = {one.get("height") for one in manifest.iter(f"{DASH}Representation")}
    assert heights >= {"360", "240"}


@pytest.mark.promise("/vod/PATH/master.m3u8?start=…&end=…", "/vod/PATH/manifest.mpd?start=…&end=…")
def test_a_clip_lasts_from_its_start_to_its_end(client: httpx.Client) -> None:
    master = playlist(client, "/vod/text.mkv/master.m3u8?start=2&end=5")
    listed = playlist(client, f"/vod/text.mkv/{master.playlists[0].uri}")
    assert sum(one.duration for one in listed.segments) == pytest.approx(3, abs=0.1)
    manifest = client.get("/vod/text.mkv/manifest.mpd?start=2&end=5").text
    assert seconds_of(manifest) == pytest.approx(3, abs=0.1)


@pytest.mark.promise("/vod/PATH/subtitles/LANGUAGE.vtt", "/vod/PATH/chapters.json")
def test_a_films_text_is_webvtt_and_its_chapters_are_json(client: httpx.Client) -> None:
    text = client.get("/vod/text.mkv/subtitles/en.vtt")
    assert text.headers["content-type"].startswith("text/vtt")
    assert re.match(r"WEBVTT\n\n00:00:01\.\d{3} --> 00:00:02\.\d{3}\nHello\n", text.text)
    chapters = client.get("/vod/text.mkv/chapters.json").json()
    assert [(one["start-time"], one["titles"][0]["title"]) for one in chapters] == [(0, "One"), (4, "Two")]


@pytest.mark.promise("/vod/PATH/cover.jpg", "/vod/PATH/poster.jpg")
@pytest.mark.parametrize("path", ["song.mp3/cover.jpg", "old.avi/poster.jpg"])
def test_music_has_a_cover_and_an_encoded_film_a_poster(client: httpx.Client, path: str) -> None:
    picture = client.get(f"/vod/{path}")
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
    assert picture.content.startswith(b"\xff\xd8\xff")


@pytest.mark.promise(
    "/vod/PATH/video-720p/media.m3u8",
    "/vod/PATH/audio-aac/media.m3u8",
    "/vod/PATH/video-360p-iframes/media.m3u8",
    "library.encode",
)
def test_what_browsers_lack_is_encoded_while_it_is_watched(client: httpx.Client, tmp_path: Path) -> None:
    for name, codec in (("video-360p", "h264"), ("audio-aac", "aac"), ("video-360p-iframes", "h264")):
        file = tmp_path / f"{name}.mp4"
        file.write_bytes(media(client, f"/vod/old.avi/{name}/media.m3u8"))
        found = films.probe(file, "-show_streams")["streams"]
        assert [one["codec_name"] for one in found] == [codec]
    # "all": a rendition of the film's own size, too, although browsers play the film.
    own = [one.uri for one in playlist(client, "/vod/text.mkv/master.m3u8").playlists]
    assert own == ["video/media.m3u8", "video-360p/media.m3u8"]


@pytest.mark.promise("/vod/PATH/video/iframes.m3u8", "/vod/PATH/video/iframes.mp4")
def test_key_frames_are_byte_ranges_of_one_file(client: httpx.Client) -> None:
    path = "/vod/text.mkv/video/iframes.m3u8"
    text = client.get(path).text
    assert "#EXT-X-I-FRAMES-ONLY" in text
    size, start = map(int, re.findall(r"#EXT-X-BYTERANGE:(\d+)@(\d+)", text)[0])
    part = client.get(
        "/vod/text.mkv/video/iframes.mp4", headers={"range": f"bytes={start}-{start + size - 1}"}
    )
    assert (part.status_code, len(part.content)) == (206, size)
    assert part.content[4:8] == b"moof"


@pytest.mark.promise("library.max_age")
def test_a_file_has_the_configured_age(client: httpx.Client) -> None:
    assert "max-age=77" in client.head("/media/old.avi").headers["cache-control"]


@pytest.mark.promise("/live/CHANNEL/master.m3u8", "/live/CHANNEL/manifest.mpd", "server.carried_parameters")
def test_a_live_playlist_repeats_the_configured_parameters(client: httpx.Client) -> None:
    query = "?session=a1&token=b2"
    wait_for(lambda: client.get("/live/demo/master.m3u8").status_code == 200, "the channel")
    master = playlist(client, f"/live/demo/master.m3u8{query}")
    assert {urlsplit(one.uri).query for one in master.playlists} == {"session=a1"}
    listed = client.get(urljoin("/live/demo/", master.playlists[0].uri)).text
    segments = re.findall(r"^\d+\.m4s.*$", listed, re.MULTILINE)
    assert {urlsplit(one).query for one in segments} == {"session=a1"}
    manifest = ElementTree.fromstring(client.get(f"/live/demo/manifest.mpd{query}").text)
    assert manifest.get("type") == "dynamic"
    templates = [one.get("media", "") for one in manifest.iter(f"{DASH}SegmentTemplate")]
    assert {urlsplit(one).query for one in templates} == {"session=a1"}


@pytest.mark.promise("/live/CHANNEL/clip.mp4?start=TIME&end=TIME", "/live/CHANNEL/clip.mp4?…")
def test_a_programme_that_is_over_is_one_file(client: httpx.Client, tmp_path: Path) -> None:
    def listed() -> list[float]:
        answer = client.get("/live/demo/source/media.m3u8")
        segments = m3u8.loads(answer.text).segments if answer.status_code == 200 else []
        times = [one.current_program_date_time for one in segments if one.uri and not one.gap_tag]
        return [time.timestamp() for time in times if time]

    begin = wait_for(lambda: listed()[1:5] if len(listed()) > 5 else [], "some segments")[0]
    programme = [{"id": "first", "start": begin, "end": begin + 2, "title": "First"}]
    assert client.put("/live/demo/programmes", json=programme, headers=BEARER).status_code == 200
    for query in (f"start={begin:.3f}&end={begin + 2:.3f}", "programme=first"):
        answer = client.get(f"/live/demo/clip.mp4?{query}", follow_redirects=True)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4"), answer.text
        (tmp_path / "clip.mp4").write_bytes(answer.content)
        assert float(
            films.probe(tmp_path / "clip.mp4", "-show_format")["format"]["duration"]
        ) == pytest.approx(2, abs=0.2)


@pytest.mark.promise("/live/NAME/manifest.mpd", "radio.hls_on_demand")
def test_a_station_is_encoded_before_anybody_asks_where_that_is_configured(client: httpx.Client) -> None:
    def began() -> bool:
        return 'headwater_state{service="live/fm.mp3",state="live"} 1.0' in client.get("/metrics").text

    wait_for(began, "the encoder of the station, of which nobody has asked for anything")
    assert ElementTree.fromstring(client.get("/live/fm.mp3/manifest.mpd").text).get("type") == "dynamic"


@pytest.mark.promise("/radio/NAME.m3u", "/radio/NAME.xspf", "server.public_url")
def test_what_the_server_writes_begins_with_its_public_address(client: httpx.Client) -> None:
    located = ElementTree.fromstring(client.get("/radio/fm.mp3.xspf").text)
    (location,) = (one.text for one in located.iter("{http://xspf.org/ns/0/}location"))
    assert location == f"{PUBLIC}/radio/fm.mp3"
    assert f"{PUBLIC}/radio/fm.mp3" in client.get("/radio/fm.mp3.m3u").text
    wait_for(lambda: client.head("/radio/fm.mp3").status_code == 200, "the station")
    (source,) = client.get("/status-json.xsl").json()["icestats"]["source"]
    assert source["listenurl"] == location
    made = client.post("/events", json={"name": "talk"}, headers=BEARER).json()
    assert made["url"] == f"{PUBLIC}/events/talk"
    signed = client.post("/api/sign", json={"path": SECRET, "for": "2h"}, headers=BEARER).json()
    assert signed["url"].startswith(f"{PUBLIC}/t/")
    assert client.get(signed["url"].removeprefix(PUBLIC)).content == b"a secret"


@pytest.mark.promise("headwater sign", "/t/TOKEN/…", "access.keys", "library.folders")
def test_the_command_signs_an_address_of_a_folder_for_those_with_a_token(
    client: httpx.Client, folder: Path
) -> None:
    assert client.get(SECRET).status_code == 403
    config = str(folder / "headwater.toml")
    done = run_headwater("sign", SECRET, "--for", "2h", "--config", config)
    assert (done.returncode, done.stdout[: len(PUBLIC) + 3]) == (0, f"{PUBLIC}/t/")
    assert client.get(done.stdout.strip().removeprefix(PUBLIC)).content == b"a secret"


@pytest.mark.promise("/api/library?path=PATH", "/api/library?sort=name")
def test_the_library_is_listed_by_path_and_in_order(client: httpx.Client) -> None:
    (item,) = client.get("/api/library?path=text.mkv").json()
    assert (item["path"], round(item["duration"])) == ("text.mkv", SECONDS)
    names = ["old.avi", "show.240p.mp4", "show.360p.mp4", "song.mp3", "text.mkv"]
    for query, expected in (("sort=name", names), ("sort=name&order=desc", names[::-1])):
        answer = client.get(f"/api/library?{query}")
        files = [one["path"] for one in answer.json() if one["kind"] == "file"]
        assert files == expected


@pytest.mark.promise("/embed/vod/PATH", "/embed/live/CHANNEL", "/embed/media/PATH", "/oembed?url=…")
@pytest.mark.parametrize("path", ["vod/text.mkv", "live/demo", "media/song.mp3", "radio/fm.mp3"])
def test_what_may_be_embedded_is_told_by_the_public_address(client: httpx.Client, path: str) -> None:
    page = client.get(f"/embed/{path}")
    assert page.status_code == 200
    (ancestors,) = re.findall(r"frame-ancestors ([^;]+)", page.headers["content-security-policy"])
    assert SITE in ancestors.split()
    told = client.get("/oembed", params={"url": f"{PUBLIC}/embed/{path}"}).json()
    assert f'src="{PUBLIC}/embed/{path}"' in told["html"]
    assert client.get("/oembed", params={"url": f"{client.base_url}/embed/{path}"}).status_code == 404


@pytest.mark.promise("/api/time")
def test_the_time_is_that_of_the_clock(client: httpx.Client) -> None:
    answer = client.get("/api/time")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", answer.text)
    assert json.dumps(answer.text)[1:5] == answer.headers["date"].split()[3]
