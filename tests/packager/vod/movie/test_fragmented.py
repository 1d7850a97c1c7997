"""Fragmented MP4 as VOD: segments hold what ffprobe finds in the file, however it is built."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import MalformedError, MediaError, TooLargeError, UnsupportedError
from media.mp4.boxes import box, full_box
from media.mp4.files import fragmented_movie
from media.mp4.files.fragmented_movie import FragmentedLimits
from packager.library.local_storage import Library
from packager.vod import Titles
from packager.vod.index.file_index import FileIndex
from packager.vod.index.index_builder import read_index
from packager.vod.index.limits import IndexCacheLimits
from packager.vod.movie.movie_reader import ContainerLimits
from packager.vod.segments.segment import make_segment
from tests.loop_watch import slowness
from tests.packager import films
from tests.packager.films import packets
from tests.packager.vod.opened_media import open_segment
from tests.packager.vod.vod_titles import assert_same_packets, titles_of, write_out

LAYOUTS = {
    "empty-moov": "+frag_keyframe+empty_moov",
    "moov-with-samples": "+frag_keyframe",
    "default-base": "+frag_keyframe+empty_moov+default_base_moof",
    "omitted-offset": "+frag_keyframe+empty_moov+omit_tfhd_offset",
    "separate": "+frag_keyframe+empty_moov+separate_moof+default_base_moof",
    "global-sidx": "+frag_keyframe+empty_moov+default_base_moof+global_sidx",
    "dash": "+frag_keyframe+dash",
    "every-frame": "+frag_every_frame+empty_moov+default_base_moof",
    "no-mfra": "+frag_keyframe+empty_moov+skip_trailer",
}
NEGATIVE_OFFSETS = {
    "cmaf": "+cmaf+frag_keyframe",
    "negative": "+frag_keyframe+empty_moov+default_base_moof+negative_cts_offsets",
}
HEADS = (b"moof", b"tfhd", b"tfdt", b"trun", b"mvex", b"trex", b"elst", b"mdhd", b"stsz", b"mdat")


def fragmented(layout: str, source: str = "bframes.mp4") -> Path:
    return films.derived(f"{layout}-{source}", source, "-movflags", {**LAYOUTS, **NEGATIVE_OFFSETS}[layout])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_segments_hold_the_packets_of_a_fragmented_file_at_their_times(
    layout: str, tmp_path: Path
) -> None:
    path = fragmented(layout)
    for track, stream in {"video": "v:0", "audio": "a:0"}.items():
        assert_same_packets(path, tmp_path, track, stream)


@pytest.mark.parametrize("layout", NEGATIVE_OFFSETS)
def test_fragments_whose_pictures_are_shown_before_they_are_decoded_begin_with_the_sound(
    layout: str, tmp_path: Path
) -> None:
    path = fragmented(layout)
    assert_same_packets(path, tmp_path, "audio", "a:0")
    source, ours = packets(path, "v:0"), packets(write_out(path, "video", tmp_path), "v:0")
    assert [(one.digest, one.key) for one in ours] == [(one.digest, one.key) for one in source]
    # ffprobe puts what composition offsets are below 0 on all times, as if the edit list were a shift.
    assert ours[0].pts == 0
    moved = {round(a.pts - b.pts, 5) for a, b in zip(source, ours, strict=True)}
    assert moved == {round(source[0].pts, 5)}


@pytest.mark.parametrize("source", ["opus.mp4", "hevc.mp4", "languages.mp4", "late.mp4"])
def test_fragments_carry_other_codecs_and_several_tracks(source: str, tmp_path: Path) -> None:
    path = fragmented("empty-moov", source)
    tracks = {"video": "v:0", "audio": "a:0"}
    for track, stream in {**tracks, **({"audio-2": "a:1"} if source == "languages.mp4" else {})}.items():
        assert_same_packets(path, tmp_path, track, stream)


def test_playlists_and_manifest_say_of_a_fragmented_file_what_they_say_of_the_same_film_as_it_was() -> None:
    path, source = fragmented("default-base"), films.film("bframes.mp4")
    ours, theirs = (titles_of(one).media_playlist(one.name, "video") for one in (path, source))
    version = r"v_[0-9a-f]+/"  # of each file another one
    assert re.sub(version, "", ours) == re.sub(version, "", theirs)
    assert titles_of(path).multivariant_playlist(path.name).count("#EXT-X-STREAM-INF") == 1
    assert b"<SegmentTimeline>" in titles_of(path).manifest(path.name)


def indexed(data: bytes, limits: IndexCacheLimits | None = None) -> FileIndex:
    return read_index(
        lambda offset, length: data[offset : offset + length], len(data), limits or IndexCacheLimits()
    )


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_of_a_file_that_is_still_being_written_all_that_is_whole_is_there(
    share: float, tmp_path: Path
) -> None:
    whole = fragmented("no-mfra")
    path = tmp_path / "recording.mp4"
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    titles = Titles(Library(tmp_path))
    master = titles.multivariant_playlist(path.name)
    assert "Left out: its last fragment, which isn't whole" in master
    track = titles.segments.track(path.name, "video")
    assert 0 < len(track.samples) < 14 * 25
    for number in range(len(track.durations)):
        opened = open_segment(titles, path.name, "video", number)
        assert len(opened.read(0, opened.size)) == opened.size
        opened.close()


def test_a_recording_that_began_hours_ago_begins_at_its_beginning(tmp_path: Path) -> None:
    source = films.film("bframes.mp4")
    path = tmp_path / "hours.mp4"
    words = ("-c", "copy", "-output_ts_offset", "7200", "-avoid_negative_ts", "disabled")
    films.run_ffmpeg("-i", source, *words, "-movflags", "+frag_keyframe+empty_moov+frag_discont", path)
    assert packets(path, "v:0")[0].pts > 7000
    video = titles_of(path).segments.track(path.name, "video")
    assert float(video.times[0]) / video.timescale < 1
    assert float(video.duration) == pytest.approx(14, abs=0.2)


def fragment(*runs: bytes, time: int | None = 0, flags: int = 0x02_0000, more: bytes = b"") -> bytes:
    times = [] if time is None else [full_box(b"tfdt", 1, 0, time.to_bytes(8, "big"))]
    head = full_box(b"tfhd", 0, flags, b"\0\0\0\2", more)
    return box(b"moof", full_box(b"mfhd", 0, 0, bytes(4)), box(b"traf", head, *times, *runs)) + box(
        b"mdat", bytes(800)
    )


def run(count: int, *, size: int = 8, duration: int = 512, offset: int = 200) -> bytes:
    row = duration.to_bytes(4, "big") + size.to_bytes(4, "big")
    return full_box(b"trun", 0, 0x301, count.to_bytes(4, "big"), offset.to_bytes(4, "big"), row * count)


def head_of(name: str = "sound.m4a") -> bytes:
    """Give the ``ftyp`` and ``moov`` of sound with no samples."""
    path = films.film(name)
    index = indexed(path.read_bytes())
    return index.tracks[0].init


def test_a_fragment_without_a_time_goes_on_where_the_last_one_ended() -> None:
    data = head_of() + fragment(run(4), time=1000) + fragment(run(4), time=None)
    (track,) = indexed(data).tracks
    assert np.diff(track.samples.samples(0, 8).decode_time).tolist() == [512] * 8


def test_a_gap_between_fragments_makes_the_sample_before_it_longer() -> None:
    data = head_of() + fragment(run(2), time=0) + fragment(run(2), time=5000)
    (track,) = indexed(data).tracks
    assert np.diff(track.samples.samples(0, 4).decode_time).tolist() == [512, 4488, 512, 512]


@pytest.mark.parametrize(
    "data",
    [
        fragment(run(4), time=10_000) + fragment(run(4), time=0),
        fragment(run(1), time=(1 << 63) + 5),
        fragment(run(1), time=(1 << 62) + 5),
        fragment(run(1)[:30] + b"\xff\xff\xff\xff" + run(1)[34:]),
        fragment(run(1).replace(b"\0\0\0\1", b"\xff\xff\xff\xff", 1)),
        fragment(full_box(b"trun", 0, 0x001, b"\0\0\0\1", b"\x80\0\0\0")),
        fragment(run(1), flags=0x01, more=b"\xff" * 8),
        fragment(run(1), flags=0x02, more=bytes(4)),
        fragment(run(1), flags=0x02, more=b"\0\0\0\2"),
        box(b"moof", box(b"traf")),
        box(b"moof", box(b"traf", full_box(b"tfhd", 0, 0, b"\0\0\0\7"))),
        box(b"moof", box(b"traf", full_box(b"tfhd", 0, 0x39, b"\0\0\0\1"))),
        fragment(full_box(b"trun", 0, 0x001)),
        b"\0\0\0\3moof",
    ],
)
def test_impossible_fragments_are_malformed(data: bytes) -> None:
    with pytest.raises(MediaError):
        indexed(head_of() + data)


@pytest.mark.parametrize("time", [(1 << 62) - 511, (1 << 62) + 1, (1 << 63) - 512, (1 << 63) - 1])
def test_times_that_a_table_can_not_sum_up_are_malformed(time: int) -> None:
    """Behind the last one of 63 bits comes the first one below 0, where it is added in 64 bits."""
    with pytest.raises(MalformedError, match="impossible times"):
        indexed(head_of() + fragment(run(1), time=time))


def test_a_fragmented_file_without_fragments_has_nothing_to_package() -> None:
    with pytest.raises(UnsupportedError, match="no samples"):
        indexed(head_of())


@pytest.mark.parametrize(
    ("data", "limits"),
    [
        (fragment(full_box(b"trun", 0, 0, b"\xff\xff\xff\xff")), FragmentedLimits()),
        (fragment(run(1)) * 9, FragmentedLimits(fragments=8)),
        (box(b"free") * 400, FragmentedLimits(boxes=300)),
        (fragment(*[box(b"free")] * 400), FragmentedLimits(boxes=300)),
        (fragment(run(60)), FragmentedLimits(samples=50)),
        (fragment(run(90)), FragmentedLimits(table_bytes=99)),
    ],
)
def test_what_is_more_than_the_limits_allow_is_refused(data: bytes, limits: FragmentedLimits) -> None:
    with pytest.raises(TooLargeError):
        indexed(head_of() + data, IndexCacheLimits(containers=ContainerLimits(limits)))


def test_the_last_whole_sample_of_a_file_that_is_cut_short_lasts_until_the_next_one() -> None:
    # Of 500 bytes of sound, which begin 200 bytes behind the fragment's begin, the file has 250.
    (sound,) = indexed(head_of() + fragment(run(5, size=100, duration=4096))[: 200 + 250]).sounds
    assert len(sound.samples) == 2
    assert int(sound.times[-1]) + sound.samples.start == 2 * 4096


def test_memory_for_the_tables_of_fragments_is_reserved_before_it_is_taken() -> None:
    """A table has four bytes for the size of each sample, and is there twice while it is written."""
    data = head_of() + b"".join(fragment(run(20_000, size=1), time=None) for _ in range(15))
    reserved: list[int] = []
    (sound,) = read_index(
        lambda at, length: data[at : at + length], len(data), reserve=reserved.append
    ).sounds
    assert len(sound.samples) == 300_000
    assert sum(reserved) >= 2 * 4 * 300_000


def test_billions_of_samples_that_were_never_written_are_none() -> None:
    # Each has a gigabyte by the track's defaults, of which the file has nothing.
    defaults = (512).to_bytes(4, "big") + (1 << 30).to_bytes(4, "big")
    data = fragment(full_box(b"trun", 0, 0, b"\x7f\xff\xff\xff"), flags=0x02_0018, more=defaults)
    began = time.thread_time()
    with pytest.raises(MediaError):
        indexed(head_of() + data)
    assert time.thread_time() - began < 2 * slowness(), "not one by one"


def test_runs_behind_the_end_of_the_file_are_not_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand runs in 16 kB would be fifteen million samples, which the limit of samples doesn't count."""
    defaults = (512).to_bytes(4, "big") + (1 << 20).to_bytes(4, "big")
    runs = [full_box(b"trun", 0, 0, (15_360).to_bytes(4, "big"))] * 1000
    expanded: list[int] = []
    columns = fragmented_movie._FragmentRun.columns

    def counted(run: fragmented_movie._FragmentRun, begin: int, stop: int) -> object:
        expanded.append(stop - begin)
        return columns(run, begin, stop)

    monkeypatch.setattr(fragmented_movie._FragmentRun, "columns", counted)
    with pytest.raises(MediaError):
        indexed(head_of() + fragment(*runs, flags=0x02_0018, more=defaults))
    assert 0 < sum(expanded) <= 15_360


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_anywhere_is_refused_or_indexed_within_the_limits(data: st.DataObject) -> None:
    whole = bytearray(fragmented("default-base", "languages.mp4").read_bytes()[: 64 << 10])
    heads = [found.start() for found in re.finditer(b"|".join(HEADS), whole)]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.sampled_from(heads)) + data.draw(st.integers(-4, 60))
        whole[max(at, 0) % len(whole)] = data.draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)))
    with contextlib.suppress(MediaError):
        index = indexed(bytes(whole))
        for track in index.tracks:
            for number in range(min(len(track.durations), 4)):
                make_segment(index, track, number)
