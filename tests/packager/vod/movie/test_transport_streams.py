"""MPEG-TS as VOD: what ffmpeg makes of a file without encoding is what is in its segments."""

from __future__ import annotations

import random
import struct
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest

from media.errors import MediaError, TooLargeError, UnsupportedError
from media.ts.elementary_streams import LAYOUTS
from media.ts.limits import TransportLimits
from media.ts.movie import read_transport_stream
from media.ts.movie_streams import SKIPPED_BYTES
from media.ts.sound_frames import AAC, SoundFrames
from media.ts.tables import PACKET, ElementaryStream, ProgramMap, write_tables
from packager.export.export import export
from packager.library.local_storage import Library
from packager.vod import ShortReadError
from packager.vod.index.file_index import FileIndex
from packager.vod.index.index_builder import read_beginning, read_index
from packager.vod.index.limits import IndexCacheLimits
from packager.vod.movie.movie_reader import ContainerLimits
from packager.vod.segments.segment import make_segment
from tests.hostile_media import adts_frame
from tests.packager import films
from tests.packager.films import packets
from tests.packager.vod.opened_media import open_i_frames, open_segment
from tests.packager.vod.vod_titles import titles_of, without_fill, write_out

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25:duration=8")
TONE = ("-f", "lavfi", "-i", "sine=440:sample_rate=44100:duration=8")
H264 = "-c:v libx264 -preset ultrafast -bf 2 -g 25 -pix_fmt yuv420p"
HEVC = "-c:v libx265 -preset ultrafast -x265-params log-level=none -g 50"
WRAPS = (1 << 33) / 90_000 - 3
"""Seconds after which timestamps begin again at 0, three seconds into the film."""

FILMS = {
    "plain.ts": f"{H264} -c:a aac",
    "delimited.ts": f"{H264} -x264-params aud=1:slices=4 -c:a libmp3lame",
    "wraps.ts": f"{H264} -c:a aac -output_ts_offset {WRAPS}",
    "hevc.m2ts": f"{HEVC} -c:a ac3 -mpegts_m2ts_mode 1",
    "surround.ts": f"{H264} -c:a eac3 -ac 6",
    "anew.ts": f"{H264} -c:a aac -pes_payload_size 170",  # sound whose frames are in PES packets of their own
}
PARAMETER_SETS = {"hevc.m2ts": "32-34"}


def made(name: str, words: str = "", *more: str) -> Path:
    path = films.folder() / name
    if not path.exists():
        films.run_ffmpeg(*PICTURE, *TONE, *(words or FILMS[name]).split(), *more, path)
    return path


def repackaged(path: Path, folder: Path) -> Path:
    """Have ffmpeg make an MP4, whose sample entry has the parameter sets, and no sample."""
    out = folder / f"{path.name}.mp4"
    without = f"filter_units=remove_types={PARAMETER_SETS.get(path.name, '7-8')}"
    films.run_ffmpeg("-i", path, "-map", "0", "-c", "copy", "-bsf:v", without, out)
    return out


def indexed(path: Path, limits: IndexCacheLimits | None = None) -> FileIndex:
    with Library(path.parent).open(path.name) as file:
        return read_index(file.pread, file.size, limits or IndexCacheLimits())


FOREIGN = sorted((films.ZOO / "files").glob("*.ts"))


@pytest.mark.parametrize("name", [*FILMS, *(str(path) for path in FOREIGN)])
def test_the_segments_hold_what_ffmpeg_copies_into_an_mp4(name: str, tmp_path: Path) -> None:
    path = Path(name) if "/" in name else made(name)
    theirs = repackaged(path, tmp_path)
    apart = []
    for track, stream in (("video", "v:0"), ("audio", "a:0")):
        source = packets(theirs, stream)
        ours = without_fill(packets(write_out(path, track, tmp_path / "out"), stream), source)
        assert [(one.digest, one.key) for one in ours] == [(one.digest, one.key) for one in source]
        moved = [one.pts - other.pts for one, other in zip(ours, source, strict=True)]
        assert max(moved) - min(moved) < 0.001
        assert all(a.dts < b.dts for a, b in pairwise(ours))
        assert ours[0].pts < 0.2  # whatever the clock says at the beginning
        apart.append(moved[0])
    assert apart[0] == pytest.approx(apart[1], abs=0.001)


