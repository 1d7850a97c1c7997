"""origin.live.handler: requests and replies of live channels, without a wire."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from fractions import Fraction

import pytest

from origin.answers.reply import Pending, Reply
from origin.answers.request import Request, request_from_headers
from origin.http.client_limits import ClientLimit
from origin.live.handler import LiveHandler, OtherProcesses
from origin.live.media_requests import PastMedia
from packager.publish.live_stream import LiveStream
from packager.window.limits import DEFAULT_LIMITS
from packager.window.model import LivePart
from tests.origin.live.replies import Received, later, reply_of
from tests.origin.live.served_log import NoCommands
from tests.packager.made_channel import NUMBER, PARTS, Maker, begin_late

CLIENT = "203.0.113.5"
SEGMENTS = 3
NEXT = NUMBER + SEGMENTS
"""The segment that comes."""

PLAYLIST = "240p/media.m3u8"
NEXT_PLAYLIST = f"{PLAYLIST}?_HLS_msn={NEXT}&_HLS_part=0"
NEXT_PART = f"240p/{NEXT}.0.m4s"
NEXT_SEGMENT = f"240p/{NEXT}.m4s"


class Served:
    """A channel that a test makes by hand, and its handler."""

    def __init__(
        self, *, blocked: int = 100, waiters: int = 2000, others: OtherProcesses | None = None
    ) -> None:
        limits = DEFAULT_LIMITS.with_waiters(waiters)
        self.maker = Maker(dvr=False)
        for _ in range(SEGMENTS):
            self.maker.act("segment")
        self.stream = LiveStream("test", NoCommands(), limits, clock=self.maker.clock)
        self.stream.wall_clock = lambda: float(NEXT)
        begin_late(self.maker, self.stream)
        self.maker.log.follow(self.stream.fold)
        self.streams = {"test": self.stream}
        limit = ClientLimit(blocked)
        self.handler = LiveHandler(self.streams, blocked=limit, past=PastMedia(), others=others)

    def handle(self, name: str, method: str = "GET", *fields: tuple[bytes, bytes]) -> Reply | Pending | None:
        """Handle a request for a name below the channel's address."""
        return self.handler.handle(request(f"/live/test/{name}", method, *fields))

    def wait(self, name: str, method: str = "GET") -> tuple[Pending, Received]:
        """Handle a request that has to wait."""
        pending, received = later(self.handle(name, method)), Received()
        pending.start(received)
        return pending, received


def request(target: str, method: str = "GET", *fields: tuple[bytes, bytes]) -> Request:
    return request_from_headers(method, target.encode(), fields, CLIENT)


def body_of(reply: Reply) -> bytes:
    pieces = [piece for piece in reply.body if isinstance(piece, bytes | memoryview)]
    assert len(pieces) == len(reply.body)
    return b"".join(pieces)


def field(reply: Reply, name: str) -> str | None:
    return dict(reply.head.fields).get(name.encode(), b"").decode() or None


def statuses(received: Sequence[Received]) -> list[int]:
    return [one.head.status for each in received for one in each.replies]


