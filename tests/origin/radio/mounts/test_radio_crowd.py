"""Any crowd at a mount: each hears a run of whole frames, or is told of what it missed, and none costs more.

The real listeners on real streams, their clients' sides played by hand: who reads, who doesn't, who leaves.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Coroutine
from fractions import Fraction
from itertools import pairwise
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from media.mp3.icy import Deinterleaver, Interleaver, metadata_block
from origin.http1.body_writer import LAST_CHUNK, Stream
from origin.radio.mounts.audio_ring import AudioRing
from origin.radio.mounts.limits import RadioLimits
from origin.radio.mounts.listener_media_time import ListenerTime, MediaTimeMark
from origin.radio.mounts.listeners import Listener, Listeners

T = TypeVar("T")

FRAME = Fraction(1152, 44100)
METAINT = 1000
SOCKET_BYTES = 30_000
"""What a client's kernel holds, about."""


def frame(number: int) -> bytes:
    """A whole frame: its number, its size, and bytes that belong to it; some are large, some small."""
    size = 500 + number * 7919 % 5000
    return number.to_bytes(4, "big") + size.to_bytes(4, "big") + bytes([number % 251]) * (size - 8)


def numbers(audio: bytes) -> list[int]:
    """Read frames back; fails unless there is nothing but whole ones."""
    found, position = [], 0
    while position < len(audio):
        number = int.from_bytes(audio[position : position + 4], "big")
        whole = frame(number)
        assert audio[position : position + len(whole)] == whole
        found.append(number)
        position += len(whole)
    return found


def unchunked(body: bytes) -> bytes:
    """Take the chunks apart (RFC 9112 §7.1); a last one may stand at the end."""
    parts, position = [], 0
    while position < len(body):
        line = body.index(b"\r\n", position)
        size = int(body[position:line], 16)
        parts.append(body[line + 2 : line + 2 + size])
        position = line + 2 + size + 2
        assert body[position - 2 : position] == b"\r\n"
    return b"".join(parts)


