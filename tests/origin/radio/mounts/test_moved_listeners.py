"""Listeners that are moved to another station: who may do it, and what they receive then."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from media.mp3.icy import Deinterleaver
from origin.access.protected_addresses import ProtectedAddresses, TokenGuard
from origin.access.token_keys import TokenKeys
from origin.radio.mounts.mount import Mount
from packager.radio.audio_blocks import AudioBlock
from packager.radio.intro import read_intro
from packager.radio.limits import StationLimits
from packager.radio.ogg_block_reader import MEDIA_TYPE as OGG
from packager.radio.ogg_block_reader import OggBlockReader
from tests.keys import ADMIN_TOKEN
from tests.ogg import ENCODERS, encoded, judged
from tests.patience import CLIENT_SECONDS
from tests.radio_server import FRAME_BYTES, Feed, Server, mount_options, numbered_frame, serving
from tests.waiting import until

SOURCE = f"Authorization: Basic {base64.b64encode(b'source:sesame').decode()}"
TOKEN = f"Authorization: Bearer {ADMIN_TOKEN}"


class OggFeed(Feed):
    """A source of Ogg."""

    media_type = OGG

    def give(self, block: AudioBlock) -> None:
        self._queue.put_nowait(block)


@asynccontextmanager
async def two_stations(
    one: Feed, other: Feed, guard: TokenGuard | None = None, **options: Any
) -> AsyncIterator[tuple[Mount, Mount, Server]]:
    """Serve the stations ``one``, whose source has a password, and ``other``, which has these options."""
    first = Mount("one", one, mount_options(intro=options.pop("intro", None)))
    second = Mount("other", other, mount_options(**options))
    async with serving({"one": first, "other": second}, passwords={"one": "sesame"}, guard=guard) as server:
        yield first, second, server


async def move(server: Server, *fields: str) -> int:
    path = "/admin/moveclients?mount=/radio/one&destination=/radio/other"
    return (await server.open(*fields, path=path)).status


async def destinations(server: Server, *fields: str) -> str:
    """Return what is listed where no destination is named."""
    client = await server.open(*fields, path="/admin/moveclients?mount=/radio/one")
    assert client.status == 200
    return (await client.body(int(client.headers["content-length"]))).decode()


SIGNED = TokenGuard(ProtectedAddresses(stations={"other": True}), TokenKeys())


@pytest.mark.parametrize(
    ("options", "guard"),
    [({"has_listener_webhook": True}, None), ({"listener_password": "hush"}, None), ({}, SIGNED)],
    ids=["webhook", "password", "token"],
)
async def test_a_sources_password_lets_nobody_hear_what_needs_permission(
    options: dict[str, Any], guard: TokenGuard | None
) -> None:
    one, other = Feed(), Feed()
    async with two_stations(one, other, guard, **options) as (first, second, server):
        one.push()
        other.push()
        await until(lambda: (first.state, second.state) == ("live", "live"))
        await server.open(path="/radio/one")
        assert await move(server, SOURCE) == 401
        assert (first.listeners, second.listeners) == (1, 0)
        for name, found in ((SOURCE, 0), (TOKEN, 1)):
            assert (await destinations(server, name)).count("/radio/other") == found
        assert await move(server, TOKEN) == 200
        assert (first.listeners, second.listeners) == (0, 1)


async def test_the_titles_of_one_that_is_moved_stay_where_they_were_announced(tmp_path: Path) -> None:
    """Also where it happens within the intro, of which the connection has taken a part only."""
    frames = b"".join(map(numbered_frame, range(10_000, 10_400)))
    (tmp_path / "intro.mp3").write_bytes(frames)
    intro = await asyncio.to_thread(read_intro, tmp_path / "intro.mp3", StationLimits())
    one, other = Feed(), Feed()
    async with two_stations(one, other, intro=intro) as (first, second, server):
        one.push(title="One")
        other.push(title="Other")
        await until(lambda: (first.title, second.title) == ("One", "Other"))
        listener = await server.open("Icy-MetaData: 1", path="/radio/one")
        await until(lambda: first.listeners == 1)
        assert await move(server, TOKEN) == 200
        splitter, audio = Deinterleaver(16000), b""
        other.begin_at(500)
        other.push(title="Other")
        end = numbered_frame(538)
        while not audio.endswith(end):
            async with asyncio.timeout(CLIENT_SECONDS):
                audio += b"".join(piece for piece, _ in splitter.receive_data(await listener.chunk()))
        block = b"".join(map(numbered_frame, range(500, 539)))
        assert audio.endswith(block)
        # What comes before is a beginning of the intro, without a byte that isn't audio.
        assert frames.startswith(audio.removesuffix(block))
        assert len(audio) > 39 * FRAME_BYTES
        assert splitter.title == "Other"


@pytest.mark.parametrize("codec", ENCODERS)
async def test_one_that_hears_ogg_gets_a_valid_chain(codec: str) -> None:
    def blocks(title: str) -> list[AudioBlock]:
        reader = OggBlockReader()
        return [*reader.receive_data(encoded(codec, title)), *reader.finish()]

    one, other = OggFeed(), OggFeed()
    async with two_stations(one, other) as (first, second, server):
        mine, others = blocks("Mine"), blocks("Others")
        one.give(mine[0])
        other.give(others[0])
        await until(lambda: (first.state, second.state) == ("live", "live"))
        listener = await server.open(path="/radio/one")
        await until(lambda: first.listeners == 1)
        assert await move(server, TOKEN) == 200
        for block in others[1:]:
            other.give(block)
        await other.settled()
        second.audience.close()
        data = b""
        async with asyncio.timeout(CLIENT_SECONDS):
            while chunk := await listener.chunk():
                data += chunk
    report = judged(data)
    assert (report.types, report.titles) == ([codec, codec], ["Mine", "Others"])
    assert len(set(report.serials)) == 2
    # Of the second it has not heard the beginning.
    assert [line for line in report.warnings if "gap" not in line and "discontinuity" not in line] == []