@pytest.mark.clause("ISO/IEC 14496-3 §1.7")
@pytest.mark.parametrize("payload", [16, 170, 2930])
def test_frames_in_latm_are_those_that_ffmpeg_writes_into_an_mp4(payload: int, tmp_path: Path) -> None:
    words = f"-c:a aac -pes_payload_size {payload}"
    path = made(f"latm-{payload}.ts", f"{H264} {words} -mpegts_flags latm")
    theirs = packets(repackaged(made("plain.ts"), tmp_path), "a:0")
    ours = packets(write_out(path, "audio", tmp_path / "out"), "a:0")
    assert [one.digest for one in ours] == [one.digest for one in theirs]
    assert ours[-1].pts - ours[0].pts == pytest.approx(theirs[-1].pts - theirs[0].pts, abs=0.001)
    opened = open_segment(titles_of(path), path.name, "audio", 0)
    whole = opened.read(0, opened.size)
    assert b"".join(opened.read(at, 1000) for at in range(0, opened.size, 1000)) == whole
    opened.close()


def test_what_the_segments_decode_to_is_what_the_file_decodes_to(tmp_path: Path) -> None:
    path = made("delimited.ts")
    sums: list[list[str]] = []
    for source in (path, write_out(path, "video", tmp_path)):
        out = tmp_path / f"{len(sums)}.md5"
        films.run_ffmpeg("-i", source, "-map", "0:v", "-f", "framemd5", out)
        lines = [line for line in out.read_text().splitlines() if not line.startswith("#")]
        sums.append([line.split(",")[-1] for line in lines])
    assert len(sums[0]) == 200
    assert sums[0] == sums[1]


@pytest.mark.parametrize("name", ["anew.ts", "hevc.m2ts"])
def test_a_segment_read_in_parts_is_the_same(name: str) -> None:
    titles = titles_of(made(name))
    for track in ("video", "audio"):
        opened = open_segment(titles, name, track, 0)
        whole = opened.read(0, opened.size)
        assert len(whole) == opened.size
        assert b"".join(opened.read(at, 4001) for at in range(0, opened.size, 4001)) == whole
        assert titles.segments.known(opened.file, track, 0) is None  # it isn't in the file as it is sent
        opened.close()


def test_key_frames_are_found_by_themselves(tmp_path: Path) -> None:
    path = made("plain.ts")
    titles = titles_of(path)
    opened = open_i_frames(titles, path.name, "video")
    frames = tmp_path / "iframes.mp4"
    frames.write_bytes(opened.read(0, opened.size))
    opened.close()
    keys = [one.digest for one in packets(repackaged(path, tmp_path), "v:0") if one.key]
    assert [one.digest for one in packets(frames, "v:0")] == keys
    storyboard = titles.storyboard(path.name)
    pictures = titles.pictures.open_storyboard(storyboard)
    storyboard.require_decodable(pictures.samples, 0)
    sprite = tmp_path / "pictures.mp4"
    sprite.write_bytes(b"".join(storyboard.movie(pictures.samples, 0)))
    pictures.close()
    assert {one.digest for one in packets(sprite, "v:0")} <= set(keys)


def test_playlists_name_codecs_languages_shape_and_colours() -> None:
    words = f"{H264} -vf setsar=4/3 -color_primaries bt709 -color_trc bt709 -colorspace bt709"
    words += " -map 0 -map 1 -map 1 -c:a:0 aac -c:a:1 ac3"
    words += " -metadata:s:a:0 language=ger -metadata:s:a:1 language=fre"
    path = made("languages.ts", words)
    index = indexed(path)
    assert [one.language for one in index.sounds] == ["de", "fr"]
    video = index.video
    assert video is not None
    assert (video.entry.width, video.entry.height, video.entry.pixel_aspect) == (160, 90, (4, 3))
    assert video.entry.colour is not None
    assert video.entry.colour.transfer == 1
    # Pixels of 4:3 make a picture wider at the same height.
    assert struct.pack(">II", round(160 * 4 / 3 * 65536), 90 << 16) in video.init
    text = titles_of(path).multivariant_playlist(path.name)
    assert 'CODECS="avc1.' in text
    assert "mp4a.40.2" in text
    assert "ac-3" in text
    assert "#EXT-X-INDEPENDENT-SEGMENTS" in text
    hevc = titles_of(made("hevc.m2ts")).multivariant_playlist("hevc.m2ts")
    assert 'CODECS="hvc1.1.6.L' in hevc  # Apple's players take no hev1


@pytest.mark.parametrize(
    ("name", "words", "reason"),
    [
        ("mpeg2.ts", "-c:v mpeg2video -c:a aac", "MPEG-2 video"),
        ("layer2.ts", "-map 1 -c:a mp2", "layer II"),
    ],
)
def test_what_mp4_does_not_carry_is_refused_by_its_name(name: str, words: str, reason: str) -> None:
    path = made(name, words)
    with pytest.raises(UnsupportedError, match=reason):
        titles_of(path).multivariant_playlist(path.name)


