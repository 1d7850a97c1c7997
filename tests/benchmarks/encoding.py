"""Encoding on request: the first segment behind a seek, and a whole film by segments, beside ffmpeg by hand.

The peers are ffmpeg with the same encoder and settings, and ffmpeg as Jellyfin starts it for HLS. Seeks go to
segments that nobody has asked for, in turns; of the whole film the processor time counts, and how alike the
results are to the film. Ten viewers who seek at the same time are compared with ten who start an ffmpeg each.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import resource
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

import m3u8

from packager.encode.renditions import EncodedRendition, EncodedRenditions, find_rendition
from packager.encode.segment_encoder import encode_init, encode_segment
from packager.process.ffmpeg_discovery import Tools, discover
from packager.vod.index.index_builder import read_index
from tests.benchmarks import peers
from tests.benchmarks.load import Figure

SEEK, FILM, VIEWERS = "encoded: cold seek", "encoded: whole film", "encoded: ten viewers"
SECONDS = 240
ROUNDS = 10
SEEKS = 20
AT_ONCE = 10
JELLYFIN_SEGMENT = 3
HEIGHTS = (360, 720)
CODECS = {
    "h264": ("-c:v", "libx264", "-preset", "veryfast", "-crf", "22"),
    "hevc": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", "-tag:v", "hvc1"),
    "av1": ("-c:v", "libsvtav1", "-preset", "12", "-crf", "40"),
}
"""The films' codecs; the pictures have 1080 lines, and a key frame each two seconds."""

_SSIM = re.compile(r"SSIM .* All:([0-9.]+)")


def make_film(path: Path, codec: str) -> None:
    """Encode a moving picture with detail and some noise, and repeat it without encoding it again."""
    picture = f"testsrc2=size=1920x1080:rate=25:duration={SECONDS // ROUNDS},noise=alls=8:allf=t"
    one = path.with_name(f".{path.name}")
    encoded = ["-f", "lavfi", "-i", picture, *CODECS[codec], "-g", "50", "-pix_fmt", "yuv420p"]
    repeated = ["-stream_loop", str(ROUNDS - 1), "-i", str(one), "-c", "copy"]
    for words in ([*encoded, str(one)], [*repeated, str(path)]):
        subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *words], check=True)
    one.unlink()


def by_hand(film: Path, rendition: EncodedRendition, start: float, seconds: float, out: Path) -> None:
    """Encode a stretch of a film as people do who start ffmpeg at each seek."""
    rate = rendition.track.bitrate
    size = "x".join(map(str, rendition.size))
    words = ["-ss", f"{start:.3f}", "-i", str(film), "-t", f"{seconds:.3f}", "-an", "-s", size]
    words += ["-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high", "-crf", "23", "-bf", "2"]
    words += ["-maxrate", str(rate), "-bufsize", str(rate), "-threads", "2", "-pix_fmt", "yuv420p"]
    words += ["-x264-params", "b-pyramid=none", "-f", "mp4", "-movflags", "empty_moov+frag_keyframe"]
    command = [
        "nice",
        "-n",
        "10",
        "ffmpeg",
        "-nostdin",
        "-v",
        "error",
        "-threads",
        "2",
        *words,
        "-y",
        str(out),
    ]
    subprocess.run(command, check=True)


