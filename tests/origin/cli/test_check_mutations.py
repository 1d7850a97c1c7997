"""``headwater check`` sees each way in which a good package can be broken, and cites the clause.

The good package is ffmpeg's, with a multivariant playlist and an I-frame playlist that are written here.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from origin.cli.check import check
from tests.packager.films import run_ffmpeg

pytestmark = pytest.mark.usefixtures("quick_tools")

H264 = "-c:v libx264 -preset ultrafast -profile:v main -pix_fmt yuv420p -g 50 -sc_threshold 0 -bf 2"
HLS = "-f hls -hls_time 4 -hls_playlist_type vod -hls_segment_type fmp4"
MASTER = """#EXTM3U
#EXT-X-VERSION:6
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aud",NAME="English",LANGUAGE="en",DEFAULT=NO,AUTOSELECT=YES,CHANNELS="1",URI="a.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={mean},CODECS="avc1.4d400c,mp4a.40.2",RESOLUTION=320x180,\
FRAME-RATE=25.000,AUDIO="aud",CLOSED-CAPTIONS=NONE
v.m3u8
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=90000,CODECS="avc1.4d400c",RESOLUTION=320x180,URI="i.m3u8"
"""
MPD = "manifest.mpd"
M, V, A, FRAMES = "master.m3u8", "v.m3u8", "a.m3u8", "i.m3u8"

Change = Callable[[Path], None]


def edit(name: str, *pairs: tuple[str, str], everywhere: bool = False) -> Change:
    """Return a change of a text by regular expressions; each must change it."""

    def change(folder: Path) -> None:
        path = folder / name
        text = path.read_text()
        for pattern, new in pairs:
            text, count = re.subn(pattern, new, text, count=0 if everywhere else 1, flags=re.DOTALL)
            assert count, (name, pattern)
        path.write_text(text)

    return change


def data(name: str, make: Callable[[bytes], bytes]) -> Change:
    """Return a change of a file's bytes."""

    def change(folder: Path) -> None:
        before = (folder / name).read_bytes()
        after = make(before)
        assert after != before
        (folder / name).write_bytes(after)

    return change


def without_key_frame(segment: bytes) -> bytes:
    """Make the first picture one of switching slices, none of them intra (ISO/IEC 14496-10 table 7-6)."""
    at = segment.index(b"mdat") + 4
    while segment[at + 4] & 31 != 5:
        at += 4 + int.from_bytes(segment[at : at + 4], "big")
    # Behind the unit's header: first_mb_in_slice 0, and slice_type 7, which becomes 8.
    assert segment[at + 5] == 0x88
    return segment[: at + 4] + bytes((segment[at + 4] & 0xE0 | 1, 0x89)) + segment[at + 6 :]


def at_zero(segment: bytes) -> bytes:
    """Write a decode time of 0."""
    at = segment.index(b"tfdt")
    size = 8 if segment[at + 4] else 4
    return segment[: at + 8] + bytes(size) + segment[at + 8 + size :]


