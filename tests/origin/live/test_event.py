"""Events of live channels on a real server: their end, what stays of them, and the next one."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import m3u8
import pytest

from origin.config.load import validate
from origin.config.warnings import unserved
from packager.process.ffmpeg_discovery import Tools
from tests.conftest import ServerProcess, start_server
from tests.keys import BEARER
from tests.patience import CLIENT_SECONDS, patient_server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

FILM_SECONDS = 4.4
FRAMES = 110
TIMES = 'ladder = ["240p"]\nsegment_duration = 1.0\npart_duration = 0.25\n'
NAMESPACE = "{urn:mpeg:dash:schema:mpd:2011}"
BLOCKED = 'headwater_live_blocked_requests{channel="talk"} 1.0\n'
SOON_SECONDS = 60.0
"""Far less than what isn't answered at once waits for in the hall."""


@dataclass
class Hall:
    """A server with a channel that is a film played once, and one that goes on until somebody ends it.

    Their ffmpegs may be late: no gap stands for what they haven't given yet, and nobody starts them again.
    """

    arguments: tuple[str, ...]
    server: ServerProcess
    client: httpx.Client

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(f"{self.server.url}{path}", headers=headers)

    def text(self, path: str) -> str:
        answer = self.get(path)
        return answer.text if answer.status_code == 200 else ""

    def post(self, path: str) -> httpx.Response:
        return self.client.post(f"{self.server.url}{path}", headers=BEARER)

    def channel(self, name: str) -> dict[str, Any]:
        listed: list[dict[str, Any]] = self.get("/api/live").json()
        return next(one for one in listed if one["name"] == name)

    def recording(self, name: str) -> dict[str, Any]:
        """The channel's latest one, once it is there."""
        (latest, *_) = wait_for(lambda: self.channel(name)["recordings"], what=f"a recording of {name}")
        found: dict[str, Any] = latest
        return found

    def segments(self, path: str) -> list[str]:
        return re.findall(r"^\d+\.m4s$", self.text(path), re.MULTILINE)


@pytest.fixture(scope="module")
def hall(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    folder = tmp_path_factory.mktemp("hall")
    (folder / "library").mkdir()
    command = [str(tools.ffmpeg), "-nostdin", "-v", "error", "-f", "lavfi", "-i"]
    command += [
        f"testsrc2=size=320x180:rate=25:duration={FILM_SECONDS}",
        "-f",
        "lavfi",
        "-i",
        "sine=duration=3",
    ]
    command += ["-pix_fmt", "yuv420p", str(folder / "film.mp4")]
    subprocess.run(command, check=True, timeout=240)
    (folder / "headwater.toml").write_text(
        f'[server]\nport = 0\ndata = "{folder / "data"}"\n[library]\npath = "{folder / "library"}"\n'
        f'[[live]]\nname = "film"\nsource = "{folder / "film.mp4"}"\nevent = true\n{TIMES}'
        f'[[live]]\nname = "brief"\nsource = "{folder / "film.mp4"}"\nevent = true\n'
        f'vod_after_end = "1s"\n{TIMES}'
        f'[[live]]\nname = "talk"\nsource = "testsrc"\ndvr = "1h"\n{TIMES}'
    )
    arguments = ("--config", str(folder / "headwater.toml"))
    with httpx.Client(timeout=CLIENT_SECONDS) as client:
        hall = Hall(arguments, start_server(*arguments, program=patient_server()), client)
        yield hall
        assert hall.server.stop() == 0, hall.server.text()[-4000:]


@pytest.fixture(scope="module")
def film(hall: Hall) -> dict[str, Any]:
    """The film's recording."""
    wait_for(lambda: hall.channel("film")["state"] == "ended", what="the film's end")
    return hall.recording("film")


def packets(tools: Tools, path: Path, stream: str) -> list[tuple[str, float]]:
    """Hash and decode time of each packet."""
    command = [str(tools.ffprobe), "-v", "error", "-select_streams", stream, "-show_data_hash", "md5"]
    command += ["-show_packets", "-of", "json", str(path)]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=240).stdout)
    return [(packet["data_hash"], float(packet["dts_time"])) for packet in answer["packets"]]


