import asyncio
import json
import os
import time
from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from media.mp3.id3 import Tags
from packager.process.ffmpeg_discovery import Tools
from packager.radio import audio_blocks
from packager.radio.audio_blocks import MAX_BYTES_PER_SECOND, AudioBlock, BlockSchedule, Throttle
from packager.radio.limits import LiveSourceLimits
from packager.radio.tracks import find_tracks, shuffled, track_title
from tests.packager.radio.station_audio import (
    FITTING,
    PLAY_SECONDS,
    audio,
    block,
    encoders,
    frames,
    packets,
    play,
    station,
    tone,
)
from tests.patience import STATION
from tests.waiting import until

LATE_SECONDS = 5.0


def long_tone(path: Path) -> None:
    """Make a track of minutes that doesn't fit, of a short one's frames again and again."""
    words = ("-ac", "1", "-ar", "48000", "-b:a", "320k", "-id3v2_version", "0", "-write_xing", "0")
    tone(path, *words, seconds=5)
    path.write_bytes(40 * path.read_bytes())


async def test_tracks_that_fit_go_out_frame_by_frame_as_they_are(tmp_path: Path, tools: Tools) -> None:
    first = tone(tmp_path / "music" / "1.mp3", title="One")
    second = tone(tmp_path / "music" / "2.mp3", title="Two", seconds=1.5)
    played = await play(station(tmp_path / "music", tools).blocks())
    result = tmp_path / "result.mp3"
    result.write_bytes(audio(played))
    assert packets(result) == packets(first) + packets(second)
    titles = [block.title for block in played]
    assert [title for title, after in pairwise([*titles, ""]) if title != after] == [
        "Maker - One",
        "Maker - Two",
    ]


async def test_blocks_are_about_a_second_and_know_their_duration_and_frames(
    tmp_path: Path, tools: Tools
) -> None:
    tone(tmp_path / "music" / "1.mp3", seconds=3.5)
    played = await play(station(tmp_path / "music", tools).blocks())
    for one in played:
        found = frames(one.data)
        assert one.duration == 1152 * len(found)
        assert [one.data[cut : cut + 2] for cut in one.cuts] == [frame.data[:2] for frame in found]
        assert len(one.cuts) == len(found)
    assert all(44100 <= one.duration < 44100 + 1152 for one in played[:-1])


@pytest.mark.parametrize(
    "arguments",
    [
        ("-ac", "2", "-ar", "48000", "-b:a", "128k"),
        ("-ac", "1", "-ar", "44100", "-b:a", "128k"),
        ("-ac", "2", "-ar", "44100", "-b:a", "192k"),
        ("-ac", "2", "-ar", "44100", "-q:a", "5"),
        ("-ac", "1", "-ar", "22050", "-b:a", "32k"),
        ("-ac", "2", "-ar", "44100", "-c:a", "mp2", "-f", "mp2"),
    ],
    ids=["rate", "mono", "bitrate", "variable", "mpeg2", "layer two"],
)
async def test_tracks_that_dont_fit_are_encoded_to_the_mounts_rate(
    arguments: tuple[str, ...], tmp_path: Path, tools: Tools
) -> None:
    tone(tmp_path / "music" / "1.mp3", *arguments, seconds=2.0)
    played = await play(station(tmp_path / "music", tools).blocks())
    headers = {(f.header.sample_rate, f.header.channels, f.header.bitrate) for f in frames(audio(played))}
    assert headers == {(44100, 2, 128000)}
    assert sum(block.duration for block in played) / 44100 == pytest.approx(2.0, abs=0.15)


async def test_titles_come_from_tags_at_either_end_or_the_files_name(tmp_path: Path, tools: Tools) -> None:
    music = tmp_path / "music"
    tone(music / "1 front.mp3", title="Front", seconds=0.5)
    with tone(music / "2 back.mp3", *FITTING, "-id3v2_version", "0", seconds=0.5).open("ab") as file:
        file.write(b"TAG" + b"Back".ljust(30, b"\0") + b"Maker".ljust(30, b"\0") + bytes(65))  # ID3v1
    tone(music / "3 none.mp3", *FITTING, "-id3v2_version", "0", seconds=0.5)
    tone(music / "4 other.mp3", "-ac", "1", "-ar", "22050", "-b:a", "32k", title="Encoded", seconds=0.5)
    played = await play(station(music, tools).blocks())
    assert [block.title for block in played] == ["Maker - Front", "Maker - Back", "3 none", "Maker - Encoded"]


