"""A node that doesn't make a channel has none of its programmes, and says so."""

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
async def test_another_node_answers_for_the_programmes_of_its_channel(name: str) -> None:
    stream, store = made_stream(), ProgrammeStore("test", None)
    await store.replace([Programme("on", (NUMBER + 1) * 1000, (NUMBER + 900) * 1000)])
    is_elsewhere = True
    directory = ChannelProgrammes({"test": store}, {}, lambda _: is_elsewhere)
    past = PastMedia(programmes=directory)
    for handler in (LiveHandler({"test": stream}, past=past), LiveHandler({"test": stream})):
        reply = reply_of(handler.handle(request(f"{name}?programme=on")))
        assert reply.head.status == 501
    # A worker leaves the request to the process that has the programmes.
    left = LiveHandler({"test": stream}, others=OtherProcesses(answer=lambda _, __: True))
    assert left.handle(request(f"{name}?programme=on")) is None
    is_elsewhere = False
    clip = LiveHandler({"test": stream}, past=past).handle(request("clip.mp4?programme=on"))
    assert reply_of(clip).head.status == 302