def steps(listed: list[tuple[str, float]]) -> list[float]:
    """Seconds from each packet to the next one."""
    return [after[1] - before[1] for before, after in itertools.pairwise(listed)]


def facts(tools: Tools, path: str | Path) -> dict[str, Any]:
    command = [str(tools.ffprobe), "-v", "error", "-show_streams", "-show_format", "-of", "json", str(path)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


@pytest.mark.promise("live.event")
def test_a_films_end_ends_all_playlists_with_the_same_segment(hall: Hall, film: dict[str, Any]) -> None:
    del film
    for name in ("240p", "audio"):
        path = f"/live/film/{name}/media.m3u8"
        text = hall.text(path)
        assert text.endswith("#EXT-X-ENDLIST\n")
        assert "#EXT-X-PRELOAD-HINT" not in text
        assert hall.segments(path) == hall.segments("/live/film/240p/media.m3u8")
        lengths = [float(found) for found in re.findall(r"#EXTINF:([0-9.]+)", text)]
        # The sound is silence where the film has none; it ends within a frame of the picture, not after it.
        assert sum(lengths) == pytest.approx(FILM_SECONDS, abs=0.07)


@pytest.mark.promise("live.vod_after_end")
def test_an_event_leaves_its_addresses_after_the_configured_time_and_stays_in_its_recording(
    hall: Hall,
) -> None:
    note = hall.recording("brief")
    wait_for(lambda: hall.get("/live/brief/master.m3u8").status_code == 404, "the event's withdrawal")
    for path in ("manifest.mpd", "240p/media.m3u8", "240p/media.m3u8?_HLS_msn=99999999999999"):
        answer = hall.get(f"/live/brief/{path}")
        assert (answer.status_code, "the event is over" in answer.text) == (404, True), path
    folder = note["hls"].rpartition("/")[0]
    names = hall.segments(f"{folder}/240p/media.m3u8")
    assert names
    # Whoever has loaded the playlist before goes on to play and to seek.
    for name in names:
        old, kept = hall.get(f"/live/brief/240p/{name}"), hall.get(f"{folder}/240p/{name}")
        assert (old.status_code, old.content) == (200, kept.content)
    assert hall.channel("brief")["state"] == "ended"
    assert hall.post("/live/brief/start").status_code == 202
    wait_for(lambda: hall.text("/live/brief/master.m3u8"), "another event at the same address")


def test_an_ended_playlist_ignores_directives_and_hints_are_not_found(
    hall: Hall, film: dict[str, Any]
) -> None:
    del film
    path = "/live/film/240p/media.m3u8"
    text, last = hall.text(path), hall.segments(path)[-1].removesuffix(".m4s")
    # RFC 8216bis §6.2.5.2: with EXT-X-ENDLIST they are ignored, sensible or not.
    for query in (f"_HLS_msn={int(last) + 1}&_HLS_part=0", "_HLS_msn=99999999999999", "_HLS_skip=YES"):
        began = time.monotonic()
        assert hall.text(f"{path}?{query}") == text
        assert time.monotonic() - began < SOON_SECONDS
    assert hall.get(f"/live/film/240p/{int(last) + 1}.0.m4s").status_code == 404
    # DASH manifests from before the end named it, which players ask for anew within seconds.
    beyond = f"/live/film/240p/{int(last) + 1}.m4s"
    wait_for(lambda: hall.get(beyond).status_code == 404, "all players' knowing of the end")
    assert hall.get(f"/live/film/240p/{int(last) + 9}.m4s").status_code == 404


def test_the_dash_manifest_of_what_is_over_is_static(hall: Hall, film: dict[str, Any]) -> None:
    del film

    def current() -> ElementTree.Element:
        return ElementTree.fromstring(hall.text("/live/film/manifest.mpd"))

    # Until all players know that it is over it goes on as they know it, with an end.
    assert current().get("minimumUpdatePeriod") is None
    wait_for(lambda: current().get("type") == "static", what="a static manifest")
    manifest = current()
    assert manifest.get("timeShiftBufferDepth") is None
    # Where ffmpeg was late, what comes then is a period of its own.
    periods = manifest.findall(f"{NAMESPACE}Period")
    lengths = [seconds_of_pictures(period) for period in periods]
    assert sum(lengths) == pytest.approx(FILM_SECONDS, abs=0.07)
    start, end = periods[-1].get("start", ""), manifest.get("mediaPresentationDuration", "")
    assert float(end[2:-1]) - float(start[2:-1]) == pytest.approx(lengths[-1], abs=0.07)


def seconds_of_pictures(period: ElementTree.Element) -> float:
    """Return how long the segments of a period's pictures last together."""
    template = next(period.iter(f"{NAMESPACE}SegmentTemplate"))
    ticks = sum(
        int(one.get("d", "")) * (1 + int(one.get("r", "0"))) for one in template.iter(f"{NAMESPACE}S")
    )
    return ticks / int(template.get("timescale", ""))


@pytest.mark.promise("/live/CHANNEL/recordings/ID/master.m3u8")
def test_a_recording_is_vod_of_the_same_segments(hall: Hall, film: dict[str, Any], tools: Tools) -> None:
    base = film["hls"].removesuffix("master.m3u8")
    variants = m3u8.loads(hall.text(film["hls"]))
    assert [one.uri for one in variants.playlists] == ["240p/media.m3u8"]
    for name in ("240p", "audio"):
        playlist = m3u8.loads(hall.text(f"{base}{name}/media.m3u8"))
        assert (playlist.playlist_type, playlist.is_endlist) == ("vod", True)
        assert all(one.program_date_time for one in playlist.segments)
        for segment in playlist.segments:
            recorded = hall.get(f"{base}{name}/{segment.uri}")
            live = hall.get(f"/live/film/{name}/{segment.uri}")
            assert recorded.content == live.content
            assert recorded.headers["etag"] == live.headers["etag"]
            assert recorded.headers["content-type"] == live.headers["content-type"]
    assert film["duration"] == pytest.approx(FILM_SECONDS, abs=0.05)
    played = facts(tools, hall.server.url + film["hls"])
    assert float(played["format"]["duration"]) == pytest.approx(FILM_SECONDS, abs=0.1)


@pytest.mark.promise("/live/CHANNEL/recordings/ID/manifest.mpd")
def test_its_dash_manifest_is_static_and_ffmpeg_plays_the_same_frames_by_it(
    hall: Hall, film: dict[str, Any], tools: Tools
) -> None:
    answer = hall.get(film["dash"])
    assert answer.headers["content-type"] == "application/dash+xml"
    manifest = ElementTree.fromstring(answer.text)
    assert manifest.get("type") == "static"
    assert float(manifest.get("mediaPresentationDuration", "")[2:-1]) == pytest.approx(FILM_SECONDS, abs=0.05)
    url = hall.server.url + film["dash"]
    command = [str(tools.ffmpeg), "-nostdin", "-v", "error", "-xerror", "-i", url, "-f", "framecrc", "-"]
    played = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240)
    assert played.stderr == ""
    pictures = [line for line in played.stdout.splitlines() if line.startswith("0,")]
    assert len(pictures) == FRAMES


