"""Channels of another server's HLS: changes of its size, and sound beside its picture."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from packager.live.channel import Channel
from packager.live.limits import LiveLimits
from packager.process.ffmpeg_discovery import Tools
from packager.sources.limits import SOURCE_RETRY, SourceLimits
from packager.window.window import Window
from tests.packager.hls_upstream import Listed, Programme, add, segments, serving
from tests.packager.sources.picture_widths import width_of
from tests.packager.sources.pulled_sources import pulling
from tests.programs import program
from tests.waiting import until

BREAK = "#EXT-X-DISCONTINUITY"
SEEN_SECONDS = 2
"""For how long a source is looked at whose picture is kept."""

LARGE_SECONDS, SMALL_SECONDS = 40, 12
"""For how long it is large at most, until it is watched; and small."""

PATIENCE = 1000
"""How late anything may be: a busy machine stands still, and here the source's own breaks count."""


LIMITS = LiveLimits(
    stall_seconds=PATIENCE,
    gap_target_durations=PATIENCE,
    source=SourceLimits(seen_seconds=SEEN_SECONDS, still_target_durations=PATIENCE),
)


def source_of(channel: Channel) -> Window:
    return channel.renditions["source"].window


async def watched(channel: Channel) -> Window:
    """Wait until two segments of the small picture are there, behind some of the large one."""
    await until(
        lambda: sum(width_of(one) == 160 and bool(one.data) for one in source_of(channel).listed) >= 2
    )
    window = source_of(channel)
    widths = [width_of(one) for one in window.listed if one.data]
    assert [width for width, _ in itertools.groupby(widths)] == [320, 160]
    (changed,) = [one for one in window.listed if one.discontinuity and one.data]
    assert width_of(changed) == 160
    assert changed.parts[0].independent
    playlist = channel.presentation.media("source").decode()
    # RFC 8216bis §4.4.4.3: the discontinuity, and a map of its own for what is behind it
    assert f'#EXT-X-MAP:URI="init-{changed.number}.mp4"' in playlist.rpartition("#EXT-X-DISCONTINUITY\n")[2]
    return window


def encrypted(path: Path, key: bytes, ivs: Iterator[str]) -> None:
    """Let OpenSSL encrypt a folder's segments, each with an initialization vector of its own."""
    for file in sorted(path.glob("*.ts"), key=lambda one: int(one.stem)):
        words = f"enc -aes-128-cbc -K {key.hex()} -iv {next(ivs)}".split()
        file.write_bytes(
            subprocess.run(
                [program("openssl"), *words], input=file.read_bytes(), check=True, capture_output=True
            ).stdout
        )


async def test_a_change_of_size_in_a_pulled_encrypted_playlist_is_a_discontinuity_with_its_init_segment(
    tools: Tools, tmp_path: Path
) -> None:
    programme = Programme()

    async def follows(name: str, made: Path, vectors: Iterator[str], told: str) -> None:
        key = programme.files[f"{name}.key"] = os.urandom(16)
        await asyncio.to_thread(encrypted, made, key, vectors)
        # No tag says the size: the bytes do.
        add(programme, "live.m3u8", made, f'#EXT-X-KEY:METHOD=AES-128,URI="{name}.key"{told}')

    large, small = [
        await asyncio.to_thread(segments, tmp_path, name, size, "mpegts", seconds)
        for name, size, seconds in (("large", "320x240", LARGE_SECONDS), ("small", "160x120", SMALL_SECONDS))
    ]
    # RFC 8216bis §5.2: the vector is told, or it is the media sequence number.
    await follows("large", large, itertools.repeat("0123456789abcdef" * 2), ",IV=0x" + "0123456789ABCDEF" * 2)
    with capture_logs() as logs, serving(programme) as url:
        async with pulling(f"{url}/live.m3u8?key=secret", tools, ("source",), limits=LIMITS) as channel:
            await until(lambda: channel.ready)
            numbers = itertools.count(programme.stop_short())
            await follows("small", small, (f"{number:032x}" for number in numbers), "")
            await watched(channel)
            assert channel.restarts == 1
    assert len(logs) <= 4
    assert "secret" not in str(logs)
    media = [name for name in programme.asked if name.endswith(".ts")]
    assert len(media) == len(set(media)), "each segment is fetched once"
    assert sorted(name for name in programme.asked if name.endswith(".key")) == ["large.key", "small.key"]


