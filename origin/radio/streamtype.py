"""Of which type a mount's responses are: each has one to its end, and what comes may change."""

from __future__ import annotations

from packager.radio.audioblocks import AudioBlock


class StreamType:
    """What the listeners of a mount were told, and what was heard.

    Attributes:
        heard: the type and codec of the newest block; "" before the first.
        told: what the newest listener was told; "" before the first.
    """

    def __init__(self) -> None:
        self.heard = ""
        self.told = ""

    def tell(self, expected: str) -> str:
        """Tell a listener the type of its response.

        Args:
            expected: what will come when nothing was heard so far.
        """
        self.told = self.media_type(expected)
        return self.told

    def media_type(self, expected: str) -> str:
        """Give the type, such as ``audio/mpeg``; the expected one when nothing was heard so far."""
        return _plain(self.heard) or expected

    def suits(self, block: AudioBlock) -> bool:
        """Tell whether listeners can go on with a block."""
        if self.heard:
            return block.sort == self.heard
        return self.told in ("", block.media_type)

    def turn_to(self, block: AudioBlock) -> None:
        """Be of a block's type from now on."""
        self.heard = block.sort
        self.told = block.media_type


def _plain(sort: str) -> str:
    return sort.partition(";")[0]