def test_its_mp4_has_the_segments_packets_in_time(
    hall: Hall, film: dict[str, Any], tools: Tools, tmp_path: Path
) -> None:
    movie = tmp_path / "movie.mp4"
    movie.write_bytes(hall.get(film["mp4"]).content)
    base = film["hls"].removesuffix("master.m3u8")
    for name, stream in (("240p", "v"), ("audio", "a")):
        text = hall.text(f"{base}{name}/media.m3u8")
        parts = [re.findall(r'MAP:URI="([^"]+)"', text)[0], *hall.segments(f"{base}{name}/media.m3u8")]
        joined = tmp_path / f"{name}.mp4"
        joined.write_bytes(b"".join(hall.get(f"{base}{name}/{part}").content for part in parts))
        theirs, ours = packets(tools, joined, stream), packets(tools, movie, stream)
        assert [one[0] for one in ours] == [one[0] for one in theirs]
        assert steps(ours) == pytest.approx(steps(theirs), abs=2e-4)
    found = facts(tools, movie)
    video, audio = found["streams"]
    assert (video["nb_frames"], audio["codec_name"]) == (str(FRAMES), "aac")
    assert float(video["start_time"]) == 0
    assert float(audio["start_time"]) == pytest.approx(0, abs=0.001)
    assert float(found["format"]["duration"]) == pytest.approx(FILM_SECONDS, abs=0.05)
    command = [str(tools.ffmpeg), "-nostdin", "-v", "error", "-xerror", "-i", str(movie), "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.promise("/live/CHANNEL/recordings/ID/event.mp4")
def test_its_mp4_is_a_file_with_ranges_and_validators(hall: Hall, film: dict[str, Any]) -> None:
    whole = hall.get(film["mp4"])
    size, tag = len(whole.content), whole.headers["etag"]
    assert whole.headers["content-length"] == str(size)
    assert whole.headers["content-type"] == "video/mp4"
    assert f'attachment; filename="film-{film["id"]}.mp4"' == whole.headers["content-disposition"]
    head = size - film["size"]  # the boundary between the tables and the first segment
    for first, last in (
        (0, 99),
        (head - 5, head + 5),
        (size // 2, size // 2 + 100_000),
        (size - 7, size - 1),
    ):
        answer = hall.get(film["mp4"], range=f"bytes={first}-{last}")
        assert answer.status_code == 206
        assert answer.content == whole.content[first : last + 1]
    assert hall.get(film["mp4"], range=f"bytes={size}-").status_code == 416
    assert hall.get(film["mp4"], **{"if-none-match": tag}).status_code == 304
    multiple = hall.get(film["mp4"], range="bytes=0-9,20-29")
    assert multiple.status_code == 206
    assert whole.content[20:30] in multiple.content


@pytest.mark.parametrize(
    "path",
    [
        "recordings/20200101T000000Z/master.m3u8",
        "recordings/ID/recording",
        "recordings/ID/event.head",
        "recordings/ID/240p/index",
        "recordings/ID/../../number",
        "recordings/ID/240p/..%2f..%2f..%2fnumber",
        "recordings/ID/480p/media.m3u8",
        "recordings/ID/240p/1.m4s",
    ],
)
def test_nothing_else_of_the_data_folder_is_served(hall: Hall, film: dict[str, Any], path: str) -> None:
    url = httpx.URL(f"{hall.server.url}/live/film/{path.replace('ID', film['id'])}")
    assert hall.client.get(url).status_code == 404


@pytest.mark.promise("server.data")
@pytest.mark.clause("RFC 8216bis §6.2.1 MUST 24")
def test_an_event_that_is_ended_stays_over_restarts_until_the_next_one_begins(
    hall: Hall, film: dict[str, Any]
) -> None:
    path, shown = "/live/talk/240p/media.m3u8", hall.segments("/live/film/240p/media.m3u8")
    wait_for(lambda: len(hall.segments(path)) >= 3, what="three segments")
    assert hall.post("/live/talk/start").status_code == 409
    # Fetch §3.2.2: any page may have a browser send a POST without a body; it is told whose page that is.
    end = f"{hall.server.url}/live/talk/end"
    assert hall.client.post(end, headers={**BEARER, "Origin": "https://evil.example"}).status_code == 403
    assert hall.client.post(end).status_code == 401
    # What is waited for doesn't come before the end, however late we are.
    # That of the film may be on its way out.
    (encoder,) = wait_for(
        lambda: running if len(running := hall.server.children()) == 1 else [], what="one encoder"
    )
    os.kill(encoder, signal.SIGSTOP)
    # Once what was in its pipes has been read.
    wait_for(lambda: len({hall.text(path) for _ in range(5)}) == 1, what="a standstill")
    number = int(hall.segments(path)[-1].removesuffix(".m4s"))
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(hall.text, f"{path}?_HLS_msn={number + 2}")
        wait_for(lambda: BLOCKED in hall.text("/metrics"), what="a blocked request")
        ended = hall.post("/live/talk/end")
        assert ended.json()["state"] == "ended"
        # Who waits for what never comes gets the end.
        assert waiting.result(CLIENT_SECONDS).endswith("#EXT-X-ENDLIST\n")
    first = hall.recording("talk")
    assert ended.json()["recording"] in (first, None), "None where the disk takes its time"
    text, kept = hall.text(path), hall.segments(path)
    known = {name: hall.get(f"/live/talk/240p/{name}").content for name in kept}
    hall.server.stop(signal.SIGKILL)
    hall.server = start_server(*hall.arguments, program=patient_server())
    wait_for(lambda: hall.text(path), what="the playlist")
    assert hall.segments(path) == kept
    assert hall.text(path).endswith("#EXT-X-ENDLIST\n")
    assert hall.channel("talk")["state"] == "ended"
    wait_for(lambda: hall.get("/health").json()["services"]["live/film"] == "ended", what="the film's end")
    assert hall.segments("/live/film/240p/media.m3u8") == shown, "it isn't played again"
    assert hall.channel("film")["recordings"] == [film]
    assert hall.recording("talk") == first
    assert text.count("#EXT-X-DISCONTINUITY\n") == hall.text(path).count("#EXT-X-DISCONTINUITY\n")

    assert hall.post("/live/talk/start").status_code == 202
    wait_for(lambda: hall.channel("talk")["state"] == "live", what="the next event")
    fresh = wait_for(lambda: hall.segments(path), what="its first segment")
    assert int(fresh[0].removesuffix(".m4s")) > int(kept[-1].removesuffix(".m4s"))
    assert not set(fresh) & set(kept)
    for name, data in known.items():
        assert hall.get(f"/live/talk/240p/{name}").content == data, "a URI that was listed stays good"
    assert hall.post("/live/talk/end").json()["state"] == "ended"
    listed = wait_for(lambda: hall.channel("talk")["recordings"][1:], what="the second recording")
    assert [one["id"] for one in listed] == [first["id"]]
    assert hall.segments(hall.recording("talk")["hls"].replace("master", "240p/media"))[0] == fresh[0]


@pytest.mark.promise("live.recordings")
def test_an_old_recording_is_removed_after_the_configured_time(hall: Hall, film: dict[str, Any]) -> None:
    old = hall.recording("brief")
    hall.server.stop(signal.SIGKILL)
    file = Path(hall.arguments[1])
    file.write_text(file.read_text().replace('vod_after_end = "1s"', 'recordings = "1s"'))
    hall.server = start_server(*hall.arguments, program=patient_server())
    wait_for(lambda: old not in hall.channel("brief")["recordings"], what="the removal")
    assert hall.get(old["hls"]).status_code == 404
    assert hall.channel("film")["recordings"] == [film]


def test_an_event_without_a_data_folder_is_told_at_the_start() -> None:
    channel = {"name": "one", "event": True}
    config = validate({"live": [channel]}, "a test")
    assert list(unserved(config)) == ["live 'one': event: without server.data only its live window is kept"]
    assert not list(unserved(validate({"live": [channel], "server": {"data": "/tmp"}}, "a test")))
