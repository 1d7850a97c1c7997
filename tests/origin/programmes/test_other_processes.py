"""Processes that have no programmes of a channel, or not yet."""

from __future__ import annotations

import pytest

from origin.answers.request import Request, request_from_headers
from origin.live.handler import LiveHandler, OtherProcesses
from origin.live.media_requests import PastMedia
from origin.programmes.channel_programmes import ChannelProgrammes
from packager.past.programmes import Programme
from packager.programmes.store import ProgrammeStore
from packager.publish.live_stream import LiveStream
from tests.origin.live.replies import reply_of
from tests.origin.live.served_log import NoCommands
from tests.packager.made_channel import NUMBER, Maker, begin_late


def request(name: str) -> Request:
    return request_from_headers("GET", f"/live/test/{name}".encode(), [], "203.0.113.5")


def made_stream() -> LiveStream:
    maker = Maker(dvr=False)
    for _ in range(3):
        maker.act("segment")
    stream = LiveStream("test", NoCommands(), clock=maker.clock)
    stream.wall_clock = lambda: float(NUMBER + 3)
    begin_late(maker, stream)
    return stream


@pytest.mark.parametrize(
    "name", ["master.m3u8", "manifest.mpd", "240p/media.m3u8", "clip.mp4", "thumbnails.vtt"]
)
async def test_programmes_of_other_nodes_are_found_once_they_are_read(name: str) -> None:
    stream, store = made_stream(), ProgrammeStore("test", None)
    directory = ChannelProgrammes({}, {})
    handler = LiveHandler({"test": stream}, past=PastMedia(programmes=directory))

    def status(path: str) -> int:
        return reply_of(handler.handle(request(f"{path}?programme=on"))).head.status

    assert status(name) == 404
    directory.elsewhere = {"test": store}.get
    assert status(name) == 503
    await store.replace([Programme("on", (NUMBER + 1) * 1000, (NUMBER + 900) * 1000)])
    assert status("clip.mp4") == 302
    # A process without any answers 404, and a worker leaves the request to the process that has them.
    without = LiveHandler({"test": stream})
    assert reply_of(without.handle(request(f"{name}?programme=on"))).head.status == 404
    left = LiveHandler({"test": stream}, others=OtherProcesses(answer=lambda _, __: True))
    assert left.handle(request(f"{name}?programme=on")) is None