async def test_a_broken_file_is_skipped_with_a_log_line(tmp_path: Path, tools: Tools) -> None:
    music = tmp_path / "music"
    good = tone(music / "2.mp3", seconds=1.0)
    (music / "1.mp3").write_bytes(bytes(200_000))
    (music / "3.mp3").write_bytes(b"")
    (music / "4.mp3").write_bytes(
        b"\xff\xfd\x90\x00" + bytes(3000)
    )  # looks like Layer II, so ffmpeg is asked
    with capture_logs() as logs:
        played = await play(station(music, tools).blocks())
    assert len(frames(audio(played))) == len(packets(good))
    skipped = [Path(entry["track"]).name for entry in logs if entry["event"] == "track skipped"]
    assert skipped == ["1.mp3", "3.mp3", "4.mp3"]


async def test_a_name_that_isnt_utf_8_is_played_and_can_be_shown(tmp_path: Path, tools: Tools) -> None:
    music = tmp_path / "music"
    good = tone(music / "1.mp3", *FITTING, "-id3v2_version", "0", seconds=0.5)
    good.rename(Path(os.fsdecode(os.fsencode(music) + b"/caf\xe9\n1.mp3")))
    Path(os.fsdecode(os.fsencode(music) + b"/br\xf6ken.mp3")).write_bytes(b"")
    with capture_logs() as logs:
        (block,) = await play(station(music, tools).blocks())
    assert block.title == "café 1"
    assert json.dumps(logs, ensure_ascii=False).encode("utf-8")


async def test_a_track_that_changes_its_rate_ends_there(tmp_path: Path, tools: Tools) -> None:
    good = tone(tmp_path / "a.mp3", *FITTING, "-id3v2_version", "0", seconds=3.0)
    other = tone(tmp_path / "b.mp3", "-ac", "2", "-ar", "48000", "-b:a", "128k", "-id3v2_version", "0")
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "1.mp3").write_bytes(good.read_bytes() + other.read_bytes())
    with capture_logs() as logs:
        played = await play(station(tmp_path / "music", tools).blocks())
    assert len(frames(audio(played))) == len(packets(good))
    assert [entry["event"] for entry in logs] == ["track cut short"]


async def test_an_empty_folder_is_waited_for_and_read_again_each_round(tmp_path: Path, tools: Tools) -> None:
    music = tmp_path / "music"
    ready = tone(tmp_path / "ready" / "1.mp3", title="One", seconds=0.5)
    async with asyncio.timeout(PLAY_SECONDS), aclosing(station(music, tools, loop=True).blocks()) as blocks:
        first = asyncio.ensure_future(anext(blocks))
        await asyncio.sleep(0.2)
        assert not first.done()
        music.mkdir()
        ready.rename(music / "1.mp3")
        assert (await first).title == "Maker - One"
        await asyncio.to_thread(tone, music / "2.mp3", title="Two", seconds=0.5)
        titles = set[str]()
        while titles != {"Maker - One", "Maker - Two"}:
            titles.add((await anext(blocks)).title)


async def test_audio_comes_at_real_time_and_at_most_one_block_ahead(tmp_path: Path, tools: Tools) -> None:
    # However long the machine stands still, what is late is made up for.
    limits = replace(STATION, late_seconds=PLAY_SECONDS)
    tone(tmp_path / "music" / "1.mp3", seconds=1.7)
    loop = station(tmp_path / "music", tools, loop=True, prefill=2.0, limits=limits).blocks()
    position = 0.0
    # The station's own time begins between these two.
    asked, first = time.monotonic(), 0.0
    async with asyncio.timeout(PLAY_SECONDS), aclosing(loop) as blocks:
        async for block in blocks:
            now = time.monotonic()
            first = first or now
            # Due when all before it has been heard; not earlier.
            assert position - 2.0 <= now - asked + 0.01
            # A busy machine may hold some of them up; who comes after isn't late for it.
            if position > 5 and now - first - (position - 2.0) < 1.0:
                break
            position += block.duration / block.timescale


