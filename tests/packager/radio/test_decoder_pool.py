"""Many tracks through few decoders: each sounds, to the sample, as if it had a decoder of its own."""

import os
import random
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from media.mp3.reader import Frame, MpegAudioReader
from media.mp3.xing import InfoFrame
from packager.process.ffmpeg_discovery import Tools
from packager.radio.audio_blocks import AudioFormat
from packager.radio.decoder_pool import MAX_DECODERS, DecoderPool
from tests.packager.radio.decoded_samples import Samples, record
from tests.packager.radio.station_audio import encoders
from tests.patience import STATION
from tests.reading import events_of
from tests.waiting import until

MOUNT = AudioFormat(44100, 2)


def as_ffmpeg_decodes(path: Path) -> Samples:
    """A track by an ffmpeg for itself, at the mount's sound."""
    words = ["-i", str(path), "-ar", "44100", "-ac", "2", "-f", "f32le", "-"]
    answer = subprocess.run(["ffmpeg", "-nostdin", "-v", "fatal", *words], check=True, capture_output=True)
    return np.frombuffer(answer.stdout, "<f4").reshape(-1, 2)


async def decoded(decoders: DecoderPool, data: bytes) -> Samples:
    events = list(events_of(MpegAudioReader(), data))
    frames = [event for event in events if isinstance(event, Frame)]
    info = next((event for event in events if isinstance(event, InfoFrame)), None)
    unheard = info.unheard(frames[0].header.samples) if info else ()

    async def stream() -> AsyncIterator[Frame]:
        for frame in frames:
            yield frame

    pieces = [samples async for samples in decoders.track(stream(), unheard)]
    return np.frombuffer(b"".join(pieces), "<f4").reshape(-1, 2)


@pytest.fixture
async def decoders(tools: Tools) -> AsyncIterator[DecoderPool]:
    made = DecoderPool(MOUNT, tools, STATION)
    yield made
    await made.stop()
    assert encoders() == []


async def test_each_track_is_bit_for_bit_what_a_decoder_of_its_own_gives_and_no_process_is_started_for_it(
    tmp_path: Path, decoders: DecoderPool
) -> None:
    kinds: list[tuple[str, ...]] = [("-q:a", "4"), ("-b:a", "128k"), ("-b:a", "320k"), ("-b:a", "32k")]
    running = set[int]()
    for number in range(8):
        path = record(
            tmp_path / f"{number}.mp3", number, *kinds[number % len(kinds)], seconds=0.3 + number / 7
        )
        expected = as_ffmpeg_decodes(path)
        got = await decoded(decoders, path.read_bytes())
        assert got.shape == expected.shape
        assert np.array_equal(got, expected), number
        running |= set(encoders())
    assert len(running) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        "-ar 48000 -b:a 192k",
        "-ar 22050 -ac 1 -b:a 8k",
        "-ar 8000 -b:a 8k",
        "-ar 24000 -b:a 160k",
        "-ac 1 -q:a 2",
    ],
)
async def test_a_track_of_another_rate_is_as_long_and_in_time_with_what_ffmpeg_makes_of_it(
    arguments: str, tmp_path: Path, decoders: DecoderPool
) -> None:
    path = record(tmp_path / "1.mp3", 3, *arguments.split(), seconds=1.0, noise=0)
    expected = as_ffmpeg_decodes(path)
    for _ in range(3):
        got = await decoded(decoders, path.read_bytes())
        # Resampled from up to half a sample beside, and at the edges from silence instead of a reflection.
        assert abs(len(got) - len(expected)) <= 6
        inner = slice(500, min(len(got), len(expected)) - 500)
        error = got[inner] - expected[inner]
        assert np.sqrt(np.mean(error**2)) < 0.05 * np.sqrt(np.mean(expected[inner] ** 2))
    assert len(encoders()) == 1


async def test_tracks_of_three_shapes_in_turns_need_three_processes_and_a_fourth_replaces_one(
    tmp_path: Path, decoders: DecoderPool
) -> None:
    shapes = [("-ar", "44100"), ("-ar", "48000"), ("-ar", "22050", "-ac", "1"), ("-ar", "32000")]
    paths = [record(tmp_path / f"{at}.mp3", at, *words, seconds=0.3) for at, words in enumerate(shapes)]
    for _ in range(3):
        for path in paths[:3]:
            assert len(await decoded(decoders, path.read_bytes())) == pytest.approx(0.3 * 44100, abs=3)
    assert len(encoders()) == MAX_DECODERS == 3
    before = set(encoders())
    await decoded(decoders, paths[3].read_bytes())
    assert len(encoders()) == 3
    assert len(before & set(encoders())) == 2


