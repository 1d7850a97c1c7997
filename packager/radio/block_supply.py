"""A station's blocks into the standard input of its channel's ffmpeg, one after another where one dies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from media.mp3.frame import parse_frame_header
from packager.process.process import Process
from packager.radio.audio_blocks import AudioBlock
from packager.radio.block_queue import BlockQueue
from packager.radio.ogg_splice import OggSplice
from packager.window.wallclock import Instant, Timing

HELD_SECONDS = 0.2
"""What ffmpeg keeps of what it was given until more comes: the demuxer's packet, and the encoder's delay."""


@dataclass(frozen=True, slots=True)
class EncoderInput:
    """With what one ffmpeg can go on.

    Attributes:
        container: ffmpeg's name of it.
        sample_rate: in Hz.
        channels: how many.
        decoder: what else must be the same.
    """

    container: str
    sample_rate: int
    channels: int
    decoder: bytes = b""


class BlockSupply:
    """Brings a channel a station's blocks; see :class:`packager.sources.pump.Supply`.

    Args:
        timing: asked when an ffmpeg begins.
        on_title: told which title is heard from a media time on, in seconds, with each block that has another
            one than the block before.

    Attributes:
        queue: where the blocks come from.
        container: ffmpeg's name of what comes.
        stream: counts the changes of codec, sample rate and channels, with which one ffmpeg can't go on.
    """

    paced = True

    def __init__(
        self, queue: BlockQueue, timing: Callable[[], Timing], on_title: Callable[[str, Fraction], None]
    ) -> None:
        self.queue = queue
        self.container = "mp3"
        self.stream = 0
        self._timing = timing
        self._on_title = on_title
        self._sound: EncoderInput | None = None

    async def flowing(self) -> None:
        """Wait for a block, and see what it is."""
        sound = sound_of(await self.queue.first())
        if sound != self._sound:
            self._sound, self.container = sound, sound.container
            self.stream += 1

    async def give(self, process: Process) -> None:
        """Give an ffmpeg blocks until it ends, or until one comes that is of another stream.

        Args:
            process: started with standard input.
        """
        timing, heard = self._timing(), Fraction(0)
        now = Instant.now()
        # The newest block may have come a while ago: what follows on its end is on its way since then.
        age = max(now.monotonic - self.queue.arrived, 0.0)
        self.queue.trim(timing.slack - age)
        timing.clock.observe(float(timing.start + self.queue.seconds) + age - HELD_SECONDS, now)
        title: str | None = None
        splice = OggSplice()
        try:
            while sound_of(block := await self.queue.first()) == self._sound:
                self.queue.take()
                if block.title != title:
                    title = block.title
                    self._on_title(title, timing.start + heard)
                heard += block.seconds
                ogg = block.ogg
                await process.write(splice.write(ogg, block.duration) if ogg else block.data)
            process.close_stdin()
        except BrokenPipeError:
            pass  # whoever started it sees its end


def sound_of(block: AudioBlock) -> EncoderInput:
    """Tell what a block is, which is the same in all of it."""
    if block.ogg is not None:
        link = block.ogg.link
        return EncoderInput("ogg", link.sample_rate, link.channels, link.decoder)
    header = parse_frame_header(block.data[:16])
    return EncoderInput(header.codec, header.sample_rate, header.channels)