def as_jellyfin(rendition: EncodedRendition, film: Path, start: float, folder: Path) -> None:
    """Start ffmpeg as Jellyfin does behind a seek, until the first segment of its HLS is served.

    The arguments are those of DynamicHlsController.GetCommandLineArguments and EncodingHelper. A segment is
    served once the next one is begun.
    """
    rate, (width, height) = rendition.track.bitrate, rendition.size
    words = ["-ss", f"{start:.3f}", "-i", f"file:{film}", "-map_metadata", "-1", "-map_chapters", "-1"]
    words += ["-threads", "0", "-map", "0:0", "-codec:v:0", "libx264", "-preset", "veryfast", "-crf", "23"]
    words += ["-maxrate", str(rate), "-bufsize", str(2 * rate), "-profile:v:0", "high"]
    words += ["-force_key_frames:0", f"expr:gte(t,{start:.3f}+n_forced*{JELLYFIN_SEGMENT})"]
    words += ["-sc_threshold:v:0", "0", "-vf", f"scale={width}:{height},format=yuv420p", "-copyts"]
    words += ["-avoid_negative_ts", "disabled", "-max_muxing_queue_size", "128", "-f", "hls"]
    words += ["-max_delay", "5000000", "-hls_time", str(JELLYFIN_SEGMENT), "-hls_segment_type", "mpegts"]
    words += ["-start_number", "0", "-hls_segment_filename", str(folder / "seek%d.ts")]
    words += ["-hls_playlist_type", "vod", "-hls_list_size", "0", "-y", str(folder / "seek.m3u8")]
    for old in folder.glob("seek?.ts"):
        old.unlink()
    process = subprocess.Popen(["ffmpeg", "-nostdin", "-v", "error", *words])
    while not (folder / "seek1.ts").exists() and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.wait()


def wait_until_idle(server: peers.Peer) -> None:
    """Wait until the server encodes nothing ahead, so that all have the machine for themselves."""
    while any(_encodes(pid) for pid in server.pids):
        time.sleep(0.05)


def _encodes(pid: int) -> bool:
    """Return whether a process has children: those of a server are its encoders."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return any((task / "children").read_text().strip() for task in tasks)


def seeks(folder: Path, codec: str, height: int) -> Iterator[Figure]:
    """Ask for segments in mixed order, in turns with ffmpeg."""
    film = folder / "library" / f"{codec}.mp4"
    rendition = rendition_of(film, height)
    with peers.headwater(folder / "library") as ours:
        segments = segments_of(ours, film, height)
        chosen = random.Random(height).sample(range(0, len(segments) - 1, 3), min(SEEKS, len(segments) // 3))
        found: dict[str, list[float]] = {"ffmpeg -ss": [], "as Jellyfin": [], "headwater": []}
        for number in chosen:
            start = sum(one.duration for one in segments[:number])
            wait_until_idle(ours)
            began = time.perf_counter()
            by_hand(film, rendition, start, segments[number].duration, folder / "seek.mp4")
            found["ffmpeg -ss"].append(time.perf_counter() - began)
            began = time.perf_counter()
            as_jellyfin(rendition, film, start, folder)
            found["as Jellyfin"].append(time.perf_counter() - began)
            began = time.perf_counter()
            fetch(segments[number].absolute_uri)
            found["headwater"].append(time.perf_counter() - began)
    for name, times in found.items():
        yield Figure(f"{SEEK} {codec} {height}p", name, statistics.median(times), "s")
    for name, times in found.items():
        yield Figure(f"{SEEK} {codec} {height}p, p95", name, statistics.quantiles(times, n=20)[-1], "s")


def segments_of(server: peers.Peer, film: Path, height: int) -> list[m3u8.Segment]:
    """Return the segments of a film's encoded rendition."""
    address = f"{server.url}/vod/{film.name}/video-{height}p/media.m3u8"
    return list(m3u8.loads(fetch(address).decode(), uri=address).segments)


def fetch(address: str) -> bytes:
    """Fetch an address, and again while the server says that it is busy."""
    while True:
        try:
            with urllib.request.urlopen(address, timeout=120) as answer:
                found: bytes = answer.read()
                return found
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            time.sleep(float(error.headers["Retry-After"]))


