"""Stations as HLS, from a real server: what phones behind CDNs hear is what the station's listeners hear."""

from __future__ import annotations

import base64
import contextlib
import functools
import itertools
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import m3u8
import numpy as np
import pytest

from tests.conftest import ServerProcess, start_server
from tests.fork_server import HEADWATER
from tests.ogg import encoded
from tests.origin.cli.judgements import Judgement, judge_live, standstills
from tests.patience import CLIENT_SECONDS, patient_server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(1800)

TONES = {"Ada - Low": 500, "Ada - Middle": 900, "High": 1500}
TUNE_SECONDS = 3
OTHER_TONE = 2500
"""What the source client sends, in another sample rate and mono."""

PASSWORD = "sesame"
SAMPLE_RATE = 8000
STEP = SAMPLE_RATE // 20
"""Samples of what one tone is looked for in: a twentieth of a second."""


def tone(frequency: int, seconds: int) -> list[str]:
    return [
        "ffmpeg",
        "-nostdin",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        f"sine=frequency={frequency}:duration={seconds}",
    ]


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("music")
    for number, (title, frequency) in enumerate(TONES.items()):
        words = ["-ac", "2", "-ar", "44100", "-b:a", "128k", "-metadata", f"title={title}"]
        subprocess.run([*tone(frequency, TUNE_SECONDS), *words, str(folder / f"{number}.mp3")], check=True)
    return folder


