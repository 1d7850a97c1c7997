"""``headwater check`` reads each segment of what is finite: a fault anywhere in others' packages is found."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import m3u8
import pytest

from origin.cli.check import check
from origin.cli.checks import segment_structure
from origin.cli.checks.report import CheckReport
from tests.fork_server import run_headwater
from tests.packager.films import run_ffmpeg
from tests.ports import kept_port
from tests.processes import end
from tests.programs import program
from tests.waiting import wait_for

pytestmark = pytest.mark.usefixtures("quick_tools")

SECONDS, SEGMENTS = 12, 6
PLACES = {"first": 0, "middle": SEGMENTS // 2, "last": SEGMENTS - 1}
PICTURES = ("-f", "lavfi", "-i", f"testsrc2=size=160x90:rate=25:duration={SECONDS}")
SOUND = ("-f", "lavfi", "-i", f"sine=440:sample_rate=48000:duration={SECONDS}")
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "50", "-sc_threshold", "0")
HLS = ("-f", "hls", "-hls_time", "2", "-hls_playlist_type", "vod")
PACKAGES = {
    "fmp4": (*PICTURES, *H264, *HLS, "-hls_segment_type", "fmp4"),
    "ts": (*PICTURES, *SOUND, *H264, "-c:a", "aac", *HLS),
    "sound": (*SOUND, "-c:a", "aac", *HLS, "-hls_segment_type", "fmp4"),
    "ranges": (*PICTURES, *H264, *HLS, "-hls_segment_type", "fmp4", "-hls_flags", "single_file"),
    "dash": (*PICTURES, *H264, "-f", "dash", "-seg_duration", "2"),
}
"""How ffmpeg packages each kind, in segments of two seconds."""

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
  types {{ application/vnd.apple.mpegurl m3u8; application/dash+xml mpd; video/mp4 mp4 m4s; video/mp2t ts; }}
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  add_header Cache-Control "max-age=60";
  server {{ listen 127.0.0.1:{port}; root {folder}/www; }}
}}
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of each kind, as ffmpeg makes it."""
    folder = tmp_path_factory.mktemp("packages")
    for kind, words in PACKAGES.items():
        (folder / kind).mkdir()
        run_ffmpeg(*words, folder / kind / name_of(kind))
    return folder


@pytest.fixture(scope="module")
def www(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """What a plain nginx serves, and its address."""
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "www").mkdir()
    with kept_port() as port:
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
        command = [program("nginx", "nginx"), "-c", str(folder / "nginx.conf"), "-p", str(folder)]
        running = subprocess.Popen(command)
        try:
            wait_for((folder / "nginx.pid").exists, "nginx")
            yield folder / "www", f"http://127.0.0.1:{port}"
        finally:
            end(running)


@pytest.fixture
def served(packages: Path, www: tuple[Path, str]) -> Iterator[Callable[[str], tuple[Path, str]]]:
    """Serves a copy of a package; returns its folder and its address."""
    folder, url = www

    def serve(kind: str) -> tuple[Path, str]:
        shutil.copytree(packages / kind, folder / kind)
        return folder / kind, f"{url}/{kind}/{name_of(kind)}"

    yield serve
    for kind in PACKAGES:
        shutil.rmtree(folder / kind, ignore_errors=True)


def name_of(kind: str) -> str:
    return "manifest.mpd" if kind == "dash" else "media.m3u8"


def segments(folder: Path) -> list[Path]:
    """List the segments of a package in order."""
    found = [path for path in folder.iterdir() if path.suffix in (".m4s", ".ts") and "init" not in path.name]
    return sorted(found, key=lambda path: (len(path.name), path.name))


def missing(path: Path, _: Path) -> None:
    path.unlink()


def empty(path: Path, _: Path) -> None:
    path.write_bytes(b"")


def noise(path: Path, _: Path) -> None:
    path.write_bytes(random.Random(3).randbytes(path.stat().st_size))


def cut(path: Path, _: Path) -> None:
    """As an upload that broke off leaves it: half of it, in whole packets."""
    half = path.stat().st_size // 2
    path.write_bytes(path.read_bytes()[: half - half % 188])


