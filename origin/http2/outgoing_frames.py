"""Frames that a connection makes without the library, and their place in the windows of the client.

Those with the bytes of bodies are made in runs of 64 KiB, because h2 copies each of them several times.
"""

from __future__ import annotations

from typing import ClassVar

from origin.answers.pieces import TruncatedFileError
from origin.answers.reply import Reply
from origin.http.answer import Headers
from origin.http2.engine import FrameEngine
from origin.http2.frames import DATA, HEADERS, MOST_PAYLOAD, RST_STREAM, FrameBudget, frame_start
from origin.http2.known_requests import END_HEADERS, END_STREAM, HeadBlocks, body_bytes
from origin.http_streams.connection import RUN_BYTES
from origin.http_streams.outgoing_body import OutgoingBody
from origin.http_streams.stream import INTERNAL_ERROR

Frames = list[bytes | memoryview]
"""Heads of frames, and payloads."""


class OutgoingFrames:
    """The frames of one connection.

    Args:
        budget: allows what the frames cause the client to send.

    Attributes:
        frames: the frames of whole replies, which wait to be sent.
        nbytes: bytes of their payloads.
    """

    head_blocks: ClassVar[HeadBlocks] = HeadBlocks()

    def __init__(self, h2: FrameEngine, budget: FrameBudget) -> None:
        self._h2 = h2
        self._budget = budget
        self.frames: Frames = []
        self.nbytes = 0

    def collect(self) -> Frames:
        """Return what h2 has made, and behind it the frames that wait."""
        found = [self._h2.data_to_send(), *self.frames]
        self.frames.clear()
        self.nbytes = 0
        return found

    def fits(self, reply: Reply, data: bytes | memoryview | None) -> bool:
        """Return whether all of a reply can be sent at once.

        Args:
            data: its body, where that lies in memory in one piece.
        """
        if data is not None:
            size: float = len(data)
        elif reply.stream is not None or (reply.source is not None and reply.source.descriptor() is None):
            return False
        else:
            size = body_bytes(reply.body)
        h2 = self._h2
        if size > RUN_BYTES or size > h2.outbound_flow_control_window:
            return False
        return size <= h2.remote_settings.initial_window_size

    def add_reply(
        self, number: int, reply: Reply, data: bytes | memoryview | None, others: tuple[Headers, Headers]
    ) -> int:
        """Add a reply that fits, whose stream is over then; return how many bytes its body has.

        Args:
            data: its body, where that lies in memory in one piece.
            others: further header fields, before its own and behind them; see `HeadBlocks`.

        Raises:
            OSError, TruncatedFileError: its file can't be read; the stream was ended.
        """
        block = self.head_blocks.of(reply.head, *others)
        frames, sent = self.frames, 0
        if data is not None:
            sent = len(data)
            flags = END_HEADERS if sent else END_HEADERS | END_STREAM
            frames += frame_start(len(block), HEADERS, flags, number), block
            if sent:
                self.add_data(number, data, frames, END_STREAM)
            self.nbytes += len(block) + sent
            return sent
        body = OutgoingBody()
        body.add_all(reply.body, reply.source)
        flags = END_HEADERS if body else END_HEADERS | END_STREAM
        frames += frame_start(len(block), HEADERS, flags, number), block
        try:
            while body:
                data = body.read(RUN_BYTES)
                sent += len(data)
                self.add_data(number, data, frames, END_STREAM * (not body))
        except (OSError, TruncatedFileError):
            frames += frame_start(4, RST_STREAM, 0, number), INTERNAL_ERROR.to_bytes(4)
            raise
        finally:
            self.nbytes += len(block) + sent
        return sent

    def add_data(self, number: int, data: bytes | memoryview, frames: Frames, flags: int = 0) -> None:
        """Append DATA frames with some bytes, of which the last one has the flags.

        Args:
            frames: to which they are appended.
        """
        count, start = len(data), 0
        if count > MOST_PAYLOAD:
            data = memoryview(data)
            for start in range(0, count - MOST_PAYLOAD, MOST_PAYLOAD):
                frames += frame_start(MOST_PAYLOAD, DATA, 0, number), data[start : start + MOST_PAYLOAD]
            start += MOST_PAYLOAD
        frames += frame_start(count - start, DATA, flags, number), data[start:]
        self._h2.outbound_flow_control_window -= count
        self._budget.sent(-(-count // MOST_PAYLOAD))