@pytest.fixture(scope="module")
def server(music: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose ffmpegs may be late."""
    folder = tmp_path_factory.mktemp("config")
    config = folder / "headwater.toml"
    stations = {
        "tones.mp3": f'folder = "{music}"',
        "short.mp3": f'folder = "{music}"\nhls_bitrates = [96]',
        "never.mp3": f'folder = "{music}"\nhls = false',
        "locked.mp3": f'folder = "{music}"\nlistener_password = "{PASSWORD}"',
        "vorbis.ogg": f'source = "publish"\nsource_password = "{PASSWORD}"',
        "talk.mp3": f'source = "publish"\nsource_password = "{PASSWORD}"\nfallback = "tones.mp3"',
    }
    text = "".join(f'[[radio]]\nname = "{name}"\n{keys}\n' for name, keys in stations.items())
    config.write_text(f'[library]\npath = "{music}"\n[limits]\nhls_idle_seconds = 30\n{text}')
    server = start_server("--config", str(config), "--port", "0", program=patient_server())
    yield server
    if server.process.poll() is None:
        server.stop()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{server.url}/live/", timeout=CLIENT_SECONDS) as client:
        yield client


@dataclass(frozen=True)
class Judge:
    """Judges a station while other tests are under way; ``before`` tells what was late until then."""

    process: subprocess.Popen[str]
    before: tuple[float, int]

    def judgement(self) -> Judgement:
        said, _ = self.process.communicate(timeout=240)
        return self.process.returncode, said


@pytest.fixture(scope="module")
def judge(server: ServerProcess) -> Iterator[Judge]:
    before = standstills(server, "tones.mp3", "128k")
    command = [str(HEADWATER), "check", f"{server.url}/live/tones.mp3/master.m3u8"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        yield Judge(process, before)
        process.kill()


def ask(url: str, method: str = "GET") -> httpx.Response:
    return httpx.request(method, url, timeout=CLIENT_SECONDS)


def read(client: httpx.Client, path: str) -> m3u8.M3U8:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return m3u8.loads(answer.text)


def read_until(client: httpx.Client, path: str, enough: Callable[[list[m3u8.Segment]], object]) -> m3u8.M3U8:
    """Read a playlist until its segments are enough."""
    return wait_for(
        lambda: [found for found in [read(client, path)] if enough(whole(found))], what=f"{path} with enough"
    )[0]


def encoders(server: ServerProcess, station: str) -> list[int]:
    """The ffmpegs that make a station's channel: told by how many renditions they have."""
    outputs = {"short.mp3": 1}.get(station, 2)
    lines = {}
    for pid in server.children():
        # One may be on its way out.
        with contextlib.suppress(OSError):
            lines[pid] = Path(f"/proc/{pid}/cmdline").read_bytes()
    return [pid for pid, line in lines.items() if line.count(b"output_ts_offset") == outputs]


@dataclass(frozen=True)
class Left:
    """What a station's channel had when its only viewer left."""

    encoder: int
    last: int
    discontinuity_sequence: int


@pytest.fixture(scope="module")
def left(server: ServerProcess) -> Left:
    """A channel whose viewer has left: its half a minute goes by while other tests are under way."""
    with httpx.Client(base_url=f"{server.url}/live/", timeout=CLIENT_SECONDS) as client:
        variants = read(client, "short.mp3/master.m3u8").playlists
        assert [variant.uri for variant in variants] == ["96k/media.m3u8"]
        before = read(client, "short.mp3/96k/media.m3u8")
    (encoder,) = encoders(server, "short.mp3")
    return Left(encoder, before.media_sequence + len(before.segments) - 1, before.discontinuity_sequence)


def dominant(*played: str) -> list[int]:
    """The loudest frequency in each twentieth of a second of what ffmpeg decodes."""
    words = ["ffmpeg", "-nostdin", "-v", "error", *played, "-ac", "1", "-ar", str(SAMPLE_RATE)]
    samples = np.frombuffer(
        subprocess.run([*words, "-f", "s16le", "-"], check=True, capture_output=True).stdout, "<i2"
    ).astype(float)
    window = np.hanning(STEP)
    return [
        int(np.argmax(np.abs(np.fft.rfft(samples[at : at + STEP] * window)))) * 20
        for at in range(0, len(samples) - STEP, STEP)
    ]


@dataclass(frozen=True)
class Heard:
    """A stretch of one tone: when it begins, in seconds since the epoch."""

    begin: float
    frequency: int


def heard(client: httpx.Client, name: str, listed: list[m3u8.Segment]) -> list[Heard]:
    """Decode segments of one timeline; tell the tones in their order, by the playlist's dates."""
    data = client.get(f"{name}/{listed[0].init_section.uri}").content
    data += b"".join(client.get(f"{name}/{segment.uri}").content for segment in listed)
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(data)
        file.flush()
        found = dominant("-i", file.name)
    begin = listed[0].current_program_date_time.timestamp()
    changes = [0] + [at for at in range(1, len(found)) if found[at] != found[at - 1]]
    # Where two tones meet, a step has something of both.
    stretches = [
        Heard(begin + at / 20, found[at])
        for at, end in itertools.pairwise([*changes, len(found)])
        if end - at > 3
    ]
    return [
        one for at, one in enumerate(stretches) if at == 0 or stretches[at - 1].frequency != one.frequency
    ]


def sounds(radio: str) -> bool:
    """Tell whether a station may be listened to: not while it is silent."""
    return ask(radio, "HEAD").status_code == 200


def whole(playlist: m3u8.M3U8) -> list[m3u8.Segment]:
    """Give the finished segments behind the last break."""
    found: list[m3u8.Segment] = []
    for segment in playlist.segments:
        if segment.discontinuity or segment.gap_tag:
            found = []
        if segment.uri and not segment.gap_tag:
            found.append(segment)
    return found


def frequencies(client: httpx.Client, segments: list[m3u8.Segment]) -> set[int]:
    """The tones in the newest segment."""
    return {one.frequency for one in heard(client, "talk.mp3/128k", segments[-1:])} if segments else set()


@pytest.mark.promise("radio.hls", "radio.hls_bitrates")
def test_a_station_that_nobody_asks_for_has_no_encoder(server: ServerProcess, client: httpx.Client) -> None:
    wait_for(lambda: '"state":"live"' in ask(f"{server.url}/api/radio").text, what="the station")
    for station in ("tones.mp3", "talk.mp3"):
        radio = f"{server.url}/radio/{station}"
        wait_for(functools.partial(sounds, radio), what=station)
    health = ask(f"{server.url}/health").json()
    assert health["services"]["live/tones.mp3"] == "idle"
    wait_for(lambda: server.children() == [], what="no encoder")
    for station in ("never.mp3", "locked.mp3"):
        assert client.get(f"{station}/master.m3u8").status_code == 404
    assert ask(f"{server.url}/api/live").json() == []
    addresses = {item["name"]: item["hls"] for item in ask(f"{server.url}/api/radio").json()}
    assert addresses["tones.mp3"] == "/live/tones.mp3/master.m3u8"
    assert addresses["never.mp3"] is None


@pytest.mark.usefixtures("left", "judge")
def test_the_programme_is_heard_with_each_title_at_its_tune(
    server: ServerProcess, client: httpx.Client
) -> None:
    # It begins with what was heard just before: no more than what is there then need be waited for.
    master = read(client, "tones.mp3/master.m3u8")
    assert [variant.uri for variant in master.playlists] == ["128k/media.m3u8", "64k/media.m3u8"]
    for variant in master.playlists:
        assert variant.stream_info.codecs == "mp4a.40.2"
        assert variant.stream_info.resolution is None

    playlist = read_until(client, "tones.mp3/64k/media.m3u8", lambda segments: len(segments) >= 3)
    stations = {item["name"]: item for item in ask(f"{server.url}/api/radio").json()}
    assert (stations["tones.mp3"]["listeners"], stations["tones.mp3"]["peak"]) == (0, 0)
    assert stations["tones.mp3"]["viewers"] >= 1
    assert all(part.independent == "YES" for segment in playlist.segments for part in segment.parts)
    tones = heard(client, "tones.mp3/64k", whole(playlist))
    order = list(TONES.values())
    at = order.index(tones[0].frequency)
    assert [one.frequency for one in tones] == [order[(at + index) % 3] for index in range(len(tones))]
    text = client.get("tones.mp3/64k/media.m3u8").text
    said = re.findall(r'CLASS="headwater.title",START-DATE="([^"]+)",X-TITLE="([^"]+)"', text)
    starts = [
        (np.datetime64(date.rstrip("Z")).astype("datetime64[ms]").astype(int) / 1000, title)
        for date, title in said
    ]
    assert len(tones) >= 4
    # the first one may have begun before; a step is a twentieth of a second, the codecs' delays as much again
    for one in tones[1:]:
        near = min(starts, key=lambda start: abs(start[0] - one.begin))
        assert TONES[near[1]] == one.frequency
        assert abs(near[0] - one.begin) < 0.15


@pytest.mark.promise("/live/NAME/master.m3u8", "radio.name", "radio.folder")
def test_ffmpeg_plays_the_multivariant_playlist(server: ServerProcess, client: httpx.Client) -> None:
    read_until(client, "tones.mp3/128k/media.m3u8", lambda segments: len(segments) >= 3)
    url = f"{server.url}/live/tones.mp3/master.m3u8"
    found = dominant("-live_start_index", "0", "-t", str(2 * TUNE_SECONDS), "-i", url)
    assert len(found) == pytest.approx(20 * 2 * TUNE_SECONDS, abs=2)
    # Only where two tunes meet, a twentieth of a second may have something of both.
    assert {frequency for frequency in found if found.count(frequency) > 5} <= set(TONES.values())
    assert sum(frequency in TONES.values() for frequency in found) > 0.95 * len(found)


def test_our_own_judge_is_content_with_a_stations_playlists(server: ServerProcess, judge: Judge) -> None:
    status, said = judge_live(server, "tones.mp3", "128k", (judge.before, judge.judgement))
    assert status == 0, said
    assert ", 0 didn't" in said


def test_a_chain_of_ogg_is_heard_over_its_titles_without_a_break(
    server: ServerProcess, client: httpx.Client
) -> None:
    path, tunes = "vorbis.ogg/128k/media.m3u8", [title for title in TONES if " - " in title]
    links = [
        encoded("vorbis", title.partition(" - ")[2], seconds=6, source=f"sine=frequency={TONES[title]}")
        for title in tunes
    ]
    chain = b"".join(4 * links)
    key = base64.b64encode(f"source:{PASSWORD}".encode()).decode()
    fields = [f"Authorization: Basic {key}", "Content-Type: audio/ogg", f"Content-Length: {len(chain)}"]
    head = "\r\n".join(["PUT /radio/vorbis.ogg HTTP/1.1", "Host: localhost", *fields, "", ""])
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0)) as source:
        # All at once: it is read at real time, ten seconds ahead at most.
        source.sendall(head.encode() + chain)
        radio = f"{server.url}/radio/vorbis.ogg"
        wait_for(lambda: sounds(radio), what="the station")
        playlist = read_until(client, path, lambda segments: len(segments) >= 4)
        found = heard(client, "vorbis.ogg/128k", whole(playlist))
        text = client.get(path).text
    assert len(found) >= 2
    assert {one.frequency for one in found} == {TONES[title] for title in tunes}
    assert "#EXT-X-DISCONTINUITY\n" not in text
    assert set(re.findall('X-TITLE="(.*)"', text)) == {
        f"Maker - {title.partition(' - ')[2]}" for title in tunes
    }


