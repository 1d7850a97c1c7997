"""Recordings of events: what they are made of, over breaks and crashes, and for how long they stay."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import subprocess
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import m3u8
import pytest
from structlog.testing import capture_logs

from packager.library.local_storage import NotFoundError
from packager.live.event_lifecycle import LiveEvent
from packager.process.ffmpeg_discovery import Tools
from packager.publish.dash import LiveManifest
from packager.recordings.disk_recordings import Recording, Recordings, Retention
from packager.safe_files import OpenFolder
from packager.window.sequence_numbers import SequenceNumbers
from tests.conformance.handfed import NUMBER, Track, make_material
from tests.packager.recordings.recorded_channel import finish, record, with_another_level
from tests.packager.station import on_air
from tests.private_files import open_to_all, readable_by_others

SAMPLE_RATE = 48_000


def movie_of(recording: Recording, path: Path) -> Path:
    """Put its MP4 together."""
    head, layout = recording.movie()
    with head:
        data = head.pread(0, head.size)
    offset = 0
    while offset < layout.size:
        piece = layout.at(offset)
        data += (recording.path / piece.rendition / f"{piece.number}.m4s").read_bytes()
        offset = piece.end
    path.write_bytes(data)
    return path


def packets(tools: Tools, path: Path, stream: str) -> list[tuple[str, float]]:
    """Hash and decode time of each packet."""
    command = [str(tools.ffprobe), "-v", "error", "-select_streams", stream, "-show_data_hash", "md5"]
    command += ["-show_packets", "-of", "json", str(path)]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)
    return [(packet["data_hash"], float(packet["dts_time"])) for packet in answer["packets"]]


async def test_a_break_is_a_discontinuity_in_the_playlists_and_no_time_in_the_mp4(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = await record(tmp_path / "data", material, tools, monkeypatch)
    assert recording.metadata.duration == 9
    assert recording.metadata.id == "20261118T110640Z", "the date of second 1,795,000,000"
    for name in ("240p", "audio"):
        text = (recording.path / name / "media.m3u8").read_text()
        playlist = m3u8.loads(text)
        numbers = [NUMBER + one for one in (0, 1, 2, 3, 4, 8, 9, 10, 11)]
        assert [one.uri for one in playlist.segments] == [f"{number}.m4s" for number in numbers]
        assert [one.uri for one in playlist.segments if one.discontinuity] == [f"{NUMBER + 8}.m4s"]
        assert "#EXT-X-GAP" not in text
        dates = [one.program_date_time.timestamp() for one in playlist.segments if one.program_date_time]
        assert dates == pytest.approx(numbers, abs=0.05)
    (entry,) = m3u8.loads((recording.path / "master.m3u8").read_text()).iframe_playlists
    assert entry.uri == "240p/iframes.m3u8"
    assert not (recording.path / "audio/iframes.m3u8").exists()
    media, lone = (
        m3u8.loads((recording.path / "240p" / name).read_text()).segments
        for name in ("media.m3u8", "iframes.m3u8")
    )
    for whole, one in zip(media, lone, strict=True):
        assert (one.uri, one.duration, one.discontinuity) == (whole.uri, whole.duration, whole.discontinuity)
        size, _, offset = one.byterange.partition("@")
        assert 0 < int(size) < (recording.path / "240p" / one.uri).stat().st_size
        assert offset == "0"
    movie = await asyncio.to_thread(movie_of, recording, tmp_path / "movie.mp4")
    behind: list[tuple[float, float]] = []
    for name, stream in (("240p", "v"), ("audio", "a")):
        folder, joined = recording.path / name, tmp_path / f"{name}.mp4"
        parts = [f"init-{NUMBER}.mp4", *sorted(path.name for path in folder.glob("*.m4s"))]
        joined.write_bytes(b"".join((folder / part).read_bytes() for part in parts))
        live, ours = packets(tools, joined, stream), packets(tools, movie, stream)
        assert [one[0] for one in ours] == [one[0] for one in live]
        times = [one[1] for one in ours]
        longest = max(after - before for before, after in itertools.pairwise(times))
        assert longest < 0.08, "three seconds were missed, and are left out"
        first = next(index for index, one in enumerate(live) if one[1] >= NUMBER + 7.5)
        behind.append((live[first][1], ours[first][1]))
    # Picture and sound are as far from each other behind the break as they were live.
    (video_live, video), (audio_live, audio) = behind
    assert video - audio == pytest.approx(video_live - audio_live, abs=3 / SAMPLE_RATE)


def shown(tools: Tools, init: Path, segment: Path) -> tuple[Fraction, Fraction]:
    """When a segment's first picture is shown, and when its last one is over, in seconds by ffprobe."""
    command = [str(tools.ffprobe), "-v", "error", "-show_packets", "-show_streams", "-of", "json", "-"]
    data = init.read_bytes() + segment.read_bytes()
    answer = json.loads(
        subprocess.run(command, input=data, check=True, capture_output=True, timeout=120).stdout
    )
    tick, packets = Fraction(answer["streams"][0]["time_base"]), answer["packets"]
    assert any(packet["pts"] > packet["dts"] for packet in packets), "B-frames"
    ends = (packet["pts"] + packet["duration"] for packet in packets)
    return min(packet["pts"] for packet in packets) * tick, max(ends) * tick