@pytest.mark.parametrize(
    "names", [("plain.ts", "wraps.ts"), ("plain.ts", "plain.ts"), ("wraps.ts", "plain.ts")]
)
def test_time_goes_on_where_the_clock_jumps(names: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "jump.ts"
    path.write_bytes(b"".join(made(name).read_bytes() for name in names))
    index = indexed(path)
    whole = indexed(made("plain.ts"))
    for track, alone in zip(index.tracks, whole.tracks, strict=True):
        assert len(track.samples) == pytest.approx(2 * len(alone.samples), abs=2)
        assert float(track.duration) == pytest.approx(2 * float(alone.duration), abs=0.2)
    # Sound stays with the picture behind the jump.
    ends = [float(track.times[-1] / track.timescale) for track in index.tracks]
    assert ends[0] == pytest.approx(ends[1], abs=0.2)
    for track in index.tracks:
        assert min(track.durations) > 0


def without(data: bytes, *pids: int) -> bytes:
    """Leave out the packets of these streams."""
    kept = [data[at : at + PACKET] for at in range(0, len(data), PACKET)]
    return b"".join(one for one in kept if (one[1] & 0x1F) << 8 | one[2] not in pids)


def test_files_without_their_tables_or_of_other_packets_are_refused(tmp_path: Path) -> None:
    data = made("plain.ts").read_bytes()
    scrambled = b"".join(
        data[at : at + 3] + bytes((data[at + 3] | 0x80,)) + data[at + 4 : at + PACKET]
        if data[at + 1] & 0x1F == 1
        else data[at : at + PACKET]
        for at in range(0, len(data), PACKET)
    )
    cases = {
        "PAT": without(data, 0, 0x1000),
        "PMT": without(data, 0x1000),
        "encrypted": scrambled,
        "nothing can be packaged": without(data, 0x100, 0x101),
    }
    for number, (reason, content) in enumerate(cases.items()):
        path = tmp_path / f"{number}.ts"
        path.write_bytes(content)
        with pytest.raises(UnsupportedError, match=reason):
            titles_of(path).multivariant_playlist(path.name)


@pytest.mark.clause("ISO/IEC 13818-1 §2.4.4.8")
def test_a_cut_recording_without_a_table_of_programs_is_read_by_the_map_of_one(tmp_path: Path) -> None:
    data = made("plain.ts").read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(without(data, 0))
    for track, stream in (("video", "v:0"), ("audio", "a:0")):
        theirs = packets(write_out(made("plain.ts"), track, tmp_path / "whole"), stream)
        assert packets(write_out(path, track, tmp_path / "cut"), stream) == theirs
    assert "PAT" in titles_of(path).multivariant_playlist(path.name)


def test_limits_are_kept_before_memory_is_taken() -> None:
    path = made("plain.ts")
    cases = (
        (TransportLimits(file_bytes=1000), TooLargeError, "more than 1000"),
        (TransportLimits(frames=100), TooLargeError, "more than 100 frames"),
        (TransportLimits(picture_bytes=1000), UnsupportedError, "too large"),
        (TransportLimits(span_bytes=1000), UnsupportedError, "too scattered"),
        (TransportLimits(table_bytes=100), TooLargeError, "tables"),
    )
    for transport, error, reason in cases:
        limits = IndexCacheLimits(containers=ContainerLimits(transport=transport))
        with pytest.raises(error, match=reason):
            indexed(path, limits).require_whole()


def sound_packet(data: bytes, counter: int = 0) -> bytes:
    """Write a PES packet of sound at the time 0 in a packet of its own (ISO/IEC 13818-1 §2.4.3.6)."""
    payload = b"\0\0\1\xc0\0\0\x84\x80\5\x21\0\1\0\1" + data
    stuffing = PACKET - 6 - len(payload)
    return b"\x47\x41\0" + bytes((0x30 | counter & 15, stuffing + 1, 0)) + b"\xff" * stuffing + payload


def test_subtitles_in_a_transport_stream_are_named() -> None:
    """ETSI EN 300 468 §6.2.41 and §6.2.43: descriptors of subtitles and of teletext."""
    described = ((0x06, b"\x59\x08deu\x10\0\1\0\1"), (0x06, b"\x56\x05deu\x10\x01"), (0x90, b""))
    streams = [ElementaryStream(kind, 0x200 + n, words) for n, (kind, words) in enumerate(described)]
    head = write_tables(ProgramMap(0x100, (ElementaryStream(0x0F, 0x100), *streams)), 0x20)
    data = head + b"".join(sound_packet(adts_frame(50) * 2, counter) for counter in range(20))
    index = read_index(lambda at, length: data[at : at + length], len(data))
    assert [track.name for track in index.tracks] == ["audio"]
    assert index.text_tracks == ()
    assert index.text_left_out == (
        "track 512: subtitles of type DVB aren't text",
        "track 513: subtitles of type DVB teletext aren't text",
        "track 514: subtitles of type PGS aren't text",
    )


@pytest.mark.clause("CWE-770")
def test_units_without_frames_count_as_frames_do() -> None:
    head = write_tables(ProgramMap(0x100, (ElementaryStream(0x0F, 0x100),)), 0x20)
    empty = b"".join(sound_packet(b"", counter) for counter in range(1, 2001))
    data = head + sound_packet(adts_frame(50) * 2) + empty
    reserved = list[int]()

    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    read_transport_stream(read, len(data), LAYOUTS[0], TransportLimits(frames=3000), reserved.append)
    assert reserved
    with pytest.raises(TooLargeError):
        read_transport_stream(read, len(data), LAYOUTS[0], TransportLimits(frames=1000))


@pytest.mark.clause("CWE-770")
def test_nothing_is_kept_of_units_without_bytes_behind_a_part_of_a_frame() -> None:
    frames = SoundFrames(AAC, SKIPPED_BYTES)
    frames.push(adts_frame(50) * 2 + adts_frame(8000)[:20], 0)
    tracemalloc.start()
    try:
        for unit in range(1, 20_000):
            frames.push(b"", unit)
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()
    frames.push(adts_frame(8000)[20:] + adts_frame(60)[:20], 20_000)
    assert list(frames.units) == [0, 0, 0]


def test_a_library_is_listed_by_the_beginnings_of_its_files() -> None:
    path = made("plain.ts")
    limits = IndexCacheLimits(
        containers=ContainerLimits(transport=TransportLimits(beginning_bytes=100 * PACKET))
    )
    asked: list[int] = []
    with Library(path.parent).open(path.name) as file:

        def read(offset: int, length: int) -> bytes:
            asked.append(offset + length)
            return file.pread(offset, length)

        found = read_beginning(read, file.size, limits)
    assert found is not None
    assert [one.name for one in found.tracks] == ["video", "audio"]
    assert max(asked) <= 100 * PACKET
    titles = titles_of(path)
    assert titles.facts.obstacle(path.name) is None


def test_a_file_that_became_shorter_ends_a_segment_short(tmp_path: Path) -> None:
    path = tmp_path / "film.ts"
    path.write_bytes(made("plain.ts").read_bytes())
    titles = titles_of(path)
    opened = open_segment(titles, path.name, "video", 0)
    with path.open("r+b") as file:
        file.truncate(20 * PACKET)
    with pytest.raises(ShortReadError):
        opened.read(0, opened.size)
    opened.close()


def test_hundreds_of_damaged_files_are_packaged_or_refused() -> None:
    words = f"-t 1 {H264} -c:a aac"
    whole = made("short.ts", words).read_bytes()
    rng = random.Random(13)
    limits = IndexCacheLimits()
    for _ in range(250):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 3, 20))):
            data.extend(bytes(max(0, 1000 - len(data))))
            at = rng.randrange(len(data))
            kind = rng.randrange(4)
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:  # a header's fields, which are at the beginning of packets
                data[at - at % PACKET + rng.randrange(1, 24)] = rng.randrange(256)
            elif kind == 2:
                del data[at - at % PACKET : at - at % PACKET + PACKET * rng.randrange(1, 9)]
            else:
                del data[max(at, len(data) // 2) :]
        assert_read_or_refused(bytes(data), limits)


def assert_read_or_refused(data: bytes, limits: IndexCacheLimits) -> None:
    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    try:
        index = read_index(read, len(data), limits)
    except MediaError:
        return
    for track in index.tracks:
        for number in range(len(track.sizes)):
            try:
                segment = make_segment(index, track, number)
                assert segment is not None
                assert len(segment.read(index.reading(read), 0, segment.size)) == segment.size
            except MediaError:
                pass


@pytest.mark.parametrize("single_file", [False, True])
def test_a_package_of_it_holds_the_same_packets(single_file: bool, tmp_path: Path) -> None:
    path = made("plain.ts")
    out = tmp_path / "out"
    export([path], out, single_file=single_file).require()
    ours = packets(out / path.name / "video" / "media.m3u8", "v:0")
    theirs = packets(repackaged(path, tmp_path), "v:0")
    assert [one.digest for one in ours] == [one.digest for one in theirs]