async def settle() -> None:
    """Let callbacks of the loop run that are due."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_what_is_there_is_replied_at_once() -> None:
    served = Served()
    segment = served.stream.renditions["240p"].window.segment(NUMBER)
    assert segment is not None
    for name in (f"240p/{NUMBER}.m4s", f"%32%340p/{NUMBER}%2em4s?token=x", f"240p%2F{NUMBER}.m4s"):
        assert body_of(reply_of(served.handle(name))) == segment
    reply = reply_of(served.handle(f"240p/{NUMBER}.m4s", "HEAD"))
    assert (reply.head.status, body_of(reply)) == (200, b"")
    assert field(reply, "content-length") == str(len(segment))
    reply = reply_of(served.handle(f"240p/{NUMBER}.m4s", "GET", (b"range", b"bytes=1-3")))
    assert (reply.head.status, body_of(reply)) == (206, segment[1:4])
    etag = dict(reply.head.fields)[b"etag"]
    reply = reply_of(served.handle(f"240p/{NUMBER}.m4s", "GET", (b"if-none-match", etag)))
    assert (reply.head.status, body_of(reply)) == (304, b"")


@pytest.mark.clause("RFC 8216bis §6.2.6 SHOULD 3")
async def test_a_hinted_part_that_never_comes_is_not_found_as_soon_as_the_numbers_go_on() -> None:
    served = Served()
    served.maker.act("one part")
    _, received = served.wait(f"240p/{NEXT}.1.m4s")
    assert received.replies == []
    served.maker.writers["240p"].break_off()
    await settle()
    assert statuses([received]) == [404]


async def test_all_who_wait_for_a_part_get_one_reply_in_one_pass() -> None:
    served = Served(blocked=1000)
    waiting = [served.wait(NEXT_PLAYLIST)[1] for _ in range(200)]
    assert served.stream.blocked == 200
    served.maker.act("one part")
    assert statuses(waiting) == []
    await settle()
    assert statuses(waiting) == [200] * 200
    assert len({id(each.replies[0]) for each in waiting}) == 1
    assert f"{NEXT}.0.m4s".encode() in body_of(waiting[0].replies[0])


@pytest.mark.parametrize("name", [NEXT_PLAYLIST, NEXT_PART, NEXT_SEGMENT])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_client_has_no_more_requests_wait_than_it_may(name: str, method: str) -> None:
    served = Served(blocked=2)
    first, _ = served.wait(name, method)
    _, second = served.wait(name, method)
    _, third = served.wait(name, method)
    assert statuses([third]) == [429]
    assert (field(third.replies[0], "retry-after"), served.stream.blocked) == ("10", 2)
    # What needs no wait is replied all the same.
    assert reply_of(served.handle(PLAYLIST)).head.status == 200
    first.cancel()
    assert served.stream.blocked == 1
    _, fourth = served.wait(name, method)
    served.maker.act("one part")
    await settle()
    assert statuses([second, fourth]) == [200, 200]
    for each in (*second.replies, *fourth.replies):
        each.release()
    _, fifth = served.wait(f"240p/{NEXT}.1.m4s")
    _, sixth = served.wait(f"240p/{NEXT}.1.m4s")
    assert statuses([fifth, sixth]) == []


async def test_an_open_segment_counts_among_the_blocked_requests_until_its_reply_is_released() -> None:
    served = Served(blocked=1)
    served.maker.act("one part")
    _, received = served.wait(NEXT_SEGMENT)
    (reply,) = received.replies
    assert reply.stream is not None
    first = await anext(reply.stream)
    assert first == served.stream.renditions["240p"].window.part(NEXT, 0)
    assert statuses([served.wait(NEXT_SEGMENT)[1]]) == [429]
    for _ in range(PARTS - 1):
        served.maker.act("one part")
    rest = [chunk async for chunk in reply.stream]
    assert b"".join([first, *rest]) == served.stream.renditions["240p"].window.segment(NEXT)
    assert statuses([served.wait(f"240p/{NEXT + 1}.m4s")[1]]) == [429]
    reply.release()
    assert statuses([served.wait(f"240p/{NEXT + 1}.m4s")[1]]) == []


@pytest.mark.parametrize(("name", "max_age"), [(NEXT_PLAYLIST, 4), (NEXT_PART, 1), (NEXT_SEGMENT, 1)])
async def test_where_too_many_wait_already_the_next_is_told_to_come_again(name: str, max_age: int) -> None:
    served = Served(waiters=1)
    served.wait(name)
    _, received = served.wait(name)
    (reply,) = received.replies
    assert reply.head.status == 503
    assert field(reply, "cache-control") == f"public, max-age={max_age}"
    assert field(reply, "retry-after") == str(max_age)


async def test_what_is_not_here_is_left_to_others_and_changes_nothing() -> None:
    served = Served(others=OtherProcesses(may_have_channel=lambda name: name == "elsewhere"))
    for target in (
        "/live/none/master.m3u8",
        "/live/test/x",
        "/live/test/240p/",
        "/live/test/a/b/c",
        "/live/test",
    ):
        assert served.handler.handle(request(target)) is None
    assert served.stream.viewers == 0
    assert served.handler.absent(request("/live/none/master.m3u8")).head.status == 404
    reply = served.handler.absent(request("/live/elsewhere/240p/1.m4s"))
    assert (reply.head.status, field(reply, "cache-control")) == (503, "no-store")


async def test_what_another_process_answers_is_left_to_it_unless_it_is_here_for_certain() -> None:
    served = Served(others=OtherProcesses(answer=lambda stream, address: True))
    assert served.handle("master.m3u8") is None
    assert served.handle("none/media.m3u8") is None
    assert served.handle(f"240p/{NEXT}.m4s") is None
    assert served.stream.viewers == 0
    assert reply_of(served.handle(f"240p/{NUMBER}.m4s")).head.status == 200


async def test_a_player_is_counted_once_for_whatever_it_asks() -> None:
    served = Served()
    for name in (PLAYLIST, "master.m3u8", f"{PLAYLIST}?_HLS_part=1", f"{PLAYLIST}?_HLS_msn={NEXT + 9}"):
        assert isinstance(served.handle(name), Reply)
    later = served.handle("manifest.mpd")
    assert isinstance(later, Pending)
    later.cancel()
    assert served.stream.viewers == 1
    served.handle(PLAYLIST, "GET", (b"user-agent", b"another"))
    assert served.stream.viewers == 2


async def test_the_kernel_sends_large_media_that_are_asked_for_again_as_long_as_they_are_there() -> None:
    served = Served()
    data = bytes(range(256)) * 400
    window = served.stream.renditions["240p"].window
    window.append(LivePart(data, Fraction(1, 4), independent=True), Fraction(NEXT), ends_segment=False)
    assert reply_of(served.handle(NEXT_PART)).repeat is None
    reply = reply_of(served.handle(NEXT_PART))
    assert reply.source is not None
    assert reply.repeat is not None
    assert await reply.source.read(0, len(data)) == data
    found = reply.repeat.current()
    assert found is not None
    assert found[0].fields == reply.head.fields
    assert found[1] is reply.source
    reply = reply_of(served.handle(NEXT_PART, "GET", (b"range", b"bytes=1-2")))
    assert (reply.head.status, body_of(reply), reply.repeat) == (206, data[1:3], None)
    repeat = reply_of(served.handle(NEXT_PART)).repeat
    del served.streams["test"]
    assert repeat is not None
    assert repeat.current() is None


async def test_a_failure_is_told_and_the_place_of_the_request_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = Served(blocked=1)
    _, received = served.wait(NEXT_PLAYLIST)
    with monkeypatch.context() as patch:
        patch.setattr(type(served.stream.presentation), "media_pieces", lambda *_, **__: 1 / 0)
        served.maker.act("one part")
        await settle()
    assert [type(error) for error in received.errors] == [ZeroDivisionError]
    assert statuses([served.wait(f"{PLAYLIST}?_HLS_msn={NEXT}&_HLS_part=1")[1]]) == []


async def test_a_task_that_makes_a_reply_ends_with_its_request() -> None:
    served = Served(blocked=1)
    pending, received = served.wait("manifest.mpd")
    pending.cancel()
    await settle()
    assert (received.replies, received.errors) == ([], [])
    _, received = served.wait("manifest.mpd")
    await settle()
    assert statuses([received]) == [200]


class Postponed(NoCommands):
    """The commands of a channel that nobody publishes to."""

    def is_postponed(self) -> bool:
        return True


@pytest.mark.parametrize(
    "name",
    [
        *("master.m3u8", "manifest.mpd", "master.m3u8?start=now-1h", "master.m3u8?delay=1h"),
        *("clip.mp4?start=now-1h", "snapshot.jpg?at=now", "thumbnails.vtt"),
    ],
)
def test_a_channel_without_media_says_so_at_every_address(name: str) -> None:
    one = Served()
    maker = Maker(dvr=False)
    stream = LiveStream("test", Postponed(), DEFAULT_LIMITS, clock=maker.clock)
    begin_late(maker, stream)
    maker.log.follow(stream.fold)
    one.streams["test"] = stream
    reply = reply_of(one.handle(name))
    assert reply.head.status == 503
    assert list(reply.body) == [b"the channel has no media yet; /api/live has its state\n"]
    assert field(reply, "retry-after") == str(stream.target_duration)
