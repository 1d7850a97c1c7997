"""A station whose ffmpegs die or hang, or whose tracks break, goes on: a line tells it, nothing leaks."""

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from packager.process.ffmpeg_discovery import Tools
from packager.process.process import Process
from packager.radio.audio_blocks import AudioBlock
from packager.radio.folder_station import Station, StationOptions, _opened
from packager.radio.limits import StationLimits
from tests.descriptors import descriptors
from tests.packager.radio.decoded_samples import Samples, record
from tests.packager.radio.station_audio import PLAY_SECONDS, encoders, frames, play
from tests.patience import STATION
from tests.waiting import until

SECONDS = 8.0
"""A track of which much is left when a few seconds of it have been heard: decoders work two ahead."""

HANG_SECONDS = 15.0
"""How long an ffmpeg may hang where one does: a busy machine lets any stand still for seconds."""

STARTED: list[str] = []
"""Command lines of all processes that this one starts, as Python itself tells them to an audit hook."""

sys.addaudithook(lambda event, words: STARTED.append(str(words[1])) if event == "subprocess.Popen" else None)


def station(
    folder: Path,
    tools: Tools,
    *,
    loop: bool = False,
    loudness: float | None = None,
    limits: StationLimits = STATION,
) -> Station:
    options = StationOptions("test", folder, loop=loop, loudness=loudness, prefill=3600.0, limits=limits)
    return Station(options, tools)


def children(word: str) -> list[int]:
    """Those with a word among their arguments."""
    found = []
    for pid in encoders():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found += [pid] if word in Path(f"/proc/{pid}/cmdline").read_text().split("\0") else []
    return found


def has_ended(process: Process | None) -> bool:
    return process is not None and process.returncode is not None


def sounds(audio: bytes) -> Samples:
    """What ffmpeg hears in a stream of frames; it has nothing to complain of."""
    words = ["ffmpeg", "-nostdin", "-v", "error", "-f", "mp3", "-i", "-", "-f", "f32le", "-"]
    answer = subprocess.run(words, input=audio, check=True, capture_output=True)
    assert not answer.stderr
    return np.frombuffer(answer.stdout, "<f4").reshape(-1, 2)


@pytest.mark.parametrize("count", [2, 9])
async def test_however_many_tracks_are_played_two_processes_are_started(
    count: int, tmp_path: Path, tools: Tools
) -> None:
    (tmp_path / "music").mkdir()
    for number in range(count):
        record(tmp_path / "music" / f"{number}.mp3", number, "-b:a", "192k", seconds=0.5)
    STARTED.clear()
    played = await play(station(tmp_path / "music", tools, loop=True).blocks(), 3 * count)
    assert {block.title for block in played} == {str(number) for number in range(count)}
    assert len(STARTED) == 2


async def test_while_tracks_go_out_as_they_are_the_encoder_rests_and_no_other_is_started(
    tmp_path: Path, tools: Tools
) -> None:
    music = tmp_path / "music"
    music.mkdir()
    lengths = {"0": 1.0, "1 as it is": 0.7, "2 as it is": 0.5, "3": 1.3, "4 as it is": 0.6, "5": 0.9}
    for number, (name, seconds) in enumerate(lengths.items()):
        bitrate = "128k" if "as it is" in name else "192k"
        record(music / f"{name}.mp3", number, "-b:a", bitrate, seconds=seconds)
    STARTED.clear()
    rounds = 3
    played: list[AudioBlock] = []
    async with asyncio.timeout(PLAY_SECONDS), aclosing(station(music, tools, loop=True).blocks()) as blocks:
        async for block in blocks:
            played.append(block)
            if [b.title for b in played].count("4 as it is") == rounds:
                break
    assert len(STARTED) == 2
    runs = [(title, list(run)) for title, run in groupby(played, lambda block: block.title)]
    assert [title for title, _ in runs] == (list(lengths) * rounds)[: len(runs)]
    heard = sounds(b"".join(block.data for block in played))
    position, reservoir, encoded = 0, 0, False
    for title, run in runs:
        length = sum(block.duration for block in run)
        # What goes out as it is has LAME's frames before and behind; the encoder's has its delay, and the
        # silence that leads it.
        assert length / 44100 == pytest.approx(lengths[title], abs=0.11)
        sound = np.abs(heard[position : position + length]).max(axis=1)
        loud = np.flatnonzero(sound > 0.05)
        assert loud[0] < 5 * 1152
        assert loud[-1] > length - 3 * 1152
        # No frame has bits in a track of another encoder: nine bits of main_data_begin behind the header, and
        # in two channels 32 bytes of side information (ISO/IEC 11172-3 §2.4.1.7).
        reservoir = reservoir if encoded and "as it is" not in title else 0
        encoded = "as it is" not in title
        for frame in frames(b"".join(block.data for block in run)):
            assert frame.data[4] << 1 | frame.data[5] >> 7 <= reservoir
            reservoir += len(frame.data) - 4 - 32
        position += length


