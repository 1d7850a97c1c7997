"""Prepared films: all that is encoded of them is there before anybody asks, and stays there."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from media.errors import MalformedError, MediaError
from packager.encode.preparation import (
    BROKEN,
    MISSING,
    NO_ROOM,
    TooManyPreparedError,
)
from packager.encode.renditions import EncodedRendition
from packager.library.local_storage import NotFoundError
from packager.process.ffmpeg_discovery import Tools
from packager.vod.movie.movie_reader import Read
from tests.packager.encode.preparing_server import (
    QUICK,
    SEGMENT_BYTES,
    SOUND,
    Encoder,
    is_prepared,
    library,
    preparing,
)
from tests.packager.films import run_ffmpeg
from tests.small_disk import small_disk
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)


async def test_all_of_a_prepared_film_is_there_and_needs_no_encoder_any_more(
    tools: Tools, tmp_path: Path
) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    inputs = "-f lavfi -i testsrc2=size=64x48:rate=5:duration=9 -f lavfi -i sine=duration=9"
    run_ffmpeg(*f"{inputs} -c:v mpeg4 -g 20 -c:a ac3".split(), folder / "film.mkv")
    async with preparing(folder, tools, tmp_path, mode="auto") as one:
        await one.preparation.add("film.mkv")
        state = await one.reaches("film.mkv", is_prepared)
    # Two segments of the picture, of its I-frames and of the sound, and the init segments of both pictures.
    assert (state.encoded_segments, state.segments, state.seconds) == (8, 8, 0)
    files = [path for path in (tmp_path / "encoded").iterdir() if path.suffix == ".m4s"]
    assert state.nbytes == sum(path.stat().st_size for path in files)
    without = replace(tools, ffmpeg=Path("/nowhere/ffmpeg"))
    async with preparing(folder, without, tmp_path, mode="auto") as again:
        assert is_prepared(await again.preparation.state("film.mkv"))
        for track in ("video-48p", "audio-aac"):
            await again.media.init("film.mkv", track)
            for number in range(2):
                await again.media.segment("film.mkv", track, number)


async def test_a_request_comes_before_what_is_prepared_and_a_restart_goes_on(
    tools: Tools, tmp_path: Path
) -> None:
    folder, encoder = library(tmp_path, SOUND), Encoder(turns=0)
    assert encoder.turns is not None
    async with preparing(folder, tools, tmp_path, encoder.encode) as one:
        await one.preparation.add(SOUND)
        await until(lambda: encoder.encoded == [0], "the first segment's turn")
        assert (await one.preparation.state(SOUND)).state == "encoding"
        assert one.preparation.speed is None
        request = asyncio.create_task(one.media.segment(SOUND, "audio-aac", 4))
        await until(lambda: one.media.waiting == 1, "the request's place in the queue")
        encoder.turns.release()
        encoder.turns.release()
        await request
        assert encoder.encoded[:2] == [0, 4]
        encoder.turns.release()
        state = await one.reaches(SOUND, lambda state: state.encoded_segments == 3)
        await until(lambda: one.preparation.speed is not None, "the speed")
        assert 0 < state.seconds < 20
        await until(lambda: encoder.encoded == [0, 4, 1, 2], "the turn of what is prepared")
    encoder.turns = None
    async with preparing(folder, tools, tmp_path, encoder.encode) as again:
        await again.reaches(SOUND, is_prepared)
    assert encoder.encoded == [0, 4, 1, 2, 2, 3]


async def test_all_encoders_take_part_that_nobody_else_needs(tools: Tools, tmp_path: Path) -> None:
    folder, encoder = library(tmp_path, SOUND), Encoder(turns=0)
    assert encoder.turns is not None
    async with preparing(folder, tools, tmp_path, encoder.encode, at_once=3) as one:
        await one.preparation.add(SOUND)
        await until(lambda: len(encoder.encoded) == 3, "three encoders")
        for _ in range(5):
            encoder.turns.release()
        await one.reaches(SOUND, is_prepared)
    assert sorted(encoder.encoded) == [0, 1, 2, 3, 4]


async def test_a_client_that_leaves_does_not_end_what_is_prepared(tools: Tools, tmp_path: Path) -> None:
    folder, encoder = library(tmp_path, SOUND), Encoder(turns=0)
    assert encoder.turns is not None
    async with preparing(folder, tools, tmp_path, encoder.encode) as one:
        await one.preparation.add(SOUND)
        await until(lambda: encoder.encoded == [0], "the first segment's turn")
        request = asyncio.create_task(one.media.segment(SOUND, "audio-aac", 0))
        await until(lambda: one.media.waiting == 1, "the request")
        request.cancel()
        await asyncio.wait((request,))
        for _ in range(5):
            encoder.turns.release()
        await one.reaches(SOUND, is_prepared)
    assert encoder.encoded == [0, 1, 2, 3, 4]


async def test_a_segment_that_is_no_longer_asked_for_or_read_ahead_is_prepared_all_the_same(
    tools: Tools, tmp_path: Path
) -> None:
    folder, encoder = library(tmp_path, SOUND, "other.m4a"), Encoder()
    async with preparing(folder, tools, tmp_path, encoder.encode) as one:
        media = one.media
        for number in (4, 0):
            await media.segment(SOUND, "audio-aac", number)
        await until(lambda: sorted(encoder.encoded) == [0, 1, 2, 4], "what is read ahead")
        encoder.turns = asyncio.Semaphore(0)
        other = asyncio.create_task(media.segment("other.m4a", "audio-aac", 4))
        await until(lambda: encoder.encoded.count(4) == 2, "the other film's turn")
        await one.preparation.add(SOUND)
        await until(lambda: media._prepared, "segment 3 among those that are prepared")
        request = asyncio.create_task(media.segment(SOUND, "audio-aac", 3))
        await until(lambda: not media._prepared, "its place among those that are asked for")
        request.cancel()
        await until(lambda: media._prepared, "its place among those that are prepared")
        await media.segment(SOUND, "audio-aac", 1)
        assert not media._prepared, "it is read ahead"
        await media.segment(SOUND, "audio-aac", 4)
        assert media._prepared, "it isn't read ahead any more"
        for _ in range(2):
            encoder.turns.release()
        await asyncio.gather(other, one.reaches(SOUND, is_prepared))
    assert sorted(encoder.encoded) == [0, 1, 2, 3, 4, 4]


async def test_prepared_segments_stay_while_others_are_encoded_and_go_when_they_are_taken_back(
    tools: Tools, tmp_path: Path
) -> None:
    folder, encoder = library(tmp_path, SOUND, "other.m4a", "third.m4a"), Encoder()
    async with preparing(folder, tools, tmp_path, encoder.encode, disk_bytes=210_000) as one:
        await one.preparation.add(SOUND)
        await one.reaches(SOUND, is_prepared)
        for name in ("other.m4a", "third.m4a"):
            for number in range(5):
                await one.media.segment(name, "audio-aac", number)
        assert is_prepared(await one.preparation.state(SOUND))
        await one.preparation.remove(SOUND)
        before = len(encoder.encoded)
        await one.media.segment(SOUND, "audio-aac", 0)
        assert len(encoder.encoded) == before, "it stays in the cache"
        for name in ("other.m4a", "third.m4a"):
            for number in range(5):
                await one.media.segment(name, "audio-aac", number)
        state = await one.preparation.state(SOUND)
        assert (state.state, state.segments, state.encoded_segments) == ("", 5, 0)
        await one.media.segment(SOUND, "audio-aac", 0)
        assert encoder.encoded.count(0) == 6, "of each film once, and again after it went"
        with pytest.raises(NotFoundError):
            await one.preparation.remove(SOUND)


async def test_a_segment_that_somebody_removes_is_encoded_anew(tools: Tools, tmp_path: Path) -> None:
    folder, encoder = library(tmp_path, SOUND), Encoder()
    async with preparing(folder, tools, tmp_path, encoder.encode) as one:
        await one.preparation.add(SOUND)
        await one.reaches(SOUND, is_prepared)
        first, *_ = (tmp_path / "encoded").glob("*-2-*.m4s")
        first.unlink()
        await until(first.exists, "the segment")
    assert sorted(encoder.encoded) == [0, 1, 2, 2, 3, 4]


async def test_a_film_that_does_not_fit_is_given_up_and_its_room_is_for_others(
    tools: Tools, tmp_path: Path
) -> None:
    folder, encoder = library(tmp_path, SOUND, "other.m4a"), Encoder()
    # A segment has 100,275 bytes at most, and prepared films nine tenths.
    async with preparing(folder, tools, tmp_path, encoder.encode, disk_bytes=256_000) as one:
        await one.preparation.add(SOUND)
        await one.reaches(SOUND, is_prepared)
        await one.preparation.add("other.m4a")
        state = await one.reaches("other.m4a", lambda state: state.state == "failed")
        assert (state.reason, state.nbytes) == (NO_ROOM, 0)
        assert is_prepared(await one.preparation.state(SOUND))
        await one.preparation.remove(SOUND)
        await one.preparation.add("other.m4a")
        await one.reaches("other.m4a", is_prepared)
    # What was prepared under a larger limit is given up, too.
    async with preparing(folder, tools, tmp_path, encoder.encode, disk_bytes=SEGMENT_BYTES) as less:
        assert (await less.reaches("other.m4a", lambda state: state.state == "failed")).reason == NO_ROOM


FAULTY = "its content has led to a fault of the reader"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MalformedError("no such sound"), "audio-aac: it can't be encoded: no such sound"),
        (
            ZeroDivisionError(),
            f"audio-aac: it can't be encoded: {FAULTY} (ZeroDivisionError)",
        ),
        (RuntimeError(), BROKEN),
    ],
)
async def test_a_film_that_can_not_be_encoded_says_why_and_others_go_on(
    error: Exception, reason: str, tools: Tools, tmp_path: Path
) -> None:
    folder, encoder = library(tmp_path, "broken.m4a", SOUND), Encoder()
    is_broken = True

    async def encode(
        tools: Tools, rendition: EncodedRendition, number: int, bounds: tuple[int, int] | None, read: Read
    ) -> bytes:
        if is_broken and number == 3:
            raise error
        return await encoder.encode(tools, rendition, number, bounds, read)

    async with preparing(folder, tools, tmp_path, encode) as one:
        await one.preparation.add("broken.m4a")
        state = await one.reaches("broken.m4a", lambda state: state.state == "failed")
        assert state.reason == reason
        await asyncio.sleep(3 * QUICK.prepared_check_seconds)  # It looks at its films again, and still runs.
        is_broken = False
        await one.preparation.add(SOUND)
        await one.reaches(SOUND, is_prepared)
        listed = [(state.path, state.state) for state in await one.preparation.states()]
        assert listed == [("broken.m4a", "failed"), (SOUND, "prepared")]
    async with preparing(folder, tools, tmp_path, encode) as again:
        assert (await again.preparation.state("broken.m4a")).state == "failed"
        await again.preparation.add("broken.m4a")
        await again.reaches("broken.m4a", is_prepared)


async def test_a_film_that_changes_or_vanishes_leaves_the_list(tools: Tools, tmp_path: Path) -> None:
    folder, encoder = library(tmp_path, SOUND, "gone.m4a", "away.m4a"), Encoder()
    async with preparing(folder, tools, tmp_path, encoder.encode) as one:
        for name in (SOUND, "gone.m4a", "away.m4a"):
            await one.preparation.add(name)
            await one.reaches(name, is_prepared)
        os.utime(folder / SOUND, (1, 1))
        await one.reaches(SOUND, lambda state: state.state == "")
        (folder / "away.m4a").rename(tmp_path / "away.m4a")
        await one.reaches("away.m4a", lambda state: state.reason == MISSING)
        # A disk that is mounted again.
        (tmp_path / "away.m4a").rename(folder / "away.m4a")
        await one.reaches("away.m4a", lambda state: (state.state, state.reason) == ("prepared", ""))
        (folder / "gone.m4a").unlink()
    strict = replace(QUICK, missing_seconds=0)
    async with preparing(folder, tools, tmp_path, encoder.encode, strict) as again:
        record = tmp_path / "encoded" / "prepared.json"
        await until(lambda: b"gone.m4a" not in record.read_bytes(), "the list without it")
        assert [state.path for state in await again.preparation.states()] == ["away.m4a"]


async def test_the_list_has_so_many_films_and_none_of_which_nothing_is_encoded(
    tools: Tools, tmp_path: Path
) -> None:
    folder, encoder = library(tmp_path, SOUND, "other.m4a"), Encoder()
    (folder / "text.txt").write_text("no film")
    async with preparing(folder, tools, tmp_path, encoder.encode, replace(QUICK, prepared_films=1)) as one:
        for name in ("none.mp4", "../library/sound.m4a", "/etc/passwd", ""):
            with pytest.raises(NotFoundError):
                await one.preparation.add(name)
        with pytest.raises(MediaError):
            await one.preparation.add("text.txt")
        await one.preparation.add(SOUND)
        await one.preparation.add(SOUND)
        with pytest.raises(TooManyPreparedError):
            await one.preparation.add("other.m4a")
        assert [state.path for state in await one.preparation.states()] == [SOUND]


async def test_a_full_disk_is_said_and_the_preparation_goes_on_when_it_has_room(
    tools: Tools, tmp_path: Path
) -> None:
    folder, encoder = library(tmp_path, SOUND, "other.m4a"), Encoder(turns=0)
    assert encoder.turns is not None
    with small_disk(tmp_path / "disk", 512 << 10) as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes((512 << 10) - 3 * SEGMENT_BYTES - (8 << 10)))
        async with preparing(folder, tools, disk, encoder.encode) as one:
            await one.preparation.add(SOUND)
            await one.preparation.add("other.m4a")
            for _ in range(100):
                encoder.turns.release()
            state = await one.reaches(SOUND, lambda state: "No space left" in state.reason)
            assert state.state in ("waiting", "encoding")
            assert state.encoded_segments < state.segments
            ballast.unlink()
            for name in (SOUND, "other.m4a"):
                assert (await one.reaches(name, is_prepared)).reason == ""


async def test_a_list_that_is_none_is_neither_followed_nor_overwritten(tools: Tools, tmp_path: Path) -> None:
    folder, encoder = library(tmp_path, SOUND), Encoder()
    (tmp_path / "encoded").mkdir()
    record = tmp_path / "encoded" / "prepared.json"
    entry = {"path": SOUND, "version": "", "keys": ["../../etc/passwd"]}
    for text in ("mine", "[" * 100_000, json.dumps({"profile": "", "films": [entry]})):
        record.write_text(text)
        async with preparing(folder, tools, tmp_path, encoder.encode) as one:
            assert await one.preparation.states() == []
            with pytest.raises(OSError, match="move it away"):
                await one.preparation.add(SOUND)
            assert (await one.preparation.state(SOUND)).state == ""
        assert record.read_text() == text
    assert encoder.encoded == []


async def test_another_encoder_s_version_has_all_encoded_anew(tools: Tools, tmp_path: Path) -> None:
    folder, encoder = library(tmp_path, SOUND), Encoder()
    async with preparing(folder, tools, tmp_path, encoder.encode) as one:
        await one.preparation.add(SOUND)
        await one.reaches(SOUND, is_prepared)
    async with preparing(folder, replace(tools, version="99"), tmp_path, encoder.encode) as newer:
        await until(lambda: len(encoder.encoded) == 10, "the segments of the newer encoder")
        state = await newer.reaches(SOUND, is_prepared)
    assert (state.segments, state.nbytes) == (5, 5 * SEGMENT_BYTES)