MUTATIONS: dict[str, tuple[Change, str, str]] = {
    "another profile": (edit(M, (r"avc1\.4d400c", "avc1.42c00a")), "§4.4.6.2", "avc1.4d400c is right"),
    "a lower level": (edit(M, (r"avc1\.4d400c", "avc1.4d400a")), "§4.4.6.2", "avc1.4d400c is right"),
    "no codec of the sound": (edit(M, (r",mp4a\.40\.2", "")), "§4.4.6.2", "mp4a.40.2 is right"),
    "a codec that isn't there": (edit(M, (r",mp4a\.40\.2", ",mp4a.40.2,ec-3")), "§4.4.6.2", "has ec-3"),
    "another codec": (edit(M, (r"avc1\.4d400c", "hvc1.1.6.L93.B0")), "§4.4.6.2", "avc1.4d400c is right"),
    "another size": (edit(M, ("320x180", "1920x1080")), "§4.4.6.2", "320x180 is right"),
    "another frame rate": (edit(M, (r"25\.000", "60.000")), "§4.4.6.2", "25.000 is right"),
    "a low bandwidth": (
        edit(M, (r"INF:BANDWIDTH=\d+,AVERAGE-BANDWIDTH=\d+", "INF:BANDWIDTH=60000")),
        "§4.4.6.2",
        "BANDWIDTH is 60000, where its segments have",
    ),
    "a low average": (
        edit(M, (r"AVERAGE-BANDWIDTH=\d+", "AVERAGE-BANDWIDTH=60000")),
        "§4.4.6.2",
        "AVERAGE-BANDWIDTH is 60000, where",
    ),
    "an average above the peak": (
        edit(M, (r"AVERAGE-BANDWIDTH=\d+", "AVERAGE-BANDWIDTH=99999999")),
        "§4.4.6.2",
        "no average is above the peak",
    ),
    "a low bandwidth of I-frames": (
        edit(M, ("BANDWIDTH=90000", "BANDWIDTH=900")),
        "§4.4.6.2",
        "BANDWIDTH is 900, where",
    ),
    "no bandwidth": (edit(M, (r"STREAM-INF:BANDWIDTH=\d+,", "STREAM-INF:")), "§4.4.6.2", "has no BANDWIDTH"),
    "no group": (edit(M, (',AUDIO="aud"', ',AUDIO="none"')), "§4.4.6.2", "group 'none' isn't there"),
    "a name twice": (
        edit(M, (r"(#EXT-X-MEDIA:[^\n]*\n)", r"\1\1")),
        "§4.4.6.1.1",
        "NAME='English' 2 times, different names are right",
    ),
    "two defaults": (
        edit(
            M,
            (r"(#EXT-X-MEDIA:[^\n]*)DEFAULT=NO([^\n]*)\n", r"\1DEFAULT=YES\2\n\1DEFAULT=YES\2\n"),
            ('NAME="English"', 'NAME="Other"'),
        ),
        "§4.4.6.1.1",
        "in one at most is right",
    ),
    "a default that isn't selected": (
        edit(M, ("DEFAULT=NO,AUTOSELECT=YES", "DEFAULT=YES,AUTOSELECT=NO")),
        "§4.4.6.1",
        "AUTOSELECT=YES is right",
    ),
    "no name": (edit(M, (',NAME="English"', "")), "§4.4.6.1", "has no NAME"),
    "no language tag": (edit(M, ('LANGUAGE="en"', 'LANGUAGE="en_US english"')), "RFC 5646", "en-US"),
    "no group of captions": (
        edit(M, ("CLOSED-CAPTIONS=NONE", 'CLOSED-CAPTIONS="cc"')),
        "§4.4.6.2",
        "CLOSED-CAPTIONS group 'cc' isn't there",
    ),
    "captions with a URI": (
        edit(
            M,
            (
                "#EXT-X-STREAM",
                '#EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID="c",NAME="c",URI="c"\n#EXT-X-STREAM',
            ),
        ),
        "§4.4.6.1",
        "of CLOSED-CAPTIONS has a URI, none is right",
    ),
    "more channels": (edit(M, ('CHANNELS="1"', 'CHANNELS="6"')), "§4.4.6.1", "1 is right"),
    "another range": (edit(M, ("320x180", "320x180,VIDEO-RANGE=PQ")), "§4.4.6.2", "SDR is right"),
    "an attribute twice": (edit(M, ("(RESOLUTION=320x180)", r"\1,\1")), "§4.2", "RESOLUTION twice"),
    "a space": (edit(M, (",RESOLUTION", ", RESOLUTION")), "§4.2", "a space"),
    "no attribute list": (edit(M, ("BANDWIDTH=", "bandwidth:")), "§4.2", "isn't NAME=VALUE"),
    "an old version": (edit(V, (r"VERSION:\d", "VERSION:3")), "§8", "EXT-X-MAP in line 6 needs 6"),
    "no end": (edit(V, ("#EXT-X-ENDLIST", "")), "§6.2.2", "doesn't go on in time"),
    "no target duration": (edit(V, (r"#EXT-X-TARGETDURATION:\d+\n", "")), "§4.4.3.1", "has no EXT-X-TARGET"),
    "a low target duration": (edit(V, (r"DURATION:\d+", "DURATION:2")), "§4.4.3.1", "more than the target"),
    "another target duration": (
        edit(V, (r"DURATION:\d+", "DURATION:6")),
        "§6.2.4",
        "target durations differ",
    ),
    "a long duration": (
        edit(V, (r"#EXTINF:4\.0+", "#EXTINF:8.0"), (r"DURATION:\d+", "DURATION:8")),
        "§4.4.4.1",
        "has 4.00 s of media, where 8.00 s are said",
    ),
    "no last segment": (edit(V, (r"#EXTINF:4[^#]*#EXT-X-ENDLIST", "#EXT-X-ENDLIST")), "§6.2.4", "span"),
    "no middle segment": (edit(V, (r"#EXTINF[^#]*v1\.m4s\n", "")), "§4.4.4.1", "behind"),
    "segments exchanged": (
        edit(V, (r"v0\.m4s", "x"), (r"v1\.m4s", "v0.m4s"), ("x\n", "v1.m4s\n")),
        "§4.4.4.1",
        "begins -4.00 s behind",
    ),
    "no init segment": (edit(V, (r"#EXT-X-MAP[^\n]*\n", "")), "v0.m4s", "an init segment without moov"),
    "another init segment": (edit(V, ("v-init", "a-init")), "§4.4.4.1", "s of media, where 4.00 s are said"),
    "no key frame": (data("v1.m4s", without_key_frame), "§4.4.2.1", "can't be decoded alone"),
    "I-frames without ranges": (
        edit(FRAMES, (r"#EXT-X-BYTERANGE[^\n]*\n", ""), everywhere=True),
        "§4.4.3.6",
        "has 100 pictures",
    ),
    "I-frames that aren't said": (
        edit(FRAMES, ("#EXT-X-I-FRAMES-ONLY\n", "")),
        "§4.4.6.3",
        "EXT-X-I-FRAMES-ONLY",
    ),
    "a range without an offset": (
        edit(FRAMES, (r"(BYTERANGE:\d+)@\d+", r"\1")),
        "§4.4.4.2",
        "N@OFFSET is right",
    ),
    "a truncated segment": (
        data("v1.m4s", lambda all_: all_[: len(all_) // 2]),
        "v1.m4s",
        "is cut off: box mdat",
    ),
    "a decode time of 0": (data("v1.m4s", at_zero), "§4.4.4.1", "begins 0.00 s behind"),
    "no decode time": (
        data("v1.m4s", lambda all_: all_.replace(b"tfdt", b"free")),
        "§3.1.2",
        "traf without tfdt",
    ),
    "a byte order mark": (data(V, lambda all_: b"\xef\xbb\xbf" + all_), "§4.1", "#EXTM3U is right"),
    "another encoding": (
        data(V, lambda all_: all_.replace(b"#EXTM3U\n", b"#EXTM3U\n# caf\xe9\n")),
        "§4.1",
        "UTF-8 is right",
    ),
    "no key": (
        edit(V, ("#EXTINF", '#EXT-X-KEY:METHOD=AES-128,URI="lost.key"\n#EXTINF')),
        "§4.4.4.4",
        "the key answers 404, where 200 is right",
    ),
    "another manifest codec": (
        edit(MPD, (r"avc1\.4d400c", "avc1.64001f")),
        "§5.3.7.2",
        "avc1.4d400c is right",
    ),
    "another manifest size": (edit(MPD, ('width="320"', 'width="640"')), "§5.3.7.2", "320x180 is right"),
    "another manifest rate": (
        edit(MPD, ('frameRate="25/1"', 'frameRate="50/1"')),
        "§5.3.7.2",
        "25.000 is right",
    ),
    "another sampling rate": (
        edit(MPD, ('audioSamplingRate="48000"', 'audioSamplingRate="32000"')),
        "§5.3.7.2",
        "48000 is right",
    ),
    "other manifest channels": (
        edit(MPD, ('(channel_configuration:2011" value=)"1"', r'\1"6"')),
        "§5.8.5.4",
        "1 is",
    ),
    "a low manifest bandwidth": (
        edit(MPD, (r'(codecs="avc1[^>]*bandwidth=)"\d+"', r'\1"20000"')),
        "§5.3.5.2",
        "bandwidth is 20000",
    ),
    "no minBufferTime": (edit(MPD, (r'minBufferTime="[^"]*"', "")), "§5.3.1.2", "has no minBufferTime"),
    "no profiles": (edit(MPD, (r'profiles="[^"]*"', "")), "§5.3.1.2", "has no profiles"),
    "no manifest duration": (
        edit(MPD, (r'mediaPresentationDuration="[^"]*"', "")),
        "§5.3.1.2",
        "has no mediaPresentationDuration",
    ),
    "no manifest bandwidth": (edit(MPD, (r' bandwidth="\d+"', "")), "§5.3.5.2", "has no bandwidth"),
    "two of one id": (
        edit(MPD, ('Representation id="1"', 'Representation id="0"')),
        "§5.3.5.2",
        "different ones",
    ),
    "no mimeType": (edit(MPD, (r' mimeType="video/mp4"', "")), "§5.3.7.2", "has no mimeType"),
    "no period": (edit(MPD, (r"<Period.*</Period>", "")), "§5.3.2", "has no Period"),
}
"""A change of the good package, the clause or the place that is named, and what is found or right."""


def rate(folder: Path, kinds: str) -> tuple[int, int]:
    """Return peak and mean bits per second of the sums of segments of four seconds, by the files' sizes."""
    sums = [sum((folder / f"{kind}{number}.m4s").stat().st_size * 2 for kind in kinds) for number in range(3)]
    return max(sums), sum(sums) // 3


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of ffmpeg's packagers for HLS and DASH."""
    folder = tmp_path_factory.mktemp("good")
    source = "-f lavfi -i testsrc2=s=320x180:r=25:d=12"
    for kind, words in {
        "v": f"{source} {H264}",
        "a": "-f lavfi -i sine=440:r=48000:d=12 -c:a aac -metadata:s:a language=eng",
    }.items():
        names = f"-hls_fmp4_init_filename {kind}-init.mp4 -hls_segment_filename {folder}/{kind}%d.m4s"
        run_ffmpeg(*f"{words} {HLS} {names}".split(), folder / f"{kind}.m3u8")
    for name in (V, A):
        text = re.sub(r"TARGETDURATION:\d+", "TARGETDURATION:5", (folder / name).read_text())
        (folder / name).write_text(text.replace("VERSION:7", "VERSION:6"))
    _write_frames(folder)
    peak, mean = rate(folder, "va")
    (folder / M).write_text(MASTER.format(peak=peak, mean=mean))
    sound = "-f lavfi -i sine=440:r=48000:d=12"
    run_ffmpeg(*f"{source} {sound} {H264} -c:a aac -f dash -seg_duration 2".split(), folder / MPD)
    # ffmpeg declares the bit rate that an encoder was asked for, and not that of its segments.
    sizes = [sum(one.stat().st_size for one in folder.glob(f"chunk-stream{number}-*")) for number in (0, 1)]
    text = re.sub(r' bandwidth="\d+"', "", (folder / MPD).read_text())
    for number, size in enumerate(sizes):
        text = text.replace(
            f'<Representation id="{number}"', f'<Representation id="{number}" bandwidth="{size}"', 1
        )
        text = re.sub(rf'(<Representation id="{number}") (bandwidth="\d+")([^>]*?)>', r"\1\3 \2>", text)
    (folder / MPD).write_text(text)
    return folder


def _write_frames(folder: Path) -> None:
    """Write an I-frame playlist: of each segment the range up to the end of its first sample."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:6", "#EXT-X-TARGETDURATION:5", "#EXT-X-PLAYLIST-TYPE:VOD"]
    lines += ["#EXT-X-I-FRAMES-ONLY", '#EXT-X-MAP:URI="v-init.mp4"']
    for number in range(3):
        segment = (folder / f"v{number}.m4s").read_bytes()
        run = segment.index(b"trun")
        flags, _, offset = struct.unpack_from(">III", segment, run + 4)
        # Behind the data offset: the first sample's flags, and its duration, if they are there, and its size.
        place = run + 16 + 4 * bool(flags & 4) + 4 * bool(flags & 0x100)
        (size,) = struct.unpack_from(">I", segment, place)
        begin = segment.index(b"moof") - 4
        lines += ["#EXTINF:4.0,", f"#EXT-X-BYTERANGE:{offset + size}@{begin}", f"v{number}.m4s"]
    (folder / FRAMES).write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))


def findings(folder: Path, name: str = "") -> list[str]:
    return asyncio.run(check(str(folder / name) if name else str(folder))).faults


def test_the_good_package_holds(good: Path) -> None:
    report = asyncio.run(check(str(good)))
    assert report.findings == []
    listed = sum((good / name).read_text().count("#EXTINF") for name in (V, A, FRAMES))
    assert report.looked_at == report.listed == listed + len(list(good.glob("chunk-*")))


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_package_is_seen_with_its_clause(name: str, good: Path, tmp_path: Path) -> None:
    change, clause, words = MUTATIONS[name]
    folder = tmp_path / "package"
    shutil.copytree(good, folder)
    change(folder)
    told = findings(folder)
    assert any(clause in one and words in one for one in told), told