def another(path: Path, other: Path) -> None:
    shutil.copy(other, path)


Fault = Callable[[Path, Path], None]

FAULTS: dict[Fault, str | None] = {
    missing: "isn't there: 404",
    empty: "is empty",
    noise: None,
    cut: None,
    another: None,
}
"""What is found of each fault, where the words are the same for all kinds."""


def judge(url: str, most: int = 1000) -> CheckReport:
    return asyncio.run(check(url, most))


@pytest.mark.parametrize("kind", PACKAGES)
def test_what_ffmpeg_packages_holds(kind: str, served: Callable[[str], tuple[Path, str]]) -> None:
    _, url = served(kind)
    report = judge(url)
    assert report.findings == []
    assert report.looked_at == report.listed >= SEGMENTS


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("kind", "place"),
    [("fmp4", place) for place in PLACES] + [(kind, "middle") for kind in ("ts", "sound", "dash")],
)
def test_a_fault_anywhere_is_found_and_named(
    kind: str,
    place: str,
    fault: Fault,
    served: Callable[[str], tuple[Path, str]],
) -> None:
    folder, url = served(kind)
    listed = segments(folder)
    broken = listed[PLACES[place]]
    fault(broken, listed[PLACES[place] - 2])
    findings = [finding for finding in judge(url).findings if broken.name in finding]
    assert findings
    words = FAULTS[fault]
    assert words is None or any(words in finding for finding in findings)


def test_a_range_that_lies_behind_the_files_end_is_found(served: Callable[[str], tuple[Path, str]]) -> None:
    folder, url = served("ranges")
    media = next(folder.glob("*.m4s"))
    media.write_bytes(media.read_bytes()[:-1000])
    assert any("is cut off" in finding for finding in judge(url).findings)


def test_durations_that_are_not_those_of_the_media_are_found(
    served: Callable[[str], tuple[Path, str]],
) -> None:
    folder, url = served("fmp4")
    text = (folder / "media.m3u8").read_text()
    (folder / "media.m3u8").write_text(
        text.replace("EXTINF:2.0", "EXTINF:5.0").replace("DURATION:2", "DURATION:5")
    )
    assert any("2.00 s of media, where 5.00 s are said" in finding for finding in judge(url).findings)


def test_of_a_long_playlist_as_many_are_read_as_is_said_evenly_and_the_answer_says_so(
    served: Callable[[str], tuple[Path, str]],
) -> None:
    folder, url = served("fmp4")
    done = run_headwater("check", url, "--most", "3")
    assert done.returncode == 0, done.stdout
    assert f"3 of {SEGMENTS} segments were looked at" in done.stdout.splitlines()
    segments(folder)[-1].unlink()
    done = run_headwater("check", url, "--most", "3")
    assert done.returncode == 1
    assert "isn't there: 404" in done.stdout


def test_the_renditions_of_a_title_share_what_is_read(served: Callable[[str], tuple[Path, str]]) -> None:
    folder, url = served("fmp4")
    told = 'BANDWIDTH=500000,RESOLUTION=160x90,CODECS="avc1.64000c"'
    (folder / "other.m3u8").write_text((folder / "media.m3u8").read_text())
    variants = "".join(f"#EXT-X-STREAM-INF:{told}\n{name}.m3u8\n" for name in ("media", "other"))
    (folder / "master.m3u8").write_text("#EXTM3U\n#EXT-X-VERSION:7\n" + variants)
    report = judge(url.replace("media.m3u8", "master.m3u8"), 6)
    assert (report.looked_at, report.listed) == (6, 2 * SEGMENTS)