def damaged(data: bytes, seed: int) -> Iterator[bytes]:
    """Flip bits all over a track, its headers and its side information above all."""
    chance = random.Random(seed)
    for event in events_of(MpegAudioReader(), data):
        if isinstance(event, Frame):
            frame = bytearray(event.data)
            if chance.random() < 0.4:
                for _ in range(3):
                    place = chance.choice((chance.randrange(2, 4), chance.randrange(4, 36), len(frame) - 1))
                    frame[place] = chance.randrange(256)
            yield bytes(frame)


async def test_damaged_tracks_shift_no_sample_of_those_behind_them_however_many_they_are(
    tmp_path: Path, decoders: DecoderPool
) -> None:
    good = [record(tmp_path / f"{at}.mp3", at, seconds=0.4) for at in range(3)]
    expected = [as_ffmpeg_decodes(path) for path in good]
    running = set[int]()
    for number in range(30):
        broken = b"".join(damaged(good[number % 3].read_bytes(), number))
        await decoded(decoders, broken)
        behind = (number + 1) % 3
        got = await decoded(decoders, good[behind].read_bytes())
        assert np.array_equal(got, expected[behind]), number
        running |= set(encoders())
    assert len(running) == 1


async def test_a_track_that_was_cut_out_of_another_begins_in_silence_and_not_with_what_isnt_its_own(
    tmp_path: Path, decoders: DecoderPool
) -> None:
    first = record(tmp_path / "1.mp3", 1, "-b:a", "128k", seconds=1.0)
    whole = record(tmp_path / "2.mp3", 2, "-b:a", "128k", seconds=1.0)
    frames = [
        event.data for event in events_of(MpegAudioReader(), whole.read_bytes()) if isinstance(event, Frame)
    ]
    # main_data_begin, the first nine bits behind the header, reaches back over a whole frame of 417 bytes.
    reaching = next(at for at, data in enumerate(frames) if at > 5 and data[4] << 1 | data[5] >> 7 > 385)
    cut = tmp_path / "cut.mp3"
    cut.write_bytes(b"".join(frames[reaching:]))
    await decoded(decoders, first.read_bytes())
    got = await decoded(decoders, cut.read_bytes())
    assert not got[:1152].any()
    assert np.array_equal(got[5 * 1152 :], as_ffmpeg_decodes(cut)[5 * 1152 :])


async def test_a_track_that_lies_about_its_length_or_ends_within_a_frame_takes_nothing_from_the_next(
    tmp_path: Path, decoders: DecoderPool
) -> None:
    good = record(tmp_path / "1.mp3", 1, "-b:a", "192k", seconds=1.0)
    whole, expected = good.read_bytes(), as_ffmpeg_decodes(good)
    tag = whole.index(b"Info") if b"Info" in whole else whole.index(b"Xing")
    lies = [(0, 576, 576), (2**32 - 1, 4095, 9), (3, 4095, 4095), (1, 0, 4095)]
    for frames, delay, padding in lies:
        lying = bytearray(whole)
        lying[tag + 8 : tag + 12] = frames.to_bytes(4, "big")
        # Behind the flags: frames, bytes, a table of 100, quality; then LAME's delays after 21 bytes.
        lying[tag + 120 + 21 : tag + 120 + 24] = (delay << 12 | padding).to_bytes(3, "big")
        (tmp_path / "lying.mp3").write_bytes(lying)
        heard = await decoded(decoders, bytes(lying))
        if (frames, delay, padding) in lies[:2]:
            assert np.array_equal(heard, as_ffmpeg_decodes(tmp_path / "lying.mp3"))
        # Twelve bits of delay, of which what a decoder adds is more; of padding it is less.
        assert 0 <= (len(whole) - tag) // 627 * 1152 - len(heard) <= 4095 + 529 + 4095 + 1152
    for size in (len(whole) // 2, 3000):
        heard = await decoded(decoders, whole[:size])
        assert np.array_equal(heard, expected[: len(heard)])
        assert len(heard) > (size - tag) / len(whole) * 44100 - 3 * 1152
    assert np.array_equal(await decoded(decoders, whole), expected)
    assert len(encoders()) == 1


async def test_a_decoder_that_was_killed_while_it_rested_is_replaced_and_the_next_track_is_whole(
    tmp_path: Path, decoders: DecoderPool
) -> None:
    path = record(tmp_path / "1.mp3", 1)
    expected = as_ffmpeg_decodes(path)
    await decoded(decoders, path.read_bytes())
    (victim,) = encoders()
    os.kill(victim, signal.SIGKILL)
    # A thread waits for its end, and the loop hears of it from that.
    await until(lambda: all(one.has_ended for one in decoders._running.values()))
    with capture_logs() as logs:
        assert np.array_equal(await decoded(decoders, path.read_bytes()), expected)
    assert [entry["event"] for entry in logs] == ["an idle decoder ended"]