async def test_levelling_measures_each_file_once_and_starts_nothing_else(
    tmp_path: Path, tools: Tools
) -> None:
    (tmp_path / "music").mkdir()
    for number in range(3):
        record(tmp_path / "music" / f"{number}.mp3", number, "-b:a", "192k", seconds=0.5)
    STARTED.clear()
    await play(station(tmp_path / "music", tools, loop=True, loudness=-16.0).blocks(), 12)
    assert len([words for words in STARTED if "ebur128" in words]) == 3
    assert len(STARTED) == 3 + 2


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tracks that don't fit."""
    folder = tmp_path_factory.mktemp("three")
    for number in range(3):
        record(folder / f"{number}.mp3", number, "-b:a", "192k", seconds=SECONDS)
    return folder


@pytest.mark.parametrize(
    ("word", "number", "reason"),
    [
        ("pcm_f32le", signal.SIGKILL, "the decoder broke: it ended"),
        ("pcm_f32le", signal.SIGSTOP, "TimeoutError"),
        ("libmp3lame", signal.SIGKILL, "the encoder"),
        ("libmp3lame", signal.SIGSTOP, "TimeoutError"),
    ],
    ids=["decoder dies", "decoder hangs", "encoder dies", "encoder hangs"],
)
async def test_an_ffmpeg_that_dies_or_hangs_costs_the_rest_of_its_track_and_one_line(
    word: str, number: signal.Signals, reason: str, three: Path, tools: Tools
) -> None:
    limits = replace(STATION, ffmpeg_seconds=HANG_SECONDS) if number == signal.SIGSTOP else STATION
    before = (descriptors(), len(asyncio.all_tasks()))
    played: list[AudioBlock] = []
    with capture_logs() as logs:
        async with (
            asyncio.timeout(PLAY_SECONDS),
            aclosing(station(three, tools, limits=limits).blocks()) as blocks,
        ):
            async for block in blocks:
                played.append(block)
                if len(played) == 3:
                    (victim,) = children(word)
                    assert len(encoders()) == 2
                    os.kill(victim, number)
    (line,) = logs
    assert (line["event"], Path(line["track"]).name) == ("track cut short", "0.mp3")
    assert reason in line["reason"]
    heard = {title: sum(b.duration for b in played if b.title == title) / 44100 for title in ("0", "1", "2")}
    assert 2 < heard["0"] < SECONDS
    # A title belongs to whole frames, and the encoder's delay is behind the last of them.
    assert heard["1"] == pytest.approx(SECONDS, abs=0.1)
    assert heard["2"] == pytest.approx(SECONDS, abs=0.1)
    assert encoders() == []
    assert (descriptors(), len(asyncio.all_tasks())) == before


