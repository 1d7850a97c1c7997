"""Types a text on the demo's event channel, word by word, as the answer of a language model would come."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from origin.events.channel import EventChannel

CHANNEL = "demo"
"""Name of the event channel that the demo adds."""

TEXTS = (
    """\
This text comes in pieces, as the answer of a language model does. Each word is an event of its own, and \
everybody who reads this channel gets the same ones: a browser, curl, a script.""",
    """\
Who comes late gets what was kept, and then what comes. Press Stop, wait for a few words, and go on: \
nothing is lost and nothing comes twice, because a reader says which event it had last.""",
    """\
The channel also tells which title plays at the station, and how many watch the live channel. Play one of \
them in another window, and see what comes here.""",
)

_WORDS = re.compile(r"\S+\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class TypingLimits:
    """The speed of the demo's text.

    Attributes:
        word_seconds: from one word to the next.
        pause_seconds: from the end of a text to its next beginning.
        look_seconds: between two checks whether there are readers.
    """

    word_seconds: float = 0.12
    pause_seconds: float = 6.0
    look_seconds: float = 0.25


class DemoText:
    """Types while somebody reads; without readers it costs nothing.

    Args:
        channel: where the words are published, as events of type ``token``; ``token-end`` ends a text.
    """

    name = "demo text"

    def __init__(self, channel: EventChannel, limits: TypingLimits) -> None:
        self._channel = channel
        self._limits = limits
        self._closed = False

    async def run(self) -> None:
        """Type one text after the other until it is closed, or the task is cancelled."""
        texts = itertools.cycle(TEXTS)
        while not self._closed:
            if self._channel.readers:
                await self._channel.publish_from(self._words(next(texts)), "token")
                self._channel.publish("token-end", {})
                await asyncio.sleep(self._limits.pause_seconds)
            await asyncio.sleep(self._limits.look_seconds)

    def close(self) -> None:
        """Begin no other text."""
        self._closed = True

    async def _words(self, text: str) -> AsyncIterator[str]:
        for word in _WORDS.findall(text):
            yield word
            await asyncio.sleep(self._limits.word_seconds)