def viewers(folder: Path, codec: str, height: int) -> Iterator[Figure]:
    """Let ten viewers seek at the same time, half of them to the same places."""
    film = folder / "library" / f"{codec}.mp4"
    rendition = rendition_of(film, height)
    with peers.headwater(folder / "library") as ours, ThreadPoolExecutor(AT_ONCE) as threads:
        segments = segments_of(ours, film, height)
        apart = len(segments) // AT_ONCE
        chosen = [apart * (viewer // 2) for viewer in range(AT_ONCE)]

        def start_ffmpeg(viewer: int) -> float:
            start = sum(one.duration for one in segments[: chosen[viewer]])
            began = time.perf_counter()
            by_hand(film, rendition, start, segments[chosen[viewer]].duration, folder / f"{viewer}.mp4")
            return time.perf_counter() - began

        def ask(viewer: int) -> float:
            began = time.perf_counter()
            fetch(segments[chosen[viewer]].absolute_uri)
            return time.perf_counter() - began

        for name, seek in (("ffmpeg -ss", start_ffmpeg), ("headwater", ask)):
            times = list(threads.map(seek, range(AT_ONCE)))
            yield Figure(f"{VIEWERS} {codec} {height}p", name, statistics.median(times), "s")
            yield Figure(f"{VIEWERS} {codec} {height}p, last", name, max(times), "s")


def rendition_of(film: Path, height: int) -> EncodedRendition:
    """Describe a film's encoded rendition of a height."""
    with film.open("rb") as file:
        index = read_index(lambda at, length: os.pread(file.fileno(), length, at), film.stat().st_size)
    encoded = EncodedRenditions("all", "benchmark").tracks(index)
    found = find_rendition(index.with_encoded(encoded), f"video-{height}p")
    assert found is not None
    return found


async def in_segments(tools: Tools, film: Path, rendition: EncodedRendition) -> bytes:
    """Encode a whole film, segment by segment."""
    with film.open("rb") as file:

        def read(offset: int, length: int) -> bytes:
            return os.pread(file.fileno(), length, offset)

        pieces = [await encode_init(tools, rendition, read)]
        numbers = range(len(rendition.track.sizes))
        pieces += [await encode_segment(tools, rendition, number, None, read) for number in numbers]
    return b"".join(pieces)


def likeness(film: Path, result: Path) -> float:
    """Return the structural similarity of a result to its film, by ffmpeg."""
    graph = "[0:v][1:v]scale2ref=flags=bicubic[a][b];[a][b]ssim"
    command = ["ffmpeg", "-nostdin", "-i", str(film), "-i", str(result), "-lavfi", graph, "-f", "null", "-"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    told = _SSIM.search(output)
    assert told is not None
    return float(told[1])


def whole_film(folder: Path, codec: str, height: int) -> Iterator[Figure]:
    """Encode a film in one pass and by segments."""
    film = folder / "library" / f"{codec}.mp4"
    rendition = rendition_of(film, height)
    one, other = folder / "pass.mp4", folder / "segments.mp4"
    tools = asyncio.run(discover())
    costs = []
    for encode in (
        lambda: by_hand(film, rendition, 0, SECONDS, one),
        lambda: other.write_bytes(asyncio.run(in_segments(tools, film, rendition))),
    ):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        encode()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    for name, cost in zip(("one pass", "segments"), costs, strict=True):
        yield Figure(f"{FILM} {codec} {height}p", name, cost, "CPU s")
    for name, path in (("one pass", one), ("segments", other)):
        yield Figure(f"{FILM} {codec} {height}p, bytes", name, path.stat().st_size / 1e6, "MB")
    for name, path in (("one pass", one), ("segments", other)):
        yield Figure(f"{FILM} {codec} {height}p, loss", name, 1 - likeness(film, path), "1 - SSIM")


def run(words: tuple[str, ...]) -> Iterator[Figure]:
    """Run the benchmarks that are named, or all."""
    chosen = [name for name in (SEEK, FILM, VIEWERS) if not words or any(word in name for word in words)]
    if not chosen:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "library").mkdir()
        for codec in CODECS:
            make_film(folder / "library" / f"{codec}.mp4", codec)
        for codec in CODECS:
            for height in HEIGHTS:
                if SEEK in chosen:
                    yield from seeks(folder, codec, height)
        if VIEWERS in chosen:
            yield from viewers(folder, "h264", HEIGHTS[0])
        if FILM in chosen:
            yield from whole_film(folder, "h264", HEIGHTS[0])