async def test_an_encoder_that_was_killed_while_it_rested_is_replaced_and_the_next_track_is_whole(
    tmp_path: Path, tools: Tools
) -> None:
    for number, bitrate in enumerate(("192k", "128k", "192k")):
        record(tmp_path / f"{number}.mp3", number, "-b:a", bitrate, seconds=2.5)
    played: list[AudioBlock] = []
    playing = station(tmp_path, tools)
    with capture_logs() as logs:
        async with asyncio.timeout(PLAY_SECONDS), aclosing(playing.blocks()) as blocks:
            async for block in blocks:
                if block.title == "1" and played[-1].title == "0":
                    (victim,) = children("libmp3lame")
                    os.kill(victim, signal.SIGKILL)
                    # A thread waits for its end, and the loop hears of it from that.
                    await until(functools.partial(has_ended, playing._transcoder._encoder))
                played.append(block)
    assert [line["event"] for line in logs] == ["the encoder ended between tracks"]
    for title in "012":
        assert sum(b.duration for b in played if b.title == title) / 44100 == pytest.approx(2.5, abs=0.11)


async def test_of_broken_tracks_each_has_its_line_or_is_heard_and_no_process_goes_with_them(
    tmp_path: Path, tools: Tools
) -> None:
    music = tmp_path / "music"
    music.mkdir()
    good = record(music / "1.mp3", 1, "-b:a", "192k", seconds=1.0)
    whole = good.read_bytes()
    (music / "2 empty.mp3").write_bytes(b"")
    (music / "3 zeros.mp3").write_bytes(bytes(100_000))
    head, noise = whole[whole.index(b"\xff\xfb", 600) :][:4], bytes(range(1, 255))
    (music / "4 noise.mp3").write_bytes((head + (3 * noise)[:622]) * 30)
    (music / "4 heads.mp3").write_bytes(b"\xff\xfb\xb0\x00" * 5000)
    (music / "5 truncated.mp3").write_bytes(whole[: len(whole) // 2])
    (music / "6 aac.mp3").write_bytes(b"")
    record(tmp_path / "6.aac", 6, "-c:a", "aac", seconds=1.0).rename(music / "6 aac.mp3")
    (music / "7.mp3").write_bytes(whole)
    STARTED.clear()
    with capture_logs() as logs:
        played = await play(station(music, tools).blocks())
    assert [(line["event"], Path(line["track"]).name) for line in logs] == [
        ("track skipped", "2 empty.mp3"),
        ("track skipped", "3 zeros.mp3"),
        ("track skipped", "4 heads.mp3"),
        ("track skipped", "4 noise.mp3"),
        ("track skipped", "6 aac.mp3"),
    ]
    heard = [block.title for block in played]
    assert sorted(set(heard)) == ["1", "5 truncated", "7"]
    # The last has what the encoder still held: its delay of 1105 samples, and up to a frame.
    assert sum(b.duration for b in played if b.title == "7") / 44100 == pytest.approx(1.0, abs=0.1)
    assert len(STARTED) == 2


async def test_a_track_that_is_given_up_while_it_is_opened_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "slow.mp3"
    os.mkfifo(path)
    before = descriptors()

    async def begin() -> None:
        async with _opened(path):
            raise AssertionError("nobody waits for it any more")

    beginning = asyncio.create_task(begin())
    await asyncio.sleep(0)
    beginning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await beginning
    # It opens where somebody writes to it.
    os.close(await asyncio.to_thread(os.open, path, os.O_WRONLY))
    await until(lambda: descriptors() <= before, "it to be closed")


async def test_a_track_is_closed_though_who_closes_it_is_cancelled_once_more(tmp_path: Path) -> None:
    path = tmp_path / "track.mp3"
    path.write_bytes(bytes(10))
    free, reading = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    before = descriptors()

    async def read() -> None:
        async with _opened(path):
            reading.set()
            await asyncio.sleep(3600)

    work = asyncio.create_task(read())
    await reading.wait()
    # The only thread has something else to do.
    busy = loop.run_in_executor(None, free.wait)
    for _ in range(2):
        work.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([work])
    free.set()
    await busy
    await until(lambda: descriptors() <= before, "it to be closed")