def test_gaps_and_what_is_encrypted_have_no_structure_to_be_seen(
    served: Callable[[str], tuple[Path, str]],
) -> None:
    folder, url = served("ts")
    key = random.Random(5).randbytes(16)
    (folder / "key").write_bytes(key)
    text = (folder / "media.m3u8").read_text()
    for path in segments(folder):
        command = [program("openssl"), "aes-128-cbc", "-K", key.hex(), "-iv", "00" * 16, "-in", str(path)]
        done = subprocess.run(command, check=True, capture_output=True)
        path.write_bytes(done.stdout)
    line = f'#EXT-X-KEY:METHOD=AES-128,URI="key",IV=0x{"00" * 16}\n#EXTINF'
    (folder / "media.m3u8").write_text(text.replace("#EXTINF", line, 1))
    assert m3u8.loads((folder / "media.m3u8").read_text()).segments[0].key.method == "AES-128"
    assert judge(url).findings == []
    broken = segments(folder)[2]
    broken.write_bytes(broken.read_bytes()[:-5])
    assert any("which no AES-128 has" in finding for finding in judge(url).findings)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"<html>not found</html>", "is neither"),
        (b"\xff\xf1\x50\x80", "doesn't begin with an ID3 tag"),
        (b"\0\0\0\x10moof12345678", "has no moof with an mdat"),
        (b"\0\0\0\x08mdat\0\0\0\x08moof", "has no moof with an mdat"),
        (b"\0\0\0\x04moof", "has a box of 4 bytes"),
        (b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x0f", "has a box of 15 bytes"),
        (b"\0\0\0\x08moof\0\0\0\x20mdat", "is cut off: box mdat at byte 8 has 32 bytes, 8 are there"),
        (b"\0\0\0\x08moof\0\0\0\x08mdat\0\0", "has no box at byte 16"),
        ((b"G\x01\0" + bytes(185)) * 3, "has no program association table"),
        ((b"G\0\0" + bytes(185)) * 3 + b"G", "is cut off: 565 bytes"),
        (b"G\0\0" + bytes(185) + b"G\0\0" + bytes(185) + bytes(188), "has no packet at byte 376"),
    ],
)
def test_what_has_no_structure_is_described(data: bytes, words: str) -> None:
    found = segment_structure.problem(data, has_init=False)
    assert found is not None
    assert found.startswith(words)


@pytest.mark.parametrize(
    "data",
    [
        b"WEBVTT\n\n",
        b"\xef\xbb\xbfWEBVTT",
        b"ID3\x04\0\0\0\0\0\0\xff\xf1",
        b"\0\0\0\x08styp\0\0\0\x08moof\0\0\0\x01mdat\0\0\0\0\0\0\0\x10",
        b"\0\0\0\x08moof\0\0\0\0mdatanything",
        (b"G\0\0" + bytes(185)) * 2,
    ],
)
def test_what_has_structure_holds(data: bytes) -> None:
    assert segment_structure.problem(data, has_init=False) is None


def test_images_of_a_manifest_are_judged_as_images(tmp_path: Path) -> None:
    """DASH-IF IOP §6.2.6: an adaptation set of tiled thumbnails has a JPEG or PNG for each segment."""
    make = "-f lavfi -i testsrc2=size=160x120:rate=1:duration=4"
    for name in ("%d.jpg", "%d.png"):
        subprocess.run(["ffmpeg", "-v", "error", *make.split(), tmp_path / name], check=True, timeout=60)
    sets = "".join(
        f'<AdaptationSet mimeType="image/{kind}" contentType="image">'
        f'<SegmentTemplate media="$Number$.{suffix}" duration="1" startNumber="1"/>'
        f'<Representation id="{suffix}" bandwidth="10000" width="160" height="120"/></AdaptationSet>'
        for kind, suffix in (("jpeg", "jpg"), ("png", "png"))
    )
    manifest = tmp_path / "manifest.mpd"
    manifest.write_text(
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT4S"'
        f' minBufferTime="PT2S" profiles="urn:mpeg:dash:profile:isoff-live:2011">'
        f"<Period>{sets}</Period></MPD>"
    )

    def of_images() -> list[str]:
        return [one for one in judge(str(manifest)).findings if ".jpg" in one or ".png" in one]

    assert of_images() == []
    (tmp_path / "2.jpg").write_bytes((tmp_path / "2.jpg").read_bytes()[:-1])
    (tmp_path / "3.png").write_bytes(b"<html>")
    (tmp_path / "4.png").write_bytes(b"")
    assert ["is cut off" in of_images()[0], "is neither JPEG nor PNG" in of_images()[1]] == [True, True]
    assert "4.png is empty" in of_images()[2]
