"""``headwater check`` finds playlists that last longer than their media, and tracks that don't last alike."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from origin.cli.check import check
from tests.fork_server import run_headwater
from tests.packager.films import run_ffmpeg

pytestmark = pytest.mark.usefixtures("quick_tools")

H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 50 -sc_threshold 0"
HLS = "-f hls -hls_time 2 -hls_playlist_type vod -hls_segment_type fmp4"
MASTER = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="sound",DEFAULT=YES,URI="sound/media.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=900000,CODECS="avc1.64000c,mp4a.40.2",RESOLUTION=160x90,AUDIO="audio"
picture/media.m3u8
"""


class Handler(SimpleHTTPRequestHandler):
    """Any origin: files with the headers that playlists have."""

    def guess_type(self, path: str | os.PathLike[str]) -> str:
        types = {".m3u8": "application/vnd.apple.mpegurl", ".mpd": "application/dash+xml"}
        return types.get(Path(path).suffix, "video/mp4")

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "max-age=60")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def www(tmp_path: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def film(folder: Path, picture: float = 12, sound: float = 12, sound_words: str = "-hls_time 2") -> None:
    """Have ffmpeg package a picture and a sound, with a multivariant playlist that is written by hand."""
    for name, words in {
        "picture": f"-f lavfi -i testsrc2=s=160x90:r=25:d={picture} {H264} {HLS}",
        "sound": f"-f lavfi -i sine=440:r=48000:d={sound} -c:a aac {HLS} {sound_words}",
    }.items():
        (folder / name).mkdir()
        run_ffmpeg(*words.split(), folder / name / "media.m3u8")
    (folder / "master.m3u8").write_text(MASTER)


def found(url: str) -> list[str]:
    """Return the findings about lengths: a plain HTTP server has no ranges, about which there are others."""
    words = ("target durations", "span", "by the durations of its segments", "s of media", "s behind")
    return [line for line in asyncio.run(check(url)).findings if any(word in line for word in words)]


def test_a_film_that_ffmpeg_packages_holds(www: str, tmp_path: Path) -> None:
    film(tmp_path)
    assert found(f"{www}/master.m3u8") == []


@pytest.mark.clause("RFC 8216bis §6.2.4")
def test_tracks_that_do_not_cover_the_same_span_are_found(www: str, tmp_path: Path) -> None:
    film(tmp_path, picture=6)
    (told,) = found(f"{www}/master.m3u8")
    assert "picture/media.m3u8 lasts 6.00 s and" in told
    assert "sound/media.m3u8 12.0" in told
    done = run_headwater("check", f"{www}/master.m3u8")
    assert done.returncode == 1
    assert "playlists don't cover the same span" in done.stdout


@pytest.mark.clause("RFC 8216bis §6.2.4")
def test_target_durations_that_differ_are_found(www: str, tmp_path: Path) -> None:
    film(tmp_path, sound_words="-hls_time 6")
    (told,) = found(f"{www}/master.m3u8")
    assert f"target durations differ: 2 in {www}/picture/media.m3u8, 6 in {www}/sound/media.m3u8" in told
    assert run_headwater("check", f"{www}/master.m3u8").returncode == 1
    # Text may have another one, by the same clause.
    text = MASTER.replace("TYPE=AUDIO", "TYPE=SUBTITLES").replace(",AUDIO=", ",SUBTITLES=")
    (tmp_path / "master.m3u8").write_text(text)
    assert found(f"{www}/master.m3u8") == []


@pytest.mark.parametrize(("number", "said"), [(5, 10.0), (2, 3.0)])
def test_a_playlist_that_lasts_longer_than_its_media_is_found(
    www: str, tmp_path: Path, number: int, said: float
) -> None:
    film(tmp_path)
    for name in ("picture", "sound"):
        path = tmp_path / name / "media.m3u8"
        lines = path.read_text().replace("TARGETDURATION:2", "TARGETDURATION:10").splitlines()
        lines = [line.replace("TARGETDURATION:3", "TARGETDURATION:10") for line in lines]
        (at,) = [at for at, line in enumerate(lines) if line.endswith(f"media{number}.m4s")]
        lines[at - 1] = f"#EXTINF:{said},"
        path.write_text("\n".join(lines) + "\n")
    told = [line for line in found(f"{www}/master.m3u8") if "by the durations of its segments" in line]
    assert len(told) == 2
    assert f"lasts {10 + said:.2f} s by the durations of its segments, and its media 12.0" in told[0]
    assert run_headwater("check", f"{www}/picture/media.m3u8").returncode == 1


def test_a_picture_that_stands_still_is_no_fault_and_its_doubled_pause_is(www: str, tmp_path: Path) -> None:
    """A pause of a minute that a playlist has once more than the media have: 124 seconds for 70."""
    still = "-vf setpts='if(lt(N,70),N,N+1400)/25/TB' -vsync vfr"
    (tmp_path / "picture").mkdir()
    path = tmp_path / "picture/media.m3u8"
    source = "-f lavfi -i testsrc2=s=160x90:r=25:d=14"
    run_ffmpeg(*f"{source} {still} {H264} -bf 0 {HLS}".split(), path)
    assert found(f"{www}/picture/media.m3u8") == []
    durations = [line for line in path.read_text().splitlines() if line.startswith("#EXTINF")]
    longest = max(durations, key=lambda line: float(line[8:-1]))
    seconds = float(longest[8:-1])
    assert seconds > 50
    text = path.read_text().replace(longest, f"#EXTINF:{seconds + 54},")
    path.write_text(text.replace("TARGETDURATION:", "TARGETDURATION:1"))
    told = found(f"{www}/picture/media.m3u8")
    assert any(
        "lasts 124.00 s by the durations of its segments, and its media 70.00 s" in one for one in told
    )


def test_discontinuities_and_gaps_are_no_faults(www: str, tmp_path: Path) -> None:
    film(tmp_path)
    path = tmp_path / "picture/media.m3u8"
    text = path.read_text()
    lines = text.splitlines()
    (at,) = [at for at, line in enumerate(lines) if line.endswith("media3.m4s")]
    path.write_text("\n".join([*lines[: at - 1], "#EXT-X-GAP", *lines[at - 1 :]]) + "\n")
    assert found(f"{www}/master.m3u8") == []
    # Twice the same film, one behind the other.
    for name in ("picture", "sound"):
        path = tmp_path / name / "media.m3u8"
        lines = path.read_text().splitlines()
        (init,) = [line for line in lines if line.startswith("#EXT-X-MAP")]
        segments = lines[lines.index(init) : -1]
        path.write_text("\n".join([*lines[:-1], "#EXT-X-DISCONTINUITY", *segments, lines[-1]]) + "\n")
    assert found(f"{www}/master.m3u8") == []


@pytest.mark.clause("ISO/IEC 23009-1 §5.3.2.1")
@pytest.mark.parametrize("seconds", [12, 7])
def test_representations_that_do_not_cover_the_same_span_are_found(
    www: str, tmp_path: Path, seconds: int
) -> None:
    picture, sound = "-f lavfi -i testsrc2=s=160x90:r=25:d=12", f"-f lavfi -i sine=440:r=48000:d={seconds}"
    sets = ("-adaptation_sets", "id=0,streams=v id=1,streams=a")
    words = f"{picture} {sound} {H264} -c:a aac -f dash -seg_duration 2"
    run_ffmpeg(*words.split(), *sets, tmp_path / "manifest.mpd")
    told = found(f"{www}/manifest.mpd")
    if seconds == 12:
        assert told == []
    else:
        (one,) = told
        assert "representation '1' lasts 7.0" in one
        assert run_headwater("check", f"{www}/manifest.mpd").returncode == 1


@pytest.mark.clause("ISO/IEC 23009-1 §5.3.2.1")
def test_periods_of_different_lengths_are_no_fault(www: str, tmp_path: Path) -> None:
    texts = []
    for name, seconds in (("first", 6), ("second", 12)):
        (tmp_path / name).mkdir()
        words = f"-f lavfi -i testsrc2=s=160x90:r=25:d={seconds} {H264} -f dash -seg_duration 2"
        run_ffmpeg(*words.split(), tmp_path / name / "manifest.mpd")
        texts.append((tmp_path / name / "manifest.mpd").read_text())
    periods = [re.findall(r"(?s)<Period.*</Period>", text)[0] for text in texts]
    before, after = (
        re.sub(
            "<Period.*?>", f'<Period start="PT{start}S" duration="PT{lasts}S"><BaseURL>{name}/</BaseURL>', one
        )
        for one, name, start, lasts in zip(periods, ("first", "second"), (0, 6), (6, 12), strict=True)
    )
    whole = re.sub('mediaPresentationDuration=".*?"', 'mediaPresentationDuration="PT18S"', texts[0])
    (tmp_path / "manifest.mpd").write_text(whole.replace(periods[0], before + after))
    assert found(f"{www}/manifest.mpd") == []


def test_a_sound_that_begins_late_is_no_fault(www: str, tmp_path: Path) -> None:
    """The sound ends a second and a half after the picture, as in films that were cut together so."""
    film, late = tmp_path / "film.mp4", tmp_path / "late.mp4"
    source = "-f lavfi -i testsrc2=s=160x90:r=25:d=12 -f lavfi -i sine=440:r=48000:d=12"
    run_ffmpeg(*f"{source} {H264} -bf 2 -c:a aac {film}".split())
    run_ffmpeg(*f"-i {film} -itsoffset 1.5 -i {film} -map 0:v -map 1:a -c copy {late}".split())
    run_ffmpeg(*f"-i {late} -c copy -f dash -seg_duration 2 {tmp_path}/manifest.mpd".split())
    assert asyncio.run(check(f"{www}/manifest.mpd")).faults == []
    assert run_headwater("package", late, "--out", tmp_path / "out").returncode == 0
    report = asyncio.run(check(str(tmp_path / "out")))
    assert report.findings == []
    assert report.looked_at > 20


@pytest.mark.clause("RFC 8216bis §4.4.3.6")
def test_ranges_of_i_frames_that_end_within_packets_are_no_fault(www: str, tmp_path: Path) -> None:
    source = "-f lavfi -i testsrc2=s=160x90:r=25:d=12"
    flags = "-f hls -hls_time 2 -hls_playlist_type vod -hls_flags iframes_only+single_file"
    run_ffmpeg(*f"{source} {H264} {flags} {tmp_path}/media.m3u8".split())
    (size,) = {path.stat().st_size for path in tmp_path.glob("*.ts")}
    assert size % 188 == 0
    text = (tmp_path / "media.m3u8").read_text()
    ranges = [int(length) for length in re.findall(r"BYTERANGE:(\d+)@", text)]
    assert any(length % 188 for length in ranges)
    assert asyncio.run(check(f"{www}/media.m3u8")).faults == []


def test_packed_audio_has_its_times_in_its_tags(www: str, tmp_path: Path) -> None:
    """RFC 8216bis §3.1.4: ADTS frames in segments of two seconds, each with the time of its first frame."""
    frame_ticks, playlist = 1920, ["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXT-X-VERSION:3"]
    run_ffmpeg(*f"-f lavfi -i sine=440:r=48000:d=8 -c:a aac -f adts {tmp_path}/all.aac".split())
    frames, data = list[bytes](), (tmp_path / "all.aac").read_bytes()
    while data:
        size = int.from_bytes(data[3:6], "big") >> 5 & 0x1FFF
        frames.append(data[:size])
        data = data[size:]
    for number, begin in enumerate(range(0, 376, 94)):
        time = 90_000 + begin * frame_ticks
        owner = b"com.apple.streaming.transportStreamTimestamp\0" + time.to_bytes(8, "big")
        private = b"PRIV" + len(owner).to_bytes(4, "big") + b"\0\0" + owner
        head = b"ID3\x04\0\0\0\0\0" + bytes((len(private),))
        (tmp_path / f"{number}.aac").write_bytes(head + private + b"".join(frames[begin : begin + 94]))
        playlist += ["#EXTINF:2.00533,", f"{number}.aac"]
    (tmp_path / "media.m3u8").write_text("\n".join([*playlist, "#EXT-X-ENDLIST", ""]))
    assert asyncio.run(check(f"{www}/media.m3u8")).faults == []
    shutil.copy(tmp_path / "1.aac", tmp_path / "2.aac")
    told = asyncio.run(check(f"{www}/media.m3u8")).faults
    assert any("2.aac begins 0.00 s behind" in one and "where 2.01 s are said" in one for one in told)


def test_films_that_were_cut_and_their_packages_hold(tmp_path: Path) -> None:
    """Pictures before the cut last a tick each, and count for no frame rate."""
    film, late = tmp_path / "film.mp4", tmp_path / "cut.mp4"
    source = "-f lavfi -i testsrc2=s=160x90:r=25:d=12 -f lavfi -i sine=440:r=48000:d=12"
    run_ffmpeg(*f"{source} {H264} -bf 2 -c:a aac {film}".split())
    run_ffmpeg(*f"-ss 3.1 -i {film} -c copy -avoid_negative_ts disabled {late}".split())
    assert run_headwater("package", late, "--out", tmp_path / "out").returncode == 0
    report = asyncio.run(check(str(tmp_path / "out")))
    assert report.findings == []
    assert report.looked_at > 10