async def test_closing_the_stream_ends_ffmpeg(tmp_path: Path, tools: Tools) -> None:
    long_tone(tmp_path / "music" / "1.mp3")
    blocks = station(tmp_path / "music", tools).blocks()
    async with asyncio.timeout(PLAY_SECONDS), aclosing(blocks) as stream:
        await anext(stream)
        assert encoders()
    assert not encoders()


async def test_cancelling_whoever_listens_ends_ffmpeg(tmp_path: Path, tools: Tools) -> None:
    long_tone(tmp_path / "music" / "1.mp3")
    playing = asyncio.create_task(play(station(tmp_path / "music", tools, prefill=0.0).blocks()))
    await until(encoders)
    playing.cancel()
    await asyncio.wait([playing])
    assert not encoders()


def test_the_pace_never_drifts_and_gives_the_prefill_at_once() -> None:
    pace = BlockSchedule(44100, prefill=2.0, late_seconds=LATE_SECONDS)
    now, waits = 1000.0, []
    for _ in range(5):
        waits.append(pace.wait(now))
        pace.advance(44100)
    assert waits == pytest.approx([0, 0, 0, 1, 2])
    # Each wait ends 3 ms late; the next one is shorter by as much.
    for _ in range(1000):
        now += pace.wait(now) + 0.003
        pace.advance(44100 + 441)
    assert now == pytest.approx(1000 + (5 * 44100 + 999 * 44541) / 44100 - 2 + 0.003)


def test_after_a_long_silence_the_pace_goes_on_from_now() -> None:
    pace = BlockSchedule(44100, prefill=2.0, late_seconds=LATE_SECONDS)
    pace.wait(1000.0)
    pace.advance(44100)
    assert pace.wait(1000.0 + LATE_SECONDS) == 0  # late, to be made up
    pace.advance(44100)
    assert pace.wait(2000.0) == 0
    pace.advance(44100)
    assert pace.wait(2000.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("blocks", "seconds"),
    [
        ([block(44100, 1), block(48000, 1)] * 300, 600),
        ([block(48000, 0, size=1 << 20)] * 600, (600 << 20) / MAX_BYTES_PER_SECOND),
    ],
    ids=["its sample rate changes with each block", "it says that its blocks last no time"],
)
async def test_a_live_source_that_comes_too_fast_has_to_wait_whatever_it_says_of_its_times(
    monkeypatch: pytest.MonkeyPatch, blocks: list[AudioBlock], seconds: float
) -> None:
    now = 1000.0

    async def sleep(waited: float) -> None:
        nonlocal now
        now += waited

    monkeypatch.setattr(audio_blocks, "asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(audio_blocks, "time", SimpleNamespace(monotonic=lambda: now))
    limits = LiveSourceLimits()
    throttle = Throttle(limits)
    for one in blocks:
        await throttle.wait(one)
    assert now - 1000 == pytest.approx(seconds - limits.ahead_seconds, abs=1.1)


def test_a_folder_gives_its_mp3s_in_order_and_nothing_hidden(tmp_path: Path) -> None:
    for name in ["b/2.MP3", "b/10.mp3", "a.mp3", ".hidden.mp3", ".cache/x.mp3", "notes.txt"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.mp3").mkdir()
    found = [str(path.relative_to(tmp_path)) for path in find_tracks(tmp_path, STATION)]
    assert found == ["a.mp3", "b/2.MP3", "b/10.mp3"]
    assert find_tracks(tmp_path / "missing", STATION) == []


def test_shuffling_keeps_all_tracks_and_never_repeats_the_last_at_once() -> None:
    paths = [Path(str(number)) for number in range(5)]
    for _ in range(50):
        order = shuffled(paths, paths[3])
        assert sorted(order) == paths
        assert order[0] != paths[3]
    assert shuffled(paths[:1], paths[0]) == paths[:1]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [(Tags("T", "A"), "A - T"), (Tags("T", ""), "T"), (Tags("", "A"), "file"), (Tags(), "file")],
)
def test_a_title_names_what_is_known(tags: Tags, expected: str) -> None:
    assert track_title(tags, Path("music/file.mp3")) == expected