class Connection(asyncio.Transport):
    """A client's connection: what was written, and how much of it the client hasn't taken.

    Args:
        direct: whether it has a socket, on which may be written past the transport while nothing waits there.
    """

    def __init__(self, *, direct: bool) -> None:
        super().__init__()
        self._near, self._far = socket.socketpair()
        self._direct = direct
        self._near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        for end in (self._near, self._far):
            end.setblocking(False)
        self.written: list[bytes] = []
        self.waiting = 0
        self.cut = False

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._near if self._direct and name == "socket" else default

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._take_socket()
        self.written.append(bytes(data))
        self.waiting += len(data)

    def read(self, size: int) -> None:
        """Take bytes as the client does: what the kernel has first."""
        self._take_socket()
        self.waiting = max(self.waiting - size, 0)

    def _take_socket(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._far.fileno() >= 0 and (data := self._far.recv(1 << 20)):
                self.written.append(data)

    def everything(self) -> bytes:
        """All that was written, in its order."""
        self._take_socket()
        return b"".join(self.written)

    def abort(self) -> None:
        self.cut = True

    def close(self) -> None:
        self._near.close()
        self._far.close()


class Client:
    """A listener and what it should have heard."""

    def __init__(self, *, chunked: bool, titles: bool, direct: bool) -> None:
        self.connection = Connection(direct=direct)
        self.listener = Listener(Interleaver(METAINT) if titles else None)
        loop = asyncio.get_running_loop()
        self.stream = Stream(self.connection, loop, lambda: None, chunked=chunked, plain=direct)
        self.titles = titles
        self.told: list[MediaTimeMark] = []
        self.listener.listener_time = ListenerTime(self.told.append, RadioLimits())

    def written(self) -> int:
        """Bytes that were written to it, but for the end."""
        return len(self.connection.everything().removesuffix(LAST_CHUNK))

    def heard(self) -> list[int]:
        """The numbers of all frames that were written to it."""
        body = self.connection.everything()
        audio = unchunked(body) if self.stream.chunked else body
        if self.titles:
            audio = b"".join(piece for piece, _ in Deinterleaver(METAINT).receive_data(audio))
        return numbers(audio)

    def check(self) -> None:
        """Compare what it got with what it was told of the media time of that."""
        heard, places = self.heard(), deque(self.told)
        expected: list[Fraction] = []
        for index in range(len(heard)):
            while len(places) > 1 and places[1].position <= index * FRAME:
                places.popleft()
            expected.append(places[0].media_time + index * FRAME - places[0].position)
        assert [number * FRAME for number in heard] == expected
        assert heard == sorted(set(heard))
        breaks = sum(after != before + 1 for before, after in pairwise(heard))
        assert breaks <= len(self.told) - 1


class Crowd(RuleBasedStateMachine):
    """Listeners of one mount; others on the loop have a turn behind every second one."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = 0
        self.bytes = 0
        self.largest = 0
        self.written = 0
        self.dropped = 0
        self.present: list[Client] = []
        self.gone: list[Client] = []
        self.loop: asyncio.AbstractEventLoop | None = None

    @initialize(
        queue=st.integers(20, 300),
        burst=st.integers(0, 60),
        skips=st.booleans(),
        kinds=st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=5),
    )
    def open(self, queue: int, burst: int, skips: bool, kinds: list[tuple[bool, bool, bool]]) -> None:
        self.loop = asyncio.new_event_loop()
        self.limits = RadioLimits(
            burst_bytes=burst * 1024, queue_bytes=queue * 1024, skips=skips, written_at_once=2
        )
        self.ring = AudioRing(max(self.limits.queue_bytes, self.limits.burst_bytes, RadioLimits().ring_bytes))
        self.crowd = Listeners("test", self.ring, self.limits, lambda: 0.0, self.note)
        for chunked, titles, direct in kinds:
            self.come(chunked=chunked, titles=titles, direct=direct)

    def do(self, act: Coroutine[None, None, T]) -> T:
        """Do something in the event loop."""
        assert self.loop is not None
        return self.loop.run_until_complete(act)

    def note(self, size: int) -> None:
        self.written += size

    @rule(chunked=st.booleans(), titles=st.booleans(), direct=st.booleans())
    def come(self, chunked: bool, titles: bool, direct: bool) -> None:
        async def enter() -> Client:
            client = Client(chunked=chunked, titles=titles, direct=direct)
            self.crowd.enter(client.listener, client.stream)
            return client

        self.present.append(self.do(enter()))

    @rule(blocks=st.sampled_from((1, 5, 20)), count=st.sampled_from((1, 4, 12)), title=st.sampled_from("ab"))
    def play(self, blocks: int, count: int, title: str) -> None:
        for _ in range(blocks):
            parts = [frame(self.frames + index) for index in range(count)]
            cuts = [sum(map(len, parts[:index])) for index in range(count)]
            data = b"".join(parts)
            self.largest = max(self.largest, len(data))
            self.frames += count
            self.bytes += len(data)
            self.ring.append(data, metadata_block(title), tuple(cuts), count * FRAME)
            self.do(self.crowd.flush())
            self.see_who_was_dropped()

    def see_who_was_dropped(self) -> None:
        for client in [client for client in self.present if client.connection.cut]:
            assert not self.limits.skips
            behind = client.connection.waiting + self.bytes - self.position(client)
            assert behind > self.limits.queue_bytes or self.bytes - self.position(client) > self.ring.capacity
            self.dropped += 1
            self.hang_up(client)

    def position(self, client: Client) -> int:
        """Bytes that were played up to where a listener's audio ends."""
        return sum(len(frame(number)) for number in range(self.next_of(client)))

    def next_of(self, client: Client) -> int:
        return int(client.listener.cursor.media_time / FRAME)

    @precondition(lambda self: self.present)
    @rule(data=st.data(), size=st.integers(1, 400 * 1024))
    def read(self, data: st.DataObject, size: int) -> None:
        client = data.draw(st.sampled_from(self.present))
        client.connection.read(size)

    @rule(blocks=st.integers(1, 10))
    def play_to_those_who_take_all(self, blocks: int) -> None:
        for _ in range(blocks):
            for client in self.present:
                client.connection.read(client.connection.waiting)
            self.play(1, 8, "a")

    @precondition(lambda self: self.present)
    @rule(data=st.data(), turns=st.integers(1, 3), blocks=st.integers(1, 2))
    def leave_while_others_are_written_to(self, data: st.DataObject, turns: int, blocks: int) -> None:
        client = data.draw(st.sampled_from(self.present))

        async def play() -> None:
            for _ in range(blocks):
                whole = frame(self.frames)
                self.largest = max(self.largest, len(whole))
                self.frames += 1
                self.bytes += len(whole)
                self.ring.append(whole, duration=FRAME)
            flushing = asyncio.ensure_future(self.crowd.flush())
            for _ in range(turns):
                await asyncio.sleep(0)
            if not client.connection.cut:
                client.stream.hang_up()
            await flushing

        self.do(play())
        if not client.connection.cut:
            self.part_from(client)
        self.see_who_was_dropped()

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.hang_up(data.draw(st.sampled_from(self.present)))

    def hang_up(self, client: Client) -> None:
        client.stream.hang_up()
        self.part_from(client)

    def part_from(self, client: Client) -> None:
        client.check()
        client.connection.close()
        self.present.remove(client)
        self.gone.append(client)

    @rule()
    def change_the_type(self) -> None:
        """As a mount does for a source of another type: all come again."""
        held = [client for client in self.present if self.ring.lag(client.listener.cursor)]

        async def close() -> None:
            self.crowd.close()

        self.do(close())
        self.ring.clear()
        for client in list(self.present):
            assert client.stream.closed or client.connection.cut
            assert client.connection.cut <= (client in held)
            self.hang_up(client)

    @invariant()
    def those_are_counted_who_are_there(self) -> None:
        assert len(self.crowd) == len(self.present) >= self.ring.cursors
        assert all(client.listener.done.done() for client in self.gone)
        everybody = [*self.present, *self.gone]
        assert self.crowd.dropped == self.dropped
        assert self.crowd.skipped == sum(len(client.told) - 1 for client in everybody)
        assert self.written == sum(map(Client.written, everybody))
        assert all(client.written() == client.stream.sent for client in self.gone)

    @invariant()
    def no_listener_costs_more_than_its_share(self) -> None:
        assert self.ring.size <= self.ring.capacity
        for client in self.present:
            # Begun below the limit; then one reading of the ring, which is a block or the limit, and framing.
            write_bytes = self.limits.write_bytes
            most = write_bytes + max(write_bytes, self.largest) * (2 if client.titles else 1)
            assert client.connection.waiting <= most

    def teardown(self) -> None:
        if self.loop is not None:
            self.loop.close()
        for client in self.present:
            client.check()
            client.connection.close()


TestCrowd = Crowd.TestCase
TestCrowd.settings = settings(max_examples=50, stateful_step_count=20, deadline=None)


def test_a_listener_whose_queue_is_smaller_than_its_burst_hears_nothing_twice() -> None:
    crowd = Crowd()
    crowd.open(queue=20, burst=60, skips=True, kinds=[(False, False, False), (True, True, False)])
    crowd.play(2, 12, "a")
    crowd.play_to_those_who_take_all(3)
    crowd.play(2, 12, "a")
    crowd.play_to_those_who_take_all(1)
    crowd.teardown()


def test_those_who_have_had_everything_are_written_to_together_until_they_fall_behind() -> None:
    crowd = Crowd()
    kinds = [(chunked, False, True) for chunked in (False, True, False, True, False, True)]
    crowd.open(queue=300, burst=60, skips=False, kinds=kinds)
    crowd.play_to_those_who_take_all(2)
    assert crowd.ring.cursors == 0
    crowd.hang_up(crowd.present[2])
    # More than their kernels hold, and nobody reads.
    crowd.play(5, 12, "a")
    assert crowd.ring.cursors == len(crowd.present) == 5
    crowd.those_are_counted_who_are_there()
    crowd.play_to_those_who_take_all(3)
    assert crowd.ring.cursors == 0
    # Two blocks at once, as after a loop that was held up.
    for _ in range(2):
        crowd.ring.append(frame(crowd.frames), duration=FRAME)
        crowd.frames += 1
    crowd.do(crowd.crowd.flush())
    assert crowd.ring.cursors == 0
    crowd.those_are_counted_who_are_there()
    crowd.teardown()