async def test_where_pictures_are_shown_behind_their_decoding_dash_says_when_they_are_shown(
    tmp_path: Path, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    material = await asyncio.to_thread(make_material, tools, 5, reordered=True)
    data = tmp_path / "data"
    async with on_air(data, material, tools, monkeypatch) as station:
        await station.segment(2)
    async with on_air(data, material, tools, monkeypatch, number=NUMBER + 2) as station:
        await station.segment(2)
        manifest = LiveManifest(station.channel.renditions, station.channel.cadence)
        live = ElementTree.fromstring(manifest.render("", 0.0))
        await finish(station)
        await station.channel.live_event.record(station.channel._ending())
        assert station.channel.live_event.recordings is not None
        (recording,) = station.channel.live_event.recordings
    recorded = ElementTree.parse(recording.path / "manifest.mpd").getroot()
    template = "{*}AdaptationSet[@contentType='video']//{*}SegmentTemplate"
    for root in (live, recorded):
        periods = root.findall("{*}Period")
        assert len(periods) == 2
        for period, first in zip(periods, (NUMBER, NUMBER + 2), strict=True):
            (told,) = period.findall(template)
            scale = int(told.attrib["timescale"])
            media = [recording.path / "240p" / f"{number}.m4s" for number in (first, first + 1)]
            init = recording.path / "240p" / f"init-{first}.mp4"
            (begin, middle), (following, end) = [shown(tools, init, one) for one in media]
            assert middle == following
            # ISO/IEC 23009-1 §5.3.9.2: with which presentation time of the media the period begins
            assert Fraction(int(told.attrib["presentationTimeOffset"]), scale) == begin
            if root is recorded:
                # §5.3.9.6: the earliest presentation time of each segment
                entries = told.findall("{*}SegmentTimeline/{*}S")
                assert Fraction(int(entries[0].attrib["t"]), scale) == begin
        # The end of all is the longest rendition's: here the picture's.
        length = periods[-1].get("duration")
        assert length == (f"PT{float(end - begin):.3f}S" if root is recorded else None)


async def test_segments_are_shared_with_the_dvr_and_not_copied(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = await record(tmp_path, material, tools, monkeypatch)
    for path in recording.path.glob("*/*.m4s"):
        assert path.samefile(tmp_path / "dvr" / path.parent.name / path.name)


async def test_other_users_of_the_machine_read_neither_dvr_nor_recordings_also_of_earlier_versions(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    umask = os.umask(0)
    try:
        recording = await record(tmp_path, material, tools, monkeypatch)
        assert list(readable_by_others(tmp_path)) == []
        open_to_all(tmp_path)
        (tmp_path / "foreign").mkdir()
        (tmp_path / "foreign" / "film.mp4").touch()
        assert len(list(readable_by_others(tmp_path))) > 20
        async with on_air(tmp_path, material, tools, monkeypatch, number=NUMBER + 20) as station:
            await station.segment(1)
            async with station.channel.live_event.running():
                there = {Path(path).name for path in readable_by_others(tmp_path)}
    finally:
        os.umask(umask)
    assert there == {"film.mp4", "ended"}
    assert recording.path.parent.stat().st_mode & 0o777 == 0o700
    # The channel's numbers are read at each start, and tell that the whole folder is ours.
    tmp_path.chmod(0o755)
    numbers = SequenceNumbers(tmp_path)
    await asyncio.to_thread(SequenceNumbers.reserve, numbers, NUMBER)
    await asyncio.to_thread(numbers.load)
    assert tmp_path.stat().st_mode & 0o777 == 0o700


@pytest.mark.clause("After a power cut only what is whole is listed")
async def test_what_was_interrupted_is_recorded_at_the_next_start(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    def crash(*_: object, **__: object) -> None:
        raise Crash

    for step in ("link", "fdatasync", "rename"):
        data = tmp_path / step
        async with on_air(data, material, tools, monkeypatch) as station:
            await station.segment(3)
            await finish(station)
            ending = station.channel._ending()
            live_event = station.channel.live_event
            await asyncio.to_thread(live_event._write_end, data, ending)
            with monkeypatch.context() as patch:
                patch.setattr(os, step, crash)
                with pytest.raises(Crash):
                    await live_event.record(ending)
        again = LiveEvent("test", data, Retention())
        async with again.running():
            assert await again.load_ending() is not None
            assert again.over.is_set()
            assert again.recordings is not None
            (recording,) = again.recordings
        assert len(list(recording.path.glob("240p/*.m4s"))) == 3
        assert [path.name for path in (data / "recordings").iterdir()] == [recording.metadata.id]
        # Once it is made, it isn't made again, not even when it has been removed since.
        third = LiveEvent("test", data, Retention(seconds=1e-6))
        async with third.running():
            assert third.recordings is not None
            await third.recordings.expire(recording.metadata.end + 1)
            await third.load_ending()
            assert list(third.recordings) == []


async def test_without_links_the_event_is_not_recorded_and_health_can_tell(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(2)
        await finish(station)
        with capture_logs() as logs, monkeypatch.context() as patch:
            patch.setattr(os, "link", refuse)
            await station.channel.live_event.record(station.channel._ending())
    assert [line["event"] for line in logs] == ["event can't be recorded"]
    assert station.channel.live_event.trouble == "Operation not permitted"
    assert not list(station.channel.live_event.recordings or ())


async def test_old_recordings_go_and_those_that_are_read_go_later(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record(tmp_path, material, tools, monkeypatch)
    recordings = Recordings(tmp_path / "recordings", "test", Retention(seconds=3600))
    await recordings.load()
    (recording,) = recordings
    await recordings.expire(recording.metadata.end + 3599)
    assert recordings.get(recording.metadata.id) is recording
    with recording.reading():
        await recordings.expire(recording.metadata.end + 3601)
        assert recordings.get(recording.metadata.id) is None, "nobody finds it any more"
        assert (recording.path / "master.m3u8").exists(), "but who reads it comes to the end"
    await recordings.expire(recording.metadata.end + 3601)
    assert list((tmp_path / "recordings").iterdir()) == []


async def test_a_recording_that_the_disk_refuses_to_remove_goes_later_and_the_log_tells_once(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    recording = await record(tmp_path, material, tools, monkeypatch)
    recordings = Recordings(tmp_path / "recordings", "test", Retention(seconds=1))
    await recordings.load()
    with capture_logs() as logs:
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", refuse)
            for _ in range(2):
                await recordings.expire(recording.metadata.end + 2)
        assert recording.path.exists()
        await recordings.expire(recording.metadata.end + 2)
    assert not recording.path.exists()
    assert [line["event"] for line in logs] == ["recording can't be removed", "recording removed"]


async def test_the_oldest_go_where_all_are_too_much_but_never_the_latest(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    for count in (3, 4, 5):
        data = tmp_path / str(count)
        async with on_air(data, material, tools, monkeypatch) as station:
            await station.segment(count)
            await finish(station)
            events.append((data / "dvr", station.channel._ending()))
    recordings = Recordings(tmp_path / "recordings", "test", Retention(size=1))
    for dvr, ending in events[:2]:
        await recordings.seal(dvr, ending)
        assert len(list(recordings)) == 1
    everything = Recordings(tmp_path / "recordings", "test", Retention())
    for dvr, ending in (events[0], events[2]):
        await everything.seal(dvr, ending)
    names = sorted(path.name for path in (tmp_path / "recordings").iterdir())
    assert len(names) == 3
    assert names[1] == f"{names[0]}-1", "two of one second have names of their own"


async def test_an_event_whose_recording_could_not_be_noted_is_not_recorded_once_more(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(3)
        await finish(station)
        live_event, ending = station.channel.live_event, station.channel._ending()
        await asyncio.to_thread(live_event._write_end, tmp_path, ending)
        assert live_event.recordings is not None
        # As if the process was killed between the recording and the note of it.
        await live_event.recordings.seal(tmp_path / "dvr", ending)
        (made,) = live_event.recordings
    again = LiveEvent("test", tmp_path, Retention())
    async with again.running():
        assert again.recordings is not None
        (before,) = again.recordings
        with before.reading():
            assert await again.load_ending() is not None
            (recording,) = again.recordings
            assert recording is before, "who reads it goes on to keep it"
    assert recording.metadata == made.metadata
    assert [path.name for path in (tmp_path / "recordings").iterdir()] == [made.metadata.id]


async def test_a_disk_that_is_full_for_the_mp4s_head_costs_that_until_there_is_space(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = OpenFolder.write_whole

    def refuse(folder: OpenFolder, name: str, data: bytes, **options: bool) -> None:
        if name == "event.head":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(folder, name, data, **options)

    async with on_air(tmp_path, material, tools, monkeypatch) as station:
        await station.segment(2)
        await finish(station)
        with capture_logs() as logs, monkeypatch.context() as patch:
            patch.setattr(OpenFolder, "write_whole", refuse)
            await station.channel.live_event.record(station.channel._ending())
    assert [line["event"] for line in logs] == [
        "event recorded",
        "head of a recording's MP4 can't be made",
    ]
    assert station.channel.live_event.trouble == ""
    again = LiveEvent("test", tmp_path, Retention())
    async with again.running():
        ending = await again.load_ending()
        assert ending is not None
        assert ending.sealed
        assert again.recordings is not None
        (recording,) = again.recordings
        await asyncio.to_thread(movie_of, recording, tmp_path / "movie.mp4")
    assert packets(tools, tmp_path / "movie.mp4", "v")


async def test_other_codec_parameters_behind_a_break_mean_no_mp4_and_say_so(
    tmp_path: Path, material: dict[str, Track], tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = await record(tmp_path, material, tools, monkeypatch)
    with_another_level(recording)
    again = Recording(recording.metadata, recording.path)
    with capture_logs() as logs, pytest.raises(NotFoundError, match="parameters change"):
        await asyncio.to_thread(again.movie)
    assert again.obstacle == "the codec's parameters change within the recording"
    assert [line["event"] for line in logs] == ["a recording can't be offered as MP4"]


@pytest.mark.clause("Faults on disk cost themselves, and the start goes on")
@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"id":"../../etc"}', b"[" * 100_000])
async def test_a_folder_that_is_no_recording_is_left_alone(tmp_path: Path, data: bytes) -> None:
    folder = tmp_path / "20260101T000000Z"
    folder.mkdir()
    (folder / "recording").write_bytes(data)
    (tmp_path / "metadata_files.txt").write_text("mine")
    recordings = Recordings(tmp_path, "test", Retention(seconds=1, size=1))
    await recordings.load()
    assert list(recordings) == []
    await recordings.expire(1e12)
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name, "metadata_files.txt"]
