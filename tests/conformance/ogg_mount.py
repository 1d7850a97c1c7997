"""A mount of Ogg that a test is the source of, and what its listeners get."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from origin.radio.mounts.mount import Mount
from origin.radio.mounts.options import MountOptions
from packager.radio.source_client_station import SourceClientStation
from tests.radio_server import LIMIT, Client, Server, mount_options, serving
from tests.waiting import until

PASSWORD = "pw"


AUTH = "Authorization: Basic c291cmNlOnB3"  # source:pw, by coreutils' base64


OGG = "application/ogg"


@contextlib.asynccontextmanager
async def published(
    options: MountOptions | None = None, silent_seconds: float = LIMIT
) -> AsyncIterator[tuple[Mount, Server]]:
    """Serve one mount for a source client."""
    mount = Mount("test", SourceClientStation(128, OGG), options or mount_options(hold_seconds=60))
    async with serving(
        {"test": mount}, passwords={"test": PASSWORD}, silent_seconds=silent_seconds
    ) as server:
        yield mount, server


async def send(server: Server, mount: Mount, data: bytes, until_time: float, name: str = "test") -> Client:
    """Send a source's audio, and wait until so many seconds of the mount are out."""
    source = await server.source(name, AUTH, media_type=OGG)
    source.writer.write(data)
    await until(lambda: mount.media_time >= until_time, "the audio")
    return source


async def rest(client: Client) -> bytes:
    """Read a body to its end."""
    data = b""
    while chunk := await client.chunk():
        data += chunk
    return data


async def heard(mount: Mount, client: Client) -> bytes:
    """End the mount, and give what a listener got."""
    mount.close()
    return await rest(client)