def test_hls_plays_on_when_the_stations_source_is_killed(server: ServerProcess, client: httpx.Client) -> None:
    path = "talk.mp3/128k/media.m3u8"
    target = f"icecast://source:{PASSWORD}@127.0.0.1:{urlsplit(server.url).port}/radio/talk.mp3"
    words = ["-ac", "1", "-ar", "48000", "-b:a", "64k", "-content_type", "audio/mpeg", "-f", "mp3", target]
    paced = [*tone(OTHER_TONE, 600)]
    paced.insert(paced.index("-f"), "-re")
    source = subprocess.Popen([*paced, *words])
    try:
        read_until(client, path, lambda segments: OTHER_TONE in frequencies(client, segments))
        os.kill(source.pid, signal.SIGKILL)
    finally:
        source.kill()
        source.wait()
    killed = time.time()

    playlist = read_until(
        client,
        path,
        # §4.4.4.3: 48 kHz mono, then 44.1 kHz stereo
        lambda segments: (
            segments
            and segments[-1].current_program_date_time.timestamp() > killed + 3
            and any(segment.discontinuity for segment in segments)
        ),
    )
    segments = playlist.segments
    assert frequencies(client, whole(playlist)) <= set(TONES.values())
    numbers = [int(segment.uri.partition(".")[0]) for segment in segments if segment.uri]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.promise("limits.hls_idle_seconds")
def test_a_channel_goes_with_its_last_viewer_and_the_next_one_has_higher_numbers(
    server: ServerProcess, client: httpx.Client, left: Left
) -> None:
    # Half a minute is configured; who only takes segments is no viewer, since a CDN does that for ever.
    wait_for(lambda: left.encoder not in server.children(), what="the encoder's end")
    health = ask(f"{server.url}/health").json()
    assert health["services"]["live/short.mp3"] == "idle"
    after = read(client, "short.mp3/96k/media.m3u8")
    assert after.media_sequence > left.last
    # §6.2.2: the discontinuity between them has left the playlist
    assert after.discontinuity_sequence > left.discontinuity_sequence


def test_the_end_leaves_no_encoder(server: ServerProcess, client: httpx.Client) -> None:
    read(client, "tones.mp3/master.m3u8")
    running = server.children()
    assert encoders(server, "tones.mp3")
    assert server.stop() == 0
    assert not [pid for pid in running if Path(f"/proc/{pid}").exists()]
    assert "Traceback" not in server.text()
