"""Writes a station's audio blocks to the standard input of its live channel's ffmpeg."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from media.mp3.frame import parse_frame_header
from packager.process.process import Process
from packager.radio.audio_blocks import AudioBlock
from packager.radio.live_encoder_queue import BlockQueue
from packager.radio.ogg_chain import OggJoiner
from packager.window.program_date_time import Instant, Timing

HELD_SECONDS = 0.2
"""Audio that ffmpeg holds back until more arrives: the demuxer's packet and the encoder's delay."""


@dataclass(frozen=True, slots=True)
class EncoderInput:
    """The properties of a stream that can't change while one ffmpeg reads it.

    Attributes:
        container: ffmpeg's name of the container.
        sample_rate: in Hz.
    """

    container: str
    sample_rate: int
    channels: int
    decoder: bytes = b""


class BlockSupply:
    """Feeds blocks to a channel's ffmpeg; implements :class:`packager.sources.pump.Supply`.

    Args:
        timing: called when an ffmpeg starts.
        on_title: called with each new title and the media time, in seconds, of its first block.

    Attributes:
        queue: where the blocks come from.
        container: ffmpeg's name of the container.
        has_stream: always true: a station goes on.
        stream: incremented when codec, sample rate or channels change, which needs a new ffmpeg.
    """

    paced = True
    has_stream = True

    def __init__(
        self, queue: BlockQueue, timing: Callable[[], Timing], on_title: Callable[[str, Fraction], None]
    ) -> None:
        self.queue = queue
        self.container = "mp3"
        self.stream = 0
        self._timing = timing
        self._on_title = on_title
        self._format: EncoderInput | None = None

    async def wait_until_flowing(self) -> None:
        """Wait for a block and note its properties."""
        encoder_input = encoder_input_of(await self.queue.first())
        if encoder_input != self._format:
            self._format, self.container = encoder_input, encoder_input.container
            self.stream += 1

    async def feed(self, process: Process) -> None:
        """Write blocks to an ffmpeg until it ends, or until the stream's properties change.

        Args:
            process: the ffmpeg, started with standard input.
        """
        timing, heard = self._timing(), Fraction(0)
        now = Instant.now()
        # The newest block may be old already; the source has been recording the next one since then.
        age = max(now.monotonic - self.queue.arrived, 0.0)
        self.queue.trim(timing.slack - age)
        if timing.earliest is not None:
            # More may come at once when this has begun.
            timing.clock.begin(timing.start, timing.earliest)
        timing.clock.observe(float(timing.start + self.queue.seconds) + age - HELD_SECONDS, now)
        title: str | None = None
        splice = OggJoiner()
        try:
            while encoder_input_of(block := await self.queue.first()) == self._format:
                self.queue.pop()
                if block.title != title:
                    title = block.title
                    self._on_title(title, timing.start + heard)
                heard += block.seconds
                ogg = block.ogg
                await process.write(splice.write(ogg, block.duration) if ogg else block.data)
            process.close_stdin()
        except BrokenPipeError:
            pass  # the process's owner handles its end


def encoder_input_of(block: AudioBlock) -> EncoderInput:
    """Read the stream properties of a block, which are the same for all its frames."""
    if block.ogg is not None:
        link = block.ogg.link
        return EncoderInput("ogg", link.sample_rate, link.channels, link.decoder)
    header = parse_frame_header(block.data[:16])
    return EncoderInput(header.codec, header.sample_rate, header.channels)