async def test_a_session_that_a_redirect_sets_as_a_cookie_lasts_while_others_come(
    tools: Tools, tmp_path: Path
) -> None:
    programme = Programme(session="a4f1", before=4)
    # More than the four at once: where a machine stands still, the channel may begin behind some of them.
    made = await asyncio.to_thread(segments, tmp_path, "all", "160x120", seconds=LARGE_SECONDS)
    add(programme, "live.m3u8", made)
    with serving(programme) as url:
        async with pulling(f"{url}/start.m3u8", tools, ("source",), limits=LIMITS) as channel:
            await until(lambda: channel.ready)
            await until(lambda: programme.asked.count("live.m3u8") > 4, "playlists with the same session")
    assert programme.asked.count("start.m3u8") == 2, "one tells that it is HLS"


async def test_what_is_encrypted_in_another_way_is_refused_in_one_line(
    tools: Tools,
) -> None:
    # Behind an attempt that lasted longer than this a refusal is news again.
    patient = dataclasses.replace(SOURCE_RETRY, steady_seconds=PATIENCE)
    limits = dataclasses.replace(LIMITS, source=dataclasses.replace(LIMITS.source, retry=patient))
    programme = Programme()
    programme.playlists["live.m3u8"] = [Listed("a.ts", '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="a.key"')]
    with capture_logs() as logs, serving(programme) as url:
        async with pulling(f"{url}/live.m3u8", tools, limits=limits):
            await until(lambda: len(programme.asked) > 4)
    assert [line["reason"] for line in logs] == [
        "its segments are encrypted by SAMPLE-AES of identity: only AES-128 is taken"
    ]


@pytest.mark.parametrize("kind", ["fmp4", "mpegts"])
async def test_a_picture_and_its_sound_in_playlists_of_their_own_are_one_channel_over_a_change(
    tools: Tools, tmp_path: Path, kind: str
) -> None:
    programme = Programme()
    programme.files["master.m3u8"] = (
        b'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",DEFAULT=YES,URI="sound.m3u8"\n'
        b'#EXT-X-STREAM-INF:BANDWIDTH=1000,AUDIO="a"\nnowhere.m3u8\n'
        b'#EXT-X-STREAM-INF:BANDWIDTH=500000,AUDIO="a"\npicture.m3u8\n'
    )
    behind: dict[str, Path] = {}
    for what in ("picture", "sound"):
        made = await asyncio.to_thread(segments, tmp_path, f"{what}-1", "320x240", kind, LARGE_SECONDS)
        add(programme, f"{what}.m3u8", made)
        behind[what] = await asyncio.to_thread(
            segments, tmp_path, f"{what}-2", "160x120", kind, SMALL_SECONDS
        )
    with serving(programme) as url:
        async with pulling(f"{url}/master.m3u8", tools, ("source",), limits=LIMITS) as channel:
            await until(lambda: channel.ready)
            programme.stop_short()
            for what, made in behind.items():
                add(programme, f"{what}.m3u8", made, BREAK)
            window = await watched(channel)
            sound = channel.renditions["audio"].window
            first = max(one.listed[0].number for one in (window, sound))
            last = min(one.listed[-1].number for one in (window, sound))
            shown, heard = (
                [one.number for one in two.listed if one.data and first <= one.number <= last]
                for two in (window, sound)
            )
            assert shown == heard
            assert "nowhere.m3u8" not in programme.asked
