"""Fragments: ffmpeg's own streams read, written again and compared by ffprobe; hostile ones refused."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import MalformedError, MediaError, NeedMoreDataError, TooLargeError, UnsupportedError
from media.mp4.boxes import box, full_box, walk
from media.mp4.fragments import moof as movie_fragment
from media.mp4.fragments.fragments import (
    Fragment,
    FragmentReader,
    InitSegment,
    write_fragment,
    write_fragment_header,
)
from media.mp4.fragments.moof import FragmentLimits, Sample
from media.mp4.movie.movie import MovieLimits
from tests.media.mp4.fragments.fragment_streams import FFMPEG, stream

FFPROBE = shutil.which("ffprobe") or "ffprobe"


def read(*pieces: bytes, ended: bool = True) -> list[InitSegment | Fragment]:
    reader = FragmentReader()
    events: list[InitSegment | Fragment] = []
    for piece in pieces:
        reader.receive_data(piece)
        events += reader.events()
    if ended:
        reader.receive_eof()
    events += reader.events()
    return events


def packets(path: Path, data: bytes) -> list[dict[str, str]]:
    path.write_bytes(data)
    command = [FFPROBE, "-v", "error", "-show_packets", "-show_data_hash", "md5", "-of", "json", str(path)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["packets"]
    return [
        {key: packet.get(key, "") for key in ("pts", "dts", "duration", "flags", "data_hash")}
        for packet in found
    ]


def test_what_ffprobe_sees_in_a_stream_is_what_it_sees_in_the_fragments_written_from_it(
    tmp_path: Path,
) -> None:
    init, *events = read(stream())
    assert isinstance(init, InitSegment)
    fragments = [event for event in events if isinstance(event, Fragment)]
    assert len(fragments) == 60
    written = [init.data]
    for number in range(0, 60, 12):
        group = fragments[number : number + 12]
        written.append(
            write_fragment(
                sequence_number=number,
                track_id=group[0].track_id,
                base_media_decode_time=group[0].base_media_decode_time,
                samples=[sample for fragment in group for sample in fragment.samples],
                data=b"".join(fragment.data for fragment in group),
            )
        )
    expected = packets(tmp_path / "before.mp4", stream())
    # ffprobe tells the duration of an isolated last packet by its own guess
    assert packets(tmp_path / "after.mp4", b"".join(written)) == expected


def test_who_samples_the_stack_changes_nothing() -> None:
    """A profiler holds frames of functions that are over, and with them views of what was read."""
    data, held = stream(), list[FrameType]()

    def sample(frame: FrameType, _event: str, _argument: object) -> None:
        held.append(frame)

    expected = read(data)
    sys.setprofile(sample)
    try:
        found = read(data)
    finally:
        sys.setprofile(None)
    assert len(held) > 10
    assert found == expected


def test_the_tracks_of_the_init_segment_are_told() -> None:
    init = read(stream())[0]
    assert isinstance(init, InitSegment)
    assert [(track.track_id, track.handler, track.timescale) for track in init.tracks] == [
        (1, b"vide", 15360)
    ]


def test_the_same_bytes_one_by_one_give_the_same_events() -> None:
    head = stream()[:12000]
    whole = read(head, ended=False)
    assert len(whole) > 2
    assert read(*(head[index : index + 1] for index in range(len(head))), ended=False) == whole


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 1 << 16), max_size=12))
def test_the_same_bytes_cut_anywhere_give_the_same_events(cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(stream())) for cut in cuts), len(stream())]
    pieces = [stream()[first:last] for first, last in itertools.pairwise(places)]
    assert read(*pieces) == read(stream())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_stream_with_flipped_bytes_gives_events_or_a_media_error(data: st.DataObject) -> None:
    broken = bytearray(stream()[:6000])
    for _ in range(data.draw(st.integers(1, 8))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    try:
        events = read(bytes(broken))
    except MediaError:
        return
    assert all(isinstance(event, InitSegment | Fragment) for event in events)


@functools.cache
def frames() -> tuple[bytes, ...]:
    """The moofs of a stream without B-frames, as live channels have it: one sample in each."""
    command = (
        f"{FFMPEG} -nostdin -loglevel error -f lavfi -i testsrc2=size=64x64:rate=30 -t 1 -c:v libx264"
        " -tune zerolatency -g 15 -pix_fmt yuv420p -f mp4 -use_editlist 0"
        " -movflags +frag_every_frame+empty_moov+default_base_moof+cmaf+frag_discont pipe:1"
    )
    data = subprocess.run(command.split(), check=True, capture_output=True).stdout
    return tuple(data[one.start : one.end] for one in walk(data) if one.kind == b"moof")


def test_a_moof_that_is_shorter_than_its_bytes_is_malformed() -> None:
    (whole, *_) = frames()
    for shorter in (8, len(whole) - 8):
        with pytest.raises(MalformedError):
            movie_fragment.parse_moof(
                shorter.to_bytes(4, "big") + whole[4:], 0, {1: movie_fragment.Defaults()}
            )


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_what_is_read_in_one_go_is_what_is_read_box_by_box(data: st.DataObject) -> None:
    """A moof that only looks like one of a single frame is read, or refused, as every other."""
    broken = bytearray(data.draw(st.sampled_from(frames())))
    for _ in range(data.draw(st.integers(0, 2))):
        broken[data.draw(st.integers(0, len(broken) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    known = {1: movie_fragment.Defaults(1, 2, 3)}

    def read_moof() -> object:
        try:
            return movie_fragment.parse_moof(bytes(broken), 1000, known)
        except MediaError as error:
            return type(error)

    at_once = read_moof()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(movie_fragment, "_lone_sample", lambda *_: None)
        assert at_once == read_moof()


def test_the_frames_of_a_live_stream_are_read_in_one_go() -> None:
    assert len(frames()) == 30
    assert all(movie_fragment._lone_sample(one, 0, {1: movie_fragment.Defaults()}) for one in frames())


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=400))
def test_arbitrary_bytes_give_nothing_or_a_media_error(data: bytes) -> None:
    with contextlib.suppress(MediaError):
        assert all(isinstance(event, Fragment) for event in read(data))


def test_a_stream_that_ends_inside_a_box_needs_more_data() -> None:
    for length in (3, 9, 40, len(stream()) - 1):
        with pytest.raises(NeedMoreDataError):
            read(stream()[:length])
    assert read(stream()[:-1], ended=False) == read(stream())[:-1]


def test_an_error_comes_after_the_events_before_it_and_stays() -> None:
    reader = FragmentReader()
    reader.receive_data(stream() + b"\x00\x00\x00\x04free")
    given = reader.events()
    expected = read(stream())
    assert [next(given) for _ in expected] == expected
    with pytest.raises(MalformedError):
        next(given)
    with pytest.raises(MalformedError):
        list(reader.events())


def test_boxes_that_declare_more_than_the_limits_are_refused_before_they_are_buffered() -> None:
    for declared in (
        struct.pack(">I4s", 1 << 31, b"mdat"),
        struct.pack(">I4s", 1 << 24, b"moov"),
        struct.pack(">I4sQ", 1, b"mdat", (1 << 64) - 1),
        struct.pack(">I4s", 0, b"mdat"),
    ):
        with pytest.raises(UnsupportedError):
            read(declared, ended=False)


def init() -> bytes:
    """What stands before the first moof of the stream."""
    return stream()[: stream().index(b"moof") - 4]


def moof(*runs: bytes, track_id: int = 1, media: bytes = bytes(10)) -> bytes:
    tfhd = full_box(b"tfhd", 0, 0x02_0000, struct.pack(">I", track_id))
    return init() + box(b"moof", box(b"traf", tfhd, *runs)) + box(b"mdat", media)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (FragmentLimits(movie=MovieLimits(moov_bytes=100)), "'moov' of"),
        (FragmentLimits(media_data_bytes=15), "'mdat' of 18 bytes: more than 15"),
        (FragmentLimits(metadata_bytes=15), "more than 15"),
        (FragmentLimits(samples=9), "more than 9 samples"),
        (FragmentLimits(boxes=2), "more than 2 boxes"),
    ],
)
def test_what_is_more_than_the_limits_allow_is_refused(limits: FragmentLimits, reason: str) -> None:
    # The bytes of the samples are behind a moof of 92 bytes and the header of the mdat.
    data = moof(full_box(b"trun", 0, 0x201, struct.pack(">Ii10I", 10, 92 + 8, *[1] * 10)))
    (*_, fragment) = read(data)
    assert isinstance(fragment, Fragment)
    assert len(fragment.samples) == 10
    reader = FragmentReader(limits)
    reader.receive_data(data)
    with pytest.raises(TooLargeError, match=reason):
        list(reader.events())


def test_empty_samples_are_as_many_as_may_be() -> None:
    run = full_box(b"trun", 0, 0x200, struct.pack(">I5I", 5, *[0] * 5))
    for most, refused in ((5, contextlib.nullcontext()), (4, pytest.raises(TooLargeError))):
        reader = FragmentReader(FragmentLimits(empty_samples=most))
        reader.receive_data(moof(run))
        with refused:
            list(reader.events())


def test_a_run_of_four_thousand_million_samples_in_twenty_bytes_is_refused() -> None:
    run = full_box(b"trun", 0, 0, struct.pack(">I", 0xFFFF_FFFF))
    with pytest.raises(UnsupportedError):
        read(moof(run))


def test_a_run_shorter_than_its_count_is_malformed() -> None:
    run = full_box(b"trun", 0, 0x200, struct.pack(">III", 3, 1, 1))
    with pytest.raises(MalformedError):
        read(moof(run))


@pytest.mark.parametrize("offset", [-100, 0, 1 << 20])
def test_samples_outside_of_their_mdat_are_malformed(offset: int) -> None:
    run = full_box(b"trun", 0, 0x201, struct.pack(">IiI", 1, offset, 5))
    with pytest.raises(MalformedError):
        read(moof(run))


def test_runs_of_the_same_bytes_are_malformed_however_little_they_cost_to_send() -> None:
    """A thousand runs over one mdat of 100,000 bytes would be 100 MB, out of 124 kB received."""
    size = 100_000
    behind_moof = len(moof(*[full_box(b"trun", 0, 0x201, bytes(12))] * 1000, media=b"")) - len(init())
    run = full_box(b"trun", 0, 0x201, struct.pack(">IiI", 1, behind_moof, size))
    with pytest.raises(MalformedError, match="more bytes than the mdat"):
        read(moof(*[run] * 1000, media=bytes(size)))


def test_runs_may_lie_in_their_mdat_in_any_order() -> None:
    def runs(*places: int) -> list[bytes]:
        return [full_box(b"trun", 0, 0x201, struct.pack(">IiI", 1, place, 2)) for place in places]

    first = len(moof(*runs(0, 0), media=b"")) - len(init())
    _, fragment = read(moof(*runs(first + 2, first), media=b"abcd"))
    assert isinstance(fragment, Fragment)
    assert fragment.data == b"cdab"


@pytest.mark.parametrize("version", [0, 1])
def test_composition_offsets_below_zero_are_read_whatever_the_version(version: int) -> None:
    """ISO/IEC 14496-12 §8.8.8.2 has them in version 1 only, and writers in both: a file is read so, too."""

    def run(place: int) -> bytes:
        return full_box(b"trun", version, 0xA01, struct.pack(">IiIiIi", 2, place, 5, -40, 5, 80))

    place = len(moof(run(0), media=b"")) - len(init())
    _, fragment = read(moof(run(place)))
    assert isinstance(fragment, Fragment)
    assert [sample.composition_offset for sample in fragment.samples] == [-40, 80]


def test_a_fragment_of_an_unknown_track_is_malformed() -> None:
    with pytest.raises(MalformedError):
        read(moof(track_id=7))


def test_two_moofs_without_an_mdat_between_them_are_malformed() -> None:
    start = stream().index(b"moof") - 4
    (size,) = struct.unpack_from(">I", stream(), start)
    with pytest.raises(MalformedError):
        read(stream()[: start + size], stream()[start:])


def test_a_decode_time_below_zero_written_as_unsigned_is_malformed() -> None:
    tfdt = full_box(b"tfdt", 1, 0, struct.pack(">Q", (1 << 64) - 1024))
    run = full_box(b"trun", 0, 0x201, struct.pack(">IiI", 1, 0, 5))
    with pytest.raises(MalformedError):
        read(moof(tfdt, run))


def test_a_progressive_file_is_told_to_be_not_fragmented(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    command = f"{FFMPEG} -nostdin -loglevel error -f lavfi -i sine -t 1 -c:a aac -movflags +faststart {path}"
    subprocess.run(command.split(), check=True)
    with pytest.raises(UnsupportedError, match="fragmented"):
        read(path.read_bytes())


SAMPLES = st.builds(
    Sample, st.integers(0, 1 << 31), st.integers(1, 30), st.booleans(), st.integers(-(1 << 31), (1 << 31) - 1)
)


@settings(max_examples=60, deadline=None)
@given(samples=st.lists(SAMPLES, min_size=1, max_size=40), time=st.integers(0, 1 << 62))
def test_what_is_written_is_read_again_sample_by_sample(samples: list[Sample], time: int) -> None:
    data = bytes(index & 255 for index in range(sum(sample.size for sample in samples)))
    written = write_fragment(
        sequence_number=1 << 33, track_id=1, base_media_decode_time=time, samples=samples, data=data
    )
    _, fragment = read(init(), written)
    assert fragment == Fragment(1, 0, time, tuple(samples), data)


def test_a_header_alone_is_what_stands_before_the_data() -> None:
    samples = [Sample(512, 3), Sample(512, 4, is_sync=False, composition_offset=-512)]
    facts = {"sequence_number": 1, "track_id": 1, "base_media_decode_time": 0}
    head = write_fragment_header(samples=samples, **facts)
    assert write_fragment(samples=samples, data=b"abcdefg", **facts) == head + b"abcdefg"


def test_data_of_another_length_than_the_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="aren't those"):
        write_fragment(
            sequence_number=1, track_id=1, base_media_decode_time=0, samples=[Sample(1, 2)], data=b""
        )


def test_equal_samples_cost_four_bytes_each_behind_a_hundred_and_four() -> None:
    samples = [Sample(1024, 100)] * 100
    facts = {"sequence_number": 1, "track_id": 1, "base_media_decode_time": 0}
    # moof 8, mfhd 16, traf 8, tfhd 24, tfdt 20, trun 20, mdat 8: ISO/IEC 14496-12 §8.8
    assert len(write_fragment_header(samples=samples, **facts)) == 104 + 400
    mixed = [samples[0]._replace(is_sync=False), *samples[1:]]
    assert len(write_fragment_header(samples=mixed, **facts)) == 104 + 800
